"""From the output of a layer to one vector an image."""

from typing import Literal, NamedTuple

import torch

Way = Literal["average", "max", "class_token", "flatten"]


class Pooling(NamedTuple):
    """What becomes of a layer's output.

    Attributes
    ----------
    way
        ``average`` and ``max`` over the places, the class token alone, or ``flatten``, which leaves
        the output as it is.
    places
        The dimensions that are places in the image; none where the output is a vector already.
    left_out
        How many tokens in front are none of places: of classes and registers.
    """

    way: Way
    places: tuple[int, ...] = ()
    left_out: int = 0


def pool(
    output: torch.Tensor, way: Way, places: tuple[int, ...] = (), left_out: int = 0
) -> torch.Tensor:
    """A layer's output after :class:`Pooling`, (N, d) or, after ``flatten``, of any shape; always
    a copy: layers behind may work in place."""
    if way == "flatten" or not places:
        return torch.clone(output)
    if way == "class_token":
        return torch.clone(output.select(places[0], 0))
    if left_out:
        output = output.narrow(places[0], left_out, output.shape[places[0]] - left_out)
    return torch.mean(output, places) if way == "average" else torch.amax(output, places)
