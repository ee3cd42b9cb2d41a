"""Cards are counted as CUDA counts them, and each has one process at a time."""

import logging
import os
import signal
import subprocess
import sys

import pytest

from collapseflow.running import cards
from collapseflow.running.cards import claim_card, count_cards

TWO_CARDS = (
    "GPU 0: NVIDIA H200 (UUID: GPU-11111111-2222-3333-4444-555555555555)\n"
    "GPU 1: NVIDIA H200 (UUID: GPU-66666666-7777-8888-9999-000000000000)"
)
SLICED = (
    "GPU 0: NVIDIA A100 (UUID: GPU-11111111-2222-3333-4444-555555555555)\n"
    "  MIG 1g.10gb     Device  0: (UUID: MIG-66666666-7777-8888-9999-000000000000)\n"
    "  MIG 1g.10gb     Device  1: (UUID: MIG-66666666-7777-8888-9999-000000000001)"
)
WAITING = "every card is in use; waiting for one"


# --- counted ----------------------------------------------------------------------------------


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A function that puts an nvidia-smi in the place of any other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(prints, status=0):
        path = folder / "nvidia-smi"
        path.write_text(
            f'#!/bin/sh\n[ "$*" = -L ] || exit 9\nprintf "%s\\n" "{prints}"\nexit {status}\n'
        )
        path.chmod(0o755)

    return install


@pytest.mark.usefixtures("driver")
def test_without_a_driver_there_are_no_cards():
    assert count_cards() == 0


@pytest.mark.parametrize(
    ("prints", "status", "count"),
    [
        (TWO_CARDS, 0, 2),
        (SLICED, 0, 1),
        ("No devices found.", 6, 0),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9, 0),
    ],
    ids=["two", "sliced", "none", "no driver"],
)
def test_cards_are_counted_by_the_driver(driver, prints, status, count):
    driver(prints, status)
    assert count_cards() == count


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("", 0),
        ("-1", 0),
        ("1", 1),
        ("0,1,3", 3),
        ("2, 3", 2),
        ("GPU-11111111-2222-3333-4444-555555555555,GPU-66666666", 2),
        ("MIG-66666666-7777-8888-9999-000000000000", 1),
    ],
)
def test_of_a_machine_s_cards_the_visible_ones_count(driver, monkeypatch, visible, count):
    driver(TWO_CARDS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_cards() == count


# --- claimed ----------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path, monkeypatch):
    """The locks of this process, in a folder of the test; they end with it."""
    handles = []
    monkeypatch.setattr(cards, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(cards, "_held", handles)
    yield handles
    for handle in handles:
        os.close(handle)


@pytest.mark.usefixtures("held")
def test_each_claim_gets_a_card_of_its_own_while_there_are_any(no_waiting_for_cards):
    names = {0: "a", 1: "b", 5: "c"}
    assert [claim_card(names) for _ in range(3)] == [0, 1, 5]
    with pytest.raises(no_waiting_for_cards):
        claim_card(names)


@pytest.mark.usefixtures("held")
def test_a_card_is_known_by_its_name_and_not_by_its_number(no_waiting_for_cards):
    assert claim_card({0: "a"}) == 0
    assert claim_card({0: "b"}) == 0
    assert claim_card({0: "b", 1: "a", 2: "c"}) == 2
    with pytest.raises(no_waiting_for_cards):
        claim_card({7: "a"})


def test_waiting_is_said_once_and_on_the_screen(held, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    claim_card({0: "a", 1: "b"})
    claim_card({0: "a", 1: "b"})
    assert caplog.records == []
    pauses = []

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 5:
            os.close(held.pop())

    monkeypatch.setattr(cards, "pause", wait)
    assert claim_card({0: "a", 1: "b"}) == 1
    assert len(pauses) == 5
    (said,) = caplog.records
    assert said.getMessage() == WAITING
    assert said.progress


# --- several processes ------------------------------------------------------------------------

#: Holds its card until another process has begun on the other one.
CROWD = """
import sys, time
from collapseflow.running.cards import claim_card

def note(word, card):
    with open(sys.argv[1], "a") as file:
        file.write(f"{word} {card}\\n")

card = claim_card({0: "a", 1: "b"})
note("begin", card)
while f"begin {1 - card}\\n" not in open(sys.argv[1]).read():
    time.sleep(0.01)
time.sleep(0.2)
note("end", card)
"""
HOLDER = """
import logging, sys, time
from collapseflow.running.cards import claim_card
logging.basicConfig(stream=sys.stdout, format="%(message)s", level="INFO")
print("has", claim_card({0: "a"}), flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def start(tmp_path):
    """A function that starts a script as a process of its own; none outlives the test."""
    processes = []
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def run(script, *arguments):
        words = [sys.executable, "-c", script, *map(str, arguments)]
        processes.append(
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        )
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
    for card in "01":
        words = [note.split()[0] for note in notes if note.endswith(card)]
        assert words == ["begin", "end"] * (len(words) // 2)
        assert words
    assert sorted(path.name for path in tmp_path.glob("*cards*/*")) == ["a.lock", "b.lock"]


def test_a_killed_process_gives_its_card_back(start):
    killed = start(HOLDER, 3600)
    assert killed.stdout.readline() == "has 0\n"
    heir = start(HOLDER, 0)
    assert heir.stdout.readline() == f"{WAITING}\n"
    killed.kill()
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert heir.communicate(timeout=60)[0] == "has 0\n"
    assert heir.returncode == 0
