"""Files that appear whole or not at all, are what they say when they are read, and what stands in
them about their making.

Beside each file that other jobs read stands a hidden one, ``.NAME.xxh3``, with its checksums and
its place in the study (:func:`checked_path`). Whoever reads the file checks the bytes before they
are used, and that they are those of this place (:func:`open_checked`). A file of a study that has
none, because earlier versions wrote it, gets them when it is first read (:func:`adopt`).
"""

import errno
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO, FileIO, RawIOBase
from itertools import chain
from pathlib import Path

import numpy as np
import xxhash

from collapseflow import __version__
from collapseflow.running.errors import TemporaryError, UserError

#: Libraries that decide the values of results; one may be missing where it has no wheel.
LIBRARIES = (
    *("torch", "torchvision", "kymatio", "numpy", "scipy", "scikit-learn"),
    *("scikit-learn-intelex", "openTSNE", "pillow", "h5py"),
)
#: Under this name results carry what :func:`made_with` gives, where a file has names.
MADE_WITH = "made_with"
#: In a folder of results: why they, or those that are missing, cannot be had.
FAILED = "failed.json"
#: The folder that has one for each study; below that a path is a file's place.
STUDIES = "results"
#: A checksum is of so many bytes of a file.
BLOCK_BYTES = 4 * 2**20
#: How the system says that the disk, or a user's share of it, is full.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: In a folder that is the output of one job, as Snakemake marks it.
OUTPUT_OF_A_JOB = ".snakemake_timestamp"
#: What reading damaged or foreign content raises, of which no library makes one exception; zipfile
#: says with a RuntimeError that a file is encrypted or packed in an unknown way.
UNREADABLE = (
    *(OSError, ValueError, LookupError, EOFError, TypeError, AttributeError),
    *(RuntimeError, ArithmeticError, struct.error, zipfile.BadZipFile, zlib.error),
)


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block succeeds.

    The content is flushed to the disk before the rename, so that neither a killed job nor a
    crashed machine leaves a partial file under the final name. On an exception the temporary
    file is removed and ``path`` stays as it was. Who may read the file is what the umask and the
    folder say, whatever the writer (safetensors' lets the owner alone read).

    Raises
    ------
    OSError
        With :data:`errno.ENOSPC` and the path where the disk is full, whatever a library raises.
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
    except Exception as error:
        if is_full_disk(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an exception, or one that it was raised behind, says that the disk, or the user's
    share of it, is full: libraries have their own for it, with the system's words, and others come
    of closing what has no room (matplotlib's PDF)."""
    if error is None:
        return False
    told = getattr(error, "errno", None) in FULL or any(os.strerror(n) in str(error) for n in FULL)
    return told or is_full_disk(error.__context__)


def require_space(path: str | os.PathLike, n_bytes: int) -> None:
    """Refuse to begin what will not fit on the disk.

    Parameters
    ----------
    path
        A file or a folder that is to be written, in a folder that is there.
    n_bytes
        What is still to be written.

    Raises
    ------
    TemporaryError
        With both numbers, if less is free.
    """
    free = shutil.disk_usage(Path(path).parent).free
    if free < n_bytes:
        raise TemporaryError(
            f"{path}: {n_bytes / 2**20:,.1f} MiB are to be written, and {free / 2**20:,.1f} MiB "
            "are free; make room and start again"
        )


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
    name = f".{glob.escape(path.stem)}.????????.part{path.suffix}"
    beside = (f".{name}.xxh3", f"..{name}.????????.part.xxh3")
    for partial in chain.from_iterable(map(path.parent.glob, (name, *beside))):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


# --- checksums --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checksums:
    """What stands beside a file.

    Attributes
    ----------
    place
        Of which file of a study they are (:func:`place_in_study`), or None.
    n_bytes
        The file's size.
    block_bytes
        How many bytes each checksum is of.
    xxh3_64
        XXH3-64 of the blocks, as sixteen hexadecimal digits each.
    """

    place: str | None
    n_bytes: int
    block_bytes: int
    xxh3_64: list[str]


def checksum_file(path: str | os.PathLike) -> Path:
    """Where the checksums of a file stand."""
    path = Path(path)
    return path.with_name(f".{path.name}.xxh3")


def study_of(path: str | os.PathLike) -> Path | None:
    """The folder of the study that a path is in, ``results/<study>``; None outside of one."""
    parts = Path(path).absolute().parts
    studies = [n for n, part in enumerate(parts[:-2]) if part == STUDIES]
    return Path(*parts[: studies[-1] + 2]) if studies else None


def place_in_study(path: str | os.PathLike) -> str | None:
    """A path below its study's folder; None outside of one.

    A study's folder may be copied or renamed; within it each place is of one content. What is
    being written has the place for which it is meant.
    """
    study = study_of(path)
    if study is None:
        return None
    names = Path(path).absolute().relative_to(study).parts
    return "/".join(
        re.sub(r"^\.(.*)\.[0-9a-f]{8}\.part(\.[^.]*)?$", r"\1\2", name) for name in names
    )


@contextmanager
def checked_path(path: str | os.PathLike) -> Iterator[Path]:
    """As :func:`atomic_path`; the file has its checksums beside it."""
    with atomic_path(path) as temporary:
        new = checksum_file(temporary)
        try:
            yield temporary
            _write_checksums(new, _checksums_of(temporary))
            # Whatever happens now, a whole file has its own, or none.
            checksum_file(path).unlink(missing_ok=True)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    os.replace(new, checksum_file(path))


def _checksums_of(path: Path) -> Checksums:
    hashes, n_bytes = [], 0
    with FileIO(path) as file:
        while block := _read(file.fileno(), BLOCK_BYTES, n_bytes):
            hashes.append(xxhash.xxh3_64_hexdigest(block))
            n_bytes += len(block)
    return Checksums(place_in_study(path), n_bytes, BLOCK_BYTES, hashes)


def _write_checksums(beside: Path, checksums: Checksums) -> None:
    write_text(beside, json.dumps(asdict(checksums)) + "\n")


def read_checksums(path: str | os.PathLike) -> Checksums | None:
    """The checksums of a file; None if it has none.

    Raises
    ------
    UserError
        If they are damaged themselves.
    """
    beside = checksum_file(path)
    try:
        checksums = Checksums(**json.loads(beside.read_bytes()))
        if len(checksums.xxh3_64) != -(-checksums.n_bytes // checksums.block_bytes):
            raise ValueError("another number of blocks")
        return checksums
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        raise UserError(
            f"{path}: its checksums in {beside} are damaged ({_line(error)}); {remedy(path)}"
        ) from None


def link_or_copy_checksums(source: str | os.PathLike, path: str | os.PathLike) -> None:
    """Give a file the checksums of the one of which it is a link or a copy."""
    checksums = read_checksums(source) or _checksums_of(Path(source))
    _write_checksums(checksum_file(path), replace(checksums, place=place_in_study(path)))


def remove(path: Path) -> None:
    """Delete a file, if it is there, and its checksums."""
    path.unlink(missing_ok=True)
    checksum_file(path).unlink(missing_ok=True)


def remedy(path: str | os.PathLike) -> str:
    """What to do with a damaged result: to delete what its job has made."""
    path = Path(path)
    made = next((f for f in path.parents if (f / OUTPUT_OF_A_JOB).exists()), None)
    what = "it" if made is None else f"the folder {made}"
    return f"delete {what} and start again: it is made anew"


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _read(descriptor: int, n_bytes: int, position: int) -> bytes:
    """So many bytes of an open file, fewer at its end."""
    parts = []
    while n_bytes and (part := os.pread(descriptor, n_bytes, position)):
        parts.append(part)
        n_bytes, position = n_bytes - len(part), position + len(part)
    return b"".join(parts)


class CheckedFile(RawIOBase):
    """A file of which every block is checked before a byte of it is given, for any library to read.

    Raises
    ------
    UserError
        On opening, if the file has another size than its checksums, or another place; on reading,
        if a block is damaged.
    """

    def __init__(self, path: str | os.PathLike, checksums: Checksums | None):
        self.path, self.checksums = Path(path), checksums
        self._file = FileIO(path)
        self._position, self.n_bytes = 0, os.fstat(self._file.fileno()).st_size
        # HDF5 goes to and fro between a few places.
        self._block = lru_cache(4)(self._read_block)
        if checksums is None:
            return
        place = place_in_study(path)
        try:
            if self.n_bytes != checksums.n_bytes:
                self._refuse(f"has {self.n_bytes} bytes of {checksums.n_bytes}")
            if place is not None and checksums.place not in (None, place):
                self._refuse(f"was made as {checksums.place}, and stands in another's place")
        except UserError:
            self.close()
            raise

    def _refuse(self, what: str) -> None:
        raise UserError(
            f"{self.path}: {what}; {remedy(self.path)} (if this is meant, delete "
            f"{checksum_file(self.path)})"
        )

    def _read_block(self, number: int) -> bytes:
        size = self.checksums.block_bytes if self.checksums else BLOCK_BYTES
        block = _read(self._file.fileno(), size, number * size)
        if self.checksums and xxhash.xxh3_64_hexdigest(block) != self.checksums.xxh3_64[number]:
            stop = number * size + len(block)
            self._refuse(f"damaged between its bytes {number * size} and {stop}")
        return block

    def check(self) -> None:
        """Check all blocks."""
        for number in range(len(self.checksums.xxh3_64) if self.checksums else 0):
            self._read_block(number)

    def fileno(self) -> int:
        return self._file.fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {0: 0, 1: self._position, 2: self.n_bytes}[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        buffer = memoryview(buffer).cast("B")
        size = self.checksums.block_bytes if self.checksums else BLOCK_BYTES
        done, wanted = 0, max(0, min(len(buffer), self.n_bytes - self._position))
        while done < wanted:
            number, start = divmod(self._position, size)
            part = memoryview(self._block(number))[start : start + wanted - done]
            buffer[done : done + len(part)] = part
            done, self._position = done + len(part), self._position + len(part)
        return done

    def close(self) -> None:
        self._file.close()
        # Else the blocks stay until Python looks for what refers to itself.
        self._block.cache_clear()
        super().close()


@contextmanager
def readable(path: str | os.PathLike) -> Iterator[None]:
    """End in one line what the content of a file raises when it is read.

    Raises
    ------
    UserError
        Naming the file, if it is missing or its content is none that is read there.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; start again: it is made") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read ({_line(error)}); {remedy(path)}") from None


@contextmanager
def writable() -> Iterator[None]:
    """End in one line where nothing can be written.

    Raises
    ------
    UserError
        Naming the file, if it may not be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}); allowed: a folder that is "
            "yours to write in, on a disk with room"
        ) from None


@contextmanager
def open_checked(path: str | os.PathLike) -> Iterator[CheckedFile]:
    """Open a file of a study for reading.

    Raises
    ------
    UserError
        As :class:`CheckedFile` and :func:`readable`.
    """
    with readable(path):
        with CheckedFile(path, read_checksums(path)) as file:
            yield file
        adopt(path)


def adopt(path: str | os.PathLike) -> None:
    """Give a file of a study that has no checksums its own, after it was read without complaint.

    Earlier versions wrote it, or it was copied alone. Outside of a study nothing is written.
    """
    if place_in_study(path) is not None and not checksum_file(path).exists():
        checksums = _checksums_of(Path(path))
        # Who may read a folder may not be allowed to write into it.
        with suppress(OSError):
            _write_checksums(checksum_file(path), checksums)


def check(path: str | os.PathLike) -> None:
    """Check a file from its first byte to its last, if it has checksums; raises as
    :func:`open_checked`."""
    checksums = read_checksums(path)
    if checksums is not None:
        with readable(path), CheckedFile(path, checksums) as file:
            file.check()


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by their names; raises as :func:`open_checked`."""
    with open_checked(path) as file, np.load(BytesIO(file.readall())) as arrays:
        return {name: arrays[name] for name in arrays.files}


# --- text and JSON ----------------------------------------------------------------------------


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write strict JSON (no NaN) with its checksums, indented for readers."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with checked_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict:
    """Read one JSON file; raises as :func:`open_checked`."""
    with open_checked(path) as file:
        return json.loads(file.readall().decode())


def write_failure(folder: str | os.PathLike, reason: str) -> None:
    """Leave in a folder of results, in place of those that are missing, why they are.

    ``reason`` is one line; tables show it in a note.
    """
    write_json(Path(folder, FAILED), {"failed": reason})


def failure(folder: str | os.PathLike) -> str | None:
    """Why results are missing in a folder, as :func:`write_failure` was told; None if none are."""
    path = Path(folder, FAILED)
    if not path.exists():
        return None
    with readable(path):
        return read_json(path)["failed"]


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
