"""One job at a time on the same outputs, also across machines that share only a folder.

A job may be started again while its first process still runs: a cluster has lost sight of a node,
or Snakemake was killed and its submitted jobs were not. File locks are not reliable on network
file systems; a lease needs nothing but whole files that others can read. Its holder rewrites it
every few seconds; who finds one that no longer changes may take it over.
"""

import json
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from collapseflow.files import write_text

logger = logging.getLogger(__name__)


@contextmanager
def lease(path: str | Path, beat: float = 5.0, patience: float = 60.0) -> Iterator[None]:
    """Hold the lease ``path`` for the time of the block; wait while another process holds it.

    Parameters
    ----------
    beat
        Seconds between two signs of life.
    patience
        After so many seconds without one, the holder counts as dead. A holder on this machine
        whose process is gone counts as dead at once.

    A holder that finds its lease taken over, because it was stopped for longer than others were
    patient, ends itself with SIGTERM.
    """
    path = Path(path)
    mine = {
        "host": _host(),
        "pid": os.getpid(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "token": secrets.token_hex(8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    done = threading.Event()
    thread = threading.Thread(target=_keep, args=(path, mine, beat, done), daemon=True)
    try:
        _acquire(path, mine, patience)
        thread.start()
        yield
    finally:
        done.set()
        if thread.ident:
            thread.join()
        if _holder(path).get("token") == mine["token"]:
            path.unlink(missing_ok=True)


def _host() -> str:
    """This machine, or this container: where process numbers mean the same processes."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _holder(path: Path) -> dict:
    """What the lease says; empty if there is none, or if it is just being written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _acquire(path: Path, mine: dict, patience: float) -> None:
    seen, since, said = None, time.monotonic(), False
    while True:
        try:
            # Fails if the file is there, on network file systems too.
            with open(path, "x", encoding="utf-8") as handle:
                handle.write(json.dumps(mine))
            return
        except FileExistsError:
            holder = _holder(path)
        if holder != seen:
            seen, since = holder, time.monotonic()
        if _is_gone(holder) or time.monotonic() - since > patience:
            write_text(path, json.dumps(mine))
            # Another process may have come to the same conclusion; the last one has it.
            time.sleep(1)
            if _holder(path).get("token") == mine["token"]:
                return
            continue
        if not said:
            said = True
            where = f"process {holder.get('pid')} on {holder.get('host')}"
            if holder.get("slurm_job"):
                where = f"SLURM job {holder['slurm_job']}, {where}"
            message = "%s works on the same outputs; waiting until it ends"
            logger.info(message, where, extra={"progress": True})
        time.sleep(min(1.0, patience / 10))


def _is_gone(holder: dict) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    if holder.get("host") != _host():
        return False
    try:
        return psutil.Process(holder["pid"]).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _keep(path: Path, mine: dict, beat: float, done: threading.Event) -> None:
    n = 0
    while not done.wait(beat):
        n += 1
        try:
            if _holder(path).get("token") != mine["token"]:
                logger.error("another job has taken over these outputs; this one ends")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            write_text(path, json.dumps({**mine, "beat": n}))
        except OSError as error:
            # A full disk or a file server that is away: the work itself will tell.
            logger.warning("no sign of life could be left: %s", error)
