"""Spectrum measures: how many directions features fill, and how well these separate the classes.

One pass over a feature store sums up, in float64, what all of them but TwoNN need: the class means
and the d x d scatter matrix (:class:`Moments`, O(d^2) memory, O(N d^2) time). TwoNN compares the
distances of a sample of images. None stands for a value that is not defined.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.linalg
import xxhash

from collapseflow.features.stores import (
    iterate,
    read_attributes,
    read_labels,
    read_made_with,
    read_rows,
    read_true_labels,
)
from collapseflow.images.datasets import stratified_rows
from collapseflow.measures.statistics import TRUE
from collapseflow.running.errors import UserError
from collapseflow.running.files import MADE_WITH, made_with, remedy
from collapseflow.running.memory import require_memory
from collapseflow.running.threads import blas_threads

#: Indices, from 1, of the eigenvalues to which alpha-ReQ's line is fitted: its authors' code's.
ALPHA_INDICES = 4, 100
#: Images of which TwoNN compares the distances, at most.
TWO_NN_IMAGES = 10_000
#: So many images' distances to all others are in memory at a time.
_TWO_NN_ROWS = 256


@dataclass(frozen=True)
class Moments:
    """Counts, means and scatter of features.

    Attributes
    ----------
    classes : int64 array (C,), the labels present, ascending
    counts : int64 array (C,)
    global_mean : float64 array (d,), mu_G, the mean of all samples
    centred_means : float64 array (C, d), the class means less mu_G
    scatter : float64 array (d, d), sum of (h - mu_G)(h - mu_G)^T over all samples
    """

    classes: np.ndarray
    counts: np.ndarray
    global_mean: np.ndarray
    centred_means: np.ndarray
    scatter: np.ndarray

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.counts.sum())

    @cached_property
    def centred(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of the scatter matrix, as :meth:`_eigen`."""
        return self._eigen(self.scatter)

    @cached_property
    def uncentred(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the sum of h h^T: squared singular values of the data matrix and its right
        singular vectors, as :meth:`_eigen`."""
        outer = np.outer(self.global_mean, self.global_mean)
        return self._eigen(self.scatter + self.n_samples * outer)

    def _eigen(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (r,) in descending order and eigenvectors (d, r).

        Those up to max(N, d) times the machine precision times the largest are left out: sums of
        N products do not resolve them.
        """
        values, vectors = np.linalg.eigh(matrix)
        values, vectors = values[::-1], vectors[:, ::-1]
        cutoff = max(self.n_samples, len(matrix)) * np.finfo(np.float64).eps * values[0]
        rank = np.count_nonzero(values > cutoff)
        return values[:rank], vectors[:, :rank]


def reduce_blocks(blocks: Iterable[tuple], labels: np.ndarray) -> Moments:
    """Sum up a stream of features in one pass.

    Parameters
    ----------
    blocks
        Features (n, d) and labels (n,) first, as :func:`~collapseflow.features.stores.iterate`
        gives them.
    labels
        int64 array (N,): the labels of all blocks.

    Raises
    ------
    ValueError
        If a feature is not finite.
    """
    classes, counts = np.unique(labels, return_counts=True)
    origin = None
    for features, mine, *_ in blocks:
        shifted = features.astype(np.float64)
        if origin is None:
            # Near the mean of all: sums of squares around it lose no digits to the mean's. From the
            # first row on, so that what is constant becomes exactly zero.
            origin = shifted[0] + (shifted - shifted[0]).mean(axis=0)
            scatter = np.zeros((len(origin), len(origin)), order="F")
            sums = np.zeros((len(classes), len(origin)))
        shifted -= origin
        scatter = scipy.linalg.blas.dsyrk(
            1.0, shifted.T, beta=1.0, c=scatter, overwrite_c=True, lower=True
        )
        order = np.argsort(mine, kind="stable")
        present, starts = np.unique(mine[order], return_index=True)
        sums[np.searchsorted(classes, present)] += np.add.reduceat(shifted[order], starts)
    if not np.isfinite(sums).all():
        raise ValueError("features are not finite")
    scatter += np.tril(scatter, -1).T
    mean = sums.sum(axis=0) / len(labels)
    scatter -= len(labels) * np.outer(mean, mean)
    return Moments(classes, counts, origin + mean, sums / counts[:, None] - mean, scatter)


def _exponential_entropy(squared: np.ndarray) -> float | None:
    """exp(-sum p log p) of p = sigma / sum sigma, from the squares of all sigma > 0 (r,)."""
    if len(squared) == 0:
        return None
    sigma = np.sqrt(squared)
    p = sigma / sigma.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def effective_rank(moments: Moments) -> float | None:
    """exp(-sum_k p_k log p_k), p_k = sigma_k / sum sigma, sigma the singular values of the centred
    features: from 1 to the rank.

    Roy and Vetterli, "The effective rank" (EUSIPCO 2007), definition 1. None for constant features.
    """
    return _exponential_entropy(moments.centred[0])


def rankme(moments: Moments) -> float | None:
    """As :func:`effective_rank`, of the features as they are, not centred.

    Garrido et al., "RankMe" (ICML 2023), equation 1, without its epsilon: 0 log 0 is 0. None where
    all features are zero.
    """
    return _exponential_entropy(moments.uncentred[0])


def alpha_req(moments: Moments) -> float | None:
    """The exponent alpha of lambda_i ~ i^-alpha, lambda the eigenvalues of the covariance.

    Minus the slope of log lambda_i against log i by least squares with weights 1/i, over the
    indices :data:`ALPHA_INDICES` from 1, both included, as far as the rank reaches.
    Agrawal et al., "alpha-ReQ" (NeurIPS 2022), section 3, whose text leaves indices and weights
    open: they are its code's (after Stringer et al. 2019). None for fewer than two indices.
    """
    first, last = ALPHA_INDICES
    values = moments.centred[0][first - 1 : last]
    if len(values) < 2:
        return None
    indices = np.arange(first, first + len(values))
    # polyfit squares the weights that it is given.
    slope, _ = np.polyfit(np.log(indices), np.log(values), 1, w=indices**-0.5)
    return float(-slope)


def h_score(moments: Moments) -> float | None:
    """tr(cov(h)^+ cov(E[h|y])), classes weighted by n_c/N: from 0 to min(C - 1, d).

    Bao et al., "An information-theoretic approach to transferability in task transfer learning"
    (ICIP 2019), definition 2. The pseudo-inverse leaves out eigenvalues of the covariance up to
    max(N, d) times the machine precision times the largest. None for fewer than two classes, and
    for constant features.
    """
    values, vectors = moments.centred
    if len(values) == 0 or len(moments.classes) < 2:
        return None
    projected = moments.centred_means @ vectors
    return float((moments.counts @ projected**2 / values).sum())


def logme(moments: Moments) -> float | None:
    """The log evidence of a Bayesian linear model without intercept, for the indicator of each
    class: a sample's share, averaged over the classes present.

    You et al., "LogME" (ICML 2021), equation 2, at its maximum over the prior's precision alpha
    and the noise's beta, found by the fixed point of "Ranking and tuning pre-trained models" (JMLR
    2022), algorithm 3. With F (N, d), its right singular vectors v_k and squared singular values
    s_k, everything follows from s_k, (v_k . F^T y)^2 / s_k and y^T y. The iteration starts from
    alpha/beta = the mean square of a feature (their 1, were the features of that scale: the value
    does not depend on the scale), and ends where alpha/beta changes by a millionth or less, or
    after 1,000 steps; there is no epsilon. None for fewer than two classes, features that are all
    zero, and where a linear model without noise gives all labels.
    """
    s, vectors = moments.uncentred
    n, d, rank = moments.n_samples, len(vectors), len(s)
    if rank == 0 or len(moments.classes) < 2:
        return None
    sums = moments.counts[:, None] * (moments.centred_means + moments.global_mean)
    explained = (sums @ vectors) ** 2 / s
    # y^T y beyond the columns' span, but for rounding.
    beyond = moments.counts - explained.sum(axis=1)
    beyond[beyond <= max(n, d) * np.finfo(np.float64).eps * moments.counts] = 0
    evidences = [
        _log_evidence(s, *of_class, n, d) for of_class in zip(explained, beyond, strict=True)
    ]
    return float(np.mean(evidences)) / n if np.isfinite(evidences).all() else None


def _log_evidence(s: np.ndarray, explained: np.ndarray, beyond: float, n: int, d: int) -> float:
    """The largest log evidence of one target, as :func:`logme`; not finite where it has none."""
    rank = len(s)
    ratio = s.sum() / (n * d)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for _ in range(1000):
            noise = ratio / (s + ratio)
            weights = (explained * s / (s + ratio) ** 2).sum()
            residual = beyond + (explained * noise**2).sum()
            alpha = (1 - noise).sum() / weights
            beta = (n - rank + noise.sum()) / residual
            last, ratio = ratio, alpha / beta
            # Not "more than": what is not a number ends it too.
            if not abs(ratio - last) > 1e-6 * last:
                break
        # log det(alpha + beta F^T F): alpha alone in the d - rank other directions.
        determinant = np.log(alpha + beta * s).sum() + (d - rank) * np.log(alpha)
        return (
            d * np.log(alpha)
            + n * np.log(beta / (2 * np.pi))
            - determinant
            - beta * residual
            - alpha * weights
        ) / 2


def two_nn(features: np.ndarray) -> tuple[float | None, int]:
    """Intrinsic dimension from the ratio mu = r2/r1 of the distances to the two nearest others.

    The slope, through the origin, of -log(1 - F) against log mu, F(mu_(i)) = i/n; the largest
    tenth of mu is left out. Facco et al., "Estimating the intrinsic dimension of datasets by a
    minimal neighborhood information" (Scientific Reports 7, 2017). Exact neighbours, in float64.

    Parameters
    ----------
    features
        Array (n, d). Of equal rows one is kept: another at distance 0 has no ratio.

    Returns
    -------
    The dimension, None where fewer than three rows differ or all ratios are 1; and how many rows
    were left out because they equal another.
    """
    # Adding zero makes -0.0 the 0.0 that it equals.
    distinct = {xxhash.xxh3_128_digest(row + 0.0): i for i, row in enumerate(features)}
    kept = features[sorted(distinct.values())].astype(np.float64)
    n, duplicates = len(kept), len(features) - len(kept)
    if n < 3:
        return None, duplicates
    kept -= kept.mean(axis=0)
    ratios = np.concatenate(
        [
            _neighbour_ratios(kept, np.arange(start, min(start + _TWO_NN_ROWS, n)))
            for start in range(0, n, _TWO_NN_ROWS)
        ]
    )
    x = np.log(np.sort(ratios)[: 9 * n // 10])
    # Distances that are equal but for rounding, as in a simplex.
    x[x < 1e-13] = 0
    y = -np.log1p(-np.arange(1, len(x) + 1) / n)
    return (float(x @ y / (x @ x)) if x.any() else None), duplicates


def _neighbour_ratios(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """r2/r1 of the points (n, d) at ``rows``, (len(rows),)."""
    closeness = points[rows] @ points.T - (points * points).sum(axis=1) / 2
    closeness[np.arange(len(rows)), rows] = -np.inf
    # Products lose the digits of small distances: a few candidates are measured again.
    few = min(4, len(points) - 1)
    nearest = np.argpartition(-closeness, few - 1, axis=1)[:, :few]
    distances = np.linalg.norm(points[nearest] - points[rows, None], axis=2)
    distances.sort(axis=1)
    return distances[:, 1] / distances[:, 0]


#: What follows from the moments; and what of it depends on the labels.
OF_MOMENTS: dict[str, Callable[[Moments], float | None]] = {
    function.__name__: function for function in (effective_rank, rankme, alpha_req, h_score, logme)
}
OF_LABELS = ("h_score", "logme")


def measure_spectrum(stores: Mapping[str, str | Path], seed: int, threads: int) -> dict:
    """All spectrum measures of one layer on each split.

    Parameters
    ----------
    stores
        Feature stores by split.
    seed
        Of TwoNN's class-stratified sample of at most :data:`TWO_NN_IMAGES` images.

    Returns
    -------
    By split: the values that are defined by the names of the functions here, with ``n_samples``
    (N), ``n_sample`` (TwoNN's images) and ``duplicates`` (of these, left out); where training
    labels were replaced also under :data:`~collapseflow.measures.statistics.TRUE` what depends on
    them, by the true ones; and ``made_with``.

    Raises
    ------
    UserError
        If a store is missing or damaged, or holds features that are not finite, or more of them
        than the machine has memory for.
    """
    answer = {}
    with blas_threads(threads):
        for split, path in stores.items():
            labels = read_labels(path)
            d = read_attributes(path)["n_features"]
            # The scatter matrix, another one, and the eigenvectors of both.
            instead = "fewer features, or a study without the spectrum"
            require_memory(4 * 8 * d**2, f"{path}: the spectrum of {d:,} features", instead)
            try:
                moments = reduce_blocks(iterate(path), labels)
            except ValueError as error:
                raise UserError(f"{path}: {error}; {remedy(path)}") from None
            values = {name: function(moments) for name, function in OF_MOMENTS.items()}
            del moments
            rows = stratified_rows(labels, min(len(labels), TWO_NN_IMAGES), seed)
            features, _ = read_rows(path, rows, threads)
            values["two_nn"], duplicates = two_nn(features)
            answer[split] = {name: value for name, value in values.items() if value is not None}
            answer[split] |= {
                "n_samples": len(labels),
                "n_sample": len(rows),
                "duplicates": duplicates,
            }
            true = read_true_labels(path)
            if true is not None:
                moments = reduce_blocks(iterate(path, by="true_labels"), true)
                values = {name: OF_MOMENTS[name](moments) for name in OF_LABELS}
                answer[TRUE] = {name: value for name, value in values.items() if value is not None}
                answer[TRUE] |= {"n_samples": len(true)}
    return answer | {MADE_WITH: made_with(*map(read_made_with, stores.values()))}
