"""Fine-tuning as in report A, one epoch at a time, and the pretraining on letters.

Everything random in an epoch (order, dropout) is seeded by the study's seed and the number of
the epoch, and an epoch's result is a file: an interrupted run continues from the last file and
ends in the same weights, bit for bit on a CPU with the same number of threads.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from collapseflow.datasets import Split, read_info, read_split
from collapseflow.errors import UserError
from collapseflow.files import sha256_file, write_json
from collapseflow.jobs import progress
from collapseflow.networks import build, load_network, load_state, make_head, save_state
from collapseflow.preprocessing import preprocess
from collapseflow.resume import publish, read_kept, valid_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam on all weights, cross-entropy, a constant learning rate."""

    model: str
    image_size: int
    normalize: str
    batch_size: int
    learning_rate: float
    seed: int


def seed_everything(seed: int, epoch: int) -> np.random.Generator:
    """Seed PyTorch's generators for one epoch; return the one that shuffles the images."""
    order, network = np.random.SeedSequence([seed, epoch]).spawn(2)
    torch.manual_seed(int(network.generate_state(1)[0]))
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
) -> float:
    """Train for one epoch; the last partial batch is dropped, as in report A.

    Returns
    -------
    Mean cross-entropy of the epoch's batches.

    Raises
    ------
    UserError
        If there are fewer images than one batch takes, or the loss is not finite.
    """
    n_batches = len(data.labels) // recipe.batch_size
    if n_batches == 0:
        raise UserError(
            f"batch_size: {recipe.batch_size} is more than the {len(data.labels)} training images"
        )
    shuffle = seed_everything(recipe.seed, epoch)
    order = torch.from_numpy(shuffle.permutation(len(data.labels))).to(device)
    images = torch.from_numpy(data.images).to(device)
    labels = torch.from_numpy(data.labels).to(device)
    network.train()
    total = torch.zeros((), device=device)
    for batch in progress(range(n_batches), n_batches, f"{recipe.model} epoch {epoch}"):
        rows = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
        inputs = preprocess(images[rows], recipe.image_size, recipe.normalize)
        loss = functional.cross_entropy(network(inputs), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach()
    mean_loss = float(total) / n_batches
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


def train_epochs(
    make_network: Callable[[], nn.Module],
    epochs: int,
    data: Split,
    recipe: Recipe,
    device: torch.device,
    folder: Path,
    describe: Callable[[int], dict[str, str]],
) -> list[Path]:
    """Train up to ``epochs`` epochs, going on after the last one that ``folder`` holds.

    An epoch is finished when its record ``epochNNN.json`` stands beside its weights; the record
    holds the SHA-256 of the weights and of Adam's state, which is kept for the newest epoch alone.

    Parameters
    ----------
    make_network
        Builds the network that training starts from; called only if no epoch is finished.
    folder
        From :func:`collapseflow.resume.valid_folder`.
    describe
        Metadata of the weights after an epoch.

    Returns
    -------
    The weights after each epoch, in order.
    """
    files = [EpochFiles(folder, epoch) for epoch in range(1, epochs + 1)]
    finished = 0
    while finished < epochs and files[finished].is_whole("weights"):
        finished += 1
    if finished == epochs:
        logger.info("%s: all %d epochs are kept", recipe.model, epochs)
        return [of_epoch.weights for of_epoch in files]
    if finished and not files[finished - 1].is_whole("optimizer"):
        logger.warning("%s: a kept epoch is damaged; training starts anew", recipe.model)
        finished = 0
    # What stands behind the last usable epoch belongs to no training that goes on.
    for path in folder.iterdir():
        if path not in {p for kept in files[:finished] for p in kept.paths()}:
            path.unlink()
    if finished:
        logger.info("%s: going on after epoch %d", recipe.model, finished)
        network, _ = load_network(recipe.model, files[finished - 1].weights)
    else:
        network = make_network()
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = new_optimizer(network, recipe)
    if finished:
        restore_optimizer(network, optimizer, load_state(files[finished - 1].optimizer)[0])
    for epoch in range(finished + 1, epochs + 1):
        started = time.perf_counter()
        loss = train_one_epoch(network, optimizer, data, recipe, epoch, device)
        seconds = time.perf_counter() - started
        new = files[epoch - 1]
        save_state(new.optimizer, optimizer_state(network, optimizer), {"epoch": str(epoch)})
        metadata = {
            **describe(epoch),
            "epoch": str(epoch),
            "mean_loss": repr(loss),
            "seconds": repr(seconds),
        }
        save_state(new.weights, network.state_dict(), metadata)
        new.seal()
        for old in files[: epoch - 1]:
            old.optimizer.unlink(missing_ok=True)
        logger.info("%s: epoch %d of %d is finished", recipe.model, epoch, epochs)
    return [of_epoch.weights for of_epoch in files]


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

    def is_whole(self, name: Literal["weights", "optimizer"]) -> bool:
        """Whether a file is there as it was when the record was written."""
        path, record = getattr(self, name), read_kept(self.record)
        return record is not None and path.exists() and sha256_file(path) == record[name]


def finetune(
    dataset: str | Path,
    recipe: Recipe,
    device: torch.device,
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
    dataset
        A data set's file; its training images are used.
    start_weights, start
        The weights that fine-tuning starts from, whose last layer is replaced
        (:func:`~collapseflow.networks.make_head`), and what they are, in words.
    progress_folder, code
        Where finished epochs are kept, and a digest of the code that trains: an epoch is taken
        from there as long as data, recipe, starting weights and code are the same.
    """
    info = read_info(dataset)

    def make_network() -> nn.Module:
        network, _ = load_network(recipe.model, start_weights)
        seed_everything(recipe.seed, 0)
        return make_head(network, recipe.model, len(info.class_names), head_gain)

    folder = valid_folder(
        progress_folder,
        {
            "dataset": info.sha256,
            "recipe": asdict(recipe),
            "head_gain": head_gain,
            "start": sha256_file(start_weights),
            "code": code,
        },
    )
    weights = train_epochs(
        make_network,
        len(outputs),
        read_split(dataset, "train"),
        recipe,
        device,
        folder,
        lambda epoch: {
            "weights": f"{recipe.model}, {start}, fine-tuned for {epoch} epochs",
            "task": "fine-tuned",
        },
    )
    for part, output in zip(weights, outputs, strict=True):
        publish(part, output)


def pretrain(
    dataset: str | Path,
    recipe: Recipe,
    epochs: int,
    device: torch.device,
    progress_folder: str | Path,
    code: str,
    output: str | Path,
) -> None:
    """Train a network from random weights on the source task; write its weights.

    ``progress_folder`` and ``code`` as in :func:`finetune`.
    """
    info = read_info(dataset)

    def make_network() -> nn.Module:
        seed_everything(recipe.seed, 0)
        return build(recipe.model, len(info.class_names))

    folder = valid_folder(
        progress_folder, {"dataset": info.sha256, "recipe": asdict(recipe), "code": code}
    )
    weights = train_epochs(
        make_network,
        epochs,
        read_split(dataset, "train"),
        recipe,
        device,
        folder,
        lambda epoch: {
            "weights": f"{recipe.model} pretrained on rendered letters for {epoch} epochs"
        },
    )
    publish(weights[-1], output)


def initialize(model: str, seed: int, output: str | Path) -> None:
    """Write a network's random initial weights."""
    seed_everything(seed, 0)
    network = build(model, 1000)
    words = f"{model} with random weights, never trained (seed {seed})"
    save_state(output, network.state_dict(), {"weights": words})
