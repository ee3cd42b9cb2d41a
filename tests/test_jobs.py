"""What a job does around its one call, each time in a process of its own."""

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import sys
from types import SimpleNamespace
from collapseflow.errors import UserError
from collapseflow.jobs import job, progress
snakemake = SimpleNamespace(rule="measure", wildcards=["digits"], log=["logs/a.log"], threads=1)
"""


def run(folder, body):
    """Run a script as Snakemake would; give its answer and what its log holds."""
    script = folder / "script.py"
    script.write_text(PREAMBLE + textwrap.dedent(body))
    answer = subprocess.run(
        [sys.executable, script], cwd=folder, capture_output=True, text=True, check=False
    )
    return answer, (folder / "logs" / "a.log").read_text()


def test_a_job_that_succeeds_says_so_in_its_log_only(tmp_path):
    answer, log = run(tmp_path, "with job(snakemake): pass")
    assert answer.returncode == 0 and answer.stderr == ""
    assert "finished in" in log


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
    assert "no space left on the device" in answer.stderr and "Traceback" not in answer.stderr


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
