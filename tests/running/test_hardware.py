"""Devices, number formats and limits of memory."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from collapseflow.running import cards, hardware
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.hardware import (
    autocast,
    device_name,
    free_memory,
    has_bfloat16,
    is_out_of_memory,
    pick_device,
    pick_devices,
    pick_precision,
    use_card,
)

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com"
)


class Cuda:
    """What PyTorch says of the card of a process that sees one.

    Attributes
    ----------
    started : what ``CUDA_VISIBLE_DEVICES`` was when CUDA was started, each time
    fails : why it cannot be started
    breaks : why no context can be opened on the card
    """

    def __init__(self):
        self.started = []
        self.fails = None
        self.breaks = None
        self.capability = (8, 0)

    def init(self):
        self.started.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        if self.fails:
            raise RuntimeError(self.fails)

    def mem_get_info(self):
        if self.breaks:
            raise RuntimeError(self.breaks)
        return 2**34, 2**35

    def is_bf16_supported(self, including_emulation=True):
        return including_emulation or self.capability >= (8, 0)


@pytest.fixture
def cuda(tmp_path, monkeypatch):
    """A PyTorch made for CUDA on a machine on which no card is listed; cards are claimed in a
    folder of the test, and given back at its end."""
    monkeypatch.setattr(cards, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(cards, "_held", {})
    monkeypatch.setattr(cards, "_present", list)
    monkeypatch.setattr(cards, "_in_use", dict)
    for name in (*cards.SHARED, "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_JOB_GPUS"):
        # Set and taken away again: what a test sets is no longer there after it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    fake = Cuda()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fake.init)
    monkeypatch.setattr(torch.cuda, "mem_get_info", fake.mem_get_info)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", fake.is_bf16_supported)
    monkeypatch.setattr(torch.cuda, "set_device", lambda card: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda card: fake.capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda card: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
    yield fake
    for handle in cards._held.values():
        os.close(handle)


@pytest.fixture
def two_cards(cuda, monkeypatch):
    """As ``cuda``, with two cards."""
    monkeypatch.setattr(cards, "_present", lambda: [(0, "GPU-a"), (1, "GPU-b")])
    return cuda


@pytest.fixture
def new_job(monkeypatch):
    """A function after which this process is another job, beside the earlier ones."""
    others = []

    def start():
        others.append(cards._held)
        monkeypatch.setattr(cards, "_held", {})
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    yield start
    for held in others:
        for handle in held.values():
            os.close(handle)


def test_each_job_gets_a_card_of_its_own_before_cuda_starts(
    two_cards, new_job, no_waiting_for_cards
):
    assert pick_device("cuda") == CARD
    new_job()
    assert pick_device("auto") == CARD
    assert two_cards.started == ["GPU-a", "GPU-b"]
    new_job()
    with pytest.raises(no_waiting_for_cards):
        pick_device("cuda")
    assert pick_device("cpu") == CPU
    assert two_cards.started == ["GPU-a", "GPU-b"]


def test_a_training_gets_as_many_cards_as_it_asks_for_and_leaves_them_to_its_processes(
    two_cards, new_job, no_waiting_for_cards
):
    assert pick_devices("cuda", 2) == [CARD, torch.device("cuda:1")]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert two_cards.started == []
    assert not torch.cuda.is_initialized()
    new_job()
    with pytest.raises(no_waiting_for_cards):
        pick_device("cuda")
    with pytest.raises(UserError, match="'cuda' with gpus: 3, but PyTorch sees 2 whole CUDA dev"):
        pick_devices("cuda", 3)
    assert pick_devices("cpu", 3) == [CPU] * 3


def test_a_training_on_several_cards_takes_no_slices(two_cards, monkeypatch):
    monkeypatch.setattr(cards, "_present", lambda: [(0, "MIG-a"), (0, "MIG-b"), (1, "GPU-c")])
    with pytest.raises(UserError, match="gpus: 2, but PyTorch sees 1 whole CUDA devices"):
        pick_devices("auto", 2)
    assert pick_device("auto") == CARD
    assert two_cards.started == ["MIG-a"]


def test_a_card_with_its_number_is_that_card_and_no_other(two_cards, new_job, no_waiting_for_cards):
    assert pick_device("cuda:1") == CARD
    new_job()
    with pytest.raises(no_waiting_for_cards):
        pick_device("cuda:1")
    assert pick_device("cuda") == CARD
    assert two_cards.started == ["GPU-b", "GPU-a"]
    new_job()
    with pytest.raises(UserError, match="value 'cuda:2', but PyTorch sees 2 CUDA devices"):
        pick_device("cuda:2")


def test_a_gpu_that_is_not_there_is_refused(cuda):
    cuda.fails = "No CUDA GPUs are available"
    with pytest.raises(TemporaryError, match="device: value 'cuda:5'.*sees 0.*auto or cpu"):
        pick_device("cuda:5")


# --- cards that cannot be used ----------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "No CUDA GPUs are available",
    ],
)
def test_auto_is_the_cpu_where_there_is_no_card(cuda, reason):
    cuda.fails = reason
    assert pick_device("auto") == CPU


def test_auto_is_the_cpu_where_cards_are_hidden(two_cards, monkeypatch):
    two_cards.fails = TOO_OLD
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pick_device("auto") == CPU
    assert two_cards.started == []


@pytest.mark.parametrize(
    ("device", "given_by"),
    [
        ("auto", "driver"),
        ("cuda", "driver"),
        ("auto", "CUDA_VISIBLE_DEVICES"),
        ("cuda", "CUDA_VISIBLE_DEVICES"),
        ("auto", "SLURM_JOB_GPUS"),
        ("auto", "nobody"),
    ],
)
def test_a_driver_that_is_too_old_is_said_in_pytorch_s_words(cuda, monkeypatch, device, given_by):
    cuda.fails = TOO_OLD
    if given_by == "driver":
        monkeypatch.setattr(cards, "_present", lambda: [(0, "GPU-a")])
    elif given_by != "nobody":
        monkeypatch.setenv(given_by, "0")
    words = (
        r"The NVIDIA driver on your system is too old \(found version 12040\); .* device to cpu$"
    )
    with pytest.raises(TemporaryError, match=words):
        pick_device(device)


def test_a_card_that_slurm_has_given_and_nobody_sees_is_no_reason_for_the_cpu(cuda, monkeypatch):
    cuda.fails = "No CUDA GPUs are available"
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    with pytest.raises(TemporaryError, match="there is a card.*No CUDA GPUs are available"):
        pick_device("auto")


def test_a_card_that_only_pytorch_sees_is_to_be_named(cuda, monkeypatch):
    for device in ("auto", "cuda"):
        with pytest.raises(TemporaryError, match="CUDA_VISIBLE_DEVICES=0"):
            pick_device(device)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert pick_device("auto") == CARD


def test_a_card_that_cannot_be_started_is_left_to_others_at_first(two_cards, new_job):
    two_cards.breaks = "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might"
    with pytest.raises(TemporaryError, match=r"card \(GPU-a\).*uncorrectable ECC error encoun"):
        pick_device("auto")
    for handle in cards._held.values():
        os.close(handle)
    cards._held.clear()
    new_job()
    two_cards.breaks = None
    pick_device("auto")
    assert two_cards.started == ["GPU-a", "GPU-b"]


def test_a_pytorch_for_cpus_says_so_where_there_is_a_card(two_cards, monkeypatch, caplog):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert pick_device("auto") == CPU
    (said,) = caplog.messages
    assert said.startswith("there is a card, but the installed PyTorch")
    monkeypatch.setattr(cards, "_present", list)
    assert pick_device("auto") == CPU
    assert caplog.messages == [said]


@pytest.mark.parametrize(
    ("capability", "codes", "runs"),
    [
        ((8, 0), "sm_75 sm_80", True),
        ((8, 9), "sm_75 sm_80 sm_86", True),
        ((7, 5), "sm_75 sm_80", True),
        ((7, 0), "sm_75 sm_80", False),
        ((6, 1), "sm_75 sm_80", False),
        ((10, 3), "sm_90 sm_100", True),
        ((11, 0), "sm_90 sm_100 sm_120", False),
        ((12, 1), "sm_90 compute_90", True),
        ((8, 6), "sm_80a", False),
        ((9, 0), "sm_90a", True),
        ((12, 1), "sm_120f", True),
        ((8, 6), "", True),
    ],
)
def test_cards_for_which_pytorch_has_no_code_are_refused(
    cuda, monkeypatch, capability, codes, runs
):
    cuda.capability = capability
    monkeypatch.setattr(torch.cuda, "get_arch_list", codes.split)
    if runs:
        use_card(CARD)
        return
    words = f"NVIDIA A100 has compute capability {'.'.join(map(str, capability))}, for which"
    with pytest.raises(TemporaryError, match=words):
        use_card(CARD)


# --- number formats ---------------------------------------------------------------------------


def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch):
    for capabilities, precision in (
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda answer=capabilities: answer)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        assert pick_precision("auto", CPU) == precision
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert pick_precision("auto", CPU) == torch.float32
        assert pick_precision("float32", CPU) == torch.float32
        assert pick_precision("bfloat16", CPU) == torch.bfloat16


def test_bfloat16_on_a_card_without_it_is_refused(cuda):
    cuda.capability = (7, 5)
    assert pick_precision("auto", CARD) == pick_precision("float32", CARD) == torch.float32
    with pytest.raises(UserError, match="precision: value 'bfloat16', but NVIDIA A100 does not"):
        pick_precision("bfloat16", CARD)
    cuda.capability = (8, 0)
    assert pick_precision("auto", CARD) == pick_precision("bfloat16", CARD) == torch.bfloat16


def test_devices_have_names(cuda, tmp_path, monkeypatch):
    assert device_name(CARD) == "NVIDIA A100"
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(hardware.platform, "processor", lambda: "")
    monkeypatch.setattr(hardware.platform, "machine", lambda: "arm64")
    assert device_name(CPU) == "CPU (arm64)"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 9V45\nflags: x\n")
    assert device_name(CPU) == "CPU (AMD EPYC 9V45)"


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


@pytest.mark.usefixtures("two_cards")
def test_float32_on_a_card_is_no_tensorfloat32():
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


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_memory_is_limited_by_the_device_that_is_chosen():
    # On a machine with a card, which a job with ``device: cpu`` does not use.
    script = """
        import os, resource, torch
        from collapseflow.running import hardware
        torch.cuda.is_available = lambda: True
        hardware.visible_cards = lambda: ["GPU-a", "GPU-b"]
        hardware.claim_cards = lambda names, count: names[:count]

        def limit():
            return resource.getrlimit(resource.RLIMIT_DATA)[0]

        before = limit()
        hardware.prepare_process(1)
        hardware.pick_device("cpu")
        limited = limit()
        hardware.pick_devices("cuda", 2)
        print(before == resource.RLIM_INFINITY, limited != before, limit() == before)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    assert answer.stdout == "True True True\n"


@pytest.fixture
def card_memory(monkeypatch):
    """A process that computes on a card; what its memory is, and what was done with it."""
    told = {"num_ooms": 0, "free": 2**34, "done": []}

    def reset():
        told["num_ooms"] = 0

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: told)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (told["free"], 2**35))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told["done"].append("emptied"))
    monkeypatch.setattr(torch.cuda, "reset_accumulated_memory_stats", reset)
    return told


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    ],
)
def test_libraries_for_cards_say_that_memory_is_out(card_memory, words):
    assert is_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize(
    "words",
    [
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation",
        "[cudnn_frontend] Error: No valid execution plans built.",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    ],
)
def test_a_library_that_finds_no_way_has_no_memory_only_where_the_card_is_full(card_memory, words):
    error = RuntimeError(words)
    assert not is_out_of_memory(error)
    card_memory["num_ooms"] = 1
    assert is_out_of_memory(error)
    # What a smaller batch does not help is not memory.
    free_memory()
    assert card_memory["done"] == ["emptied"]
    assert not is_out_of_memory(error)
    card_memory["free"] = 2**20
    assert is_out_of_memory(error)


def test_a_cpu_s_memory_is_given_back_also_where_there_is_a_card(monkeypatch):
    raised = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware, "limit_memory", lambda n, lower: raised.append((n, lower)))
    free_memory()
    assert raised == ([(2**28, False)] if sys.platform == "linux" else [])
    assert not is_out_of_memory(RuntimeError("GET was unable to find an engine to execute"))
