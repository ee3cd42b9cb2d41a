"""Fine-tuning as in report A, one epoch at a time, and the pretraining on letters.

Everything random in an epoch (order, dropout) is seeded by the study's seed and the number of
the epoch, and an epoch's result is a file: an interrupted run continues from the last file and
ends in the same weights, bit for bit on a CPU with the same number of threads.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from collapseflow.datasets import Split
from collapseflow.errors import UserError
from collapseflow.jobs import progress
from collapseflow.networks import build, load_network, load_state, make_head, save_state
from collapseflow.preprocessing import preprocess

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


def finetune_epoch(
    data: Split,
    n_classes: int,
    recipe: Recipe,
    epoch: int,
    device: torch.device,
    head_gain: float,
    previous_weights: str | Path,
    previous_state: str | Path | None,
    weights: str | Path,
    state: str | Path,
    start: str,
) -> None:
    """Train one epoch from the files of the epoch before; write weights and optimizer state.

    Parameters
    ----------
    previous_weights
        The weights of the epoch before; for epoch 1 those that fine-tuning starts from, whose
        last layer is replaced (:func:`~collapseflow.networks.make_head`).
    previous_state
        The optimizer's state after the epoch before; None for epoch 1.
    start
        Which weights fine-tuning started from, in words, for the metadata.
    """
    network, _ = load_network(recipe.model, previous_weights)
    if previous_state is None:
        seed_everything(recipe.seed, 0)
        network = make_head(network, recipe.model, n_classes, head_gain)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = new_optimizer(network, recipe)
    if previous_state is not None:
        restore_optimizer(network, optimizer, load_state(previous_state)[0])
    loss = train_one_epoch(network, optimizer, data, recipe, epoch, device)
    metadata = {
        "weights": f"{recipe.model}, {start}, fine-tuned for {epoch} epochs",
        "task": "fine-tuned",
        "epoch": str(epoch),
        "mean_loss": repr(loss),
    }
    save_state(state, optimizer_state(network, optimizer), {"epoch": str(epoch)})
    save_state(weights, network.state_dict(), metadata)


def pretrain(
    data: Split,
    n_classes: int,
    recipe: Recipe,
    epochs: int,
    device: torch.device,
    output: str | Path,
) -> None:
    """Train a network from random weights on the source task; write its weights."""
    seed_everything(recipe.seed, 0)
    network = build(recipe.model, n_classes).to(device, memory_format=torch.channels_last)
    optimizer = new_optimizer(network, recipe)
    for epoch in range(1, epochs + 1):
        loss = train_one_epoch(network, optimizer, data, recipe, epoch, device)
    words = f"{recipe.model} pretrained on rendered letters for {epochs} epochs"
    save_state(output, network.state_dict(), {"weights": words, "mean_loss": repr(loss)})


def initialize(model: str, seed: int, output: str | Path) -> None:
    """Write a network's random initial weights."""
    seed_everything(seed, 0)
    network = build(model, 1000)
    words = f"{model} with random weights, never trained (seed {seed})"
    save_state(output, network.state_dict(), {"weights": words})
