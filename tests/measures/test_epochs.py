"""The measures of every epoch against features that torchvision computes and dense formulas."""

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from torch import nn
from torchvision.transforms.functional import normalize

from collapseflow.features.extraction import Reading, store, write_state_features
from collapseflow.images.datasets import Splits, make_split, read_info, write_dataset
from collapseflow.measures import epochs as module
from collapseflow.measures.collapse import measure_stores
from collapseflow.measures.epochs import measure_epochs, states_of_run
from collapseflow.running.errors import UserError
from collapseflow.running.files import atomic_folder, write_failure

CPU = torch.device("cpu")
LAYERS = ["features.7", "penultimate"]
READING = Reading("squeezenet1_1", LAYERS, "average", 32, "imagenet", "float32", 64)
CODE = "0" * 16
SIZES = {"train": 8, "test": 4}
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
    """The weights before, after two epochs between, and after the last."""
    paths = [tmp_path_factory.mktemp("weights") / f"epoch{n}.safetensors" for n in range(4)]
    task = read_info(dataset).sha256
    return [write_weights(path, n, splits["train"], task) for n, path in enumerate(paths)]


@pytest.fixture(scope="module")
def ends(dataset, weights, tmp_path_factory):
    """The folders of features before the first epoch and after the last."""
    folders = [tmp_path_factory.mktemp("ends") / name for name in ("first", "last")]
    for folder, epoch in zip(folders, (0, 3), strict=True):
        write_state_features(dataset, weights[epoch], epoch, READING, CPU, folder)
    return folders


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


def dense_measures(x, labels):
    """NC1 and NC2 with covariances of all features, classes of equal size."""
    means = np.stack([x[labels == c].mean(0) for c in range(10)])
    within = np.cov((x - means[labels]).T, bias=True)
    between = np.cov(means.T, bias=True)
    centred = means - x.mean(0)
    norms = np.sqrt((centred**2).sum(1))
    cosines = np.array([a @ b / np.sqrt((a @ a) * (b @ b)) for a in centred for b in centred])
    cosines = cosines.reshape(10, 10)[np.triu_indices(10, 1)]
    return {
        "nc1": np.trace(within @ np.linalg.pinv(between, rcond=1e-10, hermitian=True)) / 10,
        "nc2_equinorm": norms.std() / norms.mean(),
        "nc2_equiangularity": cosines.std(),
        "nc2_maximal_angle": np.abs(cosines + 1 / 9).mean(),
    }


def run(folder, dataset, ends, weights, reading=READING, code=CODE):
    states = dict(enumerate([ends[0], *weights[1:-1], ends[1]]))
    return measure_epochs(dataset, states, reading, CPU, folder, code)


@pytest.fixture(scope="module")
def measured(dataset, ends, weights, tmp_path_factory):
    """A folder in which all epochs were measured, and the measures."""
    folder = tmp_path_factory.mktemp("progress") / "resnet18"
    return folder, run(folder, dataset, ends, weights)


@pytest.fixture
def kept(measured, tmp_path):
    """A folder of the test's own in which all epochs were measured."""
    return shutil.copytree(measured[0], tmp_path / "progress")


@pytest.fixture
def extracted(monkeypatch):
    """The weights whose features were extracted, in order."""
    paths = []

    def count(dataset, weights, *arguments):
        paths.append(weights)
        write_state_features(dataset, weights, *arguments)

    monkeypatch.setattr(module, "write_state_features", count)
    return paths


def test_every_epoch_has_its_number_its_layers_and_both_splits(measured):
    assert [of_epoch["epoch"] for of_epoch in measured[1]] == [0, 1, 2, 3]
    for of_epoch in measured[1]:
        assert of_epoch.keys() == {"epoch", "layers", "made_with"}
        (line,) = of_epoch["made_with"]
        assert f"torch {torch.__version__.split('+')[0]}" in line
        assert list(of_epoch["layers"]) == LAYERS
        for layer, split in product(LAYERS, SIZES):
            found = of_epoch["layers"][layer][split]
            assert found["n_samples"] == 10 * SIZES[split]
            assert found["n_features"] == WIDTHS[layer]
            assert found["rank"] == 9


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_the_measures_equal_dense_formulas_on_torchvision_s_features(
    measured, splits, weights, epoch, split
):
    labels = splits[split].labels
    features, predicted = by_torchvision(weights[epoch], splits[split].images)
    for layer in LAYERS:
        found = measured[1][epoch]["layers"][layer][split]
        for name, value in dense_measures(features[layer], labels).items():
            assert found[name] == pytest.approx(value, rel=1e-3), (layer, name)
        assert found["accuracy"] == np.mean(predicted == labels)
        assert 0.3 < found["accuracy"] < 1


def test_every_epoch_is_another(measured):
    for layer, split in product(LAYERS, SIZES):
        assert len({of_epoch["layers"][layer][split]["nc1"] for of_epoch in measured[1]}) == 4


def test_the_first_and_the_last_epoch_are_read_from_their_stores(measured, ends):
    for folder, of_epoch in zip(ends, (measured[1][0], measured[1][-1]), strict=True):
        for layer in LAYERS:
            stores = {split: store(folder, layer, split) for split in SIZES}
            assert of_epoch["layers"][layer] == measure_stores(stores)


def test_every_epoch_is_told_in_its_order_also_the_last(dataset, ends, weights, kept, caplog):
    with caplog.at_level("INFO", logger="collapseflow"):
        run(kept, dataset, ends, weights)
    assert [line for line in caplog.messages if "measured" in line] == [
        f"epoch {epoch} of 3 is measured" for epoch in range(4)
    ]


def test_no_features_of_the_epochs_between_stay(measured):
    assert sorted(path.name for path in measured[0].iterdir()) == [
        "epoch001.json",
        "epoch002.json",
    ]


def test_measured_epochs_are_not_extracted_again(measured, dataset, ends, weights, monkeypatch):
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(module, "write_state_features", never)
    assert run(measured[0], dataset, ends, weights) == measured[1]


def test_a_fine_tuning_of_one_epoch_has_nothing_between(dataset, ends, weights, tmp_path, measured):
    found = run(tmp_path, dataset, ends, [weights[0], weights[-1]])
    assert [of_epoch["epoch"] for of_epoch in found] == [0, 1]
    assert found[1]["layers"] == measured[1][3]["layers"]
    assert list(tmp_path.iterdir()) == []


def test_changed_weights_measure_their_epoch_again_and_no_other(
    dataset, splits, ends, weights, measured, kept, tmp_path, extracted
):
    other = write_weights(
        tmp_path / "other.safetensors", 17, splits["train"], read_info(dataset).sha256
    )
    changed = [*weights[:2], other, weights[-1]]
    found = run(kept, dataset, ends, changed)
    assert extracted == [other]
    assert [found[n] == measured[1][n] for n in range(4)] == [True, True, False, True]
    assert run(tmp_path / "fresh", dataset, ends, changed) == found


def test_the_same_weights_in_another_file_are_not_measured_again(
    dataset, ends, weights, measured, kept, tmp_path, extracted
):
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights[1].read_bytes())
    assert run(kept, dataset, ends, [weights[0], moved, *weights[2:]]) == measured[1]
    assert extracted == []


@pytest.mark.parametrize("changed", ["image_size", "batch_size", "layers", "code", "dataset"])
def test_another_reading_data_or_code_measures_all_epochs_again(
    dataset, ends, weights, splits, measured, kept, tmp_path, extracted, changed
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
        arguments["reading"] = replace(READING, **{changed: value})
    found = run(kept, ends=ends, weights=weights, **arguments)
    assert extracted == weights[1:-1]
    for epoch in (1, 2):
        before, after = (of[epoch]["layers"]["penultimate"]["test"] for of in (measured[1], found))
        if changed in ("image_size", "dataset"):
            assert before != after
    assert all(list(of_epoch["layers"]) == arguments["reading"].layers for of_epoch in found)


def test_an_interrupted_measurement_goes_on_and_leaves_no_features(
    dataset, ends, weights, measured, tmp_path, extracted, monkeypatch
):
    folder = tmp_path / "progress"
    there = []

    def interrupt(stores, threads):
        if weights[2] in extracted:
            there.extend(path.exists() for path in stores.values())
            raise KeyboardInterrupt
        return measure_stores(stores)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "measure_stores", interrupt)
        run(folder, dataset, ends, weights)
    assert there == [True, True]
    assert [path.name for path in folder.iterdir()] == ["epoch001.json"]
    assert run(folder, dataset, ends, weights) == measured[1]
    assert extracted == [weights[1], weights[2], weights[2]]


def test_features_of_a_killed_measurement_are_removed(dataset, ends, weights, measured, tmp_path):
    folder = tmp_path / "progress"
    with atomic_folder(folder / "features") as half:
        (half / "train.h5").write_bytes(b"half")
    (folder / "features").rename(half)
    (folder / "features").mkdir()
    (folder / "features" / "train.h5").write_bytes(b"whole, but not measured")
    assert len(list(folder.iterdir())) == 2
    assert run(folder, dataset, ends, weights) == measured[1]
    assert sorted(path.name for path in folder.iterdir()) == ["epoch001.json", "epoch002.json"]


# --- what fails -------------------------------------------------------------------------------


def change_weights(path, output, name, value):
    """Weights of which one tensor has another value everywhere."""
    state = safetensors.torch.load_file(path)
    state[name] = torch.full_like(state[name], value)
    safetensors.torch.save_file(state, output)
    return output


def failures(of_epoch):
    """What each layer and split says of its failure."""
    return {
        (layer, split): found.get("failed")
        for layer, by_split in of_epoch["layers"].items()
        for split, found in by_split.items()
    }


def test_an_epoch_whose_features_are_not_finite_has_failed_and_is_not_read_again(
    dataset, ends, weights, measured, kept, tmp_path, extracted
):
    # Behind the first of the layers that are read.
    bad = change_weights(
        weights[1], tmp_path / "w.safetensors", "features.12.squeeze.weight", torch.nan
    )
    changed = [weights[0], bad, *weights[2:]]
    found = run(kept, dataset, ends, changed)
    reason = "the features of image 0 after epoch 1 are not finite"
    assert failures(found[1]) == dict.fromkeys(product(LAYERS, SIZES), reason)
    assert [found[n] == measured[1][n] for n in range(4)] == [True, False, True, True]
    assert run(kept, dataset, ends, changed) == found
    assert extracted == [bad]


def test_an_epoch_whose_features_are_one_point_has_failed_at_that_layer(
    dataset, ends, weights, measured, kept, tmp_path
):
    dead = change_weights(weights[1], tmp_path / "w.safetensors", "features.12.squeeze.weight", 0.0)
    found = run(kept, dataset, ends, [weights[0], dead, *weights[2:]])
    reason = "a class mean coincides with the mean of all samples"
    assert failures(found[1]) == {
        **dict.fromkeys(product(["features.7"], SIZES), None),
        **dict.fromkeys(product(["penultimate"], SIZES), reason),
    }
    for split in SIZES:
        before, after = (of[1]["layers"]["features.7"][split]["nc1"] for of in (measured[1], found))
        assert before == after


def test_a_state_without_features_has_failed_for_its_reason(
    dataset, ends, weights, measured, kept, tmp_path
):
    with atomic_folder(tmp_path / "epoch003") as folder:
        write_failure(folder, "the loss of epoch 2 is not finite")
    found = run(kept, dataset, [ends[0], tmp_path / "epoch003"], weights)
    assert found[:3] == measured[1][:3]
    reason = "the loss of epoch 2 is not finite"
    assert failures(found[3]) == dict.fromkeys(product(LAYERS, SIZES), reason)
    assert found[3]["made_with"] == measured[1][3]["made_with"]


def make_files(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_the_states_of_a_run_are_its_ends_and_the_weights_between(tmp_path):
    folder = make_files(tmp_path / "weights", *(f"epoch00{n}.safetensors" for n in (1, 2, 4, 9)))
    assert states_of_run("first", folder, "last", [1, 4, 9]) == {
        0: Path("first"),
        1: folder / "epoch001.safetensors",
        4: folder / "epoch004.safetensors",
        9: Path("last"),
    }
    assert states_of_run("first", folder, "last", [1]) == {0: Path("first"), 1: Path("last")}


def test_a_training_that_failed_has_the_states_before(tmp_path):
    folder = make_files(tmp_path / "weights", "epoch001.safetensors")
    with pytest.raises(UserError, match=r"weights: has no weights of epoch 4, only epoch001"):
        states_of_run("first", folder, "last", [1, 4, 9])
    write_failure(folder, "the loss of epoch 3 is not finite")
    states = states_of_run("first", folder, "last", [1, 4, 9])
    assert list(states) == [0, 1, 9]
