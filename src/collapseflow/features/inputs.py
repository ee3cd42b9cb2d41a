"""What networks are given: the size of images and their normalisation, in the words of the study
file, and as weights describe it themselves.

Planning asks: nothing here imports PyTorch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collapseflow.features.families import family_of, weights_name
from collapseflow.features.families.family import Described
from collapseflow.features.known import Architecture, Model
from collapseflow.running.errors import UserError
from collapseflow.running.section import Section

if TYPE_CHECKING:
    from collapseflow.images.datasets import DatasetInfo

#: What follows from the description that weights have of the images that they want; and the
#: normalisation by what the file of a data set says of its images.
OF_WEIGHTS, OF_DATASET = "weights", "dataset"


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


class NetworkKeys(Section):
    """What jobs are told of a network, whether they train it or read it.

    The study file gives those that a backbone has
    (:class:`collapseflow.study.schema.Backbone`). Keys with a default have come later.

    Attributes
    ----------
    model, image_size, normalize, head, preprocessing
        As in a backbone of the study file.
    precision
        What it is computed in.
    described_by
        The weights whose description of images is meant where these keys are ``weights``; None are
        the model's usual ones.
    model_code
        A digest of the user's own code behind the model; None where there is none.
    mean, std
        Of the data set, where ``normalize`` is ``dataset``: jobs take them from its file.
    """

    model: str
    image_size: int | str
    normalize: str
    precision: str
    head: str | None = None
    preprocessing: str = "whole"
    described_by: str | None = None
    model_code: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    @classmethod
    def later(cls) -> dict[str, Any]:
        """The keys that have come later, with their defaults. Where a key has its default, nobody
        is told of it: what was made before there was the key stays as it is."""
        fields = NetworkKeys.model_fields
        return {key: field.default for key, field in fields.items() if not field.is_required()}

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return Architecture(self.model, self.inputs.image_size, self.head)

    @property
    def inputs(self) -> Inputs:
        """What the network is given."""
        keys = (self.model, self.image_size, self.normalize)
        return inputs_on((self.mean, self.std), *keys, self.preprocessing, self.described_by)


def own_statistics(normalize: str, dataset: str | Path, info: "DatasetInfo") -> dict[str, list]:
    """``mean`` and ``std`` of a data set, as recipes and readings have them; empty unless
    ``normalize`` asks for them.

    Parameters
    ----------
    dataset, info
        A data set's file, and what it says of itself.

    Raises
    ------
    UserError
        If it has none.
    """
    if normalize != OF_DATASET:
        return {}
    if info.mean is None:
        raise UserError(
            f"{dataset}: has no mean and s.d., which normalize 'dataset' takes; set 'mean' and "
            "'std' of the data set"
        )
    return {"mean": list(info.mean), "std": list(info.std)}


def inputs_on(
    statistics: tuple[Sequence[float] | None, Sequence[float] | None], *keys: Any
) -> Inputs:
    """As :func:`inputs_of`, with mean and s.d. of :func:`own_statistics` where there are some;
    those of grey images are of all three channels."""
    inputs = inputs_of(*keys)
    if None in statistics:
        return inputs
    mean, std = (tuple(values) * (3 // len(values)) for values in statistics)
    return replace(inputs, normalize=Normalization(mean, std, "mean and s.d. of the data set"))


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
