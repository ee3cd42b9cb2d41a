"""t-SNE of 50,000 images against scikit-learn's.

    python benchmarks/embedding.py

Half an hour on two cores, most of it the alternative.
"""

from collections.abc import Mapping
from pathlib import Path

import data
from harness import CORES, Row, Run, Work, compare

N = 50_000


def read_features(folder: Path):
    """Raw pixels of a sample of Fashion-MNIST, float32 (50,000, 784)."""
    import numpy as np

    from collapseflow.images.datasets import read_split

    images = read_split(folder / "fashion_mnist.h5", "train").images
    return images.reshape(N, -1).astype(np.float32) / 255


def ours(folder: Path) -> Work:
    """As the rule embed does it, with the defaults of a study."""
    from collapseflow.measures.embedding import embed_opentsne, neighbour_recall
    from collapseflow.study.schema import Embedding

    features = read_features(folder)
    options = Embedding().model_dump(exclude={"n_samples"})

    def work():
        coordinates = embed_opentsne(features, **options, seed=0, threads=CORES)
        return lambda: {"recall": neighbour_recall(features, coordinates, seed=0)}

    return work


def scikit_learn(folder: Path) -> Work:
    """``TSNE()`` on all cores."""
    from sklearn.manifold import TSNE

    from collapseflow.measures.embedding import neighbour_recall

    features = read_features(folder)

    def work():
        coordinates = TSNE(random_state=0, n_jobs=-1).fit_transform(features)
        return lambda: {"recall": neighbour_recall(features, coordinates, seed=0)}

    return work


def higher_recall(ours: dict, other: dict) -> tuple[bool, str]:
    """The share of the 10 nearest neighbours that the plane keeps."""
    words = f"10-neighbour recall {ours['recall']:.3f} and {other['recall']:.3f}"
    return ours["recall"] > other["recall"], words


def floor(folder: Path, runs: Mapping[str, list[Run]]) -> str:
    """What bounds the time, and what bounds the recall."""
    from collapseflow.measures.embedding import neighbour_recall, reduce
    from collapseflow.study.schema import Embedding

    features, options = read_features(folder), Embedding()
    kept = neighbour_recall(features, reduce(features, options.pca, seed=0), seed=0)
    gradients = options.exaggeration_iterations + options.iterations
    return (
        f"The floor is openTSNE's own: nearest neighbours, then {gradients} gradients of Fourier "
        f"interpolation, linear in N. Before anything is embedded, {options.pca} principal "
        f"components keep {kept:.0%} of the 10 nearest neighbours that the pixels have."
    )


if __name__ == "__main__":
    compare(
        "t-SNE",
        "50,000 images of Fashion-MNIST, raw pixels. Ours: openTSNE on principal components, as "
        "a study does it by default; the alternative: scikit-learn's `TSNE()` on all cores.",
        {"openTSNE": ours, "scikit-learn": scikit_learn},
        [Row("openTSNE", "scikit-learn", 2.5, higher_recall)],
        lambda folder: data.write_dataset("fashion_mnist", folder / "fashion_mnist.h5", N),
        floor,
    )
