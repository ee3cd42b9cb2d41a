"""torchvision models: build them, load their weights, read features from any layer."""

import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from collapseflow.cards import claim_card
from collapseflow.errors import UserError
from collapseflow.files import atomic_path, sha256_file
from collapseflow.jobs import progress
from collapseflow.preprocessing import preprocess

logger = logging.getLogger(__name__)


def pick_device(device: str) -> torch.device:
    """``auto`` takes CUDA where there is one; ``cuda`` takes a card that no other job has.

    Raises
    ------
    UserError
        If CUDA is asked for and there is none, or not that many.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if (chosen.index or 0) >= count:
            raise UserError(
                f"config key device: value {device!r}, but PyTorch sees {count} CUDA devices; "
                "set device to auto or cpu, or ask for a GPU"
            )
        numbers = range(count) if chosen.index is None else [chosen.index]
        identities = {n: str(torch.cuda.get_device_properties(n).uuid) for n in numbers}
        chosen = torch.device("cuda", claim_card(identities))
        torch.cuda.set_device(chosen)
    logger.info("device: %s", chosen)
    return chosen


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
        raise UserError(
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
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            return safetensors.torch.load_file(path), metadata
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise UserError(f"{path}: holds a {type(state).__name__}, no state dict; replace it")
        return state, {}
    except UNREADABLE as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: no readable state dict ({line}); replace it") from None


def describe_weights(path: str | Path) -> str:
    """What weights a file holds, in words, and the digest of the file."""
    words = None
    if str(path).endswith(".safetensors"):
        with safe_open(path, "pt") as file:
            words = (file.metadata() or {}).get("weights")
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
    (torchvision's ReLUs do).
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
    device: torch.device,
    batch_size: int,
    what: str,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Run images through a network in evaluation mode, a batch at a time.

    Parameters
    ----------
    images : uint8 array (N, H, W) or (N, H, W, 3)

    Yields
    ------
    features float32 (n, ...), and predicted classes int64 (n,) or None
    """
    extractor = extractor.to(device, memory_format=torch.channels_last)
    on_device = torch.from_numpy(images).to(device)
    starts = range(0, len(images), batch_size)
    with torch.inference_mode():
        for start in progress(starts, len(starts), what):
            batch = on_device[start : start + batch_size]
            features, logits = extractor(preprocess(batch, image_size, normalize))
            yield (
                features.float().contiguous().cpu().numpy(),
                None if logits is None else logits.argmax(1).cpu().numpy(),
            )
