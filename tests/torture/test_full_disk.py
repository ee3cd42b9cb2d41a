"""A study on a disk that is full again and again, until there is room for all of it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacked import EFFORT, ROOT, STUDY, command, require_equal_tables

from collapseflow.verification import verify

#: What `make test` has time for.
TARGETS = [f"results/{STUDY['study']}/figures/scattering_digits.pdf"] if EFFORT == 1 else []
#: Bytes that are added at most to a disk that was full.
MOST = 2**29 if EFFORT == 1 else 2**20
#: What is said of a full disk: when it happens, and before a job that has no room.
TOLD = ("no space left on the device", " MiB are free; make room and start again")


class Disk:
    """A file system in memory of so many bytes, which only the processes see that it runs."""

    def __init__(self, place: Path, n_bytes: int):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", place]
        # It is there until the tests' own process closes what it waits for, or ends.
        wait = ["sh", "-c", '"$@" && echo mounted && exec cat', "sh", *map(str, mount)]
        self._process = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", *wait],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self.line = self._process.stdout.readline().strip()
        self.place = place
        #: Where the tests' own process sees it.
        self.outside = Path(f"/proc/{self._process.pid}/root{place}")

    def run(self, *words: str | Path) -> subprocess.CompletedProcess:
        there = ["nsenter", f"--target={self._process.pid}", "--user", "--mount"]
        return subprocess.run(
            [*there, "--preserve-credentials", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )

    def resize(self, n_bytes: int) -> None:
        answer = self.run("mount", "-o", f"remount,size={n_bytes}", self.place)
        assert answer.returncode == 0, answer.stderr

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare, which gives a disk of its own")
    place = tmp_path / "disk"
    place.mkdir()
    made = Disk(place, 2**16)
    if made.line != "mounted":
        made.close()
        pytest.skip(f"no disk of its own: {made.line}")
    yield made
    made.close()


def _said(answer: subprocess.CompletedProcess) -> list[str]:
    """What was said of the full disk, and nothing of where in the code."""
    text = answer.stdout + answer.stderr
    lines = [line for line in text.splitlines() if any(words in line for words in TOLD)]
    assert lines, text[-5000:]
    for words in ("Traceback", '  File "', "Logging error"):
        assert words not in text, text[-5000:]
    return lines


@pytest.mark.parametrize("number", range(max(1, EFFORT // 10)))
def test_a_full_disk_is_told_in_a_line_and_nothing_is_lost(number, request, rng, disk, tmp_path):
    words = command(tmp_path, STUDY, *TARGETS)
    words[words.index("--directory") + 1] = str(disk.place)
    results = disk.outside / "results" / STUDY["study"]
    n_bytes, step, before, rounds = rng.randrange(2**15, 2**18), 0, [], 0
    disk.resize(n_bytes)
    while (answer := disk.run(*words)).returncode != 0:
        said = _said(answer)
        rounds += 1
        if results.exists():
            verify(results)
        assert not list(disk.outside.rglob("*.part*")), "what was being written is left"
        # A large file is not tried again with a few bytes more.
        step = 2 * step if said == before else rng.randrange(2**14, MOST)
        before, n_bytes = said, n_bytes + step
        disk.resize(n_bytes)
    print(f"{rounds} times full, up to {n_bytes / 2**20:.1f} MiB")
    assert rounds > 0
    verify(results)
    if TARGETS:
        assert (disk.outside / TARGETS[0]).exists()
    else:
        # Made here alone: `make test`, with several processes, would make it once more.
        require_equal_tables(results, request.getfixturevalue("finished"))
