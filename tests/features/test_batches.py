"""Batches on a device: the same from its own memory and from the host's, whenever a card copies."""

import random
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from collapseflow.features import batches
from collapseflow.features.batches import Images, filled_up, in_batches
from collapseflow.running.hardware import memory_left

CPU = torch.device("cpu")
#: As the shares of batches are: of several sizes, in any order.
SIZES = (4, 4, 3, 5, 1, 5, 2)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (50, 4, 3, 3), dtype=np.uint8)


def parts_of(seed, n=50):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return list(order[: sum(SIZES)].split(SIZES))


def leave(monkeypatch, n_bytes):
    """Let a device have so much memory left."""
    monkeypatch.setattr(batches, "memory_left", lambda device: n_bytes)


@pytest.mark.parametrize("share", [0, 1.99, 2, float("inf")])
def test_batches_are_the_same_wherever_the_images_are(images, monkeypatch, share):
    leave(monkeypatch, share * images.nbytes)
    index_select, gathered = torch.index_select, []

    def count(*arguments, **options):
        gathered.append(arguments)
        return index_select(*arguments, **options)

    monkeypatch.setattr(torch, "index_select", count)
    parts = parts_of(seed=1)
    given = [(rows, batch.clone()) for rows, batch in Images(images, CPU).batches(parts)]
    for part, (rows, batch) in zip(parts, given, strict=True):
        assert torch.equal(rows, part)
        assert np.array_equal(batch.numpy(), images[part.numpy()])
    # More than half of what is left is too much.
    assert bool(gathered) is (share < 2)


def test_no_parts_are_no_batches(images, monkeypatch):
    for n_bytes in (0, 2**40):
        leave(monkeypatch, n_bytes)
        assert list(Images(images, CPU).batches([])) == []


def fail_with(monkeypatch, error):
    """Let images not be copied to a device."""
    to = torch.Tensor.to

    def fail(tensor, *arguments, **options):
        if tensor.dtype == torch.uint8:
            raise error
        return to(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", fail)


def test_images_that_do_not_fit_after_all_stay_with_the_host(images, monkeypatch):
    fail_with(monkeypatch, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB."))
    parts = parts_of(seed=2)
    for part, (_, batch) in zip(parts, Images(images, CPU).batches(parts), strict=True):
        assert np.array_equal(batch.numpy(), images[part.numpy()])


def test_other_errors_while_images_are_copied_are_told(images, monkeypatch):
    fail_with(monkeypatch, RuntimeError("an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        Images(images, CPU)


# --- a card that computes and copies when it wants --------------------------------------------


class Stream:
    """What a card is told to do, in order."""

    def __init__(self, card):
        self.card, self.told = card, []
        card.streams.append(self)

    def tell(self, do, ready=lambda: True):
        self.told.append((ready, do))
        self.card.go_on()

    def wait_event(self, event):
        awaited = event.recorded
        self.tell(lambda: None, lambda: event.reached >= awaited)


class Event:
    """How often it was recorded, and how far a card has come."""

    def __init__(self, card):
        self.card, self.recorded, self.reached = card, 0, 0

    def record(self, stream):
        self.recorded += 1
        number = self.recorded

        def reach():
            self.reached = max(self.reached, number)

        stream.tell(reach)

    def synchronize(self):
        while self.reached < self.recorded:
            assert self.card.step()


class Card:
    """Streams of which one or the other is ahead, as far as events let it."""

    def __init__(self, seed):
        self.random, self.streams = random.Random(seed), []
        self.current = Stream(self)

    def step(self):
        ready = [stream for stream in self.streams if stream.told and stream.told[0][0]()]
        if ready:
            self.random.choice(ready).told.pop(0)[1]()
        return bool(ready)

    def go_on(self):
        """Do some of it, often nothing."""
        for _ in range(self.random.choice((0, 0, 0, 1, 4))):
            self.step()

    @contextmanager
    def on(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before


@pytest.fixture(params=range(20))
def card(request, monkeypatch):
    made = Card(request.param)
    empty, copy = torch.empty, torch.Tensor.copy_
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(made))
    monkeypatch.setattr(torch.cuda, "Event", lambda: Event(made))
    monkeypatch.setattr(torch.cuda, "stream", made.on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: made.current)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)

    def copy_later(target, source, non_blocking=False):
        if not non_blocking:
            return copy(target, source)
        made.current.tell(lambda: copy(target, source))
        return target

    monkeypatch.setattr(torch.Tensor, "copy_", copy_later)
    monkeypatch.setattr(batches, "_Room", batches._RoomOnCard)
    leave(monkeypatch, 0)
    return made


def test_a_card_computes_with_each_batch_however_early_or_late_it_copies(images, card):
    parts, seen = parts_of(seed=3), []
    for _, batch in Images(images, CPU).batches(parts):
        # What the network's own work is: told now, done at any time.
        card.current.tell(lambda batch=batch: seen.append(batch.clone()))
        card.current.tell(lambda: None)
    while card.step():
        pass
    for part, batch in zip(parts, seen, strict=True):
        assert np.array_equal(batch.numpy(), images[part.numpy()])


# --- batches that are filled up or halved -----------------------------------------------------


def test_on_a_cpu_a_batch_is_not_filled_up(images):
    batch = torch.from_numpy(images[:3])
    assert filled_up(batch, 8) is batch


def test_on_a_card_the_last_row_fills_a_batch_up(images, monkeypatch):
    monkeypatch.setattr(batches, "is_tuned_by_size", lambda device: True)
    batch = torch.from_numpy(images[:3])
    full = filled_up(batch, 8)
    assert np.array_equal(full.numpy(), images[[0, 1, 2, 2, 2, 2, 2, 2]])
    assert filled_up(full, 8) is full


@pytest.mark.parametrize("is_tuned", [False, True])
def test_a_batch_that_does_not_fit_is_halved_and_so_are_those_behind_it(
    images, monkeypatch, caplog, is_tuned
):
    monkeypatch.setattr(batches, "is_tuned_by_size", lambda device: is_tuned)
    sizes = []

    def double(batch, n):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 2 * batch[:n].to(torch.int32)

    found = list(in_batches(double, images[:11], CPU, 8, "features"))
    assert np.array_equal(torch.cat(found).numpy(), 2 * images[:11].astype(np.int32))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2 if is_tuned else 1]
    assert "features: out of memory; 2 images at a time now" in caplog.text


def test_one_image_that_does_not_fit_is_an_error(images):
    def fail(batch, n):
        raise MemoryError("no")

    with pytest.raises(MemoryError):
        list(in_batches(fail, images, CPU, 8, "features"))


def test_what_pytorch_keeps_unused_is_left_on_a_card_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10)
    assert memory_left(torch.device("cuda", 0)) == 25
    assert memory_left(CPU) == float("inf")
