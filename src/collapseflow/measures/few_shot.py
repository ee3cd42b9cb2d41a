"""How few images of a class tell it: nearest class means of 1 to 100 training images."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from collapseflow.features.stores import iterate, read_labels, read_made_with, read_rows
from collapseflow.measures.neighbours import MeanScores
from collapseflow.measures.statistics import map_blocks
from collapseflow.running.files import MADE_WITH, made_with

#: Training images of each class, and how often they are drawn.
SHOTS = (1, 2, 5, 10, 20, 50, 100)
DRAWS = 10
#: Bytes of scores that a thread has in memory.
SCORES_BYTES = 64 * 2**20


def few_shot(
    train_store: str | Path,
    test_store: str | Path,
    bound: Callable[[int], float | None],
    seed: int,
    threads: int,
    shots: Iterable[int] = SHOTS,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """The accuracy on all test images of the nearest mean of ``m`` training images a class.

    Images are drawn without replacement; those of a draw are among those of the same draw with
    more images, and another seed draws others. The needed training images are read once, and the
    test images once for all draws.

    Parameters
    ----------
    bound
        An upper bound on the share of errors with so many images a class, or None where there is
        none.
    shots
        Numbers m; what is more than a class has is left out.

    Returns
    -------
    ``shots``: by m (as text) the ``accuracies`` of the draws, shares, and their ``bound``;
    ``n_test`` and ``made_with``.
    """
    labels = read_labels(train_store)
    classes, counts = np.unique(labels, return_counts=True)
    shots = [m for m in shots if m <= counts.min()]
    answer = {
        "n_test": len(read_labels(test_store)),
        MADE_WITH: made_with(read_made_with(train_store), read_made_with(test_store)),
    }
    if not shots:
        return {"shots": {}, **answer}
    drawn = np.array(
        [[_draw(labels, c, max(shots), [seed, draw]) for c in classes] for draw in range(draws)]
    )
    rows, places = np.unique(drawn, return_inverse=True)
    features, _ = read_rows(train_store, rows, threads)
    means = _means(features, places.reshape(drawn.shape), shots)
    del features
    score = MeanScores(means.reshape(-1, means.shape[-1]))
    size = max(1, SCORES_BYTES // (8 * len(score.centred)))

    def count_right(block: np.ndarray, labels: np.ndarray, _: np.ndarray | None) -> np.ndarray:
        right = np.zeros(means.shape[:2], np.int64)
        for row in range(0, len(labels), size):
            part = slice(row, row + size)
            scores = score(block[part]).reshape(-1, *means.shape[:3])
            right += (classes[scores.argmax(axis=3)] == labels[part, None, None]).sum(axis=0)
        return right

    right = sum(map_blocks(count_right, partial(iterate, test_store), threads))
    accuracies = right / answer["n_test"]
    by_shots = {
        str(m): {"accuracies": of_draws.tolist(), "bound": bound(m)}
        for m, of_draws in zip(shots, accuracies, strict=True)
    }
    return {"shots": by_shots, **answer}


def _draw(labels: np.ndarray, label: int, n: int, seed: list[int]) -> np.ndarray:
    """``n`` rows of a class, in the order in which they are drawn."""
    random = np.random.default_rng([*seed, int(label)])
    return random.permutation(np.flatnonzero(labels == label))[:n]


def _means(features: np.ndarray, places: np.ndarray, shots: list[int]) -> np.ndarray:
    """Means float64 (shots, draws, C, d) of the first rows of each draw, whose places among the
    features (n, d) are (draws, C, most shots)."""
    draws, n_classes, _ = places.shape
    means = np.empty((len(shots), draws, n_classes, features.shape[1]))
    for draw, c in np.ndindex(draws, n_classes):
        mine = features[places[draw, c]].astype(np.float64)
        for number, m in enumerate(shots):
            means[number, draw, c] = mine[:m].mean(axis=0)
    return means


def interval_of_mean(values: Iterable[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean of at least two values, from Student's t."""
    # Takes longer to import than a table takes.
    from scipy.stats import t

    values = np.asarray(list(values), np.float64)
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
