"""Networks of all families: build them, and what their layers are."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache

import torch
from torch import nn
from torch.fx import Node
from torchvision.models.feature_extraction import create_feature_extractor

from collapseflow.features import hooks
from collapseflow.features.families import Family, family_of
from collapseflow.features.known import PENULTIMATE, Architecture, Model
from collapseflow.features.pooling import Pooling
from collapseflow.features.reading import output_node, read_layers, traced_names
from collapseflow.running.errors import UserError, did_you_mean


def _known(model: Model) -> tuple[Architecture, Family]:
    """An architecture without what its family does not ask for, and the family."""
    architecture = model if isinstance(model, Architecture) else Architecture(model)
    family = family_of(architecture.model)
    if not family.is_built_for_a_size(architecture.model):
        architecture = replace(architecture, image_size=None)
    return architecture, family


def build(model: Model, n_classes: int) -> nn.Module:
    """A network with its own random initialisation.

    Raises
    ------
    UserError
        If a user's own function does not give one.
    """
    architecture, family = _known(model)
    return family.build(architecture.model, n_classes, architecture.image_size)


@cache
def skeleton(model: Model, n_classes: int) -> nn.Module:
    """A model for questions about its structure: without values (on the device "meta"), unless it
    branches by values."""
    architecture, _ = _known(model)
    if architecture != model:
        return skeleton(architecture, n_classes)
    try:
        with torch.device("meta"):
            network = build(model, n_classes).eval()
    except Exception:
        # Some builders (RegNet's) compute with tensors, which needs values. What has another
        # reason is raised once more.
        network = _with_values(model, n_classes).to("meta")
    return _with_values(model, n_classes) if _needs_values(network, model) else network


def _with_values(model: Model, n_classes: int) -> nn.Module:
    """A network whose random values nobody asks for: they are drawn beside the generator."""
    with torch.random.fork_rng(devices=[]):
        return build(model, n_classes).eval()


@torch.no_grad()
def _needs_values(network: nn.Module, model: Model) -> bool:
    try:
        network(images_for(network, 2, image_size_of(model)))
    except NotImplementedError:
        return True
    except Exception as error:
        # Other errors say something about the size, and are told where it is checked.
        return "meta" in str(error)
    return False


def images_for(network: nn.Module, n: int, size: int) -> torch.Tensor:
    """Images (n, 3, size, size) for questions to a skeleton, on its device."""
    device = next((p.device for p in network.parameters()), None)
    return torch.zeros(n, 3, size, size, device=device)


def as_built(
    model: Model, state: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A state dict in the form of today's network (:meth:`Family.as_built`)."""
    architecture, family = _known(model)
    return family.as_built(architecture.model, state, network)


@cache
def head_parameters(model: Model) -> tuple[str, ...]:
    """Names of the parameters of the last layer: those whose shape depends on the classes, and
    those of the layer that the study file names; of the last layer itself the first.

    Raises
    ------
    UserError
        If there are none, or no layer of that name.
    """
    small, large = skeleton(model, 7).state_dict(), skeleton(model, 11).state_dict()
    found = [name for name in small if small[name].shape != large.get(name, small[name]).shape]

    def near(name: str) -> str:
        layers = list(dict.fromkeys(filter(None, (n.rpartition(".")[0] for n in small))))
        return f"{did_you_mean(name, layers)}the last ones are {', '.join(layers[-3:])}"

    head = model.head if isinstance(model, Architecture) else None
    if head is None and not found:
        raise UserError(
            f"head: no layer of {model} has another shape for another number of classes; allowed: "
            f"a network built for n_classes, or the name of its last layer as head; {near('')}"
        )
    if head is None:
        return tuple(found)
    named = [name for name in small if name.startswith(f"{head}.")]
    if not named:
        raise UserError(f"head: {head!r} is no layer of {model} that has parameters; {near(head)}")
    return tuple(dict.fromkeys([*named, *found]))


@cache
def head_layer(model: Model) -> str:
    """The name of the last layer: of several whose shape depends on the classes, the first that an
    image reaches.

    Raises
    ------
    UserError
        As :func:`head_parameters`.
    """
    parameters = head_parameters(model)
    if isinstance(model, Architecture) and model.head is not None:
        return model.head
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in parameters))
    if len(layers) == 1:
        return layers[0]
    network = skeleton(model, 7)
    reached = traced_names(network)
    if reached is None:
        # What the network does not take is told by whoever asks for its layers.
        with suppress(Exception):
            images = images_for(network, 2, image_size_of(model))
            reached = hooks.names_in_order(network, layers[0], images)
    found = (f"{name}." for name in reached or ())
    return next(
        (layer for name in found for layer in layers if name.startswith(f"{layer}.")), layers[0]
    )


def image_size_of(model: Model) -> int:
    """Pixels a side of images that a network is made for: its own, or the family's usual ones."""
    architecture, family = _known(model)
    return architecture.image_size or family.usual_size(architecture.model)


@cache
def layer_names(model: Model) -> tuple[str, ...]:
    """Every layer that features can be read from, in the order of evaluation.

    Raises
    ------
    SizeRefused
        If the network cannot be traced, and takes no images of the size that it is made for.
    UserError
        If it fails in another way.
    """
    network = skeleton(model, 7)
    names = traced_names(network)
    if names is None:
        images = images_for(network, 2, image_size_of(model))
        try:
            names = hooks.names_in_order(network, head_layer(model), images)
        except REFUSALS as error:
            raise SizeRefused(
                f"image_size: {image_size_of(model)} is refused by {model} ({in_one_line(error)}); "
                "allowed: another size"
            ) from None
        except Exception as error:
            raise failing(model, error) from None
    return tuple(names)


#: What a network raises that cannot take its images, and a builder that cannot build for them.
REFUSALS = (RuntimeError, ValueError, AssertionError)


class SizeRefused(UserError):
    """A network does not take images of a size."""


def failing(model: Model, error: Exception) -> UserError:
    """What else a network raises that is given images: a mistake in the user's own."""
    size = image_size_of(model)
    return UserError(f"model: {model} fails with images of {size} pixels ({in_one_line(error)})")


def in_one_line(error: BaseException) -> str:
    """The kind of an error and the first line of its words."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@cache
def evaluated(model: Model) -> tuple[tuple[int, str], ...]:
    """For each layer its place in the order of evaluation and the path of the module or parameter
    behind it (the layer's own name where there is none); for a parameter, where it is used."""
    names = layer_names(model)
    if PENULTIMATE in names:
        # Where a module uses its own parameters, beside the modules in it, nobody knows: where it
        # begins.
        own = [name for name, _ in skeleton(model, 7).named_parameters() if "." not in name]
        begins: dict[str, int] = {}
        for place, name in enumerate(names):
            parts = name.split(".")
            for n in range(1, len(parts) + 1):
                begins.setdefault(".".join(parts[:n]), place)
        return (*((0, name) for name in own), *((begins[name], name) for name in names))
    layers = _nodes(model)
    places = {node: place for place, node in enumerate(layers.values())}
    found = []
    for name, node in layers.items():
        if node.op == "get_attr":
            place = min(places[user] for user in node.users if user in places)
        else:
            place = places[node]
        found.append((place, node.target if node.op in ("call_module", "get_attr") else name))
    return tuple(found)


@cache
def _nodes(model: Model) -> dict[str, Node]:
    """The node of each layer in the graph of a network that can be traced."""
    body = create_feature_extractor(skeleton(model, 7), {n: n for n in layer_names(model)})
    return output_node(body).args[0]


@cache
def penultimate_layer(model: Model) -> str:
    """The layer whose output the last layer takes.

    Raises
    ------
    UserError
        If the last layer is not reached.
    """
    names, head = layer_names(model), head_layer(model)
    if PENULTIMATE in names:
        return PENULTIMATE
    of_head = [name for name in names if f"{name}.".startswith(f"{head}.")]
    nodes = _nodes(model) if of_head else {}
    named = {node: name for name, node in nodes.items()}
    for name in of_head:
        for given in nodes[name].all_input_nodes:
            if named.get(given, name) not in of_head:
                return named[given]
    raise UserError(
        f"head: {head!r} of {model} is never reached by an image; allowed: the name of its last "
        f"layer: python -m collapseflow layers {model}"
    )


@cache
def ends_in_head(model: Model) -> bool:
    """Whether a network that cannot be traced gives what its last layer gives."""
    if PENULTIMATE not in layer_names(model):
        return False
    network = skeleton(model, 7)
    images = images_for(network, 2, image_size_of(model))
    return hooks.ends_in(network, head_layer(model), images)


def layers_before_the_last(model: Model) -> set[str]:
    """The layers whose output is what the last layer takes when features are read: the one before
    it, and where that is dropout, which does nothing then, the one before that, too."""
    names = layer_names(model)
    modules = dict(skeleton(model, 7).named_modules())
    found = {penultimate_layer(model)}
    place = names.index(penultimate_layer(model))
    while isinstance(modules.get(names[place]), nn.Dropout | nn.Identity):
        place -= 1
        found.add(names[place])
    return found


def own_name(model: Model, layer: str) -> str:
    """The name that a layer has in its network, also where it was called ``penultimate``."""
    return penultimate_layer(model) if layer == PENULTIMATE else layer


def enlarged(model: Model) -> nn.Module:
    """A model's skeleton for images of twice the size: what it fixes is twice as large."""
    architecture, _ = _known(model)
    network = copy.deepcopy(skeleton(replace(architecture, image_size=2 * image_size_of(model)), 7))
    for module in network.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
            module.output_size = tuple(2 * n for n in module.output_size)
    return network


@torch.no_grad()
def output_shapes(
    network: nn.Module, layers: Sequence[str], image_size: int, head: str
) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for one image, computed without values.

    Raises
    ------
    UserError
        If a layer gives something else than a tensor with a row for each image.
    """
    n_images = 3
    outputs = read_layers(network, layers, head)(images_for(network, n_images, image_size))
    for layer in layers:
        if not is_of_each_image(outputs.get(layer), n_images):
            raise UserError(f"layers: {layer!r} gives no features of each image; allowed: others")
    return {layer: tuple(output.shape[1:]) for layer, output in outputs.items()}


#: Sizes of a layer's output for one image, and for one of twice the size.
Sizes = tuple[tuple[int, ...], tuple[int, ...]]


def _sizes(model: Model, layers: Sequence[str]) -> dict[str, Sizes]:
    """The sizes of each layer's output; of a vector both are the same.

    Raises
    ------
    UserError
        As :func:`output_shapes`; and if the network takes no images of twice the size.
    """
    size, head = image_size_of(model), head_layer(model)
    usual = output_shapes(skeleton(model, 7), layers, size, head)
    maps = [layer for layer, shape in usual.items() if len(shape) > 1]
    try:
        large = output_shapes(enlarged(model), maps, 2 * size, head) if maps else {}
    except (RuntimeError, ValueError, AssertionError):
        raise UserError(
            f"pool: places of layer {maps[0]!r} of {model} cannot be told from channels, because "
            "it takes no images of twice the size; allowed: flatten, another layer, or a model "
            "with image_size"
        ) from None
    return {layer: (shape, large.get(layer, shape)) for layer, shape in usual.items()}


def positions(model: Model, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Which dimensions of each layer's output are places in the image; the other one is channels.

    They are those that grow with the image: the last two of a convolution's maps (N, C, H, W), the
    middle ones inside Swin and ConvNeXt (N, H, W, C), the tokens of a vision transformer (N, T, C),
    among which its class token counts as one more place.

    Raises
    ------
    UserError
        As :func:`output_shapes`; and if more than one dimension does not grow.
    """
    return {layer: _places(model, layer, of) for layer, of in _sizes(model, layers).items()}


def _places(model: Model, layer: str, sizes: Sizes) -> tuple[int, ...]:
    usual, large = sizes
    if len(usual) < 2:
        return ()
    # What is 1 at both sizes has been averaged by the network itself.
    grown = enumerate(zip(usual, large, strict=True), 1)
    places = tuple(dim for dim, (n, more) in grown if n == 1 or n != more)
    if len(places) != len(usual) - 1:
        raise UserError(
            f"pool: 'average' is refused for layer {layer!r} of {model}: in its output "
            f"{usual} places cannot be told from channels; allowed: flatten, or "
            "another layer"
        )
    return places


def special_tokens(sizes: Sizes, places: tuple[int, ...]) -> int:
    """How many tokens are none of places: of twice the size, an image has four times the places."""
    if len(places) != 1 or len(sizes[0]) != 2:
        return 0
    few, many = (of[places[0] - 1] for of in sizes)
    left, rest = divmod(4 * few - many, 3)
    return left if rest == 0 and left > 0 else 0


def has_class_token(model: Model) -> bool:
    """Whether a network's first token is that of the class, which is a parameter of its own."""
    names = (name.rpartition(".")[2] for name, _ in skeleton(model, 7).named_parameters())
    return not {"class_token", "cls_token"}.isdisjoint(names)


#: How the output of a layer becomes a vector, by the words that jobs are told. Stores of features
#: exist that were made under ``average``, which has always been over all tokens.
POOLS = {
    "average": ("average", False),
    "average_places": ("average", True),
    "max": ("max", True),
    "class_token": ("class_token", True),
    "flatten": ("flatten", False),
}


def poolings(model: Model, layers: Sequence[str], how: str) -> dict[str, Pooling]:
    """What becomes of each layer's output.

    Parameters
    ----------
    how
        A word of :data:`POOLS`.

    Raises
    ------
    UserError
        As :func:`positions`; and where a class token is asked for and a layer has none.
    """
    way, places_alone = POOLS[how]
    if way == "flatten":
        return dict.fromkeys(layers, Pooling(way))
    found = {}
    for layer, sizes in _sizes(model, layers).items():
        places = _places(model, layer, sizes)
        n_special = special_tokens(sizes, places)
        if way == "class_token" and places and not (n_special and has_class_token(model)):
            raise UserError(
                f"pool: 'class_token' is refused for layer {layer!r} of {model}, which has none; "
                "allowed: average, max, flatten, or another layer"
            )
        found[layer] = Pooling(way, places, n_special if places_alone else 0)
    return found


def is_of_each_image(output: object, n_images: int) -> bool:
    """Whether a layer's output has a row of features for each image: parameters, such as the class
    token of a vision transformer, and shapes are layers to torchvision, too."""
    return isinstance(output, torch.Tensor) and output.ndim > 1 and len(output) == n_images


def make_head(network: nn.Module, model: Model, n_classes: int, gain: float | None) -> nn.Module:
    """The same network with a new last layer: Xavier-normal weights, zero bias (Glorot and
    Bengio 2010; report A uses gain 0.02); with ``gain`` None, the model's own initialisation.
    Draws from PyTorch's global generator."""
    fresh = build(model, n_classes)
    head = head_parameters(model)
    state = fresh.state_dict()
    state.update((k, value) for k, value in network.state_dict().items() if k not in head)
    fresh.load_state_dict(state)
    for name, parameter in fresh.named_parameters():
        if name in head and gain is not None:
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter, gain)
            else:
                nn.init.zeros_(parameter)
    return fresh
