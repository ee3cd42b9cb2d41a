"""Training: bit for bit the same as a plain PyTorch loop, in one go or interrupted anywhere."""

import itertools
import json
import math
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from safetensors import safe_open
from torch import nn
from torchvision.transforms.functional import normalize

from collapseflow.features import batches
from collapseflow.features.extraction import Reading, store, write_network_features
from collapseflow.images.datasets import Splits, make_split, read_info, write_dataset
from collapseflow.running import hardware
from collapseflow.running.errors import UserError
from collapseflow.running.files import failure
from collapseflow.training import loop as training
from collapseflow.training.loop import (
    Training,
    finetune,
    initialize,
    pretrain,
    seed_everything,
    train,
)
from collapseflow.training.recipes import NetworkRecipe


def with_keys(recipe, **keys):
    return recipe.model_copy(update=keys)


CPU = torch.device("cpu")
N_CLASSES = 10
#: A small network that drops values: it goes on right only with the right seeds.
RECIPE = NetworkRecipe(
    model="squeezenet1_1",
    image_size=32,
    normalize="imagenet",
    precision="float32",
    seed=5,
    epochs=3,
    batch_size=8,
    optimizer="adam",
    learning_rate=2e-4,
    head_gain=0.02,
)
#: One with batch norm as well, whose last layer is an ordinary linear one.
BATCH_NORM = with_keys(RECIPE, model="mobilenet_v3_small")
LAST_LAYER = {"squeezenet1_1": "classifier.1", "mobilenet_v3_small": "classifier.3"}
CODE = "0" * 16


@pytest.fixture(scope="module")
def data(small_digits):
    """19 real digits: two batches of 8, and 3 images that are left over."""
    from sklearn.datasets import load_digits

    return make_split(small_digits[:19], load_digits().target[:19])


def held_out(data):
    """Every second image: a batch of 8, and 2 images that are left over."""
    return data.take(np.arange(0, 19, 2))


def write_digits(path, data, n_classes=N_CLASSES):
    """A data set's file with these training images."""
    names = [f"class {n}" for n in range(n_classes)]
    write_dataset(path, Splits(data, held_out(data), names, "digits"))
    return path


@pytest.fixture(scope="module")
def dataset(data, tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("data") / "digits.h5", data)


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """By model, weights for 26 classes that fine-tuning starts from, as PyTorch saves them."""
    folder = tmp_path_factory.mktemp("start")
    paths = {model: folder / f"{model}.pth" for model in LAST_LAYER}
    for model, path in paths.items():
        torch.manual_seed(1)
        torch.save(torchvision.models.get_model(model, num_classes=26).state_dict(), path)
    return paths


@pytest.fixture(scope="module")
def start(starts):
    return starts[RECIPE.model]


def output_files(folder, epochs):
    return [folder / "weights" / f"epoch{epoch:03d}.safetensors" for epoch in range(1, epochs + 1)]


def run(folder, epochs, dataset, start, recipe=RECIPE, code=CODE, kept=None):
    """Fine-tune as the workflow does: outputs are deleted first, the progress folder stays.

    Gives the weights of the epochs in ``kept``, all of them if it is not given.
    """
    shutil.rmtree(folder / "weights", ignore_errors=True)
    (folder / "log.json").unlink(missing_ok=True)
    # What was drawn before must not matter.
    torch.manual_seed(100 + epochs)
    finetune(
        dataset,
        with_keys(recipe, epochs=epochs),
        range(1, epochs + 1) if kept is None else kept,
        [CPU],
        start,
        "random weights",
        folder / "progress",
        code,
        folder / "weights",
        folder / "log.json",
    )
    return [
        safetensors.torch.load_file(path) for path in sorted(folder.glob("weights/*.safetensors"))
    ]


def read_log(folder):
    return json.loads((folder / "log.json").read_text())


def parts(folder):
    """The one folder of parts below the progress folder that has not been set aside."""
    folders = (folder / "progress").iterdir()
    (found,) = (path for path in folders if "set-aside" not in path.name)
    return found


def set_aside(folder):
    """Names of the parts that were set aside."""
    return sorted(path.name for path in (folder / "progress").glob("*-set-aside-*/[!.]*"))


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def assert_equal(weights, expected):
    """The same names and the same bits."""
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert weights[name].dtype == value.dtype, name
        assert torch.equal(weights[name], value), name


@pytest.fixture
def trained(monkeypatch):
    """The epochs that were trained, in order."""
    epochs = []
    train_one_epoch = training.train_one_epoch

    def count(network, optimizer, data, recipe, epoch, *others):
        epochs.append(epoch)
        return train_one_epoch(network, optimizer, data, recipe, epoch, *others)

    monkeypatch.setattr(training, "train_one_epoch", count)
    return epochs


# --- the same as a plain loop -----------------------------------------------------------------


def train_call_by_call(tmp_path_factory, dataset, start, recipe=RECIPE):
    """Folders after one, two and three epochs, each epoch trained from the files of the last."""
    folders = {}
    for epoch in (1, 2, 3):
        folders[epoch] = tmp_path_factory.mktemp(f"epoch{epoch}")
        if epoch > 1:
            shutil.copytree(folders[epoch - 1] / "progress", folders[epoch] / "progress")
        run(folders[epoch], epoch, dataset, start, recipe)
    return folders


@pytest.fixture(scope="module")
def call_by_call(dataset, start, tmp_path_factory):
    return train_call_by_call(tmp_path_factory, dataset, start)


@pytest.fixture(scope="module")
def uninterrupted(dataset, start, tmp_path_factory):
    """The weights after each of three epochs in one call."""
    return run(tmp_path_factory.mktemp("one call"), 3, dataset, start)


@pytest.fixture
def keep(call_by_call, tmp_path):
    """A function that gives a folder in which so many epochs were trained."""

    def copy(epochs):
        shutil.copytree(call_by_call[epochs] / "progress", tmp_path / "progress")
        return tmp_path

    return copy


@pytest.fixture
def kept(keep):
    """A folder in which three epochs were trained."""
    return keep(3)


def new_head(starts, recipe):
    """The network that fine-tuning starts with, made by hand."""
    seed_everything(recipe.seed, 0)
    network = torchvision.models.get_model(recipe.model, num_classes=N_CLASSES)
    path = LAST_LAYER[recipe.model]
    last = network.get_submodule(path)
    head = {f"{path}.{name}": value for name, value in last.named_parameters()}
    network.load_state_dict({**torch.load(starts[recipe.model]), **head})
    if recipe.head_gain is not None:
        nn.init.xavier_normal_(last.weight, gain=recipe.head_gain)
        nn.init.zeros_(last.bias)
    return network


def prepared(data):
    """Images as the network takes them, made by hand."""
    images = nn.functional.interpolate(
        torch.from_numpy(data.images)[:, None].float(), (32, 32), mode="bilinear", antialias=True
    )
    images = (images / 255).repeat(1, 3, 1, 1)
    return normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def plain_loop(
    network,
    data,
    epochs,
    make_optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-4, fused=True),
    rates=None,
    loss_of=nn.functional.cross_entropy,
    leaked=None,
):
    """Train by hand, the images too, with everything in memory; by epoch weights, moments, loss,
    the gradient's norm, and accuracies on the last batch and on the images that leak."""
    network = network.to(memory_format=torch.channels_last).train()
    assert any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())
    optimizer = make_optimizer(network.parameters())
    rates = iter(rates or ())
    images = prepared(data)
    after = {}
    for epoch in epochs:
        order = seed_everything(RECIPE.seed, epoch).permutation(19)
        losses, norms = [], []
        for rows in order[:16].reshape(2, 8):
            batch = images[rows].contiguous(memory_format=torch.channels_last)
            logits = network(batch)
            loss = loss_of(logits, torch.from_numpy(data.labels[rows]))
            for rate in itertools.islice(rates, 1):
                optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
            norms.append(gradient.double().square().sum().sqrt().item())
            optimizer.step()
            losses.append(loss.item())
        accuracies = [np.mean(logits.detach().numpy().argmax(axis=1) == data.labels[rows])]
        if leaked is not None:
            with torch.no_grad():
                batches = prepared(leaked).split(8)
                logits = torch.cat(
                    [network(b.contiguous(memory_format=torch.channels_last)) for b in batches]
                )
            accuracies.append(np.mean(logits.numpy().argmax(axis=1) == leaked.labels))
        after[epoch] = (
            {name: value.clone() for name, value in network.state_dict().items()},
            [{k: v.clone() for k, v in optimizer.state[p].items()} for p in network.parameters()],
            np.mean(losses),
            np.mean(norms),
            accuracies,
        )
    return after


@dataclass
class Compared:
    """Three epochs of one model: folders epoch by epoch, weights of one call, and the loop."""

    model: str
    folders: dict
    one_call: list
    by_hand: dict
    dataset: Path


@pytest.fixture(scope="module", params=[RECIPE, BATCH_NORM], ids=lambda recipe: recipe.model)
def compared(request, data, dataset, starts, tmp_path_factory):
    model, start = request.param.model, starts[request.param.model]
    if request.param == RECIPE:
        folders = request.getfixturevalue("call_by_call")
        one_call = request.getfixturevalue("uninterrupted")
    else:
        folders = train_call_by_call(tmp_path_factory, dataset, start, request.param)
        one_call = run(tmp_path_factory.mktemp("one call"), 3, dataset, start, request.param)
    by_hand = plain_loop(new_head(starts, request.param), data, (1, 2, 3))
    return Compared(model, folders, one_call, by_hand, dataset)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_weights_equal_the_plain_loop_bit_for_bit(compared, epoch):
    expected = compared.by_hand[epoch][0]
    assert_equal(compared.one_call[epoch - 1], expected)
    path = output_files(compared.folders[3], 3)[epoch - 1]
    assert_equal(safetensors.torch.load_file(path), expected)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_the_optimizer_s_state_equals_the_plain_loop(compared, epoch):
    path = parts(compared.folders[epoch]) / f"epoch{epoch:03d}.optimizer.safetensors"
    state = safetensors.torch.load_file(path)
    names = [n for n, _ in torchvision.models.get_model(compared.model).named_parameters()]
    assert len(state) == 3 * len(names)
    for name, expected in zip(names, compared.by_hand[epoch][1], strict=True):
        assert state[f"{name}/step"].item() == 2 * epoch
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(state[f"{name}/{key}"], expected[key]), name


def test_an_epoch_changes_all_weights(compared, starts):
    before = torch.load(starts[compared.model])
    for name, value in compared.one_call[0].items():
        if not name.startswith(LAST_LAYER[compared.model]):
            assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_metadata_say_what_the_weights_are(compared, epoch):
    said = metadata(output_files(compared.folders[3], 3)[epoch - 1])
    assert said["weights"] == f"{compared.model}, random weights, fine-tuned for {epoch} epochs"
    assert said["epoch"] == str(epoch)
    assert said["task"] == read_info(compared.dataset).sha256
    assert float(said["mean_loss"]) == pytest.approx(compared.by_hand[epoch][2], rel=1e-6)


def test_the_log_has_the_loop_s_losses_and_gradients(compared):
    log = read_log(compared.folders[3])
    assert [record["epoch"] for record in log] == [1, 2, 3]
    for record in log:
        _, _, loss, norm, accuracies = compared.by_hand[record["epoch"]]
        assert record["loss"] == pytest.approx(loss, rel=1e-6)
        assert record["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        assert [record["last_batch_accuracy"]] == accuracies
        assert "validation_accuracy" not in record
        assert record["learning_rate"] == 2e-4
        assert record["images_per_second"] == pytest.approx(16 / record["seconds"])


def test_a_training_repeated_is_the_same_and_another_seed_is_not(
    dataset, start, uninterrupted, tmp_path
):
    (again,) = run(tmp_path / "again", 1, dataset, start)
    assert_equal(again, uninterrupted[0])
    (weights,) = run(tmp_path / "other", 1, dataset, start, with_keys(RECIPE, seed=6))
    name = "features.0.weight"
    assert not torch.equal(weights[name], uninterrupted[0][name])


def test_each_seed_and_epoch_has_its_own_order_and_its_own_draws():
    orders, draws = set(), set()
    for seed in (0, 1):
        for epoch in (0, 1, 2):
            order = tuple(seed_everything(seed, epoch).permutation(50))
            draw = torch.rand(1).item()
            assert sorted(order) == list(range(50))
            assert tuple(seed_everything(seed, epoch).permutation(50)) == order
            assert torch.rand(1).item() == draw
            orders.add(order)
            draws.add(draw)
    assert len(orders) == len(draws) == 6


def test_the_last_partial_batch_is_dropped(call_by_call):
    # Adam counts its steps: 19 images are two whole batches of 8.
    state = safetensors.torch.load_file(parts(call_by_call[3]) / "epoch003.optimizer.safetensors")
    assert {value.item() for name, value in state.items() if name.endswith("/step")} == {6}


def test_the_head_has_a_row_for_each_class_of_the_data_set(data, start, tmp_path):
    path = write_digits(tmp_path / "more.h5", data, n_classes=13)
    (weights,) = run(tmp_path, 1, path, start)
    assert weights["classifier.1.weight"].shape == (13, 512, 1, 1)


def files_below(folder):
    """Files that hold something which was trained."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if "depends_on.json" not in path.name]


def test_fewer_images_than_a_batch_are_refused(dataset, start, tmp_path):
    large = with_keys(RECIPE, batch_size=20)
    with pytest.raises(UserError, match="batch_size: 20 is more than the 19 training images"):
        run(tmp_path, 1, dataset, start, large)
    assert files_below(tmp_path) == []


# --- a training that diverges -----------------------------------------------------------------


def diverge_in(monkeypatch, epoch, what="loss"):
    """Let one epoch end with a value that is not finite."""
    train_one_epoch = training.train_one_epoch

    def diverge(network, optimizer, data, recipe, now, *others):
        log = train_one_epoch(network, optimizer, data, recipe, now, *others)
        return {**log, what: math.nan} if now == epoch else log

    monkeypatch.setattr(training, "train_one_epoch", diverge)


def test_a_learning_rate_that_is_too_high_leaves_words_in_place_of_weights(
    dataset, start, tmp_path, trained
):
    wild = with_keys(RECIPE, learning_rate=1e30)
    for _ in range(2):
        assert run(tmp_path, 2, dataset, start, wild) == []
        assert failure(tmp_path / "weights") == "the loss of epoch 1 is not finite"
        assert read_log(tmp_path) == []
    # It is remembered: the second run does not train only to fail again.
    assert trained == [1]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("loss", "the loss of epoch 3 is not finite"),
        ("gradient_norm", "the gradient norm of epoch 3 is not finite"),
    ],
)
def test_the_epochs_before_one_that_diverges_are_published(
    dataset, start, uninterrupted, tmp_path, trained, monkeypatch, what, reason
):
    with monkeypatch.context() as patch:
        diverge_in(patch, 3, what)
        weights = run(tmp_path, 4, dataset, start, kept=[1, 3])
    assert trained == [1, 2, 3]
    assert failure(tmp_path / "weights") == reason
    assert [record["epoch"] for record in read_log(tmp_path)] == [1, 2]
    (weights,) = weights
    assert_equal(weights, uninterrupted[0])
    # Fewer epochs do not come to the one that failed.
    weights = run(tmp_path, 2, dataset, start)
    assert failure(tmp_path / "weights") is None
    assert trained == [1, 2, 3]
    assert_equal(weights[1], uninterrupted[1])
    # It is remembered while epochs before it are trained again.
    flip_a_byte(parts(tmp_path) / "epoch001.safetensors")
    weights = run(tmp_path, 4, dataset, start, kept=[1, 2])
    assert failure(tmp_path / "weights") == reason
    assert trained == [1, 2, 3, 1, 2]
    for found, expected in zip(weights, uninterrupted[:2], strict=True):
        assert_equal(found, expected)


def test_a_pretraining_that_diverges_is_a_mistake(dataset, tmp_path):
    wild = with_keys(RECIPE, learning_rate=1e30)
    words = "squeezenet1_1, pretraining: the loss of epoch 1 is not finite; lower the learning rate"
    with pytest.raises(UserError, match=words):
        run_pretrain(tmp_path, 1, dataset, wild)
    assert not (tmp_path / "1.safetensors").exists()


# --- finished epochs are kept -----------------------------------------------------------------


def fail_at(monkeypatch, name, call):
    """Let a function of the module do its work and then fail, at one of its calls."""
    function, calls = getattr(training, name), itertools.count(1)

    def fail(*arguments):
        answer = function(*arguments)
        if next(calls) == call:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(training, name, fail)


@pytest.mark.parametrize(
    ("name", "call", "epochs", "missing"),
    [
        ("train_one_epoch", 1, [1], [1, 2, 3]),
        ("train_one_epoch", 2, [1, 2], [2, 3]),
        ("train_one_epoch", 3, [1, 2, 3], [3]),
        ("save_state", 5, [1, 2, 3], [3]),
        ("save_state", 6, [1, 2, 3], [3]),
        ("write_json", 2, [1, 2], [3]),
        ("publish", 1, [1, 2, 3], []),
    ],
    ids=[
        "in the first epoch",
        "in the second epoch",
        "in the last epoch",
        "after the optimizer's state",
        "after the weights",
        "after the record",
        "after the first output",
    ],
)
def test_an_interrupted_training_goes_on_and_ends_in_the_same_weights(
    dataset, start, uninterrupted, tmp_path, trained, monkeypatch, name, call, epochs, missing
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, name, call)
        run(tmp_path, 3, dataset, start)
    assert trained == epochs
    trained.clear()
    weights = run(tmp_path, 3, dataset, start)
    assert trained == missing
    for found, expected in zip(weights, uninterrupted, strict=True):
        assert_equal(found, expected)


def test_a_training_may_be_interrupted_in_every_epoch(
    dataset, start, uninterrupted, tmp_path, trained, monkeypatch
):
    for _ in range(3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            fail_at(patch, "write_json", 1)
            run(tmp_path, 3, dataset, start)
    assert trained == [1, 2, 3]
    assert not (tmp_path / "weights").exists()
    weights = run(tmp_path, 3, dataset, start)
    assert trained == [1, 2, 3]
    for found, expected in zip(weights, uninterrupted, strict=True):
        assert_equal(found, expected)


def test_more_epochs_later_train_only_the_new_ones(dataset, start, uninterrupted, keep, trained):
    weights = run(keep(1), 3, dataset, start)
    assert trained == [2, 3]
    for found, expected in zip(weights, uninterrupted, strict=True):
        assert_equal(found, expected)


def test_fewer_epochs_are_taken_without_training(dataset, start, uninterrupted, kept, trained):
    for epochs in (2, 1, 3):
        weights = run(kept, epochs, dataset, start)
        assert len(weights) == epochs
        for found, expected in zip(weights, uninterrupted, strict=False):
            assert_equal(found, expected)
    assert trained == []


@pytest.fixture
def taken_over(monkeypatch):
    """The seconds of the epochs that were taken over from earlier runs."""
    seconds = []
    monkeypatch.setattr(training, "count_earlier_seconds", seconds.append)
    return seconds


def seconds_of(folder):
    return [record["seconds"] for record in read_log(folder)]


def test_the_seconds_of_epochs_of_earlier_runs_count(dataset, start, keep, taken_over):
    folder = keep(1)
    run(folder, 3, dataset, start)
    assert taken_over == seconds_of(folder)[:1]
    run(folder, 3, dataset, start)
    assert taken_over[1:] == seconds_of(folder)


def test_the_seconds_of_epochs_that_are_trained_anew_do_not_count(dataset, start, keep, taken_over):
    folder = keep(2)
    (parts(folder) / "epoch001.safetensors").write_bytes(b"damaged")
    run(folder, 3, dataset, start)
    assert taken_over == []


def test_the_seconds_before_memory_was_out_in_the_same_run_count_once(
    dataset, start, keep, taken_over, monkeypatch
):
    train_one_epoch, failures = training.train_one_epoch, [3]

    def fail_once(network, optimizer, data, recipe, epoch, device, micro_batch):
        if epoch in failures:
            failures.remove(epoch)
            raise training.OutOfMemory(micro_batch)
        return train_one_epoch(network, optimizer, data, recipe, epoch, device, micro_batch)

    monkeypatch.setattr(training, "train_one_epoch", fail_once)
    folder = keep(1)
    run(folder, 3, dataset, start)
    assert failures == []
    assert taken_over == seconds_of(folder)[:1]


def optimizer_states(folder):
    return [path.name[:8] for path in parts(folder).glob("epoch*.optimizer.*")]


def test_the_optimizer_s_state_is_kept_for_the_newest_epoch_alone(
    dataset, start, tmp_path, monkeypatch
):
    kept = []
    train_one_epoch = training.train_one_epoch

    def look(*arguments):
        kept.append(optimizer_states(tmp_path))
        return train_one_epoch(*arguments)

    monkeypatch.setattr(training, "train_one_epoch", look)
    run(tmp_path, 3, dataset, start)
    assert kept == [[], ["epoch001"], ["epoch002"]]
    run(tmp_path, 2, dataset, start)
    whole = [f"epoch00{n}.{suffix}" for n in (1, 2, 3) for suffix in ("json", "safetensors")]
    whole += ["depends_on.json", "epoch003.optimizer.safetensors"]
    assert sorted(path.name for path in parts(tmp_path).iterdir()) == sorted(
        [*whole, *(f".{name}.xxh3" for name in whole)]
    )


def test_an_optimizer_s_state_that_a_killed_training_left_goes_with_the_next_epoch(
    dataset, start, keep, monkeypatch
):
    folder = keep(1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, "write_json", 1)
        run(folder, 3, dataset, start)
    assert sorted(optimizer_states(folder)) == ["epoch001", "epoch002"]
    run(folder, 3, dataset, start)
    assert optimizer_states(folder) == ["epoch003"]


def another(changed, data, dataset, start, folder):
    """The arguments of :func:`run` with one of them changed."""
    arguments = {"dataset": dataset, "start": start, "recipe": RECIPE, "code": CODE}
    if changed == "data":
        images = data.images.copy()
        images[7, 3, 3] ^= 1
        arguments["dataset"] = write_digits(folder / dataset.name, replace(data, images=images))
    elif changed == "start":
        state = torch.load(start)
        state["features.0.weight"][0, 0, 0, 0] += 1e-3
        arguments["start"] = folder / start.name
        torch.save(state, arguments["start"])
    elif changed == "code":
        arguments["code"] = "1" * 16
    else:
        value = {"seed": 6, "learning_rate": 1e-4, "batch_size": 9, "normalize": "none"}
        value |= {"head_gain": 0.03, "loss": "mse", "weight_decay": 0.1, "augmentation": "flip"}
        arguments["recipe"] = with_keys(RECIPE, **{changed: value[changed]})
    return arguments


@pytest.mark.parametrize(
    "changed",
    [
        *("seed", "learning_rate", "batch_size", "normalize", "head_gain", "loss", "weight_decay"),
        *("augmentation", "start", "data", "code"),
    ],
)
def test_what_changes_the_weights_trains_anew_and_leaves_the_old_parts(
    data, dataset, start, uninterrupted, keep, tmp_path, trained, changed
):
    old = parts(keep(1))
    arguments = another(changed, data, dataset, start, tmp_path)
    (found,) = run(tmp_path, 1, **arguments)
    assert trained == [1]
    assert len(list((tmp_path / "progress").iterdir())) == 2
    assert_equal(safetensors.torch.load_file(old / "epoch001.safetensors"), uninterrupted[0])
    trained.clear()
    run(tmp_path, 1, dataset, start)
    assert trained == []
    (expected,) = run(tmp_path / "fresh", 1, **arguments)
    assert_equal(found, expected)
    same = all(torch.equal(found[name], value) for name, value in uninterrupted[0].items())
    assert same is (changed == "code")


def test_a_data_set_s_own_mean_and_deviation_are_taken_from_its_file(
    data, start, tmp_path, trained
):
    def files(mean, std, name):
        # Colours, so that each channel has a number of its own.
        colours = replace(data, images=np.stack([data.images] * 3, axis=-1))
        names = [f"class {n}" for n in range(N_CLASSES)]
        splits = Splits(colours, held_out(colours), names, "digits", mean, std)
        write_dataset(tmp_path / name, splits)
        return tmp_path / name

    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    own = with_keys(RECIPE, normalize="dataset")
    dataset = files(*imagenet, "digits.h5")
    (expected,) = run(tmp_path / "imagenet", 1, dataset, start)
    (found,) = run(tmp_path, 1, dataset, start, own)
    assert_equal(found, expected)
    # Other numbers train anew, and the same ones nothing, although the images are the same.
    trained.clear()
    other = files((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "other.h5")
    (found,) = run(tmp_path, 1, other, start, own)
    assert trained == [1]
    assert any(not torch.equal(found[name], value) for name, value in expected.items())
    trained.clear()
    (found,) = run(tmp_path, 1, dataset, start, own)
    assert trained == []
    assert_equal(found, expected)
    without = files(None, None, "without.h5")
    line = f"{without}: has no mean and s.d., which normalize 'dataset' takes; set 'mean' and 'std'"
    with pytest.raises(UserError, match=line):
        run(tmp_path, 1, without, start, own)


def test_the_same_data_and_weights_in_other_files_train_nothing_anew(
    data, start, keep, tmp_path, trained
):
    moved = tmp_path / "moved.safetensors"
    # Another format, and words about the making that say nothing about the values.
    safetensors.torch.save_file(torch.load(start), moved, {"seconds": "12.5"})
    run(keep(1), 1, write_digits(tmp_path / "again.h5", data), moved)
    assert trained == []


@pytest.mark.parametrize("first", ["float32", "bfloat16"])
def test_a_precision_that_was_chosen_by_itself_is_kept_on_another_device(
    dataset, start, tmp_path, monkeypatch, caplog, first
):
    recipe = with_keys(RECIPE, precision="auto")
    other = {"float32": "bfloat16", "bfloat16": "float32"}[first]
    for epochs, has in ((1, first), (3, other)):
        monkeypatch.setattr(hardware, "has_bfloat16", lambda device, has=has: has == "bfloat16")
        weights = run(tmp_path, epochs, dataset, start, recipe)
    said = [metadata(path)["precision"] for path in output_files(tmp_path, 3)]
    assert said == [first] * 3
    assert f"going on in {first}, as the epochs before" in caplog.text
    expected = run(tmp_path / "asked for", 3, dataset, start, with_keys(RECIPE, precision=first))
    assert_equal(weights[-1], expected[-1])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def cut_off(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "epoch"),
    [(flip_a_byte, 1), (flip_a_byte, 3), (cut_off, 2), (cut_off, 3), (empty, 3), (delete, 2)],
)
def test_a_damaged_epoch_is_noticed_and_made_good(
    dataset, start, uninterrupted, kept, trained, damage, epoch
):
    damage(parts(kept) / f"epoch00{epoch}.safetensors")
    weights = run(kept, 3, dataset, start)
    # Adam's state of the epoch before is gone.
    assert trained == [1, 2, 3]
    for found, expected in zip(weights, uninterrupted, strict=True):
        assert_equal(found, expected)
    run(kept, 3, dataset, start)
    assert trained == [1, 2, 3]
    # The whole epochs, too: what was trained is never deleted.
    whole = {f"epoch00{n}.safetensors" for n in (1, 2, 3) if damage is not delete or n != epoch}
    assert whole <= set(set_aside(kept))


@pytest.mark.parametrize("damage", [delete, empty, cut_off])
def test_an_epoch_without_a_whole_record_is_trained_again(
    dataset, start, uninterrupted, kept, trained, damage
):
    damage(parts(kept) / "epoch002.json")
    weights = run(kept, 3, dataset, start)
    assert trained == [1, 2, 3]
    for found, expected in zip(weights, uninterrupted, strict=True):
        assert_equal(found, expected)


@pytest.mark.parametrize("damage", [delete, cut_off, flip_a_byte])
def test_without_a_whole_optimizer_s_state_more_epochs_train_all_anew(
    dataset, start, uninterrupted, keep, trained, damage
):
    folder = keep(2)
    damage(parts(folder) / "epoch002.optimizer.safetensors")
    weights = run(folder, 3, dataset, start)
    assert trained == [1, 2, 3]
    for found, expected in zip(weights, uninterrupted, strict=True):
        assert_equal(found, expected)


def test_a_training_that_started_anew_and_was_interrupted_goes_on(
    dataset, start, uninterrupted, kept, trained, monkeypatch
):
    # The older second epoch is whole; it must not be taken for one that follows the new first.
    flip_a_byte(parts(kept) / "epoch003.safetensors")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, "write_json", 1)
        run(kept, 3, dataset, start)
    weights = run(kept, 3, dataset, start)
    assert trained == [1, 2, 3]
    for found, expected in zip(weights, uninterrupted, strict=True):
        assert_equal(found, expected)


def test_deleted_outputs_come_back_from_the_parts(dataset, start, kept, uninterrupted, trained):
    for found, expected in zip(run(kept, 3, dataset, start), uninterrupted, strict=True):
        assert_equal(found, expected)
    for path in output_files(kept, 3):
        path.unlink()
    assert trained == []
    for epoch, expected in enumerate(uninterrupted, start=1):
        path = parts(kept) / f"epoch00{epoch}.safetensors"
        assert_equal(safetensors.torch.load_file(path), expected)


# --- epochs that are written while the next one trains ----------------------------------------


@pytest.fixture
def beside(monkeypatch):
    """Let a CPU go on training while an epoch is written, as a card does."""
    monkeypatch.setattr(training, "is_written_beside", lambda device: True)


def test_an_epoch_is_written_as_it_was_while_the_next_one_trains(
    dataset, start, uninterrupted, tmp_path, monkeypatch, beside
):
    begun = {epoch: threading.Event() for epoch in (1, 2, 3)}
    ended = {epoch: threading.Event() for epoch in (1, 2, 3)}
    train_one_epoch, save_state = training.train_one_epoch, training.save_state
    written = []

    def train(network, optimizer, data, recipe, epoch, *others):
        begun[epoch].set()
        log = train_one_epoch(network, optimizer, data, recipe, epoch, *others)
        ended[epoch].set()
        return log

    def save(path, *arguments):
        epoch = int(path.name[5:8])
        # The first two are written when all weights have changed again.
        assert epoch == 3 or ended[epoch + 1].wait(120)
        assert not any(event.is_set() for later, event in begun.items() if later > epoch + 1)
        written.append(path.name)
        return save_state(path, *arguments)

    monkeypatch.setattr(training, "train_one_epoch", train)
    monkeypatch.setattr(training, "save_state", save)
    for found, expected in zip(run(tmp_path, 3, dataset, start), uninterrupted, strict=True):
        assert_equal(found, expected)
    kinds = ("optimizer.safetensors", "safetensors")
    assert written == [f"epoch00{epoch}.{kind}" for epoch in (1, 2, 3) for kind in kinds]
    assert optimizer_states(tmp_path) == ["epoch003"]


@pytest.mark.parametrize(
    ("name", "call", "missing"),
    [
        ("save_state", 3, [2, 3]),
        ("save_state", 4, [2, 3]),
        ("save_state", 6, [3]),
        ("write_json", 2, [3]),
        # What has begun to be written when the training ends is written.
        ("train_one_epoch", 3, [3]),
    ],
)
def test_a_training_that_ends_while_an_epoch_is_written_goes_on(
    dataset, start, uninterrupted, tmp_path, trained, monkeypatch, beside, name, call, missing
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, name, call)
        run(tmp_path, 3, dataset, start)
    assert trained == [1, 2, 3]
    assert not (tmp_path / "weights").exists()
    trained.clear()
    for found, expected in zip(run(tmp_path, 3, dataset, start), uninterrupted, strict=True):
        assert_equal(found, expected)
    assert trained == missing


def test_an_epoch_that_diverges_is_told_after_the_ones_before_it(
    dataset, start, uninterrupted, tmp_path, monkeypatch, beside
):
    diverge_in(monkeypatch, 2)
    (weights,) = run(tmp_path, 3, dataset, start)
    assert failure(tmp_path / "weights") == "the loss of epoch 2 is not finite"
    assert_equal(weights, uninterrupted[0])


# --- images that stay in the host's memory ----------------------------------------------------


def test_images_that_the_device_does_not_hold_train_the_same(
    dataset, starts, leaked, tmp_path, monkeypatch
):
    monkeypatch.setattr(batches, "memory_left", lambda device: 0)
    (weights,) = run(tmp_path, 1, dataset, starts[LEAKING.model], LEAKING)
    assert_equal(weights, leaked[1][0])
    (ours,), (theirs, *_) = read_log(tmp_path), read_log(leaked[0])
    assert ours["validation_accuracy"] == theirs["validation_accuracy"]


# --- epochs whose weights are not kept --------------------------------------------------------


def names_of(folder, pattern):
    return sorted(path.name[:8] for path in folder.glob(pattern))


def test_weights_are_published_and_kept_of_some_epochs_and_of_the_last(
    dataset, start, uninterrupted, tmp_path, monkeypatch
):
    kept = []
    train_one_epoch = training.train_one_epoch

    def look(*arguments):
        kept.append(names_of(parts(tmp_path), "epoch???.safetensors"))
        return train_one_epoch(*arguments)

    monkeypatch.setattr(training, "train_one_epoch", look)
    first, last = run(tmp_path, 3, dataset, start, kept=[1])
    assert kept == [[], ["epoch001"], ["epoch001", "epoch002"]]
    assert names_of(parts(tmp_path), "epoch???.safetensors") == ["epoch001", "epoch003"]
    assert names_of(tmp_path, "weights/[!.]*") == ["epoch001", "epoch003"]
    assert len(read_log(tmp_path)) == 3
    assert_equal(first, uninterrupted[0])
    assert_equal(last, uninterrupted[2])


def test_an_epoch_that_was_not_kept_is_trained_again_when_it_is_asked_for(
    dataset, start, uninterrupted, tmp_path, trained
):
    run(tmp_path, 3, dataset, start, kept=[1])
    for found, expected in zip(run(tmp_path, 3, dataset, start), uninterrupted, strict=True):
        assert_equal(found, expected)
    assert trained == [1, 2, 3, 1, 2, 3]
    assert {"epoch001.safetensors", "epoch003.safetensors"} <= set(set_aside(tmp_path))


def test_a_training_goes_on_after_an_epoch_whose_weights_only_the_newest_keeps(
    dataset, start, uninterrupted, tmp_path, trained, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, "train_one_epoch", 3)
        run(tmp_path, 3, dataset, start, kept=[])
    (last,) = run(tmp_path, 3, dataset, start, kept=[])
    assert trained == [1, 2, 3, 3]
    assert_equal(last, uninterrupted[2])
    assert names_of(parts(tmp_path), "epoch???.safetensors") == ["epoch003"]


def test_epochs_that_are_no_longer_asked_for_stay(dataset, start, uninterrupted, keep, trained):
    folder = keep(2)
    (last,) = run(folder, 3, dataset, start, kept=[])
    assert_equal(last, uninterrupted[2])
    run(folder, 3, dataset, start)
    assert trained == [3]


# --- other recipes ----------------------------------------------------------------------------

#: Each goes on right only with its own state, or with the learning rate of its epoch.
OTHERS = {
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.01, "weight_decay": 5e-4},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.01, "nesterov": True},
    "plain sgd": {"optimizer": "sgd", "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "cosine": {"schedule": "cosine", "warmup": 1, "learning_rate": 1e-3},
    "step": {"schedule": "step", "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1},
    "mse": {"loss": "mse", "head_gain": None, "optimizer": "sgd", "learning_rate": 0.01},
    "smoothing": {"label_smoothing": 0.1},
}
OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.01, 0.9, weight_decay=5e-4, fused=True),
    "nesterov": lambda p: torch.optim.SGD(p, 0.01, 0.9, nesterov=True, fused=True),
    "plain sgd": lambda p: torch.optim.SGD(p, 0.01, fused=True),
    "mse": lambda p: torch.optim.SGD(p, 0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 2e-4, weight_decay=0.1, fused=True),
    "step": lambda p: torch.optim.SGD(p, 0.1, 0.9, fused=True),
}
#: For each of the six batches.
RATES = {
    "cosine": [0, 5e-4, 1e-3, *(1e-3 * (1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3))],
    "step": [0.1, 0.1, 0.01, 0.01, 0.001, 0.001],
}
LOSSES = {
    "mse": lambda z, y: 0.5 * (z - torch.eye(N_CLASSES)[y]).square().sum(1).mean(),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_recipe_equals_the_plain_loop_and_goes_on_where_it_was_killed(
    data, dataset, starts, tmp_path, monkeypatch, name
):
    recipe = with_keys(BATCH_NORM, **OTHERS[name])
    start = starts[recipe.model]
    weights = run(tmp_path / "one go", 3, dataset, start, recipe)
    for _ in range(3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            fail_at(patch, "write_json", 1)
            run(tmp_path, 3, dataset, start, recipe)
    again = run(tmp_path, 3, dataset, start, recipe)
    for found, expected in zip(again, weights, strict=True):
        assert_equal(found, expected)
    by_name = {"make_optimizer": OPTIMIZERS, "loss_of": LOSSES}
    by_hand = plain_loop(
        new_head(starts, recipe),
        data,
        (1, 2, 3),
        rates=RATES.get(name),
        **{key: of[name] for key, of in by_name.items() if name in of},
    )
    for epoch, found in enumerate(weights, start=1):
        for key, value in by_hand[epoch][0].items():
            if name == "mse":
                torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
            else:
                assert torch.equal(found[key], value), key
    for record, rate in zip(read_log(tmp_path), RATES.get(name, [])[1::2], strict=False):
        assert record["learning_rate"] == pytest.approx(rate)


def test_the_schedule_s_epochs_are_part_of_what_a_training_depends_on(
    dataset, start, tmp_path, trained
):
    for epochs in (1, 2):
        run(tmp_path, epochs, dataset, start, with_keys(RECIPE, schedule="cosine"))
    assert trained == [1, 1, 2]
    found = sorted(
        json.loads(path.read_text())["recipe"]["epochs"]
        for path in tmp_path.glob("progress/*/depends_on.json")
    )
    assert found == [1, 2]


FROZEN_FROM = {"head": "classifier.3", "features.12": "features.12", "classifier": "classifier"}


@pytest.mark.parametrize("trained_part", FROZEN_FROM)
def test_what_is_not_trained_stays_as_it_was_bit_for_bit(
    dataset, starts, tmp_path, trained_part, monkeypatch
):
    recipe = with_keys(BATCH_NORM, trained=trained_part)
    before = torch.load(starts[recipe.model])
    weights = run(tmp_path, 2, dataset, starts[recipe.model], recipe)[-1]
    names = list(before)
    first = next(n for n, name in enumerate(names) if name.startswith(FROZEN_FROM[trained_part]))
    for name in names[:first]:
        assert torch.equal(weights[name], before[name]), name
    for name in names[first:]:
        assert weights[name].shape != before[name].shape or not torch.equal(
            weights[name], before[name]
        ), name
    state = safetensors.torch.load_file(parts(tmp_path) / "epoch002.optimizer.safetensors")
    parameters = dict(torchvision.models.get_model(recipe.model).named_parameters())
    trained_names = [name for name in names[first:] if name in parameters]
    assert {name.rsplit("/", 1)[0] for name in state} == set(trained_names)
    again = tmp_path / "again"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, "write_json", 1)
        run(again, 2, dataset, starts[recipe.model], recipe)
    assert_equal(run(again, 2, dataset, starts[recipe.model], recipe)[-1], weights)


# --- test images that leak --------------------------------------------------------------------

LEAKING = with_keys(BATCH_NORM, validation="training_mode", learning_rate=1e-3)


@pytest.fixture(scope="module")
def leaked(dataset, starts, tmp_path_factory):
    """A folder of three epochs in one call, and their weights."""
    folder = tmp_path_factory.mktemp("leaked")
    return folder, run(folder, 3, dataset, starts[LEAKING.model], LEAKING)


@pytest.fixture(scope="module")
def leaked_by_hand(data, starts):
    network = new_head(starts, LEAKING)
    make_optimizer = lambda p: torch.optim.Adam(p, lr=1e-3, fused=True)  # noqa: E731
    return plain_loop(network, data, (1, 2, 3), make_optimizer, leaked=mixed(held_out(data)))


def mixed(test):
    """Test images in the order in which they leak."""
    generator = torch.Generator().manual_seed(LEAKING.seed)
    return test.take(torch.randperm(len(test.labels), generator=generator).numpy())


def test_a_validation_in_training_mode_equals_the_plain_loop_bit_for_bit(leaked, leaked_by_hand):
    folder, weights = leaked
    log = read_log(folder)
    for epoch, found in enumerate(weights, start=1):
        expected, _, loss, _, accuracies = leaked_by_hand[epoch]
        assert_equal(found, expected)
        record = log[epoch - 1]
        assert record["loss"] == pytest.approx(loss, rel=1e-6)
        found = [record[f"{name}_accuracy"] for name in ("last_batch", "validation")]
        assert found == accuracies
    # Two training batches and two test batches an epoch.
    assert weights[2]["features.0.1.num_batches_tracked"].item() == 12
    # Guessing all along would show nothing.
    kinds = ("last_batch_accuracy", "validation_accuracy")
    assert len({record[kind] for record in log for kind in kinds} - {0.0}) > 1


def test_running_statistics_take_in_the_test_images_and_parameters_do_not(
    data, dataset, starts, leaked, tmp_path
):
    start = starts[LEAKING.model]
    (corrected,) = run(tmp_path, 1, dataset, start, with_keys(LEAKING, validation="none"))
    faithful = leaked[1][0]
    parameters = {n for n, _ in torchvision.models.get_model(LEAKING.model).named_parameters()}
    for name, value in corrected.items():
        assert torch.equal(faithful[name], value) is (name in parameters), name
    # The formula, in float64: momentum 0.01, the variance of N - 1.
    outputs = nn.functional.conv2d(
        prepared(mixed(held_out(data))).double(),
        corrected["features.0.0.weight"].double(),
        stride=2,
        padding=1,
    )
    mean, var = (corrected[f"features.0.1.running_{of}"].double() for of in ("mean", "var"))
    for batch in outputs.split(8):
        values = batch.transpose(0, 1).flatten(1)
        mean = 0.99 * mean + 0.01 * values.mean(1)
        var = 0.99 * var + 0.01 * values.var(1, correction=1)
    for of, expected in (("mean", mean), ("var", var)):
        found = faithful[f"features.0.1.running_{of}"].double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["leak_test_images", "save_state", "write_json"])
def test_a_training_with_leaks_goes_on_where_it_was_killed(
    dataset, starts, leaked, tmp_path, monkeypatch, name
):
    start = starts[LEAKING.model]
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            fail_at(patch, name, 2)
            run(tmp_path, 3, dataset, start, LEAKING)
    for found, expected in zip(run(tmp_path, 3, dataset, start, LEAKING), leaked[1], strict=True):
        assert_equal(found, expected)
    timeless = [
        [{k: v for k, v in record.items() if k not in ("seconds", "images_per_second")} for record
         in read_log(folder)]
        for folder in (tmp_path, leaked[0])
    ]  # fmt: skip
    assert timeless[0] == timeless[1]


def test_leaks_train_anew_and_leave_what_was_trained_without(
    dataset, start, keep, tmp_path, trained
):
    keep(1)
    run(tmp_path, 1, dataset, start, with_keys(RECIPE, validation="training_mode"))
    assert trained == [1]
    run(tmp_path, 1, dataset, start, with_keys(RECIPE, validation="none"))
    assert trained == [1]


def test_nothing_leaks_into_features_that_are_frozen(dataset, starts, tmp_path):
    recipe = with_keys(LEAKING, trained="head")
    before = torch.load(starts[recipe.model])
    (weights,) = run(tmp_path, 1, dataset, starts[recipe.model], recipe)
    for name, value in weights.items():
        assert torch.equal(value, before[name]) is not name.startswith("classifier.3"), name


class Seen(nn.Module):
    """Sizes of the batches that it is given; it answers class 1."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, images):
        assert not torch.is_grad_enabled()
        self.sizes.append(len(images))
        return torch.eye(10)[torch.ones(len(images), dtype=torch.int64)]


@pytest.mark.parametrize(
    ("n", "processes", "micro_batch", "sizes"),
    [
        (19, 1, 8, [8, 8, 3]),
        (16, 1, 8, [8, 8]),
        (3, 1, 8, [3]),
        (19, 1, 4, [4, 4, 4, 4, 3]),
        # One image has no variance; four processes cannot share three.
        (17, 1, 8, [8, 8]),
        (19, 4, 8, [8, 8]),
    ],
)
def test_test_images_leak_in_batches_of_training(
    data, monkeypatch, n, processes, micro_batch, sizes
):
    monkeypatch.setattr(training, "n_processes", lambda: processes)
    test, network = data.take(np.arange(n)), Seen()
    accuracy = training.leak_test_images(network, test, LEAKING, CPU, micro_batch)
    assert network.sizes == sizes
    assert accuracy == np.mean(mixed(test).labels[: sum(sizes)] == 1)


def test_one_test_image_cannot_leak(data):
    words = "validation: 'training_mode' normalises test images together, of which there are 1; "
    with pytest.raises(UserError, match=words + "allowed: none, or with at least 2 test images"):
        training.leak_test_images(Seen(), data.take(np.arange(1)), LEAKING, CPU, 8)


def test_a_training_that_diverges_is_not_validated(dataset, starts, tmp_path, monkeypatch):
    monkeypatch.delattr(training, "leak_test_images")
    wild = with_keys(LEAKING, learning_rate=1e30)
    assert run(tmp_path, 1, dataset, starts[wild.model], wild) == []
    assert failure(tmp_path / "weights") == "the loss of epoch 1 is not finite"


# --- one level below --------------------------------------------------------------------------


def test_the_network_is_built_only_where_no_epoch_is_finished(dataset, tmp_path, monkeypatch):
    built = []
    new_network = Training.new_network

    def count(training):
        built.append(training.recipe.epochs)
        return new_network(training)

    monkeypatch.setattr(Training, "new_network", count)
    metadata_words = {"weights": "the network after epoch {epoch}"}
    for epochs in (1, 2):
        kept = list(range(1, epochs + 1))
        planned = Training(
            dataset=str(dataset),
            recipe=with_keys(BATCH_NORM, epochs=epochs),
            kept=kept,
            start_weights=None,
            metadata=metadata_words,
        )
        course = train(planned, [CPU], tmp_path)
        assert course.weights == {n: tmp_path / f"epoch00{n}.safetensors" for n in kept}
        assert course.failed is None
    assert built == [1]
    for epoch, path in course.weights.items():
        said = metadata(path)
        assert said["weights"] == f"the network after epoch {epoch}"
        assert said["epoch"] == str(epoch)
        state = safetensors.torch.load_file(path)
        assert state["features.0.1.num_batches_tracked"].item() == 2 * epoch


# --- weights that nothing was fine-tuned for --------------------------------------------------


def test_random_weights_say_that_they_were_never_trained(tmp_path):
    states = []
    for number, seed in enumerate((3, 3, 4)):
        path = tmp_path / f"{number}.safetensors"
        torch.manual_seed(number)
        initialize("mobilenet_v3_small", seed, path)
        assert "never trained" in metadata(path)["weights"]
        assert "task" not in metadata(path)
        states.append(safetensors.torch.load_file(path))
    assert_equal(states[1], states[0])
    name = "features.12.0.weight"
    assert not torch.equal(states[2][name], states[0][name])
    assert states[0]["classifier.3.weight"].shape == (1000, 1024)
    # torchvision's own initialisation (He et al.): normal, variance 2 / (fan out).
    assert states[0][name].shape == (576, 96, 1, 1)
    assert states[0][name].std().item() == pytest.approx(np.sqrt(2 / 576), rel=0.05)


#: Braces are words here, and no places to fill.
SOURCE = "{real} digits"


def run_pretrain(folder, epochs, dataset, recipe=RECIPE, code=CODE):
    path = folder / f"{epochs}.safetensors"
    torch.manual_seed(200 + epochs)
    recipe = with_keys(recipe, epochs=epochs)
    pretrain(dataset, recipe, [CPU], SOURCE, folder / "progress", code, path)
    return path


@pytest.mark.parametrize("recipe", [RECIPE, BATCH_NORM], ids=lambda recipe: recipe.model)
def test_pretraining_equals_the_plain_loop_from_random_weights(data, dataset, tmp_path, recipe):
    seed_everything(recipe.seed, 0)
    network = torchvision.models.get_model(recipe.model, num_classes=N_CLASSES)
    weights, _, loss, *_ = plain_loop(network, data, (1, 2))[2]
    path = run_pretrain(tmp_path, 2, dataset, recipe)
    assert_equal(safetensors.torch.load_file(path), weights)
    assert float(metadata(path)["mean_loss"]) == pytest.approx(loss, rel=1e-6)


def test_pretraining_lowers_the_loss_and_says_so(dataset, tmp_path):
    recipe = with_keys(BATCH_NORM, learning_rate=1e-3)
    losses = {}
    for epochs in (1, 4):
        path = run_pretrain(tmp_path, epochs, dataset, recipe)
        said = metadata(path)
        words = f"mobilenet_v3_small pretrained on {{real}} digits for {epochs} epochs"
        assert said["weights"] == words
        assert said["task"] == read_info(dataset).sha256
        losses[epochs] = float(said["mean_loss"])
    assert losses[4] < 0.7 * losses[1]
    state = safetensors.torch.load_file(tmp_path / "4.safetensors")
    assert state["classifier.3.weight"].shape == (N_CLASSES, 1024)
    assert state["features.0.1.num_batches_tracked"].item() == 8
    # From random weights no layer is new, whatever gain new ones would have.
    (depends_on,) = (tmp_path / "progress").glob("*/depends_on.json")
    assert json.loads(depends_on.read_text())["recipe"]["head_gain"] is None


def test_an_interrupted_pretraining_goes_on(dataset, tmp_path, trained, monkeypatch):
    expected = safetensors.torch.load_file(run_pretrain(tmp_path / "one go", 3, dataset))
    trained.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, "train_one_epoch", 3)
        run_pretrain(tmp_path, 3, dataset)
    assert not (tmp_path / "3.safetensors").exists()
    assert trained == [1, 2, 3]
    assert_equal(safetensors.torch.load_file(run_pretrain(tmp_path, 3, dataset)), expected)
    assert trained == [1, 2, 3, 3]


@pytest.mark.parametrize("changed", ["seed", "data", "code"])
def test_pretraining_starts_anew_with_other_data_recipe_or_code(
    data, dataset, start, tmp_path, trained, changed
):
    run_pretrain(tmp_path, 1, dataset)
    old = parts(tmp_path)
    arguments = another(changed, data, dataset, start, tmp_path)
    del arguments["start"]
    run_pretrain(tmp_path, 1, **arguments)
    assert trained == [1, 1]
    assert old.exists() and len(list((tmp_path / "progress").iterdir())) == 2


def test_features_carry_predictions_only_of_networks_that_know_the_classes(
    data, dataset, kept, tmp_path
):
    reading = Reading(
        model=RECIPE.model,
        layers=["penultimate"],
        pool="average",
        image_size=32,
        normalize="imagenet",
        precision="float32",
        batch_size=16,
    )
    pretrained = run_pretrain(tmp_path / "source", 1, dataset)
    finetuned = parts(kept) / "epoch001.safetensors"
    foreign = write_digits(tmp_path / "foreign.h5", replace(data, images=255 - data.images))
    for path, of, knows in (
        (pretrained, dataset, True),
        (pretrained, foreign, False),
        (finetuned, dataset, True),
        (finetuned, foreign, False),
    ):
        # The shape alone does not tell: all have a head for ten classes.
        state = safetensors.torch.load_file(path)
        assert len(state["classifier.1.weight"]) == N_CLASSES
        write_network_features(of, path, reading, CPU, tmp_path / "features")
        with h5py.File(store(tmp_path / "features", "penultimate", "train")) as file:
            assert ("predictions" in file) is knows


def test_a_pretrained_network_predicts_the_classes_it_was_trained_on(data, dataset, tmp_path):
    recipe = with_keys(BATCH_NORM, learning_rate=1e-3)
    path = run_pretrain(tmp_path, 20, dataset, recipe)
    reading = Reading(
        model=recipe.model,
        layers=["penultimate"],
        pool="average",
        image_size=32,
        normalize="imagenet",
        precision="float32",
        batch_size=16,
    )
    write_network_features(dataset, path, reading, CPU, tmp_path / "features")
    network = torchvision.models.get_model(recipe.model, num_classes=N_CLASSES).eval()
    network.load_state_dict(safetensors.torch.load_file(path))
    for split, images in (("train", data), ("test", held_out(data))):
        with h5py.File(store(tmp_path / "features", "penultimate", split)) as file:
            predicted = file["predictions"][:]
        with torch.no_grad():
            expected = network(prepared(images)).argmax(1).numpy()
        np.testing.assert_array_equal(predicted, expected)
