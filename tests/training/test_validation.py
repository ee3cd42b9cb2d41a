"""Images that are held out: not trained on, counted right, and patience that ends a training."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from torch import nn
from torchvision.transforms.functional import normalize

from collapseflow.features import batches
from collapseflow.images.datasets import Splits, make_split, stratified_rows, write_dataset
from collapseflow.running.errors import UserError
from collapseflow.training import loop as training
from collapseflow.training.loop import finetune
from collapseflow.training.recipes import NetworkRecipe


def changed(recipe, **keys):
    return recipe.model_copy(update=keys)


CPU = torch.device("cpu")
#: A small network with batch norm and dropout: what the held-out images would leave behind in
#: either is seen.
RECIPE = NetworkRecipe(
    model="mobilenet_v3_small",
    image_size=32,
    normalize="imagenet",
    precision="float32",
    seed=5,
    epochs=2,
    batch_size=8,
    optimizer="adam",
    learning_rate=1e-3,
    validation=0.25,
)
NAMES = [str(n) for n in range(10)]


@pytest.fixture(scope="module")
def data(small_digits):
    """40 real digits."""
    from sklearn.datasets import load_digits

    return make_split(small_digits[:40], load_digits().target[:40])


@pytest.fixture(scope="module")
def rows(data):
    """The images that are held out: a quarter, ten."""
    return stratified_rows(data.labels, 10, RECIPE.seed)


@pytest.fixture(scope="module")
def dataset(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.h5"
    write_dataset(path, Splits(data, data.take(np.arange(5)), NAMES, "digits"))
    return path


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "weights.pth"
    torch.manual_seed(1)
    network = torchvision.models.get_model(RECIPE.model, num_classes=26)
    torch.save(network.state_dict(), path)
    return path


def run(folder, dataset, start, recipe, kept=None):
    """Fine-tune as the workflow does; the weights by epoch, and the log."""
    shutil.rmtree(folder / "weights", ignore_errors=True)
    finetune(
        dataset,
        recipe,
        range(1, recipe.epochs + 1) if kept is None else kept,
        [CPU],
        start,
        "random weights",
        folder / "progress",
        "0" * 16,
        folder / "weights",
        folder / "log.json",
    )
    weights = {
        int(path.stem.removeprefix("epoch")): safetensors.torch.load_file(path)
        for path in sorted(folder.glob("weights/*.safetensors"))
    }
    return weights, json.loads((folder / "log.json").read_text())


def assert_equal(weights, expected):
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name


# --- held out ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validated(dataset, start, tmp_path_factory):
    return run(tmp_path_factory.mktemp("validated"), dataset, start, RECIPE)


def test_each_class_gives_its_share(data, rows):
    trained_on, held_out = training.hold_out(data, RECIPE)
    assert held_out.ids.tolist() == data.ids[rows].tolist()
    assert sorted([*trained_on.ids, *held_out.ids]) == data.ids.tolist()
    class_sizes = np.bincount(data.labels, minlength=10)
    assert np.abs(np.bincount(held_out.labels, minlength=10) - class_sizes / 4).max() < 1
    assert (
        training.hold_out(data, changed(RECIPE, seed=6))[1].ids.tolist() != data.ids[rows].tolist()
    )


def test_the_network_is_that_of_a_training_without_these_images(
    data, rows, validated, start, tmp_path
):
    rest = data.take(np.setdiff1d(np.arange(40), rows))
    path = tmp_path / "rest.h5"
    write_dataset(path, Splits(rest, data.take(np.arange(5)), NAMES, "digits"))
    weights, log = run(tmp_path, path, start, changed(RECIPE, validation="none"))
    for epoch in (1, 2):
        assert_equal(validated[0][epoch], weights[epoch])
    for ours, other in zip(validated[1], log, strict=True):
        assert "validation_loss" not in other
        for key in ("loss", "gradient_norm", "last_batch_accuracy", "learning_rate"):
            assert ours[key] == other[key]


@pytest.mark.parametrize("epoch", [1, 2])
def test_accuracy_and_loss_are_those_of_the_saved_network_in_evaluation_mode(
    data, rows, validated, epoch
):
    network = torchvision.models.get_model(RECIPE.model, num_classes=10).eval()
    network.load_state_dict(validated[0][epoch])
    held_out = data.take(rows)
    images = nn.functional.interpolate(
        torch.from_numpy(held_out.images)[:, None].float(),
        (32, 32),
        mode="bilinear",
        antialias=True,
    )
    images = normalize(
        (images / 255).repeat(1, 3, 1, 1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with torch.no_grad():
        logits = network(images).double().numpy()
    right = logits.argmax(axis=1) == held_out.labels
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    own_class = shifted[np.arange(10), held_out.labels] / shifted.sum(axis=1)
    record = validated[1][epoch - 1]
    assert record["validation_accuracy"] == right.mean()
    assert record["validation_loss"] == pytest.approx(-np.log(own_class).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"validation": 0.01}, "validation: 0.01 of 40 training images is none"),
        (
            {"batch_size": 31},
            "batch_size: 31 is more than the 30 training images that validation leaves",
        ),
    ],
)
def test_too_few_images_are_refused(dataset, start, tmp_path, keys, words):
    with pytest.raises(UserError, match=words):
        run(tmp_path, dataset, start, changed(RECIPE, **keys))


def test_where_they_do_not_fit_the_epoch_starts_again_with_less(
    dataset, start, tmp_path, monkeypatch
):
    preprocess, seen = training.preprocess, []

    def check(batch, *arguments, **named):
        if not torch.is_grad_enabled():
            seen.append(len(batch))
            if len(batch) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return preprocess(batch, *arguments, **named)

    monkeypatch.setattr(training, "preprocess", check)
    _, log = run(tmp_path, dataset, start, changed(RECIPE, epochs=1))
    assert seen == [8, 4, 4, 2]
    assert len(log) == 1


@pytest.mark.parametrize("n_bytes", [0, 2**40])
def test_batches_that_are_filled_up_count_each_image_once(
    data, dataset, start, monkeypatch, n_bytes
):
    _, held_out = training.hold_out(data, RECIPE)
    network = torchvision.models.get_model(RECIPE.model, num_classes=10)
    arguments = (network, held_out, RECIPE, CPU, 4)
    expected = training.validate(*arguments)
    seen, forward = [], type(network).forward
    monkeypatch.setattr(
        type(network), "forward", lambda self, x: [seen.append(len(x)), forward(self, x)][1]
    )
    monkeypatch.setattr(batches, "is_tuned_by_size", lambda device: True)
    monkeypatch.setattr(batches, "memory_left", lambda device: n_bytes)
    found = training.validate(*arguments)
    # Ten images: four, four, and two.
    assert seen == [4, 4, 4]
    assert found["validation_accuracy"] == expected["validation_accuracy"]
    assert found["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-5)


# --- patience ---------------------------------------------------------------------------------

#: By epoch, the loss on held-out images. The best epoch is the second, and the third after it that
#: is no better is the fifth.
LOSSES = {1: 1.0, 2: 0.5, 3: 0.75, 4: 0.5, 5: 0.625, 6: 0.25, 7: 0.25}
PATIENT = changed(RECIPE, epochs=7, patience=3)


class Killed(BaseException):
    """A job ends in the middle."""


@pytest.fixture
def course(monkeypatch):
    """Lets the losses be those above; gives the epochs that are trained, in order."""
    epochs = []
    train_one_epoch = training.train_one_epoch

    def count(network, optimizer, data, recipe, epoch, *others):
        if epoch in killed:
            killed.remove(epoch)
            raise Killed
        epochs.append(epoch)
        return train_one_epoch(network, optimizer, data, recipe, epoch, *others)

    def scripted(*_):
        return {"validation_accuracy": 0.5, "validation_loss": LOSSES[epochs[-1]]}

    killed = set()
    monkeypatch.setattr(training, "train_one_epoch", count)
    monkeypatch.setattr(training, "validate", scripted)
    return SimpleNamespace(epochs=epochs, killed=killed)


@pytest.fixture(scope="module")
def all_epochs(dataset, start, tmp_path_factory):
    """The weights of each of seven epochs without patience."""
    recipe = changed(PATIENT, patience=None)
    return run(tmp_path_factory.mktemp("all"), dataset, start, recipe)[0]


def test_training_stops_and_later_epochs_are_the_best_one(
    dataset, start, tmp_path, course, all_epochs, caplog
):
    caplog.set_level("INFO")
    weights, log = run(tmp_path, dataset, start, PATIENT)
    assert course.epochs == [1, 2, 3, 4, 5]
    for epoch in range(1, 6):
        assert_equal(weights[epoch], all_epochs[epoch])
    for epoch in (6, 7):
        assert_equal(weights[epoch], all_epochs[2])
    assert [record.get("best_epoch") for record in log] == [None] * 4 + [2]
    assert [record["validation_loss"] for record in log] == [LOSSES[n] for n in range(1, 6)]
    assert "stopped after epoch 5" in caplog.text
    assert "later epochs have the weights of epoch 2" in caplog.text


@pytest.mark.parametrize("killed", [2, 3, 4, 5])
def test_a_killed_training_stops_where_it_would_have(
    dataset, start, tmp_path, course, all_epochs, killed
):
    course.killed.add(killed)
    # The best epoch is none of those that are kept.
    kept = [1, 4]
    with pytest.raises(Killed):
        run(tmp_path, dataset, start, PATIENT, kept)
    weights, log = run(tmp_path, dataset, start, PATIENT, kept)
    assert course.epochs == [1, 2, 3, 4, 5]
    assert {epoch: w.keys() for epoch, w in weights.items()} == dict.fromkeys(
        (1, 4, 7), all_epochs[1].keys()
    )
    for epoch, expected in ((1, 1), (4, 4), (7, 2)):
        assert_equal(weights[epoch], all_epochs[expected])
    assert log[-1]["best_epoch"] == 2
    # Only what is needed is there.
    (folder,) = (tmp_path / "progress").iterdir()
    files = {path.name.split(".")[0] for path in folder.glob("epoch???.safetensors")}
    assert files == {"epoch001", "epoch002", "epoch004", "epoch005"}
    # Nothing is left to do, whichever epochs are asked for.
    run(tmp_path, dataset, start, PATIENT, [1])
    assert course.epochs == [1, 2, 3, 4, 5]


def test_more_epochs_train_nothing_where_training_has_stopped(
    dataset, start, tmp_path, course, all_epochs
):
    run(tmp_path, dataset, start, changed(PATIENT, epochs=6))
    weights, _ = run(tmp_path, dataset, start, PATIENT)
    assert course.epochs == [1, 2, 3, 4, 5]
    assert_equal(weights[7], all_epochs[2])


def test_the_best_epoch_is_trained_again_where_its_weights_are_lost(
    dataset, start, tmp_path, course, all_epochs
):
    run(tmp_path, dataset, start, PATIENT, [7])
    (folder,) = (tmp_path / "progress").iterdir()
    (folder / "epoch002.safetensors").unlink()
    weights, _ = run(tmp_path, dataset, start, PATIENT, [7])
    assert course.epochs == [1, 2, 3, 4, 5] * 2
    assert_equal(weights[7], all_epochs[2])


def test_patience_that_is_not_at_its_end_changes_nothing(
    dataset, start, tmp_path, course, all_epochs
):
    weights, log = run(tmp_path, dataset, start, changed(PATIENT, patience=4))
    assert course.epochs == [1, 2, 3, 4, 5, 6, 7]
    assert_equal(weights[7], all_epochs[7])
    assert all("best_epoch" not in record for record in log)


def test_a_loss_on_held_out_images_that_is_not_finite_ends_the_training(
    dataset, start, tmp_path, course, monkeypatch
):
    monkeypatch.setitem(LOSSES, 3, float("nan"))
    weights, log = run(tmp_path, dataset, start, PATIENT)
    assert sorted(weights) == [1, 2] and len(log) == 2
    reason = json.loads((tmp_path / "weights" / "failed.json").read_text())["failed"]
    assert reason == "the validation loss of epoch 3 is not finite"


def test_held_out_images_share_no_group_with_those_that_are_trained_on(data):
    grouped = make_split(data.images, data.labels, groups=np.arange(40) // 4)
    trained_on, held_out = training.hold_out(grouped, RECIPE)
    assert not set(trained_on.groups) & set(held_out.groups)
    assert 8 <= len(held_out.labels) <= 12
    assert sorted([*trained_on.ids, *held_out.ids]) == list(range(40))
