"""What this workflow uses of Snakemake beyond its documented interface, and why.

Everything of that kind stands here, so that a new version of Snakemake is tried with one file:
``tests/running/test_engine.py`` says in words which part has changed. ``pyproject.toml`` allows the
versions that it was tried with.
"""

import ast
import io
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import snakemake.api  # imports snakemake.workflow, which cannot be the first
from snakemake.cli import get_argument_parser, main
from snakemake.jobs import Job
from snakemake.logging import logger
from snakemake.persistence.file import FilePersistence
from snakemake_interface_logger_plugins.common import LogEvent

from collapseflow.running.errors import UserError
from collapseflow.running.files import FULL, write_text
from collapseflow.running.jobs import full_disk, was_mistake
from collapseflow.running.lease import has_ended, lease, read_holder, without_life

# --- the command line -------------------------------------------------------------------------


def configuration_files(workflow: Any) -> list[Path]:
    """The files behind ``--configfile``, or the Snakefile's own: Snakemake reads them leniently
    (a key twice, a tab), and merges them before the workflow sees anything."""
    return list(workflow.configfiles)


def configuration_words(workflow: Any) -> list[str]:
    """The words behind ``--config``: Snakemake has turned their values into others by then."""
    return list(workflow.config_settings.config_args or ())


def targets_among(words: Sequence[str]) -> list[str]:
    """The targets among the words of a command line: only Snakemake's own parser knows which
    options take a value."""
    return get_argument_parser().parse_known_args(words)[0].targets


def has_default_resource(workflow: Any, key: str) -> bool:
    """Whether a profile gives every job a resource: jobs for a cluster have a partition."""
    return key in (workflow.resource_settings.default_resources or ())


def is_made(workflow: Any, path: str) -> bool:
    """Whether some rule may make a file."""
    return any(rule.is_producer(path) for rule in workflow.rules)


# --- the planned jobs -------------------------------------------------------------------------


def before_the_planned_jobs(tell: Callable[[], None]) -> None:
    """Call ``tell`` once when the jobs are known and before Snakemake lists them, in a dry run,
    too, where ``onstart`` is not called. Part of the log: a filter that lets everything pass."""

    def listen(record: logging.LogRecord) -> bool:
        if getattr(record, "event", None) == LogEvent.RUN_INFO:
            logger.removeFilter(listen)
            tell()
        return True

    logger.addFilter(listen)


def planned_jobs(workflow: Any) -> list[Job]:
    """The jobs that Snakemake is going to run: the table of a dry run has their number only."""
    return list(workflow.dag.needrun_jobs())


def finished_rules(workflow: Any) -> set[str]:
    """The rules of which a job has been finished: ``onsuccess`` is not told."""
    return {job.rule.name for job in workflow.dag.finished_jobs}


def submits_to_slurm(workflow: Any) -> bool:
    """Whether jobs are submitted to SLURM."""
    return workflow.executor_plugin.name == "slurm"


def name_of_submitted(workflow: Any, job: Job) -> str:
    """The name that Snakemake's plugin gives to all jobs in SLURM that this call submits: by it a
    later call finds those that are left of a dead one."""
    return workflow.scheduler.get_executor(job).run_uuid


def retry_no_mistakes() -> None:
    """Let no job be tried again that has ended with what only the user can mend: the same would
    happen again. Snakemake asks a job that has failed how often it may be; a rule's ``retries``
    are fixed before.

    On a node a job is run once, and the question is left to the process that submits.
    """
    Job.restart_times = property(lambda job: 0 if was_mistake(job.log) else job.rule.restart_times)


def tell_of_full_disks() -> None:
    """Let Snakemake say in one line that the disk has no room for what it writes itself (locks,
    scripts, notes on jobs): it shows such an exception with its traceback, and another for each
    line that its log has no room for. Part of the log: a filter that lets everything pass."""
    logging.raiseExceptions = False
    full = "|".join(map(re.escape, map(os.strerror, FULL)))

    def shorten(record: logging.LogRecord) -> bool:
        found = re.search(rf"(?:{full})(?:: '(.*)')?", str(record.msg))
        if found and record.levelno >= logging.ERROR:
            record.msg = full_disk(found[1])
        return True

    logger.addFilter(shorten)


# --- a plan in words --------------------------------------------------------------------------

#: Takes the plan in words, where it was asked for: by :func:`dry_run`, in this process.
take_plan: Callable[[str], None] | None = None


def dry_run(words: Sequence[str]) -> str | None:
    """What the workflow tells :data:`take_plan` in a dry run with these words behind
    ``snakemake``; None if there is nothing to do.

    Through Snakemake's command, so that profiles and defaults are those of every other call.

    Raises
    ------
    UserError
        With what the workflow or Snakemake says, if there is no plan.
    """
    global take_plan
    told: list[str] = []
    said = io.StringIO()
    take_plan = told.append
    # Read by the profile, and by what refuses unknown targets.
    sys.argv = ["snakemake", "--dry-run", "--quiet", "progress", "rules", *words]
    try:
        with redirect_stdout(said), redirect_stderr(said):
            main(sys.argv[1:])
    except SystemExit as end:
        if end.code:
            text = end.code if isinstance(end.code, str) else said.getvalue().strip()
            raise UserError(text) from None
    finally:
        take_plan = None
    return told[0] if told else None


@dataclass(frozen=True)
class Planned:
    """A job that is going to run.

    Attributes
    ----------
    rule
        Its rule.
    outputs
        The files and folders that it makes.
    benchmark
        Where its time is kept; empty of one that has no such file.
    cause
        Why it runs, in words; empty if only because of ``before`` and ``now``.
    before
        The values of parameters that the present outputs were made with and that it no longer has,
        as far as they can be read; otherwise their text. Snakemake keeps no names.
    now
        By name, the values of parameters that those were not made with.
    """

    rule: str
    outputs: tuple[str, ...]
    benchmark: str = ""
    cause: str = ""
    before: tuple[Any, ...] = ()
    now: dict[str, Any] = field(default_factory=dict)


def describe(workflow: Any, job: Job) -> Planned:
    """A planned job and why it runs. Snakemake itself prints values that have changed as two sets
    of texts, and looks for them only in jobs before which no other job runs."""
    described = (job.rule.name, tuple(map(str, job.output)), str(job.benchmark or ""))
    reason = workflow.dag.reason(job)
    there = any(Path(path).exists() for path in job.output)
    if not there:
        known = any(workflow.persistence.metadata(path) for path in job.output)
        return Planned(*described, "its files are missing" if known else "first time")
    if reason.forced or reason.incomplete_output:
        return Planned(*described, "was interrupted")
    change = workflow.persistence.params_changed(job)
    return Planned(
        *described,
        cause=_cause(reason),
        before=tuple(_value(text) for text in sorted(change.only_old)),
        now={name: value for name, value in job.params.items() if repr(value) in change.only_new},
    )


def _cause(reason: Any) -> str:
    """Why a job runs of which something was made before, but for changed parameters."""
    if reason.missing_output:
        return "its files are missing"
    if newer := sorted(set(map(str, reason.updated_input - reason.updated_input_run))):
        more = f" and {len(newer) - 1} more" if len(newer) > 1 else ""
        return f"older than {newer[0]}{more}"
    if reason.updated_input_run:
        return "its input is made anew"
    if reason.input_changed:
        return "has other input files"
    return "" if reason.params_changed else str(reason)


def _value(text: str) -> Any:
    """What a text that Snakemake keeps of a parameter stands for, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# --- locks that have an owner -----------------------------------------------------------------

#: Seconds between two signs of life of a session, and those for which one on another machine is
#: watched: a network file system may show a file as it was a minute ago.
BEAT, PATIENCE = 10.0, 180.0


class OwnedLocks(FilePersistence):
    """Snakemake's locks on the files of a session, with the session that owns them.

    Snakemake's lock files say which files, not whose: those of a killed session stay until
    somebody removes all of them (``--unlock``), and whoever ends first removes those of others.
    Here a session draws a number, which its lock files bear in Snakemake's own folder and format,
    and holds a lease of that number from before it writes them until after it has removed them.
    So whose a lock is can be told at every moment, and locks of dead sessions hold nobody up. One
    session at a time looks and locks: of two at once, one is refused.

    Lock files without a lease are another workflow's, or of one that imports this one as a module:
    they count, and only ``--unlock`` removes them. Snakemake replaces ``lock`` where it takes no
    locks: in a dry run (``lock_warn_only``), in jobs and with ``--nolock``.
    """

    study = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._number = str(secrets.randbelow(10**18))
        self._locks = Path(self._lockdir)
        self._sessions = self.path / "collapseflow" / "sessions"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the files of this session while the block runs; end in one line if one that lives
        makes or reads them."""
        says = {"study": self.study, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with ExitStack() as held:
            with self._alone():
                for number in self._leases():
                    if self._owner_has_ended(number) or self._is_silent(number):
                        self._remove(number)
                    elif self._holds_up(number):
                        sys.exit(self._line(number))
                held.enter_context(lease(self._lease(self._number), BEAT, PATIENCE, says))
                held.enter_context(super().lock())
            yield

    def cleanup_locks(self) -> None:
        """``--unlock``: remove every lock, but those of sessions that live."""
        with self._alone():
            for number in {path.name.split(".")[0] for path in self._lock_files()}:
                lives = self._lease(number).exists() and not (
                    self._owner_has_ended(number) or self._is_silent(number)
                )
                if lives:
                    logger.warning(f"left locked: {self._line(number)}")
                else:
                    self._remove(number)

    def _alone(self) -> AbstractContextManager[None]:
        return lease(self._sessions.with_name("locking.lease"))

    def _lease(self, number: str) -> Path:
        return self._sessions / f"{number}.lease"

    def _leases(self) -> list[str]:
        return sorted(path.stem for path in self._sessions.glob("*.lease"))

    def _lock_files(self, number: str = "*") -> list[Path]:
        name = f"{number}.*put.lock"
        return [*self._locks.glob(name), *self._sessions.glob(name)]

    def _locked_files(self, lock_file: Path) -> set[str]:
        try:
            return set(lock_file.read_text(encoding="utf-8").splitlines())
        except FileNotFoundError:  # just unlocked
            return set()

    def _owner_has_ended(self, number: str) -> bool:
        return has_ended(self._lease(number)) is True

    def _holds_up(self, number: str) -> bool:
        """Whether a session makes what this one makes or reads, or reads what this one makes."""
        made = {str(file) for file in self.all_outputfiles()}
        used = made | {str(file) for file in self.all_inputfiles()}
        return any(
            self._locked_files(path) & (made if path.name.endswith(".input.lock") else used)
            for path in self._lock_files(number)
        )

    def _is_silent(self, number: str) -> bool:
        """Whether a session that cannot be looked at, and holds this one up, shows no sign of
        life."""
        path = self._lease(number)
        if has_ended(path) is not None or not self._holds_up(number):
            return False
        logger.warning(f"{self._line(number)}; waiting up to {PATIENCE:.0f} s for a sign of life")
        return bool(without_life([path], PATIENCE))

    def _line(self, number: str) -> str:
        holder = read_holder(self._lease(number))
        host, *_ = holder.get("host", "an unknown machine").split()
        return (
            f"study {holder.get('study')} in {self.path.parent}: process {holder.get('pid')} on "
            f"{host} has been making it since {holder.get('since')}; wait until it ends, or end it"
        )

    def _remove(self, number: str) -> None:
        for path in self._lock_files(number):
            path.unlink(missing_ok=True)
        self._lease(number).unlink(missing_ok=True)

    # What Snakemake asks of a way to keep locks.

    def _read_locks(self) -> Iterator[tuple[str, str]]:
        for path in self._lock_files():
            number, kind, _ = path.name.split(".")
            if not self._owner_has_ended(number):
                for key in self._locked_files(path):
                    yield kind, key

    def _write_locks(self, lock_type: str, keys: Iterable[str]) -> None:
        text = "".join(f"{key}\n" for key in keys)
        # In Snakemake's folder for others, which remove all that is in it when they end.
        for folder in (self._locks, self._sessions) if text else ():
            write_text(folder / f"{self._number}.{lock_type}.lock", text)

    def _delete_locks(self) -> None:
        for path in self._lock_files(self._number):
            path.unlink(missing_ok=True)


def own_the_locks(study: str) -> None:
    """Let this session's locks have an owner, who makes ``study``; before the jobs are known.

    Not in a process that runs one job, nor where another workflow imports this one.
    """
    OwnedLocks.study = study
    snakemake.workflow.FilePersistence = OwnedLocks
