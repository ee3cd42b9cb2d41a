"""One job at a time on the same outputs, also across machines that share only a folder.

A job may be started again while its first process still runs: a cluster has lost sight of a node,
or Snakemake was killed and its submitted jobs were not. File locks are not reliable on network
file systems; a lease needs nothing but whole files that others can read. Its holder rewrites it
every few seconds; who finds one that no longer changes may take it over.

A run of Snakemake that submits jobs holds one, too: it tells later runs in its folder whose jobs
are still waited for.
"""

import errno
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from collapseflow.running.files import write_text
from collapseflow.running.stop import end, pause

logger = logging.getLogger(__name__)


class Lease:
    """A file that says which process works on something, and that it is alive.

    Parameters
    ----------
    beat
        Seconds between two signs of life.
    patience
        After so many seconds without one, the holder counts as dead. A holder on this machine
        whose process is gone counts as dead at once.
    says
        What else the file tells of its holder.

    A holder that finds its lease taken over, because it was stopped for longer than others were
    patient, ends itself with SIGTERM.
    """

    def __init__(
        self,
        path: str | Path,
        beat: float = 5.0,
        patience: float = 60.0,
        says: Mapping[str, str] | None = None,
    ):
        self.path = Path(path)
        self._patience = patience
        self._mine = {
            **(says or {}),
            "host": _host(),
            "pid": os.getpid(),
            "born": _birth(os.getpid()),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "token": secrets.token_hex(8),
        }
        self._done = threading.Event()
        arguments = (self.path, self._mine, beat, self._done)
        self._thread = threading.Thread(target=_keep, args=arguments, daemon=True)

    def acquire(self) -> None:
        """Take the lease; wait while another process holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(self.path, self._mine, self._patience)
        self._thread.start()

    def release(self) -> None:
        """Give the lease back, if it is held."""
        self._done.set()
        if self._thread.ident:
            self._thread.join()
        if read_holder(self.path).get("token") == self._mine["token"]:
            self.path.unlink(missing_ok=True)


@contextmanager
def lease(
    path: str | Path,
    beat: float = 5.0,
    patience: float = 60.0,
    says: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Hold a :class:`Lease` for the time of the block; wait while another process holds it."""
    held = Lease(path, beat, patience, says)
    try:
        held.acquire()
        yield
    finally:
        held.release()


def _host() -> str:
    """This machine, or this container: where process numbers mean the same processes."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def read_holder(path: Path) -> dict:
    """What a lease says; empty if there is none, or if it is just being written."""
    try:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # On a network file system: another machine has replaced the file while it was open.
            text = path.read_text(encoding="utf-8")
        return json.loads(text)
    except (FileNotFoundError, ValueError):
        return {}


def _acquire(path: Path, mine: dict, patience: float) -> None:
    seen, since, said = None, time.monotonic(), False
    while True:
        try:
            _create(path, mine)
            return
        except FileExistsError:
            holder = read_holder(path)
        if holder != seen:
            seen, since = holder, time.monotonic()
        if _is_gone(holder) or time.monotonic() - since > patience:
            write_text(path, json.dumps(mine))
            # Another process may have come to the same conclusion; the last one has it.
            pause(1)
            if read_holder(path).get("token") == mine["token"]:
                return
            continue
        if not said:
            said = True
            where = f"process {holder.get('pid')} on {holder.get('host')}"
            if holder.get("slurm_job"):
                where = f"SLURM job {holder['slurm_job']}, {where}"
            message = "%s works on the same outputs; waiting until it ends"
            logger.info(message, where, extra={"progress": True})
        pause(min(1.0, patience / 10))


def _create(path: Path, mine: dict) -> None:
    """Write a lease that is not there yet, whole or not at all."""
    # Fails if the file is there, on network file systems too.
    handle = open(path, "x", encoding="utf-8")  # noqa: SIM115
    try:
        with handle:
            handle.write(json.dumps(mine))
    except OSError as error:
        # The disk is full: whoever comes next would wait for nobody's lease.
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def has_ended(path: Path) -> bool | None:
    """Whether the holder of a lease has ended; None if its process cannot be looked at: it is of
    another machine, or of another user, whose processes may be hidden and seem to be gone."""
    holder = read_holder(path)
    try:
        own = path.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return None
    return _is_gone(holder) if own and holder.get("host") == _host() else None


def without_life(paths: Iterable[Path], patience: float) -> list[Path]:
    """The leases that do not change in so many seconds; ends early when all of them do."""
    seen = {path: read_holder(path) for path in paths}
    silent, until = list(seen), time.monotonic() + patience
    while silent and time.monotonic() < until:
        time.sleep(min(1.0, patience / 10))
        silent = [path for path in silent if read_holder(path) == seen[path]]
    return silent


def _is_gone(holder: dict) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    if holder.get("host") != _host():
        return False
    born = _birth(holder["pid"])
    return born is None or born != holder.get("born", born)


def _birth(pid: int) -> str | None:
    """When a process began, which tells it from a later one with its number; None if it has ended.

    On Linux in ticks since the machine was started, and the number of that start: a time of day
    would change whenever the clock is set.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not psutil.LINUX:
            return str(process.create_time())
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return f"{_boot()} {ticks}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _keep(path: Path, mine: dict, beat: float, done: threading.Event) -> None:
    n = 0
    while not done.wait(beat):
        n += 1
        try:
            if read_holder(path).get("token") != mine["token"]:
                logger.error("another job has taken over these outputs; this one ends")
                end()
                return
            write_text(path, json.dumps({**mine, "beat": n}))
        except OSError as error:
            # A full disk or a file server that is away: the work itself will tell.
            logger.warning("no sign of life could be left: %s", error)
