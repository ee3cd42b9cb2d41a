"""torchvision models: build them, and read features from any layer."""

import copy
import io
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import cache
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from collapseflow.features.batches import in_batches
from collapseflow.features.known import PENULTIMATE
from collapseflow.features.preprocessing import preprocess
from collapseflow.features.stores import Head
from collapseflow.features.weights import load_state, save_state
from collapseflow.running.errors import TemporaryError, UserError, did_you_mean
from collapseflow.running.files import sha256_file
from collapseflow.running.hardware import autocast, precision_name

logger = logging.getLogger(__name__)


def build(model: str, n_classes: int) -> nn.Module:
    """A torchvision classification model with its own random initialisation."""
    options = {"num_classes": n_classes, "weights": None}
    if model in ("googlenet", "inception_v3"):
        # Their auxiliary heads serve training from scratch on ImageNet only; their ImageNet
        # weights expect torchvision's own change of the normalisation.
        options |= {"aux_logits": False, "init_weights": True, "transform_input": True}
    return models.get_model(model, **options)


@cache
def skeleton(model: str, n_classes: int) -> nn.Module:
    """A model without values, for questions about its structure."""
    try:
        with torch.device("meta"):
            return build(model, n_classes).eval()
    except NotImplementedError:
        # Some builders (RegNet's) compute with tensors, which needs values.
        return build(model, n_classes).eval().to("meta")


@cache
def head_parameters(model: str) -> tuple[str, ...]:
    """Names of the parameters of the last layer: those whose shape depends on the classes."""
    small, large = skeleton(model, 7).state_dict(), skeleton(model, 11).state_dict()
    return tuple(name for name in small if small[name].shape != large[name].shape)


@cache
def layer_names(model: str) -> tuple[str, ...]:
    """Every layer that features can be read from, in the order of evaluation."""
    return tuple(get_graph_node_names(skeleton(model, 7))[1])


def penultimate_layer(model: str) -> str:
    """The layer whose output the last layer takes."""
    names = layer_names(model)
    head = head_parameters(model)[0].rsplit(".", 1)[0]
    return names[names.index(head) - 1]


def layers_before_the_last(model: str) -> set[str]:
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


def own_name(model: str, layer: str) -> str:
    """The name that a layer has in its network, also where it was called ``penultimate``."""
    return penultimate_layer(model) if layer == PENULTIMATE else layer


#: Pixels a side at which torchvision builds the networks that know their image size.
USUAL_SIZE = 224


def enlarged(model: str) -> nn.Module:
    """A model's skeleton for images of twice the usual size: what it fixes is twice as large."""
    size = 2 * USUAL_SIZE
    options = {
        models.VisionTransformer: {"image_size": size},
        models.MaxVit: {"input_size": (size,) * 2},
    }
    network = skeleton(model, 7)
    if type(network) in options:
        with torch.device("meta"):
            return models.get_model(model, num_classes=7, **options[type(network)]).eval()
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
            module.output_size = tuple(2 * n for n in module.output_size)
    return network


@torch.no_grad()
def output_shapes(
    network: nn.Module, layers: Sequence[str], image_size: int
) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for one image, computed without values.

    Raises
    ------
    UserError
        If a layer gives something else than a tensor with a row for each image.
    """
    n_images = 3
    images = torch.empty(n_images, 3, image_size, image_size, device="meta")
    outputs = read_layers(network, layers)(images)
    for layer, output in outputs.items():
        if not is_of_each_image(output, n_images):
            raise UserError(f"layers: {layer!r} gives no features of each image; allowed: others")
    return {layer: tuple(output.shape[1:]) for layer, output in outputs.items()}


def positions(model: str, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Which dimensions of each layer's output are places in the image; the other one is channels.

    They are those that grow with the image: the last two of a convolution's maps (N, C, H, W), the
    middle ones inside Swin and ConvNeXt (N, H, W, C), the tokens of a vision transformer (N, T, C),
    among which its class token counts as one more place.

    Raises
    ------
    UserError
        As :func:`output_shapes`; and if more than one dimension does not grow.
    """
    usual = output_shapes(skeleton(model, 7), layers, USUAL_SIZE)
    maps = [layer for layer, shape in usual.items() if len(shape) > 1]
    large = output_shapes(enlarged(model), maps, 2 * USUAL_SIZE) if maps else {}
    found = dict.fromkeys(layers, ())
    for layer in maps:
        # What is 1 at both sizes has been averaged by the network itself.
        sizes = zip(usual[layer], large[layer], strict=True)
        places = [dim for dim, (n, grown) in enumerate(sizes, 1) if n == 1 or n != grown]
        if len(places) != len(usual[layer]) - 1:
            raise UserError(
                f"pool: 'average' is refused for layer {layer!r} of {model}: in its output "
                f"{usual[layer]} places cannot be told from channels; allowed: flatten, or "
                "another layer"
            )
        found[layer] = tuple(places)
    return found


def check_backbone(
    model: str,
    layers: Sequence[str],
    weights: list[str],
    image_size: int = 224,
    batch_size: int | None = None,
    pool: str = "average",
) -> None:
    """Refuse what torchvision does not have, and images that the network cannot take.

    Parameters
    ----------
    layers
        Names of layers or of blocks, and ``penultimate``.
    batch_size
        Images of the smallest batch in training, where 2 stands for all more; None where only
        features are read.

    Raises
    ------
    UserError
        With the key, the value and what is allowed.
    """
    require_model(model)
    # A block goes by its own name, too: torchvision reads it where its last layer ends.
    paths = [name.split(".") for name in layer_names(model)]
    blocks = {".".join(path[:n]) for path in paths for n in range(1, len(path) + 1)}
    for layer in layers:
        if layer not in {*blocks, PENULTIMATE}:
            raise UserError(
                f"layers: {layer!r} is no layer of {model}; {did_you_mean(layer, sorted(blocks))}"
                f"all: python -m collapseflow layers {model}"
            )
    if "imagenet" in weights:
        imagenet_weights(model)
    layers = [own_name(model, layer) for layer in layers]
    check_image_size(model, layers, image_size, batch_size)
    if pool == "average":
        positions(model, layers)


def all_models() -> list[str]:
    """torchvision's classification models."""
    return models.list_models(module=models)


def require_model(model: str) -> None:
    """Refuse a name that is no classification model of torchvision."""
    available = all_models()
    if model not in available:
        raise UserError(
            f"model: {model!r} is unknown; {did_you_mean(model, available, 3)}"
            "all: python -m collapseflow layers"
        )


@torch.no_grad()
def layer_shapes(model: str, image_size: int) -> dict[str, tuple[int, ...]]:
    """The shape of one image's output at every layer that gives features, in the order of
    evaluation.

    Raises
    ------
    UserError
        If the network cannot take images of this size.
    """
    check_image_size(model, [penultimate_layer(model)], image_size, None)
    body = create_feature_extractor(skeleton(model, 1000), {n: n for n in layer_names(model)})
    n_images = 5
    outputs = body(torch.empty(n_images, 3, image_size, image_size, device="meta"))
    return {n: tuple(o.shape[1:]) for n, o in outputs.items() if is_of_each_image(o, n_images)}


def is_of_each_image(output: object, n_images: int) -> bool:
    """Whether a layer's output has a row of features for each image: parameters, such as the class
    token of a vision transformer, and shapes are layers to torchvision, too."""
    return isinstance(output, torch.Tensor) and output.ndim > 1 and len(output) == n_images


@torch.no_grad()
def check_image_size(
    model: str, layers: Sequence[str], image_size: int, batch_size: int | None
) -> None:
    """Run a network without values up to its layers and, where it is trained, to its end.

    Raises
    ------
    UserError
        If it cannot take images of this size, with sizes that it can take; if a layer gives no
        features; or if a batch of one is normalised over a single value.
    """
    network = skeleton(model, 7)
    reader = read_layers(network, layers)
    trained = copy.deepcopy(network).train() if batch_size else None
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)

    def fits(size: int, batch: int = 2) -> bool:
        images = torch.empty(batch, 3, size, size, device="meta")
        try:
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
        except (RuntimeError, ValueError, AssertionError):
            return False
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
    n_images = 5
    outputs = reader(torch.empty(n_images, 3, image_size, image_size, device="meta"))
    for layer, features in outputs.items():
        if not is_of_each_image(features, n_images):
            raise UserError(
                f"layers: {layer!r} of {model} gives no features of each image; "
                f"all that do: python -m collapseflow layers {model}"
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


def imagenet_weights(model: str):
    """torchvision's ImageNet weights: the first version where there is one, as in the reports."""
    known = models.get_model_weights(model)
    if not len(known):
        raise UserError(f"weights: torchvision has no ImageNet weights of {model!r}")
    return known.__members__.get("IMAGENET1K_V1", known.DEFAULT)


def download_imagenet(model: str, output: str | Path) -> None:
    """Take ImageNet weights from torchvision's cache, or download them into it.

    Either way the file must have the SHA-256 whose first digits torchvision's name of it ends in,
    and is read without running code from it (torchvision itself checks downloads alone, and runs
    what a cached file brings along).

    Raises
    ------
    UserError
        If they cannot be downloaded or have the wrong digest.
    """
    weights = imagenet_weights(model)
    name = Path(urlparse(weights.url).path).name
    expected = re.search(r"-([0-9a-f]{8,64})\.pth$", name)[1]
    cached = Path(torch.hub.get_dir(), "checkpoints", name)
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.url, str(cached), expected, progress=False)
        except (OSError, RuntimeError) as error:
            raise TemporaryError(
                f"{weights.url}: {error}; download it elsewhere and give its path in "
                "backbones.<name>.weights"
            ) from None
    found = sha256_file(cached)
    if not found.startswith(expected):
        raise UserError(
            f"{cached}: has SHA-256 {found}, but torchvision's begins with {expected}; delete it "
            "and run again"
        )
    state, _ = load_state(cached)
    save_state(output, state, {"weights": f"{model} {weights.name}", "url": weights.url})


def make_head(network: nn.Module, model: str, n_classes: int, gain: float | None) -> nn.Module:
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


def read_layers(network: nn.Module, layers: Iterable[str]) -> GraphModule:
    """The part of a network, in evaluation mode, that gives the outputs of some layers by their
    names. A block's output is that of its last layer."""
    names = get_graph_node_names(network)[1]
    nodes = {
        layer: next(name for name in reversed(names) if f"{name}.".startswith(f"{layer}."))
        for layer in layers
    }
    # torchvision gives a node to one name only, but a block may be read beside its last layer.
    body = create_feature_extractor(
        network,
        train_return_nodes=dict.fromkeys(nodes, "unused"),
        eval_return_nodes={node: node for node in nodes.values()},
    ).eval()
    output = output_node(body)
    output.args = ({layer: output.args[0][node] for layer, node in nodes.items()},)
    body.recompile()
    return body


def output_node(module: GraphModule) -> Node:
    """The node that says what a graph gives."""
    return next(node for node in module.graph.nodes if node.op == "output")


class FeatureExtractor(nn.Module):
    """A network in evaluation mode that gives the outputs of layers and, with them, its logits.

    Each output is copied, or averaged, where it is made: layers behind it may work in place
    (torchvision's ReLUs do). Batch normalisation behind a convolution is folded into its weights,
    unless the convolution's own output is read.

    Parameters
    ----------
    average_over
        The dimensions over which each layer's output is averaged, by the layer's name; none
        leaves the output as it is.

    Attributes
    ----------
    head
        With logits, and where the network ends in a linear layer, its weight float32 (K, d), K
        classes, and its bias float32 (K,), zero where it has none; else None.
    """

    def __init__(
        self, network: nn.Module, average_over: Mapping[str, tuple[int, ...]], with_logits: bool
    ):
        super().__init__()
        network.eval()
        last = get_graph_node_names(network)[1][-1]
        self.head = linear_layer(network, last) if with_logits else None
        self.body = read_layers(network, [*average_over, *([last] if with_logits else [])])
        graph = self.body.graph
        output = output_node(self.body)
        outputs = output.args[0]
        logits = outputs[last] if with_logits else None
        features = {}
        for layer, places in average_over.items():
            with graph.inserting_after(outputs[layer]):
                features[layer] = (
                    graph.call_function(torch.mean, (outputs[layer], places))
                    if places
                    else graph.call_function(torch.clone, (outputs[layer],))
                )
        output.args = ((features, logits),)
        fold_batch_norms(self.body)
        self.body.recompile()

    def forward(self, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Features by layer, (N, d) or of any shape when not averaged, and logits (N, classes) or
        None."""
        return self.body(images)


def linear_layer(network: nn.Module, name: str) -> Head | None:
    """Weight and bias of a linear layer, as :attr:`FeatureExtractor.head`; None of any other node
    of a network's graph."""
    layer = dict(network.named_modules()).get(name)
    if not isinstance(layer, nn.Linear):
        return None
    # MaxViT's last layer has no bias.
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return tuple(part.numpy(force=True) for part in (layer.weight, bias))


def fold_batch_norms(module: GraphModule) -> None:
    """Put each batch normalisation that alone follows a convolution into the convolution's
    weights (Jacob et al. 2018, section 3.2): the same function, in evaluation mode."""
    graph = module.graph
    targets = Counter(node.target for node in graph.nodes)
    for node in list(graph.nodes):
        before = node.args[0] if node.op == "call_module" else None
        if not isinstance(before, Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = module.get_submodule(before.target), module.get_submodule(node.target)
        if (
            isinstance(convolution, nn.Conv2d)
            and isinstance(norm, nn.BatchNorm2d)
            and targets[before.target] == 1
        ):
            module.set_submodule(before.target, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            graph.erase_node(node)


def computed_in(precision: str, device: torch.device) -> str:
    """What features are computed in on a device: ``float32``, ``tf32`` or ``bfloat16``.

    TensorFloat-32 are float32 values of which tensor cores multiply 10 bits behind the point
    (bfloat16 has 7) and add up all.

    Parameters
    ----------
    precision
        One of these, or ``auto`` as :func:`collapseflow.running.hardware.pick_precision`.

    Raises
    ------
    UserError
        If it is ``tf32`` and the device has no tensor cores that take it.
    """
    if precision != "tf32":
        return precision_name(precision, device)
    # Others compute in float32 without a word (NVIDIA, "CUDA C++ Programming Guide", compute
    # capabilities).
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        of = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        raise UserError(
            f"reading_precision: 'tf32' is for cards from NVIDIA's Ampere on, and the device is "
            f"{of}; allowed: float32, bfloat16"
        )
    return precision


@contextmanager
def computing_in(number: str, device: torch.device) -> Iterator[None]:
    """Convolutions and matrix products in one of :func:`computed_in`'s numbers."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn) if number == "tf32" else ()
    for of in flags:
        of.allow_tf32 = True
    try:
        with autocast(device, torch.bfloat16 if number == "bfloat16" else torch.float32):
            yield
    finally:
        # As collapseflow.running.hardware.use_card has set them.
        for of in flags:
            of.allow_tf32 = False


def layout(number: str, device: torch.device) -> torch.memory_format:
    """The order of values in memory in which convolutions are the fastest.

    Tensor cores take channels last (PyTorch's tutorial on this memory format, which has its gains
    from them alone); in float32 a card has none, and cuDNN is left the order that it is made for.
    CPUs gain from channels last in every precision. None of this has been measured on a card here.
    """
    on_tensor_cores = number in ("tf32", "bfloat16")
    if device.type == "cuda" and not on_tensor_cores:
        return torch.contiguous_format
    return torch.channels_last


def extract(
    extractor: FeatureExtractor,
    images: np.ndarray,
    image_size: int,
    normalize: str,
    precision: str,
    device: torch.device,
    batch_size: int,
    what: str,
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """Run images through a network in evaluation mode, a batch at a time.

    The results of a batch are on their way to the host while the next is computed. A batch that
    does not fit into memory is halved.

    Parameters
    ----------
    images : uint8 array (N, H, W) or (N, H, W, 3)
    precision
        As in :func:`computed_in`.

    Yields
    ------
    features float32 (n, ...) by layer, and predicted classes int64 (n,) or None

    Raises
    ------
    UserError
        As :func:`computed_in`.
    """
    number = computed_in(precision, device)
    in_memory = layout(number, device)
    extractor = extractor.to(device, memory_format=in_memory)

    def forward(batch: torch.Tensor, n: int) -> OnTheirWay:
        inputs = preprocess(batch, image_size, normalize, None, in_memory)
        with torch.inference_mode(), computing_in(number, device):
            features, logits = extractor(inputs)
            classes = None if logits is None else logits[:n].argmax(1)
            values = {layer: of[:n].float().contiguous() for layer, of in features.items()}
            return OnTheirWay(values, classes)

    sent = None
    for results in in_batches(forward, images, device, batch_size, what):
        if sent:
            yield sent.arrived()
        sent = results
    if sent:
        yield sent.arrived()


class OnTheirWay:
    """Features and classes of a batch, being copied into the host's memory.

    From a card they go into pinned memory, beside what the card computes meanwhile.
    """

    def __init__(self, features: Mapping[str, torch.Tensor], classes: torch.Tensor | None):
        self._features = {layer: self._send(values) for layer, values in features.items()}
        self._classes = None if classes is None else self._send(classes)
        on_card = any(values.is_cuda for values in features.values())
        self._done = torch.cuda.Event() if on_card else None
        if self._done:
            self._done.record()

    @staticmethod
    def _send(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_cuda:
            return tensor
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return pinned.copy_(tensor, non_blocking=True)

    def arrived(self) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Features float32 (n, ...) by layer and classes int64 (n,) or None, when the copy has
        ended."""
        if self._done:
            self._done.synchronize()
        features = {layer: values.numpy() for layer, values in self._features.items()}
        return features, None if self._classes is None else self._classes.numpy()
