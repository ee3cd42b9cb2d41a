"""Trainings made elsewhere: checkpoints by the numbers in their names, and runs of the study."""

import pytest
import torch

from collapseflow.features.checkpoints import link_checkpoints
from collapseflow.features.extraction import epoch_failure, weights_after
from collapseflow.features.networks import build
from collapseflow.running.errors import UserError
from collapseflow.study.check import check_against_libraries, check_once
from collapseflow.study.elsewhere import find_checkpoints, missing_epochs
from collapseflow.study.plan import Plan
from collapseflow.study.schema import load


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("names", "pattern", "counted_from", "epochs"),
    [
        (["e_1.pt", "e_10.pt", "e_2.pt", "e_last.pt"], "e_{epoch}.pt", 1, [1, 2, 10]),
        (["e-0001.pt", "e-0012.pt", "e-0001.txt"], "e-{epoch}.pt", 1, [1, 12]),
        (["a/3/w.ckpt", "a/4/w.ckpt"], "a/{epoch}/w.ckpt", 1, [3, 4]),
        (["epoch=0-step=5.ckpt", "epoch=1-step=10.ckpt"], "epoch={epoch}-step=*.ckpt", 0, [1, 2]),
        (["e[1]_7.pt", "e1_8.pt"], "e[1]_{epoch}.pt", 1, [7]),
    ],
)
def test_epochs_come_from_the_names(names, pattern, counted_from, epochs, tmp_path):
    touch(tmp_path, *names)
    found = find_checkpoints(f"{tmp_path}/{pattern}", counted_from)
    assert list(found) == epochs
    assert {str(tmp_path / name) for name in names} >= set(found.values())


@pytest.mark.parametrize(
    ("names", "pattern", "words"),
    [
        (["e_1.pt"], "e_1.pt", "has {epoch} 0 times; allowed: once"),
        (["e_1.pt"], "{epoch}_{epoch}.pt", "has {epoch} 2 times; allowed: once"),
        ([], "e_{epoch}.pt", "matches no file"),
        (["e_x.pt"], "e_{epoch}.pt", "matches no file"),
        (["e_1.pt", "e_01.pt"], "e_{epoch}.pt", "e_01.pt and .*e_1.pt are both of epoch 1"),
        (["e_0.pt", "e_1.pt"], "e_{epoch}.pt", "e_0.pt is from before the first epoch"),
    ],
)
def test_other_names_are_refused_in_a_line(names, pattern, words, tmp_path):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=words) as caught:
        find_checkpoints(f"{tmp_path}/{pattern}", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("epochs", "missing"),
    [([3], []), ([1, 2, 3], []), ([10, 20, 40, 50], [30]), ([5, 1, 2], [3, 4])],
)
def test_a_missing_epoch_is_found_by_the_step_of_the_others(epochs, missing):
    assert missing_epochs(epochs) == missing


@pytest.fixture
def study(tmp_path):
    """A function that loads a study with one training made elsewhere, with changed keys."""
    touch(tmp_path, "e_2.pt", "e_4.pt")

    def make(**changes):
        entry = {
            "backbone": "net",
            "dataset": "digits",
            "checkpoints": f"{tmp_path}/e_{{epoch}}.pt",
        }
        return load(
            {
                "study": "toy",
                "datasets": {"digits": {"source": "digits"}, "letters": {"source": "letters"}},
                "backbones": {"net": {"model": "resnet18", "weights": ["random", "imagenet"]}},
                "recipes": {"ours": {"epochs": 3}},
                "runs": [{"datasets": ["digits"], "starts": ["random"]}],
                "seeds": [0, 3],
                "trainings": {"theirs": {**entry, **changes}},
            }
        )

    return make


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "nat"}, r"trainings\.theirs\.backbone: 'nat' is unknown; did you mean 'net'"),
        ({"dataset": "d"}, r"trainings\.theirs\.dataset: 'd' is unknown; allowed: digits, letters"),
        ({"start": "file"}, r"trainings\.theirs\.start: 'file' is unknown; allowed: random, imag"),
        ({"seed": 1}, r"trainings\.theirs\.seed: 1 is no seed of the study; allowed: 0, 3"),
        ({"checkpoints": "e_1.pt"}, r"trainings\.theirs\.checkpoints: 'e_1\.pt' has \{epoch\} 0"),
        ({"epochs": 3}, r"trainings\.theirs\.epochs: is unknown; "),
        ({"log": "no.csv"}, r"trainings\.theirs\.log: no\.csv is no file here; allowed: a CSV"),
        ({"columns": {"loss": "l"}}, r"trainings\.theirs\.columns: are those of a log; allowed"),
        (
            {"log": "no.csv", "columns": {"los": "l"}},
            r"trainings\.theirs\.columns\.los: value \"los\" is refused; did you mean 'loss'\? ",
        ),
    ],
)
def test_what_a_training_names_must_be_there(study, changes, words):
    with pytest.raises(UserError, match=f"^config key {words}"):
        study(**changes)


def test_seeds_stand_in_the_pattern(tmp_path, study):
    touch(tmp_path, "s0/e_1.pt", "s0/e_2.pt", "s3/e_1.pt", "s3/e_2.pt")
    pattern = f"{tmp_path}/s{{seed}}/e_{{epoch}}.pt"
    made = Plan(study(checkpoints=pattern))
    runs = [run for run in made.runs if run.recipe == "theirs"]
    # Two runs of one series: a curve with a band.
    assert [run.state.seed for run in runs] == [0, 3]
    assert {run.series for run in runs} == {"net/random/theirs"}
    assert made.jobs.checkpoints("net/random/theirs/s3") == [
        f"{tmp_path}/s3/e_1.pt",
        f"{tmp_path}/s3/e_2.pt",
    ]
    assert [run.seed for run in study(checkpoints=pattern, seed=3).run_names][-1] == 3
    touch(tmp_path, "s0/log.csv", "s3/log.csv")
    made = Plan(study(checkpoints=pattern, log=f"{tmp_path}/s{{seed}}/log.csv"))
    assert made.jobs.log_made("net/random/theirs/s3") == [f"{tmp_path}/s3/log.csv"]
    with pytest.raises(UserError, match=r"log: .* is one for several seeds; allowed: with {seed}"):
        study(checkpoints=pattern, log=f"{tmp_path}/s0/log.csv")
    touch(tmp_path, "s3/e_3.pt")
    with pytest.raises(UserError, match="checkpoints: seed 3 has a file of epoch 3, seed 0 "):
        study(checkpoints=pattern)


def test_a_training_is_not_called_as_a_recipe(study):
    with pytest.raises(UserError, match=r"trainings\.theirs: is what a recipe is called"):
        load({**study().model_dump(exclude_unset=True), "recipes": {"theirs": {}}})


def test_a_training_is_a_run_with_the_epochs_of_its_files(study, tmp_path):
    made = Plan(study(seed=3))
    *ours, theirs = made.runs
    assert {run.path for run in ours} == {"net/random/ours/s0", "net/random/ours/s3"}
    assert (theirs.dataset, theirs.path) == ("digits", "net/random/theirs/s3")
    assert made.jobs.measured_epochs(theirs.path) == [2, 4]
    assert made.jobs.checkpoints(theirs.path) == [f"{tmp_path}/e_2.pt", f"{tmp_path}/e_4.pt"]
    assert made.runs.last(theirs).path == "net/random/theirs/s3/epoch004"
    # Its last layer tells the data set's classes; that of ours says so itself.
    assert made.jobs.reading_of_run(theirs.path)["classes_told"] is True
    assert made.jobs.reading("digits", f"{theirs.path}/epoch004")["classes_told"] is True
    for path in ("net/random/s3/epoch000", "net/random/ours/s3/epoch003"):
        assert "classes_told" not in made.jobs.reading("digits", path)
    assert "classes_told" not in made.jobs.reading_of_run(ours[0].path)
    # It is not trained here.
    stages = {(stage, name) for stage, _, name in made.timed_jobs}
    assert ("finetune", theirs.path) not in stages and ("reduce_epochs", theirs.path) in stages
    assert made.labels.run(theirs) == "net, theirs"


def test_checkpoints_that_do_not_fit_are_refused_before_any_job(study, tmp_path, caplog):
    def save(epoch, model, n_classes):
        torch.save({"net": build(model, n_classes).state_dict()}, tmp_path / f"e_{epoch}.pt")

    def found():
        return check_against_libraries(study())

    for epoch in (1, 2, 4):
        save(epoch, "resnet18", 10)
    assert found() == []
    assert caplog.messages.count("trainings.theirs: has no checkpoint of epoch 3") == 1
    caplog.clear()
    # A run says it, too, also where all was checked before.
    for _ in range(2):
        check_once(study(), tmp_path / "cache")
    assert caplog.messages == ["trainings.theirs: has no checkpoint of epoch 3"] * 2
    (tmp_path / "log.csv").write_text("epoch,l\n2,0.5\n")
    (line,) = check_against_libraries(study(log=f"{tmp_path}/log.csv"))
    assert line.startswith(f"config key trainings.theirs.log: {tmp_path}/log.csv: has no column ")
    # What stands in a file ends no line.
    (tmp_path / "log.csv").write_text('epoch,loss\n1,"2\f3\n4"\n')
    (line,) = check_against_libraries(study(log=f"{tmp_path}/log.csv"))
    assert line.endswith(r"/log.csv: loss is 2\x0c3\n4; allowed: numbers")
    here = "config key trainings.theirs.checkpoints: "
    save(4, "resnet18", 9)
    (line,) = found()
    assert line.startswith(f"{here}{tmp_path}/e_4.pt: its last layer tells 9 classes, and ")
    save(4, "resnet34", 10)
    (line,) = found()
    assert line.startswith(f"{here}{tmp_path}/e_4.pt: not the weights of resnet18: ")


def test_another_start_and_a_label_may_be_named(study):
    made = Plan(study(start="imagenet", label="Their loop"))
    *_, theirs = made.runs
    assert theirs.path == "net/imagenet/theirs/s0"
    assert made.labels.run(theirs).endswith(", Their loop")


def test_checkpoints_are_linked_and_found_by_their_epoch(tmp_path):
    touch(tmp_path, "e_2.ckpt", "e_11.safetensors")
    files = {2: tmp_path / "e_2.ckpt", 11: tmp_path / "e_11.safetensors"}
    folder = tmp_path / "weights"
    link_checkpoints(files, folder)
    for epoch, path in files.items():
        assert weights_after(folder, epoch).resolve() == path
        assert weights_after(folder, epoch).suffix == path.suffix
        assert epoch_failure(folder, epoch) is None
    with pytest.raises(UserError, match="has no weights of epoch 1, "):
        epoch_failure(folder, 1)
