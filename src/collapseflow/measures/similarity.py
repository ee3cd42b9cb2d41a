"""How similar layers represent the same images: linear CKA with the unbiased HSIC, in float64.

Kornblith et al., "Similarity of neural network representations revisited" (ICML 2019), with the
estimator of Song et al. (JMLR 13, 2012), equation 5, as Nguyen, Raghu and Kornblith (ICLR 2021)
use it: with few images and wide features the usual, biased one finds similarity in noise.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from collapseflow.features.stores import read_labels, read_made_with, read_rows
from collapseflow.images.datasets import stratified_rows
from collapseflow.running.errors import UserError
from collapseflow.running.files import MADE_WITH, made_with
from collapseflow.running.threads import blas_threads

#: Images on which layers are compared, at most.
N_IMAGES = 5_000


class Kernel:
    """The linear kernel matrix K = X X^T of centred features X, in the smaller of its two forms.

    Parameters
    ----------
    features
        float32 array (n, d), n >= 4.

    Attributes
    ----------
    n : number of images
    diagonal : float64 array (n,), the squared norms of the centred features
    own : K against itself, as :func:`unbiased_hsic`
    """

    def __init__(self, features: np.ndarray) -> None:
        # From the first row on, so that what is constant becomes exactly zero.
        origin = features[0].astype(np.float64)
        centred = features - origin
        mean = centred.mean(axis=0)
        centred -= mean
        self._mean = origin + mean
        self.n, width = features.shape
        self.diagonal = (centred * centred).sum(axis=1)
        self._features = features if width <= self.n else None
        self._matrix = None if width <= self.n else centred @ centred.T
        self.own = unbiased_hsic(self, self)

    @property
    def matrix(self) -> np.ndarray | None:
        """K, float64 (n, n), where there are more features than images; else None."""
        return self._matrix

    @property
    def features(self) -> np.ndarray:
        """X, float64 (n, d), where :attr:`matrix` is None."""
        return self._features - self._mean


def _inner_product(first: Kernel, second: Kernel) -> float:
    """tr(K L): ||X^T Y||_F^2 without a matrix of images, or the sum over K's and L's entries."""
    if first.matrix is None and second.matrix is None:
        product = first.features.T @ second.features
        return float(np.vdot(product, product))
    if first.matrix is None:
        first, second = second, first
    if second.matrix is None:
        features = second.features
        return float(np.vdot(first.matrix @ features, features))
    return float(np.vdot(first.matrix, second.matrix))


def unbiased_hsic(first: Kernel, second: Kernel) -> float:
    """Song et al. (2012), equation 5, on n images:

    (tr(K~ L~) + 1^T K~ 1 1^T L~ 1 / ((n - 1)(n - 2)) - 2 1^T K~ L~ 1 / (n - 2)) / (n (n - 3)),

    where K~ and L~ are K and L with a diagonal of zeros. The estimator does not change with the
    means of the features; once these are zero so are the rows' sums of K: K~ 1 = -diag(K).
    """
    n, k, ell = first.n, first.diagonal, second.diagonal
    both = float(k @ ell)
    sums = float(k.sum() * ell.sum()) / ((n - 1) * (n - 2))
    return (_inner_product(first, second) - both + sums - 2 * both / (n - 2)) / (n * (n - 3))


def cka(first: Kernel, second: Kernel) -> float | None:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)): 1 for features that are equal but for rotation,
    scale and shift, around 0 (also below) for independent ones.

    None where HSIC(K, K) or HSIC(L, L) is not above 0, as for constant features.
    """
    if min(first.own, second.own) <= 0:
        return None
    return unbiased_hsic(first, second) / float(np.sqrt(first.own) * np.sqrt(second.own))


def sample(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Rows of a class-stratified, seeded sample of at most ``n`` images, ascending.

    Raises
    ------
    UserError
        If there are fewer than four images: the estimator needs them.
    """
    if len(labels) < 4:
        raise UserError(f"{len(labels)} images to compare layers on; allowed: 4 or more")
    return stratified_rows(labels, min(n, len(labels)), seed)


def _reader(path: str | Path, seed: int, threads: int) -> Callable[[str | Path], Kernel]:
    """What reads a store's sample, of the same images as that of the first store."""
    first, labels = path, read_labels(path)
    rows = sample(labels, N_IMAGES, seed)

    def kernel(path: str | Path) -> Kernel:
        if not np.array_equal(read_labels(path), labels):
            raise UserError(f"{path}: holds other images than {first}")
        return Kernel(read_rows(path, rows, threads)[0])

    return kernel


def compare_layers(
    first: Mapping[str, str | Path],
    last_by_seed: Mapping[int, Mapping[str, str | Path]],
    seed: int,
    threads: int,
) -> dict:
    """CKA between the layers of a network before and after training, and across seeds.

    Of two states every layer's sample is in memory: float32 (n, d), or float64 (n, n) where d > n.
    For the 18 layers of ResNet18, averaged over positions (about 4,400 values an image together),
    and 5,000 images that is 180 MB.

    Parameters
    ----------
    first
        Feature stores of the training images by layer, before training.
    last_by_seed
        The same after it, by seed of the training.
    seed
        Of the sample of at most :data:`N_IMAGES` images.

    Returns
    -------
    ``n_images``, ``layers`` (L names), ``seeds`` (S), and CKA as lists of rows, None where it is
    not defined: ``first`` and ``last`` (L x L, within a state; last: of the first seed),
    ``first_last`` (L x L: rows before, columns after training, first seed), ``across_seeds`` (by
    layer S x S, after training), and ``made_with``.

    Raises
    ------
    UserError
        If a store is missing or damaged, or does not hold the same images as the others.
    """
    layers, seeds = list(first), list(last_by_seed)
    kernel = _reader(first[layers[0]], seed, threads)
    with blas_threads(threads):
        before = [kernel(first[layer]) for layer in layers]
        after = [kernel(last_by_seed[seeds[0]][layer]) for layer in layers]
        answer = {
            "n_images": before[0].n,
            "layers": layers,
            "seeds": seeds,
            "first": _within(before),
            "last": _within(after),
            "first_last": [[cka(one, other) for other in after] for one in before],
        }
        del before
        # Those of the first seed are there: every other state is read layer by layer.
        answer["across_seeds"] = {
            layer: _within([own, *(kernel(last_by_seed[number][layer]) for number in seeds[1:])])
            for layer, own in zip(layers, after, strict=True)
        }
    stores = [*first.values(), *(path for last in last_by_seed.values() for path in last.values())]
    return answer | {MADE_WITH: made_with(*map(read_made_with, stores))}


def compare_sets(stores: Mapping[str, str | Path], seed: int, threads: int) -> dict:
    """CKA between sets of features of the same things, such as files of vectors.

    The samples of all sets are in memory, as those of layers in :func:`compare_layers`.

    Parameters
    ----------
    stores
        Feature stores of the training split by the names of the sets.
    seed
        Of the sample of at most :data:`N_IMAGES`.

    Returns
    -------
    ``n_images``, ``sets`` (S names), ``cka`` (S x S as a list of rows, None where it is not
    defined) and ``made_with``.

    Raises
    ------
    UserError
        As :func:`compare_layers`.
    """
    read = _reader(next(iter(stores.values())), seed, threads)
    with blas_threads(threads):
        kernels = [read(path) for path in stores.values()]
        found = {"n_images": kernels[0].n, "sets": list(stores), "cka": _within(kernels)}
    return found | {MADE_WITH: made_with(*map(read_made_with, stores.values()))}


def _within(kernels: list[Kernel]) -> list[list[float | None]]:
    """CKA between all pairs; it is symmetric, and 1 with itself where it is defined."""
    size = len(kernels)
    values: list[list[float | None]] = [[None] * size for _ in range(size)]
    for i, one in enumerate(kernels):
        values[i][i] = 1.0 if one.own > 0 else None
        for j in range(i):
            values[i][j] = values[j][i] = cka(one, kernels[j])
    return values
