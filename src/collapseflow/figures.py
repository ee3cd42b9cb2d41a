"""A study's figures of a table or of arrays: each function gives a Matplotlib figure.

The functions that draw a study's figures draw these. Matplotlib's settings and the figures of
pyplot stay as they are. A notebook shows what is given, and ``savefig`` saves it.

``style`` has keys of a study file's ``style`` (``config/README.md``), for example
``{"width": "column"}`` for a column of print or ``{"only": {"measures": ["nc1"]}}``; another key or
value ends in a ``UserError``. Which recipes are shown, the rows of a table say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from collapseflow.measures.quantities import QUANTITIES
from collapseflow.measures.statistics import MATCHED, Statistics
from collapseflow.presentation.figures.curves import (
    MATCHED_WORDS,
    SPLIT_WORDS,
    SPLITS,
    RunFigure,
    chosen,
)
from collapseflow.presentation.figures.embedding import draw_maps
from collapseflow.presentation.figures.epochs import draw_collapse
from collapseflow.presentation.figures.geometry import draw_geometry, drawable
from collapseflow.presentation.material import DescribedRun
from collapseflow.presentation.rows import COLUMNS
from collapseflow.running.words import as_word
from collapseflow.study.schema import Style, load

#: What columns hold that a table leaves out: of one network on one data set.
DEFAULTS = {
    "dataset": "",
    "backbone": "network",
    "start": "",
    "recipe": "training",
    "seed": 0,
    "layer": "features",
    "split": "train",
    "low": np.nan,
    "high": np.nan,
    "n": np.nan,
}
#: Columns that hold no names.
NUMBERS = ("seed", "epoch", "value", "low", "high", "n")
#: Columns that a table needs.
NEEDED = ("epoch", "quantity", "value")


def _checked(style: Mapping[str, Any] | None) -> Style:
    """A style, checked as that of a study is."""
    study = {"study": "library", "datasets": {"digits": {"source": "digits"}}}
    return load({**study, "style": dict(style or {})}).style


def collapse_curves(
    rows: pd.DataFrame, title: str | None = None, style: Mapping[str, Any] | None = None
) -> Figure:
    """Neural collapse over the epochs of training, a panel a measure: a study's ``fig5``.

    Parameters
    ----------
    rows
        A value a row, as in measures.csv, of one data set, with the columns ``epoch``, ``quantity``
        (a name of measures.csv; others are passed over) and ``value``. ``split`` is ``train``
        where it is left out, or ``test``; where there are rows of ``train_matched``, the measures
        on training images are these. Series are told apart by ``backbone``, ``start``, ``recipe``
        and all columns that measures.csv of a study without sweeps has not; where they have several
        ``seed``, mean and standard deviation are drawn. Of several ``layer`` the last one is.
    title
        Above all panels; None for the name of the data set.

    Raises
    ------
    ValueError
        If a column is missing, an epoch or a seed is no whole number, there is more than one data
        set, or nothing to draw.
    """
    if missing := [name for name in NEEDED if name not in rows]:
        raise ValueError(f"rows: lack the column {missing[0]}; needed: {', '.join(NEEDED)}")
    table = rows.assign(**{key: value for key, value in DEFAULTS.items() if key not in rows})
    table = table[table["quantity"].isin(QUANTITIES) & table["epoch"].notna()]
    try:
        table = table.astype({"seed": "Int64", "epoch": "Int64"}).fillna({"seed": 0})
    except (TypeError, ValueError):
        raise ValueError("rows: have an epoch or a seed that is no whole number") from None
    for name in table.columns.difference(NUMBERS):
        table[name] = [as_word(value) for value in table[name].astype(object).fillna("")]
    names = table["dataset"].unique().tolist()
    if len(names) > 1:
        raise ValueError(f"rows: of the data sets {', '.join(names)}; choose those of one of them")
    runs = _runs(table)
    if not runs:
        raise ValueError("rows: no measure of an epoch of a training is among them")
    words = MATCHED_WORDS
    if not (table["split"] == MATCHED).any():
        words = SPLIT_WORDS
        of_training = table[table["split"] == "train"]
        table = pd.concat([table, of_training.assign(split=MATCHED)])
    look = _checked(style)
    there = [split for split in SPLITS if (table["split"] == split).any()]
    splits = {split: SPLITS[split] for split in chosen(there, look.only.splits)}
    backbones = {run.backbone: run.backbone for run in runs}
    with matplotlib.rc_context():
        label = names[0] if title is None else title
        shared = RunFigure(runs, {names[0]: label}, backbones, None, look.drawn)
        # Of trainings from elsewhere it is not known that they start from the same weights.
        shared.starts = []
        return draw_collapse(table, shared, words, {}, splits, look.only.measures)


def _runs(table: pd.DataFrame) -> list[DescribedRun]:
    """The trainings of a table, in the order of their first rows."""
    swept = [column for column in table if column not in COLUMNS]
    trained = table[table["recipe"] != ""]
    # Without any recipe they are not told from features that nobody trains: all are trainings.
    trained = trained if len(trained) else table
    parts = ["backbone", "start", "recipe", *swept]
    telling = [part for part in parts if trained[part].nunique() > 1]
    runs = []
    keys = ["dataset", *parts, "seed"]
    for names, its_rows in trained.groupby(keys, sort=False):
        who = dict(zip(keys, names, strict=True))
        told = [key for key in telling if who[key]]
        words = [who[key] if key in COLUMNS else f"{key} {who[key]}" for key in told]
        label = ", ".join(words) or who["backbone"]
        measured = its_rows[its_rows["quantity"] != "accuracy"]
        runs.append(
            DescribedRun(
                dataset=who["dataset"],
                backbone=who["backbone"],
                start=who["start"],
                recipe=who["recipe"],
                setting={key: who[key] for key in swept},
                seed=who["seed"],
                series=label,
                label=label,
                start_label=who["start"],
                last=int(its_rows["epoch"].max()),
                layers=measured["layer"].unique().tolist() or [""],
            )
        )
    return runs


def class_geometry(
    states: Mapping[int, Mapping[str, Statistics]],
    class_names: Sequence[str] | None = None,
    title: str = "",
    style: Mapping[str, Any] | None = None,
) -> Figure:
    """Class means while a network is trained, a row an epoch: a study's ``fig_geometry``.

    Their principal plane, their cosines on training and on test images, and their norms.

    Parameters
    ----------
    states
        By epoch, 0 before training, and by split, ``train`` and ``test``: what
        :meth:`collapseflow.measures.Collapse.statistics` gives.
    class_names
        A name for each label from 0; None numbers them.

    Raises
    ------
    ValueError
        If there is no epoch, a split is missing, or a class has no name.
    """
    if not states:
        raise ValueError("states: are empty; needed: one epoch or more")
    known: dict[int, Mapping[str, Statistics] | str] = {}
    for epoch, splits in states.items():
        if missing := [split for split in ("train", "test") if split not in splits]:
            raise ValueError(f"states: epoch {epoch} lacks the split {missing[0]}")
        known[epoch] = drawable({MATCHED: splits["train"], "test": splits["test"]})
    labels = [one.classes for splits in states.values() for one in splits.values()]
    with matplotlib.rc_context():
        names = _names(class_names, np.concatenate(labels))
        return draw_geometry(known, names, title, [], _checked(style).drawn, {})


def feature_map(
    coordinates: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    test: np.ndarray | None = None,
    title: str = "",
    style: Mapping[str, Any] | None = None,
) -> Figure:
    """Points in the colours of their classes, as a study's ``fig2``.

    Parameters
    ----------
    coordinates
        Of a map in two dimensions, by t-SNE or any other method: floats (N, 2).
    labels
        Classes, whole numbers from 0, (N,).
    class_names
        As of :func:`class_geometry`.
    test
        Bool (N,): which points are test images. They lie before the others, which are faint.

    Raises
    ------
    ValueError
        If the arrays do not belong together, or a class has no name.
    """
    coordinates, labels = np.asarray(coordinates), np.asarray(labels)
    split = np.zeros(len(labels), bool) if test is None else np.asarray(test, bool)
    if coordinates.shape != (len(labels), 2) or split.shape != labels.shape or not len(labels):
        raise ValueError(
            f"coordinates of shape {coordinates.shape}, labels of {labels.shape} and test of "
            f"{split.shape}; needed: (N, 2), (N,) and (N,)"
        )
    splits = ["train"] if test is None else ["train", "test"]
    content = {
        "coordinates": coordinates,
        "labels": labels,
        "split": split.astype(np.int64),
        "splits": np.array(splits),
    }
    with matplotlib.rc_context():
        names = _names(class_names, labels)
        return draw_maps([(content, title)], "", names, _checked(style).drawn, {})


def _names(class_names: Sequence[str] | None, labels: np.ndarray) -> list[str]:
    """A name for each label."""
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError("labels: are no whole numbers from 0")
    n = int(labels.max()) + 1
    if class_names is None:
        return [str(label) for label in range(n)]
    if len(class_names) < n:
        raise ValueError(f"class_names: {len(class_names)} names for the labels 0 to {n - 1}")
    return list(class_names)
