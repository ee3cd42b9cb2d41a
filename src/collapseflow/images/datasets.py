"""Data sets as one HDF5 file each, whatever they came from."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from io import FileIO
from pathlib import Path

import h5py
import numpy as np

from collapseflow.running.errors import UserError
from collapseflow.running.files import (
    MADE_WITH,
    checked_path,
    made_with,
    open_checked,
    require_space,
)

SPLITS = ("train", "test")
#: Orders of groups that a division is looked for in, and how often one is gone through at most; up
#: to ten times were enough for 20,000 groups.
ORDERS, ROUNDS = 10, 100


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Attributes
    ----------
    images : uint8 array (N, H, W) of grey levels or (N, H, W, 3) of RGB values
    labels : int64 array (N,) of class numbers from 0
    ids : int64 array (N,), the position of each image in its source
    groups : int64 array (N,), the number of each image's group, for example of its patient; None
        where images have none. No division has images of one group on both sides.
    names : object array (N,) of str, each image's file as its source names it; None where images
        are no files
    true_labels
        int64 array (N,), the labels of the source where some of ``labels`` were replaced; else None
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None
    names: np.ndarray | None = None
    true_labels: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Split":
        """The images at ``rows``, in that order."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Split(**{k: None if part is None else part[rows] for k, part in parts.items()})


@dataclass(frozen=True)
class Splits:
    """A data set: training and test images, class names, and a line that says where from.

    ``mean`` and ``std`` are its own, a number for each channel of which 255 is 1; None if it has
    none.
    """

    train: Split
    test: Split
    class_names: list[str]
    source: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def make_split(
    images: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> Split:
    """Check images and labels and give them their types.

    Raises
    ------
    UserError
        Where the shapes, the type or the labels are not those of labelled images.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UserError(
            f"images: {images.dtype} of shape {images.shape}; "
            "allowed: uint8 (N, H, W) or (N, H, W, 3)"
        )
    if images.ndim == 4 and images.shape[3] != 3:
        raise UserError(f"images: {images.shape[3]} channels; allowed: 1 or 3")
    if labels.ndim != 1:
        raise UserError(f"labels: of shape {labels.shape}; allowed: one number for each image")
    if len(images) != len(labels) or len(images) == 0:
        raise UserError(
            f"{len(images)} images with {len(labels)} labels; allowed: as many, and some"
        )
    labels = labels.astype(np.int64)
    if labels.min() < 0:
        raise UserError(f"label {labels.min()}; allowed: class numbers from 0")
    ids = np.arange(len(images)) if ids is None else ids
    groups = None if groups is None else groups.astype(np.int64)
    names = None if names is None else np.array(names, dtype=object)
    return Split(images, labels, ids.astype(np.int64), groups=groups, names=names)


def stratified_rows(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """A seeded sample of ``n`` rows in which each class keeps its share.

    Shares are rounded by largest remainders, so that exactly ``n`` rows are drawn; rows come
    back in ascending order. The sample of a class depends on that class alone.

    Raises
    ------
    UserError
        If there are fewer than ``n`` rows.
    """
    if n > len(labels):
        raise UserError(f"a sample of {n} images is asked for; allowed: up to {len(labels)}")
    classes, counts = np.unique(labels, return_counts=True)
    exact = n * counts / len(labels)
    quota = np.floor(exact).astype(int)
    # A stable sort keeps the choice among equal remainders the same everywhere.
    largest = np.argsort(-(exact - quota), kind="stable")
    quota[largest[: n - quota.sum()]] += 1
    rows = [
        np.random.default_rng([seed, int(c)]).choice(np.flatnonzero(labels == c), k, replace=False)
        for c, k in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def grouped_rows(
    labels: np.ndarray, groups: np.ndarray, n: int, seed: int | Sequence[int]
) -> np.ndarray:
    """A seeded sample of whole groups with about ``n`` rows, in which each class has about its
    share.

    In a random order each group is taken, or given back, if the numbers of images then are nearer
    to what they should be: the sum over the classes, and over all images as one more class, of
    (number - share)^2 / share. So it goes round until no group is moved, and of :data:`ORDERS`
    orders the best sample stays. It has one group at least, and leaves one.

    Returns
    -------
    Rows in ascending order; none if ``n`` is 0.

    Raises
    ------
    UserError
        If all images are of one group.
    """
    if n == 0:
        return np.empty(0, np.int64)
    groups = np.unique(groups, return_inverse=True)[1]
    classes, labels = np.unique(labels, return_inverse=True)
    n_groups, n_classes = groups.max() + 1, len(classes)
    if n_groups < 2:
        raise UserError("all images are of one group; allowed: two groups or more to divide")
    # By group its classes and the numbers of images; the last class is all images.
    pairs, counts = np.unique(groups * n_classes + labels, return_counts=True)
    held: list[list[tuple[int, int]]] = [[] for _ in range(n_groups)]
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        held[pair // n_classes].append((pair % n_classes, count))
    for group, count in enumerate(np.bincount(groups).tolist()):
        held[group].append((n_classes, count))
    shares = [*(n * np.bincount(labels) / len(labels)).tolist(), float(n)]

    def change(taken: list[int], group: int, sign: int) -> float:
        return sum(
            count * (count + 2 * sign * (taken[c] - shares[c])) / shares[c]
            for c, count in held[group]
        )

    nothing = [0] * len(shares)
    alone = min(range(n_groups), key=lambda group: change(nothing, group, 1))
    best, least = {alone}, change(nothing, alone, 1)
    random = np.random.default_rng(seed)
    for _ in range(ORDERS):
        chosen: set[int] = set()
        taken, error = list(nothing), 0.0
        order = random.permutation(n_groups).tolist()
        for _ in range(ROUNDS):
            moved = False
            for group in order:
                sign = -1 if group in chosen else 1
                step = change(taken, group, sign)
                # What may be rounding is no step.
                if step > -1e-9 or len(chosen) + sign not in range(1, n_groups):
                    continue
                chosen ^= {group}
                error, moved = error + step, True
                for c, count in held[group]:
                    taken[c] += sign * count
            if not moved:
                break
        if chosen and error < least:
            best, least = chosen, error
    return np.flatnonzero(np.isin(groups, list(best)))


def held_out_rows(
    labels: np.ndarray, n: int, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """The rows that a division takes away: :func:`stratified_rows`, or :func:`grouped_rows` of
    images with groups."""
    if groups is None:
        return stratified_rows(labels, n, seed)
    return grouped_rows(labels, groups, n, seed)


def split_off_test(everything: Split, test_fraction: float, seed: int) -> tuple[Split, Split]:
    """Divide one set of images into training and test images, class by class, and between groups
    where there are some."""
    n_test = round(len(everything.labels) * test_fraction)
    test = held_out_rows(everything.labels, n_test, seed, everything.groups)
    train = np.setdiff1d(np.arange(len(everything.labels)), test)
    return everything.take(train), everything.take(test)


def names_of(
    labels: np.ndarray, class_names: Sequence[str], given: Sequence[str] | None
) -> list[str]:
    """The names of the classes that occur among ``labels``, in the order of their numbers.

    Parameters
    ----------
    labels : of all images
    class_names : the source's, by number
    given : the user's: one for each class that occurs, or one for each number from 0

    Raises
    ------
    UserError
        If there are fewer or more names.
    """
    numbers = np.unique(labels)
    if given and len(given) == len(numbers):
        return list(given)
    by_number = given or class_names
    if given and len(given) != numbers[-1] + 1:
        every = f", or {numbers[-1] + 1}, one for each number from 0"
        raise UserError(
            f"class_names: {len(given)} names for {len(numbers)} classes; allowed: {len(numbers)} "
            f"names{every if numbers[-1] + 1 > len(numbers) else ''}"
        )
    if numbers[-1] >= len(by_number):
        raise UserError(f"label {numbers[-1]} has no name: there are {len(by_number)} class names")
    return [by_number[number] for number in numbers]


def with_names(splits: Splits, given: Sequence[str] | None) -> Splits:
    """The data set with its classes renamed and numbered from 0 without gaps.

    A class is what has an image in one of the splits; names are as :func:`names_of` takes them.
    """
    labels = np.concatenate([splits.train.labels, splits.test.labels])
    numbers = np.unique(labels)
    train, test = (
        replace(split, labels=np.searchsorted(numbers, split.labels))
        for split in (splits.train, splits.test)
    )
    names = names_of(labels, splits.class_names, given)
    return replace(splits, train=train, test=test, class_names=names)


def take_subset(splits: Splits, train: int | None, test: int | None, seed: int) -> Splits:
    """A class-stratified, seeded sample of each split; None keeps all of it."""

    def sample(split: Split, n: int | None) -> Split:
        return split if n is None else split.take(stratified_rows(split.labels, n, seed))

    return replace(splits, train=sample(splits.train, train), test=sample(splits.test, test))


def content_digest(*arrays: np.ndarray) -> str:
    """SHA-256 over types, shapes and values of arrays, independent of how they are stored."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_dataset(path: str | Path, splits: Splits) -> None:
    """Write a data set as HDF5, atomically.

    ``images`` (uint8), ``labels``, ``ids`` and ``split`` (0 training, 1 test) have one row an
    image, training images first; so have ``true_labels`` where training labels were replaced, and
    ``groups`` and ``names`` (texts) where there are some. Attributes: ``class_names`` (JSON),
    ``source``, ``n_train``, ``n_test``, ``sha256``, the digest of images, labels, split and, where
    there are any, true labels and groups, and ``mean`` and ``std`` where the data set has its own.
    """
    parts = (splits.train, splits.test)
    shapes = [part.images.shape[1:] for part in parts]
    if shapes[0] != shapes[1]:
        raise UserError(f"training images of shape {shapes[0]}, test images of shape {shapes[1]}")
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    split = np.repeat(np.arange(2, dtype=np.uint8), [len(part.labels) for part in parts])
    true_labels = None
    if splits.train.true_labels is not None:
        true_labels = np.concatenate([splits.train.true_labels, splits.test.labels])
    groups = _of_both(parts, "groups")
    names = _of_both(parts, "names")
    n_classes = len(splits.class_names)
    if labels.max() >= n_classes:
        raise UserError(f"label {labels.max()} has no name: there are {n_classes} class names")
    row = max(1, images[0].nbytes)
    with create_hdf5(path) as (file, _):
        require_space(path, images.nbytes)
        if images.size:
            chunks = (min(len(images), max(1, 2**20 // row)), *images.shape[1:])
            file.create_dataset("images", data=images, chunks=chunks, fletcher32=True)
        else:
            # Of vectors that were computed elsewhere; HDF5 has no chunks of nothing.
            file.create_dataset("images", data=images)
        file.create_dataset("labels", data=labels)
        file.create_dataset("ids", data=np.concatenate([part.ids for part in parts]))
        file.create_dataset("split", data=split)
        optional = {"true_labels": true_labels, "groups": groups}
        for name, values in optional.items():
            if values is not None:
                file.create_dataset(name, data=values)
        if names is not None:
            file.create_dataset("names", data=names, dtype=h5py.string_dtype())
        own = {"mean": splits.mean, "std": splits.std} if splits.mean else {}
        file.attrs.update(
            class_names=json.dumps(splits.class_names),
            source=splits.source,
            n_train=len(splits.train.labels),
            n_test=len(splits.test.labels),
            sha256=identity_of(images, labels, split, true_labels, groups),
            **own,
            **{MADE_WITH: json.dumps(made_with())},
        )


def _of_both(parts: Sequence[Split], name: str) -> np.ndarray | None:
    """An optional part of training and test images together; None unless both have it."""
    found = [getattr(part, name) for part in parts]
    return None if any(part is None for part in found) else np.concatenate(found)


def identity_of(
    images: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    true_labels: np.ndarray | None,
    groups: np.ndarray | None,
) -> str:
    """What a data set is known by to whatever is made of it. Names of files are none of it."""
    optional = [values for values in (true_labels, groups) if values is not None]
    return content_digest(images, labels, split, *optional)


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set's file says of itself."""

    class_names: list[str]
    source: str
    sha256: str
    n: dict[str, int]
    image_shape: tuple[int, ...]
    made_with: list[str]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Disk(FileIO):
    """The file that HDF5 writes, and that it never sees failing: after an error its library cannot
    close a file, and Python ends in a segmentation fault (HDF5 2.0).

    The first error is kept, and what would be written after it is left out.
    """

    def __init__(self, path: str | Path):
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, content: memoryview) -> int:
        left = memoryview(content).cast("B")
        size = len(left)
        try:
            while len(left) and self._error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size

    def check(self) -> None:
        """Raise the error that there was."""
        if self._error:
            raise self._error


@contextmanager
def create_hdf5(path: str | Path) -> Iterator[tuple[h5py.File, Disk]]:
    """Write an HDF5 file that appears whole or not at all, with its checksums.

    Yields
    ------
    file
        To write into.
    disk
        What it is written on, to be asked.

    Raises
    ------
    OSError
        With :data:`errno.ENOSPC` where the disk is full.
    """
    with checked_path(path) as temporary, Disk(temporary) as disk:
        try:
            with h5py.File(disk, "w") as file:
                yield file, disk
        finally:
            # Whatever else went wrong has followed from it.
            disk.check()


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; HDF5's library, which may crash on damaged files, is given
    checked bytes alone.

    Raises
    ------
    UserError
        Naming the file, if it is missing, cut off, no HDF5, or damaged where the block reads.
    """
    with open_checked(path) as content, h5py.File(content, "r") as file:
        yield file


def read_info(path: str | Path) -> DatasetInfo:
    """Read what a data set's file says of itself, not its images."""
    with open_hdf5(path) as file:
        return DatasetInfo(
            class_names=json.loads(file.attrs["class_names"]),
            source=str(file.attrs["source"]),
            sha256=str(file.attrs["sha256"]),
            n={"train": int(file.attrs["n_train"]), "test": int(file.attrs["n_test"])},
            image_shape=file["images"].shape[1:],
            made_with=json.loads(file.attrs[MADE_WITH]),
            **{
                key: tuple(file.attrs[key].tolist()) for key in ("mean", "std") if key in file.attrs
            },
        )


def raw_pixels(images: np.ndarray) -> Iterator[tuple[np.ndarray, None]]:
    """The pixels themselves as features: float32 in [0, 1], a thousand images at a time."""
    for start in range(0, len(images), 1000):
        yield images[start : start + 1000].astype(np.float32) / 255, None


def read_split(path: str | Path, split: str) -> Split:
    """Read the images of one split (``train`` or ``test``) of a data set's file."""
    with open_hdf5(path) as file:
        n_train = int(file.attrs["n_train"])
        rows = slice(0, n_train) if split == "train" else slice(n_train, None)
        # Test labels are the source's.
        noisy = split == "train" and "true_labels" in file
        return Split(
            *(file[name][rows] for name in ("images", "labels", "ids")),
            groups=file["groups"][rows] if "groups" in file else None,
            names=file["names"].asstr()[rows] if "names" in file else None,
            true_labels=file["true_labels"][rows] if noisy else None,
        )
