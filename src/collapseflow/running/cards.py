"""Cards of one machine: how many there are, and one for each job.

Snakemake counts cards as it counts any resource, but does not say which one a job may use. Jobs
settle that themselves with locks on files of this machine, which the kernel releases when a
process ends, however it ends.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from collapseflow.running.stop import pause

logger = logging.getLogger(__name__)

LOCKS = Path(tempfile.gettempdir()) / f"collapseflow-cards-{os.getuid()}"
#: Open files whose locks this process holds until it ends.
_held: list[int] = []


def count_cards() -> int:
    """The number of CUDA devices that jobs started from here will see; 0 without a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([entry for entry in visible.split(",") if entry.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in answer.stdout.splitlines())


def claim_cards(identities: Mapping[int, str], count: int) -> list[int]:
    """Take ``count`` cards as :func:`claim_card` does, one job after another: two jobs that each
    have some of what they need would wait for each other."""
    LOCKS.mkdir(exist_ok=True)
    with open(LOCKS / "claiming.lock", "w") as turn:
        while not _lock(turn.fileno()):
            pause(0.5)
        cards: list[int] = []
        while len(cards) < count:
            left = {n: name for n, name in identities.items() if n not in cards}
            cards.append(claim_card(left))
    return cards


def claim_card(identities: Mapping[int, str]) -> int:
    """Take a card that no other job of this machine has taken; wait while there is none.

    Parameters
    ----------
    identities
        By the number under which this process sees a card, what every process calls it.

    Returns
    -------
    The card's number; it is this process's until the process ends.
    """
    LOCKS.mkdir(exist_ok=True)
    said = False
    while True:
        for number, identity in identities.items():
            handle = os.open(LOCKS / f"{identity}.lock", os.O_CREAT | os.O_RDWR)
            if _lock(handle):
                _held.append(handle)
                return number
            os.close(handle)
        if not said:
            said = True
            logger.info("every card is in use; waiting for one", extra={"progress": True})
        pause(0.5)


def _lock(handle: int) -> bool:
    """Take the lock of an open file, if no other process has it.

    Not by waiting in the kernel, where the process would not hear that it is to end.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
