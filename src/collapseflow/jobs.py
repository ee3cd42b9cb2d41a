"""What every script of the workflow does around its one call: log, threads, errors."""

import errno
import logging
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from collapseflow.errors import UserError
from collapseflow.files import remove_partial
from collapseflow.lease import lease

logger = logging.getLogger("collapseflow")


@contextmanager
def job(snakemake) -> Iterator[None]:
    """Run the body of a Snakemake script.

    Everything is logged to the rule's log file, and for jobs that keep finished parts also behind
    what earlier runs have logged in the folder of the parts: Snakemake deletes a job's log before
    it runs the job again. Errors and progress also reach the screen. A :class:`UserError`, a full
    disk or too little memory ends the job with one line and exit status 1; any other exception is
    logged with its traceback. SIGTERM, the polite end of a job at its time limit, ends it as an
    exception would: nothing partial stays behind. Two processes never run the same job at the
    same time.
    """
    name = snakemake.rule
    if snakemake.wildcards:
        name += " " + " ".join(snakemake.wildcards)
    files = [Path(snakemake.log[0])]
    if hasattr(snakemake.params, "progress"):
        files.append(Path(snakemake.params.progress) / "history.log")
    _configure_logging(files, name)
    _prepare_for_networks(snakemake.threads)
    signal.signal(signal.SIGTERM, _terminate)
    started = time.monotonic()
    try:
        with lease(f"{snakemake.log[0]}.lease"):
            for path in snakemake.output:
                remove_partial(path)
            yield
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC or "No space left" in str(error):
            _fail(f"no space left on the device ({error.filename or error}); free some and rerun")
        logger.exception("the job failed")
        raise
    except Exception as error:
        # PyTorch's own error is told by its name: few jobs import PyTorch.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            line = str(error).splitlines()[0] if str(error) else "out of memory"
            _fail(f"{line}; lower the batch size or the number of images, or use a larger machine")
        logger.exception("the job failed")
        raise
    logger.info("finished in %.1f s", time.monotonic() - started)


def _terminate(number: int, frame: object) -> None:
    logger.error("stopped by a signal (SIGTERM); finished parts are kept, run again to go on")
    sys.exit(128 + number)


def _fail(line: str) -> None:
    logger.error(line)
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


def _prepare_for_networks(threads: int) -> None:
    """Use exactly ``threads`` cores: Snakemake sets the variables of OpenMP and BLAS before the
    script starts; PyTorch's pools are set here if the script has imported it."""
    if "torch" in sys.modules:
        from collapseflow.hardware import prepare_process

        prepare_process(threads)


def progress(items: Iterable, total: int, what: str, every: float = 15.0) -> Iterator:
    """Pass ``items`` on and say how far one is, at most once in ``every`` seconds."""
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
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
