"""What readers are shown of a study: all that the list has, with its words."""

from pathlib import Path

from collapseflow.study.plan import Plan
from collapseflow.study.products import (
    PRODUCTS,
    contents,
    everything,
    geometry,
    geometry_statistics,
)
from collapseflow.study.schema import load

RESNET = {"model": "resnet18", "label": "ResNet18", "image_size": 32, "weights": ["random"]}
STUDY = {
    "study": "toy",
    "datasets": {"digits": {"source": "digits"}, "more": {"source": "digits", "label": "More"}},
    "backbones": {"resnet18": RESNET},
    "recipes": {"report_a": {"epochs": 2}},
}


def test_everything_with_a_section_is_there_and_is_made():
    plan = Plan(load(STUDY))
    found = contents(plan)
    shown = {f"results/toy/{path}" for one in found for path in one["files"].values()}
    made = set(everything(plan))
    assert shown <= made
    # The rows, why some are missing, and a table that only a figure reads.
    assert {Path(path).name for path in made - shown} == {
        *("measures.csv", "failures.csv", "training.csv")
    }
    assert {one["rule"] for one in found} <= {p.rule for p in PRODUCTS if p.section}


def test_words_are_those_of_the_data_set_and_the_run():
    found = contents(Plan(load(STUDY)))
    accuracies = [one for one in found if one["rule"] == "tabulate_accuracy"]
    assert [one["heading"] for one in accuracies] == ["Digits 8×8: test accuracy"] + [
        "More: test accuracy"
    ]
    assert [one["dataset"] for one in accuracies] == ["digits", "more"]
    assert "``More``" in accuracies[1]["caption"]
    geometry = [one["label"] for one in found if one["rule"] == "plot_geometry"]
    of_run = "ResNet18, random, report_a, seed 0"
    assert geometry == [f"Digits 8×8, {of_run}", f"More, {of_run}"]
    assert not [one for one in found if "{" in one["heading"] + one["label"] + one["caption"]]


def test_two_swept_keys_have_maps():
    recipes = {"one": {"epochs": [1, 2]}, "two": {"weight_decay": [0, 0.1], "epochs": [1, 2]}}
    plan = Plan(load({**STUDY, "recipes": recipes}))
    assert "results/toy/figures/sweep_map.png" in everything(plan)
    shown = plan.described.runs_swept_twice()
    assert {run.recipe for run in shown} == {"two"} and len(shown) == 2 * 4


def test_class_means_move_through_all_measured_epochs_of_the_first_seed():
    found = geometry(Plan(load({**STUDY, "seeds": [3, 4]})))
    assert [one["dataset"] for one in found] == ["digits", "more"]
    folder = "results/toy/statistics/more/resnet18/random"
    assert found[1] == {
        "dataset": "more",
        "heading": "More, ResNet18, random, report_a, seed 3",
        "layer": "penultimate",
        "states": [
            (0, f"{folder}/s3/epoch000.npz"),
            (1, f"{folder}/report_a/s3/epoch001.npz"),
            (2, f"{folder}/report_a/s3/epoch002.npz"),
        ],
    }
    made = geometry_statistics(Plan(load(STUDY)))
    # A job makes the start, and one all epochs.
    assert len(made) == 4 and f"{folder}/s0/epoch000.npz" in made
    assert geometry(Plan(load({**STUDY, "runs": []}))) == []
