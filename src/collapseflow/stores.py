"""Feature stores: one HDF5 file per data set, features and split, written and read in a stream.

Layout: ``features`` float32 (N, d) in chunks of whole rows of at most 1 MiB (h5py's chunk
cache), ``labels`` and ``ids`` int64 (N,), optionally ``predictions`` int64 (N,). Attributes:
``sha256`` of all of them, ``shape`` of one image's features before flattening, and provenance.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from collapseflow.datasets import open_hdf5, read_info, read_split
from collapseflow.errors import UserError
from collapseflow.files import atomic_path, versions

#: Rows that readers take at a time are as many as fit into this many bytes.
READ_BYTES = 32 * 2**20
LIBRARIES = ("torch", "torchvision", "kymatio", "h5py")
PROVENANCE = ("dataset", "dataset_sha256", "split", "features", "weights", "preprocessing")


def rows_per_chunk(n_features: int) -> int:
    """Rows of float32 in one HDF5 chunk: at most 1 MiB, at least one row."""
    return max(1, 2**20 // (4 * n_features))


def write_store(
    path: str | Path,
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    labels: np.ndarray,
    ids: np.ndarray,
    provenance: dict[str, str],
) -> None:
    """Write features batch by batch; the file appears when the last batch is written.

    Parameters
    ----------
    batches
        Pairs of features (n, ...) and predicted classes (n,) or None, in the order of the
        labels; every row is flattened to d float32 values.
    labels, ids
        int64 arrays (N,).
    provenance
        At least the keys of :data:`PROVENANCE`.

    Raises
    ------
    UserError
        If a feature is not finite.
    ValueError
        If the batches do not add up to N rows, or provenance is missing.
    """
    missing = set(PROVENANCE) - set(provenance)
    if missing:
        raise ValueError(f"provenance lacks {', '.join(sorted(missing))}")
    n = len(labels)
    digest = hashlib.sha256()
    predictions: list[np.ndarray] = []
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        dataset = None
        row = 0
        for features, predicted in batches:
            flat = np.ascontiguousarray(features.reshape(len(features), -1), dtype=np.float32)
            if dataset is None:
                d = flat.shape[1]
                dataset = file.create_dataset(
                    "features",
                    (n, d),
                    np.float32,
                    chunks=(min(n, rows_per_chunk(d)), d),
                    fletcher32=True,  # a flipped bit ends the job that reads it
                )
                file.attrs["shape"] = features.shape[1:]
            if not np.isfinite(flat).all():
                bad = row + int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0])
                raise UserError(
                    f"{path}: the features of image {ids[bad]} are not finite; the weights have "
                    "diverged or are damaged: lower the learning rate, or replace the weights"
                )
            if row + len(flat) > n:
                raise ValueError(f"more than {n} rows of features")
            dataset[row : row + len(flat)] = flat
            digest.update(flat.data)
            if predicted is not None:
                predictions.append(predicted)
            row += len(flat)
        if row != n:
            raise ValueError(f"{row} rows of features for {n} labels")
        columns = {"labels": labels, "ids": ids}
        if predictions:
            columns["predictions"] = np.concatenate(predictions)
        for name, column in columns.items():
            column = np.ascontiguousarray(column, dtype=np.int64)
            file.create_dataset(name, data=column)
            digest.update(column.data)
        file.attrs.update(provenance)
        file.attrs["sha256"] = digest.hexdigest()


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
        What they are, in words.
    """
    images = read_split(dataset, split)
    provenance = {
        "dataset": Path(dataset).stem,
        "dataset_sha256": read_info(dataset).sha256,
        "split": split,
        "features": features,
        "weights": weights,
        "preprocessing": preprocessing,
        "versions": versions(LIBRARIES),
    }
    write_store(path, batches_of(images.images), images.labels, images.ids, provenance)


def iterate(path: str | Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stream a store: features float32 (n, d) and labels int64 (n,), a few MiB at a time."""
    with open_hdf5(path) as file:
        features, labels = file["features"], file["labels"][:]
        chunk = features.chunks[0]
        step = max(chunk, READ_BYTES // (4 * features.shape[1]) // chunk * chunk)
        for row in range(0, len(labels), step):
            yield features[row : row + step], labels[row : row + step]


def read_labels(path: str | Path) -> np.ndarray:
    """The labels of a store, int64 (N,)."""
    with open_hdf5(path) as file:
        return file["labels"][:]


def read_rows(path: str | Path, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read whole rows into memory: features float32 (n, d) and labels int64 (n,).

    ``rows`` in ascending order; None reads all.
    """
    if rows is None:
        with open_hdf5(path) as file:
            return file["features"][:], file["labels"][:]
    parts, labels, row = [], [], 0
    for features, chunk_labels in iterate(path):
        inside = rows[(rows >= row) & (rows < row + len(features))] - row
        parts.append(features[inside])
        labels.append(chunk_labels[inside])
        row += len(features)
    return np.concatenate(parts), np.concatenate(labels)


def read_attributes(path: str | Path) -> dict:
    """The attributes of a store, with ``n`` and ``n_features``."""
    with open_hdf5(path) as file:
        attributes = {
            key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            for key, value in file.attrs.items()
        }
        attributes["n"], attributes["n_features"] = file["features"].shape
    return attributes


def accuracy(path: str | Path) -> float | None:
    """The share of right predictions in a store, or None where it holds no predictions."""
    with open_hdf5(path) as file:
        if "predictions" not in file:
            return None
        return float(np.mean(file["predictions"][:] == file["labels"][:]))


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
    with open_hdf5(path) as file:
        missing = {"features", "labels", "ids"} - set(file)
        lacking = {"sha256", "shape", *PROVENANCE} - set(file.attrs)
        if missing or lacking:
            what = ", ".join(sorted(missing | lacking))
            raise UserError(f"{path}: not a feature store: it lacks {what}")
        columns = [name for name in ("labels", "ids", "predictions") if name in file]
        n, d = file["features"].shape
        if any(file[name].shape != (n,) for name in columns):
            raise UserError(f"{path}: features, labels and ids differ in length; delete it")
        digest = hashlib.sha256()
        for features, _ in iterate(path):
            if not np.isfinite(features).all():
                raise UserError(f"{path}: some features are not finite; delete it")
            digest.update(np.ascontiguousarray(features).data)
        for name in columns:
            digest.update(file[name][:].data)
        if digest.hexdigest() != file.attrs["sha256"]:
            raise UserError(f"{path}: the content does not have its SHA-256; delete it")
        provenance = {key: file.attrs[key] for key in ("dataset", "split", "features", "weights")}
        return f"{path}: whole, {n} x {d} features, {json.dumps(provenance)}"
