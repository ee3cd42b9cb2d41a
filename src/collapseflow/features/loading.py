"""From a file of weights to a network: what fits which architecture, and how it is opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from collapseflow.features.known import Model
from collapseflow.features.networks import (
    as_built,
    build,
    ends_in_head,
    head_layer,
    head_parameters,
    poolings,
    skeleton,
)
from collapseflow.features.reading import FeatureExtractor
from collapseflow.features.weights import load_state
from collapseflow.running.errors import UserError


def last_layer_of(model: Model, state: Mapping[str, torch.Tensor]) -> tuple[list[str], int]:
    """The parameters of a model's last layer that a state dict lacks, and the number of classes of
    the network to build for it."""
    head = head_parameters(model)
    absent = [name for name in head if name not in state]
    return absent, 1000 if absent else state[head[0]].shape[0]


def fitted(
    weights: str | Path,
    model: Model,
    state: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    absent: Sequence[str],
) -> dict[str, torch.Tensor]:
    """A state dict under the names that the network has today.

    Parameters
    ----------
    weights
        The file that it is from.
    own
        The network's own state dict.
    absent
        As :func:`last_layer_of`.

    Raises
    ------
    UserError
        If it is not one of this model.
    """
    # Auxiliary heads are not built; everything else must fit exactly.
    state = {n: value for n, value in state.items() if not n.lower().startswith("aux")}
    state = as_built(model, state, own)
    # Weights saved by PyTorch before 0.4.1 do not count the batches that BatchNorm saw.
    optional = {*absent, *(name for name in own if name.endswith(".num_batches_tracked"))}
    wrong = sorted(
        {name for name in own if name not in state and name not in optional}
        | {name for name in state if name not in own or state[name].shape != own[name].shape}
    )
    if not wrong:
        return state
    first = next(iter(own))
    needed = [name for name in own if name not in optional]
    prefixes = {name.removesuffix(first) for name in state if name.endswith(f".{first}")}
    prefix = next((p for p in prefixes if all(f"{p}{name}" in state for name in needed)), None)
    if prefix:
        raise UserError(
            f"{weights}: its names begin with {prefix!r} ({prefix}{first}); allowed: those of "
            f"torchvision's {model} ({first}): name.removeprefix({prefix!r}) of each"
        )
    raise UserError(f"{weights}: not the weights of {model}: {wrong[0]} is missing or differs")


def check_weights(model: Model, weights: str | Path) -> None:
    """Refuse a file that :func:`load_network` would refuse, without building the network.

    Raises
    ------
    UserError
        With the key, the file, what is wrong with it and what is allowed.
    """
    try:
        state, _ = load_state(weights)
        absent, n_classes = last_layer_of(model, state)
        fitted(weights, model, state, skeleton(model, n_classes).state_dict(), absent)
    except UserError as error:
        raise UserError(f"weights: {error}") from None


def load_network(model: Model, weights: str | Path) -> tuple[nn.Module, str | None]:
    """Build a model and load a state dict into it.

    Returns
    -------
    network, and the digest of the data set whose classes its last layer was trained to tell, None
    if nothing is known of one.

    Raises
    ------
    UserError
        If the state dict is not one of this model.
    """
    state, metadata = load_state(weights)
    absent, n_classes = last_layer_of(model, state)
    network = build(model, n_classes)
    own = network.state_dict()
    state = fitted(weights, model, state, own, absent)
    # Into the network's own state dict, which carries the versions that some models ask for.
    own.update(state)
    network.load_state_dict(own)
    return network, None if absent else metadata.get("task")


def open_extractor(
    model: Model, weights: str | Path, layers: Sequence[str], pool: str, task: str
) -> FeatureExtractor:
    """Load a network for reading features; one that was fine-tuned on the same data also predicts.

    Parameters
    ----------
    layers
        The layers' own names (:func:`own_name`).
    task
        Digest of the data set whose features are read.
    """
    network, trained_on = load_network(model, weights)
    pools = poolings(model, layers, pool)
    return FeatureExtractor(
        network, pools, trained_on == task, head_layer(model), ends_in_head(model)
    )
