"""Networks of timm, ``timm/NAME`` or ``timm/NAME.TAG`` (Wightman, "PyTorch Image Models").

timm is optional; nothing but its own names and its own files is asked of it.
"""

import re
from functools import cache
from pathlib import Path

from collapseflow.features.families.family import Described, Family
from collapseflow.running.errors import TemporaryError, UserError, instead
from collapseflow.running.files import sha256_file

_PREFIX = "timm/"
#: What a tag of weights says that were trained on ImageNet, or on a larger set of its kind.
_IMAGENET = re.compile(r"in(1|12|21|22)k")
#: The name of the file of weights on the hub.
_FILE = "model.safetensors"


class Timm(Family):
    """timm's classification models; their weights go by timm's tags."""

    name = "timm"
    normalize = "weights"

    def takes(self, model):
        return model.startswith(_PREFIX)

    def models(self):
        return [f"{_PREFIX}{name}" for name in _timm().list_models()]

    def require(self, model):
        architecture, _, tag = model.partition(".")
        super().require(architecture)
        tags = self.weights(model)
        if tag and tag not in tags:
            raise UserError(
                f"model: timm has no weights {tag!r} of {architecture!r}; {instead(tag, tags)}"
            )

    def build(self, model, n_classes, image_size):
        options = {"num_classes": n_classes, "pretrained": False}
        if image_size is not None and _configuration(model, None).fixed_input_size:
            options["img_size"] = image_size
        return _timm().create_model(model.removeprefix(_PREFIX), **options)

    def usual_size(self, model):
        return _configuration(model, None).input_size[-1]

    def weights(self, model):
        architecture = model.removeprefix(_PREFIX).partition(".")[0]
        return [name.partition(".")[2] for name in _timm().list_pretrained(f"{architecture}.*")]

    def imagenet_weights(self, model):
        tag = _configuration(model, None).tag
        return tag if tag in self.weights(model) and _IMAGENET.search(tag) else None

    def download(self, model, name, output):
        from collapseflow.features.weights import save_state

        architecture = model.removeprefix(_PREFIX).partition(".")[0]
        path = _file(architecture, name)
        # timm gives older files their names of today.
        network = _timm().create_model(
            f"{architecture}.{name}", pretrained=True, pretrained_cfg_overlay={"file": str(path)}
        )
        words = {"weights": f"{_PREFIX}{architecture} {name}", "sha256": sha256_file(path)}
        save_state(output, network.state_dict(), words)

    def as_built(self, model, state, network):
        from timm.layers import resample_abs_pos_embed

        state, name = dict(state), "pos_embed"
        grids = [of[name] for of in (state, network) if name in of]
        if len(grids) == 2 and grids[0].ndim == 3 and grids[0].shape[1] != grids[1].shape[1]:
            side, special = _grid(grids[1].shape[1])
            state[name] = resample_abs_pos_embed(
                grids[0], [side, side], num_prefix_tokens=special, verbose=False
            )
        return state

    def described(self, model, name):
        configuration = _configuration(model, name)
        size = configuration.input_size[-1]
        return Described(
            image_size=size,
            shorter_side=int(size / configuration.crop_pct),
            interpolation=configuration.interpolation,
            mean=tuple(configuration.mean),
            std=tuple(configuration.std),
        )


def _grid(n_tokens: int) -> tuple[int, int]:
    """The side of the largest square of so many tokens, and the tokens that are left."""
    side = int(n_tokens**0.5)
    return side, n_tokens - side**2


def _timm():
    """The library.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise UserError("model: timm is not installed; pip install timm") from None
    return timm


@cache
def _configuration(model: str, tag: str | None):
    """What timm knows of a model with some weights; without a tag with its usual ones."""
    name = model.removeprefix(_PREFIX)
    if tag:
        name = f"{name.partition('.')[0]}.{tag}"
    return _timm().models.get_pretrained_cfg(name)


def _file(architecture: str, tag: str) -> Path:
    """The file of weights, out of the hub's cache or downloaded into it.

    Raises
    ------
    TemporaryError
        If it cannot be had, with what to do instead.
    UserError
        If it has another SHA-256 than the hub says.
    """
    import huggingface_hub

    repository = f"timm/{architecture}.{tag}"
    try:
        path = Path(huggingface_hub.hf_hub_download(repository, _FILE))
    except Exception as error:
        # Of many kinds: no network, an offline mode, a file that is not there.
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise TemporaryError(
            f"{repository}/{_FILE}: {line}; download it elsewhere and give its path in "
            "backbones.<name>.weights"
        ) from None
    # The hub's cache calls the contents of a large file after their SHA-256.
    expected = path.resolve().name
    found = sha256_file(path)
    if re.fullmatch(r"[0-9a-f]{64}", expected) and found != expected:
        raise UserError(
            f"{path}: has SHA-256 {found}, but the hub's is {expected}; delete it and run again"
        )
    return path
