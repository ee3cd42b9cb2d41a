"""Which experiments the published numbers belong to: the study of the reports, and no other."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from collapseflow import published
from collapseflow.study.plan import Plan
from collapseflow.study.publications import (
    NEUTRAL,
    condition,
    published_classifiers,
    published_features,
    published_minutes,
)
from collapseflow.study.schema import load
from collapseflow.training.recipes import TrainingRecipe

PAPER = yaml.safe_load((Path(__file__).parents[2] / "config" / "paper.yaml").read_text())


def paper(**changes):
    """What follows from the study of the reports, with the values of dotted keys changed."""
    # What is asked for beside has nothing that is published, and needs a classifier of its own.
    content = {**deepcopy(PAPER), "analyses": []}
    for key, value in changes.items():
        *path, last = key.split(".")
        section = content
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return Plan(load(content))


def names(experiments, plan, columns):
    """A report's names of some columns, by data set; of those alone that it has."""
    pairs = [(dataset, column.first) for dataset, column in columns]
    found = [published_features(plan.study, experiments, *pair) for pair in pairs]
    return [name for name in found if name]


def columns(plan):
    """Report A's names of the columns of all accuracy tables."""
    pairs = [
        (dataset, c) for dataset in plan.study.datasets for c in plan.columns.compared(dataset)
    ]
    return names(published.REPORT_A, plan, pairs)


def curves(plan):
    """Report A's names of all curves over epochs."""
    found = [run.published for run in plan.described.runs]
    return [name for name in found if name]


def classifiers(plan):
    """Report A's names of the rows."""
    return list(published_classifiers(plan.study).values())


def compared_variances(plan):
    """Report B's names of the feature sets."""
    pairs = [(plan.study.variance.dataset, column) for column in plan.columns.variance]
    return names(published.REPORT_B, plan, pairs)


@pytest.mark.parametrize("preset", ["reports", "report_a"])
def test_the_study_of_the_reports_has_every_published_number(preset):
    plan = paper(classifiers=preset)
    cells = {(d, f, c) for d, f in columns(plan) for c in classifiers(plan)}
    assert cells == {(d, f, c) for d, f, _, c in published.accuracies()}
    assert len(cells) == 48
    drawn = published.curves()[["dataset", "features"]].itertuples(index=False)
    assert set(curves(plan)) == set(map(tuple, drawn))
    assert len(curves(plan)) == 4
    # Report B published variances of ResNet18's features and run times of both networks'.
    assert {(d, f) for d, f, *_ in published.variances()} < set(compared_variances(plan))
    assert {(d, f) for d, f, _ in published.runtimes()} == set(compared_variances(plan))


def test_the_number_of_features_is_that_of_the_published_table():
    numbers = {(d, f): n for d, f, n, _ in published.accuracies()}
    assert numbers["mnist", "scattering"] == (1 + 2 * 9) * 7 * 7
    assert numbers["fashion_mnist", "scattering"] == (1 + 2 * 7 + 7 * 7) * 7 * 7
    assert numbers["mnist", "resnet18_finetuned"] == 512


def names_of(plan):
    """Columns, curves and variances that stand beside published ones."""
    return {"columns": columns(plan), "curves": curves(plan), "b": compared_variances(plan)}


def without(found, gone):
    """The names but for those for which ``gone`` is true."""
    return {kind: [n for n in of_kind if not gone(kind, *n)] for kind, of_kind in found.items()}


def of_mnist(kind, dataset, features):
    return dataset == "mnist"


def finetuned(kind, dataset, features):
    return features.endswith("_finetuned")


def vgg11(kind, dataset, features):
    return features.startswith("vgg11")


@pytest.mark.parametrize(
    ("key", "value", "gone"),
    [
        ("datasets.mnist.source", "mnist5k", of_mnist),
        ("datasets.mnist.subset", {"train": 3000}, of_mnist),
        ("datasets.mnist.subset", {"test": 1000}, of_mnist),
        ("datasets.mnist.scattering.J", 3, lambda k, d, f: (d, f) == ("mnist", "scattering")),
        ("datasets.mnist.scattering.L", 8, lambda k, d, f: (d, f) == ("mnist", "scattering")),
        ("datasets.mnist.scattering.order", 2, lambda k, d, f: (d, f) == ("mnist", "scattering")),
        ("backbones.vgg11_bn.model", "vgg13_bn", vgg11),
        ("backbones.vgg11_bn.layers", ["features.28"], vgg11),
        ("backbones.vgg11_bn.layers", ["penultimate"], vgg11),
        ("backbones.vgg11_bn.pool", "flatten", vgg11),
        ("backbones.vgg11_bn.image_size", 64, vgg11),
        ("backbones.vgg11_bn.normalize", "none", vgg11),
        ("recipes.report_a.batch_size", 256, finetuned),
        ("recipes.report_a.optimizer", "adamw", finetuned),
        ("recipes.report_a.learning_rate", 1e-3, finetuned),
        ("recipes.report_a.weight_decay", 0.01, finetuned),
        ("recipes.report_a.schedule", "cosine", finetuned),
        ("recipes.report_a.warmup", 1, finetuned),
        ("recipes.report_a.loss", "mse", finetuned),
        ("recipes.report_a.label_smoothing", 0.1, finetuned),
        ("recipes.report_a.trained", "head", finetuned),
        ("recipes.report_a.head_gain", 1.0, finetuned),
        ("recipes.report_a.head_gain", None, finetuned),
        ("recipes.report_a.augmentation", "flip", finetuned),
        ("recipes.report_a.preset", None, finetuned),
        ("recipes.report_a.epochs", 1, lambda k, d, f: k == "columns" and finetuned(k, d, f)),
        ("recipes.report_a.epochs", 20, lambda k, d, f: k == "columns" and finetuned(k, d, f)),
        ("runs", [{"datasets": ["fashion_mnist"], "backbones": ["vgg11_bn", "resnet18"]}], (
            lambda k, d, f: of_mnist(k, d, f) and finetuned(k, d, f)
        )),
        ("variance.dataset", "mnist", lambda k, d, f: k == "b"),
        ("datasets.fashion_mnist.subset", {"test": 9999}, lambda k, d, f: d == "fashion_mnist"),
        ("backbones.resnet18_b.normalize", "imagenet", lambda k, d, f: (
            k == "b" and f.startswith("resnet18")
        )),
        ("backbones.vgg16_b.layers", ["features.30"], lambda k, d, f: f.startswith("vgg16")),
        ("backbones.vgg16_b.pool", "flatten", lambda k, d, f: f.startswith("vgg16")),
    ],
)  # fmt: skip
def test_a_changed_condition_has_no_published_number(key, value, gone):
    expected = without(names_of(paper()), gone)
    assert names_of(paper(**{key: value})) == expected
    assert expected != names_of(paper())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 7),
        ("seeds", [4]),
        ("precision", "float32"),
        ("datasets.mnist.subset", {"train": 60000, "test": 10000}),
        ("datasets.mnist.label", "digits"),
        ("backbones.resnet18.layers", ["penultimate"]),
        ("recipes", {"mine": {"preset": "report_a", "measure": "log", "label": "Mine"}}),
        ("recipes", {"mine": {"batch_size": 512}}),
        # Report A's own, of which the study of the reports has the corrected one.
        ("recipes", {"report_a_faithful": {}}),
        ("backbones.resnet18.batch_size", 32),
        ("embedding.n_samples", 1000),
    ],
)
def test_what_changes_no_experiment_keeps_its_published_numbers(key, value):
    assert names_of(paper(**{key: value})) == names_of(paper())


def test_a_new_key_of_recipes_keeps_the_published_numbers_at_its_default_alone():
    plan = paper()
    columns = plan.columns.compared("mnist")
    conditions = [condition(plan.study, "mnist", column.first) for column in columns]
    neutral = NEUTRAL | {"recipe.ascent": 0.0}
    expected = [published.find(published.REPORT_A, one, NEUTRAL) for one in conditions]
    assert ("mnist", "resnet18_finetuned") in expected
    for value in (0.0, 0.05):
        new = {"recipe.ascent": value}
        told = [one | new if "recipe.epochs" in one else one for one in conditions]
        found = [published.find(published.REPORT_A, one, neutral) for one in told]
        trained = [one and one[1].endswith("_finetuned") for one in expected]
        assert found == [
            None if value and gone else one for one, gone in zip(expected, trained, strict=True)
        ]


def test_every_key_of_training_may_be_left_unsaid_but_the_number_of_epochs():
    # Without patience no recipe tells of any.
    keys = TrainingRecipe.model_fields.keys() - {"epochs", "patience"}
    assert NEUTRAL.keys() == {f"recipe.{key}" for key in keys}


def test_other_starts_and_recipes_stand_beside_the_published_ones_without_numbers():
    more = {
        "backbones.resnet18.weights": ["imagenet", "random"],
        "recipes": {
            "report_a": {},
            "report_a_faithful": {},
            "decay": {"preset": "report_a", "weight_decay": [0, 0.1]},
        },
    }
    plan = paper(**more)
    numbers = {c.key: published_features(plan.study, published.REPORT_A, "mnist", c.first)
               for c in plan.columns.compared("mnist")}  # fmt: skip
    known = ("mnist", "resnet18_finetuned")
    assert {key: name for key, name in numbers.items() if key.startswith("resnet18/")} == {
        "resnet18/imagenet/epoch000/flatten": ("mnist", "resnet18_pretrained"),
        "resnet18/imagenet/report_a/epoch010/flatten": known,
        "resnet18/imagenet/report_a_faithful/epoch010/flatten": known,
        # The very same training.
        "resnet18/imagenet/decay/weight_decay=0/epoch010/flatten": known,
        "resnet18/imagenet/decay/weight_decay=0.1/epoch010/flatten": None,
        "resnet18/random/report_a/epoch010/flatten": None,
        "resnet18/random/report_a_faithful/epoch010/flatten": None,
        "resnet18/random/decay/weight_decay=0/epoch010/flatten": None,
        "resnet18/random/decay/weight_decay=0.1/epoch010/flatten": None,
    }


def test_a_layer_of_several_has_the_numbers_that_were_published_of_it():
    plan = paper(**{"backbones.vgg11_bn.layers": ["features.28", "classifier.3"]})
    assert names_of(plan) == names_of(paper())
    # Figures over epochs show the last layer.
    plan = paper(**{"backbones.vgg11_bn.layers": ["classifier.3", "features.28"]})
    assert columns(plan) == columns(paper())
    assert curves(plan) == [name for name in curves(paper()) if not vgg11("curves", *name)]


def test_report_b_s_minutes_are_of_reading_the_same_features():
    # Report B, table of run times: ResNet18 and VGG16 on Fashion-MNIST.
    minutes = published.runtimes()
    plan = paper()
    assert published_minutes(plan.study, plan.columns.shown) == {
        "extract/fashion_mnist/resnet18_b/imagenet/epoch000": minutes[
            "fashion_mnist", "resnet18_pretrained", "extract"
        ],
        "extract/fashion_mnist/vgg16_b/imagenet/epoch000": minutes[
            "fashion_mnist", "vgg16_pretrained", "extract"
        ],
    }
    # One pass reads both layers: that is another job.
    two = paper(**{"backbones.vgg16_b.layers": ["features.28", "features.30"]})
    found = published_minutes(two.study, two.columns.shown)
    assert list(found) == ["extract/fashion_mnist/resnet18_b/imagenet/epoch000"]


@pytest.mark.parametrize(
    "change",
    [
        {"n_train": 10_000},
        {"scaling": "standard"},
        {"parameters": {"max_iter": 1000, "C": 0.01}},
        {"estimator": "sklearn.linear_model.RidgeClassifier", "parameters": {}},
    ],
)
def test_another_classifier_under_the_same_name_has_no_published_number(change):
    plan = paper(classifiers="reports")
    lr = plan.study.classifiers["lr"].model_dump()
    assert published.find_classifier(lr) == "lr"
    assert published.find_classifier({**lr, **change}) is None


def test_a_classifier_is_known_whatever_the_study_calls_it():
    plan = paper(classifiers={"forest": {"estimator": "sklearn.ensemble.RandomForestClassifier"}})
    assert classifiers(plan) == ["rf"]


def test_published_collapse_goes_by_the_names_of_the_measures():
    from collapseflow.measures.collapse import MEASURES

    collapse = set(published.curves()["measure"]) - {"accuracy"}
    assert collapse < MEASURES.keys()
    assert sorted(name.partition("_")[0] for name in collapse) == ["nc1", "nc2", "nc2", "nc2"]
