"""Batches of a data set's images on the device that computes, in any order."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from collapseflow.running.hardware import (
    call_again,
    free_memory,
    is_out_of_memory,
    memory_left,
)
from collapseflow.running.jobs import progress

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Images:
    """A data set's images, of which batches are given on a device.

    They lie on the device as a whole where they take at most half of the memory that is left
    there: the network needs the rest. Else they stay in the host's memory, and each batch is
    gathered there and copied while the device computes with the one before. Either way the batches
    are the same.

    Parameters
    ----------
    images : uint8 array (N, H, W) or (N, H, W, 3)
    """

    def __init__(self, images: np.ndarray, device: torch.device):
        self._images = torch.from_numpy(images)
        self._device = device
        self._are_there = images.nbytes <= memory_left(device) / 2
        if not self._are_there:
            return
        try:
            self._images = self._images.to(device)
        except Exception as error:
            # There is as much, but not in one piece, or another process was faster.
            if not is_out_of_memory(error):
                raise
            self._are_there = False
            free_memory()

    def batches(self, parts: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The images of each part, in order.

        Parameters
        ----------
        parts
            The numbers of each part's images, int64 (n,), in the host's memory.

        Yields
        ------
        the numbers, int64 (n,), and their images, uint8 (n, H, W) or (n, H, W, 3), both on the
        device; the images are valid until the next ones are asked for
        """
        if not parts:
            return
        # All at once: to send the numbers of each part would make the host wait for the card.
        rows = torch.cat(list(parts)).to(self._device).split([len(part) for part in parts])
        if self._are_there:
            yield from ((numbers, self._images[numbers]) for numbers in rows)
        else:
            yield from zip(rows, self._copied_ahead(parts), strict=True)

    def _copied_ahead(self, parts: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        shape = (max(map(len, parts)), *self._images.shape[1:])
        room = _RoomOnCard if self._device.type == "cuda" else _Room
        rooms = [room(shape, self._device) for _ in range(2)]
        rooms[0].fill(self._images, parts[0])
        for number, part in enumerate(parts):
            now, other = rooms[number % 2], rooms[(number + 1) % 2]
            if number + 1 < len(parts):
                other.fill(self._images, parts[number + 1])
            yield now.content(len(part))
            now.done()


class _Room:
    """Where a batch arrives; on a device that has no memory of its own it is only gathered."""

    def __init__(self, shape: Sequence[int], device: torch.device):
        self._batch = torch.empty(shape, dtype=torch.uint8, device=device)

    def fill(self, images: torch.Tensor, rows: torch.Tensor) -> None:
        """Take other images, in the host's memory, when the ones before are no longer needed."""
        torch.index_select(images, 0, rows, out=self._batch[: len(rows)])

    def content(self, n: int) -> torch.Tensor:
        """The first n images, uint8 (n, ...), when they have arrived."""
        return self._batch[:n]

    def done(self) -> None:
        """From here on the device needs the content no more."""


class _RoomOnCard(_Room):
    """Room for a batch on a card, and pinned memory in which it is gathered for the way there.

    It is copied on a stream of its own, beside what the card computes, and only the stream that
    computes waits for it. The host waits for nothing but the copy of the batch before in the same
    room: it is gathered over it.
    """

    def __init__(self, shape: Sequence[int], device: torch.device):
        super().__init__(shape, device)
        self._gathered = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        self._stream = torch.cuda.Stream(device)
        # Freed, also after an exception, the memory is not given away while a copy writes to it.
        self._batch.record_stream(self._stream)
        self._copied, self._needed_no_more = torch.cuda.Event(), torch.cuda.Event()
        # What computes now may still use the memory that the allocator has given away again.
        self.done()

    def fill(self, images: torch.Tensor, rows: torch.Tensor) -> None:
        self._copied.synchronize()
        gathered = self._gathered[: len(rows)]
        torch.index_select(images, 0, rows, out=gathered)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._needed_no_more)
            self._batch[: len(rows)].copy_(gathered, non_blocking=True)
            self._copied.record(self._stream)

    def content(self, n: int) -> torch.Tensor:
        torch.cuda.current_stream().wait_event(self._copied)
        return super().content(n)

    def done(self) -> None:
        self._needed_no_more.record(torch.cuda.current_stream())


def filled_up(batch: torch.Tensor, size: int) -> torch.Tensor:
    """A batch with its last row repeated up to ``size`` rows on a card; on a CPU the batch itself.

    cuDNN tries its ways anew for each size of a batch
    (:func:`collapseflow.running.hardware.use_card`), which costs more than to compute with some
    rows too many.
    """
    if not is_tuned_by_size(batch.device) or len(batch) == size:
        return batch
    return torch.cat([batch, batch[-1:].expand(size - len(batch), *batch.shape[1:])])


def is_tuned_by_size(device: torch.device) -> bool:
    """Whether a device pays for each new size of a batch."""
    return device.type == "cuda"


def in_batches(
    function: Callable[[torch.Tensor, int], Result],
    images: np.ndarray,
    device: torch.device,
    batch_size: int,
    what: str,
) -> Iterator[Result]:
    """What a function gives of images, a batch at a time. One that does not fit into memory is
    halved, and so are those behind it.

    Parameters
    ----------
    function
        Of a batch, uint8 (n, H, W) or (n, H, W, 3) on the device, and how many of its first rows
        count: the others are repeated (:func:`filled_up`).
    images : uint8 array (N, H, W) or (N, H, W, 3)
    what
        For the log.
    """
    parts = torch.arange(len(images)).split(batch_size)
    batches = Images(images, device).batches(parts)
    attempt = function
    for _, batch in progress(batches, len(parts), what):
        while True:
            try:
                results = [
                    attempt(filled_up(part, batch_size), len(part))
                    for part in batch.split(batch_size)
                ]
                break
            except Exception as error:
                if not is_out_of_memory(error) or batch_size == 1:
                    raise
            batch_size = -(-batch_size // 2)
            attempt = call_again(function, device)
            free_memory()
            logger.warning("%s: out of memory; %d images at a time now", what, batch_size)
        yield from results
