"""Cards of one machine: which there are, which are in use, and one for each job.

Snakemake counts cards as it counts any resource, but does not say which one a job may use. Jobs
settle that themselves with locks on files of this machine, which the kernel releases when a
process ends, however it ends. A card is known by its UUID, which is also how a process says in
``CUDA_VISIBLE_DEVICES`` that it uses no other: all of this is done before CUDA is started, which
would open a context on cards of other jobs. The driver is asked through NVML (the package
nvidia-ml-py, where it is installed) or through nvidia-smi.

The locks are one user's, in a folder that only this user may open, and follow no link: its name can
be known before it is made. Whom else a card serves is seen in its processes and free memory; such
cards are taken last. On a cluster SLURM has chosen the job's cards, and the locks only divide
them among processes of one job. Where cards are shared by arrangement (:data:`SHARED`) a job takes
one that is locked rather than wait for it.
"""

import fcntl
import logging
import os
import re
import stat
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from collapseflow.running.errors import UserError
from collapseflow.running.stop import pause

logger = logging.getLogger(__name__)

#: The same for all jobs of a user on a machine, whatever their variables say (TMPDIR).
LOCKS = Path("/tmp") / f"collapseflow-cards-{os.getuid()}"
#: Set where several processes are meant to share a card: by SLURM for gres/shard and gres/mps
#: (src/plugins/gres/{shard,mps}), by users of NVIDIA's multi-process service.
SHARED = ("SLURM_SHARDS_ON_NODE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PIPE_DIRECTORY")
#: Seconds for which a card that has failed is taken last, and that nvidia-smi may take to answer.
DISTRUST, PATIENCE = 3600.0, 30.0
#: Open lock files by the cards that this process has until it ends.
_held: dict[str, int] = {}


def count_cards() -> int:
    """The number of CUDA devices that jobs started from here may use; 0 without a driver."""
    return len(visible_cards())


def visible_cards() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` calls the cards that this process may use, in their order.

    UUIDs: of a card that is sliced (MIG) those of its slices, of each of which a process may use
    one. Of a variable that is set the rules are CUDA's (programming guide, "CUDA Environment
    Variables"): numbers and beginnings of UUIDs, up to the first that means no card. Numbers are
    counted in the order of the bus, as nvidia-smi and SLURM count them. What the driver does not
    list is taken at its word.
    """
    present = _present()
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [name for _, name in present]
    chosen: list[str] = []
    for entry in map(str.strip, wanted.split(",")):
        if entry.isdecimal():
            found = [name for number, name in present if number == int(entry)]
            found = found if present else [entry]
        elif entry.startswith(("GPU-", "MIG-")):
            found = [name for _, name in present if name.startswith(entry)] or [entry]
            # Of several it is none.
            found = found if len(found) == 1 else []
        else:
            found = []
        if not found:
            break
        chosen += found
    return chosen


def was_given_a_card() -> bool:
    """Whether SLURM has given a card to this job (src/plugins/gres/gpu)."""
    return any(os.environ.get(name) for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS"))


def claim_cards(names: Sequence[str], count: int) -> list[str]:
    """Take ``count`` cards as :func:`claim_card` does, one job after another: two jobs that each
    have some of what they need would wait for each other.

    Those come first that have not failed lately (:func:`distrust_cards`), on which no process of
    others computes, and that have the most free memory.
    """
    with os.fdopen(_open("claiming.lock")) as turn:
        while not _lock(turn.fileno()):
            pause(0.5)
        in_use = _in_use()

        def last(name: str) -> tuple[bool, bool, int]:
            n_processes, free = in_use.get(name, (0, 0))
            return _has_failed(name), n_processes > 0, -free

        names = sorted(names, key=last)
        cards: list[str] = []
        while len(cards) < count:
            cards.append(claim_card([name for name in names if name not in cards]))
    for name, (n_processes, _) in _in_use().items():
        if name in cards and n_processes and not _is_shared():
            logger.warning(
                "card %s is in use by others, too (processes: %d); no better one was free",
                name,
                n_processes,
                extra={"progress": True},
            )
    return cards


def claim_card(names: Sequence[str]) -> str:
    """Take the first card that no other job has taken; wait while there is none.

    Parameters
    ----------
    names
        Some of :func:`visible_cards`.

    Returns
    -------
    The card's name; it is this process's until the process ends.
    """
    said = False
    while True:
        for name in names:
            if name in _held:
                return name
            handle = _open(_file(name, "lock"))
            if _lock(handle):
                _held[name] = handle
                return name
            os.close(handle)
        if _is_shared():
            _held[names[0]] = _open(_file(names[0], "lock"))
            return names[0]
        if not said:
            said = True
            logger.info("every card is in use; waiting for one", extra={"progress": True})
        pause(0.5)


def distrust_cards() -> None:
    """Let other jobs take the cards of this process last for some time: it has failed on them."""
    for name in _held:
        with os.fdopen(_open(_file(name, "failed"))) as mark:
            os.utime(mark.fileno())


def _is_shared() -> bool:
    return any(os.environ.get(name) for name in SHARED)


def _has_failed(name: str) -> bool:
    try:
        return time.time() - (LOCKS / _file(name, "failed")).lstat().st_mtime < DISTRUST
    except FileNotFoundError:
        return False


def _file(name: str, kind: str) -> str:
    """The name of a file of a card; a number means a card within one job of SLURM alone."""
    if name.isdecimal() and (job := os.environ.get("SLURM_JOB_ID")):
        name = f"{job}-{name}"
    return f"{name.replace('/', '-')}.{kind}"


def _open(name: str) -> int:
    """Open a file in the folder of locks; both are made if they are new, and nothing is emptied.

    Raises
    ------
    UserError
        If another user has made the folder, or if it or the file is a link.
    """
    with suppress(FileExistsError):
        LOCKS.mkdir(mode=0o700)
    try:
        folder = os.open(LOCKS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise UserError(_not_ours(error.strerror)) from None
    try:
        status = os.fstat(folder)
        if status.st_uid != os.getuid():
            raise UserError(_not_ours(f"made by user {status.st_uid}"))
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(folder, 0o700)
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    except OSError as error:
        raise UserError(f"{LOCKS / name}: cannot be locked ({error.strerror}); remove it") from None
    finally:
        os.close(folder)


def _not_ours(reason: str) -> str:
    return (
        f"{LOCKS}: no folder of yours ({reason}), where jobs settle which card is whose; have it "
        "removed by its owner or by an administrator"
    )


def _lock(handle: int) -> bool:
    """Take the lock of an open file, if no other process has it.

    Not by waiting in the kernel, where the process would not hear that it is to end.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _present() -> list[tuple[int, str]]:
    """Number and name of all cards that the driver lists, or of their slices."""
    if (cards := _ask_nvml()) is not None:
        return [(number, name) for number, name, _, _ in cards]
    found: list[tuple[int, str]] = []
    for line in _ask_nvidia_smi("-L"):
        if card := re.match(r"GPU (\d+): .*?(?:\(UUID: (.+)\))?$", line):
            number = int(card[1])
            found.append((number, card[2] or card[1]))
        elif slice_ := re.match(r"\s+MIG .*\(UUID: (.+)\)$", line):
            # Whole, a sliced card can be used by nobody.
            found = [(n, name) for n, name in found if n != number or name.startswith("MIG-")]
            found.append((number, slice_[1]))
    return found


def _in_use() -> dict[str, tuple[int, int]]:
    """By name, how many processes compute on a card, and its free memory, as far as is known."""
    if (cards := _ask_nvml()) is not None:
        return {name: (n_processes, free) for _, name, n_processes, free in cards}
    users = _ask_nvidia_smi("--query-compute-apps=gpu_uuid", "--format=csv,noheader")
    memory = _ask_nvidia_smi("--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits")
    known = {}
    for name, _, free in (line.partition(", ") for line in memory):
        known[name] = (users.count(name), int(free) if free.isdecimal() else 0)
    return known


def _ask_nvml() -> list[tuple[int, str, int, int]] | None:
    """Number, name, processes and free memory of each card or slice; None without NVML."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return None
    cards = []
    try:
        for number in range(count):
            # A card that has fallen off the bus is still counted.
            with suppress(pynvml.NVMLError):
                whole = pynvml.nvmlDeviceGetHandleByIndex(number)
                for card in _slices(whole) or [whole]:
                    n_processes = free = 0
                    # Some cards and containers do not tell.
                    with suppress(pynvml.NVMLError):
                        free = pynvml.nvmlDeviceGetMemoryInfo(card).free
                        n_processes = len(pynvml.nvmlDeviceGetComputeRunningProcesses(card))
                    cards.append((number, pynvml.nvmlDeviceGetUUID(card), n_processes, free))
    finally:
        pynvml.nvmlShutdown()
    return cards


def _slices(card: object) -> list[object]:
    """NVML's handles of the slices (MIG) of a card; none of one that is whole."""
    import pynvml

    found = []
    with suppress(pynvml.NVMLError):
        for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(card)):
            with suppress(pynvml.NVMLError):
                found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, place))
    return found


def _ask_nvidia_smi(*options: str) -> list[str]:
    """The lines of an answer; none without nvidia-smi, or if it hangs, as on a broken driver."""
    try:
        child = subprocess.Popen(
            ["nvidia-smi", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return []
    try:
        return child.communicate(timeout=PATIENCE)[0].splitlines()
    except subprocess.TimeoutExpired:
        # Not waited for: within the driver it cannot even be killed.
        child.kill()
        logger.warning("nvidia-smi has not answered in %.0f s; no card is seen", PATIENCE)
        return []
