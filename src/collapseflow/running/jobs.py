"""What every script of the workflow does around its one call: log, threads, errors."""

import logging
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from collapseflow.running.cards import distrust_cards
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import is_full_disk, remove_partial, write_json
from collapseflow.running.lease import lease
from collapseflow.running.resume import seconds_taken_over
from collapseflow.running.stop import WORDS, Stopped, heed, listen
from collapseflow.running.words import printable

logger = logging.getLogger("collapseflow")


@contextmanager
def job(snakemake) -> Iterator[None]:
    """Run the body of a Snakemake script.

    Everything is logged to the rule's log file, and for jobs that keep finished parts also behind
    what earlier runs have logged in the folder of the parts: Snakemake deletes a job's log before
    it runs the job again. Errors and progress also reach the screen. A :class:`UserError`, a full
    disk or too little memory ends the job with one line and exit status 1; any other exception is
    logged with its traceback. SIGTERM, the polite end of a job at its time limit, ends it as an
    exception would, with one line (:mod:`collapseflow.running.stop`): nothing partial stays behind.
    Two processes never run the same job at the same time. What a job that succeeds has cost stands
    beside its log (:func:`cost_file`). After an error that another attempt would only repeat,
    :func:`was_mistake` says so.
    """
    name = snakemake.rule
    if snakemake.wildcards:
        name += " " + " ".join(snakemake.wildcards)
    files = [Path(snakemake.log[0])]
    if hasattr(snakemake.params, "progress"):
        files.append(Path(snakemake.params.progress) / "history.log")
    _configure_logging(files, name)
    _prepare_for_networks(snakemake.threads)
    listen()
    started = time.monotonic()
    try:
        with lease(f"{snakemake.log[0]}.lease"):
            for path in snakemake.output:
                remove_partial(path)
            _mark_of_mistake(snakemake.log).unlink(missing_ok=True)
            yield
            cost = {
                "seconds_taken_over": seconds_taken_over(),
                "peak_memory_mib": peak_memory(),
            }
            write_json(cost_file(snakemake.log[0]), cost)
    except Stopped:
        logger.error(WORDS)
        raise
    except UserError as error:
        if not isinstance(error, TemporaryError):
            # Without the mark the job is only tried again.
            with suppress(OSError):
                _mark_of_mistake(snakemake.log).touch()
        _fail(str(error))
    except Exception as error:
        if is_full_disk(error):
            _fail(full_disk(getattr(error, "filename", None)))
        # PyTorch's own error is told by its name: few jobs import PyTorch.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            line = str(error).splitlines()[0] if str(error) else "out of memory"
            _fail(f"{line}; lower the batch size or the number of images, or use a larger machine")
        if "CUDA error" in str(error) and "out of memory" not in str(error):
            distrust_cards()
        logger.exception("the job failed")
        raise
    logger.info("finished in %.1f s", time.monotonic() - started)


def full_disk(path: str | None) -> str:
    """What is said where a disk has no room for a file, whose name may not be known."""
    return f"no space left on the device{f' ({path})' if path else ''}; free some and rerun"


def cost_file(log: str | Path) -> Path:
    """Where a job with this log says what Snakemake's benchmark file cannot: the seconds of the
    parts that it took over from earlier runs, and its own peak memory."""
    return Path(log).with_suffix(".cost.json")


def peak_memory() -> float:
    """Largest resident set in MiB of this process, or of a child that it has waited for.

    The kernel's own count: Snakemake samples, and misses what is short.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss goes on from the process that started this one, as large as that was.
        lines = [line.split() for line in status.read_text().splitlines()]
        own = next((int(line[1]) for line in lines if line[0] == "VmHWM:"), own)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return max(own, children) / unit


def was_mistake(log: Sequence[str]) -> bool:
    """Whether the job of a log has just ended with what only the user can mend.

    To be asked once, where it is decided whether the job is tried again: the mark of it is removed.
    """
    if not log:
        return False
    try:
        _mark_of_mistake(log).unlink()
    except OSError:
        return False
    return True


def _mark_of_mistake(log: Sequence[str]) -> Path:
    return Path(f"{log[0]}.mistake")


def _fail(line: str) -> None:
    logger.error(printable(line))
    sys.exit(1)


def _configure_logging(files: Sequence[Path], name: str) -> None:
    to_screen = logging.StreamHandler(sys.stderr)
    to_screen.setFormatter(logging.Formatter(f"[{name}] %(levelname)s: %(message)s"))
    to_screen.addFilter(
        lambda record: record.levelno >= logging.ERROR or getattr(record, "progress", False)
    )
    handlers: list[logging.Handler] = [to_screen]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        to_file = logging.FileHandler(path, encoding="utf-8")
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(to_file)
    # Libraries tell what works as INFO: dozens of lines for each PDF or each fitted forest.
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # On a full disk each line of the log would end on the screen, with two tracebacks.
    logging.raiseExceptions = False


def _prepare_for_networks(threads: int) -> None:
    """Use exactly ``threads`` cores: Snakemake sets the variables of OpenMP and BLAS before the
    script starts; PyTorch's pools are set here if the script has imported it."""
    if "torch" in sys.modules:
        from collapseflow.running.hardware import prepare_process

        prepare_process(threads)


def progress(items: Iterable, total: int, what: str, every: float = 15.0) -> Iterator:
    """Pass ``items`` on and say how far one is, at most once in ``every`` seconds.

    Before each item the process ends if it was asked to
    (:func:`collapseflow.running.stop.heed`).

    In lines of the log: tqdm's bars redraw one line of a terminal, on which several jobs write
    here, and which a job on a cluster does not have.
    """
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        heed()
        yield item
        now = time.monotonic()
        if now - last >= every and done < total:
            last = now
            remaining = (now - started) / done * (total - done)
            logger.info(
                "%s: %d of %d, about %.0f s left",
                what,
                done,
                total,
                remaining,
                extra={"progress": True},
            )
