"""t-SNE (van der Maaten and Hinton 2008) and how faithful it is."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from collapseflow.features.stores import read_attributes, read_labels, read_made_with, read_rows
from collapseflow.images.datasets import stratified_rows
from collapseflow.running.files import checked_path, made_with
from collapseflow.running.stop import heed

logger = logging.getLogger(__name__)

N_NEIGHBOURS = 10
N_QUERIES = 2_000


def reduce(features: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    """The first principal components, (N, n_components); fewer features stay as they are."""
    from sklearn.decomposition import PCA

    if min(features.shape) <= n_components:
        return features
    return PCA(n_components, random_state=seed).fit_transform(features)


def embed_opentsne(
    features: np.ndarray,
    perplexity: float,
    pca: int,
    exaggeration: float,
    exaggeration_iterations: int,
    iterations: int,
    seed: int,
    threads: int,
) -> np.ndarray:
    """openTSNE on principal components, initialised by the first two of them.

    The learning rate is N / exaggeration, with the exaggeration of the phase: N after the early
    one (Belkina et al. 2019). There the momentum is 0.9, not openTSNE's 0.8: 500 iterations
    on 50,000 images then keep more neighbours.

    Returns
    -------
    float64 array (N, 2)
    """
    from openTSNE import TSNE, initialization

    reduced = reduce(features, pca, seed)
    tsne = TSNE(
        perplexity=perplexity,
        initialization=initialization.pca(reduced, random_state=seed),
        early_exaggeration=exaggeration,
        early_exaggeration_iter=exaggeration_iterations,
        n_iter=iterations,
        learning_rate="auto",
        final_momentum=0.9,
        n_jobs=threads,
        random_state=seed,
        callbacks=lambda *_: heed(),
        callbacks_every_iters=10,
    )
    return np.asarray(tsne.fit(reduced))


def embed_sklearn(features: np.ndarray, perplexity: float, seed: int, threads: int) -> np.ndarray:
    """scikit-learn's t-SNE with the defaults that report B used, on the features themselves.

    Returns
    -------
    float32 array (N, 2)
    """
    from sklearn.manifold import TSNE

    tsne = TSNE(
        perplexity=perplexity,
        init="pca",
        learning_rate="auto",
        random_state=seed,
        n_jobs=threads,
    )
    return tsne.fit_transform(features)


def neighbour_recall(features: np.ndarray, embedding: np.ndarray, seed: int) -> float:
    """The share of each point's 10 nearest neighbours that the embedding keeps among its 10.

    Exact neighbours among all points, by Euclidean distance; averaged over up to 2,000 points
    drawn by ``seed``.
    """
    from sklearn.neighbors import NearestNeighbors

    n = len(features)
    k = min(N_NEIGHBOURS, n - 1)
    queries = np.random.default_rng(seed).permutation(n)[:N_QUERIES]
    neighbours = []
    for space in (features, embedding):
        found = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(space)
        indices = found.kneighbors(space[queries], return_distance=False)
        # A point is not its own neighbour; where duplicates push it out, drop the farthest.
        neighbours.append([row[row != q][:k] for row, q in zip(indices, queries, strict=True)])
    kept = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(*neighbours, strict=True)]
    return float(np.mean(kept)) / k


def embed(
    stores: Mapping[str, str | Path],
    method: str,
    n_samples: int | None,
    perplexity: float,
    seed: int,
    threads: int,
    output: str | Path,
    **options,
) -> None:
    """Embed features in the plane, those of several splits in one map; write coordinates, labels
    and what they are worth.

    A network separates the images that it was trained on, whatever it has learned. Test images in
    the same map show what that is worth for others: all points are neighbours of each other and are
    placed in the same way. Test images put into a finished map of the training images would all lie
    in its islands, also those that belong to none.

    Parameters
    ----------
    stores
        Feature stores by split.
    method
        ``opentsne`` or ``sklearn``.
    n_samples
        Size of a class-stratified, seeded sample of each split; None or more than there are takes
        all.
    output
        ``.npz`` with ``coordinates`` float32 (n, 2), ``labels`` int64 (n,); ``splits``, the names
        of the splits (S,), ``split`` int64 (n,), the place of each point's among them, and
        ``n_total`` int64 (S,), of how many images they are; ``perplexity`` (as used: at most a
        third of n - 1), ``recall`` and ``made_with``.
    """
    samples = []
    for store in stores.values():
        labels = read_labels(store)
        rows = None
        if n_samples is not None and n_samples < len(labels):
            rows = stratified_rows(labels, n_samples, seed)
        samples.append(read_rows(store, rows, threads))
    features, labels = samples[0]
    if len(samples) > 1:
        features, labels = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    perplexity = min(perplexity, (len(labels) - 1) / 3)
    logger.info("t-SNE of %d x %d features with %s", *features.shape, method)
    if method == "opentsne":
        coordinates = embed_opentsne(features, perplexity, seed=seed, threads=threads, **options)
    else:
        coordinates = embed_sklearn(features, perplexity, seed, threads)
    recall = neighbour_recall(features, coordinates, seed)
    logger.info("10-nearest-neighbour recall %.3f", recall)
    _write(
        output,
        coordinates=coordinates.astype(np.float32),
        labels=labels,
        splits=list(stores),
        split=np.repeat(np.arange(len(samples)), [len(of_split) for _, of_split in samples]),
        n_total=[read_attributes(store)["n"] for store in stores.values()],
        perplexity=perplexity,
        recall=recall,
        made_with=made_with(*map(read_made_with, stores.values())),
    )


def write_failed_embedding(output: str | Path, reason: str) -> None:
    """Write, in place of what :func:`embed` writes, no points and, as ``failed``, why there are
    none."""
    _write(
        output,
        coordinates=np.empty((0, 2), np.float32),
        labels=np.empty(0, np.int64),
        splits=np.empty(0, str),
        split=np.empty(0, np.int64),
        n_total=np.empty(0, np.int64),
        perplexity=np.nan,
        recall=np.nan,
        made_with=made_with(),
        failed=reason,
    )


def _write(output: str | Path, **arrays: Any) -> None:
    with checked_path(output) as temporary:
        np.savez(temporary, **arrays)
