"""Report B's intra-class and inter-class variances, as it computed them and as it meant them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from collapseflow.collapse import Stream, class_means


@dataclass(frozen=True)
class ClassScatter:
    """Counts (C,), means (C, d) and sums of squared deviations (C,) of the classes present."""

    classes: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    scatter: np.ndarray


def class_scatter(stream: Stream) -> ClassScatter:
    """Two passes over features or coordinates, in float64."""
    means = class_means(stream)
    row_of_class = np.zeros(means.classes[-1] + 1, np.int64)
    row_of_class[means.classes] = np.arange(len(means.classes))
    scatter = np.zeros(len(means.classes))
    for features, labels in stream():
        rows = row_of_class[labels]
        deviations = features.astype(np.float64) - means.means[rows]
        squared = np.einsum("nd,nd->n", deviations, deviations)
        scatter += np.bincount(rows, weights=squared, minlength=len(scatter))
    return ClassScatter(means.classes, means.counts, means.means, scatter)


def class_variances(stream: Stream) -> Iterator[tuple[str, int, int | None, float]]:
    """Variances (ddof = 0) of classes and of pairs of classes.

    Yields
    ------
    (quantity, class a, class b or None, value), where the quantity is

    - ``intra_class``: trace of the covariance of class a,
    - ``pooled_pair``: trace of the covariance of the union of a's and b's samples,
    - ``mean_distance``: squared Euclidean distance of the two class means.

    Report B's values are ``intra_class`` and ``pooled_pair`` of the two t-SNE coordinates, each
    divided by 2 (a mean over the coordinates instead of a trace).
    """
    s = class_scatter(stream)
    for row, label in enumerate(s.classes):
        yield "intra_class", int(label), None, float(s.scatter[row] / s.counts[row])
    for a, b in combinations(range(len(s.classes)), 2):
        difference = s.means[a] - s.means[b]
        distance = float(difference @ difference)
        n = s.counts[a] + s.counts[b]
        between = s.counts[a] * s.counts[b] / n * distance
        pooled = float((s.scatter[a] + s.scatter[b] + between) / n)
        pair = int(s.classes[a]), int(s.classes[b])
        yield "pooled_pair", *pair, pooled
        yield "mean_distance", *pair, distance
