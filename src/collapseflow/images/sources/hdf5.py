"""HDF5 files that others have written: of some damaged ones HDF5's library crashes, or never comes
to an end. Each is therefore walked through once in a process of its own before it is opened here.
"""

import math
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from collapseflow.running.errors import UserError

#: Endings of such files.
SUFFIXES = (".h5", ".hdf5", ".hdf")
#: Seconds of a processor for a walk through one file; of a whole one it takes milliseconds.
SECONDS = 10
#: Arrays of so many bytes are read as a whole on a walk; of others the first and the last row,
#: unless they lie in larger pieces.
SMALL = 2**24

#: Files that a walk has come through, with their sizes and times of change.
_walked: set[tuple[str, int, int]] = set()


@contextmanager
def open_foreign(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for reading; raises as :func:`require_harmless`, and what h5py raises."""
    require_harmless([path])
    with h5py.File(path, "r") as file:
        yield file


def require_harmless(paths: Sequence[str | Path]) -> None:
    """Refuse files of which HDF5's library crashes or hangs; other damage it tells when it reads.

    All in one process: to start it takes longer than the walk.

    Raises
    ------
    UserError
        Naming the first of such files.
    """
    new = {_identity(path): path for path in paths if Path(path).is_file()}
    new = {identity: path for identity, path in new.items() if identity not in _walked}
    if not new:
        return
    answer = subprocess.run(
        [sys.executable, "-m", __name__, *map(str, new.values())],
        capture_output=True,
        check=False,
    )
    if answer.returncode > 0:
        raise RuntimeError(answer.stderr.decode(errors="replace"))
    if answer.returncode < 0:
        path = list(new.values())[answer.stdout.count(b"\n")]
        hangs = -answer.returncode == signal.SIGXCPU
        ends = f"does not come to an end in {SECONDS} s" if hangs else "breaks down"
        raise UserError(f"{path}: cannot be read (HDF5's library {ends}); replace it")
    _walked.update(new)


def _identity(path: str | Path) -> tuple[str, int, int]:
    status = Path(path).stat()
    return str(Path(path).absolute()), status.st_size, status.st_mtime_ns


def _walk(path: str) -> None:
    """Read all that describes the arrays of a file, and so much of them that it has been met."""

    def look(name: str, item: h5py.HLObject) -> None:
        if not isinstance(item, h5py.Dataset) or not item.size:
            return
        if item.chunks:
            item.id.get_num_chunks()
        if item.nbytes <= SMALL:
            item[()]
        elif math.prod(item.chunks or ()) * item.dtype.itemsize <= SMALL:
            item[:1], item[-1:]

    with h5py.File(path, "r") as file:
        file.visititems(look)


def _main(paths: Sequence[str]) -> None:
    """Say a line for each file that the library survives."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    for path in paths:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = min(int(used.ru_utime + used.ru_stime) + SECONDS, most)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), hard))
        # Whoever opens the file next says what is wrong with it.
        with suppress(Exception):
            _walk(path)
        print(flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
