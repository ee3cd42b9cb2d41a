"""NC1 and the three parts of NC2 of neural collapse, streamed over a feature store in float64.

Papyan, Han and Donoho, "Prevalence of neural collapse during the terminal phase of deep learning
training", PNAS 117 (2020), doi:10.1073/pnas.2015509117; normalised as in report A: Sigma_W
divided by N, Sigma_B the unweighted mean over the C classes around the mean of all samples,
standard deviations with ddof = 0, cosines over the C(C-1)/2 pairs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from threading import Event
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from collapseflow.features.stores import accuracy, iterate
from collapseflow.running.errors import UserError

#: Called for each pass with the number of blocks that are in use at a time; gives blocks of
#: features (n, d) and labels int (n,).
Stream = Callable[[int], Iterable[tuple[np.ndarray, np.ndarray]]]
Answer = TypeVar("Answer")

#: Bytes of float64 features that are multiplied at a time: a core's cache should hold them.
PIECE_BYTES = 2 * 2**20


def map_blocks(
    function: Callable[[np.ndarray, np.ndarray], Answer], stream: Stream, threads: int
) -> Iterator[Answer]:
    """Apply a function to each block of a stream, on several threads.

    A thread reads a block when the one before it is read, and works on it where its cache has it;
    BLAS keeps to the thread that calls it. The answers come in the order of the blocks: what is
    summed up of them does not depend on the number of threads.
    """
    blocks = iter(stream(threads + 1))

    def next_answer(my_turn: Event, next_turn: Event) -> tuple[Answer] | None:
        my_turn.wait()
        try:
            block = next(blocks, None)
        finally:
            next_turn.set()
        return None if block is None else (function(*block),)

    turn = Event()
    turn.set()
    running: deque[Future] = deque()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        while True:
            my_turn, turn = turn, Event()
            running.append(pool.submit(next_answer, my_turn, turn))
            if len(running) > threads:
                answer = running.popleft().result()
                if answer is None:
                    return
                yield answer[0]


@dataclass(frozen=True)
class ClassMeans:
    """Counts and means of the classes that are present.

    Attributes
    ----------
    classes : int64 array (C,), ascending
    counts : int64 array (C,)
    means : float64 array (C, d)
    """

    classes: np.ndarray
    counts: np.ndarray
    means: np.ndarray

    @property
    def global_mean(self) -> np.ndarray:
        """The mean of all samples, float64 (d,)."""
        return self.counts @ self.means / self.counts.sum()


def class_means(stream: Stream, threads: int = 1) -> ClassMeans:
    """One pass: the mean of each class."""
    counts: dict[int, int] = {}
    sums: dict[int, np.ndarray] = {}
    for of_block in map_blocks(_class_sums, stream, threads):
        for label, count, total in of_block:
            if label in sums:
                counts[label] += count
                sums[label] += total
            else:
                counts[label], sums[label] = count, total
    classes = np.array(sorted(sums))
    sizes = np.array([counts[label] for label in classes])
    means = np.stack([sums[label] for label in classes]) / sizes[:, None]
    return ClassMeans(classes, sizes, means)


def _class_sums(features: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Label, number of rows and sum of rows, float64 (d,), of each class in a block."""
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    runs = np.split(order, starts[1:])
    return [
        (label, len(rows), np.add.reduce(features[rows], axis=0, dtype=np.float64))
        for label, rows in zip(classes.tolist(), runs, strict=True)
    ]


class CollapsedError(ValueError):
    """A class mean coincides with the mean of all samples: it has no direction."""

    def __init__(self) -> None:
        super().__init__("a class mean coincides with the mean of all samples")


@dataclass(frozen=True)
class CollapseMeasures:
    """The measures of one set of features.

    Attributes
    ----------
    nc1
        NC1: tr(Sigma_W Sigma_B^+) / C, contraction of the within-class covariance (equation 1).
    nc2_equinorm
        NC2: standard deviation over mean of the norms of the centred class means (equation 2).
    nc2_equiangularity
        NC2: standard deviation of the cosines between centred class means (equation 3).
    nc2_maximal_angle
        NC2: mean of |cosine + 1/(C-1)| (equation 4).
    rank
        Rank of Sigma_B that the pseudo-inverse kept.
    n_classes, n_samples, n_features
        C, N and d.
    """

    nc1: float
    nc2_equinorm: float
    nc2_equiangularity: float
    nc2_maximal_angle: float
    rank: int
    n_classes: int
    n_samples: int
    n_features: int

    def as_dict(self) -> dict:
        """Names and values."""
        return asdict(self)


# The threads of BLAS wait actively for a while after a product, on the cores that the passes need.
@threadpool_limits.wrap(limits=1, user_api="blas")
def collapse_measures(
    stream: Stream, cutoff: float | None = None, threads: int = 1
) -> CollapseMeasures:
    """Two passes over the features: class means, then within-class scatter.

    Sigma_B has rank at most C, so no d x d matrix is needed: with the thin singular value
    decomposition U diag(s) V^T of the C centred class means (d x C), Sigma_B has eigenvectors u_k
    and eigenvalues s_k^2 / C, and tr(Sigma_W Sigma_B^+) is the sum over the kept k of the mean of
    ((h - mu_c) . u_k)^2 divided by the eigenvalue.

    Parameters
    ----------
    cutoff
        Eigenvalues of Sigma_B up to this value count as zero. None takes the usual relative
        cutoff of a pseudo-inverse, max(C, d) times the machine precision times the largest;
        report A used the absolute value 1e-5.

    Raises
    ------
    ValueError
        If fewer than two classes are present.
    CollapsedError
        If class means coincide.
    """
    means = class_means(stream, threads)
    n_classes, n_features = means.means.shape
    if n_classes < 2:
        raise ValueError("the measures of collapse need at least two classes")
    centred = means.means - means.global_mean
    norms = np.linalg.norm(centred, axis=1)
    # Means that are equal but for rounding have no direction.
    if norms.min() <= 1e-13 * np.linalg.norm(means.means, axis=1).max():
        raise CollapsedError
    directions, singular, _ = np.linalg.svd(centred.T, full_matrices=False)
    eigenvalues = singular**2 / n_classes
    if cutoff is None:
        cutoff = max(n_classes, n_features) * np.finfo(np.float64).eps * eigenvalues[0]
    kept = eigenvalues > cutoff
    projections = np.ascontiguousarray((directions[:, kept] / np.sqrt(eigenvalues[kept])).T)
    projected_means = projections @ means.means.T
    piece = max(1, PIECE_BYTES // (8 * n_features))

    def projected_scatter(features: np.ndarray, labels: np.ndarray) -> float:
        rows = np.searchsorted(means.classes, labels)
        scatter = 0.0
        for start in range(0, len(labels), piece):
            part = slice(start, start + piece)
            projected = projections @ features[part].astype(np.float64).T
            projected -= projected_means[:, rows[part]]
            scatter += float(np.vdot(projected, projected))
        return scatter

    scatter = sum(map_blocks(projected_scatter, stream, threads))
    n_samples = int(means.counts.sum())
    unit = centred / norms[:, None]
    cosines = (unit @ unit.T)[np.triu_indices(n_classes, k=1)]
    return CollapseMeasures(
        nc1=scatter / n_samples / n_classes,
        nc2_equinorm=float(norms.std() / norms.mean()),
        nc2_equiangularity=float(cosines.std()),
        nc2_maximal_angle=float(np.abs(cosines + 1 / (n_classes - 1)).mean()),
        rank=int(kept.sum()),
        n_classes=n_classes,
        n_samples=n_samples,
        n_features=n_features,
    )


def measure_stores(stores: dict[str, str], threads: int = 1) -> dict[str, dict]:
    """The measures of one layer on each split, with the accuracy where the network has a head.

    Parameters
    ----------
    stores
        Feature stores by split.

    Returns
    -------
    By split: names and values, or ``{"failed": reason}`` if class means coincide.

    Raises
    ------
    UserError
        Naming the store whose features have fewer than two classes.
    """
    answer = {}
    for split, path in stores.items():
        try:
            measures = collapse_measures(partial(iterate, path), threads=threads).as_dict()
        except CollapsedError as error:
            answer[split] = {"failed": str(error)}
            continue
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        share = accuracy(path)
        answer[split] = measures if share is None else {**measures, "accuracy": share}
    return answer
