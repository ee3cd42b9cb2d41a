"""The statistics of every epoch against features that torchvision computes, by plain formulas."""

import shutil
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from torch import nn
from torchvision.transforms.functional import normalize

from collapseflow.features.extraction import (
    Reading,
    store,
    weights_after,
    write_state_features,
)
from collapseflow.images.datasets import Splits, make_split, read_info, write_dataset
from collapseflow.measures import epochs as module
from collapseflow.measures.epochs import reduce_epochs, reduce_features
from collapseflow.measures.statistics import (
    MATCHED,
    Statistics,
    matched_rows,
    read_statistics,
    reduce_stores,
)
from collapseflow.running import resume
from collapseflow.running.errors import UserError
from collapseflow.running.files import atomic_folder, write_failure

CPU = torch.device("cpu")
LAYERS = ["features.7", "penultimate"]
READING = Reading(
    model="squeezenet1_1",
    layers=LAYERS,
    pool="average",
    image_size=32,
    normalize="imagenet",
    precision="float32",
    batch_size=64,
)
CODE = "0" * 16
EPOCHS = (1, 2, 3)
SIZES = {"train": 8, "test": 4}
#: Images of each class that are measured, by split.
MEASURED = {**SIZES, MATCHED: 4}
WIDTHS = {"features.7": 256, "penultimate": 512}


@pytest.fixture(scope="module")
def splits(small_digits):
    """Real digits, 8 of each class for training and 4 for testing."""
    from sklearn.datasets import load_digits

    labels = load_digits().target
    rows = {"train": [], "test": []}
    for c in range(10):
        members = np.flatnonzero(labels == c)
        rows["train"].extend(members[:8])
        rows["test"].extend(members[8:12])
    return {split: make_split(small_digits[r], labels[r]) for split, r in rows.items()}


def write_digits(path, splits):
    write_dataset(path, Splits(**splits, class_names=list("0123456789"), source="digits"))
    return path


@pytest.fixture(scope="module")
def dataset(splits, tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("data") / "digits.h5", splits)


def write_weights(path, seed, data, task):
    """A network as it might be after an epoch: its last layer takes the nearest class mean."""
    torch.manual_seed(seed)
    network = torchvision.models.squeezenet1_1(num_classes=10)
    state = network.state_dict()
    safetensors.torch.save_file(state, path)
    features = torch.from_numpy(by_torchvision(path, data.images)[0]["penultimate"])
    means = torch.stack([features[data.labels == c].mean(0) for c in range(10)])
    middle = means.mean(0)
    state["classifier.1.weight"] = (means - middle).float()[:, :, None, None]
    state["classifier.1.bias"] = ((middle**2).sum() - (means**2).sum(1)).float() / 2
    safetensors.torch.save_file(state, path, {"task": task})
    return path


@pytest.fixture(scope="module")
def weights(splits, dataset, tmp_path_factory):
    """The folder of a training with the weights after its three epochs."""
    folder = tmp_path_factory.mktemp("training") / "weights"
    folder.mkdir()
    task = read_info(dataset).sha256
    for epoch in EPOCHS:
        write_weights(weights_after(folder, epoch), epoch, splits["train"], task)
    return folder


@pytest.fixture
def own_weights(weights, tmp_path):
    """A copy of them that a test may change."""
    return shutil.copytree(weights, tmp_path / "weights")


@pytest.fixture(scope="module")
def last(dataset, weights, tmp_path_factory):
    """The folder of features after the last epoch."""
    folder = tmp_path_factory.mktemp("features") / "epoch003"
    write_state_features(dataset, weights, 3, READING, CPU, folder)
    return folder


def by_torchvision(path, images):
    """Features by layer, and the predicted classes."""
    network = torchvision.models.squeezenet1_1(num_classes=10)
    network.load_state_dict(safetensors.torch.load_file(path))
    seen = {}
    network.features[7].register_forward_hook(
        lambda layer, inputs, output: seen.update({"features.7": output.clone()})
    )
    network.classifier[1].register_forward_pre_hook(
        lambda layer, inputs: seen.update(penultimate=inputs[0].clone())
    )
    values = nn.functional.interpolate(
        torch.from_numpy(images)[:, None].float(), (32, 32), mode="bilinear", antialias=True
    )
    values = normalize(
        (values / 255).repeat(1, 3, 1, 1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with torch.inference_mode():
        predicted = network.eval()(values).argmax(1).numpy()
    return {layer: of.double().mean((2, 3)).numpy() for layer, of in seen.items()}, predicted


def run(folder, dataset, weights, last, reading=READING, code=CODE, epochs=EPOCHS):
    """Reduce all epochs; the statistics by epoch. ``folder`` gets those, and what is kept."""
    output, progress = folder / "statistics" / "s0", folder / "progress"
    reduce_epochs(dataset, weights, last, epochs, reading, CPU, progress, code, output)
    assert list(output.parent.iterdir()) == [output]
    names = [f"epoch{epoch:03}.npz" for epoch in epochs]
    beside = [f".{name}.xxh3" for name in names]
    assert sorted(path.name for path in output.iterdir()) == [*beside, *names]
    return {
        epoch: read_statistics(output / name) for epoch, name in zip(epochs, names, strict=True)
    }


def assert_same(one, other):
    """Bit for bit the same statistics."""
    for field in fields(Statistics):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None), field.name
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def assert_same_states(one, other):
    """Bit for bit the same statistics of states, at every layer."""
    assert one.failed == other.failed and list(one.layers) == list(other.layers)
    for layer, splits in one.layers.items():
        assert splits.keys() == other.layers[layer].keys() == MEASURED.keys()
        for split in splits:
            assert_same(splits[split], other.layers[layer][split])


@pytest.fixture(scope="module")
def reduced(dataset, weights, last, tmp_path_factory):
    """A folder in which all epochs were reduced, and their statistics."""
    folder = tmp_path_factory.mktemp("run")
    return folder, run(folder, dataset, weights, last)


@pytest.fixture
def kept(reduced, tmp_path):
    """A folder of the test's own in which all epochs were reduced."""
    shutil.copytree(reduced[0] / "progress", tmp_path / "progress")
    return tmp_path


@pytest.fixture
def extracted(monkeypatch):
    """The epochs whose features were extracted, in order."""
    epochs = []

    def count(dataset, weights, epoch, *arguments):
        epochs.append(epoch)
        write_state_features(dataset, weights, epoch, *arguments)

    monkeypatch.setattr(module, "write_state_features", count)
    return epochs


def test_every_epoch_has_its_layers_and_splits(reduced):
    for state in reduced[1].values():
        assert state.failed is None
        (line,) = state.made_with
        assert f"torch {torch.__version__.split('+')[0]}" in line
        assert list(state.layers) == LAYERS
        for layer, split in product(LAYERS, MEASURED):
            found = state.layers[layer][split]
            assert found.counts.tolist() == [MEASURED[split]] * 10
            assert found.n_features == WIDTHS[layer]
            assert found.n_classes == 10


@pytest.mark.parametrize("split", MEASURED)
@pytest.mark.parametrize("epoch", EPOCHS)
def test_the_statistics_are_those_of_torchvision_s_features(reduced, splits, weights, epoch, split):
    path, images = weights_after(weights, epoch), splits["train" if split == MATCHED else split]
    if split == MATCHED:
        # The same training images after every epoch.
        images = images.take(matched_rows(images.labels, splits["test"].labels))
    labels = images.labels
    features, predicted = by_torchvision(path, images.images)
    training, _ = by_torchvision(path, splits["train"].images)
    for layer in LAYERS:
        found, x = reduced[1][epoch].layers[layer][split], features[layer]
        members = [x[labels == c] for c in range(10)]
        squared = [((of_class - of_class.mean(0)) ** 2).sum() for of_class in members]
        np.testing.assert_allclose(found.means, [m.mean(0) for m in members], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(found.squared, squared, rtol=1e-3)
        lengths = [np.sqrt((of_class**2).sum(1)).sum() for of_class in members]
        np.testing.assert_allclose(found.norms, lengths, rtol=1e-4)
        right = [np.sum(predicted[labels == c] == c) for c in range(10)]
        assert found.predicted.tolist() == right
        assert 0.3 < sum(right) / len(labels) < 1
        means = [training[layer][splits["train"].labels == c].mean(0) for c in range(10)]
        nearest = np.argmin([((x - mean) ** 2).sum(1) for mean in means], axis=0)
        assert found.nearest.tolist() == [np.sum(nearest[labels == c] == c) for c in range(10)]
        agreeing = nearest == predicted
        assert found.agreeing.tolist() == [np.sum(agreeing[labels == c]) for c in range(10)]


def test_every_epoch_is_another(reduced):
    for layer, split in product(LAYERS, SIZES):
        values = {state.layers[layer][split].squared[0] for state in reduced[1].values()}
        assert len(values) == 3


def test_the_last_epoch_is_read_from_its_stores(reduced, last):
    for layer in LAYERS:
        expected = reduce_stores({split: store(last, layer, split) for split in SIZES})
        for split in MEASURED:
            assert_same(reduced[1][3].layers[layer][split], expected[split])


def test_every_epoch_is_told_in_its_order_also_the_last(dataset, weights, last, kept, caplog):
    with caplog.at_level("INFO", logger="collapseflow"):
        run(kept, dataset, weights, last)
    assert [line for line in caplog.messages if "measured" in line] == [
        f"epoch {epoch} of 3 is measured" for epoch in EPOCHS
    ]


KEPT = ["epoch001.json", "epoch001.npz", "epoch002.json", "epoch002.npz"]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".xxh3")


def test_no_features_of_the_epochs_between_stay(reduced):
    assert names(reduced[0] / "progress") == KEPT


def test_reduced_epochs_are_not_extracted_again(
    reduced, dataset, weights, last, kept, extracted, monkeypatch
):
    seconds = []
    monkeypatch.setattr(resume, "count_earlier_seconds", seconds.append)
    found = run(kept, dataset, weights, last)
    assert extracted == []
    # The table of run times counts what they took.
    assert len(seconds) == 2 and min(seconds) > 0
    for epoch in EPOCHS:
        assert_same_states(found[epoch], reduced[1][epoch])


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_kept_statistics_that_are_not_whole_are_made_again(
    reduced, dataset, weights, last, kept, extracted, damage
):
    part = kept / "progress" / "epoch002.npz"
    content = part.read_bytes()
    part.unlink()
    if damage == "cut off":
        part.write_bytes(content[: len(content) // 2])
    found = run(kept, dataset, weights, last)
    assert extracted == [2]
    assert_same_states(found[2], reduced[1][2])


def test_an_old_output_does_not_change_with_what_is_kept(reduced, dataset, weights, last, tmp_path):
    run(tmp_path, dataset, weights, last)
    old = tmp_path / "old"
    (tmp_path / "statistics" / "s0").rename(old)
    reading = READING.model_copy(update={"layers": ["penultimate"]})
    run(tmp_path, dataset, weights, last, reading)
    assert_same_states(read_statistics(old / "epoch001.npz"), reduced[1][1])


def test_a_fine_tuning_of_one_epoch_has_nothing_between(dataset, weights, last, tmp_path, reduced):
    found = run(tmp_path, dataset, weights, last, epochs=[3])
    assert_same_states(found[3], reduced[1][3])
    assert names(tmp_path) == ["statistics"]


def test_changed_weights_reduce_their_epoch_again_and_no_other(
    dataset, splits, own_weights, last, reduced, kept, tmp_path, extracted
):
    path = weights_after(own_weights, 2)
    write_weights(path, 17, splits["train"], read_info(dataset).sha256)
    found = run(kept, dataset, own_weights, last)
    assert extracted == [2]
    fresh = run(tmp_path / "fresh", dataset, own_weights, last)
    for epoch in EPOCHS:
        assert_same_states(found[epoch], fresh[epoch])
    assert_same_states(found[1], reduced[1][1])
    before, after = (of[2].layers["penultimate"]["test"].squared for of in (reduced[1], found))
    assert (before != after).all()


@pytest.mark.parametrize("changed", ["image_size", "batch_size", "layers", "code", "dataset"])
def test_another_reading_data_or_code_reduces_all_epochs_again(
    dataset, weights, last, splits, reduced, kept, tmp_path, extracted, changed
):
    arguments = {"dataset": dataset, "reading": READING, "code": CODE}
    if changed == "dataset":
        images = splits["test"].images.copy()
        images[0, 3, 3] ^= 255
        other = {**splits, "test": replace(splits["test"], images=images)}
        arguments["dataset"] = write_digits(tmp_path / "digits.h5", other)
    elif changed == "code":
        arguments["code"] = "1" * 16
    else:
        value = {"image_size": 40, "batch_size": 32, "layers": ["penultimate"]}[changed]
        arguments["reading"] = READING.model_copy(update={changed: value})
    found = run(kept, weights=weights, last=last, **arguments)
    assert extracted == [1, 2]
    for epoch in (1, 2):
        before, after = (
            of[epoch].layers["penultimate"]["test"].squared for of in (reduced[1], found)
        )
        if changed in ("image_size", "dataset"):
            assert (before != after).any()
    assert all(list(state.layers) == arguments["reading"].layers for state in found.values())


def test_an_interrupted_job_goes_on_and_leaves_no_features(
    dataset, weights, last, reduced, tmp_path, extracted, monkeypatch
):
    there = []

    def interrupt(stores, threads):
        if 2 in extracted:
            there.extend(path.exists() for path in stores.values())
            raise KeyboardInterrupt
        return reduce_stores(stores)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "reduce_stores", interrupt)
        run(tmp_path, dataset, weights, last)
    assert there == [True, True]
    assert names(tmp_path / "progress") == KEPT[:2]
    assert names(tmp_path / "statistics") == []
    found = run(tmp_path, dataset, weights, last)
    assert extracted == [1, 2, 2]
    for epoch in EPOCHS:
        assert_same_states(found[epoch], reduced[1][epoch])


def test_what_no_record_vouches_for_is_made_again(
    dataset, weights, last, reduced, kept, extracted, monkeypatch
):
    # Killed after the new statistics of other code were written, before their record was.
    def killed(path, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resume, "write_json", killed)
        run(kept, dataset, weights, last, READING.model_copy(update={"image_size": 40}))
    assert names(kept / "progress") == ["epoch001.npz", *KEPT[2:]]
    found = run(kept, dataset, weights, last)
    assert extracted == [1, 1]
    assert_same_states(found[1], reduced[1][1])


def test_what_a_killed_job_was_writing_is_removed(dataset, weights, last, reduced, tmp_path):
    progress = tmp_path / "progress"
    with atomic_folder(progress / "features") as half:
        (half / "train.h5").write_bytes(b"half")
    (progress / "features").rename(half)
    (progress / "features").mkdir()
    (progress / "features" / "train.h5").write_bytes(b"whole, but not reduced")
    (progress / ".epoch001.0123abcd.part.npz").write_bytes(b"half")
    assert len(names(progress)) == 3
    found = run(tmp_path, dataset, weights, last)
    assert names(progress) == KEPT
    for epoch in EPOCHS:
        assert_same_states(found[epoch], reduced[1][epoch])


# --- a folder of features -----------------------------------------------------------------------


def test_stores_without_layers_have_one_that_is_nameless(last, tmp_path, reduced):
    # As raw pixels and scattering coefficients are stored.
    folder = tmp_path / "raw"
    shutil.copytree(last / "penultimate", folder)
    reduce_features(folder, [""], tmp_path / "raw.npz", threads=2)
    state = read_statistics(tmp_path / "raw.npz")
    assert state.failed is None and list(state.layers) == [""]
    for split in MEASURED:
        assert_same(state.layers[""][split], reduced[1][3].layers["penultimate"][split])


def test_a_folder_without_features_has_no_statistics_for_its_reason(tmp_path):
    with atomic_folder(tmp_path / "epoch000") as folder:
        write_failure(folder, "there are none")
    reduce_features(tmp_path / "epoch000", LAYERS, tmp_path / "epoch000.npz")
    state = read_statistics(tmp_path / "epoch000.npz")
    assert (state.failed, state.layers) == ("there are none", {})


def test_a_missing_layer_is_named(last, tmp_path):
    with pytest.raises(UserError, match=r"epoch003/features\.9/train\.h5: there is no such file"):
        reduce_features(last, ["features.7", "features.9"], tmp_path / "out.npz")
    assert names(tmp_path) == []


# --- what fails -------------------------------------------------------------------------------


def change_weights(path, name, value):
    """Give one tensor another value everywhere."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = safetensors.torch.load_file(path)
    state[name] = torch.full_like(state[name], value)
    safetensors.torch.save_file(state, path, metadata)


def test_an_epoch_whose_features_are_not_finite_has_failed_and_is_not_read_again(
    dataset, own_weights, last, reduced, kept, extracted
):
    # Behind the first of the layers that are read.
    change_weights(weights_after(own_weights, 1), "features.12.squeeze.weight", torch.nan)
    found = run(kept, dataset, own_weights, last)
    image = "the training image in row 0 of its source"
    assert found[1].failed == f"the features of {image} after epoch 1 are not finite"
    assert found[1].layers == {}
    for epoch in (2, 3):
        assert_same_states(found[epoch], reduced[1][epoch])
    assert run(kept, dataset, own_weights, last)[1] == found[1]
    assert extracted == [1]
    assert names(kept / "progress") == KEPT


def test_an_epoch_whose_features_are_one_point_has_statistics(
    dataset, own_weights, last, reduced, kept
):
    change_weights(weights_after(own_weights, 1), "features.12.squeeze.weight", 0.0)
    state = run(kept, dataset, own_weights, last)[1]
    assert state.failed is None
    for split in SIZES:
        before, after = (of.layers["features.7"][split] for of in (reduced[1][1], state))
        np.testing.assert_array_equal(after.squared, before.squared)
        point = state.layers["penultimate"][split]
        np.testing.assert_array_equal(point.means, point.means[:1].repeat(10, axis=0))
        assert point.squared.tolist() == [0] * 10


def test_a_last_state_without_features_has_failed_for_its_reason(
    dataset, weights, reduced, kept, tmp_path
):
    with atomic_folder(tmp_path / "epoch003") as folder:
        write_failure(folder, "the loss of epoch 2 is not finite")
    found = run(kept, dataset, weights, tmp_path / "epoch003")
    for epoch in (1, 2):
        assert_same_states(found[epoch], reduced[1][epoch])
    assert (found[3].failed, found[3].layers) == ("the loss of epoch 2 is not finite", {})
    assert found[3].made_with == reduced[1][3].made_with


def test_a_training_that_failed_has_the_statistics_before_and_its_reason(
    dataset, own_weights, reduced, kept, tmp_path
):
    weights_after(own_weights, 2).unlink()
    weights_after(own_weights, 3).unlink()
    message = (
        f"{own_weights}: has no weights of epoch 2, only epoch001; "
        "delete it and start again: it is made anew"
    )
    with pytest.raises(UserError) as caught:
        run(kept, dataset, own_weights, tmp_path / "epoch003")
    assert str(caught.value) == message
    write_failure(own_weights, "the loss of epoch 2 is not finite")
    with atomic_folder(tmp_path / "epoch003") as folder:
        write_failure(folder, "the loss of epoch 2 is not finite")
    found = run(kept, dataset, own_weights, tmp_path / "epoch003")
    assert_same_states(found[1], reduced[1][1])
    for epoch in (2, 3):
        assert (found[epoch].failed, found[epoch].layers) == (
            "the loss of epoch 2 is not finite",
            {},
        )
