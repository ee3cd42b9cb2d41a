"""How a network is trained: optimiser, course of the learning rate, loss, what is trained, and the
augmentation of the images."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.feature_extraction import create_feature_extractor

from collapseflow.features.networks import head_parameters, layer_names, skeleton
from collapseflow.running.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    precision
        See :func:`collapseflow.running.hardware.pick_precision`; the weights and the optimiser's
        moments are float32 in any case.
    momentum, nesterov
        Of ``sgd`` only.
    weight_decay
        Of all parameters that are trained (Papyan, Han and Donoho 2020): added to the gradient by
        ``sgd`` and ``adam``, decoupled from it by ``adamw`` (Loshchilov and Hutter 2019).
    schedule
        ``step`` multiplies the rate by ``step_factor`` after each share of the epochs in
        ``steps``; ``cosine`` lowers it to 0 (Loshchilov and Hutter 2017).
    warmup
        Epochs in which the rate rises from 0, before ``schedule`` (Goyal et al. 2017).
    loss
        ``mse``: see :func:`loss_function`. ``label_smoothing`` is of ``cross_entropy`` only
        (Szegedy et al. 2016).
    trained
        ``all``, ``head`` (the last layer), or a layer: what is evaluated from that one on.
    head_gain
        Gain of the new last layer's Xavier-normal weights; None leaves the network's own
        initialisation. Without starting weights no layer is new.
    augmentation
        ``none``, or of ``shift``, ``flip`` and ``crop`` some, joined by ``+`` in the order in which
        they are applied; see :func:`augment`.
    validation
        A share of the training images, above 0 and below 1: they are held out, in the proportions
        of the classes and drawn by ``seed``, and say after each epoch how good the network is
        (:func:`collapseflow.training.loop.validate`). ``training_mode``: after each epoch the test
        images go through the network as it is left by training, as in report A; see
        :func:`collapseflow.training.loop.leak_test_images`.
    patience
        Training stops when the loss on the images that are held out has had no new minimum in so
        many epochs (Prechelt 1998); the epochs that would follow have the weights of the best one.
        None trains all epochs.
    """

    model: str
    image_size: int
    normalize: str
    precision: str
    seed: int
    epochs: int
    batch_size: int
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Literal["constant", "step", "cosine"] = "constant"
    steps: tuple[float, ...] = (1 / 3, 2 / 3)
    step_factor: float = 0.1
    warmup: int = 0
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    label_smoothing: float = 0.0
    trained: str = "all"
    head_gain: float | None = None
    augmentation: str = "none"
    validation: Literal["none", "training_mode"] | float = "none"
    patience: int | None = None

    @property
    def share_held_out(self) -> float | None:
        """The share of the training images that is held out; None if all are trained on."""
        return None if isinstance(self.validation, str) else self.validation

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """From JSON-like values, in which ``steps`` are a list."""
        recipe = cls(**values)
        return replace(recipe, steps=tuple(recipe.steps))


def identity(recipe: Recipe) -> dict[str, Any]:
    """What decides the values of an epoch's weights, JSON-like.

    Keys that do nothing are left out. ``epochs`` is among the rest only where the course of the
    learning rate depends on it: else more epochs go on after the last one.
    """
    void = {
        "epochs": recipe.schedule == "constant",
        "momentum": recipe.optimizer != "sgd",
        "nesterov": recipe.optimizer != "sgd",
        "steps": recipe.schedule != "step",
        "step_factor": recipe.schedule != "step",
        "label_smoothing": recipe.loss != "cross_entropy",
        "validation": recipe.validation == "none",
        "patience": recipe.patience is None,
    }
    values = {**asdict(recipe), "steps": list(recipe.steps)}
    return {key: value for key, value in values.items() if not void.get(key, False)}


# --- optimiser and learning rate --------------------------------------------------------------


def learning_rate(recipe: Recipe, epochs_done: float) -> float:
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


def new_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
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


def loss_function(recipe: Recipe, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
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


# --- what is trained --------------------------------------------------------------------------


@cache
def _evaluated(model: str) -> list[tuple[int, str]]:
    """For each layer its place in the order of evaluation and the path of the module or parameter
    behind it (the layer's own name where there is none); for a parameter, where it is used."""
    body = create_feature_extractor(skeleton(model, 7), {n: n for n in layer_names(model)})
    layers = next(node for node in body.graph.nodes if node.op == "output").args[0]
    places = {node: place for place, node in enumerate(layers.values())}
    evaluated = []
    for name, node in layers.items():
        if node.op == "get_attr":
            place = min(places[user] for user in node.users if user in places)
        else:
            place = places[node]
        evaluated.append((place, node.target if node.op in ("call_module", "get_attr") else name))
    return evaluated


def _enclosing(path: str) -> list[str]:
    """A path and those of the modules around it, the outermost last."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _first_trained(model: str, trained: str) -> int:
    """The place, in the order of evaluation, of the first layer that is trained."""
    first = head_parameters(model)[0].rsplit(".", 1)[0] if trained == "head" else trained
    return next(n for n, name in enumerate(layer_names(model)) if first in _enclosing(name))


@cache
def trained_parameters(model: str, trained: str) -> frozenset[str]:
    """Names of the parameters that are first used at a layer or behind it.

    ``trained`` as in :class:`Recipe`, but not ``all``.
    """
    first_used: dict[str, int] = {}
    for place, path in sorted(_evaluated(model)):
        first_used.setdefault(path, place)
    start = _first_trained(model, trained)
    return frozenset(
        name
        for name, _ in skeleton(model, 7).named_parameters()
        if next(first_used[path] for path in _enclosing(name) if path in first_used) >= start
    )


def check_trained(model: str, trained: str) -> None:
    """Refuse a recipe's ``trained`` that does not fit a model.

    Raises
    ------
    UserError
        If it is no layer of the model, or one behind the last layer, which is new.
    """
    if trained in ("all", "head"):
        return
    known = {path for name in layer_names(model) for path in _enclosing(name)}
    if trained not in known:
        raise UserError(
            f"trained: {trained!r} is no layer of {model}; {did_you_mean(trained, sorted(known))}"
            f"allowed: all, head, or a layer: python -m collapseflow layers {model}"
        )
    if not trained_parameters(model, trained).issuperset(head_parameters(model)):
        raise UserError(
            f"trained: {trained!r} leaves the last layer of {model} untrained; "
            "allowed: all, head, or a layer before it"
        )


def freeze(network: nn.Module, recipe: Recipe) -> None:
    """Let gradients reach only the parameters that are trained."""
    if recipe.trained != "all":
        trained = trained_parameters(recipe.model, recipe.trained)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)


def set_to_train(network: nn.Module, recipe: Recipe) -> None:
    """Put a network into training mode, but what is evaluated before the trained layers into
    evaluation mode: what is frozen always gives the same features."""
    network.train()
    if recipe.trained == "all":
        return
    start = _first_trained(recipe.model, recipe.trained)
    trained = {path for place, path in _evaluated(recipe.model) if place >= start}
    around = {path for name in trained for path in _enclosing(name)}
    for name, module in network.named_modules():
        inside = not trained.isdisjoint(_enclosing(name))
        module.training = name == "" or name in around or inside


# --- augmentation -----------------------------------------------------------------------------

#: The largest shift, in shares of the side: 4 of 32 pixels (He et al. 2016).
LARGEST_SHIFT = 1 / 8
#: The smallest share of the area that a crop has (Szegedy et al. 2015 take 0.08, of photographs).
SMALLEST_CROP = 0.25


def draw_augmentation(
    augmentation: str, n: int, image_size: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw for ``n`` images what :func:`augment` does with each; nothing for ``none``.

    Returns
    -------
    By kind, in the order of application: ``shift`` int64 (n, 2), pixels down and to the right;
    ``flip`` bool (n,); ``crop`` float32 (n, 3), side, upper and left edge in shares of the side.
    """

    def shift() -> np.ndarray:
        largest = int(LARGEST_SHIFT * image_size)
        return generator.integers(-largest, largest, (n, 2), endpoint=True)

    def flip() -> np.ndarray:
        return generator.random(n) < 0.5

    def crop() -> np.ndarray:
        side = np.sqrt(generator.uniform(SMALLEST_CROP, 1, n))[:, None]
        return np.hstack([side, (1 - side) * generator.random((n, 2))]).astype(np.float32)

    draws = {"shift": shift, "flip": flip, "crop": crop}
    kinds = () if augmentation == "none" else augmentation.split("+")
    return {kind: draws[kind]() for kind in kinds}


def augment(images: torch.Tensor, draws: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Change each image as it was drawn: shifts by whole pixels, black outside (He et al. 2016);
    mirror images; square crops, resized bilinearly to the whole image (Szegedy et al. 2015).

    Parameters
    ----------
    images : float32 (N, C, S, S)
    draws
        What :func:`draw_augmentation` has drawn for these images, on their device.

    Returns
    -------
    float32 (N, C, S, S)
    """
    kinds = {"shift": _shift, "flip": _flip, "crop": _crop}
    for kind, drawn in draws.items():
        images = kinds[kind](images, drawn)
    return images


def _shift(images: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    n, _, size, _ = images.shape
    border = int(LARGEST_SHIFT * size)
    padded = functional.pad(images, (border,) * 4)
    places = torch.arange(border, border + size, device=images.device)
    rows, columns = (places - by[:, dim, None] for dim in (0, 1))
    image = torch.arange(n, device=images.device)
    shifted = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def _flip(images: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


def _crop(images: torch.Tensor, crops: torch.Tensor) -> torch.Tensor:
    n, _, size, _ = images.shape
    centres = (torch.arange(size, device=images.device) + 0.5) / size
    side, top, left = crops[:, :, None].unbind(1)
    # grid_sample counts from -1 at one edge of the image to 1 at the other.
    rows, columns = (2 * (edge + side * centres) - 1 for edge in (top, left))
    grid = torch.stack(
        [columns[:, None, :].expand(n, size, size), rows[:, :, None].expand(n, size, size)], -1
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
