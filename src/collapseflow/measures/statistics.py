"""What the measures of collapse need of features, reduced in two passes and kept in a small file.

First the mean of each class; then, around these means, the scatter of the samples, along the span
of the class means and in length. Of C classes of d features this takes O(C d + C^2) memory and one
product with a basis of that span, of rank r < C, for each sample: no d x d matrix. All sums are in
float64; those of shards of the data can be merged, and the number of threads changes no bit.

Of n images of a class, the variance around their own mean is (n - 1) / n of the true one, and their
mean is off by the true one's nth part: NC1, CDNV and the like depend on n. Training and test images
are therefore compared at the same n: beside both splits stand the statistics of
:func:`matched_rows`, a sample of the training images. Where training labels were replaced, the
training images, and a sample of them, are measured once more, with the true labels in place of
those that were trained on. There is no unbiased estimate from the
statistics of all of them. That of v_c is (n / (n - 1)) v_c, and that of d_ij^2 is the squared
distance less v_i / n_i + v_j / n_j; but their quotient is biased again, and for d >> n the
difference may be negative. A pseudo-inverse of such a difference means nothing, and its axes are
estimated from the same images.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from functools import cached_property, partial
from math import prod
from pathlib import Path
from threading import Event, local
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from scipy.linalg.blas import dsyrk
from scipy.sparse import csr_array
from scipy.spatial.distance import pdist

from collapseflow.features.stores import (
    Block,
    Head,
    Labels,
    iterate,
    read_groups,
    read_head,
    read_labels,
    read_true_labels,
)
from collapseflow.images.datasets import SPLITS
from collapseflow.measures.intervals import effective_share
from collapseflow.running.errors import UserError
from collapseflow.running.files import (
    MADE_WITH,
    checked_path,
    made_with,
    read_arrays,
    readable,
    remedy,
)
from collapseflow.running.threads import blas_threads

#: The training images that are compared with the test images: as many of each class.
MATCHED = "train_matched"
#: What has statistics, and a name in the column ``split`` of measures.csv.
MEASURED_SPLITS = (*SPLITS, MATCHED)
#: The same of training images by their true labels, where labels were replaced.
TRUE, TRUE_MATCHED = "train_true", "train_matched_true"
TRUE_SPLITS = (TRUE, TRUE_MATCHED)

#: Called for each pass with the number of blocks that are in use at a time; gives blocks of
#: features (n, d), labels int (n,), and predictions int (n,) or None.
Stream = Callable[[int], Iterable[Block]]
Answer = TypeVar("Answer")

#: Of the largest class mean's norm: means that are no farther apart are equal but for rounding.
ROUNDING = 1e-13
#: Bytes of float64 features that are multiplied at a time: a core's cache should hold them.
PIECE_BYTES = 2 * 2**20
#: What of the second pass some measures ask for and others do not, and which has a cost of its own.
PARTS = ("balanced", "directional", "nearest")
#: So many rows of a square matrix of products are in memory at a time.
ROWS_OF_PRODUCTS = 64
#: In which type a sample's products with the class means are taken (:func:`scatter_around`).
Products = Literal["float64", "float32"]
#: Class means nearer to each other than this share of the longest, around their mean, keep float64.
NEAR_MEANS = 0.1
#: Means no longer than this keep float64 too, as do those as much longer than 1: float32 ends at
#: 1e-38.
SMALLEST = 1e-12
#: Squared distances below this share of the squared lengths of both points are not taken from
#: products, which would lose more than two of their digits.
CANCELLING = 0.01
#: Of so many multiplications OpenBLAS does not rearrange the matrices first, which takes as long as
#: the product itself where one of them is narrow.
SMALL_PRODUCT = 10**6


class NotFiniteError(ValueError):
    """Features of a class that are not finite."""

    def __init__(self, label: int) -> None:
        super().__init__(f"the features of the class {label} are not finite")


def map_blocks(
    function: Callable[..., Answer],
    stream: Callable[[int], Iterable[tuple]],
    threads: int,
) -> Iterator[Answer]:
    """Apply a function to each block of a stream (its parts are the arguments), on several threads.

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
    with blas_threads(1), ThreadPoolExecutor(threads) as pool:
        while True:
            my_turn, turn = turn, Event()
            running.append(pool.submit(next_answer, my_turn, turn))
            if len(running) > threads:
                answer = running.popleft().result()
                if answer is None:
                    return
                yield answer[0]
                # Not kept while the next one, which may be large, is made.
                del answer


class _Scratch(local):
    """Arrays of the thread that asks, which the next one of the same name overwrites: memory that
    is new, and that the system has to clear, costs as much as what is computed in it."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, *shape: int, dtype: type | np.dtype = np.float64) -> np.ndarray:
        """One with anything in it; of a name the type is always the same."""
        size = prod(shape)
        if name not in self.arrays or len(self.arrays[name]) < size:
            self.arrays[name] = np.empty(size, dtype)
        return self.arrays[name][:size].reshape(shape)


class _Piece(NamedTuple):
    """Some samples of a block.

    Attributes
    ----------
    samples : which of the block
    features : float64 (n, d), in memory that the next piece overwrites
    rows : the number of each sample's class, int (n,)
    """

    samples: slice
    features: np.ndarray
    rows: np.ndarray

    def add_to(self, sums: np.ndarray, values: np.ndarray) -> None:
        """Add values (n, m) of the samples to the sums (C, m) of their classes."""
        order = np.argsort(self.rows, kind="stable")
        in_order = self.rows[order]
        starts = np.concatenate([[0], np.flatnonzero(np.diff(in_order)) + 1])
        members = csr_array(
            (np.ones(len(order)), order, np.append(starts, len(order))),
            shape=(len(starts), len(order)),
        )
        sums[in_order[starts]] += members @ values


def _pieces(
    features: np.ndarray,
    rows: np.ndarray,
    row_bytes: int,
    scratch: _Scratch,
    means: np.ndarray | None = None,
) -> Iterator[_Piece]:
    """A block in parts that a core's cache holds.

    Parameters
    ----------
    rows
        The number of each sample's class, int (n,).
    row_bytes
        What a sample needs in the work on a part.
    means
        Float64 (C, d), of which that of the class is subtracted from each sample.
    """
    size = max(1, PIECE_BYTES // row_bytes)
    memory = scratch.array("features", min(size, len(rows)), features.shape[1])
    for start in range(0, len(rows), size):
        samples = slice(start, start + size)
        of_samples = rows[samples]
        part = memory[: len(of_samples)]
        if means is None:
            part[:] = features[samples]
        else:
            np.take(means, of_samples, axis=0, out=part, mode="clip")
            np.subtract(features[samples], part, out=part)
        yield _Piece(samples, part, of_samples)


class ClassSums:
    """Counts, sums and norms of the samples of each class: what the first pass finds.

    Attributes
    ----------
    by_label
        By label: the number n_c of samples, their sum float64 (d,), and the sum of their norms.
    """

    def __init__(self) -> None:
        self.by_label: dict[int, tuple[int, np.ndarray, float]] = {}

    def merge(self, other: "ClassSums") -> None:
        """Add those of other samples, which are not to be used any more."""
        for label, (count, total, norm) in other.by_label.items():
            if label in self.by_label:
                my_count, my_total, my_norm = self.by_label[label]
                # In place: no new array for each class and block.
                my_total += total
                self.by_label[label] = my_count + count, my_total, my_norm + norm
            else:
                # A view would keep the sums of all classes of the block.
                self.by_label[label] = count, total.copy(), norm

    def means(self) -> "ClassMeans":
        """The mean of each class.

        Raises
        ------
        NotFiniteError
            If a feature is not finite.
        """
        classes = sorted(self.by_label)
        for label in classes:
            if not np.isfinite(self.by_label[label][1]).all():
                raise NotFiniteError(label)
        counts, sums, norms = zip(*(self.by_label[label] for label in classes), strict=True)
        counts, means = np.array(counts), np.stack(sums)
        means /= counts[:, None]
        return ClassMeans(np.array(classes), counts, means, np.array(norms))


def sum_classes(stream: Stream, threads: int = 1) -> ClassSums:
    """The first pass."""
    total = ClassSums()
    for of_block in map_blocks(_FirstPass(), stream, threads):
        total.merge(of_block)
    return total


class _FirstPass:
    """The work on a block."""

    def __init__(self) -> None:
        self.scratch = _Scratch()

    def __call__(
        self, features: np.ndarray, labels: np.ndarray, predictions: np.ndarray | None
    ) -> ClassSums:
        classes, rows = np.unique(labels, return_inverse=True)
        counts = np.bincount(rows)
        sums = np.zeros((len(classes), features.shape[1]))
        norms = np.zeros(len(classes))
        for piece in _pieces(features, rows, 8 * features.shape[1], self.scratch):
            part = piece.features
            norms += np.bincount(piece.rows, np.sqrt(np.vecdot(part, part)), len(classes))
            piece.add_to(sums, part)
        of_classes = zip(counts.tolist(), sums, norms.tolist(), strict=True)
        answer = ClassSums()
        answer.by_label = dict(zip(classes.tolist(), of_classes, strict=True))
        return answer


def squared_distances(points: np.ndarray) -> np.ndarray:
    """||a_i - a_j||^2 of the pairs i < j of rows (C, r), float64 (C (C - 1) / 2,), in the order of
    :func:`numpy.triu_indices`, to 12 digits.

    ||a_i||^2 + ||a_j||^2 - 2 a_i . a_j takes a tenth of the time of the differences, of which it
    is asked where much of it cancels.
    """
    lengths = np.vecdot(points, points)
    answer = np.empty(len(points) * (len(points) - 1) // 2)
    end = 0
    for first in range(0, len(points), ROWS_OF_PRODUCTS):
        rows = points[first : first + ROWS_OF_PRODUCTS]
        products = rows @ points[first:].T
        for row, (point, of_point) in enumerate(zip(rows, products, strict=True)):
            others = slice(first + row + 1, None)
            start, end = end, end + len(points[others])
            both = lengths[first + row] + lengths[others]
            squared = both - 2 * of_point[row + 1 :]
            near = np.flatnonzero(squared < CANCELLING * both)
            apart = points[others][near] - point
            squared[near] = np.vecdot(apart, apart)
            answer[start:end] = squared
    return answer


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """The classes that are present, and their means.

    Attributes
    ----------
    classes : int64 (C,), labels, ascending
    counts : int64 (C,), n_c
    means : float64 (C, d), mu_c
    norms : float64 (C,), sum of ||h|| over the samples of each class
    """

    classes: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    norms: np.ndarray

    @cached_property
    def global_mean(self) -> np.ndarray:
        """mu_G, the mean of all samples, float64 (d,)."""
        return self.counts @ self.means / self.counts.sum()

    @property
    def even(self) -> bool:
        """Whether all classes have as many samples."""
        return bool((self.counts == self.counts[0]).all())

    @cached_property
    def span(self) -> tuple[np.ndarray, np.ndarray]:
        """An orthonormal basis of the span of the centred class means mu_c - mu_G, as rows (r, d),
        and the coordinates (C, r) of these means in it.

        From the thin singular value decomposition of the means themselves: their Gram matrix would
        square the condition number. The columns of the coordinates are orthogonal, the longest
        first. r is the numerical rank, as :func:`numpy.linalg.matrix_rank` decides on it.
        """
        centred = self.means - self.global_mean
        # The threads of BLAS wait actively for a while after a product, on cores the passes need.
        with blas_threads(1):
            left, singular, basis = np.linalg.svd(centred, full_matrices=False)
        least = max(centred.shape) * np.finfo(np.float64).eps * singular[0]
        # A slice would lie otherwise in memory, and products of it round otherwise.
        kept = singular > least
        return basis[kept], left[:, kept] * singular[kept]

    def suit_float32(self, directional: bool) -> bool:
        """Whether products with these means may be taken in float32: whether they are far from its
        limits, and, for what lies along the directions between them, from each other."""
        _, coordinates = self.span
        lengths = np.vecdot(coordinates, coordinates)
        longest = lengths.max()
        if not SMALLEST**2 < longest < SMALLEST**-2:
            return False
        if not directional:
            return True
        return bool(squared_distances(coordinates).min() >= NEAR_MEANS**2 * longest)

    @property
    def frame(self) -> tuple[np.ndarray | None, np.ndarray]:
        """A basis as columns (d, r), and coordinates (C, r) in it, for products with samples: those
        of :attr:`span`. Means that span the whole space need no basis: None, and themselves."""
        basis, coordinates = self.span
        if len(basis) == basis.shape[1]:
            return None, self.means - self.global_mean
        return np.ascontiguousarray(basis.T), coordinates


@dataclass(eq=False)
class Scatter:
    """What the second pass finds around given means; the attributes are those of
    :class:`Statistics` by the same names, but for the basis, which is that of
    :attr:`ClassMeans.frame`, and ``balanced``, which is not summed up where it follows."""

    scatter: np.ndarray
    balanced: np.ndarray | None
    squared: np.ndarray
    fourth: np.ndarray | None
    directional: np.ndarray | None
    nearest: np.ndarray | None
    predicted: np.ndarray | None
    agreeing: np.ndarray | None
    #: Of each sample, where they are wanted: whether its own mean is nearest, and whether the
    #: network predicts its class; bool (n, 2), a block after another.
    right: list[np.ndarray] | None = None

    def merge(self, other: "Scatter") -> None:
        """Add that of other samples around the same means."""
        for field in fields(self):
            mine = getattr(self, field.name)
            if mine is not None:
                mine += getattr(other, field.name)


def _project(part: np.ndarray, basis: np.ndarray | None, out: np.ndarray | None) -> np.ndarray:
    """Coordinates (n, r) of samples (n, d) in a basis of :attr:`ClassMeans.frame`, in ``out`` if it
    is not None."""
    if basis is None:
        return part
    rows = SMALL_PRODUCT // max(basis.size, 1)
    if rows < 8:
        return np.matmul(part, basis, out=out)
    answer = np.empty((len(part), basis.shape[1])) if out is None else out
    for start in range(0, len(part), rows):
        np.matmul(part[start : start + rows], basis, out=answer[start : start + rows])
    return answer


class _SecondPass:
    """The work on a block. With z = U^T (h - mu_c) and the coordinates a_j of the centred means,

    t_j = z . a_j gives both what lies along the directions between means, t_j - t_i, and the
    nearest of them: ||h - mu_j||^2 = const - 2 (t_j + a_c . a_j - ||a_j||^2 / 2). Where other
    means than the samples' own are to be nearest, these have a basis of their own. The scatter is
    along the basis of ``own.frame``.

    The t_j are of the type ``products``, in which the most is multiplied; all else is in float64.
    Where float32 does not tell for certain which mean is nearest, the distances to those that it
    may be are taken in float64.
    """

    def __init__(
        self,
        own: ClassMeans,
        training: ClassMeans,
        parts: Collection[str] = PARTS,
        products: Products = "float64",
        each: bool = False,
    ) -> None:
        self.own, self.training, self.each = own, training, each
        self.basis, coordinates = own.frame
        self.rank = coordinates.shape[1]
        self.balanced = "balanced" in parts and not own.even
        self.directional, self.nearest = "directional" in parts, "nearest" in parts
        self.weights = 1 / np.sqrt(own.counts) if self.balanced else None
        self.training_basis, to = self.basis, coordinates
        if training is not own:
            self.training_basis, to = training.frame
        # (mu_c - mu_G) . m_j - ||m_j||^2 / 2, along the basis.
        projected = _project(own.means - training.global_mean, self.training_basis, None)
        self.dtype = np.dtype(products)
        self.offsets = np.empty((len(projected), len(to)), self.dtype)
        longest = np.empty(len(projected))
        # A matrix in float64 would take twice as much as the one in float32 that is kept.
        step = len(projected) if self.dtype == np.float64 else ROWS_OF_PRODUCTS
        for first in range(0, len(projected), step):
            rows = slice(first, first + step)
            offsets = projected[rows] @ to.T
            offsets -= np.vecdot(to, to) / 2
            longest[rows] = np.maximum(offsets.max(axis=1), -offsets.min(axis=1))
            self.offsets[rows] = offsets
        # The training class of each of the samples' own classes; -1 where it has none.
        place = np.searchsorted(training.classes, own.classes).clip(max=len(training.classes) - 1)
        found = training.classes[place] == own.classes
        self.own_in_training = np.where(found, place, -1)
        self.columns = self.to_columns = coordinates.astype(self.dtype, copy=False)
        if training is not own:
            self.to_columns = to.astype(self.dtype, copy=False)
        # What float32 may be off in two scores together: by the sample's class, and by the length
        # of its z.
        eps = np.finfo(self.dtype).eps
        self.offsets_error = 2 * eps * longest
        self.products_error = (to.shape[1] + 4) * eps * np.linalg.norm(to, axis=1).max()
        self.scratch = _Scratch()

    def __call__(
        self, features: np.ndarray, labels: np.ndarray, predictions: np.ndarray | None
    ) -> Scatter:
        n_classes, d = self.own.means.shape
        rows = np.searchsorted(self.own.classes, labels)
        squared_lengths = np.empty(len(rows))
        nearest = np.empty(len(rows), np.int64)
        scatter = np.zeros((self.rank, self.rank))
        balanced = np.zeros_like(scatter) if self.balanced else None
        directional = np.zeros((n_classes, n_classes)) if self.directional else None
        row_bytes = max(8 * d, 8 * max(n_classes, len(self.training.classes)))
        for piece in _pieces(features, rows, row_bytes, self.scratch, self.own.means):
            samples, part, of_samples = piece
            squared_lengths[samples] = np.vecdot(part, part)
            z = self._along(part, self.basis, "z")
            self._add_products(scatter, z)
            t = None
            if self.directional or (self.nearest and self.training is self.own):
                t = self._products(z, self.columns, "t")
            if self.nearest:
                nearest[samples] = self._nearest(piece, z, t)
            if self.directional:
                t -= t[np.arange(len(part)), of_samples][:, None]
                squares = t
                if t.dtype != np.float64:
                    squares = self.scratch.array("squares", *t.shape)
                piece.add_to(directional, np.square(t, out=squares))
            if self.balanced:
                # In place, where the part may stand: nothing else is asked of either.
                z *= self.weights[of_samples][:, None]
                self._add_products(balanced, z)

        def count(which: np.ndarray) -> np.ndarray:
            return np.bincount(rows[which], minlength=n_classes)

        predicted = agreeing = None
        if predictions is not None:
            predicted = count(predictions == labels)
            if self.nearest:
                agreeing = count(predictions == self.training.classes[nearest])
        right = None
        if self.each:
            told = np.zeros(len(rows), bool) if predictions is None else predictions == labels
            right = [np.column_stack([nearest == self.own_in_training[rows], told])]
        return Scatter(
            scatter,
            balanced,
            np.bincount(rows, squared_lengths, n_classes),
            np.bincount(rows, squared_lengths**2, n_classes),
            directional,
            count(nearest == self.own_in_training[rows]) if self.nearest else None,
            predicted,
            agreeing,
            right,
        )

    def _along(self, part: np.ndarray, basis: np.ndarray | None, name: str) -> np.ndarray:
        """:func:`_project` into the thread's memory of this name."""
        if basis is None:
            return part
        return _project(part, basis, self.scratch.array(name, len(part), basis.shape[1]))

    def _add_products(self, total: np.ndarray, z: np.ndarray) -> None:
        """Add z^T z of samples (n, r) to (r, r): its lower triangle alone where no study's bits
        depend on it, as the other half is copied number by number."""
        if self.dtype == np.float64:
            total += np.matmul(z.T, z, out=self.scratch.array("products", *total.shape))
        else:
            dsyrk(1.0, z.T, beta=1.0, c=total.T, overwrite_c=True)

    def _products(self, z: np.ndarray, columns: np.ndarray, name: str) -> np.ndarray:
        """Of samples (n, r) with means (C, r), (n, C), in the thread's memory of this name."""
        narrow = z
        if z.dtype != self.dtype:
            narrow = self.scratch.array("narrow", *z.shape, dtype=self.dtype)
            narrow[:] = z
        out = self.scratch.array(name, len(z), len(columns), dtype=self.dtype)
        return np.matmul(narrow, columns.T, out=out)

    def _nearest(self, piece: _Piece, z: np.ndarray, t: np.ndarray | None) -> np.ndarray:
        """The number of the nearest training mean of each sample, int (n,).

        Parameters
        ----------
        piece
            Samples around their own means.
        z
            Along the basis of these means.
        t
            Their products with the training means, where these are the samples' own.
        """
        part, rows = piece.features, piece.rows
        if self.training is not self.own:
            z = self._along(part, self.training_basis, "z of training")
            t = self._products(z, self.to_columns, "t of training")
        scores = self.scratch.array("scores", *t.shape, dtype=self.dtype)
        np.take(self.offsets, rows, axis=0, out=scores, mode="clip")
        scores += t
        nearest = scores.argmax(axis=1)
        if self.dtype == np.float64:
            return nearest
        every = np.arange(len(rows))
        best = scores[every, nearest]
        error = self.products_error * np.sqrt(np.vecdot(z, z)) + self.offsets_error[rows]
        scores[every, nearest] = -np.inf
        unsure = np.flatnonzero(best - scores.max(axis=1) <= error)
        scores[every, nearest] = best
        for i in unsure:
            candidates = np.flatnonzero(scores[i] >= best[i] - error[i])
            apart = part[i] + (self.own.means[rows[i]] - self.training.means[candidates])
            nearest[i] = candidates[np.vecdot(apart, apart).argmin()]
        return nearest


def scatter_around(
    own: ClassMeans,
    training: ClassMeans,
    stream: Stream,
    threads: int = 1,
    parts: Collection[str] = PARTS,
    products: Products = "float64",
    each: bool = False,
) -> Scatter:
    """The second pass.

    Parameters
    ----------
    own
        Means of the samples, of all shards of them.
    training
        Means of the training set, of which the nearest counts; ``own`` where the samples are it.
    parts
        Which of :data:`PARTS` are wanted.
    products
        The type of the products of samples with class means. With ``float32``, which takes half the
        time, ``directional`` is off by its rounding; all else is what ``float64`` gives, but for
        the order of sums. Where rounding would weigh more, because class means are nearer to each
        other than :data:`NEAR_MEANS` of the longest and ``directional`` is wanted, or because all
        are shorter than :data:`SMALLEST`, ``float64`` is taken nevertheless.
    each
        Whether to keep what is right of each sample.
    """
    if products == "float32" and not own.suit_float32("directional" in parts):
        products = "float64"
    blocks = map_blocks(_SecondPass(own, training, parts, products, each), stream, threads)
    total = next(blocks)
    for of_block in blocks:
        total.merge(of_block)
        del of_block
    if products != "float64":
        # :meth:`_SecondPass._add_products` leaves the upper triangle out.
        for triangle in (total.scatter, total.balanced):
            if triangle is not None:
                triangle += np.tril(triangle, -1).T
    return total


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is kept of the features h of one layer on one split.

    C classes are present, with n_c of the N samples and the mean mu_c; mu_G is the mean of all
    samples, mu_M that of the class means, whatever their sizes: the same for classes of one size.
    U (d, r) is an orthonormal basis of the span of the differences of class means,
    a_c = U^T (mu_c - mu_G), and m_c = mu_c - mu_M. None is what was not asked for
    (:data:`PARTS`), or cannot be told of samples that were read once.

    Attributes
    ----------
    classes : int64 (C,), the labels that are present, ascending
    counts : int64 (C,), n_c
    means : float64 (C, d), mu_c
    coordinates
        float64 (C, r), a_c; the columns are orthogonal, the longest first, and r is their numerical
        rank.
    scatter : float64 (r, r), sum of z z^T with z = U^T (h - mu_c)
    balanced : float64 (r, r), sum over the classes of the mean of z z^T over their samples
    squared : float64 (C,), sum of ||h - mu_c||^2 over the samples of class c
    fourth : float64 (C,), sum of ||h - mu_c||^4
    directional : float64 (C, C), [i, j]: sum over the samples of class i of (z . (a_j - a_i))^2
    norms : float64 (C,), sum of ||h||
    nearest
        int64 (C,), samples that are nearest to the mean of their own class; the means are those of
        the training set, on the test set too.
    predicted : int64 (C,), samples whose class the network predicts; None without predictions
    agreeing
        int64 (C,), samples of which the network predicts the class of the nearest training mean;
        None without predictions.
    head_weight, head_bias
        float64 (K, d) and (K,), the last layer of a network that tells the K classes of the data
        set, where the features are its input; else None.
    effective
        float64 (2,), where test samples come in groups:
        :func:`collapseflow.measures.intervals.effective_share` of what ``nearest`` and of what
        ``predicted`` counts; else None.
    """

    classes: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    coordinates: np.ndarray
    scatter: np.ndarray
    balanced: np.ndarray | None
    squared: np.ndarray
    fourth: np.ndarray | None
    directional: np.ndarray | None
    norms: np.ndarray
    nearest: np.ndarray | None
    predicted: np.ndarray | None = None
    agreeing: np.ndarray | None = None
    head_weight: np.ndarray | None = None
    head_bias: np.ndarray | None = None
    effective: np.ndarray | None = None

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.classes)

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.counts.sum())

    @property
    def n_features(self) -> int:
        """d."""
        return self.means.shape[1]

    @cached_property
    def global_mean(self) -> np.ndarray:
        """mu_G, float64 (d,)."""
        return self.counts @ self.means / self.counts.sum()

    @cached_property
    def centred(self) -> np.ndarray:
        """m_c = mu_c - mu_M, float64 (C, d); exactly 0 where it is 0 but for rounding."""
        return self._rounded(self.means - self.means.mean(axis=0))

    @cached_property
    def directions(self) -> np.ndarray:
        """U^T m_c, float64 (C, r): for lengths and angles of the m_c; 0 as there."""
        return self._rounded(self.coordinates - self.coordinates.mean(axis=0))

    @cached_property
    def weighted_centred(self) -> np.ndarray:
        """mu_c - mu_G, float64 (C, d); 0 as in :attr:`centred`."""
        return self._rounded(self.means - self.global_mean)

    @cached_property
    def weighted_directions(self) -> np.ndarray:
        """a_c, float64 (C, r): for lengths and angles of the mu_c - mu_G; 0 as there."""
        return self._rounded(self.coordinates)

    @cached_property
    def rounding(self) -> np.float64:
        """What is no longer than this is zero but for rounding."""
        return ROUNDING * np.linalg.norm(self.means, axis=1).max()

    def _rounded(self, vectors: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.where(lengths > self.rounding, vectors, 0)

    @property
    def variances(self) -> np.ndarray:
        """v_c, the mean of ||h - mu_c||^2 over class c, float64 (C,)."""
        return self.squared / self.counts

    @cached_property
    def distances(self) -> np.ndarray:
        """||mu_i - mu_j||^2 of the pairs i < j, float64 (C (C - 1) / 2,), in the order of
        :func:`numpy.triu_indices`; 0 where two means are equal but for rounding."""
        return self._rounded_distances(pdist(self.coordinates, "sqeuclidean"))

    def _rounded_distances(self, distances: np.ndarray) -> np.ndarray:
        distances[distances <= self.rounding**2] = 0
        return distances


class LoopStatistics(Statistics):
    """Those of vectors in a loop, whose :attr:`distances` are :func:`squared_distances`."""

    @cached_property
    def distances(self) -> np.ndarray:
        """||mu_i - mu_j||^2, as :attr:`Statistics.distances` to 12 digits."""
        return self._rounded_distances(squared_distances(self.coordinates))


def reduce_stream(
    stream: Stream,
    threads: int = 1,
    training: ClassMeans | None = None,
    head: Head | None = None,
    parts: Collection[str] = PARTS,
    products: Products = "float64",
    groups: np.ndarray | None = None,
) -> tuple[Statistics, ClassMeans]:
    """Both passes over features.

    Parameters
    ----------
    training
        Means of the training set; None where the samples are it.
    head
        Weight (K, d) and bias (K,) of the last layer, if the features are its input.
    parts, products
        As of :func:`scatter_around`; with ``float32`` the distances between class means are those
        of :class:`LoopStatistics`.
    groups
        Of all samples, int64 (N,), where these come in groups.

    Returns
    -------
    The statistics, and the means of the classes, for a test set.

    Raises
    ------
    NotFiniteError
        If a feature is not finite.
    """
    own = sum_classes(stream, threads).means()
    nearest = own if training is None else training
    found = scatter_around(own, nearest, stream, threads, parts, products, groups is not None)
    kind = LoopStatistics if products == "float32" else Statistics
    return statistics_of(own, found, head, groups, kind), own


def statistics_of(
    own: ClassMeans,
    found: Scatter,
    head: Head | None = None,
    groups: np.ndarray | None = None,
    kind: type[Statistics] = Statistics,
) -> Statistics:
    """What is kept of samples with these means, of which all shards have been merged."""
    if own.even:
        found.balanced = found.scatter / own.counts[0]
    if own.frame[0] is None:
        basis, _ = own.span
        found.scatter, found.balanced = (
            None if part is None else basis @ part @ basis.T
            for part in (found.scatter, found.balanced)
        )
    effective = None
    if groups is not None:
        answers = np.concatenate(found.right).T
        effective = np.array([effective_share(groups, right) for right in answers])
    weight, bias = (None, None) if head is None else (part.astype(np.float64) for part in head)
    return kind(
        classes=own.classes,
        counts=own.counts,
        means=own.means,
        coordinates=own.span[1],
        norms=own.norms,
        **{name: value for name, value in vars(found).items() if name != "right"},
        head_weight=weight,
        head_bias=bias,
        effective=effective,
    )


def matched_rows(training: np.ndarray, test: np.ndarray) -> np.ndarray:
    """A sample of the training images, of each class as many as the test images have, or all where
    there are fewer: rows, ascending.

    It depends on the labels (N,) and (M,) alone: the same images for all states of a data set.
    """
    rows = []
    for label in np.intersect1d(training, test):
        mine = np.flatnonzero(training == label)
        n = min(len(mine), np.count_nonzero(test == label))
        rows.append(np.random.default_rng(int(label)).choice(mine, n, replace=False))
    return np.sort(np.concatenate([*rows, np.array([], np.int64)]))


def _iterate_marked(
    path: str | Path, by: Labels, rows: np.ndarray, buffers: int
) -> Iterator[tuple]:
    """The blocks of a store, each with which of its samples are among the rows, ascending."""
    start = 0
    for block in iterate(path, buffers, by):
        stop = start + len(block[1])
        first, last = np.searchsorted(rows, (start, stop))
        yield *block, rows[first:last] - start
        start = stop


def _of_both(whole: Callable[..., Answer], part: Callable[..., Answer]) -> Callable[..., tuple]:
    """A function of a marked block: one answer for all samples, one for those that are marked."""

    def answers(
        features: np.ndarray,
        labels: np.ndarray,
        predictions: np.ndarray | None,
        marked: np.ndarray,
    ) -> tuple[Answer, Answer]:
        of_marked = None if predictions is None else predictions[marked]
        return (
            whole(features, labels, predictions),
            part(features[marked], labels[marked], of_marked),
        )

    return answers


def _reduce_with_part(
    path: str | Path, by: Labels, rows: np.ndarray, threads: int
) -> tuple[Statistics, Statistics, ClassMeans]:
    """The statistics of a training set and of some rows of it, from two readings for both, and the
    means of the former."""
    stream = partial(_iterate_marked, path, by, rows)
    sums, of_rows = ClassSums(), ClassSums()
    for one, other in map_blocks(_of_both(_FirstPass(), _FirstPass()), stream, threads):
        sums.merge(one)
        of_rows.merge(other)
    own, own_of_rows = sums.means(), of_rows.means()
    passes = _of_both(_SecondPass(own, own), _SecondPass(own_of_rows, own))
    blocks = map_blocks(passes, stream, threads)
    total, total_of_rows = next(blocks)
    for one, other in blocks:
        total.merge(one)
        total_of_rows.merge(other)
        # Not kept while the next ones, which may be large, are made.
        del one, other
    head = read_head(path)
    whole, part = statistics_of(own, total, head), statistics_of(own_of_rows, total_of_rows, head)
    return whole, part, own


def reduce_stores(stores: Mapping[str, str | Path], threads: int = 1) -> dict[str, Statistics]:
    """The statistics of one layer on each split, and on the training images that
    :func:`matched_rows` draws.

    Each has class means of its own; the means of which the nearest counts are those of all training
    images everywhere, by the labels that were trained on. Where some of these were replaced,
    :data:`TRUE` and :data:`TRUE_MATCHED` are of the training images by their true labels, and the
    nearest of their means counts there.

    Parameters
    ----------
    stores
        Feature stores: ``train`` and, if it is wanted, ``test``, with which :data:`MATCHED` comes.

    Raises
    ------
    UserError
        If a store is missing or damaged, holds features that are not finite, or shares no class
        with the other.
    """
    train, test = stores["train"], stores.get("test")
    true = read_true_labels(train)
    if test is None:
        found = {"train": _reduce_store(train, threads)[0]}
        if true is not None:
            found[TRUE], _ = _reduce_store(train, threads, by="true_labels")
        return found
    labels = read_labels(train)
    of_train, matched, means = _reduce_training(train, test, "labels", labels, threads)
    of_test, _ = _reduce_store(test, threads, means, groups=read_groups(test))
    found = {"train": of_train, "test": of_test, MATCHED: matched}
    if true is not None:
        truly = _reduce_training(train, test, "true_labels", true, threads)
        found |= zip(TRUE_SPLITS, truly[:2], strict=True)
    return found


def _reduce_training(
    train: str | Path, test: str | Path, by: Labels, labels: np.ndarray, threads: int
) -> tuple[Statistics, Statistics, ClassMeans]:
    """The statistics of the training images by some labels, those of the ones among them that
    :func:`matched_rows` draws, and the means of the former."""
    rows = matched_rows(labels, read_labels(test))
    if not len(rows):
        raise UserError(f"{train}: shares no class with {test}")
    if len(rows) == len(labels):
        whole, means = _reduce_store(train, threads, by=by)
        return whole, whole, means
    with _named(train):
        return _reduce_with_part(train, by, rows, threads)


def _reduce_store(
    path: str | Path,
    threads: int,
    training: ClassMeans | None = None,
    by: Labels = "labels",
    groups: np.ndarray | None = None,
) -> tuple[Statistics, ClassMeans]:
    with _named(path):
        stream = partial(iterate, path, by=by)
        return reduce_stream(stream, threads, training, read_head(path), groups=groups)


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Say in which store features are not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise UserError(f"{path}: {error}; {remedy(path)}") from None


# --- files ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StateStatistics:
    """What a file of statistics holds of a state: of a network after an epoch, or of raw pixels.

    Attributes
    ----------
    failed : why there are none, or None
    layers : by layer and split; the layer of what no network made is ``""``
    made_with : the versions of the libraries behind them
    """

    failed: str | None
    layers: dict[str, dict[str, Statistics]]
    made_with: list[str]


def write_statistics(
    path: str | Path,
    layers: Mapping[str, Mapping[str, Statistics]],
    versions: Iterable[str],
) -> None:
    """Write the statistics of a state, with their checksums.

    The ``.npz`` holds ``layers``, their names; for the layer with the number i and each of its
    splits an array ``i/split/attribute`` for each attribute of :class:`Statistics` that is not
    None; and ``made_with``.

    Parameters
    ----------
    versions
        Those behind the features (:func:`collapseflow.running.files.made_with`).
    """
    arrays = {
        f"{number}/{split}/{field.name}": getattr(statistics, field.name)
        for number, splits in enumerate(layers.values())
        for split, statistics in splits.items()
        for field in fields(statistics)
        if getattr(statistics, field.name) is not None
    }
    _write(path, arrays | {"layers": np.array(list(layers), np.str_)}, versions)


def write_failed_statistics(path: str | Path, reason: str) -> None:
    """Write, in place of what :func:`write_statistics` writes, no layers and, as ``failed``, why
    there are none."""
    _write(path, {"layers": np.array([], np.str_), "failed": np.array(reason)}, [])


def _write(path: str | Path, arrays: Mapping[str, np.ndarray], versions: Iterable[str]) -> None:
    with checked_path(path) as temporary:
        np.savez(temporary, **arrays, **{MADE_WITH: np.array(made_with(versions))})


def read_statistics(path: str | Path) -> StateStatistics:
    """Read what :func:`write_statistics` or :func:`write_failed_statistics` wrote.

    Raises
    ------
    UserError
        Naming the file, if it is missing, damaged or none of these.
    """
    needed = {field.name for field in fields(Statistics) if field.default is MISSING}
    arrays = read_arrays(path)
    with readable(path):
        names = arrays["layers"].tolist()
        values: dict[str, dict[str, dict]] = {name: {} for name in names}
        for key in sorted(arrays):
            number, *rest = key.split("/")
            if rest:
                split, attribute = rest
                values[names[int(number)]].setdefault(split, {})[attribute] = arrays[key]
        of_all = (of_split for splits in values.values() for of_split in splits.values())
        if missing := needed - set.intersection(needed, *map(set, of_all)):
            raise ValueError(f"of another version, without {', '.join(sorted(missing))}")
        return StateStatistics(
            str(arrays["failed"]) if "failed" in arrays else None,
            {
                layer: {split: Statistics(**of_split) for split, of_split in splits.items()}
                for layer, splits in values.items()
            },
            arrays[MADE_WITH].tolist(),
        )
