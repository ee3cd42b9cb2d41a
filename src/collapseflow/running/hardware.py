"""The device that networks run on: which one, which numbers it computes in, how much memory."""

import ctypes
import gc
import logging
import math
import mmap
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import torch

from collapseflow.running.cards import claim_cards
from collapseflow.running.errors import TemporaryError

logger = logging.getLogger(__name__)

#: Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_BESIDE_THE_HEAP = 256 * 2**20
#: More than oneDNN takes at a time for the code that it generates.
_FOR_CODE = 16 * 2**20


def prepare_process(threads: int) -> None:
    """Set PyTorch's threads and the memory management of a process that runs networks.

    glibc gives each large tensor fresh pages, which the kernel fills with zeros, and gives them
    back when it is freed, in every layer of every step; told to keep them, training VGG11 is half
    as fast again. Without a card the process may not take more memory than there is: PyTorch then
    reports that memory is out, and a smaller batch is tried, where the kernel would have killed.
    (A SLURM job's own limit is left to SLURM: it is tried again with more.)
    """
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        # What one thread has freed another may take.
        mallopt(_M_ARENA_MAX, 1)
    if not torch.cuda.is_available():
        limit_memory(psutil.virtual_memory().available)


def limit_memory(n_bytes: int, lower: bool = True) -> None:
    """Let allocations fail beyond ``n_bytes`` more than the process has now (Linux).

    Without ``lower`` a limit is only raised: there must be one, and it must be nearer.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = psutil.Process().memory_info().data + n_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    if lower or (soft != resource.RLIM_INFINITY and soft < limit):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def pick_device(device: str) -> torch.device:
    """``auto`` takes CUDA where there is one; ``cuda`` takes a card that no other job has.

    float32 means float32 on every device: TensorFloat-32 stays off. Where a tenth of its precision
    will do, bfloat16 is the faster choice.

    Raises
    ------
    UserError
        If CUDA is asked for and there is none, or not that many.
    """
    return pick_devices(device, 1)[0]


def pick_devices(device: str, count: int) -> list[torch.device]:
    """Devices for ``count`` processes: as many cards, or the CPU for each of them.

    As :func:`pick_device`.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type != "cuda":
        logger.info("device: %s", chosen)
        return [chosen] * count
    present = torch.cuda.device_count()
    if (chosen.index or 0) + count > present:
        asked = repr(device) if count == 1 else f"{device!r} with gpus: {count}"
        raise TemporaryError(
            f"config key device: value {asked}, but PyTorch sees {present} CUDA devices; "
            "set device to auto or cpu, or ask for a GPU"
        )
    numbers = range(present) if chosen.index is None else [chosen.index]
    identities = {n: str(torch.cuda.get_device_properties(n).uuid) for n in numbers}
    cards = [torch.device("cuda", n) for n in claim_cards(identities, count)]
    use_card(cards[0])
    logger.info("device: %s", ", ".join(map(str, cards)))
    return cards


def use_card(card: torch.device) -> None:
    """Make a card this process's own and set how it computes."""
    torch.cuda.set_device(card)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Batches have one shape: cuDNN may try which of its ways is the fastest.
    torch.backends.cudnn.benchmark = True


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """``auto`` takes bfloat16 where the device has it, else float32."""
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    return getattr(torch, precision)


def precision_name(precision: str, device: torch.device) -> str:
    """What :func:`pick_precision` takes, as the study file names it."""
    return str(pick_precision(precision, device)).removeprefix("torch.")


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Convolutions and matrix products in bfloat16, sums and weights in float32 (Micikevicius
    et al. 2018); nothing at all in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory is out: PyTorch's, its CPU allocator's or oneDNN's.

    oneDNN names no cause ("could not create a primitive"): where a little memory is still to be
    had, it is another one, such as what it cannot compute at all.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    words = ("can't allocate memory", "out of memory", "bad_alloc")
    if any(word in str(error) for word in words):
        return True
    return bool(re.match("could not (create|execute) a", str(error))) and not _is_free(_FOR_CODE)


def _is_free(n_bytes: int) -> bool:
    """Whether the process may take so many bytes more (always where it has no limit)."""
    if sys.platform != "linux":
        return True
    try:
        # Shared memory, the default, does not count against :func:`limit_memory`.
        mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return False
    return True


def free_memory() -> None:
    """Give back what a failed step has left behind.

    glibc keeps the addresses of its heap, which count against :func:`limit_memory`; oneDNN needs
    some outside of it for its code.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        limit_memory(_BESIDE_THE_HEAP, lower=False)


def call_again(function: Callable, device: torch.device) -> Callable:
    """How to call a function from now on after memory was out in it.

    Where none was left for the code that oneDNN generates on CPUs, its generator (Xbyak) makes no
    more of it in that thread, however much memory there is later: each call has a new thread.
    """
    if device.type != "cpu":
        return function

    def in_new_thread(*arguments: Any) -> Any:
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(function, *arguments).result()

    return in_new_thread


def memory_left(device: torch.device) -> float:
    """Bytes that this process may still take on a card: what its driver has free, and what
    PyTorch's allocator keeps without using it. No limit on a CPU, whose memory data are in
    anyway."""
    if device.type != "cuda":
        return math.inf
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused
