"""What networks are given: the size of images and their normalisation, in the words of the study
file, and as weights describe it themselves.

Imports no library: planning asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from collapseflow.features.families import family_of, weights_name
from collapseflow.features.families.family import Described
from collapseflow.features.known import Architecture, Model

#: What follows from the description that weights have of the images that they want.
OF_WEIGHTS = "weights"


@dataclass(frozen=True)
class Normalization:
    """Mean and s.d. of the three channels in [0, 1], and whose they are, in words."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    words: str


@dataclass(frozen=True)
class Resizing:
    """The shorter side is resized to so many pixels, ``bilinear`` or ``bicubic``, and the square in
    the middle is cut out."""

    shorter_side: int
    interpolation: str


@dataclass(frozen=True)
class Inputs:
    """What images become.

    Attributes
    ----------
    image_size
        Pixels a side.
    normalize
        ``imagenet``, ``none``, or mean and s.d.
    resizing
        None resizes the whole image to the square, bilinear.
    """

    image_size: int
    normalize: str | Normalization
    resizing: Resizing | None = None


@cache
def inputs_of(
    model: str,
    image_size: int | str,
    normalize: str,
    preprocessing: str = "whole",
    described_by: str | None = None,
) -> Inputs:
    """What a network is given, by the keys of a backbone.

    Parameters
    ----------
    image_size, normalize, preprocessing
        ``weights`` where they follow from the weights' own description.
    described_by
        The weights whose description it is; None are the model's usual ones.

    Raises
    ------
    UserError
        If there is no such description.
    """
    if OF_WEIGHTS not in (image_size, normalize, preprocessing):
        return Inputs(image_size, normalize)
    own = description_of(model, described_by)
    size = own.image_size if image_size == OF_WEIGHTS else image_size
    if normalize == OF_WEIGHTS:
        normalize = Normalization(own.mean, own.std, f"mean and s.d. of {model}'s weights")
    # The same share of the image, whatever its size.
    shorter_side = round(own.shorter_side * size / own.image_size)
    whole = preprocessing != OF_WEIGHTS
    return Inputs(size, normalize, None if whole else Resizing(shorter_side, own.interpolation))


def untrained(told: str | Mapping[str, Any]) -> Model:
    """The network that a job draws random weights for, of what it is told of it."""
    if isinstance(told, str):
        return told
    size = told.get("image_size")
    own = size == OF_WEIGHTS
    return Architecture(
        told["model"], description_of(told["model"], None).image_size if own else size
    )


def description_of(model: str, weights: str | None) -> Described:
    """How weights want their images: those of a name in the study file, or a model's usual ones.

    Raises
    ------
    UserError
        If the family does not say it, or does not have these weights.
    """
    return family_of(model).described(model, weights and weights_name(model, weights))
