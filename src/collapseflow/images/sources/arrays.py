"""Images in arrays: NumPy's ``.npz`` and ``.npy``, and HDF5."""

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from collapseflow.images.datasets import Split, Splits, make_split
from collapseflow.images.sources import hdf5
from collapseflow.images.sources.own import (
    MOST_NUMBERS,
    choose,
    classes_of,
    divide,
    groups_of,
    not_read,
    parts_of,
    require_trained_classes,
    texts,
)
from collapseflow.images.sources.pictures import Fit, Size, fitted
from collapseflow.running.errors import UserError
from collapseflow.running.files import UNREADABLE
from collapseflow.running.resume import digest

#: What arrays are usually called, in lower case, where all images stand in one, and where training
#: and test images stand in two.
TOGETHER = {
    "images": ("images", "image", "x", "data"),
    "labels": ("labels", "label", "y", "targets", "target"),
    "split": ("split", "splits"),
    "group": ("group", "groups"),
}
APART = {
    "train_images": ("train_images", "x_train", "train/images", "train/x"),
    "train_labels": ("train_labels", "y_train", "train/labels", "train/y"),
    "test_images": ("test_images", "x_test", "test/images", "test/x"),
    "test_labels": ("test_labels", "y_test", "test/labels", "test/y"),
}
OPTIONAL = ("split", "group")


@dataclass(frozen=True)
class Array:
    """An array that has not been read.

    Attributes
    ----------
    name, shape, dtype : as its file says
    load : reads it
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Found:
    """What a place holds, as far as it is known without a look at the images.

    Attributes
    ----------
    path : of the file, or of the folder
    images : one array, or those of training and of test images
    labels : int64 (N,), as many
    class_names : by number
    parts : of one array: 0 of training, 1 of test images, int64 (N,); or None
    groups : of one array: int64 (N,), or None
    """

    path: Path
    images: list[Array]
    labels: list[np.ndarray]
    class_names: list[str]
    parts: np.ndarray | None
    groups: np.ndarray | None


def read(
    location: str | Path,
    columns: Mapping[str, str | None],
    size: Size,
    test_fraction: float,
    seed: int,
    fit: Fit = "crop",
) -> Splits:
    """Read arrays of images.

    Parameters
    ----------
    location
        A file (``.npz``, HDF5), or a folder of ``.npy`` files, of which each holds an array that is
        called as the file.
    columns
        Names of arrays by what they are (:data:`TOGETHER`, :data:`APART`), where they are not the
        usual ones; None where there is to be none.
    size, fit, test_fraction, seed
        As :mod:`collapseflow.images.sources` says.

    Raises
    ------
    UserError
        As :func:`look_into`, or if images cannot be read.
    """
    found = look_into(location, columns)
    try:
        images = [_fitted(_standing(array.load()), size, fit) for array in found.images]
    except UNREADABLE as error:
        raise UserError(f"{found.path}: {_line(error)}") from None
    source = f"arrays in {found.path.name}"
    if len(images) == 2:
        train, test = map(make_split, images, found.labels)
    else:
        everything = make_split(images[0], found.labels[0], groups=found.groups)
        if found.parts is None:
            return Splits(
                *divide(everything, test_fraction, seed, found.class_names, found.path),
                found.class_names,
                source,
            )
        train, test = (everything.take(np.flatnonzero(found.parts == part)) for part in (0, 1))
        source = "; ".join([source, *not_read(found.parts)])
    _require_one_kind(found, train, test)
    return Splits(train, test, found.class_names, source)


def look_into(location: str | Path, columns: Mapping[str, str | None]) -> Found:
    """Which arrays are images and labels, of which labels alone are read.

    Raises
    ------
    UserError
        Naming the place, if it cannot be read, an array is missing, or of another type or shape, or
        the labels are no classes.
    """
    path = Path(os.path.expanduser(location))
    try:
        return _understood(path, _arrays_in(path), columns)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read ({_line(error)})") from None


def content(location: str | Path) -> str:
    """A digest of the sizes and times of change of the file, or of a folder's arrays."""
    path = Path(os.path.expanduser(location))
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    status = [(file.name, file.stat()) for file in files]
    return digest({"files": [f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in status]})


# --- files ------------------------------------------------------------------------------------


def _arrays_in(path: Path) -> dict[str, Array]:
    """The arrays of a file or folder, by name."""
    if path.is_dir():
        found = _npy(path)
    elif path.suffix.lower() == ".npz":
        found = _npz(path)
    elif path.suffix.lower() in hdf5.SUFFIXES:
        found = _hdf5(path)
    else:
        raise UserError(
            f"ends with {path.suffix or 'nothing'}; allowed: .npz, {', '.join(hdf5.SUFFIXES)}, or "
            "a folder with .npy files"
        )
    if not found:
        raise UserError("holds no arrays")
    return {array.name: array for array in found}


def _npy(folder: Path) -> list[Array]:
    found = []
    for path in sorted(folder.glob("*.npy")):
        array = np.load(path, mmap_mode="r")
        load = partial(np.load, path)
        found.append(Array(path.stem, array.shape, array.dtype, load))
    return found


def _npz(path: Path) -> list[Array]:
    """Of the arrays in a ``.npz`` file their heads alone are read."""
    heads = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    found = []
    with zipfile.ZipFile(path) as members:
        for member in members.namelist():
            with members.open(member) as file:
                shape, _, dtype = heads[np.lib.format.read_magic(file)](file)
            name = member.removesuffix(".npy")
            found.append(Array(name, shape, dtype, partial(_member, path, name)))
    return found


def _member(path: Path, name: str) -> np.ndarray:
    with np.load(path) as file:
        return file[name]


def _hdf5(path: Path) -> list[Array]:
    found: list[Array] = []

    def note(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(Array(name, item.shape, item.dtype, partial(_dataset, path, name)))

    with hdf5.open_foreign(path) as file:
        file.visititems(note)
    return found


def _dataset(path: Path, name: str) -> np.ndarray:
    with hdf5.open_foreign(path) as file:
        return file[name][()]


# --- what they are ----------------------------------------------------------------------------


def _understood(path: Path, there: dict[str, Array], columns: Mapping[str, str | None]) -> Found:
    names = list(there)
    apart = any(role in columns for role in APART) or (
        "images" not in columns
        and choose(names, {}, "train_images", APART["train_images"]) is not None
    )
    roles = APART if apart else TOGETHER
    for role in columns:
        if role not in roles:
            raise UserError(f"columns.{role}: does not go with {next(iter(roles))}")
    chosen = {
        role: choose(names, columns, role, usual, needed=role not in OPTIONAL)
        for role, usual in roles.items()
    }
    found = {role: there[name] for role, name in chosen.items() if name is not None}
    images = [array for role, array in found.items() if role.endswith("images")]
    labels = [array for role, array in found.items() if role.endswith("labels")]
    for pictures, of_them in zip(images, labels, strict=True):
        _require_images(pictures)
        _require_labels(of_them, pictures)
    numbers, class_names = _classes(labels)
    columns_of = {}
    for role in set(OPTIONAL) & set(found):
        _require_labels(found[role], images[0])
        columns_of[role] = texts(found[role].load().reshape(-1))
    parts = parts_of(columns_of["split"]) if "split" in columns_of else None
    groups = groups_of(columns_of["group"], parts) if "group" in columns_of else None
    return Found(path, images, numbers, class_names, parts, groups)


def _require_images(array: Array) -> None:
    what = f"{array.name}: {array.dtype} {array.shape}"
    if array.dtype != np.uint8:
        remedies = {
            "f": "where they are 0 to 1, save (255 * images).round().astype('uint8')",
            "b": "save 255 * images.astype('uint8')",
        }
        of_others = "where they are 0 to 255, save images.astype('uint8')"
        raise UserError(f"{what}; allowed: uint8; {remedies.get(array.dtype.kind, of_others)}")
    grey, shape = len(array.shape) == 3, array.shape
    if not grey and not (len(shape) == 4 and (shape[3] in (1, 3) or shape[1] in (1, 3))):
        raise UserError(
            f"{what}; allowed: (N, H, W), (N, H, W, 1), (N, H, W, 3), (N, 1, H, W) and (N, 3, H, W)"
        )
    if 0 in shape:
        raise UserError(f"{what} is empty; allowed: some images")


def _require_labels(array: Array, images: Array) -> None:
    what = f"{array.name}: {array.dtype} {array.shape}"
    if len(array.shape) == 2 and array.shape[1] > 1:
        raise UserError(
            f"{what}; allowed: one for each image; of one-hot labels save labels.argmax(axis=1)"
        )
    if array.shape not in ((images.shape[0],), (images.shape[0], 1)):
        raise UserError(
            f"{what} for the {images.shape[0]} images of {images.name}; allowed: as many"
        )
    if array.dtype.kind not in "iubUSO":
        raise UserError(f"{what}; allowed: whole numbers or texts; save labels.astype('int64')")


def _classes(arrays: list[Array]) -> tuple[list[np.ndarray], list[str]]:
    """Numbers of classes of each array of labels, and their names by number."""
    values = [array.load().reshape(-1) for array in arrays]
    if all(of.dtype.kind in "iub" for of in values):
        for array, of in zip(arrays, values, strict=True):
            wrong = of[(of < 0) | (of >= MOST_NUMBERS)]
            if len(wrong):
                raise UserError(
                    f"{array.name}: labels out of range, {len(wrong)}, the first {wrong[0]}; "
                    f"allowed: class numbers from 0 to {MOST_NUMBERS - 1}"
                )
        numbers = [of.astype(np.int64) for of in values]
        if len(np.unique(np.concatenate(numbers))) < 2:
            raise UserError(f"all labels are {numbers[0][0]}; allowed: two classes or more")
        return numbers, [str(n) for n in range(max(of.max() for of in numbers) + 1)]
    together, names = classes_of([text for of in values for text in texts(of)])
    return np.split(together, np.cumsum([len(of) for of in values])[:-1]), names


def _standing(images: np.ndarray) -> np.ndarray:
    """Grey images without a channel, colours last."""
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        images = np.moveaxis(images, 1, 3)
    return images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images


def _fitted(images: np.ndarray, size: Size, fit: Fit) -> np.ndarray:
    if size is None:
        return np.ascontiguousarray(images)
    return np.stack(
        [np.asarray(fitted(Image.fromarray(np.ascontiguousarray(x)), size, fit)) for x in images]
    )


def _require_one_kind(found: Found, train: Split, test: Split) -> None:
    try:
        shapes = train.images.shape[1:], test.images.shape[1:]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"training images of shape {shapes[0]}, test images of shape {shapes[1]}; allowed: "
                "one shape, which the key 'size' gives, and grey or colour"
            )
        require_trained_classes(train, test, found.class_names)
    except UserError as error:
        raise UserError(f"{found.path}: {error}") from None


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
