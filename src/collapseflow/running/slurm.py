"""What the workflow asks a SLURM cluster before its first job."""

import atexit
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapseflow.running.errors import UserError
from collapseflow.running.lease import Lease, has_ended, read_holder, without_life


def _ask(*command: str) -> str:
    """What a SLURM command prints.

    Raises
    ------
    UserError
        With SLURM's own words, if it fails.
    """
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]}: not found; run this on a SLURM cluster") from None
    if answer.returncode:
        words = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
        raise UserError(f"{words[-1]}; is this a login node of a SLURM cluster?")
    return answer.stdout


def _configuration() -> dict[str, str]:
    """The cluster's configuration; empty where there is no cluster."""
    if shutil.which("scontrol") is None:
        return {}
    answer = subprocess.run(
        ["scontrol", "show", "config"], capture_output=True, text=True, check=False
    )
    pairs = (line.partition("=") for line in answer.stdout.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def has_accounting() -> bool:
    """Whether the cluster keeps records of finished jobs, which ``sacct`` can be asked for.

    Without them ``sacct`` is installed all the same and knows no job.
    """
    return _configuration().get("AccountingStorageType") == "accounting_storage/slurmdbd"


# --- jobs of other runs -----------------------------------------------------------------------

#: Where runs in a folder hold their leases: outside of results, beside Snakemake's own locks.
RUNS = Path(".snakemake") / "collapseflow" / "runs"


def announce_run(folder: str | Path, run: str) -> None:
    """Hold a lease in the name of this process's jobs until it ends.

    It is given back at the end, unless the run leaves jobs behind: then the next one finds it, and
    its holder gone.

    Parameters
    ----------
    run
        The name that all jobs of this run have.
    """
    # Not the working directory of the moment: that may have changed at the end.
    folder = Path(folder).resolve()
    held = Lease(_lease_of(folder, run), beat=10.0)
    held.acquire()
    atexit.register(_end_run, held, folder, run)


def _end_run(held: Lease, folder: Path, run: str) -> None:
    try:
        left = run in _jobs_in(folder)
    except UserError:
        left = True
    if not left:
        held.release()


def _lease_of(folder: str | Path, run: str) -> Path:
    return Path(folder) / RUNS / f"{run}.lease"


def cancel_leftovers(
    folder: str | Path,
    say: Callable[[str], None],
    patience: float = 180.0,
    seconds: float = 120.0,
) -> None:
    """Cancel the jobs that dead runs of Snakemake have left in ``folder``; wait until they end.

    Nobody would ever learn of their end. What they have finished is kept. A run is dead if its
    process was one of this machine and is gone, or if it is on another machine and leaves no sign
    of life. Jobs of live runs, and of runs that have left no lease, are left alone.

    Parameters
    ----------
    say
        Told in one line what is done, and what is left alone.
    patience
        Seconds to wait for the sign of life of a run on another machine; it leaves one every ten.
    seconds
        To wait until cancelled jobs have ended.

    Raises
    ------
    UserError
        If they do not end.
    """
    jobs = _jobs_in(folder)
    leases = {path.stem: path for path in _own_leases(folder)}
    ended = {run: has_ended(path) for run, path in leases.items()}
    elsewhere = {run: leases[run] for run in jobs if run in leases and ended[run] is None}
    for run, path in elsewhere.items():
        say(
            f"SLURM jobs {', '.join(jobs[run])} belong to a run on {_machine(path)}; waiting up to "
            f"{patience:.0f} s for a sign of life"
        )
    silent = without_life(elsewhere.values(), patience)
    jobs = _jobs_in(folder) if elsewhere else jobs
    dead = [run for run, path in leases.items() if ended[run] or path in silent]
    for run in jobs:
        numbers = ", ".join(jobs[run])
        if run not in leases:
            say(
                f"SLURM jobs {numbers} were submitted from this folder by a run that is not known "
                f"here; if it no longer runs, cancel them: scancel {' '.join(jobs[run])}"
            )
        elif run not in dead:
            say(
                f"SLURM jobs {numbers} are left alone: they belong to a run on "
                f"{_machine(leases[run])}, process {read_holder(leases[run]).get('pid')}"
            )
    left = [number for run in jobs if run in dead for number in jobs[run]]
    if left:
        _cancel(folder, left, seconds)
        say(f"cancelled SLURM jobs {', '.join(left)} of an interrupted run")
    for run in dead:
        leases[run].unlink(missing_ok=True)


def _cancel(folder: str | Path, left: list[str], seconds: float) -> None:
    _ask("scancel", *left)
    deadline = time.monotonic() + seconds
    while running := [n for of_run in _jobs_in(folder).values() for n in of_run if n in left]:
        if time.monotonic() > deadline:
            raise UserError(
                f"SLURM jobs {', '.join(running)} of an interrupted run do not end; "
                "look at them with squeue and start again when they are gone"
            )
        time.sleep(1)


def _own_leases(folder: str | Path) -> list[Path]:
    """The leases of this user's runs: processes of others may be hidden, and seem to be gone."""
    paths = []
    for path in (Path(folder) / RUNS).glob("*.lease"):
        with suppress(FileNotFoundError):
            if path.stat().st_uid == os.getuid():
                paths.append(path)
    return paths


def _machine(path: Path) -> str:
    return read_holder(path).get("host", "an unknown machine").split()[0]


def _jobs_in(folder: str | Path) -> dict[str, list[str]]:
    """By run, the jobs that Snakemake's SLURM plugin has submitted from a folder and that have
    not ended."""
    listed = _ask("squeue", "--me", "--noheader", "--format=%i|%j|%k|%Z")
    here = Path(folder).resolve()
    jobs: dict[str, list[str]] = {}
    for line in listed.splitlines():
        number, run, rest = line.strip().split("|", 2)
        comment, _, workdir = rest.rpartition("|")
        if comment.startswith("rule_") and Path(workdir).resolve() == here:
            jobs.setdefault(run, []).append(number)
    return jobs


# --- requests that no node can serve ----------------------------------------------------------


@dataclass
class Partition:
    """The largest of what a partition's nodes offer; minutes is None without a limit."""

    minutes: float | None
    cpus: int = 0
    mem_mb: int = 0
    gpus: int = 0
    default: bool = False


def at_most(offer: Partition | None, key: str, amount: int) -> int:
    """An amount of ``mem_mb`` or ``minutes``, or as much as a partition has, if that is less."""
    limit = getattr(offer, key, None)
    return amount if limit is None else min(amount, int(limit))


def parse_partitions(listing: str) -> dict[str, Partition]:
    """Partitions by name, from lines in ``sinfo``'s format ``%P|%l|%c|%m|%G``."""
    partitions: dict[str, Partition] = {}
    for line in listing.splitlines():
        name, limit, cpus, memory, gres = line.strip().split("|")
        partition = partitions.setdefault(
            name.rstrip("*"), Partition(_minutes(limit), default=name.endswith("*"))
        )
        partition.cpus = max(partition.cpus, _number(cpus))
        partition.mem_mb = max(partition.mem_mb, _number(memory))
        partition.gpus = max(partition.gpus, _count_gpus(gres))
    return partitions


def _number(printed: str) -> int:
    # SLURM shortens a multiple of 1,024 CPUs.
    digits = printed.rstrip("+")
    return int(digits[:-1]) * 1024 if digits.endswith("K") else int(digits)


def _minutes(limit: str) -> float | None:
    if limit in ("infinite", "n/a"):
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _count_gpus(gres: str) -> int:
    count = 0
    for resource in gres.split(","):
        name, *rest = resource.split("(")[0].split(":")
        if name == "gpu":
            count += int(rest[-1]) if rest and rest[-1].isdigit() else 1
    return count


def check_requests(
    requests: Iterable[tuple[str, int, Mapping[str, Any]]], partitions: Mapping[str, Partition]
) -> dict[str, Partition]:
    """Find what would be refused by SLURM, or would wait in its queue for ever.

    Parameters
    ----------
    requests
        A rule's name, threads and resources, one for each kind of job.

    Returns
    -------
    The partition of each rule.

    Raises
    ------
    UserError
        One line for each rule that no node of its partition can serve.
    """
    default = next((name for name, p in partitions.items() if p.default), None)
    lines, offers = [], {}
    for rule, threads, resources in requests:
        name = resources.get("slurm_partition") or default
        if name is None:
            lines.append(
                "this cluster has no default partition: set cpu_partition and gpu_partition; "
                f"allowed: {', '.join(partitions)}"
            )
            continue
        if name not in partitions:
            lines.append(f"partition {name!r} is unknown; allowed: {', '.join(partitions)}")
            continue
        offer = offers[rule] = partitions[name]
        asked = {
            "gpu": (resources.get("gpu", 0), offer.gpus, "GPUs on a node"),
            "threads": (threads, offer.cpus, "CPUs on a node"),
            "mem_mb": (resources.get("mem_mb", 0), offer.mem_mb, "MB on a node"),
            "runtime": (resources.get("runtime", 0), offer.minutes, "minutes"),
        }
        for key, (amount, limit, unit) in asked.items():
            if limit is not None and amount > limit:
                remedy = (
                    "set gpu_partition, or `device: cpu` in the study"
                    if key == "gpu"
                    else ("set another partition, or set-resources for this rule")
                )
                lines.append(
                    f"rule {rule}: {key} {amount} is more than partition {name!r} has "
                    f"({limit:.0f} {unit}); {remedy}"
                )
    if lines:
        raise UserError("\n".join(f"profiles/slurm: {line}" for line in dict.fromkeys(lines)))
    return offers


def check_accounts(accounts: Iterable[str]) -> None:
    """Find accounts that the user may not submit under; without records of accounts, all pass.

    An empty account stands for the user's default: it passes if the user has any, or if the
    cluster does not insist on one.

    Raises
    ------
    UserError
        One line that says which are allowed.
    """
    if not has_accounting():
        return
    command = ("sacctmgr", "--noheader", "--parsable2", "show", "assoc")
    listed = _ask(*command, f"user={getpass.getuser()}", "format=account").split()
    insists = "associations" in _configuration().get("AccountingStorageEnforce", "").split(",")
    for account in accounts:
        if account not in listed and (account or (insists and not listed)):
            allowed = ", ".join(sorted(set(listed))) or "none: ask the cluster's support for one"
            raise UserError(f"profiles/slurm: account {account!r} is not yours; allowed: {allowed}")


def check(requests: Iterable[tuple[str, int, Mapping[str, Any]]]) -> dict[str, Partition]:
    """Compare the jobs of a run with the cluster that they are for.

    Returns
    -------
    The partition of each rule.

    Raises
    ------
    UserError
        One line for each mistake.
    """
    requests = list(requests)
    # Nodes of different size each on a line of their own; partitions that are hidden, too.
    listing = _ask("sinfo", "--noheader", "--exact", "--all", "--format=%P|%l|%c|%m|%G")
    offers = check_requests(requests, parse_partitions(listing))
    check_accounts({str(r.get("slurm_account") or "") for *_, r in requests})
    return offers
