"""The study file: what is wrong is reported in one line each, before any job runs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from collapseflow import config
from collapseflow.config import check_against_libraries, check_once, load
from collapseflow.errors import UserError

ROOT = Path(__file__).parents[1]
DIGITS = {"digits": {"source": "digits"}}
RESNET = {"resnet18": {"weights": ["random"]}}


def study(**keys):
    return {"study": "toy", "datasets": DIGITS, **keys}


def dataset(**keys):
    return study(datasets={"mine": {"source": "digits", **keys}})


def backbone(**keys):
    return study(backbones={"net": {"model": "resnet18", "weights": ["random"], **keys}})


def refusal(content):
    with pytest.raises(UserError) as caught:
        load(content)
    return str(caught.value)


# --- what is right ----------------------------------------------------------------------------


def test_a_name_and_a_data_set_are_enough():
    loaded = load(study())
    assert loaded.study == "toy"
    assert loaded.datasets["digits"].source == "digits"
    assert loaded.seed == 0
    assert loaded.compared_features() == ["raw", "scattering"]
    assert set(loaded.classifiers) == {"lr", "svm", "lda", "rf"}


def test_the_defaults_of_fine_tuning_are_report_a_s():
    loaded = load(study(backbones={"resnet18": {}}))
    tuning = loaded.finetune
    assert (tuning.epochs, tuning.batch_size) == (10, 512)
    assert (tuning.learning_rate, tuning.head_gain) == (2e-4, 0.02)
    net = loaded.backbones["resnet18"]
    assert (net.model, net.image_size, net.normalize) == ("resnet18", 224, "imagenet")
    assert net.weights == ["imagenet"]


def test_the_preset_of_report_a_has_its_calls():
    classifiers = load(study(classifiers="report_a")).classifiers
    assert classifiers["lr"].parameters == {"solver": "saga", "max_iter": 1000}
    assert all(classifiers[name].parameters == {} for name in ("svm", "lda", "rf"))
    assert {c.scaling for c in classifiers.values()} == {"none"}


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "config").glob("*.yaml")))
def test_the_studies_that_come_along_are_right(file):
    content = yaml.safe_load((ROOT / "config" / file).read_text(encoding="utf-8"))
    assert load(content).datasets


def test_feature_sets_are_named_by_backbone_and_weights(tmp_path):
    weights = tmp_path / "mine.safetensors"
    weights.touch()
    loaded = load(
        study(
            backbones={
                "a": {"model": "resnet18", "weights": ["random", str(weights)]},
                "b": {"model": "resnet34", "finetune": False},
            },
            finetune={"epochs": 3},
        )
    )
    assert set(loaded.feature_names()) == {
        "raw",
        "scattering",
        "a-random",
        "a-file",
        "a-finetuned",
        "b-imagenet",
    }
    assert loaded.feature_names()["a-finetuned"] == "a-epoch003"
    assert loaded.finetuned_backbones() == ["a"]
    assert loaded.weights_file("a") == str(weights)


#: The part of config/README.md that explains each section, and how it writes a key.
EXPLAINED = {
    config.Study: ("Top level", "{}"),
    config.Dataset: ("datasets.<name>", "{}"),
    config.Subset: ("datasets.<name>", "{}"),
    config.Scattering: ("scattering", "{}"),
    config.Backbone: ("backbones.<name>", "{}"),
    config.Pretrain: ("pretrain, finetune", "pretrain.{}"),
    config.Finetune: ("pretrain, finetune", "finetune.{}"),
    config.Classifier: ("classifiers", "{}"),
    config.Embedding: ("embedding", "{}"),
    config.Variance: ("variance", "{}"),
    config.Style: ("style", "{}"),
}


def test_every_section_of_the_schema_is_looked_up_in_the_readme():
    assert set(EXPLAINED) == set(config.Section.__subclasses__())


@pytest.mark.parametrize(
    ("section", "key"),
    [(section, key) for section in EXPLAINED for key in section.model_fields],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_key_is_explained_in_backticks(section, key):
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    headings = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    parts = dict(zip(headings[1::2], headings[2::2], strict=True))
    parts = {heading.replace("`", ""): part for heading, part in parts.items()}
    heading, notation = EXPLAINED[section]
    code = re.findall(r"`([^`\n]+)`", parts[heading])
    assert notation.format(key) in {word for span in code for word in re.findall(r"[\w.]+", span)}


# --- what is wrong ----------------------------------------------------------------------------

CASES = {
    # name: (study, key, value as it is printed, something that is allowed)
    "unknown key": (study(colour=1), "colour", "unknown", "datasets"),
    "unknown key in a data set": (dataset(sise=3), "datasets.mine.sise", "unknown", "size"),
    "unknown key in a section": (study(finetune={"epoch": 3}), "finetune.epoch", "", "epochs"),
    "unknown key in a backbone": (backbone(layers="fc"), "backbones.net.layers", "", "layer"),
    "number as text": (study(seed="1"), "seed", '"1"', "integer"),
    "text as number": (study(study=5), "study", "5", "string"),
    "negative": (study(seed=-1), "seed", "-1", "0"),
    "zero epochs": (study(finetune={"epochs": 0}), "finetune.epochs", "0", "greater than 0"),
    "fraction of a whole": (study(test_fraction=1.5), "test_fraction", "1.5", "less than 1"),
    "device": (study(device="gpu"), "device", '"gpu"', "auto"),
    "precision": (study(precision="float16"), "precision", '"float16"', "'bfloat16'"),
    "gpus": (study(gpus=0), "gpus", "0", "greater than 0"),
    "gpus of one card": (study(gpus=2, device="cuda:1"), "gpus", "2 cards", "device auto or cuda"),
    "order": (study(scattering={"order": 3}), "scattering.order", "3", "1 or 2"),
    "pool": (backbone(pool="max"), "backbones.net.pool", '"max"', "average"),
    "source": (
        study(datasets={"mine": {"source": "cifar"}}),
        "datasets.mine.source",
        '"cifar"',
        "fashion_mnist",
    ),
    "preset": (study(classifiers="best"), "classifiers", "'best'", "report_a"),
    "no classifiers": (study(classifiers={}), "classifiers", "empty", "preset"),
    "estimator elsewhere": (
        study(classifiers={"mine": {"estimator": "torch.nn.Linear"}}),
        "classifiers.mine.estimator",
        "torch.nn.Linear",
        "sklearn",
    ),
    "feature name": (
        study(features=["raw", "resnet18-imagenet"], backbones=RESNET),
        "features",
        "'resnet18-imagenet'",
        "resnet18-random",
    ),
    "feature name of a backbone that is not fine-tuned": (
        study(features=["net-finetuned"], backbones=backbone(finetune=False)["backbones"]),
        "features",
        "'net-finetuned'",
        "net-random",
    ),
    "no features": (study(features=[]), "features", "empty", "scattering"),
    "feature name of the variances": (
        study(variance={"dataset": "digits", "features": ["zip"]}),
        "variance.features",
        "'zip'",
        "raw",
    ),
    "data set of the variances": (
        study(variance={"dataset": "mnist", "features": ["raw"]}),
        "variance.dataset",
        "'mnist'",
        "digits",
    ),
    "file of weights": (
        backbone(weights=["no/such/file.pth"]),
        "backbones.net.weights",
        "'no/such/file.pth'",
        "pretrain",
    ),
    "batch larger than the subset": (
        {**backbone(), "datasets": {"mine": {"source": "digits", "subset": {"train": 100}}}},
        "finetune.batch_size",
        "512",
        "up to 100",
    ),
    "batch larger than the letters": (
        study(pretrain={"images": 100}),
        "pretrain.batch_size",
        "128",
        "up to 100",
    ),
    "batch smaller than the cards": (
        {**backbone(), "gpus": 4, "finetune": {"batch_size": 3}},
        "finetune.batch_size",
        "3",
        "4 or more",
    ),
    "batch of letters smaller than the cards": (
        {**backbone(weights=["pretrain"]), "gpus": 4, "pretrain": {"batch_size": 3}},
        "pretrain.batch_size",
        "3",
        "4 or more",
    ),
    "digest": (
        study(datasets={"mine": {"source": "idx", "location": ["x"], "sha256": {"a": "0123"}}}),
        "datasets.mine.sha256.a",
        '"0123"',
        "{64}",
    ),
    "name of a data set": (
        study(datasets={"my-set": {"source": "digits"}}),
        "datasets.my-set",
        "",
        "A-Z",
    ),
    "no data sets": (study(datasets={}), "datasets", "{}", "at least 1"),
    "list of data sets": (study(datasets=["digits"]), "datasets", "digits", "dictionary"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_the_key_the_value_and_what_is_allowed(case):
    content, key, value, allowed = CASES[case]
    line = refusal(content)
    assert "\n" not in line
    assert line.startswith(f"config key {key}: ")
    before, _, after = line.partition("allowed: ")
    assert value in before
    assert allowed in after


@pytest.mark.parametrize("key", ["study", "datasets"])
def test_a_missing_key_is_named(key):
    content = study()
    del content[key]
    assert refusal(content) == f"config key {key}: is missing"


def test_a_missing_key_of_a_section_is_named():
    line = refusal(study(datasets={"mine": {"label": "Mine"}}))
    assert line == "config key datasets.mine.source: is missing"


@pytest.mark.parametrize(
    ("source", "key", "value", "allowed"),
    [
        ("digits", "location", ["folder"], "idx"),
        ("torchvision", "location", ["folder"], "mnist"),
        ("mnist", "sha256", {"train": "0" * 64}, "torchvision"),
        ("letters", "name", "CIFAR10", "torchvision"),
        ("idx", "arguments", {"split": "letters"}, "torchvision"),
        ("mnist5k", "size", 28, "torchvision"),
    ],
)
def test_a_key_that_does_not_fit_the_source_is_refused(source, key, value, allowed):
    entry = {"source": source, "name": "CIFAR10"} if source == "torchvision" else {"source": source}
    if source == "idx":
        entry["location"] = ["folder"]
    line = refusal(study(datasets={"mine": {**entry, key: value}}))
    assert line.startswith("config key datasets.mine: ")
    assert f"'{key}'" in line and f"'{source}'" in line and allowed in line
    assert "\n" not in line


@pytest.mark.parametrize(("source", "key"), [("idx", "location"), ("torchvision", "name")])
def test_a_key_that_the_source_needs_is_named(source, key):
    line = refusal(study(datasets={"mine": {"source": source}}))
    assert line.startswith("config key datasets.mine: ")
    assert f"'{source}'" in line and f"'{key}'" in line


@pytest.mark.parametrize(
    "content",
    [
        study(features=["raw", "raw"]),
        backbone(weights=["random", "random"]),
        study(variance={"dataset": "digits", "features": ["raw", "raw"]}),
    ],
)
def test_names_that_stand_twice_are_refused(content):
    line = refusal(content)
    assert "once" in line and "\n" not in line


def test_everything_that_is_wrong_is_reported_a_line_each():
    lines = refusal(study(seed=-1, device="gpu", colour=3)).splitlines()
    assert len(lines) == 3
    for key in ("seed", "device", "colour"):
        assert sum(line.startswith(f"config key {key}: ") for line in lines) == 1


def test_a_large_batch_is_fine_where_nothing_is_fine_tuned():
    small = {"mine": {"source": "digits", "subset": {"train": 100}}}
    load(study(datasets=small))
    load({**backbone(finetune=False), "datasets": small})
    load({**backbone(), "datasets": small, "features": ["net-random"]})


def test_a_batch_may_be_as_large_as_the_subset():
    small = {"mine": {"source": "digits", "subset": {"train": 512}}}
    load({**backbone(), "datasets": small})


# --- checks that need the libraries -----------------------------------------------------------

WRONG = study(
    backbones={
        "bad_model": {"model": "resnet19", "weights": ["random"]},
        "bad_layer": {"model": "resnet18", "layer": "layer5", "weights": ["random"]},
        "good": {"model": "resnet18", "layer": "flatten", "weights": ["random"]},
    },
    classifiers={
        "bad_parameter": {
            "estimator": "sklearn.linear_model.LogisticRegression",
            "parameters": {"D": 1},
        },
        "bad_class": {"estimator": "sklearn.linear_model.LinearRegression"},
        "good": {"estimator": "sklearn.svm.LinearSVC"},
    },
)


def assert_four_lines(lines):
    assert len(lines) == 4
    model, layer, parameter, estimator = lines
    assert model.startswith("config key backbones.bad_model.model: 'resnet19'")
    assert "allowed: " in model and "resnet18" in model
    assert layer.startswith("config key backbones.bad_layer.layer: 'layer5'")
    assert "allowed: " in layer and "flatten" in layer
    assert parameter.startswith("config key classifiers.bad_parameter.parameters: ")
    assert "'D'" in parameter and "max_iter" in parameter
    assert estimator.startswith("config key classifiers.bad_class.estimator: ")
    assert "LinearRegression" in estimator


def test_what_the_libraries_do_not_have_is_a_line_each():
    assert_four_lines(check_against_libraries(load(WRONG)))


def test_check_once_reports_from_its_own_process_and_remembers_nothing(tmp_path):
    with pytest.raises(UserError) as caught:
        check_once(load(WRONG), tmp_path / "cache")
    assert_four_lines(str(caught.value).splitlines())
    assert not list(tmp_path.rglob("*"))


def test_check_once_remembers_that_a_study_passed(tmp_path, monkeypatch):
    good = study(backbones={"resnet18": {"layer": "flatten", "weights": ["random"]}})
    check_once(load(good), tmp_path / "cache")

    def forbidden(*arguments, **options):
        raise AssertionError("a second process")

    monkeypatch.setattr(subprocess, "run", forbidden)
    check_once(load(good), tmp_path / "cache")
    # What the libraries are not asked about does not matter; what they are asked about does.
    check_once(load({**good, "seed": 7, "threads": 2}), tmp_path / "cache")
    good["backbones"]["resnet18"]["layer"] = "avgpool"
    with pytest.raises(AssertionError, match="second process"):
        check_once(load(good), tmp_path / "cache")


def test_check_once_asks_again_after_an_update(tmp_path, monkeypatch):
    asked = []

    def run(*arguments, **options):
        asked.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    loaded = load(study())
    check_once(loaded, tmp_path)
    check_once(loaded, tmp_path)
    assert len(asked) == 1
    monkeypatch.setattr(config, "version", lambda package: "99.0")
    check_once(loaded, tmp_path)
    assert len(asked) == 2


def test_scattering_wider_than_the_images_is_refused_with_the_largest_scale_that_fits():
    study = {"study": "s", "datasets": {"d": {"source": "digits", "scattering": {"J": 4}}}}
    with pytest.raises(UserError, match=r"^config key datasets\.d\.scattering\.J: 4 .*up to 3$"):
        load(study)


def test_places_that_do_not_exist_are_refused_and_one_that_may_is_enough(tmp_path):
    entry = {"source": "mnist", "location": [str(tmp_path / "absent")]}
    with pytest.raises(UserError, match=r"datasets\.m: location: none of .*absent"):
        load({"study": "s", "datasets": {"m": entry}})
    for place in (str(tmp_path), tmp_path.as_uri(), "http://127.0.0.1:9/"):
        load({"study": "s", "datasets": {"m": {**entry, "location": ["absent", place]}}})
