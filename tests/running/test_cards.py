"""Cards are counted as CUDA counts them, and each has one process at a time."""

import logging
import os
import signal
import stat
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from collapseflow.running import cards
from collapseflow.running.cards import (
    claim_card,
    claim_cards,
    count_cards,
    distrust_cards,
    visible_cards,
    was_given_a_card,
)
from collapseflow.running.errors import UserError

ONE, TWO = "GPU-11111111-2222-3333-4444-555555555555", "GPU-66666666-7777-8888-9999-000000000000"
TWO_CARDS = f"GPU 0: NVIDIA H200 (UUID: {ONE})\nGPU 1: NVIDIA H200 (UUID: {TWO})"
SLICES = [f"MIG-66666666-7777-8888-9999-00000000000{n}" for n in range(2)]
SLICED = f"""GPU 0: NVIDIA A100 (UUID: {ONE})
  MIG 1g.10gb     Device  0: (UUID: {SLICES[0]})
  MIG 1g.10gb     Device  1: (UUID: {SLICES[1]})
GPU 1: NVIDIA A100 (UUID: {TWO})"""
WAITING = "every card is in use; waiting for one"


@pytest.fixture(autouse=True)
def plain_machine(tmp_path, monkeypatch):
    """No driver, and an environment that says nothing of cards."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    for name in (*cards.SHARED, "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_JOB_GPUS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def driver(tmp_path):
    """A function that puts an nvidia-smi in the place of any other, with a line or a shell's
    command for each of the three questions."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(lists, status=0, memory="", users="", first=""):
        answers = {"-L": lists, "--query-gpu=*": memory, "--query-compute-apps=*": users}
        cases = "".join(f"{key}) echo '{text}';;\n" for key, text in answers.items())
        path = folder / "nvidia-smi"
        path.write_text(f'#!/bin/sh\n{first}\ncase "$1" in\n{cases}esac\nexit {status}\n')
        path.chmod(0o755)

    return install


# --- counted ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("driver")
def test_without_a_driver_there_are_no_cards():
    assert count_cards() == 0


@pytest.mark.parametrize(
    ("prints", "status", "names"),
    [
        (TWO_CARDS, 0, [ONE, TWO]),
        (SLICED, 0, [*SLICES, TWO]),
        ("GPU 0: of an older driver", 0, ["0"]),
        ("No devices found.", 6, []),
        ("NVIDIA-SMI has failed because it could not talk to the NVIDIA driver.", 9, []),
    ],
    ids=["two", "sliced", "without UUIDs", "none", "no driver"],
)
def test_cards_and_slices_are_those_that_the_driver_lists(driver, prints, status, names):
    driver(prints, status)
    assert visible_cards() == names
    assert count_cards() == len(names)


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [TWO]),
        ("1, 0", [TWO, ONE]),
        # CUDA goes on no further than the first that is no card.
        ("0,3,1", [ONE]),
        ("0,-1,1", [ONE]),
        (f"{TWO},{ONE[:12]}", [TWO, ONE]),
        ("GPU-,0", []),
        ("MIG-GPU-5f/1/0", ["MIG-GPU-5f/1/0"]),
    ],
)
def test_of_a_machine_s_cards_the_visible_ones_count(driver, monkeypatch, visible, names):
    driver(TWO_CARDS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_cards() == names


@pytest.mark.parametrize(
    ("visible", "names"), [("0", SLICES), ("1,0", [TWO, *SLICES]), (SLICES[1], SLICES[1:])]
)
def test_a_card_that_is_sliced_is_its_slices(driver, monkeypatch, visible, names):
    driver(SLICED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_cards() == names


def test_where_nobody_lists_cards_the_environment_is_believed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"3,{ONE}")
    assert visible_cards() == ["3", ONE]


def test_an_nvidia_smi_that_hangs_is_not_waited_for(driver, monkeypatch, caplog):
    driver(TWO_CARDS, first="exec /bin/sleep 60")
    monkeypatch.setattr(cards, "PATIENCE", 0.2)
    started = time.monotonic()
    assert count_cards() == 0
    assert time.monotonic() - started < 30
    assert "nvidia-smi has not answered" in caplog.text


def test_slurm_says_that_it_has_given_a_card(monkeypatch):
    assert not was_given_a_card()
    monkeypatch.setenv("SLURM_JOB_GPUS", "2")
    assert was_given_a_card()


class Nvml:
    """In the place of nvidia-ml-py: a card with two processes, one in slices, one that is lost."""

    class NVMLError(Exception):
        pass

    memory = {"A": 20, "S0": 5, "S1": 9}
    users = {"A": [SimpleNamespace(pid=1), SimpleNamespace(pid=2)], "S1": []}

    def nvmlInit(self):
        pass

    nvmlShutdown = nvmlInit

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, number):
        if number == 1:
            raise self.NVMLError
        return "A" if number == 0 else "S"

    def nvmlDeviceGetMaxMigDeviceCount(self, card):
        if card == "A":
            raise self.NVMLError
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, place):
        if place > 1:
            raise self.NVMLError
        return f"S{place}"

    def nvmlDeviceGetUUID(self, card):
        return f"GPU-{card}"

    def nvmlDeviceGetMemoryInfo(self, card):
        return SimpleNamespace(free=self.memory[card])

    def nvmlDeviceGetComputeRunningProcesses(self, card):
        if card not in self.users:
            raise self.NVMLError
        return self.users[card]


def test_nvml_is_asked_where_it_is_installed(driver, monkeypatch):
    driver(TWO_CARDS)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    assert visible_cards() == ["GPU-A", "GPU-S0", "GPU-S1"]
    assert cards._in_use() == {"GPU-A": (2, 20), "GPU-S0": (0, 5), "GPU-S1": (0, 9)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert visible_cards() == ["GPU-S0", "GPU-S1"]


def test_nvml_without_its_library_leaves_it_to_nvidia_smi(driver, monkeypatch):
    def fail():
        raise Nvml.NVMLError

    driver(TWO_CARDS)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlInit", fail, raising=False)
    assert visible_cards() == [ONE, TWO]


# --- claimed ----------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path, monkeypatch):
    """The locks of this process, in a folder of the test; they end with it."""
    handles = {}
    monkeypatch.setattr(cards, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(cards, "_held", handles)
    yield handles
    for handle in handles.values():
        os.close(handle)


@pytest.fixture
def taken(held, tmp_path):
    """A function that lets another process take cards."""
    handles = []

    def take(*names):
        (tmp_path / "locks").mkdir(exist_ok=True)
        for name in names:
            handles.append(os.open(tmp_path / "locks" / f"{name}.lock", os.O_CREAT | os.O_RDWR))
            assert cards._lock(handles[-1])
        return handles

    yield take
    for handle in handles:
        os.close(handle)


def test_each_claim_gets_a_card_of_its_own_while_there_are_any(taken, no_waiting_for_cards):
    names = ["a", "b", "c"]
    taken("b")
    assert claim_cards(names, 2) == ["a", "c"]
    taken("d")
    with pytest.raises(no_waiting_for_cards):
        claim_card(["b", "d"])
    # What is this process's own it need not wait for.
    assert claim_card(["b", "c"]) == "c"


def test_waiting_is_said_once_and_on_the_screen(taken, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    handles = taken("a", "b")
    pauses = []

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 5:
            os.close(handles.pop())

    monkeypatch.setattr(cards, "pause", wait)
    assert claim_card(["a", "b"]) == "b"
    assert len(pauses) == 5
    (said,) = caplog.records
    assert said.getMessage() == WAITING
    assert said.progress


@pytest.mark.usefixtures("held")
def test_the_card_with_the_most_free_memory_is_taken(driver, caplog):
    driver(TWO_CARDS, memory=f"{ONE}, 10000\n{TWO}, 80000")
    assert claim_cards([ONE, TWO], 1) == [TWO]
    assert caplog.records == []


@pytest.mark.usefixtures("held")
def test_a_card_that_serves_others_is_taken_last_and_says_so(driver, caplog):
    driver(TWO_CARDS, memory=f"{ONE}, 10000\n{TWO}, 80000", users=f"{TWO}\n{TWO}")
    assert claim_cards([ONE, TWO], 2) == [ONE, TWO]
    (said,) = caplog.messages
    assert said.startswith(f"card {TWO} is in use by others, too (processes: 2)")
    assert caplog.records[0].progress


def test_a_card_that_has_failed_is_taken_last_for_an_hour(held, driver):
    driver(TWO_CARDS, memory=f"{ONE}, 80000\n{TWO}, 10000")
    names = [ONE, TWO]
    assert claim_cards(names, 1) == [ONE]
    distrust_cards()
    os.close(held.pop(ONE))
    assert claim_cards(names, 1) == [TWO]
    os.close(held.pop(TWO))
    long_ago = time.time() - 3700
    os.utime(cards.LOCKS / f"{ONE}.failed", (long_ago, long_ago))
    assert claim_cards(names, 1) == [ONE]


@pytest.mark.parametrize("variable", cards.SHARED)
def test_cards_that_are_shared_by_arrangement_are_not_waited_for(
    taken, no_waiting_for_cards, monkeypatch, variable
):
    taken("a", "b")
    with pytest.raises(no_waiting_for_cards):
        claim_cards(["a", "b"], 1)
    monkeypatch.setenv(variable, "2")
    assert claim_cards(["a", "b", "c"], 1) == ["c"]
    assert claim_cards(["a", "b"], 1) == ["a"]


def test_a_number_means_a_card_within_a_job_of_slurm(taken, monkeypatch):
    # SLURM counts the cards of each job from 0, where it lets it see no others.
    taken("0", "GPU-a")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert claim_card(["GPU-a", "0"]) == "0"


# --- the folder of locks ----------------------------------------------------------------------


def test_the_folder_is_one_for_all_jobs_and_for_nobody_else(held, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/somewhere/else")
    process = subprocess.run(
        [sys.executable, "-c", "from collapseflow.running.cards import LOCKS; print(LOCKS)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == f"/tmp/collapseflow-cards-{os.getuid()}\n"
    previous = os.umask(0)
    try:
        claim_card(["a"])
    finally:
        os.umask(previous)
    assert stat.S_IMODE(cards.LOCKS.stat().st_mode) == 0o700
    assert stat.S_IMODE((cards.LOCKS / "a.lock").stat().st_mode) == 0o600


@pytest.mark.usefixtures("held")
def test_a_folder_of_this_user_is_closed_to_others():
    cards.LOCKS.mkdir()
    cards.LOCKS.chmod(0o777)
    claim_card(["a"])
    assert stat.S_IMODE(cards.LOCKS.stat().st_mode) == 0o700


@pytest.mark.usefixtures("held")
def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    cards.LOCKS.symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="locks: no folder of yours .*; have it removed") as error:
        claim_cards(["a"], 1)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("name", ["claiming.lock", "a.lock"])
@pytest.mark.usefixtures("held")
def test_a_link_in_the_folder_is_refused_and_what_it_leads_to_stays(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    cards.LOCKS.mkdir()
    (cards.LOCKS / name).symlink_to(precious)
    with pytest.raises(UserError, match=f"locks/{name}: cannot be locked .*; remove it"):
        claim_cards(["a"], 1)
    assert precious.read_text() == "years of work"


def test_a_link_in_the_place_of_a_mark_is_not_followed(held, tmp_path):
    claim_card(["a"])
    (cards.LOCKS / "a.failed").symlink_to(tmp_path / "made")
    with pytest.raises(UserError, match="a.failed"):
        distrust_cards()
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder another user's")
@pytest.mark.usefixtures("held")
def test_a_folder_of_another_user_is_refused():
    cards.LOCKS.mkdir()
    os.chown(cards.LOCKS, 4711, 4711)
    with pytest.raises(UserError, match="no folder of yours .made by user 4711."):
        claim_card(["a"])
    assert list(cards.LOCKS.iterdir()) == []


# --- several processes ------------------------------------------------------------------------

#: Holds its card until another process has begun on the other one.
CROWD = """
import sys, time
from collapseflow.running.cards import claim_card

def note(word, card):
    with open(sys.argv[1], "a") as file:
        file.write(f"{word} {card}\\n")

card = claim_card(["a", "b"])
other = "b" if card == "a" else "a"
note("begin", card)
while f"begin {other}\\n" not in open(sys.argv[1]).read():
    time.sleep(0.01)
time.sleep(0.2)
note("end", card)
"""
HOLDER = """
import logging, sys, time
from collapseflow.running.cards import claim_card
logging.basicConfig(stream=sys.stdout, format="%(message)s", level="INFO")
print("has", claim_card(["a"]), flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def start(tmp_path):
    """A function that starts a script as a process of its own; none outlives the test."""
    processes = []
    folder = (
        "from pathlib import Path\n"
        "from collapseflow.running import cards\n"
        f"cards.LOCKS = Path({str(tmp_path / 'cards')!r})\n"
    )

    def run(script, *arguments):
        words = [sys.executable, "-c", folder + script, *map(str, arguments)]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_processes_never_share_a_card_and_use_all(tmp_path, start):
    crowd = [start(CROWD, tmp_path / "notes") for _ in range(4)]
    assert [process.wait(timeout=60) for process in crowd] == [0, 0, 0, 0]
    notes = (tmp_path / "notes").read_text().splitlines()
    assert len(notes) == 8
    for card in "ab":
        words = [note.split()[0] for note in notes if note.endswith(card)]
        assert words == ["begin", "end"] * (len(words) // 2)
        assert words
    assert sorted(path.name for path in tmp_path.glob("*cards*/*")) == ["a.lock", "b.lock"]


def test_a_killed_process_gives_its_card_back(start):
    killed = start(HOLDER, 3600)
    assert killed.stdout.readline() == "has a\n"
    heir = start(HOLDER, 0)
    assert heir.stdout.readline() == f"{WAITING}\n"
    killed.kill()
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert heir.communicate(timeout=60)[0] == "has a\n"
    assert heir.returncode == 0
