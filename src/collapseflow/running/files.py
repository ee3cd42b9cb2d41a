"""Files that appear whole or not at all, and what stands in them about their making."""

import glob
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

from collapseflow import __version__

#: Libraries that decide the values of results; one may be missing where it has no wheel.
LIBRARIES = (
    *("torch", "torchvision", "kymatio", "numpy", "scipy", "scikit-learn"),
    *("scikit-learn-intelex", "openTSNE", "pillow", "h5py"),
)
#: Under this name results carry what :func:`made_with` gives, where a file has names.
MADE_WITH = "made_with"
#: In a folder of results: why they, or those that are missing, cannot be had.
FAILED = "failed.json"


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block succeeds.

    The content is flushed to the disk before the rename, so that neither a killed job nor a
    crashed machine leaves a partial file under the final name. On an exception the temporary
    file is removed and ``path`` stays as it was. Who may read the file is what the umask and the
    folder say, whatever the writer (safetensors' lets the owner alone read).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
            status = os.fstat(handle.fileno())
        # A hard link has its permissions from elsewhere.
        if status.st_mode != mode and status.st_nlink == 1:
            temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a new folder beside ``path``; it takes the place of ``path`` when the block succeeds.

    What stood at ``path`` is replaced whole: the empty folder that Snakemake makes, or an old
    result. The files are flushed to the disk before. If the block raises, the new folder is removed
    and ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _temporary(path), _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        # A folder can be renamed to the name of an empty one only.
        with suppress(FileNotFoundError):
            path.rename(old)
        temporary.rename(path)
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A new name beside ``path``, of which :func:`remove_partial` knows.

    The suffix stays last: writers such as matplotlib and numpy choose the format by it. Process
    numbers would not do: on a cluster two machines may use the same one in the same folder.
    """
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")


def remove_partial(path: str | os.PathLike) -> None:
    """Delete what killed jobs were writing when they died under :func:`atomic_path` or
    :func:`atomic_folder`."""
    path = Path(path)
    for partial in path.parent.glob(f".{glob.escape(path.stem)}.????????.part{path.suffix}"):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write strict JSON (no NaN) atomically, indented for readers."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> dict:
    """Read one JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_failure(folder: str | os.PathLike, reason: str) -> None:
    """Leave in a folder of results, in place of those that are missing, why they are.

    ``reason`` is one line; tables show it in a note.
    """
    write_json(Path(folder, FAILED), {"failed": reason})


def failure(folder: str | os.PathLike) -> str | None:
    """Why results are missing in a folder, as :func:`write_failure` was told; None if none are."""
    path = Path(folder, FAILED)
    return read_json(path)["failed"] if path.exists() else None


@cache
def versions() -> str:
    """The versions of this package, of Python and of the libraries behind results, in one line."""
    known = [f"collapseflow {__version__}", f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            known.append(f"{name} {version(name)}")
    return ", ".join(known)


def made_with(*earlier: Iterable[str]) -> list[str]:
    """What a result carries: the versions behind what it was made from, and those of now.

    Sorted; one line where all are the same.
    """
    return sorted({versions(), *chain.from_iterable(earlier)})


def sha256_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
