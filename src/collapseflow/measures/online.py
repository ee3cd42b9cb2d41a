"""The measures of collapse inside one's own training loop, from vectors that come batch by batch.

What a study computes from stored features, :class:`Collapse` computes from those of a loop, with
the same functions. PyTorch is not imported here: tensors are asked for their numbers, and whether
several processes train together is asked only of a PyTorch that the process has loaded.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from collapseflow.features.stores import Block, Head
from collapseflow.measures.collapse import MEASURES, PART_OF, require_apart
from collapseflow.measures.definitions import PRESETS
from collapseflow.measures.kept import BFLOAT16, KeptVectors, widened
from collapseflow.measures.moments import ClassMoments
from collapseflow.measures.statistics import (
    ClassMeans,
    ClassSums,
    LoopStatistics,
    Products,
    Statistics,
    scatter_around,
    statistics_of,
    sum_classes,
)
from collapseflow.running.errors import instead
from collapseflow.running.threads import blas_threads

#: So many rows are named that hold what is not finite.
ROWS_NAMED = 5
Answer = TypeVar("Answer")


class Collapse:
    """Every measure of neural collapse of the vectors of one layer, as measures.csv names them.

    The measures are taken around class means, which are known when all vectors have been seen; so
    vectors are kept. There are two ways.

    ``keep="features"``
        All measures. The vectors stay in the type they come in: n d values, in memory up to
        ``memory`` bytes and beyond that in a temporary file. :meth:`compute` reads them twice.
    ``keep="moments"``
        A float64 matrix (d, d) for each class, 8 C d^2 bytes however many vectors come, which is
        less where a class has more than 2 d vectors of float32. :meth:`update` multiplies,
        2 n d^2 operations, and :meth:`compute` reads nothing. There are no ``nc4`` and
        ``accuracy_nearest_mean``, for which each vector is compared with the class means.

    Most of the time of many classes goes into the products of vectors with class means, for
    ``directional_cdnv``, ``nc4`` and ``accuracy_nearest_mean``. They are in float32 where no vector
    has more digits, which takes half the time: ``directional_cdnv`` is off by less than 1e-6 of
    itself, all other values are the same to 12 digits. Every sum is in float64. What ``measures``
    leaves out is not computed.

    Where several processes of ``torch.distributed`` have vectors, all of them call :meth:`compute`,
    which is of those of all of them, the same in each.

    Parameters
    ----------
    n_classes
        Labels are from 0 to ``n_classes - 1``; a class without vectors is left out.
    definitions
        None: all measures, as ``docs/collapse.md`` defines them. Or a name of
        :data:`collapseflow.measures.definitions.PRESETS`, such as ``"papyan2020"``: the measures
        that this paper, report or code has, as it defines them.
    keep
        What is kept, as above.
    memory
        Bytes: of ``"features"`` that are kept in memory, and of ``"moments"`` at most.
    measures
        Names of those that are wanted; None wants all.
    products
        The type of the products with class means; None: as said above. A study has float64.
    threads
        That :meth:`compute` works on; None takes all cores. They change no bit of a value.

    Attributes
    ----------
    n_samples
        How many vectors, of all processes, the last :meth:`compute` was of; None before it.

    Raises
    ------
    ValueError
        If an argument has none of these values.
    """

    def __init__(
        self,
        n_classes: int,
        definitions: str | None = None,
        keep: Literal["features", "moments"] = "features",
        memory: int = 2**30,
        measures: Collection[str] | None = None,
        products: Products | None = None,
        threads: int | None = None,
    ) -> None:
        if n_classes < 2:
            raise ValueError(f"n_classes: {n_classes}; at least two classes are needed")
        _require("keep", keep, ("features", "moments"))
        if products is not None:
            _require("products", products, get_args(Products))
        functions: Mapping[str, Callable[[Statistics], float | None]] = MEASURES
        if definitions is not None:
            _require("definitions", definitions, PRESETS)
            functions = {name: one.function for name, one in PRESETS[definitions].items()}
        for name in functions if measures is None else measures:
            _require("measures", name, functions)
        self._functions = {
            name: function
            for name, function in functions.items()
            if measures is None or name in measures
        }
        self.n_classes, self.keep, self.products = n_classes, keep, products
        self.memory, self.threads = memory, threads or _cores()
        self._kept: KeptVectors | ClassMoments | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all vectors."""
        if isinstance(self._kept, KeptVectors):
            self._kept.close()
        self._kept = KeptVectors(self.memory) if self.keep == "features" else ClassMoments()
        self._n, self._d, self._with_logits = 0, None, None
        self.n_samples: int | None = None

    def update(self, features: Any, labels: Any, logits: Any = None) -> None:
        """Take the vectors of a batch.

        Parameters
        ----------
        features
            (n, d), a tensor of PyTorch on any device or an array, of any type of numbers.
        labels
            Whole numbers (n,).
        logits
            (n, n_classes), the network's outputs, whose largest is its prediction: for
            ``accuracy`` and ``nc4``. Always or never.

        Raises
        ------
        ValueError
            If shapes, labels or logits are not as said here or as those before, or a vector is not
            finite. Then nothing of the batch has been taken.
        OSError
            If the temporary file cannot be written.
        """
        vectors, targets, scores = _numbers(features), _plain(labels), None
        self._check_vectors(vectors)
        self._check_labels(targets, len(vectors))
        predictions = None
        if logits is not None:
            scores = widened(_numbers(logits))
            if scores.shape != (len(vectors), self.n_classes):
                raise ValueError(
                    f"logits of shape {scores.shape} for {len(vectors)} vectors and "
                    f"{self.n_classes} classes: ({len(vectors)}, {self.n_classes}) are needed"
                )
            _require_finite(scores, "logits")
            predictions = scores.argmax(axis=1)
        if not len(vectors):
            return
        if self._with_logits not in (None, logits is not None):
            raise ValueError("logits come with some batches and not with others: always or never")
        self._with_logits, self._d = logits is not None, vectors.shape[1]
        self._n += len(vectors)
        if self.keep == "moments":
            self._kept.add(widened(vectors), targets, predictions)
            return
        smallest = np.min_scalar_type(self.n_classes - 1)
        targets = targets.astype(smallest)
        self._kept.add(vectors, targets, None if logits is None else predictions.astype(smallest))

    def _check_vectors(self, vectors: np.ndarray) -> None:
        if vectors.ndim != 2:
            raise ValueError(f"features of shape {vectors.shape}: (n, d) is needed, a vector a row")
        d = vectors.shape[1]
        if self._d not in (None, d):
            raise ValueError(f"vectors of {d} values after vectors of {self._d}")
        needed = 8 * self.n_classes * d**2
        if self.keep == "moments" and needed > self.memory:
            raise ValueError(
                f"moments of {self.n_classes} classes of {d} values take {needed / 2**20:.0f} MiB, "
                f"and memory allows {self.memory / 2**20:.0f}: raise it, or keep='features'"
            )
        _require_finite(vectors, "features")

    def _check_labels(self, labels: np.ndarray, n: int) -> None:
        if labels.shape != (n,):
            raise ValueError(f"{n} vectors and labels of shape {labels.shape}: ({n},) is needed")
        if n and labels.dtype.kind not in "iu":
            raise ValueError(f"labels of type {labels.dtype}: whole numbers are needed")
        wrong = np.flatnonzero((labels < 0) | (labels >= self.n_classes))
        if len(wrong):
            raise ValueError(
                f"the label {labels[wrong[0]]} in row {wrong[0]}: n_classes = {self.n_classes} "
                f"allows 0 to {self.n_classes - 1}"
            )

    def compute(self, head: Any = None, training: "Collapse | None" = None) -> dict[str, float]:
        """The measures of all vectors since the last :meth:`reset`, which stay.

        Parameters
        ----------
        head
            The layer whose input the features are: an ``nn.Linear``, or its weight (n_classes, d)
            and bias (n_classes,) or None. Without it the measures of W are left out.
        training
            Of the training images, where these are test images: its class means are those of which
            the nearest counts, as in a study. None: the vectors' own.

        Returns
        -------
        By name; what has no value is left out.

        Raises
        ------
        ValueError
            Without vectors; of fewer than two classes, or if all class means coincide; of a head
            or training images of other vectors or classes; if processes do not belong together.
        """
        statistics = self.statistics(head, training)
        self.n_samples = statistics.n_samples
        require_apart(statistics)
        with blas_threads(1), ThreadPoolExecutor(self.threads) as pool:
            values = pool.map(lambda function: function(statistics), self._functions.values())
            found = dict(zip(self._functions, values, strict=True))
        return {name: value for name, value in found.items() if value is not None}

    def statistics(self, head: Any = None, training: "Collapse | None" = None) -> Statistics:
        """What the functions of :mod:`collapseflow.measures.collapse` make the measures that are
        wanted of; arguments and errors as of :meth:`compute`."""
        sums, narrow = self._merged()
        own = sums.means()
        weights = None if head is None else layer(head, self.n_classes, own.means.shape[1])
        if isinstance(sums, ClassMoments):
            if training is not None:
                raise ValueError("training: of moments no nearest class mean can be told")
            return statistics_of(own, sums.scatter(own), weights, LoopStatistics)
        # They take as much memory as the means, and are not asked any more.
        del sums
        nearest = own
        if training is not None:
            nearest = training.class_means()
            theirs, ours = nearest.means.shape[1], own.means.shape[1]
            if (training.n_classes, theirs) != (self.n_classes, ours):
                raise ValueError(
                    f"training: {training.n_classes} classes and vectors of {theirs} values; here "
                    f"they are {self.n_classes} and {ours}"
                )
        found = None
        if self._n:
            products = self.products or ("float32" if narrow else "float64")
            parts = {PART_OF[name] for name in self._functions if name in PART_OF}
            found = scatter_around(own, nearest, self._kept.blocks, self.threads, parts, products)
        total, *others = (part for part in _gathered(found) if part is not None)
        for other in others:
            total.merge(other)
        return statistics_of(own, total, weights, LoopStatistics)

    def class_means(self) -> ClassMeans:
        """The mean of each class; errors as of :meth:`compute`."""
        sums, _ = self._merged()
        return sums.means()

    def _merged(self) -> tuple[ClassSums | ClassMoments, bool]:
        """Sums of the vectors of all processes, and whether float32 holds all that are kept."""
        kept, narrow = self._kept, True
        if isinstance(kept, KeptVectors):
            narrow = kept.narrow
            kept = sum_classes(kept.blocks, self.threads) if self._n else ClassSums()
        shape = {"n_classes": self.n_classes, "keep": self.keep}
        if self._n:
            shape |= {"d": self._d, "logits": self._with_logits}
        shards = _gathered((shape, narrow, kept))
        known: dict[str, Any] = {}
        for number, (other, *_) in enumerate(shards):
            for key, value in other.items():
                if known.setdefault(key, value) != value:
                    raise ValueError(
                        f"processes that do not belong together: {key} is {known[key]}, and "
                        f"{value} in process {number}"
                    )
        if "d" not in known:
            raise ValueError("compute before update: there are no vectors yet")
        total, *others = (sums for *_, sums in shards)
        for other in others:
            total.merge(other)
        if len(total.by_label) < 2:
            raise ValueError(
                f"all vectors are of the class {next(iter(total.by_label))}: the measures of "
                "collapse need at least two"
            )
        return total, all(narrow for _, narrow, _ in shards)

    def vectors(self) -> Iterator[Block]:
        """All vectors since the last :meth:`reset`: features (n, d), labels int64 (n,) and
        predictions int64 (n,) or None, some at a time; of all processes, which all ask for them.

        Raises
        ------
        ValueError
            If moments are kept.
        """
        if self.keep == "moments":
            raise ValueError("keep='moments': there are no vectors; keep='features' keeps them")
        blocks = self._kept.blocks(1) if self._n else iter(())
        while any(found := _gathered(next(blocks, None))):
            yield from (block for block in found if block is not None)


def layer(head: Any, n_classes: int, d: int) -> Head:
    """Weight float64 (n_classes, d) and bias float64 (n_classes,) of a last layer, as
    :meth:`Collapse.compute` takes it.

    Raises
    ------
    ValueError
        If they are of other shapes.
    """
    weight, bias = head if isinstance(head, tuple | list) else (head.weight, head.bias)
    weight = widened(_numbers(weight)).astype(np.float64)
    bias = np.zeros(len(weight)) if bias is None else widened(_numbers(bias)).astype(np.float64)
    if weight.shape != (n_classes, d) or bias.shape != (n_classes,):
        raise ValueError(
            f"a head with a weight of shape {weight.shape} and a bias of {bias.shape} for "
            f"{n_classes} classes and vectors of {d} values"
        )
    return weight, bias


def is_first() -> bool:
    """Whether this process writes what all of ``torch.distributed`` have found."""
    distributed = _distributed()
    return distributed is None or distributed.get_rank() == 0


def _require(key: str, value: object, known: Collection[str]) -> None:
    """Refuse a value of an argument that is not known."""
    if value not in known:
        raise ValueError(f"{key}: {value!r} is unknown; {instead(value, known)}")


def _plain(values: Any) -> np.ndarray:
    """A tensor on any device, or what :func:`numpy.asarray` takes, as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values)


def _numbers(values: Any) -> np.ndarray:
    """The same of floats: bfloat16 as its bits, whole numbers as float64."""
    if str(getattr(values, "dtype", "")) == "torch.bfloat16":
        import torch

        return _plain(values.detach().view(torch.int16)).view(BFLOAT16)
    array = _plain(values)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _require_finite(values: np.ndarray, what: str) -> None:
    """Of (n, d) values."""
    finite = np.isfinite(widened(values))
    if finite.all():
        return
    rows = np.flatnonzero(~finite.all(axis=1))
    named = ", ".join(map(str, rows[:ROWS_NAMED].tolist()))
    if len(rows) > ROWS_NAMED:
        named += f" and {len(rows) - ROWS_NAMED} more"
    plural = "s" if len(rows) > 1 else ""
    raise ValueError(
        f"the {what} of row{plural} {named} of {len(values)} are not finite: nothing of the batch "
        "has been taken"
    )


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _distributed() -> Any:
    """``torch.distributed`` where several processes work together, else None."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def _gathered(mine: Answer) -> list[Answer]:
    """What each process of ``torch.distributed`` has, in their order; mine alone without others."""
    distributed = _distributed()
    if distributed is None:
        return [mine]
    found: list[Answer] = [mine] * distributed.get_world_size()
    distributed.all_gather_object(found, mine)
    return found
