"""What networks refuse, found before the first job: unknown models and layers, image sizes."""

import copy
import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from collapseflow.features.families import family_of, weights_name
from collapseflow.features.inputs import inputs_of
from collapseflow.features.known import PENULTIMATE, Architecture
from collapseflow.features.networks import (
    REFUSALS,
    SizeRefused,
    failing,
    head_layer,
    images_for,
    is_of_each_image,
    layer_names,
    own_name,
    penultimate_layer,
    poolings,
    skeleton,
)
from collapseflow.features.reading import read_layers
from collapseflow.running.errors import UserError, did_you_mean


def check_backbone(
    model: str,
    layers: Sequence[str],
    weights: list[str],
    image_size: int | str = 224,
    batch_size: int | None = None,
    pool: str = "average",
    head: str | None = None,
    normalize: str = "imagenet",
    preprocessing: str = "whole",
) -> None:
    """Refuse what a family does not have, and images that the network cannot take.

    Parameters
    ----------
    layers
        Names of layers or of blocks, and ``penultimate``.
    weights
        Names of weights that the family is to have.
    batch_size
        Images of the smallest batch in training, where 2 stands for all more; None where only
        features are read.
    pool
        A word of :data:`POOLS`.

    Raises
    ------
    UserError
        With the key, the value and what is allowed.
    """
    family_of(model).require(model)
    for source in weights:
        weights_name(model, source)
    of_weights = [
        inputs_of(model, image_size, normalize, preprocessing, source)
        for source in (weights or [None])
    ]
    for size in dict.fromkeys(inputs.image_size for inputs in of_weights):
        check_network(Architecture(model, size, head), layers, batch_size, pool)


def check_network(
    network: Architecture, layers: Sequence[str], batch_size: int | None, pool: str
) -> None:
    """As :func:`check_backbone`, of one image size."""
    model = network.model
    check_building(network)
    # A block goes by its own name, too: it is read where its last layer ends.
    paths = [name.split(".") for name in layer_names(network)]
    blocks = {".".join(path[:n]) for path in paths for n in range(1, len(path) + 1)}
    for layer in layers:
        if layer in {*blocks, PENULTIMATE}:
            continue
        if layer in dict(skeleton(network, 7).named_modules()):
            raise UserError(
                f"layers: {layer!r} of {model} is never reached by an image; "
                f"all that are: python -m collapseflow layers {model}"
            )
        raise UserError(
            f"layers: {layer!r} is no layer of {model}; {did_you_mean(layer, sorted(blocks))}"
            f"all: python -m collapseflow layers {model}"
        )
    layers = [own_name(network, layer) for layer in layers]
    check_image_size(network, layers, network.image_size, batch_size)
    poolings(network, layers, pool)


@torch.no_grad()
def layer_shapes(model: str, image_size: int) -> dict[str, tuple[int, ...]]:
    """The shape of one image's output at every layer that gives features, in the order of
    evaluation.

    Raises
    ------
    UserError
        If the network cannot take images of this size.
    """
    architecture = Architecture(model, image_size)
    check_building(architecture)
    check_image_size(architecture, [penultimate_layer(architecture)], image_size, None)
    network = skeleton(architecture, 1000)
    body = read_layers(network, layer_names(architecture), head_layer(architecture))
    n_images = 5
    outputs = body(images_for(network, n_images, image_size))
    return {n: tuple(o.shape[1:]) for n, o in outputs.items() if is_of_each_image(o, n_images)}


def check_building(architecture: Architecture) -> None:
    """Refuse a size of images that a network cannot be built for.

    Raises
    ------
    UserError
        With sizes that it can be built for.
    """

    def builds(size: int) -> bool:
        try:
            layer_names(replace(architecture, image_size=size))
        except (*REFUSALS, SizeRefused):
            return False
        return True

    if not builds(architecture.image_size):
        raise UserError(
            f"image_size: {architecture.image_size} is refused by {architecture}; "
            f"allowed: {_sizes_that_fit(architecture.image_size, builds)}"
        )


@torch.no_grad()
def check_image_size(
    model: Architecture, layers: Sequence[str], image_size: int, batch_size: int | None
) -> None:
    """Run a network without values up to its layers and, where it is trained, to its end.

    Raises
    ------
    UserError
        If it cannot take images of this size, with sizes that it can take; if a layer gives no
        features; if a batch of one is normalised over a single value; or if it gives something
        else than a value for each class.
    """

    @cache
    def parts(network: nn.Module) -> tuple:
        """What reads the layers, the network in training mode, its first convolution."""
        reader = read_layers(network, layers, head_layer(model))
        trained = copy.deepcopy(network).train() if batch_size else None
        first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
        return reader, trained, first

    def fits(size: int, batch: int = 2) -> bool:
        try:
            network = skeleton(replace(model, image_size=size), 7)
            reader, trained, first = parts(network)
            images = images_for(network, batch, size)
            # A traced network also prints what it raises.
            with redirect_stderr(io.StringIO()):
                reader(images)
            # A network of one place from its first layer on takes an image for a point.
            if first is not None and first(images).shape[-2:] == (1, 1):
                return False
            if trained:
                network(images)
                trained(images)
        except NotImplementedError:
            # An operation that cannot do without values says nothing about the size.
            return True
        except (*REFUSALS, UserError):
            return False
        except Exception as error:
            raise failing(model, error) from None
        return True

    if not fits(image_size):
        raise UserError(
            f"image_size: {image_size} is refused by {model}; "
            f"allowed: {_sizes_that_fit(image_size, fits)}"
        )
    if batch_size == 1 and not fits(image_size, batch=1):
        raise UserError(
            f"image_size: {image_size} leaves {model} one value to normalise in a batch of one "
            "image; allowed: larger images, or a larger batch_size in training"
        )
    network, n_images = skeleton(model, 7), 5
    images = images_for(network, n_images, image_size)
    outputs = parts(network)[0](images)
    for layer in layers:
        if not is_of_each_image(outputs.get(layer), n_images):
            raise UserError(
                f"layers: {layer!r} of {model} gives no features of each image; "
                f"all that do: python -m collapseflow layers {model}"
            )
    try:
        output = network(images)
    except REFUSALS:
        # Nobody asks for what is behind the layers that are read.
        return
    _check_output(model, output, n_images)


def _check_output(model: Architecture, output: object, n_images: int) -> None:
    """Refuse a network that gives something else than a value for each class."""
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (n_images, 7):
        raise UserError(
            f"model: {model}, built for 7 classes, gives {shape} of {n_images} images; "
            f"allowed: a tensor of shape ({n_images}, 7)"
        )


#: Image sizes that torchvision's networks are made for, or take at least.
_USUAL_SIZES = (32, 64, 128, 224, 256, 299, 384, 448, 512, 518)


def _sizes_that_fit(size: int, fits: Callable[[int], bool]) -> str:
    """What to take instead of a size that does not fit: the least size that does, in words."""
    larger = [usual for usual in _USUAL_SIZES if usual > size]
    good = next((usual for usual in (*larger, *reversed(_USUAL_SIZES)) if fits(usual)), None)
    if good is None:
        return "another size"
    if good < size or not fits(good + 1):
        return str(good)
    while good - size > 1:
        middle = (good + size) // 2
        good, size = (middle, size) if fits(middle) else (good, middle)
    return f"{good} or more"
