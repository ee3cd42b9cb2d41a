"""Leases between real processes, and under a clock that only moves where a process waits."""

import errno
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from collapseflow.running import lease as module
from collapseflow.running.files import write_text
from collapseflow.running.lease import lease

#: Where process numbers mean the same processes as here.
HERE = socket.gethostname()
if os.path.islink("/proc/self/ns/pid"):
    HERE += " " + os.readlink("/proc/self/ns/pid")
WAITING = "works on the same outputs; waiting until it ends"
PATIENCE = 30.0


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def write(path, **changes):
    """A lease of a process on another host, whose number is that of a living one here."""
    holder = {
        "host": "node17",
        "pid": os.getpid(),
        "slurm_job": None,
        "token": "another's",
    }
    write_text(path, json.dumps(holder | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "a.log.lease"


@pytest.fixture
def clock(stop_the_clock):
    return stop_the_clock(module)


# --- one holder -------------------------------------------------------------------------------


def test_a_lease_says_who_holds_it_and_is_removed_at_the_end(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with lease(path):
        said = read(path)
        assert said["host"] == HERE
        assert said["pid"] == os.getpid()
        assert said["slurm_job"] == "4711"
    assert list(path.parent.iterdir()) == []


def test_a_lease_is_removed_after_an_exception(path):
    with pytest.raises(KeyboardInterrupt), lease(path):
        assert path.exists()
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []


def test_a_lease_can_be_held_again_and_again_under_another_token(path, clock):
    tokens = []
    for _ in range(3):
        with lease(path):
            tokens.append(read(path)["token"])
    assert len(set(tokens)) == 3
    assert clock.waited == 0


def test_leases_of_different_paths_do_not_wait_for_each_other(path, clock):
    with lease(path), lease(path.with_name("b.log.lease")):
        assert len(list(path.parent.iterdir())) == 2
    assert clock.waited == 0


def until(condition):
    """Wait for another thread or process."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_holder_leaves_signs_of_life(path):
    with lease(path, beat=0.01):
        first = read(path)
        for _ in range(3):
            before = read(path)
            until(lambda before=before: read(path) != before)
        assert read(path).items() >= first.items()
    assert list(path.parent.iterdir()) == []


def test_the_holder_goes_on_where_a_sign_of_life_cannot_be_written(path, monkeypatch, caplog):
    failures = [OSError(errno.ENOSPC, "No space left on device"), PermissionError("read-only")]

    def write_sometimes(*arguments):
        if failures:
            raise failures.pop(0)
        write_text(*arguments)

    monkeypatch.setattr(module, "write_text", write_sometimes)
    with lease(path, beat=0.01):
        before = read(path)
        until(lambda: read(path) != before)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "No space left on device" in warnings[0] and "read-only" in warnings[1]


def test_a_lease_that_finds_no_room_is_not_left_empty(path, clock):
    # Files may not grow: as on a full disk they are made, and nothing is written into them.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError) as caught, lease(path):
            pytest.fail("held")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
    assert not path.exists()
    # Nor waited for.
    with lease(path):
        assert clock.waited == 0


# --- a holder that is gone --------------------------------------------------------------------


def test_a_lease_of_another_host_that_no_longer_changes_is_taken_after_a_while(path, clock):
    write(path)
    with lease(path, patience=PATIENCE):
        assert PATIENCE < clock.waited < PATIENCE + 10
        assert read(path)["token"] != "another's"
        assert read(path)["host"] == HERE
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("content", ["", '{"host": "nod'])
def test_a_lease_whose_holder_died_while_it_wrote_is_taken_after_a_while(path, clock, content):
    path.parent.mkdir()
    path.write_text(content)
    with lease(path, patience=PATIENCE):
        assert PATIENCE < clock.waited < PATIENCE + 10
        assert read(path)["pid"] == os.getpid()


def test_a_lease_of_another_host_that_changes_is_waited_for(path, clock):
    write(path)

    def work():
        # A sign of life now and then, at last the end.
        if clock.waited > 20 * PATIENCE:
            path.unlink(missing_ok=True)
        elif clock.waited % (PATIENCE - 5) < 1:
            write(path, beat=clock.waited)

    clock.meanwhile = work
    with lease(path, patience=PATIENCE):
        assert clock.waited > 20 * PATIENCE
        assert read(path)["pid"] == os.getpid()


def test_a_lease_that_is_replaced_while_it_is_read_is_read_again(path, clock, monkeypatch):
    """As a network file system tells it where another machine has replaced an open file."""
    write(path)
    read_text, stale = module.Path.read_text, [path]

    def read_once_replaced(self, **options):
        if self == path and stale:
            stale.pop()
            write(path, beat=1)
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return read_text(self, **options)

    monkeypatch.setattr(module.Path, "read_text", read_once_replaced)
    assert module.read_holder(path)["beat"] == 1
    assert not stale


def test_patience_counts_from_the_last_sign_of_life(path, clock):
    write(path)

    def work():
        if clock.waited <= 100:
            write(path, beat=clock.waited)

    clock.meanwhile = work
    with lease(path, patience=PATIENCE):
        assert 100 + PATIENCE < clock.waited < 100 + PATIENCE + 10


@pytest.fixture
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_of_this_host_is_waited_for_like_another(path, clock):
    write(path, host=HERE)
    with lease(path, patience=PATIENCE):
        assert clock.waited > PATIENCE


def test_a_process_of_this_host_that_has_ended_is_not_waited_for(path, clock, ended):
    write(path, host=HERE, pid=ended)
    with lease(path, patience=3600):
        assert clock.waited < 10
        assert read(path)["pid"] == os.getpid()


def test_a_process_whose_number_another_has_now_has_ended(path, clock):
    with lease(path):
        born = read(path)["born"]
    write(path, host=HERE, born=f"{born}0")
    with lease(path, patience=3600):
        assert clock.waited < 10
    write(path, host=HERE, born=born)
    with lease(path, patience=PATIENCE):
        assert clock.waited > PATIENCE


@pytest.mark.skipif(os.name != "posix", reason="needs zombies")
def test_a_process_that_was_killed_and_whose_parent_does_not_ask_has_ended(path, clock):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        process.kill()
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        write(path, host=HERE, pid=process.pid)
        with lease(path, patience=3600):
            assert clock.waited < 10
    finally:
        process.wait()


@pytest.mark.parametrize("host", ["node17", f"{socket.gethostname()} pid:[1]"])
def test_a_process_of_another_host_or_container_is_not_looked_for_here(path, clock, ended, host):
    write(path, host=host, pid=ended)
    with lease(path, patience=PATIENCE):
        assert clock.waited > PATIENCE


def terminate():
    """What the handler of SIGTERM raises, wherever the process is."""
    raise SystemExit(143)


def test_a_process_that_is_terminated_while_it_takes_over_leaves_no_lease(path, clock, ended):
    write(path, host=HERE, pid=ended)
    tokens = []

    def interrupt():
        tokens.append(read(path)["token"])
        terminate()

    clock.meanwhile = interrupt
    with pytest.raises(SystemExit), lease(path):
        pass
    assert tokens != ["another's"]
    assert list(path.parent.iterdir()) == []


def test_a_process_that_is_terminated_while_it_waits_leaves_the_lease_to_its_holder(path, clock):
    write(path)
    content = path.read_text()
    clock.meanwhile = terminate
    with pytest.raises(SystemExit), lease(path):
        pass
    assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


def test_of_two_that_take_a_lease_over_the_last_one_has_it(path, clock):
    write(path)
    rival = []

    def compete():
        if not rival and read(path)["token"] != "another's":
            rival.append(clock.waited)
            write(path, token="rival's")
        elif rival and clock.waited > rival[0] + 100:
            path.unlink(missing_ok=True)
        elif rival:
            write(path, token="rival's", beat=clock.waited)

    clock.meanwhile = compete
    with lease(path, patience=PATIENCE):
        assert clock.waited > rival[0] + 100 > PATIENCE + 100
        assert read(path)["pid"] == os.getpid()


def test_a_lease_that_another_has_taken_over_is_left_to_it(path):
    with lease(path, beat=3600):
        write(path)
    assert read(path)["token"] == "another's"


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (None, f"process {os.getpid()} on node17 {WAITING}"),
        ("4711", f"SLURM job 4711, process {os.getpid()} on node17 {WAITING}"),
    ],
    ids=["process", "SLURM job"],
)
def test_waiting_is_said_once_and_on_the_screen(path, clock, caplog, job, words):
    caplog.set_level(logging.INFO)
    write(path, slurm_job=job)
    with lease(path, patience=PATIENCE):
        pass
    said = [record for record in caplog.records if WAITING in record.getMessage()]
    assert [record.getMessage() for record in said] == [words]
    assert said[0].progress


def test_nothing_is_said_where_there_is_no_waiting(path, clock, caplog):
    caplog.set_level(logging.INFO)
    with lease(path):
        pass
    assert caplog.records == []


# --- several processes ------------------------------------------------------------------------

HOLDER = """
import sys, time
from collapseflow.running.lease import lease
with lease(sys.argv[1], beat=0.1, patience=float(sys.argv[2])):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""
CROWD = """
import os, sys, time
from pathlib import Path
from collapseflow.running.lease import lease

folder = Path(sys.argv[1])

def note(word):
    with open(folder / "notes", "a") as file:
        file.write(f"{word} {os.getpid()}\\n")

(folder / f"ready{os.getpid()}").touch()
while len(list(folder.glob("ready*"))) < int(sys.argv[2]):
    time.sleep(0.001)
with lease(folder / "lease", beat=0.1, patience=60):
    note("begin")
    time.sleep(0.3)
    note("end")
"""


@pytest.fixture
def start(start_process):
    """A function that starts a script as a process of its own."""

    def run(script, *arguments):
        return start_process([sys.executable, "-c", script, *map(str, arguments)])

    return run


@pytest.mark.parametrize("stale", [False, True], ids=["none before", "of a dead process"])
def test_processes_never_hold_a_lease_together(tmp_path, start, stale):
    if stale:
        dead = start("")
        dead.wait()
        write(tmp_path / "lease", host=HERE, pid=dead.pid)
    crowd = [start(CROWD, tmp_path, 3) for _ in range(3)]
    assert [process.wait(timeout=60) for process in crowd] == [0, 0, 0]
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert [word for word, _ in notes] == ["begin", "end"] * 3
    holders = [int(pid) for _, pid in notes]
    assert holders[::2] == holders[1::2]
    assert sorted(holders[::2]) == sorted(process.pid for process in crowd)
    assert not (tmp_path / "lease").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_the_lease_of_a_killed_process_is_taken_at_once(path, start):
    killed = start(HOLDER, path, 60, 3600)
    assert killed.stdout.readline() == "held\n"
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert read(path)["pid"] == killed.pid
    # Only the process itself can tell in time that it is gone.
    heir = start(HOLDER, path, 3600, 0)
    assert heir.communicate(timeout=60) == ("held\n", "")
    assert heir.returncode == 0
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
def test_a_process_that_was_stopped_for_too_long_ends_when_it_wakes(path, start):
    stopped = start(HOLDER, path, 60, 3600)
    assert stopped.stdout.readline() == "held\n"
    stopped.send_signal(signal.SIGSTOP)
    heir = start(HOLDER, path, 1, 3600)
    assert heir.stdout.readline() == "held\n"
    assert read(path)["pid"] == heir.pid
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(timeout=60) == -signal.SIGTERM
    assert "another job has taken over these outputs" in stopped.stderr.read()
    # The heir holds it still.
    before = read(path)
    until(lambda: read(path) != before)
    assert read(path)["pid"] == heir.pid
    assert heir.poll() is None
