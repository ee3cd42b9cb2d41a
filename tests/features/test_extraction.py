"""The folder of a state: stores of all its layers, or why there are none."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from torch import nn
from torchvision.transforms.functional import normalize

from collapseflow.features import reading
from collapseflow.features.extraction import (
    Reading,
    epoch_failure,
    store,
    weights_after,
    write_network_features,
    write_state_features,
)
from collapseflow.features.preprocessing import preprocess
from collapseflow.features.reading import linear_layer
from collapseflow.features.stores import (
    NotFiniteError,
    read_attributes,
    read_head,
    read_rows,
    verify,
)
from collapseflow.features.weights import save_state
from collapseflow.images.datasets import Splits, make_split, read_info, write_dataset
from collapseflow.running.errors import UserError
from collapseflow.running.files import checksum_file, failure, write_failure
from collapseflow.running.hardware import device_name

CPU = torch.device("cpu")
LAYERS = ["features.3", "penultimate", "classifier.1"]
READING = Reading(
    model="squeezenet1_1",
    layers=LAYERS,
    pool="average",
    image_size=32,
    normalize="imagenet",
    precision="float32",
    batch_size=4,
)
N = {"train": 10, "test": 6}
#: What is not finite, in words, where all of it is: the first of the images.
FIRST = "the features of the training image in row 100 of its source"


@pytest.fixture(scope="module")
def splits(small_digits):
    return {
        "train": make_split(small_digits[:10], np.arange(10), np.arange(10) + 100),
        "test": make_split(small_digits[20:26], np.arange(6), np.arange(6) + 200),
    }


@pytest.fixture(scope="module")
def dataset(splits, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.h5"
    write_dataset(path, Splits(**splits, class_names=list("0123456789"), source="digits"))
    return path


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(num_classes=10).eval()


@pytest.fixture
def weights(dataset, network, tmp_path):
    """The folder of a training with the weights after its second epoch."""
    folder = tmp_path / "weights"
    metadata = {"weights": "some", "task": read_info(dataset).sha256}
    save_state(weights_after(folder, 2), network.state_dict(), metadata)
    return folder


def by_hooks(network, images):
    """The averaged outputs of the layers, and the predicted classes, of a plain forward pass."""
    modules = {
        "features.3": network.features[3],
        "penultimate": network.classifier[0],
        "classifier.1": network.classifier[1],
    }
    seen = {}

    def keep(layer):
        return lambda module, inputs, output: seen.update({layer: output.clone()})

    handles = [module.register_forward_hook(keep(layer)) for layer, module in modules.items()]
    with torch.inference_mode():
        logits = network(preprocess(torch.from_numpy(images), 32, "imagenet"))
    for handle in handles:
        handle.remove()
    return {layer: values.mean((2, 3)).numpy() for layer, values in seen.items()}, logits.argmax(1)


def files(folder):
    paths = (path.relative_to(folder) for path in folder.rglob("*.*") if path.is_file())
    return sorted(str(path) for path in paths if path.suffix != ".xxh3")


def change(path, name, value):
    """Give one tensor in a file of weights the same value everywhere."""
    state = safetensors.torch.load_file(path)
    state[name] = torch.full_like(state[name], value)
    safetensors.torch.save_file(state, path)
    checksum_file(path).unlink(missing_ok=True)


def test_every_layer_of_both_splits_equals_a_hook_on_a_plain_network(
    dataset, splits, network, weights, tmp_path
):
    output = tmp_path / "features" / "epoch002"
    # As Snakemake does before the job.
    output.mkdir(parents=True)
    write_state_features(dataset, weights, 2, READING, CPU, output)
    assert files(output) == sorted(f"{layer}/{split}.h5" for layer in LAYERS for split in N)
    assert list(output.parent.iterdir()) == [output]
    assert failure(output) is None
    for split, data in splits.items():
        expected, classes = by_hooks(network, data.images)
        for layer in LAYERS:
            path = store(output, layer, split)
            assert verify(path)
            features, labels = read_rows(path)
            np.testing.assert_allclose(features, expected[layer], rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(labels, data.labels)
            with h5py.File(path) as file:
                np.testing.assert_array_equal(file["predictions"][:], classes)
                np.testing.assert_array_equal(file["ids"][:], data.ids)


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [(1, (0.3,), (0.2,)), (3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))],
)
def test_a_data_set_s_own_mean_and_deviation_are_subtracted_and_divided_by(
    splits, network, tmp_path, channels, mean, std
):
    def with_channels(split):
        images = split.images if channels == 1 else np.stack([split.images] * 3, axis=-1)
        return replace(split, images=images)

    of = {name: with_channels(split) for name, split in splits.items()}
    dataset = tmp_path / "own.h5"
    names = list("0123456789")
    write_dataset(dataset, Splits(**of, class_names=names, source="x", mean=mean, std=std))
    weights = tmp_path / "weights"
    metadata = {"weights": "some", "task": read_info(dataset).sha256}
    save_state(weights_after(weights, 2), network.state_dict(), metadata)
    reading = READING.model_copy(update={"layers": ["penultimate"], "normalize": "dataset"})
    write_state_features(dataset, weights, 2, reading, CPU, tmp_path / "out")
    values = preprocess(torch.from_numpy(of["test"].images), 32, "none")
    values = normalize(values, mean * (3 // len(mean)), std * (3 // len(std)))
    with torch.inference_mode():
        expected = network.features(values).mean((2, 3)).numpy()
    path = store(tmp_path / "out", "penultimate", "test")
    np.testing.assert_allclose(read_rows(path)[0], expected, rtol=1e-4, atol=1e-5)
    assert "mean and s.d. of the data set" in read_attributes(path)["preprocessing"]
    # What is kept of another epoch depends on these numbers.
    told = reading.on(dataset).identity()
    assert (told["mean"], told["std"]) == (list(mean), list(std))
    assert not {"mean", "std"} & READING.on(dataset).identity().keys()


def test_a_store_says_which_layer_of_which_weights_it_holds(dataset, weights, tmp_path):
    write_state_features(dataset, weights, 2, READING, CPU, tmp_path / "out")
    for layer, words in {
        "features.3": "squeezenet1_1 features.3 (average)",
        # The penultimate layer by its own name.
        "penultimate": "squeezenet1_1 classifier.0 (average)",
    }.items():
        attributes = read_attributes(store(tmp_path / "out", layer, "test"))
        assert attributes["features"] == words
        assert attributes["split"] == "test" and attributes["dataset"] == "digits"
        assert attributes["weights"].startswith("some; SHA-256 of the tensors ")
        assert attributes["preprocessing"].endswith(f"; computed in float32 on {device_name(CPU)}")


def test_one_pass_a_split_reads_all_layers(dataset, weights, tmp_path, monkeypatch):
    sizes = []
    forward = reading.FeatureExtractor.forward

    def count(self, images):
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(reading.FeatureExtractor, "forward", count)
    write_network_features(dataset, weights_after(weights, 2), READING, CPU, tmp_path)
    assert sizes == [4, 4, 2, 4, 2]


def test_two_names_of_one_layer_hold_the_same(dataset, weights, tmp_path):
    reading = READING.model_copy(update={"layers": ["penultimate", "classifier.0"]})
    write_network_features(dataset, weights_after(weights, 2), reading, CPU, tmp_path / "out")
    digests = [
        read_attributes(store(tmp_path / "out", layer, "train"))["digest"]
        for layer in reading.layers
    ]
    assert digests[0] == digests[1]


# --- the last layer -----------------------------------------------------------------------------

#: A small network with a linear last layer, and batch normalisations that are folded away.
SHUFFLENET = READING.model_copy(
    update={"model": "shufflenet_v2_x0_5", "layers": ["stage4", "penultimate", "mean", "fc"]}
)


@pytest.fixture(scope="module")
def shufflenet():
    torch.manual_seed(1)
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=10)
    # As large as those of a trained network, and not zero as a new bias.
    nn.init.normal_(network.fc.weight, std=0.5)
    nn.init.normal_(network.fc.bias)
    return network.eval()


def read_shufflenet(dataset, network, folder, task):
    save_state(folder / "weights.safetensors", network.state_dict(), {"task": task})
    write_network_features(dataset, folder / "weights.safetensors", SHUFFLENET, CPU, folder)
    return folder


def test_the_input_of_a_linear_last_layer_is_stored_with_its_weights(
    dataset, splits, shufflenet, tmp_path
):
    folder = read_shufflenet(dataset, shufflenet, tmp_path, read_info(dataset).sha256)
    for split, data in splits.items():
        assert read_head(store(folder, "stage4", split)) is None
        assert read_head(store(folder, "fc", split)) is None
        with torch.inference_mode():
            logits = shufflenet(preprocess(torch.from_numpy(data.images), 32, "imagenet"))
        # By both of its names.
        for layer in ("penultimate", "mean"):
            weight, bias = read_head(store(folder, layer, split))
            np.testing.assert_array_equal(weight, shufflenet.fc.weight.detach())
            np.testing.assert_array_equal(bias, shufflenet.fc.bias.detach())
            features, _ = read_rows(store(folder, layer, split))
            np.testing.assert_allclose(features @ weight.T + bias, logits, rtol=1e-3, atol=1e-3)


def test_a_network_that_was_trained_on_other_classes_has_no_last_layer_here(
    dataset, shufflenet, tmp_path
):
    folder = read_shufflenet(dataset, shufflenet, tmp_path, "0" * 64)
    for layer in SHUFFLENET.layers:
        assert read_head(store(folder, layer, "train")) is None
        assert not predicts(store(folder, layer, "train"))


def test_a_network_that_ends_in_a_convolution_predicts_without_a_last_layer(
    dataset, weights, tmp_path
):
    write_network_features(dataset, weights_after(weights, 2), READING, CPU, tmp_path / "out")
    for layer in LAYERS:
        assert read_head(store(tmp_path / "out", layer, "train")) is None
        assert predicts(store(tmp_path / "out", layer, "train"))


def predicts(path):
    """Whether a store holds the network's predictions."""
    with h5py.File(path) as file:
        return "predictions" in file


def test_a_linear_layer_without_a_bias_has_a_bias_of_zero():
    network = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU())
    weight, bias = linear_layer(network, "0")
    np.testing.assert_array_equal(weight, network[0].weight.detach())
    np.testing.assert_array_equal(bias, np.zeros(2, np.float32))
    assert weight.dtype == bias.dtype == np.float32
    assert linear_layer(network, "1") is None and linear_layer(network, "flatten") is None


# --- what fails -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_features_that_are_not_finite_leave_only_the_reason(dataset, weights, tmp_path, before):
    # The first layer that is read is finite.
    change(weights_after(weights, 2), "features.12.squeeze.bias", torch.inf)
    output = tmp_path / "features" / "epoch002"
    if before == "an empty folder":
        output.mkdir(parents=True)
    write_state_features(dataset, weights, 2, READING, CPU, output)
    assert files(output) == ["failed.json"]
    assert failure(output) == f"{FIRST} after epoch 2 are not finite"
    assert list(output.parent.iterdir()) == [output]


def test_a_start_whose_features_are_not_finite_is_a_mistake(dataset, weights, tmp_path):
    path = weights_after(weights, 2)
    change(path, "features.12.squeeze.bias", torch.inf)
    with pytest.raises(NotFiniteError) as caught:
        write_state_features(dataset, path, 0, READING, CPU, tmp_path / "out")
    assert str(caught.value).startswith(f"{path}: {FIRST} are not finite; ")
    assert "replace the weights" in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [weights]


def test_a_training_that_failed_before_passes_its_reason_on(dataset, weights, tmp_path):
    write_failure(weights, "the loss of epoch 3 is not finite")
    write_state_features(dataset, weights, 5, READING, CPU, tmp_path / "out")
    assert files(tmp_path / "out") == ["failed.json"]
    assert failure(tmp_path / "out") == "the loss of epoch 3 is not finite"
    # What it has is read.
    write_state_features(dataset, weights, 2, READING, CPU, tmp_path / "earlier")
    assert failure(tmp_path / "earlier") is None
    assert epoch_failure(weights, 2) is None


@pytest.mark.parametrize(("there", "words"), [([], "none"), ([2, 10], "epoch002, epoch010")])
def test_weights_that_are_missing_for_no_reason_are_a_mistake(dataset, tmp_path, there, words):
    folder = tmp_path / "weights"
    folder.mkdir()
    for epoch in there:
        weights_after(folder, epoch).touch()
    with pytest.raises(UserError) as caught:
        write_state_features(dataset, folder, 5, READING, CPU, tmp_path / "out")
    assert str(caught.value) == (
        f"{folder}: has no weights of epoch 5, only {words}; "
        "delete it and start again: it is made anew"
    )
    assert list(tmp_path.iterdir()) == [folder]
