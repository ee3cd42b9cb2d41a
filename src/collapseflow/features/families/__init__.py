"""Families of networks, one file each; the text of the key ``model`` says which one is meant."""

from contextlib import suppress
from pathlib import Path

from collapseflow.features.families import module, timm, torchvision
from collapseflow.features.families.family import Family
from collapseflow.running.errors import UserError, instead

#: The first that takes a model has it: torchvision takes all that the others leave.
FAMILIES: tuple[Family, ...] = (timm.Timm(), module.Module(), torchvision.Torchvision())
#: The word of the study file for a family's usual ImageNet weights.
IMAGENET = "imagenet"


def family_of(model: str) -> Family:
    """The family of a model."""
    return next(family for family in FAMILIES if family.takes(model))


def all_models() -> list[str]:
    """The models of all families whose library is installed, as far as they can be listed."""
    found = []
    for family in FAMILIES:
        with suppress(UserError):
            found += family.models()
    return found


def weights_name(model: str, source: str) -> str:
    """The family's name of weights: of its usual ones for ``imagenet``.

    Raises
    ------
    UserError
        If the family does not distribute them.
    """
    family = family_of(model)
    known = family.weights(model)
    usual = family.imagenet_weights(model)
    if source == IMAGENET and usual is None:
        allowed = f"; allowed: {', '.join(known)}" if known else ""
        raise UserError(f"weights: {family.name} has no ImageNet weights of {model!r}{allowed}")
    if source != IMAGENET and source not in known:
        raise UserError(
            f"weights: {source!r} is no file, and no weights that {family.name} has of {model!r}; "
            f"{instead(source, [*([IMAGENET] if usual else []), *known])}"
        )
    return usual if source == IMAGENET else source


def download(model: str, source: str, output: str | Path) -> None:
    """Write weights that a family distributes, as safetensors.

    Raises
    ------
    UserError
        As :func:`weights_name`, and as :meth:`Family.download`.
    """
    family_of(model).download(model, weights_name(model, source), output)
