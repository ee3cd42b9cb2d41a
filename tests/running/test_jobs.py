"""What a job does around its one call, each time in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from collapseflow.running.files import atomic_path
from collapseflow.running.jobs import was_mistake

PREAMBLE = """
import os
import sys
from types import SimpleNamespace
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import atomic_path
from collapseflow.running.jobs import job, progress
snakemake = SimpleNamespace(
    rule="measure",
    wildcards=["digits"],
    log=["logs/a.log"],
    output=["out/train.h5", "out/a[1].json"],
    params=SimpleNamespace(),
    threads=1,
)
"""


def script_of(folder, body):
    script = folder / "script.py"
    script.write_text(PREAMBLE + textwrap.dedent(body))
    return [sys.executable, script]


def run(folder, body):
    """Run a script as Snakemake would; give its answer and what its log holds."""
    answer = subprocess.run(
        script_of(folder, body), cwd=folder, capture_output=True, text=True, check=False
    )
    return answer, (folder / "logs" / "a.log").read_text()


@pytest.fixture
def start(tmp_path, start_process):
    """A function that starts a script and does not wait for it; none outlives the test."""

    def begin(body):
        return start_process(script_of(tmp_path, body), cwd=tmp_path, stdin=subprocess.PIPE)

    return begin


def half_written(path):
    """What a process that is killed while it writes leaves behind."""
    with atomic_path(path) as temporary:
        temporary.write_text("half")
    return path.rename(temporary)


def test_a_job_that_succeeds_says_so_in_its_log_only(tmp_path):
    answer, log = run(tmp_path, "with job(snakemake): pass")
    assert answer.returncode == 0 and answer.stderr == ""
    assert "finished in" in log


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's device without room")
def test_a_full_disk_on_which_the_log_is_too_is_one_line(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").symlink_to("/dev/full")
    body = """
    with job(snakemake), atomic_path("out/train.h5") as path:
        raise RuntimeError("HDF5: errno = 28, error message = 'No space left on device'")
    """
    answer = subprocess.run(
        script_of(tmp_path, body), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr == (
        "[measure digits] ERROR: no space left on the device (out/train.h5); free some and rerun\n"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_job_writes_what_snakemake_cannot_measure_beside_its_log(tmp_path):
    body = """
    from collapseflow.running.resume import count_earlier_seconds
    with job(snakemake):
        count_earlier_seconds(2.5)
        count_earlier_seconds(0.25)
        block = bytearray(300 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        del block
    """
    answer, _ = run(tmp_path, body)
    assert answer.returncode == 0, answer.stderr
    cost = json.loads((tmp_path / "logs" / "a.cost.json").read_text())
    assert cost["seconds_taken_over"] == 2.75
    # The block is gone when the job ends, and is counted.
    assert 300 < cost["peak_memory_mib"] < 600


def test_the_memory_of_the_process_that_starts_a_job_is_not_the_job_s(tmp_path):
    block = bytearray(600 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    run(tmp_path, "with job(snakemake): pass")
    cost = json.loads((tmp_path / "logs" / "a.cost.json").read_text())
    assert 5 < cost["peak_memory_mib"] < 300


def test_the_memory_of_a_child_counts(tmp_path):
    body = """
    import subprocess
    with job(snakemake):
        code = "block = bytearray(400 * 2**20); block[::4096] = b'x' * len(block[::4096])"
        subprocess.run([sys.executable, "-c", code], check=True)
    """
    run(tmp_path, body)
    cost = json.loads((tmp_path / "logs" / "a.cost.json").read_text())
    assert 400 < cost["peak_memory_mib"] < 600


def test_a_job_that_fails_writes_no_cost(tmp_path):
    answer, _ = run(tmp_path, "with job(snakemake): raise ValueError('no')")
    assert answer.returncode == 1
    assert not list((tmp_path / "logs").glob("*.cost.json"))


def test_what_a_user_can_mend_is_one_line_without_a_traceback(tmp_path):
    answer, log = run(
        tmp_path,
        """
        with job(snakemake):
            raise UserError("a.h5: damaged; delete it")
        """,
    )
    assert answer.returncode == 1
    assert answer.stderr == "[measure digits] ERROR: a.h5: damaged; delete it\n"
    assert "a.h5: damaged; delete it" in log and "Traceback" not in log


def test_what_names_of_files_hold_stays_on_one_line(tmp_path):
    answer, log = run(
        tmp_path,
        r"""
        with job(snakemake):
            raise UserError("two\nlines\x1b[2J and caf\udce9: no images")
        """,
    )
    line = r"two\nlines\x1b[2J and caf\udce9: no images"
    assert answer.stderr == f"[measure digits] ERROR: {line}\n"
    assert line in log


@pytest.mark.skipif(sys.platform != "linux", reason="needs the device /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        with job(snakemake):
            with open("/dev/full", "wb", buffering=0) as file:
                file.write(b"x")
        """,
    )
    assert answer.returncode == 1
    line = "[measure digits] ERROR: no space left on the device; free some and rerun\n"
    assert answer.stderr == line


def test_a_full_disk_behind_another_error_is_one_line(tmp_path):
    # As matplotlib ends, which closes a PDF that has had no room.
    answer, _ = run(
        tmp_path,
        """
        with job(snakemake):
            try:
                raise OSError(28, "No space left on device")
            finally:
                raise AttributeError("'Stream' object has no attribute 'pos'")
        """,
    )
    line = "[measure digits] ERROR: no space left on the device; free some and rerun\n"
    assert (answer.returncode, answer.stderr) == (1, line)


@pytest.mark.parametrize(
    "error", ["MemoryError()", "torch.OutOfMemoryError('CUDA out of memory.')"]
)
def test_too_little_memory_is_one_line(tmp_path, error):
    answer, _ = run(
        tmp_path,
        f"""
        import torch
        with job(snakemake):
            raise {error}
        """,
    )
    assert answer.returncode == 1
    assert "out of memory" in answer.stderr and "batch size" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_fault_of_the_program_keeps_its_traceback_in_the_log(tmp_path):
    answer, log = run(
        tmp_path,
        """
        with job(snakemake):
            raise ZeroDivisionError("a fault")
        """,
    )
    assert answer.returncode == 1
    assert "Traceback" in log and "ZeroDivisionError: a fault" in log


def test_pytorch_uses_exactly_the_threads_of_the_rule(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        import torch
        with job(snakemake):
            print(torch.get_num_threads())
        """,
    )
    assert answer.stdout == "1\n"


def test_what_libraries_tell_of_themselves_is_neither_on_the_screen_nor_in_the_log(tmp_path):
    pytest.importorskip("sklearnex")
    answer, log = run(
        tmp_path,
        """
        import logging
        with job(snakemake):
            from sklearnex.ensemble import RandomForestClassifier
            RandomForestClassifier(2, n_jobs=1).fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
            logging.getLogger("collapseflow.measure").info("ours")
            logging.getLogger("another").info("theirs")
            logging.getLogger("another").warning("take care")
        """,
    )
    assert answer.returncode == 0 and answer.stderr == ""
    said = [line.split(" ", 2)[2] for line in log.splitlines()]
    assert said[:-1] == ["INFO collapseflow.measure: ours", "WARNING another: take care"]
    assert said[-1].startswith("INFO collapseflow: finished in")


def test_progress_passes_everything_on_and_reports_on_the_screen(tmp_path):
    answer, log = run(
        tmp_path,
        """
        with job(snakemake):
            print(list(progress(range(4), 4, "counting", every=0.0)))
        """,
    )
    assert answer.stdout == "[0, 1, 2, 3]\n"
    lines = answer.stderr.splitlines()
    assert [line.split(", about")[0] for line in lines] == [
        f"[measure digits] INFO: counting: {n} of 4" for n in (1, 2, 3)
    ]
    assert "counting: 2 of 4" in log


# --- interrupted jobs and several processes ---------------------------------------------------

#: Writes its first line to an output's temporary name, says so, and waits for a line.
WORK = """
import select
from collapseflow.running.stop import pause
with job(snakemake), atomic_path(snakemake.output[0]) as path:
    path.write_text("half")
    print("working", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        pause(0.01)
    path.write_text(sys.stdin.readline())
"""


def names(folder):
    """Of the files in a folder, without their checksums."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".xxh3")


def test_two_runs_of_a_job_leave_both_their_lines_in_its_log(tmp_path):
    _, log = run(tmp_path, "with job(snakemake): raise UserError('the first run')")
    assert "the first run" in log
    _, log = run(tmp_path, "with job(snakemake): raise ZeroDivisionError('the second run')")
    _, log = run(tmp_path, "with job(snakemake): pass")
    runs = ["the first run", "ZeroDivisionError: the second run", "finished in"]
    positions = [log.index(line) for line in runs]
    assert positions == sorted(positions)


def test_a_job_with_finished_parts_leaves_the_lines_of_all_its_runs_beside_them(tmp_path):
    # Snakemake deletes a job's log before it runs the job again.
    lines = []
    for error in (
        "UserError('the first run')",
        "ZeroDivisionError('the second run')",
        "MemoryError",
    ):
        _, log = run(
            tmp_path,
            f"""
            snakemake.params.progress = "progress/digits"
            with job(snakemake): raise {error}
            """,
        )
        assert len(log.splitlines()) > 0
        lines += log.splitlines()
        (tmp_path / "logs" / "a.log").unlink()
    history = tmp_path / "progress" / "digits" / "history.log"
    assert history.read_text().splitlines() == lines
    for words in ("the first run", "ZeroDivisionError: the second run", "out of memory"):
        assert words in history.read_text()


def test_a_job_without_finished_parts_has_its_log_alone(tmp_path):
    run(tmp_path, "with job(snakemake): pass")
    assert names(tmp_path) == ["logs", "script.py"]


def test_a_job_holds_a_lease_beside_its_log(tmp_path):
    answer, _ = run(
        tmp_path,
        """
        with job(snakemake):
            print(os.getpid(), open("logs/a.log.lease").read())
        """,
    )
    pid, said = answer.stdout.split(" ", 1)
    assert json.loads(said)["pid"] == int(pid)
    assert names(tmp_path / "logs") == ["a.cost.json", "a.log"]


@pytest.mark.parametrize(
    "error", ["UserError('mend it')", "MemoryError()", "ValueError()", "SystemExit(3)"]
)
def test_a_job_that_fails_gives_its_lease_back(tmp_path, error):
    answer, _ = run(tmp_path, f"with job(snakemake): raise {error}")
    assert answer.returncode == (3 if "Exit" in error else 1)
    assert "a.log.lease" not in names(tmp_path / "logs")


@pytest.mark.parametrize(
    ("error", "mistake"),
    [
        ("UserError('mend it')", True),
        ("TemporaryError('no answer')", False),
        ("MemoryError()", False),
        ("ValueError()", False),
    ],
)
def test_a_mistake_is_told_from_what_another_attempt_may_mend_and_told_once(
    tmp_path, error, mistake
):
    answer, _ = run(tmp_path, f"with job(snakemake): raise {error}")
    assert answer.returncode == 1
    log = [str(tmp_path / "logs" / "a.log")]
    assert was_mistake(log) is mistake
    assert was_mistake(log) is False
    assert names(tmp_path / "logs") == ["a.log"]


@pytest.mark.parametrize(
    ("error", "of_the_card"),
    [
        ("RuntimeError('CUDA error: unspecified launch failure')", True),
        ("RuntimeError('CUDA error: out of memory')", False),
        ("RuntimeError('mat1 and mat2 shapes cannot be multiplied')", False),
    ],
)
def test_a_card_that_fails_in_a_job_is_not_trusted(tmp_path, error, of_the_card):
    answer, _ = run(
        tmp_path,
        f"""
        from collapseflow.running import jobs
        jobs.distrust_cards = lambda: print("distrusted")
        with job(snakemake): raise {error}
        """,
    )
    assert answer.returncode == 1
    assert answer.stdout == ("distrusted\n" if of_the_card else "")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_sigterm_ends_a_job_with_one_line_and_leaves_nothing_partial(tmp_path, start):
    process = start(WORK)
    assert process.stdout.readline() == "working\n"
    (half,) = (tmp_path / "out").iterdir()
    assert half.read_text() == "half"
    assert names(tmp_path / "logs") == ["a.log", "a.log.lease"]
    process.send_signal(signal.SIGTERM)
    # Not `communicate`: it closes what the job reads, which lets it finish before it hears.
    assert process.wait(timeout=60) == 143
    screen = process.stderr.read()
    assert names(tmp_path / "out") == []
    assert names(tmp_path / "logs") == ["a.log"]
    assert len(screen.splitlines()) == 1
    assert screen.startswith("[measure digits] ERROR: stopped by a signal (SIGTERM)")
    (line,) = (tmp_path / "logs" / "a.log").read_text().splitlines()
    assert "stopped by a signal (SIGTERM)" in line


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_sigterm_ends_a_job_that_waits_for_another_and_leaves_the_other_alone(tmp_path, start):
    first = start(WORK)
    assert first.stdout.readline() == "working\n"
    second = start(WORK)
    assert "waiting until it ends" in second.stderr.readline()
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=60)
    assert second.returncode == 143
    assert json.loads((tmp_path / "logs" / "a.log.lease").read_text())["pid"] == first.pid
    first.communicate("whole\n", timeout=60)
    assert first.returncode == 0
    assert (tmp_path / "out" / "train.h5").read_text() == "whole\n"


def test_a_job_that_runs_already_is_waited_for(tmp_path, start):
    first = start(WORK)
    assert first.stdout.readline() == "working\n"
    second = start(WORK)
    line = second.stderr.readline()
    assert line.startswith(f"[measure digits] INFO: process {first.pid} on {socket.gethostname()}")
    assert line.endswith("works on the same outputs; waiting until it ends\n")
    # What the first is writing is not taken for something half-written.
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["half"]
    first.communicate("of the first\n", timeout=60)
    assert first.returncode == 0
    answer, screen = second.communicate("of the second\n", timeout=60)
    assert (second.returncode, answer, screen) == (0, "working\n", "")
    assert (tmp_path / "out" / "train.h5").read_text() == "of the second\n"
    assert names(tmp_path / "out") == ["train.h5"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_job_was_writing_is_removed_when_it_runs_again(tmp_path, start):
    killed = start(WORK)
    assert killed.stdout.readline() == "working\n"
    killed.kill()
    killed.wait()
    (half,) = (tmp_path / "out").iterdir()
    assert half.suffix == ".h5" and half.name.startswith(".train.")
    assert names(tmp_path / "logs") == ["a.log", "a.log.lease"]
    answer, log = run(tmp_path, "with job(snakemake): print(os.listdir('out'))")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "[]\n", "")
    assert names(tmp_path / "logs") == ["a.cost.json", "a.log"]
    assert "finished in" in log


def test_only_half_written_files_of_the_job_s_own_outputs_are_removed(tmp_path):
    folder = tmp_path / "out"
    for name in ("train.h5", "a[1].json"):
        half_written(folder / name)
        half_written(folder / name)
    others = [half_written(folder / name) for name in ("test.h5", "a1.json", "train.csv")]
    (folder / "train.h5").write_text("whole")
    assert len(names(folder)) == 8
    run(tmp_path, "with job(snakemake): pass")
    assert names(folder) == sorted([*(other.name for other in others), "train.h5"])
