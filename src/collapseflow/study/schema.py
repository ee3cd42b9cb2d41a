"""The study file: its schema, its defaults and its checks.

:func:`load` turns the mapping that Snakemake read into a :class:`Study`. Whatever is wrong is
reported in one line with the key, the value and what is allowed, before any job runs. The
schema needs neither PyTorch nor scikit-learn; what they refuse is found by
:mod:`collapseflow.study.check`.
"""

import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlparse
from urllib.request import url2pathname

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PositiveInt,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from collapseflow.features.families import family_of
from collapseflow.features.inputs import OF_DATASET, OF_WEIGHTS, NetworkKeys
from collapseflow.features.known import PACKAGES, PENULTIMATE
from collapseflow.images.sources.known import (
    COLUMNS,
    DECODED,
    IDX_FILES,
    INK,
    SOURCES,
    divided,
    n_images,
    n_used,
    positions_of,
    torchvision_name,
)
from collapseflow.images.sources.places import OWN, class_names
from collapseflow.measures.quantities import panels_of
from collapseflow.running.errors import UserError, instead
from collapseflow.running.numbered import EPOCH
from collapseflow.running.section import (
    PATTERNS,
    Epochs,
    Fraction,
    Label,
    Pixels,
    PositiveFloat,
    Section,
    at_most,
    between,
    number,
    text,
)
from collapseflow.running.words import CONTROL, printable
from collapseflow.study.elsewhere import SEED, find_checkpoints
from collapseflow.study.recipes import (
    NOT_SWEPT,
    Recipe,
    expand,
    point_name,
    recipe_of,
    setting_of,
)

NAME = r"^[A-Za-z][A-Za-z0-9_]{0,99}$"
Name = text(NAME, "a name of up to 100 letters, digits and _, a letter first")
StudyName = text(
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
    "a name of up to 100 letters, digits, '_', '.' and '-', a letter or digit first",
)
Sha256 = text(r"^[0-9a-f]{64}$", "64 hexadecimal digits in lower case")
Device = text(
    r"^(auto|cpu|cuda|cuda:\d+)$",
    "auto, cpu, cuda, or cuda:N with the card's number (not mps, which has no float64)",
)
Estimator = text(
    r"^(sklearn|collapseflow)(\.\w+)+$",
    "the import path of a classifier, for example sklearn.svm.SVC",
)
PointName = text(r"^[A-Za-z][A-Za-z0-9_]{0,99}(/.*)?$", PATTERNS[NAME])
LayerName = text(r"^[A-Za-z0-9_.-]{1,200}$", "the name of a layer")
Location = text(rf"^[^{CONTROL}]+$", "a folder or an address without control characters")
#: Braces are wildcards of Snakemake in paths that it is told.
WeightSource = text(rf"^[^{{}}{CONTROL}]+$", "a path without braces and control characters")
Seed = Annotated[int, Field(ge=0, lt=2**31)]

#: The most of what planning takes its time for: minutes, with so many runs.
MOST_SEEDS, MOST_POINTS, MOST_RUNS = 1_000, 1_000, 20_000
#: The longest name of a point's folder, which tools add their endings to.
LONGEST_POINT = 200

WEIGHT_SOURCES = ("imagenet", "package", "pretrain", "random")
#: Followed by the name of a data set of the study: weights that were pretrained on it.
PRETRAINED_ON = "pretrain-"
#: What is computed of the compared feature sets and the runs on request.
ANALYSES = ("spectrum", "few_shot", "similarity", "transfer", "baselines")
#: The classifier whose accuracy says how well features transfer.
TRANSFER_PROBE = "linear"
#: Features that no network gives.
WITHOUT_NETWORK = ("raw", "scattering")
#: The end of the name of a package's file.
WHEEL = ".whl"
#: Keys of a data set that change what its source holds; and those of them that decide which images
#: and labels it has.
DECISIVE_CHANGES = ("classes", "imbalance", "label_noise")
CHANGES = (*DECISIVE_CHANGES, "mean", "std")
DATA_SOURCES = (
    *("folder", "table", "arrays", "huggingface", "mnist", "fashion_mnist", "idx", "torchvision"),
    *("mnist5k", "digits", "letters", "features"),
)
#: The source of vectors that were computed elsewhere: it has no images.
VECTORS = "features"
#: Keys of a data set that there have not always been.
CHOICES = ("on_bad_image", "fit", "columns")
#: What stands at the location of a data set.
PLACES = {
    "folder": "folder",
    "table": "file",
    "arrays": "file or folder",
    "huggingface": "folder",
}


class Scattering(Section):
    """Wavelet scattering: ``J`` scales (averaging over 2^J pixels), ``L`` angles, order 1 or 2."""

    J: at_most(10) = 2
    L: at_most(64) = 8
    order: Literal[1, 2] = 2

    @property
    def n_coefficients(self) -> int:
        """Coefficients at each position: 1 + JL, and L^2 J(J-1)/2 more at order 2."""
        more = self.L**2 * self.J * (self.J - 1) // 2 if self.order == 2 else 0
        return 1 + self.J * self.L + more


class Subset(Section):
    """Numbers of images in a class-stratified, seeded sample of each split."""

    train: Annotated[int, Field(ge=2)] | None = None
    test: PositiveInt | None = None


class Imbalance(Section):
    """How much fewer training images the last class has than the first."""

    kind: Literal["exponential", "step"]
    ratio: between(1, 1e6)


#: A mean or standard deviation that is measured on the training images.
MEASURED = "measured"


def _is_class(value: Any) -> Any:
    """A name or a number of a class as it is."""
    if isinstance(value, str) or isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("allowed", "names of classes, or their numbers in the source")


def _per_channel(value: Any) -> Any:
    """``measured``, or a number for each channel, as it is."""
    numbers = list(map(number, value)) if isinstance(value, list) else []
    if (
        value == MEASURED
        or len(numbers) in (1, 3)
        and all(
            isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n <= 1 for n in numbers
        )
    ):
        return numbers or value
    raise PydanticCustomError(
        "allowed", "measured, or a list of a number from 0 to 1 for each channel (255 is 1)"
    )


ClassOfSource = Annotated[str | int, BeforeValidator(_is_class)]
PerChannel = Annotated[Literal["measured"] | list[float], BeforeValidator(_per_channel)]


def _is_size(value: Any) -> Any:
    """Pixels a side, or height and width."""
    sides = value if isinstance(value, list) else [value]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 10_000 for n in sides)
    if whole and len(sides) == (2 if isinstance(value, list) else 1):
        return value
    raise PydanticCustomError("allowed", "1 to 10000 pixels a side, or [height, width]")


class Dataset(Section):
    """Where a data set comes from, how much of it is used, and what is done to it."""

    source: Literal[DATA_SOURCES]
    label: Label | None = None
    location: Annotated[list[Location], Field(min_length=1)] | None = None
    sha256: dict[str, Sha256] = {}
    name: str | None = None
    arguments: dict[str, Any] = {}
    size: Annotated[
        Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None,
        BeforeValidator(lambda value: value if value is None else _is_size(value)),
    ] = None
    fit: Literal["crop", "pad", "squash"] = "crop"
    columns: dict[str, str | None] = {}
    on_bad_image: Literal["stop", "skip"] = "stop"
    class_names: list[Label] | None = None
    classes: Annotated[list[ClassOfSource], Field(min_length=2)] | None = None
    subset: Subset = Subset()
    imbalance: Imbalance | None = None
    label_noise: Fraction | None = None
    mean: PerChannel | None = None
    std: PerChannel | None = None
    scattering: Scattering | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_location_is_a_list_of_one(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("location"), str):
            return {**data, "location": [data["location"]]}
        return data

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> "Dataset":
        needed = {"torchvision": "name"} | dict.fromkeys(("idx", VECTORS, *OWN), "location")
        needed = needed.get(self.source)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"source {self.source!r} needs the key {needed!r}")
        allowed = {
            "location": (*OWN, "huggingface", "mnist", "fashion_mnist", "idx", VECTORS),
            "sha256": ("idx", "torchvision"),
            "name": ("torchvision", "huggingface"),
            "arguments": ("torchvision", "huggingface"),
            "size": (*OWN, "torchvision", "huggingface"),
            "fit": (*OWN, "torchvision", "huggingface"),
            "columns": tuple(COLUMNS),
            "on_bad_image": DECODED,
            **dict.fromkeys(CHANGES, tuple(s for s in DATA_SOURCES if s != VECTORS)),
        }
        for key, sources in allowed.items():
            given = getattr(self, key) != type(self).model_fields[key].default
            if given and self.source not in sources:
                raise ValueError(
                    f"key {key!r} goes only with source {' or '.join(sources)}, "
                    f"not with {self.source!r}"
                )
        parts = IDX_FILES if self.source == "idx" else ("train", "test")
        for part in self.sha256:
            if part not in parts:
                raise ValueError(f"sha256: {part!r} is unknown; {instead(part, parts)}")
        if self.source in SOURCES:
            self._every_class_has_a_name(SOURCES[self.source].classes, self.source)
        for role in self.columns:
            if role not in COLUMNS[self.source]:
                known = instead(role, COLUMNS[self.source])
                raise ValueError(f"columns: {role!r} is unknown; {known}")
        if self.fit != "crop" and self.size is None:
            raise ValueError("fit: needs the key 'size'")
        if self.source == "huggingface":
            if (self.location is None) == (self.name is None):
                raise ValueError(
                    "source 'huggingface' needs either the key 'location', a folder that "
                    "save_to_disk has made, or 'name', of a data set in the cache"
                )
            if find_spec("datasets") is None:
                raise ValueError(
                    "source: 'huggingface' needs the package datasets: pip install datasets"
                )
        if self.source in OWN or (self.source == "huggingface" and self.location):
            self._is_there()
        elif self.source == VECTORS:
            self._vectors_have_names()
        elif self.location and not any(map(_may_exist, self.location)):
            raise ValueError(
                f"location: none of {', '.join(self.location)} is a folder here; "
                "allowed: existing folders, file:// and web addresses"
            )
        words = list(map(str, self.classes or []))
        if twice := [word for number, word in enumerate(words) if word in words[:number]]:
            raise ValueError(f"classes: {twice[0]!r} stands twice; allowed: each class once")
        return self

    def _is_there(self) -> None:
        """What a user has where the location says is what the source reads."""
        place, what = self.location[0], PLACES[self.source]
        if len(self.location) > 1:
            raise ValueError(f"location: {len(self.location)} places; allowed: one {what}")
        kinds = [word for word, is_one in KINDS.items() if is_one(place)]
        if not set(kinds) & set(what.split(" or ")):
            raise ValueError(f"location: {place} is no {what} here; allowed: a {what}")
        if self.source not in OWN:
            return
        try:
            found = class_names(self.model_dump())
        except UserError as error:
            raise ValueError(f"location: {error}") from None
        self._every_class_has_a_name(len(found), place)
        self._classes_are_known(found)

    def _vectors_have_names(self) -> None:
        try:
            names, epochs = self.vectors(), self.epochs_of_vectors()
        except UserError as error:
            raise ValueError(f"location: {error}") from None
        if others := [names[name] for name in names if epochs and name not in epochs]:
            raise ValueError(
                f"location: {others[0]} is no epoch as others are; allowed: {EPOCH} in each place, "
                "or in none"
            )
        for name in names:
            if name in WITHOUT_NETWORK:
                raise ValueError(
                    f"location: {names[name]} is called {name!r}, which is what features of images "
                    "are called; rename it"
                )

    def vectors(self) -> dict[str, str]:
        """The files of vectors by their names; none where there are images.

        Raises
        ------
        UserError
            As :func:`collapseflow.images.sources.vectors.named_files`.
        """
        if self.source != VECTORS:
            return {}
        from collapseflow.images.sources.vectors import named_files

        return named_files(self.location)

    def epochs_of_vectors(self) -> dict[str, tuple[str, int]]:
        """The series and the epoch of files of vectors that are epochs, by their names."""
        if self.source != VECTORS:
            return {}
        from collapseflow.images.sources.vectors import epochs

        return epochs(self.location)

    @model_validator(mode="after")
    def _mean_and_std_go_together(self) -> "Dataset":
        for key, other in (("mean", "std"), ("std", "mean")):
            if getattr(self, key) is None and getattr(self, other) is not None:
                raise ValueError(f"{key}: is missing; allowed: both 'mean' and 'std', or neither")
        given = [value for value in (self.mean, self.std) if isinstance(value, list)]
        if len(given) == 2 and len(given[0]) != len(given[1]):
            raise ValueError(
                f"std: {len(given[1])} numbers, but mean has {len(given[0])}; allowed: as many"
            )
        if isinstance(self.std, list) and min(self.std) == 0:
            raise ValueError("std: 0 cannot be divided by; allowed: numbers above 0")
        return self

    def _classes_are_known(self, names: list[str]) -> None:
        # Which numbers the classes of a table or of arrays have is known when they are read.
        if self.source != "folder" and all(isinstance(one, int) for one in self.classes or []):
            return
        try:
            positions_of(self.classes or [], self.class_names or names, range(len(names)))
        except UserError as error:
            raise ValueError(str(error)) from None

    def _every_class_has_a_name(self, n_classes: int, of: str) -> None:
        if self.class_names and len(self.class_names) != n_classes:
            raise ValueError(
                f"class_names: {len(self.class_names)} names for the {n_classes} classes of {of}; "
                f"allowed: {n_classes} names"
            )

    def entry(self) -> dict[str, Any]:
        """What decides the images, their labels, and what the data set's file says of both.

        A choice between stopping and skipping is none of it unless it is made, and neither is a
        change that is not asked for: data sets that were prepared before there were these keys stay
        as they are.
        """
        fields = type(self).model_fields
        left_out = {"label", "scattering"} | {key for key in CHANGES if getattr(self, key) is None}
        left_out |= {key for key in CHOICES if getattr(self, key) == fields[key].default}
        entry = self.model_dump(exclude=left_out)
        if self.source == VECTORS:
            # Labels are those of the first file; others may come later.
            entry["location"] = list(self.vectors().values())[:1]
        return entry

    @property
    def changes(self) -> dict[str, Any]:
        """What is done to the images and labels of the source beside a sample of them, by key."""
        return self.model_dump(include=set(DECISIVE_CHANGES), exclude_none=True)

    @property
    def is_part(self) -> bool:
        """Whether images of the source are left out."""
        return any([*vars(self.subset).values(), self.classes, self.imbalance])

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, where they are known before the images are read."""
        known = SOURCES.get(self.source)
        size = known.image_size if known else self.size
        return (size, size) if isinstance(size, int) else size and tuple(size)

    @property
    def is_ink(self) -> bool:
        """Whether figures print black as paper, as papers do with drawn strokes."""
        return (self.name if self.source == "torchvision" else self.source) in INK


ImageSize = Annotated[
    Pixels,
    # The word is no number, and needs none of its checks.
    WrapValidator(lambda value, check: value if value == OF_WEIGHTS else check(value)),
    PlainSerializer(lambda value: value, return_type=Any),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": OF_WEIGHTS},
                {"type": "integer", "exclusiveMinimum": 0, "maximum": 10_000},
            ]
        }
    ),
]


class Backbone(Section):
    """A network, the layers its features are read from, and its first weights."""

    model: str
    label: Label | None = None
    head: LayerName | None = None
    layers: Annotated[list[LayerName], Field(min_length=1)] = [PENULTIMATE]
    pool: Literal["average", "average_all", "max", "class_token", "flatten"] = "average"
    image_size: ImageSize = 224
    normalize: Literal["imagenet", "none", "weights", "dataset"] = "imagenet"
    preprocessing: Literal["whole", "weights"] = "whole"
    weights: Annotated[list[WeightSource], Field(min_length=1)] = ["imagenet"]
    classes_of_weights: Name | None = None
    batch_size: PositiveInt = 256

    @model_validator(mode="before")
    @classmethod
    def _what_is_left_out_follows_from_model_and_preprocessing(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("model"), str):
            return data
        if data.get("preprocessing") == OF_WEIGHTS:
            return {"image_size": OF_WEIGHTS, "normalize": OF_WEIGHTS, **data}
        return {"normalize": family_of(data["model"]).normalize, **data}

    @field_validator("weights")
    @classmethod
    def _home_is_a_folder(cls, weights: list[str]) -> list[str]:
        return [os.path.expanduser(source) for source in weights]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Backbone":
        if len(set(self.layers)) < len(self.layers):
            raise ValueError("layers: each name may stand only once")
        states = [weight_state(source) for source in self.weights]
        if len(set(states)) < len(states):
            raise ValueError(
                "weights: each source may stand once, one wheel of a package and one file at most"
            )
        if self.classes_of_weights is not None and "file" not in states:
            raise ValueError(
                "classes_of_weights: is of the last layer of a file; allowed: with the path of one "
                "among weights"
            )
        if "package" in states and self.model not in PACKAGES:
            raise ValueError(
                f"weights: no package is known that ships weights of {self.model!r}; "
                f"allowed: another source, or model {' or '.join(PACKAGES)}"
            )
        return self

    def entry(self, keys: Collection[str]) -> dict[str, Any]:
        """Some keys with their values, as jobs are told them.

        Those of :meth:`~collapseflow.features.inputs.NetworkKeys.later` are left out where they
        have their defaults.
        """
        entry = self.model_dump(include=set(keys))
        later = NetworkKeys.later()
        return {k: v for k, v in entry.items() if k not in later or v != later[k]}

    @property
    def pixels(self) -> int:
        """Pixels a side, for estimates: where the weights say it, the usual ones."""
        return 224 if self.image_size == OF_WEIGHTS else self.image_size

    @property
    def asks_the_weights(self) -> bool:
        """Whether anything about the images follows from the description of the weights."""
        return OF_WEIGHTS in (self.image_size, self.normalize, self.preprocessing)

    @property
    def pool_of_job(self) -> str:
        """The key ``pool`` in the words of jobs (:data:`collapseflow.features.networks.POOLS`),
        whose ``average`` has always been over all tokens. Networks without special tokens keep
        that word, and so what was made of them."""
        if self.pool == "average" and family_of(self.model).has_special_tokens(self.model):
            return "average_places"
        return "average" if self.pool == "average_all" else self.pool


class Pretrain(Section):
    """Training from random weights: on letters rendered from matplotlib's fonts, or on one of the
    study's data sets."""

    images: at_most(1_000_000) = 20_000
    epochs: Epochs = 3
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3


class Training(Section):
    """A training that was made elsewhere: where its checkpoints and its log are, and what it was
    of."""

    backbone: str
    dataset: str
    checkpoints: Location
    log: Location | None = None
    columns: dict[Literal["epoch", *panels_of("training"), *panels_of("held_out")], Location] = {}
    counted_from: Literal[0, 1] = 1
    start: str | None = None
    label: Label | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _columns_are_of_a_log(self) -> "Training":
        if self.columns and self.log is None:
            raise ValueError("columns: are those of a log; allowed: with the key 'log'")
        return self

    def files(self, seed: int) -> dict[int, str]:
        """The checkpoints of a seed by epoch, in order.

        Raises
        ------
        UserError
            As :func:`~collapseflow.study.elsewhere.find_checkpoints`.
        """
        pattern = os.path.expanduser(self.checkpoints).replace(SEED, str(seed))
        return find_checkpoints(pattern, self.counted_from)

    def logs(self, seed: int) -> list[str]:
        """The log of a seed, where the study file has one."""
        return [os.path.expanduser(log).replace(SEED, str(seed)) for log in [self.log] if log]


class Selection(Section):
    """Runs of a study: those that have, for each key given here, one of the values listed there."""

    datasets: list[str] | None = None
    backbones: list[str] | None = None
    starts: list[str] | None = None
    recipes: list[str] | None = None
    seeds: list[Seed] | None = None

    def takes(self, run: "RunName") -> bool:
        """Whether a run is one of these."""
        values = (run.dataset, run.backbone, run.start, recipe_of(run.recipe), run.seed)
        chosen = (self.datasets, self.backbones, self.starts, self.recipes, self.seeds)
        return all(names is None or v in names for v, names in zip(values, chosen, strict=True))


class RunName(NamedTuple):
    """A training by what it is named by; ``recipe`` is a point of one (study/recipes.py)."""

    dataset: str
    backbone: str
    start: str
    recipe: str
    seed: int


class Classifier(Section):
    """A scikit-learn classifier behind an optional standardisation."""

    estimator: Estimator
    label: Label | None = None
    parameters: dict[str, Annotated[Any, BeforeValidator(number)]] = {}
    scaling: Literal["none", "standard"] = "none"
    n_train: PositiveInt | None = None


class Embedding(Section):
    """t-SNE with openTSNE."""

    # A perplexity of 1 takes four points; the initialisation takes two components.
    n_samples: Annotated[int, Field(ge=4)] = 50_000
    perplexity: between(1, 1e6) = 30.0
    pca: Annotated[int, Field(ge=2)] = 400
    exaggeration: between(1, 1e6) = 12.0
    exaggeration_iterations: at_most(100_000) = 250
    iterations: at_most(100_000) = 500


class Variance(Section):
    """Report B: the data set and the features whose variances are compared."""

    dataset: Name
    features: Annotated[list[str], Field(min_length=1)]


#: Figures whose measures may be chosen.
WITH_MEASURES = ("epochs", "layers", "runs", "transfer")
#: Named widths of figures: inches, and the least size of words in points.
PRINTED = {"column": (3.3, 6), "full": (6.7, 7)}


def _is_width(value: Any) -> Any:
    """A name of a width as it is, another value as a number of inches."""
    inches = number(value)
    is_number = isinstance(inches, int | float) and not isinstance(inches, bool)
    if isinstance(value, str) and value in PRINTED or is_number and 1 <= inches <= 20:
        return inches
    raise PydanticCustomError("allowed", "column, full, or 1 to 20 inches")


class Only(Section):
    """What figures of trainings show; of what is empty all."""

    recipes: list[Name] = []
    splits: list[Literal["train", "test"]] = []
    measures: list[str] = []

    @field_validator("measures")
    @classmethod
    def _are_shown_somewhere(cls, measures: list[str]) -> list[str]:
        known = dict.fromkeys(name for figure in WITH_MEASURES for name in panels_of(figure))
        for name in measures:
            if name not in known:
                raise ValueError(f"{name!r} is unknown; {instead(name, known)}")
        return measures

    @field_validator("recipes", "splits", "measures")
    @classmethod
    def _stand_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("each may stand only once")
        return names


class Style(Section):
    """The look of the figures."""

    font_size: between(1, 72) = 8.0
    dpi: at_most(1_200) = 200
    width: Annotated[
        Literal["column", "full"] | Annotated[float, Field(ge=1, le=20)], BeforeValidator(_is_width)
    ] = 7.0
    formats: list[Literal["pdf", "png", "svg"]] = ["pdf", "png"]
    point_size: between(0.01, 1_000) = 1.5
    samples_per_class: at_most(100) = 10
    only: Only = Only()

    @field_validator("formats")
    @classmethod
    def _has_what_is_shown(cls, formats: list[str]) -> list[str]:
        if missing := [name for name in ("pdf", "png") if name not in formats]:
            raise ValueError(f"lacks {missing[0]}, which is always made; write [pdf, png, svg]")
        return formats

    @property
    def drawn(self) -> dict[str, Any]:
        """What figures are told: the width in inches, and the least size of words in points, which
        is 0 where the study file has a number for the width."""
        width, smallest = PRINTED.get(self.width, (self.width, 0))
        told = self.model_dump(exclude={"formats", "only"})
        return {**told, "width": width, "smallest": smallest}


def _classifiers(**entries: dict) -> dict[str, dict]:
    return {key: {"label": key.upper(), **entry} for key, entry in entries.items()}


PRESETS: dict[str, dict[str, dict]] = {
    # Probes that the scale of the features does not matter to.
    "default": _classifiers(
        linear={"estimator": "collapseflow.LinearProbe", "label": "linear probe"},
        knn={"estimator": "collapseflow.NearestNeighbors", "label": "nearest neighbours"},
        ncm={"estimator": "collapseflow.NearestClassMean", "label": "nearest class mean"},
        lda={"estimator": "collapseflow.LinearDiscriminantAnalysis"},
        rf={"estimator": "collapseflow.RandomForestClassifier"},
    ),
    # The same classifiers as report A's, sooner: see measures/probes.py.
    "reports": _classifiers(
        lr={
            "estimator": "collapseflow.LogisticRegression",
            "parameters": {"max_iter": 1000},
        },
        svm={"estimator": "collapseflow.LinearSVC"},
        lda={"estimator": "collapseflow.LinearDiscriminantAnalysis"},
        rf={"estimator": "collapseflow.RandomForestClassifier"},
    ),
    # Report A's own calls.
    "report_a": _classifiers(
        lr={
            "estimator": "sklearn.linear_model.LogisticRegression",
            "parameters": {"solver": "saga", "max_iter": 1000},
        },
        svm={"estimator": "sklearn.svm.LinearSVC"},
        lda={"estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"},
        rf={"estimator": "sklearn.ensemble.RandomForestClassifier"},
    ),
}


def _of_presets(asked: Any) -> Any:
    """The classifiers of a preset's name, or of a list of names; a table as it is."""
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, list):
        return asked
    table: dict[str, dict] = {}
    for name in names:
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(
                f"classifiers: {name!r} is no preset; {instead(str(name), PRESETS)}, "
                "a list of them, or a table of classifiers"
            )
        for key, entry in PRESETS[name].items():
            if table.setdefault(key, entry) != entry:
                raise ValueError(
                    f"classifiers: {name!r} has another {key!r} than the presets before it; "
                    "allowed: one of them"
                )
    return table


class Study(Section):
    """A whole study file."""

    study: StudyName
    seed: Seed = 0
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS)] | None = None
    device: Device = "auto"
    gpus: at_most(64) = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    reading_precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    threads: at_most(1_024) = 8
    test_fraction: Fraction = 0.2
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]
    scattering: Scattering = Scattering()
    backbones: dict[Name, Backbone] = {}
    recipes: dict[PointName, Recipe] = {"finetuned": Recipe()}
    analyses: list[Literal[ANALYSES]] = []
    runs: list[Selection] | None = None
    trainings: dict[Name, Training] = {}
    features: list[str] | None = None
    pretrain: Pretrain = Pretrain()
    classifiers: dict[Name, Classifier] = Field(
        default_factory=lambda: {k: Classifier(**v) for k, v in PRESETS["default"].items()}
    )
    embedding: Embedding = Embedding()
    variance: Variance | None = None
    style: Style = Style()

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthands(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        if "classifiers" in data:
            data["classifiers"] = _of_presets(data["classifiers"])
        backbones = data.get("backbones")
        if isinstance(backbones, Mapping):
            data["backbones"] = {
                key: {"model": key, **value} if isinstance(value, Mapping) else value
                for key, value in backbones.items()
            }
        if "recipes" in data:
            _refuse_large_sweeps(data["recipes"])
            data["recipes"] = expand(data["recipes"])
        return data

    @model_validator(mode="after")
    def _names_refer_to_something(self) -> "Study":
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: each may stand only once")
        for point, recipe in self.recipes.items():
            if point != point_name(recipe_of(point), setting_of(point, recipe)):
                raise ValueError(f"recipes: {point!r} is no name; allowed: {PATTERNS[NAME]}")
            folder = point.partition("/")[2]
            if len(folder) > LONGEST_POINT:
                raise ValueError(
                    f"recipes.{recipe_of(point)}: sweeps so many keys that a folder's name, "
                    f"{folder[:40]}..., has {len(folder)} characters; allowed: {LONGEST_POINT}"
                )
        combinations = (
            (len(self.datasets), "data sets"),
            (sum(len(b.weights) for b in self.backbones.values()), "weights of backbones"),
            (len(self.recipes), "recipes"),
            (len(self.training_seeds()), "seeds"),
        )
        n_runs = math.prod(n for n, _ in combinations)
        if n_runs > MOST_RUNS:
            words = " x ".join(f"{n} {what}" for n, what in combinations)
            raise ValueError(
                f"runs: {words} are {n_runs} combinations; allowed: {MOST_RUNS}, in one study"
            )
        for name in WITHOUT_NETWORK:
            if name in self.backbones:
                raise ValueError(
                    f"backbones.{name}: is what features without a network are called; "
                    "allowed: another name"
                )
        self._selections_take_something()
        recipes = list(dict.fromkeys([*map(recipe_of, self.recipes), *self.trainings]))
        for name in self.style.only.recipes:
            if name not in recipes:
                raise ValueError(
                    f"style.only.recipes: {name!r} is unknown; {instead(name, recipes)}"
                )
        self._trainings_are_of_the_study()
        self._features_are_known("features", self.features or [], list(self.datasets))
        if self.gpus > 1 and self.device.startswith("cuda:"):
            raise ValueError(
                f"gpus: {self.gpus} cards, but device is {self.device!r}; "
                "allowed: 1, or device auto or cuda"
            )
        if self.variance and self.variance.dataset not in self.datasets:
            raise ValueError(
                f"variance.dataset: {self.variance.dataset!r} is unknown; "
                f"{instead(self.variance.dataset, self.datasets)}"
            )
        if self.variance:
            asked = self.variance
            self._features_are_known("variance.features", asked.features, [asked.dataset])
        if not self.classifiers:
            raise ValueError("classifiers: is empty; allowed: a preset or a table of classifiers")
        if len(set(self.analyses)) < len(self.analyses):
            raise ValueError("analyses: each may stand only once")
        if "transfer" in self.analyses and TRANSFER_PROBE not in self.classifiers:
            raise ValueError(
                f"analyses: 'transfer' needs the accuracy of a classifier {TRANSFER_PROBE!r}; "
                "allowed: with the preset 'default' among classifiers"
            )
        self._labels_tell_apart()
        for name, dataset in self.datasets.items():
            J, size = self.scattering_of(name).J, dataset.image_size and min(dataset.image_size)
            key = f"datasets.{name}.scattering.J" if dataset.scattering else "scattering.J"
            too_small = size is not None and size.bit_length() <= J
            if too_small and dataset.size:
                raise ValueError(
                    f"datasets.{name}.size: {dataset.size} is less than the 2^{J} pixels that "
                    f"{key} averages over; allowed: 2^{J} or more"
                )
            if too_small:
                raise ValueError(
                    f"{key}: {J} averages over 2^{J} pixels, more than the {size} of "
                    f"datasets.{name}; allowed: up to {size.bit_length() - 1}"
                )
        for key, batch_size in self._training_batches().items():
            if batch_size < self.gpus:
                raise ValueError(
                    f"{key}: {batch_size} images are fewer than gpus, which share each "
                    f"batch; allowed: {self.gpus} or more"
                )
        for key, backbone in self.backbones.items():
            sources = (*WEIGHT_SOURCES, *(f"{PRETRAINED_ON}{name}" for name in self.with_images))
            for source in backbone.weights:
                state = weight_state(source)
                is_file = not is_pretrained(source) and Path(source).is_file()
                # Which names a family has is known to its library.
                if source not in sources and not is_file and not is_distributed(state):
                    raise ValueError(
                        f"backbones.{key}.weights: {source!r} is no file; "
                        f"{instead(source, sources)}, or the path of a state dict or wheel"
                    )
            if backbone.normalize == OF_DATASET:
                self._data_sets_have_statistics(key, backbone)
            told = backbone.classes_of_weights
            if told is not None and told not in self.datasets:
                raise ValueError(
                    f"backbones.{key}.classes_of_weights: {told!r} is no data set of the study; "
                    f"{instead(told, self.datasets)}"
                )
        return self

    def _data_sets_have_statistics(self, key: str, backbone: Backbone) -> None:
        """What a network is normalised by stands in the file of every data set that it sees."""
        for name in self.with_images:
            if self.datasets[name].mean is None:
                raise ValueError(
                    f"backbones.{key}.normalize: 'dataset', but datasets.{name} has no mean and "
                    "std; allowed: with both there, or imagenet or none here"
                )
        if "pretrain" in backbone.weights:
            raise ValueError(
                f"backbones.{key}.weights: 'pretrain' trains on letters, which have no mean and "
                "std for normalize 'dataset'; allowed: pretrain-DATASET, or imagenet or none as "
                "normalize"
            )

    def _labels_tell_apart(self) -> None:
        """No two of what a figure may show beside one another have one label."""
        # Without a label data sets are called by their source.
        shown = [("datasets", k, "", d.label) for k, d in self.datasets.items() if d.label]
        shown += [("classifiers", k, "", c.label or k) for k, c in self.classifiers.items()]
        for run in self.run_names:
            recipe = recipe_of(run.recipe)
            called = self.backbones[run.backbone].label, self.courses[run.recipe].label
            shown.append(("backbones", run.backbone, run.dataset, called[0] or run.backbone))
            shown.append(("recipes", recipe, run.dataset, called[1] or recipe))
        first: dict[tuple[str, str, str], str] = {}
        for key, name, dataset, label in shown:
            other = first.setdefault((key, dataset, label), name)
            if other != name:
                raise ValueError(
                    f"{key}.{name}.label: {label!r} is what {key}.{other} is called, too; "
                    "allowed: another label"
                )

    def _features_are_known(self, key: str, names: list[str], datasets: list[str]) -> None:
        known = self.feature_names(datasets)
        for name in names:
            if name not in known:
                raise ValueError(f"{key}: {name!r} is unknown; {instead(name, known)}")
        if len(set(names)) < len(names):
            raise ValueError(f"{key}: each name may stand only once")

    def _selections_take_something(self) -> None:
        """Each name of a selection is one of the study's, and each selection takes a run."""
        known = {
            "datasets": list(self.datasets),
            "backbones": list(self.backbones),
            "starts": [s for b in self.backbones.values() for s in map(weight_state, b.weights)],
            "recipes": list(map(recipe_of, self.recipes)),
            "seeds": self.training_seeds(),
        }
        for position, selection in enumerate(self.runs or []):
            for key, names in known.items():
                for name in getattr(selection, key) or []:
                    if name not in names:
                        allowed = list(dict.fromkeys(map(str, names)))
                        raise ValueError(
                            f"runs.{position}.{key}: {name!r} is unknown; "
                            f"{instead(str(name), allowed)}"
                        )
            if not any(map(selection.takes, self._all_runs())):
                raise ValueError(f"runs.{position}: takes no run; allowed: what the study has")

    def _trainings_are_of_the_study(self) -> None:
        """What trainings made elsewhere name is there, and their own names are free."""
        for name, training in self.trainings.items():
            here = f"trainings.{name}"
            if name in map(recipe_of, self.recipes):
                raise ValueError(f"{here}: is what a recipe is called; allowed: another name")
            known = {"backbone": self.backbones, "dataset": self.with_images}
            for key, names in known.items():
                asked = getattr(training, key)
                if asked not in names:
                    raise ValueError(f"{here}.{key}: {asked!r} is unknown; {instead(asked, names)}")
            starts = list(map(weight_state, self.backbones[training.backbone].weights))
            if training.start is not None and training.start not in starts:
                raise ValueError(
                    f"{here}.start: {training.start!r} is unknown; "
                    f"{instead(training.start, starts)}"
                )
            if training.seed is not None and training.seed not in self.training_seeds():
                raise ValueError(
                    f"{here}.seed: {training.seed} is no seed of the study; allowed: "
                    f"{', '.join(map(str, self.training_seeds()))} (the key seeds)"
                )
            try:
                (first, files), *others = self.checkpoints[name].items()
            except UserError as error:
                raise ValueError(f"{here}.checkpoints: {error}") from None
            for seed, its_own in others:
                for epoch in sorted(files.keys() ^ its_own.keys())[:1]:
                    lacks, has = (first, seed) if epoch in its_own else (seed, first)
                    raise ValueError(
                        f"{here}.checkpoints: seed {has} has a file of epoch {epoch}, seed {lacks} "
                        "has none; allowed: the same epochs of all seeds"
                    )
            if others and training.log and SEED not in training.log:
                raise ValueError(
                    f"{here}.log: {training.log!r} is one for several seeds; allowed: with {SEED}"
                )
            for log in (log for seed in self.checkpoints[name] for log in training.logs(seed)):
                if not _is_file(log):
                    raise ValueError(f"{here}.log: {log} is no file here; allowed: a CSV file")

    def _training_batches(self) -> dict[str, int]:
        """The batch sizes of all trainings, by their keys."""
        trained = dict.fromkeys(run.recipe for run in self.trained_names)
        batches = {
            f"recipes.{recipe_of(point)}.batch_size": self.recipes[point].batch_size
            for point in sorted(trained, key=lambda p: -self.recipes[p].batch_size)
        }
        if any(map(is_pretrained, self._weight_sources())):
            batches["pretrain.batch_size"] = self.pretrain.batch_size
        return batches

    @model_validator(mode="after")
    def _images_are_enough(self) -> "Study":
        """What is asked for against the numbers of images, as far as they are known beforehand."""
        letters = divided(self.pretrain.images, self.test_fraction)["train"]
        if self.pretrain.batch_size > letters:
            raise ValueError(
                f"pretrain.batch_size: {self.pretrain.batch_size} is more than the {letters} "
                f"training images among pretrain.images; allowed: up to {letters}"
            )
        for name, dataset in self.datasets.items():
            for split, n in (n_images(dataset.source, self.test_fraction) or {}).items():
                if n == 0:
                    raise ValueError(
                        f"test_fraction: {self.test_fraction} leaves no {split} image of "
                        f"datasets.{name}; allowed: a larger fraction, of which one image is left"
                    )
                asked = getattr(dataset.subset, split)
                if asked is not None and asked > n:
                    raise ValueError(
                        f"datasets.{name}.subset.{split}: {asked} is more than the {n} images of "
                        f"{dataset.source}; allowed: up to {n}"
                    )
            n = n_used(dataset.model_dump(), self.test_fraction).get("train")
            asked_for = {f"classifiers.{k}.n_train": c.n_train for k, c in self.classifiers.items()}
            if f"{PRETRAINED_ON}{name}" in self._weight_sources():
                asked_for["pretrain.batch_size"] = self.pretrain.batch_size
            for run in self.trained_names:
                if run.dataset == name:
                    key = f"recipes.{recipe_of(run.recipe)}.batch_size"
                    largest = max(asked_for.get(key, 0), self.recipes[run.recipe].batch_size)
                    asked_for[key] = largest
            for key, asked in asked_for.items():
                if asked is not None and n is not None and asked > n:
                    raise ValueError(
                        f"{key}: {asked} is more than the {n} training images of "
                        f"datasets.{name}; allowed: up to {n}"
                    )
            if n is not None:
                self._held_out_are_enough(name, n)
        return self

    def _held_out_are_enough(self, dataset: str, n: int) -> None:
        """Images are held out, and a batch of the others is left."""
        trained = dict.fromkeys(run.recipe for run in self.trained_names if run.dataset == dataset)
        for point in trained:
            key, recipe = f"recipes.{recipe_of(point)}", self.recipes[point]
            if recipe.share_held_out is None:
                continue
            left = divided(n, recipe.share_held_out)["train"]
            if left == n:
                raise ValueError(
                    f"{key}.validation: {recipe.share_held_out} of the {n} training images of "
                    f"datasets.{dataset} is none; allowed: a share with at least one image"
                )
            if recipe.batch_size > left:
                raise ValueError(
                    f"{key}.batch_size: {recipe.batch_size} is more than the {left} training "
                    f"images of datasets.{dataset} that validation leaves; allowed: up to {left}"
                )

    # --- what follows from several keys ---------------------------------------------------

    @cached_property
    def vectors(self) -> dict[str, dict[str, str]]:
        """The files of vectors of each data set, by their names; none where it has images."""
        return {name: dataset.vectors() for name, dataset in self.datasets.items()}

    @cached_property
    def epochs_of_vectors(self) -> dict[str, dict[str, tuple[str, int]]]:
        """Of the vectors of each data set that are epochs the series and the epoch, by names."""
        return {name: dataset.epochs_of_vectors() for name, dataset in self.datasets.items()}

    @property
    def with_images(self) -> list[str]:
        """The data sets that have images."""
        return [name for name, dataset in self.datasets.items() if dataset.source != VECTORS]

    def training_seeds(self) -> list[int]:
        """The seeds of trainings and of random weights."""
        return self.seeds or [self.seed]

    def _weight_sources(self) -> set[str]:
        return {source for backbone in self.backbones.values() for source in backbone.weights}

    def _all_runs(self) -> Iterator[RunName]:
        for dataset in self.with_images:
            for key, backbone in self.backbones.items():
                for start in map(weight_state, backbone.weights):
                    for recipe in self.recipes:
                        for seed in self.training_seeds():
                            yield RunName(dataset, key, start, recipe, seed)

    @cached_property
    def courses(self) -> dict[str, Recipe]:
        """What says which epochs a run has, by the name that the run has it under: the points of
        recipes, and trainings made elsewhere."""
        courses = dict(self.recipes)
        for name, by_seed in self.checkpoints.items():
            # A recipe's other keys say nothing of it.
            epochs, label = list(next(iter(by_seed.values()))), self.trainings[name].label
            courses[name] = Recipe(epochs=epochs[-1], measure=epochs, label=label)
        return courses

    @cached_property
    def checkpoints(self) -> dict[str, dict[int, dict[int, str]]]:
        """Of each training made elsewhere, of each seed, the files by epoch."""
        found = {}
        for name, training in self.trainings.items():
            seeds = self.training_seeds()
            if training.seed is not None:
                seeds = [training.seed]
            elif SEED not in training.checkpoints:
                seeds = seeds[:1]
            found[name] = {seed: training.files(seed) for seed in seeds}
        return found

    @property
    def run_names(self) -> list[RunName]:
        """The runs of the study, in the order of its keys; those made elsewhere come last."""
        elsewhere = [
            RunName(
                *(t.dataset, t.backbone),
                t.start or weight_state(self.backbones[t.backbone].weights[0]),
                *(name, seed),
            )
            for name, t in self.trainings.items()
            for seed in self.checkpoints[name]
        ]
        return [*self.trained_names, *elsewhere]

    @cached_property
    def trained_names(self) -> list[RunName]:
        """The runs that the study trains."""
        selections = self.runs
        return [
            run
            for run in self._all_runs()
            if selections is None or any(selection.takes(run) for selection in selections)
        ]

    def feature_names(self, datasets: Collection[str]) -> list[str]:
        """Every name that ``features`` may hold for some data sets; one names all layers, recipes
        and seeds of it."""
        trained = {run.backbone for run in self.run_names if run.dataset in datasets}
        names = list(WITHOUT_NETWORK)
        for key, backbone in self.backbones.items():
            names += [f"{key}-{weight_state(source)}" for source in backbone.weights]
            names += [f"{key}-finetuned"] if key in trained else []
        of_images = names if any(name in self.with_images for name in datasets) else []
        return list(dict.fromkeys([*of_images, *(v for d in datasets for v in self.vectors[d])]))

    def precision_of_reading(self) -> Literal["float32", "tf32", "bfloat16"]:
        """The precision in which features are read: float32, unless another one is asked for.

        Rounding puts a floor under NC1 (docs/performance.md), and which features a study has should
        not depend on the machine that read them.
        """
        if self.reading_precision != "auto":
            return self.reading_precision
        return "bfloat16" if self.precision == "bfloat16" else "float32"

    def scattering_of(self, dataset: str) -> Scattering:
        """The scattering parameters of one data set."""
        return self.datasets[dataset].scattering or self.scattering

    def distributed_weights(self) -> list[str]:
        """The names of weights that families of networks distribute."""
        states = map(weight_state, sorted(self._weight_sources()))
        return [state for state in states if is_distributed(state)]

    def weights_file(self, key: str) -> str:
        """The local file among a backbone's sources of weights."""
        return next(w for w in self.backbones[key].weights if weight_state(w) == "file")

    def wheel(self, key: str) -> str:
        """The wheel that a backbone's weights are taken from: a local one, or a download."""
        backbone = self.backbones[key]
        local = [w for w in backbone.weights if w.endswith(WHEEL)]
        return local[0] if local else f"resources/packages/{PACKAGES[backbone.model].wheel}"


def _refuse_large_sweeps(recipes: Any) -> None:
    """Refuse lists that open too many points before they are opened."""
    n_points = 0
    for name, recipe in recipes.items() if isinstance(recipes, Mapping) else ():
        keys = recipe.items() if isinstance(recipe, Mapping) else ()
        n_points += math.prod(len(v) for k, v in keys if isinstance(v, list) and k not in NOT_SWEPT)
        if n_points > MOST_POINTS:
            raise ValueError(
                f"recipes.{name}: its lists open more than {MOST_POINTS} combinations, with those "
                f"of the recipes before it; allowed: up to {MOST_POINTS}"
            )


def _may_exist(location: str) -> bool:
    """Whether a place is on the web, or a folder that is there."""
    parts = urlparse(location)
    if parts.scheme in ("http", "https"):
        return True
    return _is_folder(url2pathname(parts.path) if parts.scheme == "file" else location)


def _is_file(path: str) -> bool:
    return Path(os.path.expanduser(path)).is_file()


def _is_folder(path: str) -> bool:
    return Path(os.path.expanduser(path)).is_dir()


#: Whether what :data:`PLACES` names stands at a place.
KINDS = {"file": _is_file, "folder": _is_folder}


def is_pretrained(start: str) -> bool:
    """Whether weights are trained from random ones within the study, on whatever data."""
    return start == "pretrain" or start.startswith(PRETRAINED_ON)


def is_seeded(start: str) -> bool:
    """Whether a seed decides what weights are."""
    return start == "random" or is_pretrained(start)


def weight_state(source: str) -> str:
    """The part of a feature set's name that says where the weights come from."""
    if source.endswith(WHEEL):
        return "package"
    is_name = re.fullmatch(r"\w+", source, flags=re.ASCII)
    return source if is_name or is_pretrained(source) else "file"


def is_distributed(start: str) -> bool:
    """Whether weights are those that a family of networks distributes, by their name."""
    ours = ("package", "random", "file")
    return start not in ours and not is_pretrained(start)


def load(config: Mapping[str, Any]) -> Study:
    """Check a study file's content.

    Raises
    ------
    UserError
        One line for each thing that is wrong: the key, the value and what is allowed.
    """
    try:
        return Study.model_validate(dict(config))
    except ValidationError as error:
        lines = [printable(_one_line(e)) for e in error.errors(include_url=False)]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def _one_line(error: Mapping[str, Any]) -> str:
    location = ".".join(map(str, _path(error["loc"])))
    if error["type"] == "value_error":
        message = re.sub(r"^Value error, ", "", error["msg"])
        if not location:
            return f"config key {message}"
        # A section's own check names the key first, or speaks of the whole section.
        return (
            f"config key {location}{'.' if re.match(r'[a-z0-9_]+: ', message) else ': '}{message}"
        )
    if error["type"] == "missing":
        return f"config key {location}: is missing"
    if error["type"] == "extra_forbidden":
        key = error["loc"][-1]
        if ":" in str(key):
            return f"config key {location}: is unknown; YAML wants a space behind the colon"
        return f"config key {location}: is unknown; {instead(key, _allowed_keys(error['loc']))}"
    value = error["input"]
    if error["loc"][0] == "recipes" and error["loc"][-1] == "[key]" and isinstance(value, str):
        value = recipe_of(value)
    value = json.dumps(value, default=str, ensure_ascii=False)
    if len(value) > 80:
        value = f"{value[:77]}..."
    return f"config key {location}: value {value} is refused; {_what_is_allowed(error)}"


def _what_is_allowed(error: Mapping[str, Any]) -> str:
    """What may stand in the place of a value, in words: none of the library's."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "literal_error":
        name = torchvision_name(value) if isinstance(value, str) else None
        ours = {source.replace("_", "") for source in DATA_SOURCES}
        if error["loc"][-1] == "source" and name and name.casefold() not in ours:
            return f"write source: torchvision, name: {name}"
        return instead(value, re.findall(r"\w+", re.sub(r" or |'", " ", context["expected"])))
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return _as_number(value, kind == "int_type")
    if kind == "string_type" and error["loc"][-1] == "[key]":
        return f"allowed: {PATTERNS[NAME]}"
    if kind == "string_type" and isinstance(value, bool):
        return "allowed: text, in quotes where it is yes, no, on, off, true or false"
    if kind == "string_type" and isinstance(value, int | float):
        return f"allowed: text, in quotes: {json.dumps(str(value).lower())}"
    words = {
        "string_pattern_mismatch": lambda: PATTERNS[context["pattern"]],
        "string_type": lambda: "text",
        "int_type": lambda: "a whole number",
        "int_parsing_size": lambda: "a smaller number",
        "float_type": lambda: "a number",
        "bool_type": lambda: "true or false",
        "greater_than": lambda: f"more than {context['gt']:g}",
        "greater_than_equal": lambda: f"{context['ge']:g} or more",
        "less_than": lambda: f"less than {context['lt']:.10g}",
        "less_than_equal": lambda: f"up to {context['le']:.10g}",
        "finite_number": lambda: "a finite number",
        "list_type": lambda: "a list, for example [a, b]",
        "too_short": lambda: f"at least {context['min_length']} entry",
        "too_long": lambda: f"up to {context['max_length']} entries",
        "allowed": lambda: error["msg"],
    }
    sections = ("dict_type", "model_type", "model_attributes_type")
    if kind in sections:
        return "allowed: a section, that is keys with values"
    if kind == "invalid_key":
        return f"allowed: names as keys, in quotes: {json.dumps(str(value))}"
    return f"allowed: {words[kind]() if kind in words else 'what config/README.md says'}"


def _as_number(text: str, whole: bool) -> str:
    """How to write a number that YAML has read as text."""
    allowed = f"allowed: a {'whole ' if whole else ''}number"
    try:
        value = float(text)
    except ValueError:
        return allowed
    if not math.isfinite(value):
        return allowed
    if whole:
        return f"write {int(value)}" if value.is_integer() else allowed
    return f"write {text.strip()} without quotes"


def _path(location: tuple) -> list:
    """An error's place as the user knows it: without the library's tags and names of points."""
    path = [part for part in location if not _is_type_tag(part)]
    if path[:1] == ["recipes"] and len(path) > 1:
        path[1] = recipe_of(str(path[1]))
    return path


def _is_type_tag(part: object) -> bool:
    return isinstance(part, str) and (part.startswith("function-") or part == "[key]")


def _allowed_keys(location: tuple) -> list[str]:
    """The keys of the section that an unknown key stands in."""
    tables = {
        "datasets": Dataset,
        "backbones": Backbone,
        "recipes": Recipe,
        "classifiers": Classifier,
        "runs": Selection,
        "trainings": Training,
    }
    sections = {
        "scattering": Scattering,
        "subset": Subset,
        "imbalance": Imbalance,
        "pretrain": Pretrain,
        "embedding": Embedding,
        "variance": Variance,
        "style": Style,
        "only": Only,
    }
    path = _path(location[:-1])
    model: type[Section] = Study
    if path and path[0] in tables:
        # The second part is a name that the user gave, whatever it is.
        model, path = tables[path[0]], path[2:]
    for part in path:
        model = sections[part]
    return sorted(model.model_fields)
