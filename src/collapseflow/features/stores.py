"""Feature stores: one HDF5 file per data set, features and split, written and read in a stream.

Layout: ``features`` float32 (N, d), contiguous and without a filter; ``labels`` and ``ids`` int64
(N,), optionally ``predictions`` and ``groups`` int64 (N,), ``true_labels`` int64 (N,) where some of
the labels were replaced, and ``head_weight`` float32 (K, d) and ``head_bias`` float32 (K,) of the
last layer where the features are its input; ``checksums`` uint64, the XXH3-64 of each block of
``rows_per_block`` whole rows of the features. Attributes: ``digest``, ``rows_per_block``, ``shape``
of one image's features before flattening, and provenance.
``digest`` identifies the content: it is the SHA-256 over ``shape`` and ``rows_per_block`` as JSON,
then checksums, labels, ids and, where there are any, predictions, true labels, groups, weight and
bias.

Whoever reads a store checks all that is read: what is damaged ends the job. HDF5 says where the
features are, and they are read there as the bytes that they are: threads can do so side by side,
and one takes 0.7 to 0.9 times as long as through the library. They are written through the library,
which takes 0.8 and 1.5 times as long as writing the bytes (256 MiB in batches of 8 and of 0.5 MiB;
the fastest of five rounds each, in turns on a busy machine).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import xxhash

from collapseflow.images.datasets import (
    Disk,
    create_hdf5,
    open_hdf5,
    read_info,
    read_split,
)
from collapseflow.running.errors import UserError
from collapseflow.running.files import (
    MADE_WITH,
    made_with,
    open_checked,
    place_in_study,
    remedy,
    require_space,
    study_of,
)
from collapseflow.running.memory import require_memory
from collapseflow.running.stop import heed
from collapseflow.running.words import printable

#: A block is as many rows as fit into this many bytes, which a core's cache should hold.
BLOCK_BYTES = 4 * 2**20
#: Less than this is written at once: to hand it to a thread takes longer, and the thread takes
#: time from the network.
SMALL_BATCH_BYTES = 2**20
PROVENANCE = ("dataset", "dataset_sha256", "split", "features", "weights", "preprocessing")
#: Data sets (N,) of which the digest is made, and then those of the network's last layer.
COLUMNS = ("labels", "ids", "predictions", "true_labels", "groups")
HEAD = ("head_weight", "head_bias")

#: Weight float32 (K, d) and bias float32 (K,) of the last layer of a network that tells K classes.
Head = tuple[np.ndarray, np.ndarray]
#: Labels that were trained on, or those of the source where some were replaced.
Labels = Literal["labels", "true_labels"]
#: Features float32 (n, d), labels int64 (n,), and predictions int64 (n,) or None.
Block = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def rows_per_block(n_features: int) -> int:
    """Rows of float32 in one block: at most :data:`BLOCK_BYTES`, at least one row."""
    return max(1, BLOCK_BYTES // (4 * n_features))


def content_digest(
    shape: Iterable[int], rows: int, checksums: np.ndarray, others: Mapping[str, np.ndarray]
) -> str:
    """The SHA-256 that identifies a store's content, as the module's docstring says.

    ``others`` are the data sets beside features and checksums, by name.
    """
    digest = hashlib.sha256(json.dumps([[int(n) for n in shape], int(rows)]).encode())
    digest.update(checksums.data)
    for name in (*COLUMNS, *HEAD):
        if name in others:
            digest.update(others[name].data)
    return digest.hexdigest()


class NotFiniteError(UserError):
    """Features that are not finite, of an image that ``image`` names in words."""

    def __init__(self, path: str | Path, image: str) -> None:
        super().__init__(
            f"{path}: the features of {image} are not finite; the weights have diverged or "
            "are damaged: lower the learning rate, or replace the weights"
        )
        self.image = image


class StoreWriter:
    """An open store that takes features batch by batch (:func:`open_writer`).

    Each batch is written and inspected at the same time, while the next one is computed; one below
    :data:`SMALL_BATCH_BYTES` before :meth:`add` ends.
    """

    def __init__(
        self,
        path: str | Path,
        contents: h5py.File,
        disk: Disk,
        n: int,
        called: Callable[[int], str],
    ) -> None:
        self.path, self.contents, self.disk, self.n, self.called = path, contents, disk, n, called
        self.row = 0
        self.predictions: list[np.ndarray] = []
        self._features: h5py.Dataset | None = None
        self._pool = ThreadPoolExecutor(2)
        self._running: list[Future] = []

    def add(self, features: np.ndarray, predictions: np.ndarray | None = None) -> None:
        """The next features (n, ...), every row flattened to d float32 values, and the predicted
        classes (n,) if the network knows the classes.

        The memory of the features must not change before the next call has ended.
        """
        if self._features is None:
            self._begin(features.shape[1:])
        self._join()
        rows = slice(self.row, self.row + len(features))
        self.row = rows.stop
        if self.row > self.n:
            raise ValueError(f"more than {self.n} rows of features")
        if predictions is not None:
            self.predictions.append(predictions)
        flat = np.ascontiguousarray(features.reshape(len(features), -1), np.float32)
        if flat.nbytes < SMALL_BATCH_BYTES:
            self._write(rows, flat)
            self.inspector.look_at(flat)
            return
        self._running = [
            self._pool.submit(self._write, rows, flat),
            self._pool.submit(self.inspector.look_at, flat),
        ]

    def _begin(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.inspector = _Inspector(self.path, self.called, rows_per_block(prod(shape)))
        # Hours of computing later it would be found that they do not fit.
        require_space(self.path, 4 * self.n * prod(shape))
        self._features = self.contents.create_dataset("features", (self.n, prod(shape)), "<f4")

    def _write(self, rows: slice, flat: np.ndarray) -> None:
        self._features[rows] = flat
        self.disk.check()

    def _join(self) -> None:
        for part in self._running:
            part.result()
        self._running = []

    def end(self) -> None:
        """Wait until all is written."""
        if self._features is None:
            raise ValueError(f"no features for {self.n} labels")
        self._join()
        if self.row != self.n:
            raise ValueError(f"{self.row} rows of features for {self.n} labels")

    def close(self) -> None:
        """Stop writing."""
        self._pool.shutdown()


@contextmanager
def open_writer(
    path: str | Path,
    labels: np.ndarray,
    ids: np.ndarray,
    provenance: Mapping[str, str],
    head: Head | None = None,
    groups: np.ndarray | None = None,
    true_labels: np.ndarray | None = None,
    names: np.ndarray | None = None,
) -> Iterator[StoreWriter]:
    """Give a writer of features; the file appears when the block ends.

    Parameters
    ----------
    labels, ids
        int64 arrays (N,).
    provenance
        At least the keys of :data:`PROVENANCE`.
    head
        Of the network, where its last layer is linear and takes these features.
    true_labels
        int64 array (N,), where some of the labels were replaced.
    groups
        Of the images, int64 (N,), where they have some.
    names
        Files of the images, texts (N,), where they are files: what a message names them by.

    Raises
    ------
    NotFiniteError
        If a feature is not finite.
    ValueError
        If the batches do not add up to N rows, the head takes other features, or provenance is
        missing.
    TemporaryError
        With the first batch, if there is no room for the features.
    OSError
        If they cannot be written.
    """
    missing = set(PROVENANCE) - set(provenance)
    if missing:
        raise ValueError(f"provenance lacks {', '.join(sorted(missing))}")

    def called(row: int) -> str:
        if names is not None:
            return f"the image {printable(names[row])}"
        kind = {"train": "training"}.get(provenance["split"], provenance["split"])
        return f"the {kind} image in row {ids[row]} of its source"

    with create_hdf5(path) as (file, disk):
        writer = StoreWriter(path, file, disk, len(labels), called)
        try:
            yield writer
            writer.end()
        finally:
            writer.close()
        checksums, rows = writer.inspector.checksums(), writer.inspector.rows
        columns = {"labels": labels, "ids": ids}
        if writer.predictions:
            columns["predictions"] = np.concatenate(writer.predictions)
        if true_labels is not None:
            columns["true_labels"] = true_labels
        if groups is not None:
            columns["groups"] = groups
        others = {name: np.ascontiguousarray(c, np.int64) for name, c in columns.items()}
        if head is not None:
            weight, bias = (np.ascontiguousarray(part, np.float32) for part in head)
            if weight.shape != (len(bias), prod(writer.shape)):
                raise ValueError(
                    f"a head of shape {weight.shape} for {prod(writer.shape)} features"
                )
            others |= zip(HEAD, (weight, bias), strict=True)
        for name, values in (others | {"checksums": checksums}).items():
            file.create_dataset(name, data=values)
        file.attrs.update(provenance)
        file.attrs["shape"] = writer.shape
        file.attrs["rows_per_block"] = rows
        file.attrs["digest"] = content_digest(writer.shape, rows, checksums, others)


def write_store(
    path: str | Path,
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    labels: np.ndarray,
    ids: np.ndarray,
    provenance: Mapping[str, str],
    groups: np.ndarray | None = None,
    true_labels: np.ndarray | None = None,
    names: np.ndarray | None = None,
) -> None:
    """Write what a stream gives into a store.

    Parameters
    ----------
    batches
        Pairs of features (n, ...) and predicted classes (n,) or None, in the order of the
        labels. While the next batch is computed, the last one is being written: its memory must
        not change before yet another one is asked for.
    labels, ids, provenance, true_labels, groups, names
        As :func:`open_writer`, which also says what is raised.
    """
    more = {"true_labels": true_labels, "groups": groups, "names": names}
    with open_writer(path, labels, ids, provenance, **more) as writer:
        for features, predictions in batches:
            writer.add(features, predictions)


class _Inspector:
    """Looks at features on their way to the file: they must be finite, and have checksums."""

    def __init__(self, path: str | Path, called: Callable[[int], str], rows: int) -> None:
        self.path, self.called, self.rows = path, called, rows
        self.row = 0
        self.hashes: list[xxhash.xxh3_64] = []

    def look_at(self, flat: np.ndarray) -> None:
        """The next features, float32 (n, d); batches need not end where blocks end."""
        while len(flat):
            done = self.row % self.rows
            part, flat = flat[: self.rows - done], flat[self.rows - done :]
            if done == 0:
                self.hashes.append(xxhash.xxh3_64())
            self.hashes[-1].update(part)
            finite = np.isfinite(part)
            if not finite.all():
                bad = self.row + int(np.argmin(finite.all(axis=1)))
                raise NotFiniteError(self.path, self.called(bad))
            self.row += len(part)

    def checksums(self) -> np.ndarray:
        """XXH3-64 of all blocks, uint64 (number of blocks,)."""
        return np.array([part.intdigest() for part in self.hashes], np.uint64)


def provenance_of(
    dataset: str | Path,
    split: str,
    features: str,
    weights: str,
    preprocessing: str,
    made_from: Iterable[str] = (),
) -> dict[str, str]:
    """What a store of a data set's split says of itself.

    Parameters
    ----------
    features, weights, preprocessing
        What they are, in words.
    made_from
        Versions of the libraries behind the weights.
    """
    info = read_info(dataset)
    return {
        "dataset": Path(dataset).stem,
        "dataset_sha256": info.sha256,
        "split": split,
        "features": features,
        "weights": weights,
        "preprocessing": preprocessing,
        MADE_WITH: json.dumps(made_with(info.made_with, made_from)),
    }


def write_features(
    dataset: str | Path,
    split: str,
    path: str | Path,
    batches_of: Callable[[np.ndarray], Iterable[tuple[np.ndarray, np.ndarray | None]]],
    features: str,
    weights: str,
    preprocessing: str,
) -> None:
    """Compute the features of one split of a data set and store them with their provenance.

    Parameters
    ----------
    batches_of
        Called with the images, uint8 (N, H, W) or (N, H, W, 3); gives what
        :func:`write_store` takes.
    features, weights, preprocessing
        As :func:`provenance_of`.
    """
    images = read_split(dataset, split)
    provenance = provenance_of(dataset, split, features, weights, preprocessing)
    batches = batches_of(images.images)
    more = {
        "true_labels": images.true_labels,
        "groups": images.groups,
        "names": images.names,
    }
    write_store(path, batches, images.labels, images.ids, provenance, **more)


def _require_own_images(path: str | Path, attributes: Mapping) -> None:
    """Refuse a store that is of another split or data set than its place in a study says, or of
    other images than this data set has now (:class:`collapseflow.study.paths.Files`)."""
    study, place = study_of(path), place_in_study(path)
    if study is None or not place.startswith("features/"):
        return
    asked = place.split("/")[1], Path(place).stem
    if (attributes["dataset"], attributes["split"]) != asked:
        raise UserError(
            f"{path}: holds the features of the {attributes['split']} images of "
            f"{attributes['dataset']}; {remedy(path)}"
        )
    images = study / "data" / f"{attributes['dataset']}.h5"
    if images.exists() and read_info(images).sha256 != attributes["dataset_sha256"]:
        raise UserError(f"{path}: holds features of other images than {images}; {remedy(path)}")


class _Reader:
    """An open store, of which all but the features has been checked.

    Attributes
    ----------
    shape : (N, d)
    columns
        ``labels``, ``ids`` and, if there are any, ``predictions``, ``true_labels`` and ``groups``,
        by name
    head : weight and bias by name; empty where there is none
    blocks : the rows of each block
    attributes : of the file
    """

    def __init__(self, path: str | Path, contents: h5py.File, descriptor: int) -> None:
        missing = {"features", "labels", "ids", "checksums"} - set(contents)
        lacking = {"digest", "rows_per_block", "shape", *PROVENANCE} - set(contents.attrs)
        if missing or lacking:
            what = ", ".join(sorted(missing | lacking))
            raise UserError(
                f"{path}: not a feature store of this version, it lacks {what}; {remedy(path)}"
            )
        self.path, self.descriptor = path, descriptor
        self.attributes = dict(contents.attrs)
        self.checksums = contents["checksums"][:]
        self.columns = {name: contents[name][:] for name in COLUMNS if name in contents}
        self.head = {name: contents[name][:] for name in HEAD if name in contents}
        self.shape = contents["features"].shape
        self.offset = contents["features"].id.get_offset()
        self.rows = int(self.attributes["rows_per_block"])
        n, d = len(self.columns["labels"]), prod(self.attributes["shape"])
        others = self.columns | self.head
        digest = content_digest(self.attributes["shape"], self.rows, self.checksums, others)
        if digest != self.attributes["digest"] or self.shape != (n, d):
            raise UserError(
                f"{path}: labels, ids, predictions, groups, the head or checksums are damaged; "
                f"{remedy(path)}"
            )
        _require_own_images(path, self.attributes)
        self.blocks = [slice(row, min(row + self.rows, n)) for row in range(0, n, self.rows)]

    def buffers(self, count: int) -> np.ndarray:
        """Memory for so many blocks, float32 (count, rows per block, d)."""
        return np.empty((count, self.rows, self.shape[1]), np.float32)

    def read(self, number: int, out: np.ndarray) -> np.ndarray:
        """Read one block into the first rows of ``out``, check it, and give these rows.

        Threads may read different blocks at the same time. Before it the process ends if it was
        asked to (:func:`collapseflow.running.stop.heed`).
        """
        heed()
        rows = self.blocks[number]
        features = out[: rows.stop - rows.start]
        place = self.offset + 4 * self.shape[1] * rows.start
        left = features.reshape(-1).view(np.uint8)
        while len(left) and (n_bytes := os.preadv(self.descriptor, [left], place)):
            left, place = left[n_bytes:], place + n_bytes
        if len(left) or xxhash.xxh3_64_intdigest(features) != self.checksums[number]:
            raise UserError(
                f"{self.path}: the features of rows {rows.start} to {rows.stop - 1} are damaged; "
                f"{remedy(self.path)}"
            )
        return features


@contextmanager
def _open_store(path: str | Path) -> Iterator[_Reader]:
    """Open a store and check all of it but the features, which are checked as they are read.

    Raises
    ------
    UserError
        Naming the file and what is wrong with it.
    """
    with open_checked(path) as file, h5py.File(file, "r") as contents:
        yield _Reader(path, contents, file.fileno())


def iterate(path: str | Path, buffers: int = 1, by: Labels = "labels") -> Iterator[Block]:
    """Stream a store block by block: features float32 (n, d), labels int64 (n,), and predictions
    int64 (n,) or None where it holds none.

    Parameters
    ----------
    buffers
        The features of a block are overwritten when so many more blocks have been asked for:
        fresh memory for each would cost more time than reading.
    by
        Which labels, if the store holds both.

    Raises
    ------
    UserError
        If the store is missing or damaged, at the block in which it is.
    """
    with _open_store(path) as store:
        memory = store.buffers(buffers)
        labels, predictions = (store.columns.get(name) for name in (by, "predictions"))
        for number, rows in enumerate(store.blocks):
            features = store.read(number, memory[number % buffers])
            yield features, labels[rows], None if predictions is None else predictions[rows]


def read_labels(path: str | Path) -> np.ndarray:
    """The labels of a store, int64 (N,)."""
    with _open_store(path) as store:
        return store.columns["labels"]


def read_true_labels(path: str | Path) -> np.ndarray | None:
    """The true labels of a store where some of its labels were replaced, int64 (N,); else None."""
    with _open_store(path) as store:
        return store.columns.get("true_labels")


def read_groups(path: str | Path) -> np.ndarray | None:
    """The groups of a store's images, int64 (N,); None where they have none."""
    with _open_store(path) as store:
        return store.columns.get("groups")


def read_head(path: str | Path) -> Head | None:
    """Weight float32 (K, d) and bias float32 (K,) of the last layer whose input a store holds, or
    None where it holds none."""
    with _open_store(path) as store:
        return tuple(store.head[name] for name in HEAD) if store.head else None


def read_rows(
    path: str | Path, rows: np.ndarray | None = None, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Read whole rows into memory: features float32 (n, d) and labels int64 (n,).

    ``rows`` in ascending order; None reads all.

    Raises
    ------
    UserError
        If the store is missing, or damaged where it is read, or has more features than the machine
        has memory for.
    """
    with _open_store(path) as store:
        labels = store.columns["labels"]
        n = len(labels) if rows is None else len(rows)
        needed = 4.0 * n * store.shape[1]
        words = f"{path}: {n:,} vectors of {store.shape[1]:,} features at once"
        require_memory(needed, words, "fewer (`subset` of the data set, `n_train` of classifiers)")
        features = np.empty((n, store.shape[1]), np.float32)

        def read_every_other(first: int) -> None:
            """Blocks, from one of the first on, as many apart as there are threads."""
            numbers = range(first, len(store.blocks), threads)
            if rows is None:
                for number in numbers:
                    store.read(number, features[store.blocks[number]])
                return
            (buffer,) = store.buffers(1)
            for number in numbers:
                block = store.blocks[number]
                start, stop = np.searchsorted(rows, (block.start, block.stop))
                if start < stop:
                    chosen = rows[start:stop] - block.start
                    features[start:stop] = store.read(number, buffer)[chosen]

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read_every_other, range(threads)):
                pass
        return features, labels if rows is None else labels[rows]


@dataclass(frozen=True)
class StoredFeatures:
    """All that a store holds: features float32 (N, d), labels and ids int64 (N,), predictions,
    groups and true labels int64 (N,) or None, the last layer or None, and the attributes of the
    file."""

    features: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    head: Head | None
    attributes: dict
    predictions: np.ndarray | None = None
    groups: np.ndarray | None = None
    true_labels: np.ndarray | None = None


def read_store(path: str | Path) -> StoredFeatures:
    """Read a whole store into memory.

    Raises
    ------
    UserError
        If the store is missing or damaged.
    """
    with _open_store(path) as store:
        features = np.empty(store.shape, np.float32)
        for number, rows in enumerate(store.blocks):
            store.read(number, features[rows])
        head = tuple(store.head[name] for name in HEAD) if store.head else None
        return StoredFeatures(features, head=head, attributes=store.attributes, **store.columns)


def read_attributes(path: str | Path) -> dict:
    """The attributes of a store, with ``n`` and ``n_features``."""
    with open_hdf5(path) as file:
        attributes = {
            key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            for key, value in file.attrs.items()
        }
        attributes["n"], attributes["n_features"] = file["features"].shape
    return attributes


def read_made_with(path: str | Path) -> list[str]:
    """The versions of the libraries behind the features of a store."""
    return json.loads(read_attributes(path).get(MADE_WITH, "[]"))


def verify(path: str | Path) -> str:
    """Check a feature store from its first byte to its last.

    Returns
    -------
    One line that says what it holds.

    Raises
    ------
    UserError
        Naming the file and what is wrong with it.
    """
    with _open_store(path) as store:
        (buffer,) = store.buffers(1)
        for number in range(len(store.blocks)):
            store.read(number, buffer)
        n, d = store.shape
        keys = ("dataset", "split", "features", "weights")
        provenance = {key: store.attributes[key] for key in keys}
        return f"{path}: whole, {n} x {d} features, {json.dumps(provenance)}"
