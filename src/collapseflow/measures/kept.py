"""Labelled vectors that come batch by batch, kept in the type they come in, to be read again.

They stand in blocks: in memory up to a limit, and beyond it in a temporary file without a name,
which is gone when it is closed or the process ends.
"""

import os
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from collapseflow.features.stores import Block

#: Bytes of the features of a block; several are in use at a time, beside those that are kept.
BLOCK_BYTES = 2 * 2**20
#: bfloat16, which NumPy does not know, is held as its bits: vectors are never whole numbers.
BFLOAT16 = np.dtype(np.uint16)


def widened(features: np.ndarray) -> np.ndarray:
    """Features as numbers that NumPy knows: bits of bfloat16 as float32, all others as they are."""
    if features.dtype != BFLOAT16:
        return features
    return (features.astype(np.uint32) << 16).view(np.float32)


class _Written(NamedTuple):
    """Where a block stands in the file: at a byte, so many rows of d values of a type."""

    place: int
    shape: tuple[int, int]
    dtype: np.dtype


class KeptVectors:
    """Batches of features, labels and predictions, in their order.

    Parameters
    ----------
    memory
        Bytes of features that are kept in memory.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._blocks: list[np.ndarray | _Written] = []
        self._filling: np.ndarray | None = None
        self._filled = self._in_memory = self._in_file = 0
        self._file = None
        #: Whether no feature has had more digits than float32.
        self.narrow = True
        self._labels: list[np.ndarray] = []
        self._predictions: list[np.ndarray] = []

    def add(self, features: np.ndarray, labels: np.ndarray, predictions: np.ndarray | None) -> None:
        """The next batch; its features (n, d) are copied, labels and predictions are not.

        Raises
        ------
        OSError
            If the temporary file cannot be written.
        """
        self._labels.append(labels)
        self.narrow &= features.itemsize <= 4
        if predictions is not None:
            self._predictions.append(predictions)
        while len(features):
            full = self._filling is None or self._filled == len(self._filling)
            if full or self._filling.dtype != features.dtype:
                self._begin(features)
            end = self._filled + len(features)
            place = self._filling[self._filled : end]
            place[:] = features[: len(place)]
            self._filled += len(place)
            features = features[len(place) :]

    def _begin(self, features: np.ndarray) -> None:
        """A new block for features (n, d) of a type."""
        written = False
        if self._filling is not None:
            block = self._filling[: self._filled]
            written = self._in_memory + block.nbytes > self._memory
            if written:
                self._blocks.append(self._write(block))
            else:
                self._blocks.append(block)
                self._in_memory += block.nbytes
        if not written or self._filling.dtype != features.dtype:
            rows = max(1, BLOCK_BYTES // (features.itemsize * features.shape[1]))
            self._filling = np.empty((rows, features.shape[1]), features.dtype)
        self._filled = 0

    def _write(self, block: np.ndarray) -> _Written:
        try:
            if self._file is None:
                # Open until close().
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            left = memoryview(block).cast("B")
            while len(left):
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(
                f"{tempfile.gettempdir()}: features beyond {self._memory / 2**20:.0f} MiB cannot "
                f"be kept there ({error.strerror}): make room, set TMPDIR or raise memory"
            ) from None
        place = self._in_file
        self._in_file += block.nbytes
        return _Written(place, block.shape, block.dtype)

    def _read(self, block: _Written) -> np.ndarray:
        features = np.empty(block.shape, block.dtype)
        left, place = memoryview(features).cast("B"), block.place
        while len(left):
            n_bytes = os.preadv(self._file.fileno(), [left], place)
            left, place = left[n_bytes:], place + n_bytes
        return features

    def blocks(self, in_use: int) -> Iterator[Block]:
        """Everything: features (n, d), labels int64 (n,), and predictions int64 (n,) or None.

        A :data:`~collapseflow.measures.statistics.Stream`; as many blocks as one likes may be in
        use at a time.
        """
        start = 0
        labels = np.concatenate(self._labels)
        predictions = np.concatenate(self._predictions) if self._predictions else None
        for block in [*self._blocks, self._filling[: self._filled]]:
            features = self._read(block) if isinstance(block, _Written) else block
            rows = slice(start, start + len(features))
            start = rows.stop
            yield (
                widened(features),
                labels[rows].astype(np.int64),
                None if predictions is None else predictions[rows].astype(np.int64),
            )

    def close(self) -> None:
        """Delete the temporary file."""
        if self._file is not None:
            self._file.close()
