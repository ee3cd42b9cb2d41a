"""What every script of the workflow does around its one call: log, threads, errors."""

import errno
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from collapseflow.errors import UserError

logger = logging.getLogger("collapseflow")


@contextmanager
def job(snakemake) -> Iterator[None]:
    """Run the body of a Snakemake script.

    Everything is logged to the rule's log file; errors and progress also reach the screen.
    A :class:`UserError`, a full disk or too little memory ends the job with one line and exit
    status 1; any other exception is logged with its traceback.
    """
    name = snakemake.rule
    if snakemake.wildcards:
        name += " " + " ".join(snakemake.wildcards)
    _configure_logging(str(snakemake.log[0]), name)
    _limit_threads(snakemake.threads)
    started = time.monotonic()
    try:
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


def _fail(line: str) -> None:
    logger.error(line)
    sys.exit(1)


def _configure_logging(log_file: str, name: str) -> None:
    os.makedirs(os.path.dirname(log_file) or ".", exist_ok=True)
    to_file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    to_screen = logging.StreamHandler(sys.stderr)
    to_screen.setFormatter(logging.Formatter(f"[{name}] %(levelname)s: %(message)s"))
    to_screen.addFilter(
        lambda record: record.levelno >= logging.ERROR or getattr(record, "progress", False)
    )
    logging.basicConfig(level=logging.INFO, handlers=[to_file, to_screen], force=True)
    logging.captureWarnings(True)


def _limit_threads(threads: int) -> None:
    """Use exactly ``threads`` cores: Snakemake sets the variables of OpenMP and BLAS before the
    script starts; PyTorch's pools are set here if the script has imported it."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)


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
