"""One training in several processes of one machine, a card or a share of the cores each.

Every process holds the network and takes its share of each batch; gradients are averaged and the
statistics of batch normalisation are those of the whole batch, so that the result is the one of a
single device up to rounding (dropout draws other masks in each process).
"""

import ctypes
import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from collapseflow.running.stop import heed

logger = logging.getLogger(__name__)


def rank() -> int:
    """The number of this process; 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def n_processes() -> int:
    """The number of processes; 1 outside :func:`launch`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(rows: torch.Tensor, micro_batch: int) -> tuple[torch.Tensor, ...]:
    """This process's share of a batch, in parts of at most ``micro_batch`` rows.

    Every process has as many parts, and none is empty: batch normalisation and gradients wait for
    each other once a part. (Of 1 row at a time some parts have 2, where shares differ.)
    """
    smallest, rest = divmod(len(rows), n_processes())
    largest = smallest + (rest > 0)
    n_parts = min(smallest, math.ceil(largest / micro_batch))
    return rows.tensor_split(n_processes())[rank()].tensor_split(n_parts)


def total(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over the processes."""
    if n_processes() > 1:
        dist.all_reduce(value)
    return value


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if n_processes() > 1:
        dist.barrier()


def distribute(network: nn.Module, device: torch.device) -> nn.Module:
    """The network to call in training: itself, or one that averages gradients over processes.

    Replaces batch normalisation in ``network`` itself; its parameters stay the same objects.
    """
    if n_processes() == 1:
        return network
    kind = WholeBatchNormOnCards if device.type == "cuda" else WholeBatchNorm
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = kind
    cards = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(
        network, device_ids=cards, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def undistributed(network: nn.Module) -> nn.Module:
    """The network that was given to :func:`distribute`."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def last_part_only(network: nn.Module, is_last: bool):
    """A context in which gradients are averaged after the last part of a batch alone."""
    wait = isinstance(network, DistributedDataParallel) and not is_last
    return network.no_sync() if wait else nullcontext()


class WholeBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of all processes' samples (Ioffe and Szegedy 2015),
    for CPUs; :class:`WholeBatchNormOnCards` is the same for cards."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, ...) over all but the second dimension."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        others = [dim for dim in range(x.ndim) if dim != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        n = total(torch.tensor(float(x.numel() // x.shape[1])))
        mean = differentiable.all_reduce(x.sum(others)) / n
        centred = x - mean.view(shape)
        variance = differentiable.all_reduce(centred.square().sum(others)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / (n - 1)), self.momentum)
        scale = self.weight / torch.sqrt(variance + self.eps)
        return torch.addcmul(self.bias.view(shape), centred, scale.view(shape)).to(input.dtype)


class _Synchronized(SyncBatchNorm):
    """PyTorch's synchronised batch normalisation for processes that all have samples.

    Its forward pass leaves out processes without samples: by a mask, at which the host waits for
    the card in every layer (torch/nn/modules/_functions.py says so, and leaves the mask out only
    while a CUDA graph is captured). :func:`share` leaves no process without. The rest, and the
    backward pass, which does not wait, are PyTorch's.
    """

    @staticmethod
    def forward(
        ctx, x, weight, bias, running_mean, running_var, eps, momentum, process_group, world_size
    ):
        """Normalise (N, C, ...); arguments as PyTorch's."""
        if not x.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous()
        mean, invstd = torch.batch_norm_stats(x, eps)
        count = torch.full_like(mean[:1], x.numel() // x.shape[1])
        own = torch.cat([mean, invstd, count])
        gathered = own.new_empty(world_size, len(own))
        dist.all_gather(list(gathered), own, process_group)
        means, invstds, counts = gathered.split(len(mean), dim=1)
        mean, invstd = torch.batch_norm_gather_stats_with_counts(
            *(x, means, invstds, running_mean, running_var, momentum, eps, counts.flatten())
        )
        ctx.save_for_backward(x, weight, mean, invstd, counts.to(torch.int32))
        ctx.process_group = process_group
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, eps)


class WholeBatchNormOnCards(_BatchNorm):
    """:class:`WholeBatchNorm` with PyTorch's kernels for cards: they read activations in the
    precision in which they are and keep no other copy of them, where sums, differences and squares
    one by one would read and write them in float32 several times."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, ...) over all but the second dimension."""
        if not self.training:
            return super().forward(input)
        with torch.no_grad():
            self.num_batches_tracked += 1
        statistics = (self.running_mean, self.running_var, self.eps, self.momentum)
        return _Synchronized.apply(
            *(input, self.weight, self.bias, *statistics, dist.group.WORLD, n_processes())
        )


def launch(request: Mapping[str, Any], devices: Sequence[torch.device]) -> dict[str, Any]:
    """Run :mod:`collapseflow.training.worker` once for each device under PyTorch's launcher.

    What the processes log reaches this process's log. They end when this process does, or is
    asked to (:func:`collapseflow.running.stop.heed`).

    Of cards, each process sees one alone, as ``cuda:0``: the launcher deals out what
    ``CUDA_VISIBLE_DEVICES`` names (torch/distributed/elastic/agent/server/local_elastic_agent.py,
    _set_local_rank_env). NCCL connects such cards as well (src/transport/p2p.cc, p2pCanConnect).

    Parameters
    ----------
    request
        JSON-like; what the workers do.
    devices
        From :func:`collapseflow.running.hardware.pick_devices`.

    Returns
    -------
    What the first process has left as its outcome.

    Raises
    ------
    RuntimeError
        With the end of what the processes wrote, if they left none.
    """
    with tempfile.TemporaryDirectory(prefix="collapseflow-") as name:
        folder = Path(name)
        process = {
            "device": str(devices[0]),
            "threads": max(1, torch.get_num_threads() // len(devices)),
        }
        (folder / "request.json").write_text(json.dumps({**request, **process}))
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        words += [f"--nproc-per-node={len(devices)}"]
        if devices[0].type == "cuda":
            words += ["--virtual-local-rank"]
        words += ["-m", "collapseflow.training.worker", name]
        # The processes talk within this machine, whatever its name resolves to.
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        environment = {"GLOO_SOCKET_IFNAME": loopback, **os.environ}
        with open(folder / "errors", "w+") as errors:
            child = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
            with _logged(child.stdout), _ended(child):
                while child.poll() is None:
                    heed()
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(timeout=1.0)
            errors.seek(0)
            said = errors.read()
        outcome = folder / "outcome.json"
        if not outcome.exists():
            raise RuntimeError(f"the processes of a training ended:\n{said[-3000:]}")
        return json.loads(outcome.read_text())


def _end_with_parent() -> None:
    """Let the kernel end the launcher, which ends its workers, when the job is killed."""
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


@contextmanager
def _ended(child: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


@contextmanager
def _logged(lines: Iterable[str]) -> Iterator[None]:
    """Log what comes, in a thread that ends with the lines: this one is not to wait for them."""

    def log_all() -> None:
        for line in lines:
            _log_again(line)

    thread = threading.Thread(target=log_all, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class JsonLines(logging.Formatter):
    """A record as one line of JSON, for :func:`launch` to log it again."""

    def format(self, record: logging.LogRecord) -> str:
        """Name, level, message, and whether the message is one of progress."""
        is_progress = getattr(record, "progress", False)
        return json.dumps([record.name, record.levelno, record.getMessage(), is_progress])


def _log_again(line: str) -> None:
    try:
        name, level, message, is_progress = json.loads(line)
    except ValueError:
        logger.info(line.rstrip())
        return
    logging.getLogger(name).log(level, message, extra={"progress": is_progress})
