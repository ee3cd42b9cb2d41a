"""How few images of a class tell it: nearest class means of 1 to 100 of its images.

All images are test images, which the features' network was not trained on: of features trained on
the very images that give the means, these means and their moments say nothing of other images.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from collapseflow.features.stores import (
    iterate,
    read_groups,
    read_labels,
    read_made_with,
    read_rows,
)
from collapseflow.images.datasets import grouped_rows
from collapseflow.measures.collapse import few_shot_bound
from collapseflow.measures.neighbours import MeanScores
from collapseflow.measures.statistics import Statistics, map_blocks
from collapseflow.running.files import MADE_WITH, made_with

logger = logging.getLogger(__name__)

#: Images of each class that give its mean, and how often they are drawn.
SHOTS = (1, 2, 5, 10, 20, 50, 100)
DRAWS = 10
#: Bytes of scores that a thread has in memory.
SCORES_BYTES = 64 * 2**20


def few_shot(
    store: str | Path,
    statistics: Statistics,
    seed: int,
    threads: int,
    shots: Iterable[int] = SHOTS,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """The accuracy of the nearest mean of ``m`` test images a class on other test images, averaged
    over the classes, as its bound is (:func:`collapseflow.measures.collapse.few_shot_bound`).

    Shots are drawn without replacement, at most half of a class's images; the queries of a draw are
    the images that are no shots of it for any m. Where images have groups, half of the groups give
    the shots of a draw and the others its queries. Shots for fewer images are among those for more,
    and another seed draws others. Classes of one image, or of one group, have no query and are left
    out. For an m that a class cannot give it gives its half, and there is no bound; an m that none
    can give is left out, too.

    The bound is one for features that do not depend on the images, with the moments of their
    distribution; those here are of all test images, estimates of the distribution's. Report A's
    validation (``training_mode``) lets means and variances of test images, without their labels,
    into batch normalisation, those of shots and queries alike. What weights from elsewhere have
    been trained on is not known here.

    Parameters
    ----------
    store
        Features of the test images.
    statistics
        Of the same features, with the nearest of the means of all training images.

    Returns
    -------
    ``shots``: by m (as text) the ``accuracies`` of the draws, shares, their ``bound`` or None, and
    ``n_classes`` that give m images; empty with fewer than two classes. ``all``: the accuracy of
    the nearest mean of all training images, on all test images of the same classes; ``n_test`` of
    them; ``left_out``, the number of classes that were; and ``made_with``.
    """
    labels, groups = read_labels(store), read_groups(store)
    classes, counts = np.unique(labels, return_counts=True)
    givers = _givers(labels, groups, draws, seed)
    half = counts // 2 if groups is None else _of_halves(labels, classes, givers)
    answer: dict[str, Any] = {"left_out": int(np.sum(half == 0))}
    if answer["left_out"]:
        logger.warning("%d classes cannot be halved and are left out", answer["left_out"])
    fewest, classes, half = half.min(), classes[half > 0], half[half > 0]
    known = np.isin(statistics.classes, classes)
    right = statistics.nearest[known] / statistics.counts[known]
    answer |= {
        "all": float(right.mean()) if len(classes) else None,
        "n_test": int(np.isin(labels, classes).sum()),
        MADE_WITH: made_with(read_made_with(store)),
    }
    shots = [m for m in shots if m <= half.max(initial=0)]
    if not shots or len(classes) < 2:
        return {"shots": {}, **answer}
    drawn = [
        [
            _draw(labels, c, min(n, max(shots)), [seed, draw], givers[draw])
            for c, n in zip(classes, half, strict=True)
        ]
        for draw in range(draws)
    ]
    queries = np.repeat(np.isin(labels, classes)[None], draws, axis=0)
    for mine, of_draw, of_givers in zip(queries, drawn, givers, strict=True):
        mine[np.concatenate(of_draw) if groups is None else of_givers] = False
    means = _means(store, drawn, shots, threads)
    score = MeanScores(means.reshape(-1, means.shape[-1]))
    size = max(1, SCORES_BYTES // (8 * len(score.centred)))

    def count_right(features: np.ndarray, mine: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        right = np.zeros((len(classes), *means.shape[:2]), np.int64)
        places = np.searchsorted(classes, mine).clip(max=len(classes) - 1)
        for row in range(0, len(mine), size):
            part = slice(row, row + size)
            nearest = score(features[part]).reshape(-1, *means.shape[:3]).argmax(axis=3)
            hits = (nearest == places[part, None, None]) & queries[:, numbers[part]].T[:, None]
            np.add.at(right, places[part], hits)
        return right

    right = sum(map_blocks(count_right, partial(_numbered, store), threads))
    n_queries = np.array([queries[:, labels == c].sum(axis=1) for c in classes])
    accuracies = (right / n_queries[:, None]).mean(axis=0)
    by_shots = {
        str(m): {
            "accuracies": of_draws.tolist(),
            "bound": few_shot_bound(statistics, m) if m <= fewest else None,
            "n_classes": int(np.sum(m <= half)),
        }
        for m, of_draws in zip(shots, accuracies, strict=True)
    }
    return {"shots": by_shots, **answer}


def _givers(labels: np.ndarray, groups: np.ndarray | None, draws: int, seed: int) -> np.ndarray:
    """Which images may be shots of each draw, bool (draws, N): all, or those of half of the groups;
    none where there is one group."""
    givers = np.full((draws, len(labels)), groups is None)
    if groups is not None and len(np.unique(groups)) > 1:
        for draw, mine in enumerate(givers):
            mine[grouped_rows(labels, groups, len(labels) // 2, [seed, draw])] = True
    return givers


def _of_halves(labels: np.ndarray, classes: np.ndarray, givers: np.ndarray) -> np.ndarray:
    """The images of each class that can be shots in every draw, int (C,); 0 where a draw has none
    that can be a query."""
    shots, queries = (
        np.array([mine[:, labels == c].sum(axis=1).min() for c in classes])
        for mine in (givers, ~givers)
    )
    return np.where(queries > 0, shots, 0)


def _draw(
    labels: np.ndarray, label: int, n: int, seed: list[int], givers: np.ndarray
) -> np.ndarray:
    """``n`` rows of a class among those that may be drawn, in the order in which they are."""
    random = np.random.default_rng([*seed, int(label)])
    return random.permutation(np.flatnonzero((labels == label) & givers))[:n]


def _means(
    store: str | Path, drawn: list[list[np.ndarray]], shots: list[int], threads: int
) -> np.ndarray:
    """Means float64 (shots, draws, C, d) of the first rows that are drawn of each class."""
    rows = np.unique(np.concatenate(list(chain.from_iterable(drawn))))
    features, _ = read_rows(store, rows, threads)
    means = np.empty((len(shots), len(drawn), len(drawn[0]), features.shape[1]))
    for draw, c in np.ndindex(means.shape[1:3]):
        mine = features[np.searchsorted(rows, drawn[draw][c])].astype(np.float64)
        for number, m in enumerate(shots):
            means[number, draw, c] = mine[:m].mean(axis=0)
    return means


def _numbered(
    store: str | Path, buffers: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Features, labels and row numbers of each block of a store."""
    start = 0
    for features, labels, _ in iterate(store, buffers):
        yield features, labels, np.arange(start, start + len(labels))
        start += len(labels)


def interval_of_mean(values: Iterable[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean of at least two values, from Student's t."""
    # Takes longer to import than a table takes.
    from scipy.stats import t

    values = np.asarray(list(values), np.float64)
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
