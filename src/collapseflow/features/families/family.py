"""What the workflow has to know of a family of networks, and what most families have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from collapseflow.running.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Described:
    """How weights want their images.

    Attributes
    ----------
    image_size
        Pixels a side of what the network is given.
    shorter_side
        Pixels of the shorter side before the square in the middle is cut out.
    interpolation
        ``bilinear`` or ``bicubic``.
    mean, std
        Of the three channels in [0, 1].
    """

    image_size: int
    shorter_side: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Family:
    """A family of networks; a model goes by the text that the study file has for it.

    Planning asks families, too: they import their libraries where they use them.

    Attributes
    ----------
    name
        As messages call it.
    normalize
        What the key ``normalize`` is where the study file does not say it.
    """

    name: str
    normalize = "imagenet"

    # --- which networks -------------------------------------------------------------------

    def takes(self, model: str) -> bool:
        """Whether the text names a network of this family, known or not."""
        raise NotImplementedError

    def models(self) -> list[str]:
        """All models that have a name; none where they cannot be listed."""
        return []

    def require(self, model: str) -> None:
        """Refuse a model that is unknown.

        Raises
        ------
        UserError
            With the nearest names.
        """
        known = self.models()
        if model not in known:
            raise UserError(
                f"model: {model!r} is unknown; {did_you_mean(model, known, 3)}"
                "all: python -m collapseflow layers"
            )

    def code_of(self, model: str) -> str:
        """Sixteen hexadecimal digits of a user's own code behind a model; empty where there is
        none."""
        return ""

    # --- the network itself ---------------------------------------------------------------

    def build(self, model: str, n_classes: int, image_size: int | None) -> nn.Module:
        """The network with its own random initialisation.

        Parameters
        ----------
        image_size
            Pixels a side, for networks that are built for one size of images; None for the usual.
        """
        raise NotImplementedError

    def usual_size(self, model: str) -> int:
        """Pixels a side of the images that a network is built for, where none are named."""
        return 224

    def is_built_for_a_size(self, model: str) -> bool:
        """Whether the network depends on the size of its images."""
        return True

    def has_special_tokens(self, model: str) -> bool:
        """Whether there may be class or register tokens beside those of places in the image."""
        return True

    # --- its weights ----------------------------------------------------------------------

    def weights(self, model: str) -> list[str]:
        """The names of the weights that the family distributes for a model."""
        return []

    def imagenet_weights(self, model: str) -> str | None:
        """Of these the usual ones of ImageNet, for which the word ``imagenet`` stands; None where
        there are none."""
        return None

    def download(self, model: str, name: str, output: str | Path) -> None:
        """Write weights that the family distributes as safetensors.

        Raises
        ------
        TemporaryError
            If they cannot be had now.
        UserError
            If their file is not what it should be.
        """
        raise NotImplementedError

    def as_built(
        self, model: str, state: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """A state dict in the form of today's network: its names, its size of images.

        Parameters
        ----------
        network
            The state dict of the network that it is for.
        """
        return dict(state)

    def described(self, model: str, name: str | None) -> Described:
        """How weights of this name want their images; None are the usual ones.

        Raises
        ------
        UserError
            If nothing is said of them.
        """
        raise UserError(
            f"normalize: {model!r} says nothing of the images that it wants; "
            "allowed: imagenet, none (and an image_size, and no preprocessing)"
        )
