"""What readers are shown of a study: all that the list has, with its words."""

from pathlib import Path

from collapseflow.study.plan import Plan
from collapseflow.study.products import PRODUCTS, contents, everything
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
