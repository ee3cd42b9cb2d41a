"""The geometry of class means over the epochs of runs, as the page moves it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from collapseflow.images.datasets import read_info
from collapseflow.measures.collapse import MEASURES
from collapseflow.measures.statistics import MATCHED, Statistics
from collapseflow.presentation.figures.appearance import by_similarity, shortened
from collapseflow.presentation.figures.geometry import SPLITS, cosines, principal_plane, read_state
from collapseflow.presentation.page.explorer import LETTERS

#: Epochs of a run that the page has, the first ones closer together.
MOST_STATES = 24
#: Bytes of all runs: more of them, or more classes, have fewer epochs, but the first and the last.
MOST_BYTES = 1_000_000
#: More classes than these stand in an order by similarity.
MOST_IN_ORDER = 20
#: Cosines are whole numbers up to this one; :data:`UNKNOWN` stands for none.
FINEST, UNKNOWN = 127, -128


def moving(
    runs: Sequence[Mapping[str, Any]],
    images: Mapping[str, str | Path],
    most_bytes: int = MOST_BYTES,
) -> dict[str, Any]:
    """Class means and cosines of runs at their epochs, for the page's script.

    Parameters
    ----------
    runs
        Of each ``dataset``, ``heading``, ``layer``, and ``states``: epochs with the files of their
        statistics (:func:`collapseflow.study.products.geometry`).
    images
        The files of the data sets by their names.

    Returns
    -------
    ``classes``: names by data set; ``short``: the same, cut; ``runs``: of each that has a state its
    ``dataset``, ``heading``, ``layer``, ``measured`` (number of epochs), ``order`` of the classes
    in heat maps, ``simplex`` (the cosine -1/(C - 1)), and ``states``: of each ``epoch``, ``share``
    (of the variance of the training means that the plane has), ``nc1`` by split, ``means``
    (float32: x and y of the class means of training images, then of test images), ``ellipse`` (the
    within-class covariance xx, xy, yy) and ``cosines`` (int8: those of the pairs i < j of training,
    then of test images), base64; without ``cosines`` where the classes are too many. What is of a
    class without images is NaN, or :data:`UNKNOWN`. Lengths are in units of the mean norm of the
    centred training means, and planes are turned so that each is as like the next as it can be.
    """
    classes = {
        dataset: read_info(images[dataset]).class_names
        for dataset in dict.fromkeys(run["dataset"] for run in runs)
    }
    found = []
    for run in runs:
        n_classes = len(classes[run["dataset"]])
        # In base64 three bytes are four; a pair and a mean of each of two splits.
        of_pairs, of_means = n_classes * (n_classes - 1) * 4 / 3, 16 * n_classes * 4 / 3
        room = most_bytes / len(runs)
        with_cosines = 3 * (of_pairs + of_means) <= room
        fitting = int(room / (of_means + of_pairs * with_cosines))
        chosen = _some(run["states"], min(MOST_STATES, max(2, fitting)))
        states = _states(chosen, run["layer"], n_classes, with_cosines)
        if states:
            told = {key: run[key] for key in ("dataset", "heading", "layer")}
            found.append({**told, "measured": len(run["states"]), **states})
    short = {dataset: shortened(names, LETTERS) for dataset, names in classes.items()}
    return {"classes": classes, "short": short, "runs": found}


def _some(states: Sequence[Any], n: int) -> list[Any]:
    """Up to ``n`` of some states, the first and the last among them; early ones stand closer."""
    if len(states) <= n:
        return list(states)
    places = np.unique(np.rint(np.geomspace(1, len(states), n)).astype(int) - 1)
    return [states[place] for place in places]


def _states(
    files: Sequence[tuple[int, str]], layer: str, n_classes: int, with_cosines: bool
) -> dict[str, Any] | None:
    """What there is of the epochs of one run; None where all have failed."""
    read = [(epoch, read_state(path, layer)) for epoch, path in files]
    known = [(epoch, state) for epoch, state in read if not isinstance(state, str)]
    if not known:
        return None
    found, later = [], None
    for epoch, state in reversed(known):
        means, others, covariance, share = principal_plane(state[MATCHED], state["test"])
        unit = np.linalg.norm(state[MATCHED].centred, axis=1).mean()
        turn = np.eye(2) if later is None else _turn(means, later)
        later = means @ turn
        sides = [(MATCHED, later / unit), ("test", others @ turn / unit)]
        spread = turn.T @ covariance @ turn / unit**2
        of_all = [_of_all_classes(state[split], values, n_classes) for split, values in sides]
        told = {
            "epoch": epoch,
            "share": round(share, 3),
            "nc1": {split: _nc1(state[split]) for split in SPLITS},
            "means": _base64(np.concatenate(of_all).astype("<f4")),
            "ellipse": [float(f"{v:.4g}") for v in spread[[0, 0, 1], [0, 1, 1]]],
        }
        if with_cosines:
            pairs = [_pairs(state[split], n_classes) for split in SPLITS]
            told["cosines"] = _base64(np.concatenate(pairs))
        found.append(told)
    last = known[-1][1][MATCHED]
    return {
        "order": _order(last, n_classes),
        "simplex": -1 / (last.n_classes - 1),
        "states": found[::-1],
    }


def _turn(means: np.ndarray, later: np.ndarray) -> np.ndarray:
    """The rotation or reflection (2, 2) that brings class means (C, 2) nearest to others."""
    left, _, right = np.linalg.svd(means.T @ later)
    return left @ right


def _nc1(statistics: Statistics) -> float | None:
    """To three digits; None where it is not defined."""
    value = MEASURES["nc1"](statistics)
    return None if value is None else float(f"{value:.3g}")


def _of_all_classes(statistics: Statistics, values: np.ndarray, n_classes: int) -> np.ndarray:
    """Values (C', k) of the classes that are there, as (C, k)."""
    filled = np.full((n_classes, values.shape[1]), np.nan)
    filled[statistics.classes] = values
    return filled


def _cosines(statistics: Statistics, n_classes: int) -> np.ndarray:
    """Cosines (C, C) of all classes, NaN where there are none."""
    filled = np.full((n_classes, n_classes), np.nan)
    filled[np.ix_(statistics.classes, statistics.classes)] = cosines(statistics)
    return filled


def _pairs(statistics: Statistics, n_classes: int) -> np.ndarray:
    """The cosines of the pairs i < j as int8."""
    values = FINEST * _cosines(statistics, n_classes)[np.triu_indices(n_classes, 1)]
    return np.where(np.isnan(values), UNKNOWN, np.rint(np.nan_to_num(values))).astype(np.int8)


def _order(statistics: Statistics, n_classes: int) -> list[int]:
    """The classes as they stand in heat maps: of many similar ones beside each other."""
    if n_classes <= MOST_IN_ORDER:
        return list(range(n_classes))
    return by_similarity(1 - _cosines(statistics, n_classes)).tolist()


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
