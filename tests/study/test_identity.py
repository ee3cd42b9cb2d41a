"""A study's name stands for one seed and one division of the images; what is trained anew."""

import json

import pytest

from collapseflow.running.errors import UserError
from collapseflow.running.resume import valid_folder
from collapseflow.study.identity import record, refuse_another, trained_anew
from collapseflow.training.recipes import Recipe, identity

STUDY = {"study": "mine", "seed": 0, "test_fraction": 0.2, "threads": 8}


def test_a_new_name_and_the_same_study_are_accepted(tmp_path):
    refuse_another(STUDY, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    record(STUDY, tmp_path / "mine")
    refuse_another(STUDY, tmp_path / "mine")
    refuse_another({**STUDY, "threads": 1}, tmp_path / "mine")


@pytest.mark.parametrize(("key", "value", "kept"), [("seed", 1, 0), ("test_fraction", 0.5, 0.2)])
def test_another_study_under_the_same_name_is_refused_in_one_line(tmp_path, key, value, kept):
    results = tmp_path / "mine"
    record(STUDY, results)
    with pytest.raises(UserError) as refused:
        refuse_another({**STUDY, key: value}, results)
    line = str(refused.value)
    assert line.startswith(f"config key {key}: value {value}, but {results} was made with {kept};")
    assert f"--config {key}={value} study=mine-{key}{value}" in line
    assert "\n" not in line


def test_results_without_a_record_and_a_damaged_one_are_accepted(tmp_path):
    for content in ("", '{"seed"', "{}"):
        (tmp_path / "identity.json").write_text(content)
        refuse_another(STUDY, tmp_path)


# --- runs whose last epoch has changed --------------------------------------------------------

RECIPE = {
    "model": "resnet18",
    "image_size": 32,
    "normalize": "imagenet",
    "precision": "auto",
    "seed": 0,
    "epochs": 5,
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.0,
    "schedule": "cosine",
    "steps": [1 / 3, 2 / 3],
    "step_factor": 0.1,
    "warmup": 0,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "trained": "all",
    "head_gain": None,
    "augmentation": "none",
}


def train_before(progress, **changes):
    """Leave what a training of this recipe leaves in its folder of progress."""
    recipe = identity(Recipe.from_json({**RECIPE, **changes}))
    valid_folder(progress, {"dataset": "0" * 64, "recipe": recipe, "code": "x"})


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_training_that_the_number_of_epochs_starts_again_is_announced(tmp_path, schedule):
    train_before(tmp_path, schedule=schedule)
    train_before(tmp_path, schedule=schedule, epochs=3)
    recipe = {**RECIPE, "schedule": schedule, "epochs": 8}
    assert trained_anew(tmp_path, recipe) == [
        f"{tmp_path}: 8 epochs instead of 5: the course of the learning rate (schedule "
        f"'{schedule}') depends on their number, so that this run is trained from its start"
    ]


def test_nothing_is_announced_where_a_training_goes_on_or_is_there(tmp_path):
    train_before(tmp_path, schedule="constant")
    assert trained_anew(tmp_path, {**RECIPE, "schedule": "constant", "epochs": 8}) == []
    train_before(tmp_path)
    assert trained_anew(tmp_path, RECIPE) == []
    train_before(tmp_path, epochs=8)
    assert trained_anew(tmp_path, {**RECIPE, "epochs": 8}) == []


def test_what_another_recipe_of_the_study_trains_is_not_replaced(tmp_path):
    train_before(tmp_path)
    train_before(tmp_path, epochs=3)
    recipe = {**RECIPE, "epochs": 8}
    assert trained_anew(tmp_path, recipe, asked_for={3, 5, 8}) == []
    (line,) = trained_anew(tmp_path, recipe, asked_for={5, 8})
    assert "8 epochs instead of 3" in line
    train_before(tmp_path, epochs=8)
    assert trained_anew(tmp_path, recipe, asked_for={5, 8}) == []


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 0.2}, {"seed": 1}, {"schedule": "step"}, {"optimizer": "adam"}],
)
def test_another_recipe_of_the_same_network_is_not_this_one(tmp_path, change):
    train_before(tmp_path, **change)
    assert trained_anew(tmp_path, {**RECIPE, "epochs": 8}) == []


@pytest.mark.parametrize("content", ["", '{"recipe"', "{}", json.dumps({"recipe": {}})])
def test_folders_that_do_not_say_what_they_are_announce_nothing(tmp_path, content):
    assert trained_anew(tmp_path / "absent", RECIPE) == []
    (tmp_path / "0123").mkdir()
    (tmp_path / "0123" / "depends_on.json").write_text(content)
    assert trained_anew(tmp_path, RECIPE) == []
