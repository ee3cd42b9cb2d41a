"""Processes that are asked to end, each in the midst of something else."""

import os
import signal
import sys
import textwrap

import psutil
import pytest

PREAMBLE = """
import fcntl
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from collapseflow.running import cards, stop
from collapseflow.running.files import atomic_path
from collapseflow.running.jobs import job, progress
snakemake = SimpleNamespace(
    rule="measure",
    wildcards=["digits"],
    log=["logs/a.log"],
    output=["out/train.h5"],
    params=SimpleNamespace(),
    threads=1,
)
"""
LINE = "[measure digits] ERROR: stopped by a signal (SIGTERM); finished parts are kept"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")


@pytest.fixture
def start(tmp_path, start_process):
    """A function that starts a script and waits until it has said "ready"."""

    def begin(body):
        script = tmp_path / "script.py"
        script.write_text(PREAMBLE + textwrap.dedent(body))
        return start_process([sys.executable, script], cwd=tmp_path)

    return begin


def terminate(process):
    """Ask a script to end as soon as it says that it is there."""
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, screen = process.communicate(timeout=60)
    return screen


def assert_nothing_is_left(folder):
    assert [path.name for path in (folder / "logs").iterdir()] == ["a.log"]
    assert not (folder / "out").exists() or list((folder / "out").iterdir()) == []


#: A stream that sends the signal to its own process while it writes a line with a certain word.
STREAM = """
class Raw(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        if b"now" in bytes(data):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        return os.write(2, data)

sys.stderr = io.TextIOWrapper(io.BufferedWriter(Raw()))
"""


def test_a_signal_that_comes_while_a_line_is_written_is_heard(tmp_path, start):
    process = start(
        STREAM
        + """
with job(snakemake), atomic_path(snakemake.output[0]) as path:
    path.write_text("half")
    logging.getLogger("collapseflow").info("now", extra={"progress": True})
    for _ in progress(range(50), 50, "waiting"):
        time.sleep(0.1)
"""
    )
    _, screen = process.communicate(timeout=60)
    assert process.returncode == 143
    lines = screen.splitlines()
    assert lines[0] == "[measure digits] INFO: now"
    assert len(lines) == 2 and lines[1].startswith(LINE)
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    "wait",
    [
        "for _ in progress(range(600), 600, 'batches'): time.sleep(0.1)",
        "stop.pause(60)",
        # As a training that goes on in a thread after memory was out.
        "ThreadPoolExecutor(1).submit(lambda: list(progress(pauses(), 600, 'batches'))).result()",
        "cards.claim_card(['taken'])",
        "cards.claim_cards(['free'], 1)",
    ],
    ids=["progress", "pause", "another thread", "a card", "the turn for cards"],
)
def test_a_signal_is_heard_in_every_wait(tmp_path, start, wait):
    body = f"""
    def pauses():
        for number in range(600):
            time.sleep(0.1)
            yield number

    cards.LOCKS = Path("locks")
    cards.LOCKS.mkdir()
    for name in ("taken", "claiming"):
        fcntl.flock(os.open(f"locks/{{name}}.lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)
    with job(snakemake), atomic_path(snakemake.output[0]) as path:
        path.write_text("half")
        print("ready", flush=True)
        {wait}
    """
    process = start(body)
    screen = terminate(process)
    assert process.returncode == 143
    assert screen.splitlines()[-1].startswith(LINE)
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    "work", ["time.sleep(60)", "subprocess.run(['sleep', '60'])"], ids=["sleep", "program"]
)
def test_what_does_not_heed_the_signal_is_interrupted_after_a_grace(tmp_path, start, work):
    process = start(
        f"""
    stop.GRACE = 0.3
    with job(snakemake), atomic_path(snakemake.output[0]) as path:
        path.write_text("half")
        print("ready", flush=True)
        {work}
    """
    )
    screen = terminate(process)
    assert process.returncode == 143
    assert len(screen.splitlines()) == 1 and screen.startswith(LINE)
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    "work",
    [
        # One call of native code, of minutes.
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
        "swallow()",
    ],
    ids=["native code", "swallowed"],
)
def test_what_cannot_be_interrupted_is_ended_with_its_children(start, work):
    process = start(
        f"""
    import hashlib

    def swallow():
        while True:
            try:
                time.sleep(60)
            except SystemExit:
                pass

    stop.GRACE, stop.LAST = 0.3, 0.3
    with job(snakemake):
        child = subprocess.Popen(["sleep", "600"])
        print(child.pid, flush=True)
        print("ready", flush=True)
        {work}
    """
    )
    child = psutil.Process(int(process.stdout.readline()))
    screen = terminate(process)
    assert process.returncode == 143
    assert len(screen.splitlines()) == 1 and screen.startswith(LINE)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_it_is_ended_although_its_log_hangs(tmp_path, start):
    process = start(
        """
    stop.GRACE, stop.LAST = 0.2, 0.2
    with job(snakemake):
        handler = logging.getLogger().handlers[0]

        def hold():
            with handler.lock:
                print("ready", flush=True)
                time.sleep(600)

        threading.Thread(target=hold, daemon=True).start()
        stop.pause(60)
    """
    )
    terminate(process)
    assert process.returncode == 143


def test_a_job_whose_outputs_another_has_taken_over_has_no_grace(tmp_path, start):
    process = start(
        """
    stop.GRACE = 3600
    with job(snakemake), atomic_path(snakemake.output[0]) as path:
        path.write_text("half")
        Path("logs/a.log.lease").write_text('{"token": "another"}')
        time.sleep(3600)
    """
    )
    _, screen = process.communicate(timeout=60)
    assert process.returncode == 143
    lines = screen.splitlines()
    assert len(lines) == 2 and "another job has taken over these outputs" in lines[0]
    assert lines[1].startswith(LINE)
    assert list((tmp_path / "out").iterdir()) == []


def test_work_that_is_done_within_the_grace_is_done(tmp_path, start):
    process = start(
        """
    with job(snakemake), atomic_path(snakemake.output[0]) as path:
        print("ready", flush=True)
        time.sleep(1)
        path.write_text("whole")
    """
    )
    assert terminate(process) == ""
    assert process.returncode == 0
    assert (tmp_path / "out" / "train.h5").read_text() == "whole"


def test_a_process_that_is_not_asked_waits_as_long_as_it_says(start):
    process = start("stop.pause(0.01), stop.heed()")
    assert process.wait(timeout=60) == 0
