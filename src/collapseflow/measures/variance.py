"""Report B's intra-class and inter-class variances, as it computed them and as it meant them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np

from collapseflow.features.stores import iterate
from collapseflow.measures.collapse import Stream, class_means, map_blocks


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

    def block_scatter(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        rows = np.searchsorted(means.classes, labels)
        deviations = features - means.means[rows]
        squared = np.vecdot(deviations, deviations)
        return np.bincount(rows, weights=squared, minlength=len(means.classes))

    scatter = sum(map_blocks(block_scatter, stream, threads=1))
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


def compare_variances(
    features: Sequence[str], stores: Sequence[str | Path], embeddings: Sequence[str | Path]
) -> list[dict]:
    """The variances of feature sets on both splits, in both spaces.

    Parameters
    ----------
    features
        Names of the feature sets.
    stores, embeddings
        Feature stores and t-SNE coordinates: training, then test, of each feature set.

    Returns
    -------
    Records with the keys features, split, space (``features`` or ``t-SNE coordinates``), quantity,
    class_a, class_b and value. On the coordinates the values are means over the coordinates, as
    in report B, and there is no distance of means. A feature set that could not be made has none.
    """
    records = []
    pairs = [(name, split) for name in features for split in ("train", "test")]
    for (name, split), store, embedding in zip(pairs, stores, embeddings, strict=True):
        with np.load(embedding) as file:
            if "failed" in file:
                continue
            embedded = [(file["coordinates"], file["labels"])]
        streams = {
            "t-SNE coordinates": (lambda blocks_in_use, batches=embedded: batches),
            "features": partial(iterate, store),
        }
        for space, stream in streams.items():
            on_coordinates = space == "t-SNE coordinates"
            for quantity, a, b, value in class_variances(stream):
                if on_coordinates and quantity == "mean_distance":
                    continue
                records.append(
                    {
                        "features": name,
                        "split": split,
                        "space": space,
                        "quantity": quantity,
                        "class_a": a,
                        "class_b": b,
                        "value": value / 2 if on_coordinates else value,
                    }
                )
    return records
