"""Features from a network, batch by batch: layers by their names, in one pass, in one precision."""

import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from collapseflow.features.batches import in_batches
from collapseflow.features.hooks import Hooked
from collapseflow.features.inputs import Normalization, Resizing
from collapseflow.features.pooling import Pooling, pool
from collapseflow.features.preprocessing import preprocess
from collapseflow.features.stores import Head
from collapseflow.running.errors import UserError
from collapseflow.running.hardware import autocast, precision_name

logger = logging.getLogger(__name__)


def traced_names(network: nn.Module) -> list[str] | None:
    """The layers of a network whose graph can be traced, in the order of evaluation; None of
    others, whose layers are read by hooks."""
    try:
        # A network that branches by what it sees may raise anything; tracing also prints it.
        with redirect_stderr(io.StringIO()):
            return get_graph_node_names(network)[1]
    except Exception:
        return None


def read_layers(
    network: nn.Module, layers: Iterable[str], head: str
) -> Callable[[torch.Tensor], dict[str, Any]]:
    """The part of a network, in evaluation mode, that gives the outputs of some layers by their
    names. A block's output is that of its last layer.

    Parameters
    ----------
    head
        The network's last layer.
    """
    names = traced_names(network)
    if names is not None:
        return _graph_of(network, layers, names)
    body = Hooked(network, {layer: lambda output: output for layer in layers}, head, False)
    return lambda images: body(images)[0]


def _graph_of(network: nn.Module, layers: Iterable[str], names: list[str]) -> GraphModule:
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

    Each output is copied, or pooled, where it is made: layers behind it may work in place
    (torchvision's ReLUs do). Where the network can be traced, batch normalisation behind a
    convolution is folded into its weights, unless the convolution's own output is read.

    Parameters
    ----------
    pools
        What becomes of each layer's output, by the layer's name.
    head
        The last layer: of a network that cannot be traced.
    ends_in_head
        Whether such a network gives what its last layer gives.

    Attributes
    ----------
    head
        With logits, and where the network ends in a linear layer, its weight float32 (K, d), K
        classes, and its bias float32 (K,), zero where it has none; else None.
    """

    def __init__(
        self,
        network: nn.Module,
        pools: Mapping[str, Pooling],
        with_logits: bool,
        head: str = "",
        ends_in_head: bool = False,
    ):
        super().__init__()
        network.eval()
        names = traced_names(network)
        if names is None:
            taken = {
                layer: lambda output, pooling=pooling: pool(output, *pooling)
                for layer, pooling in pools.items()
            }
            self.head = linear_layer(network, head) if with_logits and ends_in_head else None
            self.body = Hooked(network, taken, head, with_logits)
            return
        last = names[-1]
        self.head = (
            linear_layer(network, _but_for_identities(network, names)) if with_logits else None
        )
        self.body = _graph_of(network, [*pools, *([last] if with_logits else [])], names)
        graph = self.body.graph
        output = output_node(self.body)
        outputs = output.args[0]
        logits = outputs[last] if with_logits else None
        features = {}
        for layer, pooling in pools.items():
            with graph.inserting_after(outputs[layer]):
                features[layer] = graph.call_function(pool, (outputs[layer], *pooling))
        output.args = ((features, logits),)
        fold_batch_norms(self.body)
        self.body.recompile()

    def forward(self, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Features by layer, (N, d) or of any shape when not pooled, and logits (N, classes) or
        None."""
        return self.body(images)


def _but_for_identities(network: nn.Module, names: list[str]) -> str:
    """The last of some layers that does anything in evaluation mode."""
    modules = dict(network.named_modules())
    nothing = (nn.Identity, nn.Dropout)
    return next(name for name in reversed(names) if not isinstance(modules.get(name), nothing))


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
    normalize: str | Normalization,
    precision: str,
    device: torch.device,
    batch_size: int,
    what: str,
    resizing: Resizing | None = None,
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """Run images through a network in evaluation mode, a batch at a time.

    The results of a batch are on their way to the host while the next is computed. A batch that
    does not fit into memory is halved.

    Parameters
    ----------
    images : uint8 array (N, H, W) or (N, H, W, 3)
    normalize, resizing
        As in :class:`~collapseflow.features.inputs.Inputs`.
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
        inputs = preprocess(batch, image_size, normalize, None, in_memory, resizing)
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
