"""Devices, number formats and limits of memory."""

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch

from collapseflow.running import cards, hardware
from collapseflow.running.errors import UserError
from collapseflow.running.hardware import (
    autocast,
    has_bfloat16,
    pick_device,
    pick_devices,
    pick_precision,
)

CPU = torch.device("cpu")


@pytest.fixture
def locks(tmp_path, monkeypatch):
    """Cards are claimed in a folder of the test, and given back at its end."""
    monkeypatch.setattr(cards, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(cards, "_held", [])
    yield tmp_path / "locks"
    for handle in cards._held:
        os.close(handle)


@pytest.fixture
def two_cards(locks, monkeypatch):
    """A machine with two cards; gives the cards that PyTorch was told to use, in order."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda n: SimpleNamespace(uuid=f"1111-{n}")
    )
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def test_each_job_gets_a_card_of_its_own(two_cards, locks, no_waiting_for_cards):
    assert pick_device("cuda") == torch.device("cuda:0")
    assert pick_device("auto") == torch.device("cuda:1")
    assert two_cards == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert len(list(locks.glob("1111*"))) == 2
    with pytest.raises(no_waiting_for_cards):
        pick_device("cuda")
    assert pick_device("cpu") == CPU


def test_a_training_gets_as_many_cards_as_it_asks_for(two_cards, no_waiting_for_cards):
    assert pick_devices("cuda", 2) == [torch.device("cuda:0"), torch.device("cuda:1")]
    with pytest.raises(no_waiting_for_cards):
        pick_device("cuda")
    with pytest.raises(UserError, match="'cuda' with gpus: 3, but PyTorch sees 2 CUDA devices"):
        pick_devices("cuda", 3)
    assert pick_devices("cpu", 3) == [CPU] * 3


def test_a_card_with_its_number_is_that_card_and_no_other(two_cards, no_waiting_for_cards):
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(no_waiting_for_cards):
        pick_device("cuda:1")
    assert pick_device("cuda") == torch.device("cuda:0")
    assert two_cards == [torch.device("cuda:1"), torch.device("cuda:0")]
    with pytest.raises(UserError, match="value 'cuda:2', but PyTorch sees 2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.usefixtures("locks")
def test_auto_takes_what_there_is():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_that_is_not_there_is_refused():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match=f"device: value '{missing}'.*auto or cpu"):
        pick_device(missing)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(UserError, match="device: value 'cuda', but PyTorch sees 0"):
        pick_device("cuda")


# --- number formats ---------------------------------------------------------------------------


def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch):
    for capabilities, precision in (
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda answer=capabilities: answer)
        assert pick_precision("auto", CPU) == precision
        assert pick_precision("float32", CPU) == torch.float32
        assert pick_precision("bfloat16", CPU) == torch.bfloat16


def test_this_processor_s_flags_are_read():
    if not os.path.exists("/proc/cpuinfo") or os.uname().machine != "x86_64":
        pytest.skip("the flags of an x86-64 processor on Linux are compared")
    with open("/proc/cpuinfo") as file:
        flags = next(line for line in file if line.startswith("flags")).split()
    assert has_bfloat16(CPU) == ("avx512_bf16" in flags or "amx_bf16" in flags)


def test_products_are_bfloat16_and_float32_stays_float32():
    a = torch.ones(4, 4)
    with autocast(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert (a @ a).dtype == torch.float32


def test_float32_on_a_card_is_no_tensorfloat32(two_cards):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    pick_device("cuda")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


# --- memory -----------------------------------------------------------------------------------


#: Frees and allocates a large tensor again and again; prints the page faults of the second half.
PAGE_FAULTS = """
    import resource, sys, torch
    from collapseflow.running.hardware import prepare_process
    if sys.argv[1] == "prepared":
        prepare_process(1)
    for n in range(16):
        if n == 8:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(2**24).add_(1)
    print(torch.get_num_threads(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory is set")
def test_a_process_keeps_the_pages_of_its_tensors():
    if not hasattr(hardware.ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library has no mallopt")
    faults = {}
    for state in ("as it is", "prepared"):
        words = [sys.executable, "-c", textwrap.dedent(PAGE_FAULTS), state]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        faults[state] = int(answer[1])
    assert answer[0] == "1"
    # 64 MiB are 16,384 pages of 4 KiB, or 32 of 2 MiB.
    assert faults["prepared"] < faults["as it is"] / 4


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_memory_beyond_the_limit_is_refused():
    script = """
        import torch
        from collapseflow.running.hardware import is_out_of_memory, limit_memory
        limit_memory(300 * 2**20)
        kept = torch.ones(50 * 2**18)
        try:
            torch.ones(400 * 2**18)
        except RuntimeError as error:
            print(is_out_of_memory(error))
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"
