"""Report B's intra-class and inter-class variances, as it computed them and as it meant them."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from collapseflow.images.datasets import SPLITS
from collapseflow.measures.statistics import Statistics, read_statistics, reduce_stream
from collapseflow.running.files import read_arrays


def class_variances(statistics: Statistics) -> Iterator[tuple[str, int, int | None, float]]:
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
    s = statistics
    for label, variance in zip(s.classes.tolist(), s.variances.tolist(), strict=True):
        yield "intra_class", label, None, variance
    pairs = combinations(range(s.n_classes), 2)
    for (a, b), distance in zip(pairs, s.distances.tolist(), strict=True):
        n = s.counts[a] + s.counts[b]
        between = s.counts[a] * s.counts[b] / n * distance
        pooled = float((s.squared[a] + s.squared[b] + between) / n)
        pair = int(s.classes[a]), int(s.classes[b])
        yield "pooled_pair", *pair, pooled
        yield "mean_distance", *pair, distance


def compare_variances(
    features: Sequence[str],
    statistics: Sequence[tuple[str | Path, str]],
    embeddings: Sequence[str | Path],
) -> list[dict]:
    """The variances of feature sets on both splits, in both spaces.

    Parameters
    ----------
    features
        Names of the feature sets.
    statistics
        Of each the file with its statistics, and its layer there.
    embeddings
        t-SNE coordinates: training, then test, of each feature set.

    Returns
    -------
    Records with the keys features, split, space (``features`` or ``t-SNE coordinates``), quantity,
    class_a, class_b and value. On the coordinates the values are means over the coordinates, as
    in report B, and there is no distance of means. A feature set that could not be made has none.

    Raises
    ------
    UserError
        As :func:`~collapseflow.measures.statistics.read_statistics`.
    """
    records = []
    pairs = zip(embeddings[::2], embeddings[1::2], strict=True)
    for name, (path, layer), of_set in zip(features, statistics, pairs, strict=True):
        state = read_statistics(path)
        if state.failed is not None:
            continue
        for split, embedding in zip(SPLITS, of_set, strict=True):
            spaces = {
                "t-SNE coordinates": _of_coordinates(embedding),
                "features": state.layers[layer][split],
            }
            for space, of_space in spaces.items():
                on_coordinates = space == "t-SNE coordinates"
                for quantity, a, b, value in class_variances(of_space):
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


def _of_coordinates(embedding: str | Path) -> Statistics:
    arrays = read_arrays(embedding)
    blocks = [(arrays["coordinates"], arrays["labels"], None)]
    return reduce_stream(lambda blocks_in_use: blocks)[0]
