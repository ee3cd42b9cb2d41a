"""Fine-tuning as in report A, one epoch at a time, and the pretraining on letters.

Everything random in an epoch (order, dropout) is seeded by the study's seed and the number of
the epoch, and an epoch's result is a file: an interrupted run continues from the last file and
ends in the same weights, bit for bit on a CPU with the same number of threads.

The data set lies on the device as uint8 and is preprocessed there; within an epoch nothing waits
for the device. Where a batch does not fit into memory, its gradient is summed over micro-batches.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from collapseflow.features.networks import (
    build,
    load_network,
    load_state,
    make_head,
    read_metadata,
    save_state,
    weights_digest,
    weights_made_with,
)
from collapseflow.features.preprocessing import preprocess
from collapseflow.images.datasets import Split, read_info, read_split
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import sha256_file, write_json
from collapseflow.running.hardware import (
    autocast,
    call_again,
    free_memory,
    is_out_of_memory,
    pick_precision,
    precision_name,
)
from collapseflow.running.jobs import progress
from collapseflow.running.resume import (
    DEPENDENCIES,
    publish,
    read_kept,
    set_aside,
    take_over,
    valid_folder,
)
from collapseflow.training.parallel import (
    distribute,
    last_part_only,
    launch,
    n_processes,
    rank,
    share,
    total,
    wait_for_all,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam on all weights, cross-entropy, a constant learning rate.

    ``precision``: see :func:`collapseflow.running.hardware.pick_precision`; the weights and Adam's
    moments are float32 in any case.
    """

    model: str
    image_size: int
    normalize: str
    precision: str
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Training:
    """All that a process needs to know in order to train, as JSON-like values.

    Attributes
    ----------
    dataset
        A data set's file; its training images are used.
    start_weights, head_gain
        The weights that training starts from, whose last layer is replaced
        (:func:`~collapseflow.features.networks.make_head`); None starts from random weights.
    metadata
        What the files of weights say of themselves; ``{epoch}`` stands for the epoch.
    """

    dataset: str
    recipe: Recipe
    epochs: int
    start_weights: str | None
    head_gain: float | None
    metadata: dict[str, str]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Training":
        """From what :func:`dataclasses.asdict` has made of one."""
        return cls(**{**values, "recipe": Recipe(**values["recipe"])})

    def new_network(self) -> nn.Module:
        """The network before its first epoch."""
        n_classes = len(read_info(self.dataset).class_names)
        if self.start_weights is None:
            seed_everything(self.recipe.seed, 0)
            return build(self.recipe.model, n_classes)
        network, _ = load_network(self.recipe.model, self.start_weights)
        seed_everything(self.recipe.seed, 0)
        return make_head(network, self.recipe.model, n_classes, self.head_gain)


class OutOfMemory(Exception):
    """A step did not fit into memory; ``micro_batch`` says with how many images at a time."""

    def __init__(self, micro_batch: int):
        super().__init__(f"out of memory with {micro_batch} images at a time")
        self.micro_batch = micro_batch


def seed_everything(seed: int, epoch: int, process: int = 0) -> np.random.Generator:
    """Seed PyTorch's generators for one epoch; return the one that shuffles the images.

    The order is the same in all processes; what the network draws (dropout) is each one's own.
    """
    order, network = np.random.SeedSequence([seed, epoch]).spawn(2)
    torch.manual_seed(int(network.generate_state(process + 1)[process]))
    return np.random.default_rng(order)


def new_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Adam:
    """Adam (Kingma and Ba 2015) with PyTorch's default moments."""
    return torch.optim.Adam(network.parameters(), recipe.learning_rate, fused=True)


def train_one_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Split,
    recipe: Recipe,
    epoch: int,
    device: torch.device,
    micro_batch: int,
) -> float:
    """Train for one epoch; the last partial batch is dropped, as in report A.

    Parameters
    ----------
    micro_batch
        As in :func:`collapseflow.training.parallel.share`; the gradients of the parts of a batch
        are summed. Batch normalisation sees one part of each process.

    Returns
    -------
    Mean cross-entropy of the epoch's batches.

    Raises
    ------
    UserError
        If there are fewer images than one batch takes, or the loss is not finite.
    OutOfMemory
        If a micro-batch does not fit; network and optimizer are then to be thrown away.
    """
    n_batches = len(data.labels) // recipe.batch_size
    if n_batches == 0:
        raise UserError(
            f"batch_size: {recipe.batch_size} is more than the {len(data.labels)} training images"
        )
    shuffle = seed_everything(recipe.seed, epoch, rank())
    order = torch.from_numpy(shuffle.permutation(len(data.labels))).to(device)
    images = torch.from_numpy(data.images).to(device)
    labels = torch.from_numpy(data.labels).to(device)
    precision = pick_precision(recipe.precision, device)
    network.train()
    losses = torch.zeros((), device=device)
    try:
        for batch in progress(range(n_batches), n_batches, f"{recipe.model} epoch {epoch}"):
            rows = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
            parts = share(rows, micro_batch)
            optimizer.zero_grad(set_to_none=True)
            for part in parts:
                inputs = preprocess(images[part], recipe.image_size, recipe.normalize)
                with last_part_only(network, part is parts[-1]):
                    with autocast(device, precision):
                        loss = functional.cross_entropy(network(inputs), labels[part])
                    # Processes average their gradients; the batch's is the mean over its images.
                    loss = loss * (len(part) * n_processes() / recipe.batch_size)
                    loss.backward()
                losses += loss.detach()
            optimizer.step()
        mean_loss = float(total(losses)) / n_processes() / n_batches
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(micro_batch) from None
        raise
    if not np.isfinite(mean_loss):
        raise UserError(
            f"{recipe.model}: the loss of epoch {epoch} is not finite; lower the learning rate"
        )
    logger.info("%s epoch %d: mean loss %.4f", recipe.model, epoch, mean_loss)
    return mean_loss


def optimizer_state(network: nn.Module, optimizer: torch.optim.Adam) -> dict[str, torch.Tensor]:
    """Adam's moments and step counts as flat tensors, by the names of the parameters."""
    return {
        f"{name}/{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    network: nn.Module, optimizer: torch.optim.Adam, state: dict[str, torch.Tensor]
) -> None:
    """Put saved moments back into a fresh optimizer, in the memory layout of the parameters."""
    for name, parameter in network.named_parameters():
        moments = {
            key: torch.empty_like(parameter).copy_(state[f"{name}/{key}"])
            for key in ("exp_avg", "exp_avg_sq")
        }
        optimizer.state[parameter] = {"step": state[f"{name}/step"].to(parameter.device), **moments}


def train(training: Training, devices: Sequence[torch.device], folder: Path) -> list[Path]:
    """Train all epochs, on one device or, with a process each, on several.

    When memory is out, the number of images that go through the network at a time is halved, and
    training goes on after the last finished epoch with the same batches.

    Parameters
    ----------
    folder
        From :func:`collapseflow.running.resume.valid_folder`.

    Returns
    -------
    The weights after each epoch, in order.

    Raises
    ------
    UserError
        As :func:`train_one_epoch`; and if two images at a time are too many.
    """
    batch_size = training.recipe.batch_size
    files = [EpochFiles(folder, epoch) for epoch in range(1, training.epochs + 1)]
    finished_before = [of_epoch.finished_at() for of_epoch in files]
    micro_batch = math.ceil(batch_size / len(devices))
    attempt = train_epochs
    while True:
        try:
            if len(devices) == 1:
                attempt(training, devices[0], folder, micro_batch)
            else:
                _train_in_processes(training, devices, folder, micro_batch)
            break
        except OutOfMemory as error:
            micro_batch = error.micro_batch // 2
            if micro_batch < 2:
                raise TemporaryError(
                    f"{training.recipe.model}: {error}; lower image_size, or use a larger machine"
                ) from None
            logger.warning(
                "%s: %s; going on with %d, in batches of %d as before (batch normalisation sees "
                "%d images)",
                training.recipe.model,
                error,
                micro_batch,
                batch_size,
                micro_batch * len(devices),
                extra={"progress": True},
            )
        attempt = call_again(train_epochs, devices[0])
        free_memory()
    for of_epoch, before in zip(files, finished_before, strict=True):
        if of_epoch.finished_at() == before:
            take_over(float(read_metadata(of_epoch.weights)["seconds"]))
    return [of_epoch.weights for of_epoch in files]


def _train_in_processes(
    training: Training, devices: Sequence[torch.device], folder: Path, micro_batch: int
) -> None:
    request = {"training": asdict(training), "folder": str(folder), "micro_batch": micro_batch}
    outcome = launch(request, devices)
    if "error" in outcome:
        raise UserError(outcome["error"])
    if "out_of_memory" in outcome:
        raise OutOfMemory(outcome["out_of_memory"])


def train_epochs(training: Training, device: torch.device, folder: Path, micro_batch: int) -> None:
    """Train up to the last epoch, going on after the last one that ``folder`` holds.

    An epoch is finished when its record ``epochNNN.json`` stands beside its weights; the record
    holds the SHA-256 of the weights and of Adam's state, which is kept for the newest epoch alone.

    Parameters
    ----------
    micro_batch
        As in :func:`train_one_epoch`; at most as many as the last finished epoch took.
    """
    recipe, epochs = training.recipe, training.epochs
    precision = precision_name(recipe.precision, device)
    files = [EpochFiles(folder, epoch) for epoch in range(1, epochs + 1)]
    finished = 0
    while finished < epochs and files[finished].is_whole("weights"):
        finished += 1
    if finished == epochs:
        logger.info("%s: all %d epochs are kept", recipe.model, epochs)
        return
    if finished and not files[finished - 1].is_whole("optimizer"):
        finished = 0
    wait_for_all()
    if rank() == 0:
        _clear(folder, {path for kept in files[:finished] for path in kept.paths()})
    made_from = read_info(training.dataset).made_with
    if finished:
        logger.info("%s: going on after epoch %d", recipe.model, finished)
        newest = files[finished - 1].weights
        network, _ = load_network(recipe.model, newest)
        before = read_metadata(newest)
        # Of all processes together: what batch normalisation sees must not change.
        micro_batch = min(micro_batch, math.ceil(int(before["micro_batch"]) / n_processes()))
        if before["precision"] != precision:
            logger.warning(
                "%s: going on in %s, as the epochs before; this device would take %s",
                recipe.model,
                before["precision"],
                precision,
                extra={"progress": True},
            )
            precision = before["precision"]
        made_from += weights_made_with(newest)
    else:
        network = training.new_network()
        if training.start_weights:
            made_from += weights_made_with(training.start_weights)
    # Chosen once, for all epochs of a training.
    recipe = replace(recipe, precision=precision)
    network = network.to(device, memory_format=torch.channels_last)
    distributed = distribute(network, device)
    optimizer = new_optimizer(network, recipe)
    if finished:
        restore_optimizer(network, optimizer, load_state(files[finished - 1].optimizer)[0])
    data = read_split(training.dataset, "train")
    logger.info("%s: training in %s", recipe.model, precision)
    for epoch in range(finished + 1, epochs + 1):
        started = time.perf_counter()
        loss = train_one_epoch(distributed, optimizer, data, recipe, epoch, device, micro_batch)
        seconds = time.perf_counter() - started
        if rank() == 0:
            new = files[epoch - 1]
            save_state(new.optimizer, optimizer_state(network, optimizer), {"epoch": str(epoch)})
            metadata = {
                **{key: words.format(epoch=epoch) for key, words in training.metadata.items()},
                "epoch": str(epoch),
                "mean_loss": repr(loss),
                "seconds": repr(seconds),
                "precision": precision,
                "micro_batch": str(min(micro_batch * n_processes(), recipe.batch_size)),
                "processes": str(n_processes()),
            }
            save_state(new.weights, network.state_dict(), metadata, made_from)
            new.seal()
            for old in files[: epoch - 1]:
                old.optimizer.unlink(missing_ok=True)
        logger.info("%s: epoch %d of %d is finished", recipe.model, epoch, epochs)
    wait_for_all()


def _clear(folder: Path, usable: set[Path]) -> None:
    """Make room behind the last usable epoch: what an unfinished epoch has left is deleted,
    finished epochs that cannot be gone on from, because a file is damaged, are set aside."""
    rest = [path for path in folder.iterdir() if path not in usable and path.name != DEPENDENCIES]
    finished = {path.stem for path in rest if path.suffix == ".json"}
    damaged = [path for path in rest if path.name.split(".")[0] in finished]
    for path in set(rest) - set(damaged):
        path.unlink()
    if damaged:
        logger.warning(
            "a kept epoch is damaged; what stands behind the last usable one is now in %s",
            set_aside(damaged),
            extra={"progress": True},
        )


class EpochFiles:
    """What one epoch leaves in the folder of a training.

    Attributes
    ----------
    weights, optimizer, record : paths
    """

    def __init__(self, folder: Path, epoch: int):
        stem = f"epoch{epoch:03d}"
        self.weights = folder / f"{stem}.safetensors"
        self.optimizer = folder / f"{stem}.optimizer.safetensors"
        self.record = folder / f"{stem}.json"

    def paths(self) -> tuple[Path, Path, Path]:
        """All three."""
        return self.weights, self.optimizer, self.record

    def seal(self) -> None:
        """Write the record: from now on the epoch is finished."""
        digests = {name: sha256_file(getattr(self, name)) for name in ("weights", "optimizer")}
        write_json(self.record, digests)

    def finished_at(self) -> int | None:
        """When the record was written, in nanoseconds; None before."""
        try:
            return self.record.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def is_whole(self, name: Literal["weights", "optimizer"]) -> bool:
        """Whether a file is there as it was when the record was written."""
        path, record = getattr(self, name), read_kept(self.record)
        return record is not None and path.exists() and sha256_file(path) == record[name]


def finetune(
    dataset: str | Path,
    recipe: Recipe,
    devices: Sequence[torch.device],
    head_gain: float,
    start_weights: str | Path,
    start: str,
    progress_folder: str | Path,
    code: str,
    outputs: Sequence[str | Path],
) -> None:
    """Fine-tune a network for as many epochs as there are ``outputs``, its weights after each.

    Parameters
    ----------
    dataset, start_weights, head_gain
        As in :class:`Training`.
    devices
        One, or several for a process each.
    start
        What the starting weights are, in words.
    progress_folder, code
        Where finished epochs are kept, and a digest of the code that trains: an epoch is taken
        from there as long as data, recipe, starting weights and code are the same.
    """
    data = read_info(dataset).sha256
    training = Training(
        dataset=str(dataset),
        recipe=recipe,
        epochs=len(outputs),
        start_weights=str(start_weights),
        head_gain=head_gain,
        metadata={
            "weights": f"{recipe.model}, {_plain(start)}, fine-tuned for {{epoch}} epochs",
            # Whose classes the last layer tells: for other data it predicts nothing.
            "task": data,
        },
    )
    folder = valid_folder(
        progress_folder,
        {
            "dataset": data,
            "recipe": asdict(recipe),
            "head_gain": head_gain,
            "start": weights_digest(start_weights),
            "code": code,
        },
    )
    for part, output in zip(train(training, devices, folder), outputs, strict=True):
        publish(part, output)


def _plain(words: str) -> str:
    """Words that :meth:`str.format` leaves as they are."""
    return words.replace("{", "{{").replace("}", "}}")


def pretrain(
    dataset: str | Path,
    recipe: Recipe,
    epochs: int,
    devices: Sequence[torch.device],
    progress_folder: str | Path,
    code: str,
    output: str | Path,
) -> None:
    """Train a network from random weights on the source task; write its weights.

    ``devices``, ``progress_folder`` and ``code`` as in :func:`finetune`.
    """
    training = Training(
        dataset=str(dataset),
        recipe=recipe,
        epochs=epochs,
        start_weights=None,
        head_gain=None,
        metadata={"weights": f"{recipe.model} pretrained on rendered letters for {{epoch}} epochs"},
    )
    folder = valid_folder(
        progress_folder,
        {"dataset": read_info(dataset).sha256, "recipe": asdict(recipe), "code": code},
    )
    publish(train(training, devices, folder)[-1], output)


def initialize(model: str, seed: int, output: str | Path) -> None:
    """Write a network's random initial weights."""
    seed_everything(seed, 0)
    network = build(model, 1000)
    words = f"{model} with random weights, never trained (seed {seed})"
    save_state(output, network.state_dict(), {"weights": words})
