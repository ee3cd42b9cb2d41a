"""Which experiments the published numbers belong to: the study of the reports, and no other."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from collapseflow import published
from collapseflow.study.schema import epoch_state, load

PAPER = yaml.safe_load((Path(__file__).parents[2] / "config" / "paper.yaml").read_text())


def paper(**changes):
    """The study of the reports, with the values of dotted keys changed."""
    content = deepcopy(PAPER)
    for key, value in changes.items():
        *path, last = key.split(".")
        section = content
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return load(content)


def columns(study):
    """Report A's names of the columns of all accuracy tables."""
    pairs = [(d, f) for d in study.datasets for f in study.compared_features()]
    names = [published.find(published.REPORT_A, study.condition(*pair)) for pair in pairs]
    return [name for name in names if name]


def curves(study):
    """Report A's names of all curves over epochs."""
    last = epoch_state(study.finetune.epochs)
    pairs = [(d, f"{b}-{last}") for d in study.datasets for b in study.finetuned_backbones()]
    names = [published.find_curves(study.condition(*pair)) for pair in pairs]
    return [name for name in names if name]


def classifiers(study):
    """Report A's names of the rows."""
    return [published.find_classifier(c.model_dump()) for c in study.classifiers.values()]


def compared_variances(study):
    """Report B's names of the feature sets."""
    pairs = [(study.variance.dataset, f) for f in study.variance_features()]
    names = [published.find(published.REPORT_B, study.condition(*pair)) for pair in pairs]
    return [name for name in names if name]


@pytest.mark.parametrize("preset", ["default", "report_a"])
def test_the_study_of_the_reports_has_every_published_number(preset):
    study = paper(classifiers=preset)
    cells = {(d, f, c) for d, f in columns(study) for c in classifiers(study)}
    assert cells == {(d, f, c) for d, f, _, c in published.accuracies()}
    assert len(cells) == 48
    drawn = published.curves()[["dataset", "features"]].itertuples(index=False)
    assert set(curves(study)) == set(map(tuple, drawn))
    assert len(curves(study)) == 4
    # Report B published variances of ResNet18's features and run times of both networks'.
    assert {(d, f) for d, f, *_ in published.variances()} < set(compared_variances(study))
    assert {(d, f) for d, f, _ in published.runtimes()} == set(compared_variances(study))


def test_the_number_of_features_is_that_of_the_published_table():
    numbers = {(d, f): n for d, f, n, _ in published.accuracies()}
    assert numbers["mnist", "scattering"] == (1 + 2 * 9) * 7 * 7
    assert numbers["fashion_mnist", "scattering"] == (1 + 2 * 7 + 7 * 7) * 7 * 7
    assert numbers["mnist", "resnet18_finetuned"] == 512


def names_of(study):
    """Columns, curves and variances that stand beside published ones."""
    return {"columns": columns(study), "curves": curves(study), "b": compared_variances(study)}


def without(names, gone):
    """The names but for those for which ``gone`` is true."""
    return {kind: [n for n in of_kind if not gone(kind, *n)] for kind, of_kind in names.items()}


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
        ("backbones.vgg11_bn.layer", "features.28", vgg11),
        ("backbones.vgg11_bn.layer", None, vgg11),
        ("backbones.vgg11_bn.pool", "flatten", vgg11),
        ("backbones.vgg11_bn.image_size", 64, vgg11),
        ("backbones.vgg11_bn.normalize", "none", vgg11),
        ("backbones.vgg11_bn.weights", ["random", "imagenet"], lambda k, d, f: (
            vgg11(k, d, f) and finetuned(k, d, f)
        )),
        ("finetune.batch_size", 256, finetuned),
        ("finetune.learning_rate", 1e-3, finetuned),
        ("finetune.head_gain", 1.0, finetuned),
        ("finetune.epochs", 1, lambda k, d, f: k == "columns" and finetuned(k, d, f)),
        ("finetune.epochs", 20, lambda k, d, f: k == "columns" and finetuned(k, d, f)),
        ("variance.dataset", "mnist", lambda k, d, f: k == "b"),
        ("datasets.fashion_mnist.subset", {"test": 9999}, lambda k, d, f: d == "fashion_mnist"),
        ("backbones.resnet18_b.normalize", "imagenet", lambda k, d, f: (
            k == "b" and f.startswith("resnet18")
        )),
        ("backbones.vgg16_b.layer", "features.30", lambda k, d, f: f.startswith("vgg16")),
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
        ("precision", "float32"),
        ("datasets.mnist.subset", {"train": 60000, "test": 10000}),
        ("datasets.mnist.label", "digits"),
        ("backbones.resnet18.layer", None),
        ("backbones.resnet18.batch_size", 32),
        ("embedding.n_samples", 1000),
    ],
)
def test_what_changes_no_experiment_keeps_its_published_numbers(key, value):
    assert names_of(paper(**{key: value})) == names_of(paper())


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
    study = paper()
    lr = study.classifiers["lr"].model_dump()
    assert published.find_classifier(lr) == "lr"
    assert published.find_classifier({**lr, **change}) is None


def test_a_classifier_is_known_whatever_the_study_calls_it():
    study = paper(classifiers={"forest": {"estimator": "sklearn.ensemble.RandomForestClassifier"}})
    assert classifiers(study) == ["rf"]


def test_published_collapse_goes_by_the_names_of_the_measures():
    from collapseflow.measures.collapse import CollapseMeasures

    curves = published.curves()
    collapse = set(curves["measure"]) - {"accuracy"}
    assert collapse == {f for f in CollapseMeasures.__dataclass_fields__ if f.startswith("nc")}
    assert sorted(name.partition("_")[0] for name in collapse) == ["nc1", "nc2", "nc2", "nc2"]
