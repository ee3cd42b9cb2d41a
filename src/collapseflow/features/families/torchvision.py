"""torchvision's classification models."""

import re
from pathlib import Path
from urllib.parse import urlparse

from collapseflow.features.families.family import Described, Family
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import sha256_file

#: Torchvision's name of the first version of ImageNet weights, which the reports used.
_FIRST = "IMAGENET1K_V1"
#: A vision transformer's position embeddings.
_POSITIONS = "encoder.pos_embedding"


class Torchvision(Family):
    """All that no other family takes, by torchvision's names."""

    name = "torchvision"

    def takes(self, model):
        return True

    def models(self):
        from torchvision import models

        return models.list_models(module=models)

    def build(self, model, n_classes, image_size):
        from torchvision import models

        options = {"num_classes": n_classes, "weights": None}
        if model in ("googlenet", "inception_v3"):
            # Their auxiliary heads serve training from scratch on ImageNet only; their ImageNet
            # weights expect torchvision's own change of the normalisation.
            options |= {"aux_logits": False, "init_weights": True, "transform_input": True}
        if image_size is not None and model.startswith("vit_"):
            options["image_size"] = image_size
        if image_size is not None and model.startswith("maxvit"):
            options["input_size"] = (image_size, image_size)
        return models.get_model(model, **options)

    def is_built_for_a_size(self, model):
        return model.startswith(("vit_", "maxvit"))

    def has_special_tokens(self, model):
        return model.startswith("vit_")

    def weights(self, model):
        return [weights.name for weights in _weights_of(model)]

    def imagenet_weights(self, model):
        known = _weights_of(model)
        return known.__members__.get(_FIRST, known.DEFAULT).name if len(known) else None

    def download(self, model, name, output):
        download(_weights_of(model)[name], model, output)

    def as_built(self, model, state, network):
        state = {current_name(name): value for name, value in state.items()}
        if _POSITIONS in state and _POSITIONS in network:
            state[_POSITIONS] = resized_positions(state[_POSITIONS], network[_POSITIONS].shape)
        return state

    def described(self, model, name):
        if name is None and not self.weights(model):
            return super().described(model, name)
        transform = _weights_of(model)[name or self.imagenet_weights(model)].transforms()
        return Described(
            image_size=transform.crop_size[0],
            shorter_side=transform.resize_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        )


def _weights_of(model: str):
    """torchvision's enumeration of a model's weights."""
    from torchvision import models

    return models.get_model_weights(model)


def current_name(name: str) -> str:
    """The name that torchvision gives today to an entry of DenseNet's and ViT's older files."""
    name = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)", r"\1", name)
    return name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


def resized_positions(given, shape: tuple[int, ...]):
    """A vision transformer's position embeddings for another number of places, as torchvision's
    ``interpolate_embeddings`` has them: bicubic, corners on corners.

    Parameters
    ----------
    given : tensor (1, 1 + n^2, d), whose first token is that of the class
    shape : (1, 1 + m^2, d); of other shapes ``given`` is returned as it is
    """
    import torch
    from torch.nn import functional

    if given.ndim != 3 or len(shape) != 3 or given.shape[2] != shape[2] or given.shape == shape:
        return given
    n, m = (round((tokens - 1) ** 0.5) for tokens in (given.shape[1], shape[1]))
    if given.shape[1] != 1 + n**2 or shape[1] != 1 + m**2:
        return given
    places = given[:, 1:].permute(0, 2, 1).unflatten(2, (n, n))
    places = functional.interpolate(places, (m, m), mode="bicubic", align_corners=True)
    return torch.cat([given[:, :1], places.flatten(2).permute(0, 2, 1)], dim=1)


def flat_names(network) -> dict[str, str]:
    """torchvision's names of the layers inside MobileNetV2's blocks, by their flat names.

    torchvision groups a block's convolutions with their normalisation and activation
    (``features.2.conv.1.0``); other implementations number all layers of the block in one row
    (``features.2.conv.3``).
    """
    from torchvision.models.mobilenetv2 import InvertedResidual

    names = {}
    for block, module in network.named_modules():
        if isinstance(module, InvertedResidual):
            parts = module.conv.named_modules()
            leaves = [name for name, part in parts if not list(part.children())]
            for row, layer in enumerate(leaves):
                names[f"{block}.conv.{row}"] = f"{block}.conv.{layer}"
    return names


def download(weights, model: str, output: str | Path) -> None:
    """Take weights from torchvision's cache, or download them into it.

    Either way the file must have the SHA-256 whose first digits torchvision's name of it ends in,
    and is read without running code from it (torchvision itself checks downloads alone, and runs
    what a cached file brings along).

    Parameters
    ----------
    weights
        An entry of torchvision's enumeration.

    Raises
    ------
    UserError
        If they cannot be downloaded or have the wrong digest.
    """
    import torch

    from collapseflow.features.weights import load_state, save_state

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
