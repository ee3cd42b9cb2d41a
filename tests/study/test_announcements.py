"""What is said before the first job and after the last: epochs trained again, runs that failed."""

import json

import pandas as pd
import pytest

from collapseflow.presentation.rows import write_csv
from collapseflow.running.errors import UserError
from collapseflow.running.resume import set_aside, valid_folder
from collapseflow.study import announcements
from collapseflow.study.announcements import (
    Training,
    failed_runs,
    finished_epochs,
    trained_again,
)
from collapseflow.study.recipes import Recipe
from collapseflow.training.recipes import NetworkRecipe, identity

NETWORK = {
    "model": "resnet18",
    "image_size": 32,
    "normalize": "imagenet",
    "precision": "auto",
    "seed": 0,
}
DATA, CODE = "0" * 64, "x"


def recipe(**changes):
    """A recipe of the study file as the planned job has it: three epochs, a cosine."""
    in_study = Recipe(**{"epochs": 3, "schedule": "cosine", "optimizer": "sgd", **changes})
    return {**NETWORK, **in_study.training()}


def train_before(progress, kept=(), epochs=None, data=DATA, code=CODE, failed=False, **changes):
    """Leave what a training of this recipe leaves in its folder of progress."""
    trained = recipe(**changes)
    depends_on = {"dataset": data, "recipe": identity(NetworkRecipe(**trained)), "code": code}
    folder = valid_folder(progress, depends_on)
    last = epochs or trained["epochs"]
    for epoch in range(1, last + 1):
        stem = f"epoch{epoch:03d}"
        (folder / f"{stem}.json").write_text(json.dumps({"log": {"epoch": epoch}}))
        if epoch in (*kept, last):
            (folder / f"{stem}.safetensors").touch()
    (folder / f"epoch{last:03d}.optimizer.safetensors").touch()
    if failed:
        (folder / f"epoch{last + 1:03d}.json").write_text('{"failed": "the loss is not finite"}')
    return folder


def planned(tmp_path, name="run", kept=(), code=CODE, data=DATA, made_again=(), **changes):
    """A training with this recipe, planned under a name."""
    asked = recipe(**changes)
    kept = sorted({*kept, asked["epochs"]})
    log = tmp_path / f"{name}.json"
    return Training(name, tmp_path / "progress", asked, kept, code, log, data, made_again)


def log_before(tmp_path, epochs, name="run"):
    """Leave the log of a training under a name."""
    (tmp_path / f"{name}.json").write_text(json.dumps([{"epoch": n + 1} for n in range(epochs)]))


def test_the_epochs_after_which_a_training_goes_on_are_counted(tmp_path):
    constant = {"schedule": "constant"}
    assert finished_epochs(planned(tmp_path, **constant)) == 0
    folder = train_before(tmp_path / "progress", epochs=2, kept=(1, 2), **constant)
    assert finished_epochs(planned(tmp_path, **constant)) == 2
    assert finished_epochs(planned(tmp_path, epochs=8, **constant)) == 2
    assert finished_epochs(planned(tmp_path, epochs=1, **constant)) == 1
    # Nothing is kept of other images, by other code, or where the rate falls otherwise.
    assert finished_epochs(planned(tmp_path, data="1" * 64, **constant)) == 0
    assert finished_epochs(planned(tmp_path, code="y", **constant)) == 0
    assert finished_epochs(planned(tmp_path, learning_rate=0.5, **constant)) == 0
    assert finished_epochs(planned(tmp_path, schedule="cosine")) == 0
    # Without the optimiser's state it begins again.
    (folder / "epoch002.optimizer.safetensors").unlink()
    assert finished_epochs(planned(tmp_path, **constant)) == 0


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_an_epoch_added_to_measure_whose_weights_were_not_kept_is_announced(tmp_path, schedule):
    train_before(tmp_path / "progress", kept=[1], schedule=schedule)
    assert trained_again([planned(tmp_path, kept=[1], schedule=schedule)]) == []
    again = [planned(tmp_path, f"s{seed}", kept=[1, 2], schedule=schedule) for seed in range(5)]
    # Epoch 1 has its weights, and no optimiser's state to go on with.
    assert trained_again(again) == [
        "trained again: epochs 1 to 3 of s0, s1, s2 and 2 more: the weights of epoch 2 were not "
        "kept"
    ]


def test_another_number_of_epochs_is_announced_where_the_rate_depends_on_it(tmp_path):
    train_before(tmp_path / "progress")
    (line,) = trained_again([planned(tmp_path, epochs=8)])
    assert line == (
        "trained again: epochs 1 to 3 of run: epochs 8 instead of 3; with schedule 'cosine' the "
        "rate of every epoch depends on this"
    )
    train_before(tmp_path / "progress", schedule="constant")
    assert trained_again([planned(tmp_path, epochs=8, schedule="constant")]) == []
    # The weights of the second epoch are gone with the third.
    (line,) = trained_again([planned(tmp_path, epochs=2, schedule="constant")])
    assert "epochs 1 to 2 of run: the weights of epoch 2 were not kept" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedule": "constant"}, "schedule 'constant' instead of 'cosine'"),
        ({"learning_rate": 0.5}, "learning_rate 0.5 instead of 0.0002"),
        ({"validation": "training_mode"}, "validation 'training_mode' instead of 'none'"),
        ({"optimizer": "adam"}, "optimizer 'adam' instead of 'sgd'"),
    ],
)
def test_a_changed_recipe_of_a_finished_run_is_announced_and_a_new_one_is_not(
    tmp_path, change, words
):
    train_before(tmp_path / "progress")
    assert trained_again([planned(tmp_path, **change)]) == []
    log_before(tmp_path, 3)
    again = [planned(tmp_path, **change)]
    assert trained_again(again) == [f"trained again: epochs 1 to 3 of run: {words}"]


def test_what_is_kept_for_another_recipe_of_the_study_is_not_replaced(tmp_path):
    train_before(tmp_path / "progress")
    in_study = [Recipe(epochs=n, schedule="cosine", optimizer="sgd").training() for n in (3, 8)]
    again = [planned(tmp_path, epochs=8)]
    assert trained_again(again, in_study) == []
    (line,) = trained_again(again, in_study[1:])
    assert "epochs 8 instead of 3" in line


def test_other_code_other_images_and_epochs_that_are_gone_are_reasons(tmp_path):
    log_before(tmp_path, 3)
    progress = tmp_path / "progress"
    assert trained_again([planned(tmp_path)]) == [
        f"trained again: epochs 1 to 3 of run: {progress} no longer holds them"
    ]
    train_before(progress)
    (line,) = trained_again([planned(tmp_path, code="y")])
    assert line.endswith("of run: the code that trains has changed")
    (line,) = trained_again([planned(tmp_path, data="1" * 64)])
    assert line.endswith("of run: its images have changed")
    # What other jobs make first may come out the same.
    (line,) = trained_again([planned(tmp_path, data=None, made_again=("the data set",))])
    assert line.endswith("of run, unless the data set comes out the same when it is made again")
    assert trained_again([planned(tmp_path)]) == []


def test_nothing_is_announced_where_a_training_goes_on_has_failed_or_never_began(tmp_path):
    assert trained_again([planned(tmp_path)]) == []
    folder = train_before(tmp_path / "progress", epochs=2)
    assert trained_again([planned(tmp_path)]) == []
    (folder / "epoch002.optimizer.safetensors").unlink()
    (line,) = trained_again([planned(tmp_path)])
    assert "the weights or the optimiser's state of epoch 2 are gone" in line
    folder = train_before(tmp_path / "progress", epochs=2, failed=True)
    (folder / "epoch002.optimizer.safetensors").unlink()
    assert trained_again([planned(tmp_path)]) == []


@pytest.mark.parametrize("content", ["", '{"recipe"', "{}", '{"recipe": {}}'])
def test_folders_that_do_not_say_what_they_are_announce_nothing(tmp_path, content):
    folder = tmp_path / "progress" / "0123"
    folder.mkdir(parents=True)
    (folder / "depends_on.json").write_text(content)
    assert trained_again([planned(tmp_path)]) == []


def test_what_was_set_aside_is_named_with_how_to_delete_it(tmp_path):
    assert announcements.set_aside(tmp_path) == []
    folders = []
    for place in ("finetune/digits/net/random/s0", "pretrain/net/pretrain/s0"):
        part = tmp_path / "progress" / place / "0123" / "epoch002.json"
        part.parent.mkdir(parents=True)
        part.touch()
        folders.append(set_aside([part]))
    (line,) = announcements.set_aside(tmp_path)
    assert line.endswith(f"rm -r {folders[0]} {folders[1]}")


def test_a_finished_study_says_the_first_finding_of_three_kinds_and_where_its_pages_are(tmp_path):
    kinds = ("features", "features", "training", "train and test", "limits")
    findings = [{"kind": kind, "short": f"Sentence {n}."} for n, kind in enumerate(kinds)]
    (tmp_path / "findings.json").write_text(json.dumps(findings))
    (tmp_path / "summary.md").touch()
    expected = ["Sentence 0.", "Sentence 2.", "Sentence 3."]
    expected.append(f"The study is finished: {tmp_path}/summary.md")
    assert announcements.finished(tmp_path) == expected
    (tmp_path / "report.html").touch()
    assert announcements.finished(tmp_path)[4:] == [
        f"The study is finished: {tmp_path}/report.html"
    ]
    (tmp_path / "findings.json").write_text("[]")
    assert announcements.finished(tmp_path)[0] == f"The study is finished: {tmp_path}/summary.md"


@pytest.mark.parametrize("content", ["[{}]", "3", '{"kind": 1}', "[", "[{'kind'"])
def test_findings_that_are_none_end_in_one_line(tmp_path, content):
    (tmp_path / "findings.json").write_text(content)
    with pytest.raises(UserError, match="^.*findings.json: cannot be read .*start again.*$"):
        announcements.finished(tmp_path)


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b"\xff\xfe\x00", b"recipe,seed\n1,2,3\n", b'recipe\n"a"b\n\xe4']
)
def test_a_table_of_failures_that_is_none_ends_in_one_line(tmp_path, content):
    path = tmp_path / "failures.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match="^.*failures.csv: cannot be read .*start again.*$"):
        failed_runs(path, 6)


def test_a_damaged_table_of_failures_is_not_counted(tmp_path):
    path = tmp_path / "results" / "mine" / "failures.csv"
    write_csv(path, pd.DataFrame({"recipe": ["decay"], "seed": [0]}))
    assert failed_runs(path, 6) == [f"FAILED: 1 of 6 runs; why: {path}"]
    path.write_text(path.read_text().replace("decay,0", "decay,1"))
    with pytest.raises(UserError, match="failures.csv: damaged between its bytes"):
        failed_runs(path, 6)


def test_runs_that_failed_are_counted_once_each(tmp_path):
    path = tmp_path / "failures.csv"
    assert failed_runs(path, 6) == []
    head = "dataset,backbone,start,recipe,seed,epoch,layer,what,reason,learning_rate\n"
    path.write_text(head)
    assert failed_runs(path, 6) == []
    path.write_text(
        head + 'd,net,random,wild,0,1,a,w,"the loss, it is not finite",1.0\n'
        "d,net,random,wild,0,1,b,w,r,1.0\nd,net,random,wild,0,1,b,w,r,2.0\n"
        "d,net,random,wild,1,1,,w,r,1.0\n"
    )
    assert failed_runs(path, 6) == [f"FAILED: 3 of 6 runs; why: {path}"]
    path.write_text(f"{path.read_text()}d,,raw,,,0,,w,r,\n")
    assert failed_runs(path, 6) == [f"FAILED: 3 of 6 runs and 1 other feature set; why: {path}"]


def test_a_pretraining_that_nothing_was_kept_of_repeats_nothing(tmp_path):
    """It has no log of its own that could say what was finished."""
    asked = recipe()
    new = Training("pretrain", tmp_path / "progress", asked, [asked["epochs"]], CODE, None, DATA)
    assert trained_again([new]) == []


def test_the_keys_that_do_nothing_because_of_others_are_those_that_kept_epochs_leave_out():
    without_effect = Recipe(epochs=3, optimizer="adam", schedule="constant", loss="mse")
    trained = NetworkRecipe(**NETWORK, **without_effect.training())
    left_out = set(NetworkRecipe.model_fields) - set(identity(trained))
    # These are left out at their defaults.
    at_defaults = {"validation", "patience", "head", "preprocessing", "described_by", "model_code"}
    at_defaults |= {"mean", "std"}
    assert left_out == {*announcements._VOID, *at_defaults}
