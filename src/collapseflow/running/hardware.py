"""The device that networks run on: which one, which numbers it computes in, how much memory."""

import ctypes
import gc
import logging
import math
import mmap
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from collapseflow.running.cards import (
    claim_cards,
    distrust_cards,
    visible_cards,
    was_given_a_card,
)
from collapseflow.running.errors import TemporaryError, UserError

logger = logging.getLogger(__name__)

#: Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_BESIDE_THE_HEAP = 256 * 2**20
CPUINFO = Path("/proc/cpuinfo")
#: More than oneDNN takes at a time for the code that it generates, and (not measured) than cuBLAS
#: or cuDNN take beside PyTorch's memory for handles and kernels.
_FOR_CODE, _FOR_KERNELS = 16 * 2**20, 256 * 2**20


def prepare_process(threads: int) -> None:
    """Set PyTorch's threads and the memory management of a process that runs networks.

    glibc gives each large tensor fresh pages, which the kernel fills with zeros, and gives them
    back when it is freed, in every layer of every step; told to keep them, training VGG11 is half
    as fast again. Until it chooses a card (:func:`pick_devices`), the process may not take more
    memory than there is: PyTorch then reports that memory is out, and a smaller batch is tried,
    where the kernel would have killed. (A SLURM job's own limit is left to SLURM: it is tried again
    with more.)
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


def lift_limit() -> None:
    """Take back what :func:`limit_memory` has set: CUDA reserves more addresses than memory."""
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def pick_device(device: str) -> torch.device:
    """``auto`` takes CUDA where there is a card; ``cuda`` takes a card that no other job has.

    float32 means float32 on every device: TensorFloat-32 stays off. Where a tenth of its precision
    will do, bfloat16 is the faster choice.

    Raises
    ------
    UserError
        If CUDA is asked for and there is none, or not that many; if there is a card, but PyTorch
        cannot use it: the driver is too old for it, or it has no code for such cards.
    """
    return pick_devices(device, 1)[0]


def pick_devices(device: str, count: int) -> list[torch.device]:
    """Devices for ``count`` processes: as many cards, or the CPU for each of them.

    As :func:`pick_device`. From now on this process, and those that it starts, see the cards that
    it has claimed and no others, numbered from 0: to be called before anything asks CUDA, as
    ``torch.cuda.is_available`` does. One is made ready for this process
    (:func:`use_card`); of several the processes of a training take one each
    (:func:`collapseflow.training.parallel.launch`), and this process leaves them alone: a context
    of its own would take memory, and in exclusive mode the whole card.
    """
    names = [] if device == "cpu" else visible_cards()
    has_cuda = device != "cpu" and _has_cuda(names)
    if device == "auto":
        device = "cuda" if has_cuda else "cpu"
    chosen = torch.device(device)
    if chosen.type != "cuda":
        logger.info("device: %s", device_name(chosen))
        return [chosen] * count
    if count > 1:
        # Slices (MIG) cannot talk to each other (NVIDIA's MIG user guide, "Application
        # Considerations").
        names = [name for name in names if not name.startswith("MIG-")]
    if (chosen.index or 0) + count > len(names):
        asked = repr(device) if count == 1 else f"{device!r} with gpus: {count}"
        kind = "CUDA devices" if count == 1 else "whole CUDA devices"
        raise TemporaryError(
            f"config key device: value {asked}, but PyTorch sees {len(names)} {kind}; "
            "set device to auto or cpu, or ask for a GPU"
        )
    if chosen.index is not None:
        names = names[chosen.index :][:count]
    cards = claim_cards(names, count)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
    lift_limit()
    devices = [torch.device("cuda", number) for number in range(count)]
    if count == 1:
        use_card(devices[0])
        cards = [f"{device_name(devices[0])} ({cards[0]})"]
    logger.info("device: %s", ", ".join(cards))
    return devices


def _has_cuda(names: Sequence[str]) -> bool:
    """Whether there is a card for PyTorch, where cards with these names are listed.

    Raises
    ------
    TemporaryError
        If there is a card that nobody lists, or that was given and cannot be used.
    """
    if torch.version.cuda is None and torch.version.hip is None:
        if names:
            logger.warning(
                "there is a card, but the installed PyTorch %s is made for CPUs alone",
                torch.__version__,
                extra={"progress": True},
            )
        return False
    if names or "CUDA_VISIBLE_DEVICES" in os.environ:
        return bool(names)
    reason = _why_no_cuda()
    if reason is None:
        raise TemporaryError(
            "PyTorch sees a card, but neither nvidia-smi nor nvidia-ml-py lists it; name it in the "
            "environment (CUDA_VISIBLE_DEVICES=0), or set device to cpu"
        )
    if was_given_a_card() or not any(word in reason for word in _NO_CARD):
        raise TemporaryError(f"there is a card, but PyTorch cannot use it: {reason}; {_REMEDY}")
    return False


#: PyTorch's words where there is no card, or no driver (c10/cuda/CUDAFunctions.cpp).
_NO_CARD = ("Found no NVIDIA driver", "No CUDA GPUs are available")
_REMEDY = (
    "for a driver that is too old install a newer one, or a PyTorch that is made for it "
    "(https://pytorch.org); look at the card with nvidia-smi, or set device to cpu"
)


def use_card(card: torch.device) -> None:
    """Make a card this process's own and set how it computes.

    Raises
    ------
    TemporaryError
        As :func:`pick_device`.
    """
    lift_limit()
    if reason := _why_no_cuda(card):
        distrust_cards()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise TemporaryError(
            f"there is a card ({visible or card}), but PyTorch {torch.__version__} cannot use it: "
            f"{reason}; {_REMEDY}"
        )
    capability = torch.cuda.get_device_capability(card)
    if not _has_code_for(*capability):
        raise TemporaryError(
            f"{device_name(card)} has compute capability {'.'.join(map(str, capability))}, for "
            f"which PyTorch {torch.__version__} has no code (only "
            f"{', '.join(torch.cuda.get_arch_list())}); install a PyTorch that has it "
            "(https://pytorch.org), or set device to cpu"
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Batches have one shape: cuDNN may try which of its ways is the fastest.
    torch.backends.cudnn.benchmark = True


def _why_no_cuda(card: torch.device | None = None) -> str | None:
    """PyTorch's own words for why it cannot start CUDA, or use a card; None if it can.

    ``torch.cuda.is_available`` says no more than that (c10/cuda/CUDAFunctions.cpp, device_count:
    the reason becomes a warning). That a card is broken, or taken where it is one process's alone,
    shows itself when a context is opened on it.
    """
    try:
        torch.cuda.init()
        if card is not None:
            torch.cuda.set_device(card)
            torch.cuda.mem_get_info()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0].split(". ")[0]
    return None


def _has_code_for(major: int, minor: int) -> bool:
    """Whether the installed PyTorch has machine code for a card, or code to translate.

    Machine code (``sm_``) runs on cards of the same major capability that are no older, PTX
    (``compute_``) on all that are no older; what ends in a letter only on its own kind (CUDA
    programming guide, "Compute Capabilities"; torch/cuda/__init__.py, _check_capability).
    """
    codes = torch.cuda.get_arch_list()
    if torch.version.cuda is None or not codes:
        # AMD's cards have other names.
        return True
    for code in codes:
        kind, made_for, letter = re.fullmatch(r"(sm|compute)_(\d+)([a-z]?)", code).groups()
        made_for = divmod(int(made_for), 10)
        if letter == "a" and made_for != (major, minor):
            continue
        if made_for <= (major, minor) and (kind == "compute" or made_for[0] == major):
            return True
    return False


def device_name(device: torch.device) -> str:
    """What a device is called: ``NVIDIA A100-SXM4-40GB``, ``CPU (AMD EPYC 9V45)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        found = re.search(r"^model name\s*: (.*)$", CPUINFO.read_text(), flags=re.M)
        name = found[1] if found else name
    return f"CPU ({name})"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.mkldnn.is_available():
        # Convolutions in it are oneDNN's (ATen/native/Convolution.cpp, use_mkldnn). PyTorch for
        # macOS has none (.ci/wheel/build_wheel.sh), and is slow in it whatever the processor has.
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """``auto`` takes bfloat16 where the device has it, else float32.

    Raises
    ------
    UserError
        If bfloat16 is asked for on a card without it: it would be computed, in a slow way.
    """
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    if precision == "bfloat16" and device.type == "cuda" and not has_bfloat16(device):
        raise UserError(
            f"precision: value 'bfloat16', but {device_name(device)} does not compute in it, as "
            "cards before compute capability 8.0; set precision to auto or float32, or use a newer "
            "card (as well where epochs before were trained in bfloat16)"
        )
    return getattr(torch, precision)


def precision_name(precision: str, device: torch.device) -> str:
    """What :func:`pick_precision` takes, as the study file names it."""
    return str(pick_precision(precision, device)).removeprefix("torch.")


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Convolutions and matrix products in bfloat16, sums and weights in float32 (Micikevicius
    et al. 2018); nothing at all in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory is out: PyTorch's, its CPU allocator's or a library's.

    cuBLAS and cuDNN name it, or say that they cannot begin. cuDNN may also fail to find a way to
    compute ("GET was unable to find an engine", aten/src/ATen/native/cudnn/Conv_v8.cpp), since it
    passes over those whose workspace finds no room, and oneDNN names no cause ("could not create a
    primitive"): where memory is still to be had, it is another one, such as what they cannot
    compute at all.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    said = str(error)
    if any(word in said for word in _NO_MEMORY):
        return True
    if any(word in said for word in _NO_WAY_ON_A_CARD):
        return _card_was_full()
    return bool(re.match("could not (create|execute) a", said)) and not _is_free(_FOR_CODE)


_NO_MEMORY = (
    *("can't allocate memory", "out of memory", "bad_alloc"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
    # As cuDNN 9 names it (cudnn_graph.h, cudnnStatus_t).
    *("INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
)
_NO_WAY_ON_A_CARD = (
    *("unable to find an engine", "No valid execution plans"),
    "Unable to find a valid cuDNN algorithm",
    *("CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_NOT_INITIALIZED"),
)


def _card_was_full() -> bool:
    """Whether memory was asked for in vain on this process's card since :func:`free_memory`, or
    little is left there.

    PyTorch's allocator counts (c10/cuda/CUDACachingAllocator.cpp, num_ooms), also where somebody
    catches what it raises; what libraries allocate themselves it does not see.
    """
    if not torch.cuda.is_initialized():
        return False
    return bool(
        torch.cuda.memory_stats()["num_ooms"] or torch.cuda.mem_get_info()[0] < _FOR_KERNELS
    )


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
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_accumulated_memory_stats()
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
