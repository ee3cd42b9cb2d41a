"""Optimiser, course of the learning rate, and loss, as a recipe says."""

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from collapseflow.training.recipes import TrainingRecipe


def learning_rate(recipe: TrainingRecipe, epochs_done: float) -> float:
    """The rate of the batch that follows ``epochs_done`` epochs, in fractions of an epoch."""
    if epochs_done < recipe.warmup:
        return recipe.learning_rate * epochs_done / recipe.warmup
    if recipe.schedule == "step":
        # A share of the epochs that is a whole number may come out a little above it.
        passed = sum(epochs_done + 1e-9 >= share * recipe.epochs for share in recipe.steps)
        return recipe.learning_rate * recipe.step_factor**passed
    if recipe.schedule == "cosine":
        done = (epochs_done - recipe.warmup) / (recipe.epochs - recipe.warmup)
        return recipe.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return recipe.learning_rate


def new_optimizer(network: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """PyTorch's optimiser of the parameters that are trained.

    Adam (Kingma and Ba 2015) and AdamW have PyTorch's default moments.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    options = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        momentum = {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
        return torch.optim.SGD(parameters, **momentum, **options)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(parameters, **options)


def optimizer_state(
    network: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """An optimiser's moments and step counts as flat tensors, by the names of the parameters.

    Of SGD without momentum there are none.
    """
    return {
        f"{name}/{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    network: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, torch.Tensor]
) -> None:
    """Put a saved state back into a fresh optimiser, in the memory layout of the parameters."""
    parameters = dict(network.named_parameters())
    for path, value in state.items():
        name, key = path.rsplit("/", 1)
        parameter = parameters[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        optimizer.state[parameter][key] = value.to(parameter.device)


def loss_function(
    recipe: TrainingRecipe, logits: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """The mean loss of some images.

    ``mse`` is half the squared distance of the logits from the one-hot labels, 1/(2N) sum
    ||z - y||^2 (Han, Papyan and Donoho 2022; Tirer and Bruna 2022).

    Parameters
    ----------
    logits : (N, classes)
    labels : int64 (N,)
    """
    if recipe.loss == "mse":
        one_hot = functional.one_hot(labels, logits.shape[1]).float()
        return functional.mse_loss(logits.float(), one_hot, reduction="sum") / (2 * len(labels))
    return functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
