"""Recipes: presets, lists that open a sweep and the names of its points, measured epochs."""

import json

import pytest
import yaml

from collapseflow.running.errors import UserError
from collapseflow.study.recipes import recipe_of, setting_of
from collapseflow.study.schema import load

NETWORK = {"net": {"model": "resnet18", "weights": ["random"]}}


def study(recipes, **keys):
    datasets = {"mnist": {"source": "mnist"}}
    content = {"study": "toy", "datasets": datasets, "backbones": NETWORK, "recipes": recipes}
    return load({**content, **keys})


def recipe(**keys):
    return study({"mine": keys}).recipes["mine"]


def refusal(recipes):
    with pytest.raises(UserError) as caught:
        study(recipes)
    return str(caught.value)


# --- presets ----------------------------------------------------------------------------------

#: What a recipe does whose study file says nothing.
DEFAULTS = {
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
PUBLISHED = {
    # Ten epochs of Adam with 2e-4 in batches of 512, a new layer with gain 0.02.
    "report_a": {"epochs": 10, "batch_size": 512, "learning_rate": 2e-4, "head_gain": 0.02},
    # The same, and test images through the network in training mode before each checkpoint.
    "report_a_faithful": {
        "epochs": 10,
        "batch_size": 512,
        "learning_rate": 2e-4,
        "head_gain": 0.02,
        "validation": "training_mode",
    },
    # SGD, momentum 0.9, decay 5e-4, 350 epochs in batches of 128, the rate of the public notebook
    # divided by 10 after one and two thirds; torchvision's own initialisation.
    "papyan2020": {
        "epochs": 350,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.0679,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "steps": [1 / 3, 2 / 3],
        "step_factor": 0.1,
        "head_gain": None,
    },
    # The last layer alone.
    "linear_probe": {
        "epochs": 20,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "trained": "head",
        "head_gain": None,
    },
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_is_what_its_source_says(preset):
    expected = {**DEFAULTS, **PUBLISHED[preset]}
    assert recipe(preset=preset).training() == expected
    # A recipe that has a preset's name takes it, unless it names another.
    assert study({preset: {}}).recipes[preset].training() == expected
    assert study({preset: {"preset": None}}).recipes[preset].training() == DEFAULTS


def test_what_a_recipe_says_goes_before_its_preset():
    changed = recipe(preset="papyan2020", epochs=90, weight_decay=0)
    expected = {**DEFAULTS, **PUBLISHED["papyan2020"], "epochs": 90, "weight_decay": 0}
    assert changed.training() == expected
    assert study({"report_a": {"epochs": 3}}).recipes["report_a"].training() == {
        **DEFAULTS,
        "epochs": 3,
        "batch_size": 512,
    }
    probe = study({"report_a": {"preset": "linear_probe"}}).recipes["report_a"]
    assert probe.training() == {**DEFAULTS, **PUBLISHED["linear_probe"]}


def test_what_a_recipe_changes_is_told_beside_its_preset():
    assert recipe(label="Mine").changed() == {}
    assert recipe(epochs=3, head_gain=None).changed() == {"epochs": 3, "head_gain": None}
    assert recipe(preset="papyan2020").changed() == {"preset": "papyan2020"}
    faithful = recipe(preset="report_a", validation="training_mode")
    assert faithful.changed() == {"preset": "report_a", "validation": "training_mode"}
    # The values of the defaults are changes of a preset that has others.
    assert recipe(preset="papyan2020", weight_decay=0, measure="all").changed() == {
        "preset": "papyan2020",
        "weight_decay": 0,
        "measure": "all",
    }


def test_training_is_told_of_patience_where_there_is_some():
    told = recipe(validation=0.1, patience=3).training()
    assert told == {**DEFAULTS, "validation": 0.1, "patience": 3}
    assert recipe(validation=0.1).training() == {**DEFAULTS, "validation": 0.1}


# --- sweeps -----------------------------------------------------------------------------------


def points(**recipes):
    return list(study(recipes).recipes)


def test_a_list_gives_a_recipe_for_each_of_its_values():
    loaded = study({"decay": {"epochs": 3, "weight_decay": [0, 5e-4, 0.01]}, "plain": {}})
    assert list(loaded.recipes) == [
        "decay/weight_decay=0",
        "decay/weight_decay=0.0005",
        "decay/weight_decay=0.01",
        "plain",
    ]
    decays = [entry.weight_decay for entry in loaded.recipes.values()]
    assert decays == [0, 5e-4, 0.01, 0]
    assert [entry.epochs for entry in loaded.recipes.values()] == [3, 3, 3, 10]


def test_adding_a_value_changes_no_other_name():
    few = points(decay={"weight_decay": [0, 5e-4]})
    assert set(points(decay={"weight_decay": [1e-5, 0, 5e-4, 5e-3]})) - set(few) == {
        "decay/weight_decay=1e-05",
        "decay/weight_decay=0.005",
    }


def test_two_lists_give_their_grid():
    assert points(both={"weight_decay": [0, 0.1], "learning_rate": [0.001, 0.01]}) == [
        "both/weight_decay=0,learning_rate=0.001",
        "both/weight_decay=0,learning_rate=0.01",
        "both/weight_decay=0.1,learning_rate=0.001",
        "both/weight_decay=0.1,learning_rate=0.01",
    ]


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("weight_decay", [0], ["0"]),
        ("weight_decay", [0.0], ["0"]),
        ("weight_decay", [1e-3], ["0.001"]),
        ("learning_rate", [1 / 3, 1e-6], ["0.333333333333", "1e-06"]),
        ("epochs", [5, 350], ["5", "350"]),
        ("loss", ["mse", "cross_entropy"], ["mse", "cross_entropy"]),
        ("head_gain", [None, 0.02], ["none", "0.02"]),
        ("augmentation", ["none", "shift+flip"], ["none", "shift+flip"]),
        ("trained", ["head", "layer4.0"], ["head", "layer4.0"]),
        ("validation", ["none", "training_mode", 0.1], ["none", "training_mode", "0.1"]),
    ],
)
def test_points_are_named_by_their_values(key, values, words):
    loaded = study({"mine": {key: values}})
    assert list(loaded.recipes) == [f"mine/{key}={word}" for word in words]
    assert [getattr(entry, key) for entry in loaded.recipes.values()] == values
    for point, value in zip(loaded.recipes, values, strict=True):
        assert setting_of(point, loaded.recipes[point]) == {key: value}
        assert recipe_of(point) == "mine"


def test_a_switch_is_named_in_words_of_yaml():
    sgd = {"optimizer": "sgd", "momentum": 0.9, "nesterov": [False, True]}
    assert points(sgd=sgd) == ["sgd/nesterov=false", "sgd/nesterov=true"]


def test_lists_that_are_one_value_open_no_sweep():
    loaded = study({"mine": {"schedule": "step", "steps": [0.5, 0.75], "measure": [1, 5]}})
    assert list(loaded.recipes) == ["mine"]
    assert loaded.recipes["mine"].steps == [0.5, 0.75]
    assert setting_of("mine", loaded.recipes["mine"]) == {}


def test_the_setting_of_a_point_has_the_swept_keys_in_their_order():
    loaded = study(
        {
            "plain": {},
            "one": {"weight_decay": [0, 1]},
            "two": {"epochs": [1, 2], "weight_decay": [0, 1]},
        }
    )
    settings = [list(setting_of(*point).items()) for point in loaded.recipes.items()]
    assert settings == [
        [],
        [("weight_decay", 0)],
        [("weight_decay", 1)],
        [("epochs", 1), ("weight_decay", 0)],
        [("epochs", 1), ("weight_decay", 1)],
        [("epochs", 2), ("weight_decay", 0)],
        [("epochs", 2), ("weight_decay", 1)],
    ]


def test_the_dump_of_a_study_gives_the_same_study():
    recipes = {
        "papyan2020": {"weight_decay": [0, 5e-4], "learning_rate": [0.1, 1 / 3]},
        "report_a": {"preset": None},
        "mine": {"schedule": "step", "steps": [0.5], "measure": [3], "augmentation": ["shift"]},
    }
    loaded = study(recipes, runs=[{"recipes": ["mine", "papyan2020"]}], seeds=[1, 2])
    assert len(loaded.recipes) == 4 + 1 + 1
    assert load(loaded.model_dump()) == loaded
    # What the check in a process of its own is sent.
    assert load(json.loads(loaded.model_dump_json())) == loaded


# --- measured epochs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "measure", "expected"),
    [
        (1, "all", [1]),
        (4, "all", [1, 2, 3, 4]),
        (1, "log", [1]),
        (5, "log", [1, 2, 3, 4, 5]),
        # 1.25 times the one before: 6.25, 7.5, 10, 12.5, 15, 18.75.
        (20, "log", [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 20]),
        (10, [2, 7], [2, 7, 10]),
        (10, [7, 2, 10, 7], [2, 7, 10]),
        (10, [10], [10]),
    ],
)
def test_measured_epochs_always_have_the_last(epochs, measure, expected):
    assert recipe(epochs=epochs, measure=measure).measured_epochs() == expected


def test_papyan_s_350_epochs_are_measured_two_dozen_times():
    measured = recipe(preset="papyan2020").measured_epochs()
    assert measured[:6] == [1, 2, 3, 4, 5, 6] and measured[-1] == 350
    steps = [late / early for early, late in zip(measured[5:], measured[6:], strict=False)]
    assert all(1.19 < step <= 8 / 6 for step in steps)
    assert len(measured) == 24


# --- what is wrong ----------------------------------------------------------------------------

MEASURE = "allowed: all, log, or a list of epochs"
CASES = {
    # what is wrong: (the recipe "mine", the line behind "config key recipes.mine")
    "key": (
        {"epochz": 3},
        ".epochz: is unknown; did you mean 'epochs'? allowed: augmentation, batch_size, epochs, "
        "head_gain, label, label_smoothing, learning_rate, loss, measure, momentum, nesterov, "
        "optimizer, patience, preset, schedule, step_factor, steps, trained, validation, warmup, "
        "weight_decay",
    ),
    "preset": (
        {"preset": "papyan"},
        ".preset: value \"papyan\" is refused; did you mean 'papyan2020'? allowed: report_a, "
        "report_a_faithful, papyan2020, linear_probe",
    ),
    "value": ({"learning_rate": 0}, ".learning_rate: value 0 is refused; allowed: more than 0"),
    "value of a list": (
        {"weight_decay": [0, -1, 0.1]},
        ".weight_decay: value -1 is refused; allowed: 0 or more",
    ),
    "value beside a list": (
        {"weight_decay": [0, 0.1, 0.2], "epochs": 0},
        ".epochs: value 0 is refused; allowed: more than 0",
    ),
    "text in a list": (
        {"weight_decay": [0, "0.5"]},
        '.weight_decay: value "0.5" is refused; write 0.5 without quotes',
    ),
    "word in a list": (
        {"optimizer": ["sgd", "adm"]},
        ".optimizer: value \"adm\" is refused; did you mean 'adam'? allowed: adam, adamw, sgd",
    ),
    **{
        f"validation {value}": (
            {"validation": value},
            f".validation: value {json.dumps(value)} is refused; allowed: none, training_mode, or "
            "a share of the training images, as 0.1",
        )
        for value in ("training", "0.1", 0.0, 1.0, 1, True, None, -0.1)
    },
    "patience without held-out images": (
        {"patience": 3},
        ".patience: needs images that are held out, not validation 'none'; allowed: with a share "
        "of the training images as validation, as 0.1",
    ),
    "patience with test images": (
        {"patience": 3, "validation": "training_mode"},
        ".patience: needs images that are held out, not validation 'training_mode'; allowed: with "
        "a share of the training images as validation, as 0.1",
    ),
    "no patience": (
        {"patience": 0, "validation": 0.1},
        ".patience: value 0 is refused; allowed: more than 0",
    ),
    "list in a list": (
        {"weight_decay": [[0, 0.1]]},
        ".weight_decay: value [0, 0.1] is refused; allowed: a number",
    ),
    "empty list": (
        {"weight_decay": []},
        ".weight_decay: []; allowed: a value, or different ones in a list",
    ),
    "value twice": (
        {"weight_decay": [0, 0.1, 0.0]},
        ".weight_decay: [0, 0.1, 0.0]; allowed: a value, or different ones in a list",
    ),
    "unknown key with a list": (
        {"weight_decays": [0, 1], "head_gain": 1},
        ".weight_decays: is unknown; did you mean 'weight_decay'? allowed: augmentation, "
        "batch_size, epochs, head_gain, label, label_smoothing, learning_rate, loss, measure, "
        "momentum, nesterov, optimizer, patience, preset, schedule, step_factor, steps, trained, "
        "validation, warmup, weight_decay",
    ),
    "measured word": ({"measure": "some"}, f'.measure: value "some" is refused; {MEASURE}'),
    "no measured epoch": ({"measure": []}, f".measure: value [] is refused; {MEASURE}"),
    "measured start": ({"measure": [0, 5]}, f".measure: value [0, 5] is refused; {MEASURE}"),
    "measured switch": ({"measure": [True]}, f".measure: value [true] is refused; {MEASURE}"),
    "measured after the end": (
        {"epochs": 4, "measure": [2, 5]},
        ".measure: epoch 5 of 4; allowed: up to epochs",
    ),
    "measured after the end of one point": (
        {"epochs": [8, 4], "measure": [5]},
        ".measure: epoch 5 of 4; allowed: up to epochs",
    ),
    "trained": (
        {"trained": "layer 4"},
        '.trained: value "layer 4" is refused; allowed: all, head, or the name of a layer',
    ),
    "augmentation": (
        {"augmentation": "flip+turn"},
        '.augmentation: value "flip+turn" is refused; allowed: none, or of shift, flip and crop '
        "some, with + between them",
    ),
    "augmentation twice": (
        {"augmentation": "flip+flip"},
        ".augmentation: 'flip+flip'; allowed: each once",
    ),
    "steps that go back": (
        {"schedule": "step", "steps": [0.5, 0.25]},
        ".steps: [0.5, 0.25]; allowed: ascending shares of the epochs",
    ),
    "step that is no share": (
        {"schedule": "step", "steps": [0.5, 20]},
        ".steps.1: value 20 is refused; allowed: less than 1",
    ),
    "steps that are a number": (
        {"schedule": "step", "steps": 0.5},
        ".steps: value 0.5 is refused; allowed: a list, for example [a, b]",
    ),
    "warm-up to the end": (
        {"epochs": 5, "warmup": 5},
        ".warmup: 5 epochs of 5; allowed: fewer than epochs",
    ),
    # --- keys that do not go together
    "momentum of Adam": (
        {"momentum": 0.9},
        ".momentum: goes only with optimizer 'sgd', not with 'adam'",
    ),
    "momentum of the preset": (
        {"preset": "papyan2020", "optimizer": "adamw"},
        ".momentum: goes only with optimizer 'sgd', not with 'adamw'",
    ),
    "momentum of one point": (
        {"optimizer": ["sgd", "adam"], "momentum": 0.9},
        ".momentum: goes only with optimizer 'sgd', not with 'adam'",
    ),
    "nesterov without momentum": (
        {"optimizer": "sgd", "nesterov": True},
        ".nesterov: needs a momentum above 0 (optimizer 'sgd')",
    ),
    "steps of a constant rate": (
        {"steps": [0.5]},
        ".steps: goes only with schedule 'step', not with 'constant'",
    ),
    "factor of a cosine": (
        {"schedule": "cosine", "step_factor": 0.5},
        ".step_factor: goes only with schedule 'step', not with 'cosine'",
    ),
    "smoothing of squares": (
        {"loss": "mse", "label_smoothing": 0.1},
        ".label_smoothing: goes only with loss 'cross_entropy', not with 'mse'",
    ),
    "no section": (None, ": value null is refused; allowed: a section, that is keys with values"),
    "list": ([3], ": value [3] is refused; allowed: a section, that is keys with values"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_the_key_as_the_user_wrote_it(case):
    mine, line = CASES[case]
    assert refusal({"mine": mine}) == f"config key recipes.mine{line}"


A_NAME = "allowed: a name of up to 100 letters, digits and _, a letter first"


@pytest.mark.parametrize(
    ("recipes", "line"),
    [
        ({"my-own": {}}, f'recipes.my-own: value "my-own" is refused; {A_NAME}'),
        ({"my-own": {"epochs": [1, 2]}}, f'recipes.my-own: value "my-own" is refused; {A_NAME}'),
        ({3: {}}, f"recipes.3: value 3 is refused; {A_NAME}"),
        # Points come from lists alone.
        ({"decay/epochs=3": {}}, f"recipes: 'decay/epochs=3' is no name; {A_NAME}"),
        ({"decay/speed=3": {}}, f"recipes: 'decay/speed=3' is no name; {A_NAME}"),
        ({"decay/": {}}, f"recipes: 'decay/' is no name; {A_NAME}"),
        (["mine"], 'recipes: value ["mine"] is refused; allowed: a section, that is keys with '
         "values"),
    ],
)  # fmt: skip
def test_names_of_recipes_are_refused_in_one_line(recipes, line):
    assert refusal(recipes) == f"config key {line}"


# --- numbers ----------------------------------------------------------------------------------


def test_numbers_without_point_or_sign_are_read_as_people_and_yaml_1_2_read_them():
    """PyYAML, which Snakemake has, is of YAML 1.1 and takes them for texts."""
    text = """
study: numbers
datasets: {digits: {source: digits}}
backbones: {resnet18: {image_size: 28, weights: [random]}}
recipes:
  mine: {learning_rate: 1E-3, weight_decay: [0, 5e-4, 5e0], validation: 1e-1}
classifiers:
  svm: {estimator: sklearn.svm.LinearSVC, parameters: {C: 1e-2, penalty: l2}}
"""
    content = yaml.safe_load(text)
    assert content["recipes"]["mine"]["weight_decay"] == [0, "5e-4", "5e0"]

    loaded = load(content)

    names = ["mine/weight_decay=0", "mine/weight_decay=0.0005", "mine/weight_decay=5"]
    assert list(loaded.recipes) == names
    assert [recipe.weight_decay for recipe in loaded.recipes.values()] == [0, 0.0005, 5.0]
    assert {recipe.learning_rate for recipe in loaded.recipes.values()} == {0.001}
    assert {recipe.validation for recipe in loaded.recipes.values()} == {0.1}
    assert loaded.classifiers["svm"].parameters == {"C": 0.01, "penalty": "l2"}


def test_a_sweep_has_no_value_twice_however_it_is_written():
    with pytest.raises(UserError, match="recipes.mine.learning_rate: .*different ones"):
        recipe(learning_rate=["2e-4", 0.0002])
