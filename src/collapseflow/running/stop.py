"""SIGTERM, the polite end of a job at its time limit: noted when it comes, heard where it is safe.

A handler runs between any two instructions of the main thread, also in the middle of a write: what
it writes itself may fail there, and what it raises may be swallowed. Nothing is done in it. A
thread hears the signal from the interpreter's own handler, also while the main thread is in native
code; :func:`heed` and :func:`pause` then raise :class:`Stopped`, in every thread that calls them.
A process that calls neither for :data:`GRACE` seconds gets the exception wherever it is, and is
ended if that does not end it. (Only native code that keeps the interpreter's lock hears nothing,
until it returns or is killed.)
"""

import logging
import os
import signal
import threading
import time

import psutil

logger = logging.getLogger("collapseflow")

#: Seconds until a process that has not heeded the signal is interrupted, and from then on until it
#: is ended. SLURM kills 30 s (KillWait) after the signal.
GRACE, LAST = 15.0, 5.0
WORDS = "stopped by a signal (SIGTERM); finished parts are kept, run again to go on"

_asked = threading.Event()
_overdue = threading.Event()


class Stopped(SystemExit):
    """The process was asked to end, and ends with the status of its signal."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def heed() -> None:
    """To be called where it is safe to end, between two parts of a long work.

    Raises
    ------
    Stopped
        If the process was asked to.
    """
    if _asked.is_set():
        raise Stopped


def pause(seconds: float) -> None:
    """Wait; raises what :func:`heed` raises, as soon as there is a reason."""
    if _asked.wait(seconds):
        raise Stopped


def listen() -> None:
    """Note SIGTERM from now on (in the main thread)."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def end() -> None:
    """End this process by SIGTERM without a grace: others have taken over what it does."""
    _overdue.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: object) -> None:
    if _overdue.is_set():
        raise Stopped


def _watch(reader: int) -> None:
    while signal.SIGTERM not in os.read(reader, 64):
        pass
    _asked.set()
    time.sleep(GRACE)
    _overdue.set()
    # Ends also what blocks in the main thread.
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    time.sleep(LAST)
    # In a thread of its own: the log may be what hangs.
    last_words = threading.Thread(target=logger.error, args=(WORDS,), daemon=True)
    last_words.start()
    last_words.join(1.0)
    for child in psutil.Process().children(recursive=True):
        child.terminate()
    os._exit(128 + signal.SIGTERM)
