"""The measures of every epoch against features that torchvision computes and dense formulas."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from torch import nn
from torchvision.transforms.functional import normalize

from collapseflow.features.extraction import Reading, write_network_features
from collapseflow.images.datasets import Splits, make_split, read_info, write_dataset
from collapseflow.measures import epochs as module
from collapseflow.measures.collapse import measure_stores
from collapseflow.measures.epochs import measure_epochs
from collapseflow.running.errors import UserError
from collapseflow.running.files import atomic_path

CPU = torch.device("cpu")
READING = Reading("squeezenet1_1", None, "average", 32, "imagenet", "float32", 64)
CODE = "0" * 16
SIZES = {"train": 8, "test": 4}


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
    features = torch.from_numpy(by_torchvision(path, data.images)[0])
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
    """The stores before the first epoch and after the last."""
    stores = []
    for name, path in (("first", weights[0]), ("last", weights[-1])):
        folder = tmp_path_factory.mktemp(name)
        stores.append({split: folder / f"{split}.h5" for split in ("train", "test")})
        write_network_features(dataset, path, READING, CPU, stores[-1])
    return stores


def by_torchvision(path, images):
    """Features before the last layer, and the predicted classes."""
    network = torchvision.models.squeezenet1_1(num_classes=10)
    network.load_state_dict(safetensors.torch.load_file(path))
    seen = []
    network.classifier[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    values = nn.functional.interpolate(
        torch.from_numpy(images)[:, None].float(), (32, 32), mode="bilinear", antialias=True
    )
    values = normalize(
        (values / 255).repeat(1, 3, 1, 1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with torch.inference_mode():
        predicted = network.eval()(values).argmax(1).numpy()
    return seen[0].double().mean((2, 3)).numpy(), predicted


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
    first, last = ends
    return measure_epochs(dataset, first, weights[1:-1], last, reading, CPU, folder, code)


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
        write_network_features(dataset, weights, *arguments)

    monkeypatch.setattr(module, "write_network_features", count)
    return paths


def test_every_epoch_has_its_number_and_both_splits(measured):
    assert [of_epoch["epoch"] for of_epoch in measured[1]] == [0, 1, 2, 3]
    for of_epoch in measured[1]:
        assert of_epoch.keys() == {"epoch", "train", "test", "made_with"}
        (line,) = of_epoch["made_with"]
        assert f"torch {torch.__version__.split('+')[0]}" in line
        for split, n in SIZES.items():
            assert of_epoch[split]["n_samples"] == 10 * n
            assert of_epoch[split]["n_features"] == 512
            assert of_epoch[split]["rank"] == 9


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_the_measures_equal_dense_formulas_on_torchvision_s_features(
    measured, splits, weights, epoch, split
):
    found = measured[1][epoch][split]
    labels = splits[split].labels
    features, predicted = by_torchvision(weights[epoch], splits[split].images)
    for name, value in dense_measures(features, labels).items():
        assert found[name] == pytest.approx(value, rel=1e-3), name
    assert found["accuracy"] == np.mean(predicted == labels)
    assert 0.3 < found["accuracy"] < 1


def test_every_epoch_is_another(measured):
    for split in SIZES:
        assert len({of_epoch[split]["nc1"] for of_epoch in measured[1]}) == 4


def test_the_first_and_the_last_epoch_are_read_from_their_stores(measured, ends):
    for stores, of_epoch in zip(ends, (measured[1][0], measured[1][-1]), strict=True):
        assert {split: of_epoch[split] for split in SIZES} == measure_stores(stores)


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

    monkeypatch.setattr(module, "write_network_features", never)
    assert run(measured[0], dataset, ends, weights) == measured[1]


def test_a_fine_tuning_of_one_epoch_has_nothing_between(dataset, ends, weights, tmp_path, measured):
    found = run(tmp_path, dataset, ends, [weights[0], weights[-1]])
    assert [of_epoch["epoch"] for of_epoch in found] == [0, 1]
    assert found[1]["train"] == measured[1][3]["train"]
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


@pytest.mark.parametrize("changed", ["image_size", "batch_size", "layer", "code", "dataset"])
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
        value = {"image_size": 40, "batch_size": 32, "layer": "features.9"}[changed]
        arguments["reading"] = replace(READING, **{changed: value})
    found = run(kept, ends=ends, weights=weights, **arguments)
    assert extracted == weights[1:-1]
    if changed in ("image_size", "layer", "dataset"):
        for epoch in (1, 2):
            assert found[epoch]["test"] != measured[1][epoch]["test"]


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


def test_an_extraction_that_fails_in_the_middle_leaves_no_features(
    dataset, ends, weights, tmp_path, monkeypatch
):
    folder = tmp_path / "progress"
    there = []

    def fail(dataset, path, reading, device, stores):
        write_network_features(dataset, path, reading, device, {"train": stores["train"]})
        there.append(stores["train"].exists())
        raise UserError("the features are not finite")

    monkeypatch.setattr(module, "write_network_features", fail)
    with pytest.raises(UserError):
        run(folder, dataset, ends, weights)
    assert there == [True]
    assert list(folder.iterdir()) == []


def test_features_of_a_killed_measurement_are_removed(dataset, ends, weights, measured, tmp_path):
    folder = tmp_path / "progress"
    for split in SIZES:
        with atomic_path(folder / f"{split}.h5") as half:
            half.write_bytes(b"half")
        (folder / f"{split}.h5").rename(half)
        (folder / f"{split}.h5").write_bytes(b"whole, but not measured")
    assert len(list(folder.iterdir())) == 4
    assert run(folder, dataset, ends, weights) == measured[1]
    assert sorted(path.name for path in folder.iterdir()) == ["epoch001.json", "epoch002.json"]
