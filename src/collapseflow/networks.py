"""torchvision models: build them, load their weights, read features from any layer."""

import logging
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from collapseflow.errors import TemporaryError, UserError
from collapseflow.files import atomic_path, sha256_file
from collapseflow.hardware import autocast, free_memory, is_out_of_memory, pick_precision
from collapseflow.jobs import progress
from collapseflow.preprocessing import preprocess

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
        return build(model, n_classes).eval()


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


def check_backbone(model: str, layer: str | None, weights: list[str]) -> None:
    """Refuse what torchvision does not have.

    Raises
    ------
    UserError
        With the key, the value and what is allowed.
    """
    available = models.list_models(module=models)
    if model not in available:
        raise UserError(f"model: {model!r} is unknown; allowed: {', '.join(available)}")
    # A block goes by its own name, too: torchvision reads it where its last layer ends.
    if layer is not None and not any(
        name == layer or name.startswith(f"{layer}.") for name in layer_names(model)
    ):
        raise UserError(
            f"layer: {layer!r} is no layer of {model}; allowed: {', '.join(layer_names(model))}"
        )
    if "imagenet" in weights:
        imagenet_weights(model)


def imagenet_weights(model: str):
    """torchvision's ImageNet weights: the first version where there is one, as in the reports."""
    known = models.get_model_weights(model)
    if not len(known):
        raise UserError(f"weights: torchvision has no ImageNet weights of {model!r}")
    return known.__members__.get("IMAGENET1K_V1", known.DEFAULT)


def download_imagenet(model: str, output: str | Path) -> None:
    """Download weights through torchvision, with its check of the hash in the file's name.

    Raises
    ------
    UserError
        If they cannot be downloaded or have the wrong hash.
    """
    weights = imagenet_weights(model)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise TemporaryError(
            f"{weights.url}: {error}; download it elsewhere and give its path in "
            "backbones.<name>.weights"
        ) from None
    save_state(output, state, {"weights": f"{model} {weights.name}", "url": weights.url})


def save_state(path: str | Path, state: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(state, temporary, metadata)


#: What reading a missing, cut off or foreign file of weights raises.
UNREADABLE = (OSError, RuntimeError, SafetensorError, ValueError, EOFError, pickle.UnpicklingError)


def load_state(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a state dict and its metadata: safetensors, or a PyTorch file without code.

    Raises
    ------
    UserError
        Naming the file, if it cannot be read.
    """
    try:
        if str(path).endswith(".safetensors"):
            return safetensors.torch.load_file(path), read_metadata(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise UserError(f"{path}: holds a {type(state).__name__}, no state dict; replace it")
        return state, {}
    except UNREADABLE as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: no readable state dict ({line}); replace it") from None


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a file of weights says of itself; nothing if it is not a safetensors file."""
    if not str(path).endswith(".safetensors"):
        return {}
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def describe_weights(path: str | Path) -> str:
    """What weights a file holds, in words, and the digest of the file."""
    words = read_metadata(path).get("weights")
    return f"{words or f'file {Path(path).name}'}; SHA-256 {sha256_file(path)}"


def current_name(name: str) -> str:
    """The name that torchvision gives today to an entry of DenseNet's and ViT's older files."""
    name = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)", r"\1", name)
    return name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


def load_network(model: str, weights: str | Path) -> tuple[nn.Module, bool]:
    """Build a model and load a state dict into it.

    Returns
    -------
    network, and whether its last layer belongs to the weights: the number of classes is theirs.

    Raises
    ------
    UserError
        If the state dict is not one of this model.
    """
    state, metadata = load_state(weights)
    head = head_parameters(model)
    absent = [name for name in head if name not in state]
    n_classes = 1000 if absent else state[head[0]].shape[0]
    network = build(model, n_classes)
    own = network.state_dict()
    # Auxiliary heads are not built; everything else must fit exactly.
    state = {
        current_name(name): value
        for name, value in state.items()
        if not name.lower().startswith("aux")
    }
    # Weights saved by PyTorch before 0.4.1 do not count the batches that BatchNorm saw.
    optional = {*absent, *(name for name in own if name.endswith(".num_batches_tracked"))}
    wrong = sorted(
        {name for name in own if name not in state and name not in optional}
        | {name for name in state if name not in own or state[name].shape != own[name].shape}
    )
    if wrong:
        raise UserError(f"{weights}: not the weights of {model}: {wrong[0]} is missing or differs")
    # Into the network's own state dict, which carries the versions that some models ask for.
    own.update(state)
    network.load_state_dict(own)
    return network, not absent and "task" in metadata


def make_head(network: nn.Module, model: str, n_classes: int, gain: float) -> nn.Module:
    """The same network with a new last layer: Xavier-normal weights, zero bias (Glorot and
    Bengio 2010; report A uses gain 0.02). Draws from PyTorch's global generator."""
    fresh = build(model, n_classes)
    head = head_parameters(model)
    state = fresh.state_dict()
    state.update((k, value) for k, value in network.state_dict().items() if k not in head)
    fresh.load_state_dict(state)
    for name, parameter in fresh.named_parameters():
        if name in head:
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter, gain)
            else:
                nn.init.zeros_(parameter)
    return fresh


class FeatureExtractor(nn.Module):
    """A network in evaluation mode that gives a layer's output and, with it, its logits.

    The layer's output is copied where it is made: layers behind it may work in place
    (torchvision's ReLUs do). Batch normalisation behind a convolution is folded into its weights.
    """

    def __init__(self, network: nn.Module, layer: str, pool: str, with_logits: bool):
        super().__init__()
        network.eval()
        last = get_graph_node_names(network)[1][-1]
        nodes = {layer: "features"}
        if with_logits and last != layer:
            nodes[last] = "logits"
        self.body = create_feature_extractor(network, nodes).eval()
        graph = self.body.graph
        output = next(node for node in graph.nodes if node.op == "output")
        features = output.args[0]["features"]
        with graph.inserting_after(features):
            copy = graph.call_function(torch.clone, (features,))
        output.args = ({**output.args[0], "features": copy},)
        fold_batch_norms(self.body)
        self.body.recompile()
        self.layer = layer
        self.pool = pool
        self.with_logits = with_logits

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features (N, d), or (N, C, H, W) when not pooled, and logits (N, classes) or None."""
        outputs = self.body(images)
        features = outputs["features"]
        if features.ndim == 4 and self.pool == "average":
            features = features.mean((2, 3))
        return features, outputs.get("logits", features) if self.with_logits else None


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


def open_extractor(
    model: str, weights: str | Path, layer: str | None, pool: str
) -> FeatureExtractor:
    """Load a network for reading features; fine-tuned networks also predict classes.

    ``layer`` None takes the input of the last layer.
    """
    network, predicts = load_network(model, weights)
    return FeatureExtractor(network, layer or penultimate_layer(model), pool, predicts)


def extract(
    extractor: FeatureExtractor,
    images: np.ndarray,
    image_size: int,
    normalize: str,
    precision: str,
    device: torch.device,
    batch_size: int,
    what: str,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Run images through a network in evaluation mode, a batch at a time.

    The results of a batch are on their way to the host while the next is computed. A batch that
    does not fit into memory is halved.

    Parameters
    ----------
    images : uint8 array (N, H, W) or (N, H, W, 3)
    precision : as :func:`collapseflow.hardware.pick_precision`

    Yields
    ------
    features float32 (n, ...), and predicted classes int64 (n,) or None
    """
    extractor = extractor.to(device, memory_format=torch.channels_last)
    on_device = torch.from_numpy(images).to(device)
    number = pick_precision(precision, device)

    def forward(batch: torch.Tensor) -> OnTheirWay:
        inputs = preprocess(batch, image_size, normalize)
        with torch.inference_mode(), autocast(device, number):
            features, logits = extractor(inputs)
            classes = None if logits is None else logits.argmax(1)
            return OnTheirWay(features.float().contiguous(), classes)

    batches = on_device.split(batch_size)
    sent: list[OnTheirWay] = []
    for batch in progress(batches, len(batches), what):
        while True:
            try:
                new = [forward(part) for part in batch.split(batch_size)]
                break
            except Exception as error:
                if not is_out_of_memory(error) or batch_size == 1:
                    raise
            batch_size = -(-batch_size // 2)
            free_memory()
            logger.warning("%s: out of memory; %d images at a time now", what, batch_size)
        for results in sent:
            yield results.arrived()
        sent = new
    for results in sent:
        yield results.arrived()


class OnTheirWay:
    """Features and classes of a batch, being copied into the host's memory.

    From a card they go into pinned memory, beside what the card computes meanwhile.
    """

    def __init__(self, features: torch.Tensor, classes: torch.Tensor | None):
        self._copies = [self._send(tensor) for tensor in (features, classes)]
        self._done = torch.cuda.Event() if features.is_cuda else None
        if self._done:
            self._done.record()

    @staticmethod
    def _send(tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None or not tensor.is_cuda:
            return tensor
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return pinned.copy_(tensor, non_blocking=True)

    def arrived(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Features float32 (n, ...) and classes int64 (n,) or None, when the copy has ended."""
        if self._done:
            self._done.synchronize()
        features, classes = self._copies
        return features.numpy(), None if classes is None else classes.numpy()
