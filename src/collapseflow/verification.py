"""Is a file of a study whole? Each kind of file is checked as far as it allows."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from collapseflow.features import stores
from collapseflow.images.datasets import content_digest, open_hdf5
from collapseflow.running.errors import UserError

AGAIN = "delete it and run again"


def verify(path: str | Path) -> str:
    """Check a file from its first byte to its last, as its kind allows.

    Feature stores, data sets and NumPy files hold checksums, and PNG and PyTorch files, too; of
    safetensors, JSON, PDF and text it can only be said that they are whole.

    Returns
    -------
    One line that says what the file holds.

    Raises
    ------
    UserError
        Naming the file and what is wrong with it, or that it is of no kind that can be checked.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.suffix not in KINDS:
        raise UserError(f"{path}: no file that can be checked; allowed: {', '.join(sorted(KINDS))}")
    return KINDS[path.suffix](path)


def _hdf5(path: Path) -> str:
    with open_hdf5(path) as file:
        contents = set(file)
    if "features" in contents:
        return stores.verify(path)
    if "images" in contents:
        return _dataset(path)
    raise UserError(f"{path}: neither a data set nor a feature store")


def _dataset(path: Path) -> str:
    with open_hdf5(path) as file:
        images, labels, split = (file[name][:] for name in ("images", "labels", "split"))
        expected, n_train = file.attrs["sha256"], file.attrs["n_train"]
        names, source = json.loads(file.attrs["class_names"]), file.attrs["source"]
    if content_digest(images, labels, split) != expected:
        raise UserError(f"{path}: the images or labels are damaged; {AGAIN}")
    shape = " x ".join(map(str, images.shape[1:]))
    return (
        f"{path}: whole, data set of {n_train} training and {len(images) - n_train} test images "
        f"of {shape}, {len(names)} classes, {source}"
    )


def _weights(path: Path) -> str:
    # PyTorch takes seconds to import; only weights wait for it.
    from collapseflow.features.networks import load_state

    state, metadata = load_state(path)
    words = ", ".join(f"{key}: {value}" for key, value in sorted(metadata.items()))
    return f"{path}: whole, {len(state)} tensors{f'; {words}' if words else ''}"


def _json(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not whole JSON ({error}); {AGAIN}") from None
    if isinstance(content, dict) and content.keys() >= {"depends_on", "result"}:
        return f"{path}: whole, a kept part of a job"
    what = f"the keys {', '.join(content)}" if isinstance(content, dict) else "no keys"
    return f"{path}: whole, JSON with {what}"


def _arrays(path: Path) -> str:
    try:
        with np.load(path) as file:
            shapes = {name: file[name].shape for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not whole ({error}); {AGAIN}") from None
    words = (f"{name} ({' x '.join(map(str, shape))})" for name, shape in shapes.items())
    return f"{path}: whole, arrays {', '.join(words)}"


def _png(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            return f"{path}: whole, a picture of {image.width} x {image.height} pixels"
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: not a whole picture ({error}); {AGAIN}") from None


def _pdf(path: Path) -> str:
    content = path.read_bytes()
    if not content.startswith(b"%PDF") or b"%%EOF" not in content[-1024:]:
        raise UserError(f"{path}: not a whole PDF; {AGAIN}")
    return f"{path}: whole, a PDF"


KINDS: dict[str, Callable[[Path], str]] = {
    ".h5": _hdf5,
    ".safetensors": _weights,
    ".pth": _weights,
    ".pt": _weights,
    ".json": _json,
    ".npz": _arrays,
    ".png": _png,
    ".pdf": _pdf,
}
