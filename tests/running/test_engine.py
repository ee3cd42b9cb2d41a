"""Snakemake's parts beyond its documented interface, and locks of real sessions that are killed."""

import inspect
import json
import os
import re
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from collapseflow.running import engine, lease
from collapseflow.running.engine import OwnedLocks

SOURCE = Path(__file__).parents[2] / "src"
NEXT = "running/engine.py has to be adapted before pyproject.toml allows this version of Snakemake"

# --- what Snakemake has -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "name", "parameters"),
    [
        ("snakemake.cli", "get_argument_parser", ["profiles"]),
        ("snakemake.cli", "main", ["argv"]),
        ("snakemake.workflow:Workflow", "is_main_process", None),
        ("snakemake.workflow:Workflow", "_prepare_dag", ...),
        ("snakemake.workflow:Workflow", "basedir", None),
        ("snakemake.workflow:Workflow", "current_basedir", None),
        ("snakemake.api", "resolve_snakefile", ["path", "allow_missing"]),
        ("snakemake.workflow", "FilePersistence", ...),
        ("snakemake.dag:DAG", "needrun_jobs", ["self", "exclude_finished"]),
        ("snakemake.dag:DAG", "finished_jobs", None),
        ("snakemake.dag:DAG", "reason", ["self", "job"]),
        ("snakemake.jobs:Job", "restart_times", None),
        ("snakemake.jobs:Job", "non_derived_params", None),
        ("snakemake.rules:Rule", "is_producer", ["self", "requested_output"]),
        ("snakemake.scheduling.job_scheduler:JobScheduler", "get_executor", ["self", "job"]),
        ("snakemake.persistence.file:FilePersistence", "lock", ["self"]),
        ("snakemake.persistence.file:FilePersistence", "lock_warn_only", ["self"]),
        ("snakemake.persistence.file:FilePersistence", "cleanup_locks", ["self"]),
        ("snakemake.persistence.file:FilePersistence", "metadata", ["self", "target"]),
        ("snakemake.persistence.file:FilePersistence", "all_inputfiles", ["self"]),
        ("snakemake.persistence.file:FilePersistence", "all_outputfiles", ["self"]),
        ("snakemake.persistence.file:FilePersistence", "_read_locks", ["self"]),
        (
            "snakemake.persistence.file:FilePersistence",
            "_write_locks",
            ["self", "lock_type", "keys"],
        ),
        ("snakemake.persistence.file:FilePersistence", "_delete_locks", ["self"]),
    ],
)
def test_snakemake_has_what_is_used_of_it(where, name, parameters):
    module, _, owner = where.partition(":")
    __import__(module)
    holder = getattr(sys.modules[module], owner) if owner else sys.modules[module]
    assert hasattr(holder, name), f"Snakemake has no {where}.{name} any more; {NEXT}"
    found = inspect.getattr_static(holder, name)
    if parameters is None:
        assert isinstance(found, property), f"{where}.{name} is no property any more; {NEXT}"
    elif parameters is not ...:
        now = list(inspect.signature(found).parameters)
        assert now == parameters, f"{where}.{name} takes {now}, not {parameters}; {NEXT}"


def test_the_locks_that_are_replaced_are_those_that_snakemake_takes():
    source = inspect.getsource(sys.modules["snakemake.workflow"].Workflow._prepare_dag)
    assert "persistence = FilePersistence" in source, f"_prepare_dag is another one; {NEXT}"


def test_snakemake_says_why_a_job_runs():
    from snakemake.jobs import Reason
    from snakemake.persistence import ParamsChange

    lists = ("missing_output", "incomplete_output", "updated_input", "updated_input_run")
    for name in (*lists, "params_changed", "input_changed", "forced"):
        assert not getattr(Reason(), name), f"a reason's {name} is another one; {NEXT}"
    change = ParamsChange(only_old={"1"}, only_new={"2"})
    assert change and not ParamsChange(), f"ParamsChange is another one; {NEXT}"


SNAKEFILE = """
import errno
import os
import sys
sys.path.insert(0, {source!r})
from collapseflow.running import engine

def tell():
    planned = engine.planned_jobs(workflow)
    print("TOLD", sorted(job.rule.name for job in planned), file=sys.stderr)

def write_what_has_no_room(when):
    if config.get("full") == when:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.txt")

if workflow.is_main_process:
    engine.tell_of_full_disks()
    write_what_has_no_room("at first")
    engine.before_the_planned_jobs(tell)
    engine.own_the_locks(config.get("study", "toy"))
    print("FILES", [str(path) for path in engine.configuration_files(workflow)], file=sys.stderr)
    print("WORDS", engine.configuration_words(workflow), file=sys.stderr)
    print("MADE", engine.has_default_resource(workflow, "disk_gib"), file=sys.stderr)

onstart:
    write_what_has_no_room("on start")

onsuccess:
    print("FINISHED", sorted(engine.finished_rules(workflow)), file=sys.stderr)
    print("SLURM", engine.submits_to_slurm(workflow), file=sys.stderr)

rule all:
    input: "made.txt"

rule second:
    input: "first.txt"
    output: "made.txt"
    run:
        print(engine.is_made(workflow, "first.txt"), engine.is_made(workflow, "no.txt"),
              file=open(output[0], "w"))

rule first:
    output: "first.txt"
    shell: "touch {{output}}"

rule wait:
    output: "{{name}}.waited"
    shell:
        "touch {{wildcards.name}}.begun; "
        "while [ -e {{wildcards.name}}.hold ]; do sleep 0.1; done; "
        "touch {{output}}"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(source=str(SOURCE)))
    return tmp_path


@pytest.fixture
def call(folder, start_process):
    """A function that starts Snakemake in the folder, as a group of processes of its own."""
    groups = []

    def start(*words, study="toy"):
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *words]
        process = start_process(
            [*command, "--config", f"study={study}"], cwd=folder, start_new_session=True
        )
        groups.append(process.pid)
        return process

    yield start
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def end(process):
    """Wait for a process: its exit status and what it said."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def has_begun(folder, name, *processes):
    deadline = time.monotonic() + 120
    while not (folder / f"{name}.begun").exists():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), end(processes[0])
        time.sleep(0.05)


def kill(process):
    """Kill a session with its jobs, as a machine does that loses power."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def locks(folder):
    return sorted(path.name for path in (folder / ".snakemake" / "locks").glob("*"))


def test_what_is_asked_of_a_session_is_answered(folder, call):
    (folder / "own.yaml").write_text("other: 1\n")
    status, said = end(call("--configfile", "own.yaml", "--default-resources", "disk_gib=1"))
    assert status == 0, said
    assert said.count("TOLD ['all', 'first', 'second']") == 1
    assert "FILES ['own.yaml']" in said.replace(f"{folder}/", "")
    assert "WORDS ['study=toy']" in said
    assert "MADE True" in said
    assert "FINISHED ['all', 'first', 'second']" in said
    assert "SLURM False" in said
    # Its job in a process of its own has taken no lock, and has read none.
    assert (folder / "made.txt").read_text() == "True False\n"
    assert locks(folder) == []
    assert list((folder / ".snakemake/collapseflow/sessions").iterdir()) == []


def test_targets_are_told_from_the_values_of_options():
    words = ["--cores", "2", "--configfile", "a.yaml", "b.yaml", "--", "one", "two"]
    assert engine.targets_among(words) == ["one", "two"]


@pytest.mark.parametrize("when", ["at first", "on start"])
def test_a_disk_without_room_for_what_snakemake_writes_is_one_line(folder, call, when):
    (folder / "own.yaml").write_text(f"full: {when}\n")
    status, said = end(call("--configfile", "own.yaml"))
    assert status == 1 and "Traceback" not in said and "File" not in said
    assert said.count("no space left on the device (a.txt); free some and rerun") == 1


# --- locks ------------------------------------------------------------------------------------


def test_the_same_command_goes_on_after_its_session_was_killed(folder, call):
    (folder / "a.hold").touch()
    first = call("a.waited")
    has_begun(folder, "a", first)
    kill(first)
    assert len(locks(folder)) == 1
    (folder / "a.hold").unlink()
    status, said = end(call("-n", "a.waited"))
    assert status == 0 and "cannot be locked" not in said
    status, said = end(call("a.waited", "--rerun-incomplete"))
    assert status == 0, said
    assert (folder / "a.waited").exists()
    assert locks(folder) == []


def test_what_a_living_session_makes_is_refused_in_one_line(folder, call):
    (folder / "a.hold").touch()
    first = call("a.waited")
    has_begun(folder, "a", first)
    status, said = end(call("a.waited"))
    assert status == 1 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "study toy" in line]
    assert f"process {first.pid} on {socket.gethostname()} has been making it since 20" in line
    assert str(folder) in line
    # Another study in this folder comes and goes, and the lock stays.
    status, said = end(call("first.txt", study="other"))
    assert status == 0, said
    assert len(locks(folder)) == 1
    # So it does when somebody says --unlock.
    status, said = end(call("--unlock"))
    assert status == 0 and "left locked: study toy" in said
    assert end(call("a.waited"))[0] == 1
    (folder / "a.hold").unlink()
    status, said = end(first)
    assert status == 0, said


def test_of_two_sessions_at_once_one_runs(folder, call):
    (folder / "a.hold").touch()
    both = [call("a.waited"), call("a.waited")]
    has_begun(folder, "a")
    deadline = time.monotonic() + 120
    while all(process.poll() is None for process in both):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (folder / "a.hold").unlink()
    answers = [end(process) for process in both]
    assert sorted(status for status, _ in answers) == [0, 1], answers


class Files(OwnedLocks):
    """The locks of a session that makes and reads what a test says."""

    def __init__(self, folder, makes=(), reads=()):
        super().__init__(path=folder)
        self.makes, self.reads = makes, reads

    def all_outputfiles(self):
        return self.makes

    def all_inputfiles(self):
        return self.reads


def far(folder, number, **files):
    """A session on another machine, with its locks."""
    sessions = folder / "collapseflow" / "sessions"
    sessions.mkdir(parents=True, exist_ok=True)
    holder = {"host": "far 1", "pid": 7, "study": "toy", "since": "2026-01-01 00:00:00"}
    (sessions / f"{number}.lease").write_text(json.dumps(holder))
    (folder / "locks").mkdir(exist_ok=True)
    for kind, names in files.items():
        (folder / "locks" / f"{number}.{kind}.lock").write_text("\n".join(names) + "\n")
    return sessions / f"{number}.lease"


def test_a_silent_session_of_another_machine_is_taken_for_dead_after_a_while(
    tmp_path, stop_the_clock
):
    clock = stop_the_clock(lease)
    held = far(tmp_path, 12, output=["a"], input=["b"])
    with Files(tmp_path, makes=["a"]).lock():
        assert not held.exists()
        assert engine.PATIENCE <= clock.waited < engine.PATIENCE + 5
        assert len(list((tmp_path / "locks").iterdir())) == 1


def test_a_session_of_another_machine_that_leaves_signs_of_life_is_not_touched(
    tmp_path, stop_the_clock
):
    clock = stop_the_clock(lease)
    held = far(tmp_path, 12, output=["a"], input=["b"])

    def beat():
        if clock.waited > 20:
            held.write_text(json.dumps({**json.loads(held.read_text()), "beat": 3}))

    clock.meanwhile = beat
    with pytest.raises(SystemExit, match="study toy .* process 7 on far has been .* 2026-01-01"):
        Files(tmp_path, reads=["a"]).lock().__enter__()
    assert clock.waited < 25
    assert held.exists() and len(list((tmp_path / "locks").iterdir())) == 2


@pytest.mark.parametrize(("makes", "reads"), [(["c"], ["b"]), (["c"], ["d"]), ([], [])])
def test_who_makes_and_reads_other_files_waits_for_nobody(tmp_path, stop_the_clock, makes, reads):
    clock = stop_the_clock(lease)
    far(tmp_path, 12, output=["a"], input=["b"])
    with Files(tmp_path, makes, reads).lock():
        assert clock.waited == 0
    assert sorted(path.name for path in (tmp_path / "locks").iterdir()) == [
        "12.input.lock",
        "12.output.lock",
    ]


@contextmanager
def nobodys(folder):
    (folder / "locks").mkdir()
    for kind, name in (("output", "a"), ("input", "b")):
        (folder / "locks" / f"0.{kind}.lock").write_text(f"{name}\n")
    yield


@pytest.mark.parametrize(("makes", "reads"), [(["a"], []), (["b"], []), ([], ["a"])])
def test_locks_that_nobody_says_are_his_count_as_snakemake_s(tmp_path, makes, reads):
    from snakemake.exceptions import LockException

    with nobodys(tmp_path):
        files = Files(tmp_path, makes, reads)
        with pytest.raises(LockException):
            files.lock().__enter__()
        assert len(list((tmp_path / "locks").iterdir())) == 2
        assert list((tmp_path / "collapseflow" / "sessions").iterdir()) == []
        files.cleanup_locks()
        with files.lock():
            pass


def test_another_workflow_that_ends_takes_no_lock_away(tmp_path):
    from snakemake.persistence.file import FilePersistence

    mine = Files(tmp_path, makes=["a"])
    with mine.lock():
        FilePersistence(path=tmp_path).unlock()
        assert not (tmp_path / "locks").exists()
        with pytest.raises(SystemExit, match=f"process {os.getpid()} on "):
            Files(tmp_path, reads=["a"]).lock().__enter__()
    with Files(tmp_path, reads=["a"]).lock():
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file another user's")
def test_processes_of_other_users_are_not_taken_for_dead_because_they_are_hidden(tmp_path):
    path = tmp_path / "one.lease"
    held = lease.Lease(path)
    held.acquire()
    holder = json.loads(path.read_text())
    held.release()
    path.write_text(json.dumps({**holder, "born": "long ago"}))
    assert lease.has_ended(path) is True
    os.chown(path, 4711, -1)
    assert lease.has_ended(path) is None


def test_snakemake_reads_the_locks_that_are_written_here(tmp_path):
    from snakemake.persistence.file import FilePersistence

    with Files(tmp_path, makes=["a", "c"], reads=["b"]).lock():
        seen = set(FilePersistence._read_locks(FilePersistence(path=tmp_path)))
    assert seen == {("output", "a"), ("output", "c"), ("input", "b")}


def test_pyproject_allows_no_version_that_was_not_tried():
    text = (SOURCE.parent / "pyproject.toml").read_text()
    assert re.search(r'"snakemake\[reports\]>=9\.13,<9\.28"', text)
