"""The study file: its schema, its defaults, its checks, and the names derived from it.

:func:`load` turns the mapping that Snakemake read into a :class:`Study`. Whatever is wrong is
reported in one line with the key, the value and what is allowed, before any job runs. The
schema needs neither PyTorch nor scikit-learn; :func:`check_against_libraries`, which does,
runs in a process of its own and its answer is kept.
"""

import hashlib
import json
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
from collapseflow.errors import UserError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
StudyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]

WEIGHT_SOURCES = ("imagenet", "pretrain", "random")
#: Pixels a side of the sources whose images are known beforehand.
IMAGE_SIZES = {"mnist": 28, "fashion_mnist": 28, "mnist5k": 28, "letters": 28, "digits": 8}
DATA_SOURCES = ("mnist", "fashion_mnist", "idx", "torchvision", "mnist5k", "digits", "letters")


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

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> "Dataset":
        needed = {"idx": "location", "torchvision": "name"}.get(self.source)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"source {self.source!r} needs the key {needed!r}")
        allowed = {
            "location": ("mnist", "fashion_mnist", "idx"),
            "sha256": ("idx", "torchvision"),
            "name": ("torchvision",),
            "arguments": ("torchvision",),
            "size": ("torchvision",),
        }
        for key, sources in allowed.items():
            if getattr(self, key) and self.source not in sources:
                raise ValueError(
                    f"key {key!r} goes only with source {' or '.join(sources)}, "
                    f"not with {self.source!r}"
                )
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
            raise ValueError("weights: each source, and one local file at most, may stand once")
        return self


class Pretrain(Section):
    """Training from random weights on letters rendered from matplotlib's fonts."""

    images: PositiveInt = 20_000
    epochs: PositiveInt = 3
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3


class Finetune(Section):
    """Report A's fine-tuning: Adam on all weights, a new last layer, a checkpoint an epoch."""

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 2e-4
    head_gain: PositiveFloat = 0.02


class Classifier(Section):
    """A scikit-learn classifier behind an optional standardisation."""

    estimator: Annotated[str, StringConstraints(pattern=r"^sklearn(\.\w+)+$")]
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


_DEFAULT_CLASSIFIERS: dict[str, dict] = {
    "lr": {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "label": "LR",
        "parameters": {"max_iter": 1000},
    },
    "svm": {"estimator": "sklearn.svm.LinearSVC", "label": "SVM", "parameters": {"dual": False}},
    "lda": {
        "estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "label": "LDA",
    },
    "rf": {"estimator": "sklearn.ensemble.RandomForestClassifier", "label": "RF"},
}
PRESETS: dict[str, dict[str, dict]] = {
    "default": _DEFAULT_CLASSIFIERS,
    # Report A's own calls.
    "report_a": {
        **_DEFAULT_CLASSIFIERS,
        "lr": {
            "estimator": "sklearn.linear_model.LogisticRegression",
            "label": "LR",
            "parameters": {"solver": "saga", "max_iter": 1000},
        },
        "svm": {"estimator": "sklearn.svm.LinearSVC", "label": "SVM"},
    },
}


class Study(Section):
    """A whole study file."""

    study: StudyName
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda|cuda:\d+)$")] = "auto"
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
                    f"classifiers: {preset!r} is no preset; allowed: {', '.join(PRESETS)}, "
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
                    raise ValueError(f"{key}: {name!r} is unknown; allowed: {', '.join(known)}")
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
                f"allowed: {', '.join(self.datasets)}"
            )
        if not self.classifiers:
            raise ValueError("classifiers: is empty; allowed: a preset or a table of classifiers")
        for name, dataset in self.datasets.items():
            J, size = self.scattering_of(name).J, IMAGE_SIZES.get(dataset.source)
            if size and size < 2**J:
                key = f"datasets.{name}.scattering.J" if dataset.scattering else "scattering.J"
                raise ValueError(
                    f"{key}: {J} averages over {2**J} pixels, more than the {size} of "
                    f"datasets.{name}; allowed: up to {size.bit_length() - 1}"
                )
        if self.finetuned_backbones():
            for name, dataset in self.datasets.items():
                n = dataset.subset.train
                if n is not None and n < self.finetune.batch_size:
                    raise ValueError(
                        f"finetune.batch_size: {self.finetune.batch_size} is more than the {n} "
                        f"images of datasets.{name}.subset.train; allowed: up to {n}"
                    )
        if self.pretrain.batch_size > self.pretrain.images:
            raise ValueError(
                f"pretrain.batch_size: {self.pretrain.batch_size} is more than pretrain.images; "
                f"allowed: up to {self.pretrain.images}"
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
                        f"backbones.{key}.weights: {source!r} is no file; allowed: "
                        f"{', '.join(WEIGHT_SOURCES)}, or the path of a state dict"
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

    def scattering_of(self, dataset: str) -> Scattering:
        """The scattering parameters of one data set."""
        return self.datasets[dataset].scattering or self.scattering

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
        if state == "file":
            return f"file {Path(self.weights_file(key)).stem}"
        if state in words:
            return words[state]
        start = weight_state(weights[0])
        start = "a file" if start == "file" else words[start]
        return f"{start} + fine-tuned {int(state.removeprefix('epoch'))} ep."

    def weights_file(self, key: str) -> str:
        """The local file among a backbone's sources of weights."""
        return next(w for w in self.backbones[key].weights if w not in WEIGHT_SOURCES)


def _may_exist(location: str) -> bool:
    """Whether a place is on the web, or a folder that is there."""
    parts = urlparse(location)
    if parts.scheme in ("http", "https"):
        return True
    path = url2pathname(parts.path) if parts.scheme == "file" else location
    return Path(path).expanduser().is_dir()


def weight_state(source: str) -> str:
    """The part of a feature set's name that says where the weights come from."""
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
    message = re.sub(r"^Value error, ", "", error["msg"])
    if error["type"] == "value_error":
        return f"config key {location}: {message}" if location else f"config key {message}"
    if error["type"] == "missing":
        return f"config key {location}: is missing"
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(error["loc"])
        return f"config key {location}: is unknown; allowed: {', '.join(allowed)}"
    message = message[0].lower() + message[1:]
    value = json.dumps(error["input"], default=str)
    return f"config key {location}: value {value} is refused; allowed: {message}"


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
    """Model names, layers and classifier parameters that torchvision and scikit-learn refuse.

    Returns one line for each; an empty list means that all is well. Imports both libraries.
    """
    from collapseflow.classification import build_classifier
    from collapseflow.networks import check_backbone

    lines = []
    for key, backbone in study.backbones.items():
        try:
            check_backbone(backbone.model, backbone.layer, backbone.weights, backbone.pool)
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
        "backbones": {
            key: [b.model, b.layer, b.weights, b.pool] for key, b in sorted(study.backbones.items())
        },
        "classifiers": {key: c.model_dump() for key, c in sorted(study.classifiers.items())},
        "versions": [version("torchvision"), version("scikit-learn"), __version__],
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    passed = cache / f"{digest}.ok"
    if passed.exists():
        return
    answer = subprocess.run(
        [sys.executable, "-m", "collapseflow", "check-config"],
        input=study.model_dump_json(),
        text=True,
        capture_output=True,
        check=False,
    )
    if answer.returncode:
        raise UserError(answer.stdout.strip() or answer.stderr.strip())
    cache.mkdir(parents=True, exist_ok=True)
    passed.touch()
