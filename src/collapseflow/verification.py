"""Is a file of a study whole? What has checksums is checked by them, each kind beside as far as it
allows."""

import csv
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from collapseflow.features import stores
from collapseflow.images.datasets import identity_of, open_hdf5, read_info
from collapseflow.running.errors import UserError
from collapseflow.running.files import check, read_arrays, read_json, readable, remedy


def verify(path: str | Path) -> str:
    """Check a file from its first byte to its last, as its kind allows; or all files in a folder.

    What jobs read has checksums beside it (:func:`collapseflow.running.files.checked_path`).
    Without them feature stores, data sets and NumPy files hold some themselves, and PNG and PyTorch
    files, too; of safetensors, JSON, PDF and text it can then only be said that they are whole, and
    of other kinds that they can be read. Hidden files are left out.

    Returns
    -------
    One line that says what the file or the folder holds.

    Raises
    ------
    UserError
        Naming the file and what is wrong with it; a line for each of a folder.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    check(path)
    return KINDS.get(path.suffix, _other)(path)


def _folder(path: Path) -> str:
    kinds: Counter[str] = Counter()
    damaged = []
    for above, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(above, name)
            try:
                verify(file)
                kinds[
                    "whole" if file.suffix in KINDS else "readable, of a kind without a check"
                ] += 1
            except UserError as error:
                damaged.append(str(error))
    words = ", ".join(f"{n} files {what}" for what, n in sorted(kinds.items(), reverse=True))
    line = f"{path}: {words or 'no files'}"
    if damaged:
        raise UserError("\n".join([*damaged, f"{line}, {len(damaged)} not"]))
    return line


def _other(path: Path) -> str:
    try:
        n_bytes = len(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return f"{path}: readable, {n_bytes} bytes of a kind without a check"


def _text(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not whole text in UTF-8 ({error}); {remedy(path)}") from None
    return f"{path}: whole, text of {len(lines)} lines"


def _csv(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a whole table ({error}); {remedy(path)}") from None
    head, *rows = rows or [[]]
    short = next((n for n, row in enumerate(rows, 2) if len(row) != len(head)), None)
    if short is not None:
        raise UserError(
            f"{path}: not a whole table (row {short} has {len(rows[short - 2])} of {len(head)} "
            f"columns); {remedy(path)}"
        )
    return f"{path}: whole, a table of {len(rows)} rows and {len(head)} columns"


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
        optional = [file[name][:] if name in file else None for name in ("true_labels", "groups")]
        expected, n_train = file.attrs["sha256"], file.attrs["n_train"]
    if identity_of(images, labels, split, *optional) != expected:
        raise UserError(f"{path}: the images or labels are damaged; {remedy(path)}")
    info = read_info(path)
    shape = " x ".join(map(str, images.shape[1:]))
    return (
        f"{path}: whole, data set of {n_train} training and {len(images) - n_train} test images "
        f"of {shape}, {len(info.class_names)} classes, {info.source}"
    )


def _weights(path: Path) -> str:
    # PyTorch takes seconds to import; only weights wait for it.
    from collapseflow.features.weights import load_state

    state, metadata = load_state(path)
    words = ", ".join(f"{key}: {value}" for key, value in sorted(metadata.items()))
    return f"{path}: whole, {len(state)} tensors{f'; {words}' if words else ''}"


def _json(path: Path) -> str:
    content = read_json(path)
    if isinstance(content, dict) and content.keys() >= {"depends_on", "result"}:
        return f"{path}: whole, a kept part of a job"
    what = f"the keys {', '.join(content)}" if isinstance(content, dict) else "no keys"
    return f"{path}: whole, JSON with {what}"


def _arrays(path: Path) -> str:
    arrays = read_arrays(path)
    words = (f"{name} ({' x '.join(map(str, of.shape))})" for name, of in arrays.items())
    return f"{path}: whole, arrays {', '.join(words)}"


def _png(path: Path) -> str:
    from PIL import Image

    try:
        with readable(path), Image.open(path) as image:
            image.load()
            return f"{path}: whole, a picture of {image.width} x {image.height} pixels"
    # So Pillow says that a part of a PNG file is broken.
    except SyntaxError as error:
        raise UserError(f"{path}: not a whole picture ({error}); {remedy(path)}") from None


def _pdf(path: Path) -> str:
    content = path.read_bytes()
    if not content.startswith(b"%PDF") or b"%%EOF" not in content[-1024:]:
        raise UserError(f"{path}: not a whole PDF; {remedy(path)}")
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
    ".csv": _csv,
    **dict.fromkeys((".md", ".tex", ".log", ".tsv", ".yaml", ".txt", ".svg"), _text),
}
