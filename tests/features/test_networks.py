"""Layers against forward hooks, weights against torchvision, and every refusal by name."""

import contextlib
import copy
import hashlib
import importlib.metadata
import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from collapseflow.features import batches, networks, reading
from collapseflow.features.checks import check_backbone, layer_shapes
from collapseflow.features.families import download, weights_name
from collapseflow.features.families import torchvision as tv
from collapseflow.features.loading import check_weights, load_network, open_extractor
from collapseflow.features.networks import (
    build,
    head_parameters,
    layer_names,
    layers_before_the_last,
    make_head,
    own_name,
    penultimate_layer,
    positions,
    skeleton,
)
from collapseflow.features.pooling import Pooling
from collapseflow.features.preprocessing import preprocess
from collapseflow.features.reading import FeatureExtractor, extract
from collapseflow.features.weights import (
    load_state,
    save_state,
    weights_digest,
    weights_made_with,
)
from collapseflow.running.errors import UserError
from collapseflow.running.files import sha256_file

CPU = torch.device("cpu")
LAST = ["penultimate"]


def random_images(n=3, size=32, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def over(places):
    """The mean over some dimensions; the output as it is where there are none."""
    return Pooling("average", places) if places else Pooling("flatten")


def trained_looking(network):
    """Batch-norm statistics unlike those of a fresh network, so that they matter."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def small_vit():
    """torchvision's vision transformer, small enough for a test."""
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48
    )


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    return trained_looking(torchvision.models.vgg11_bn())


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return trained_looking(torchvision.models.resnet18())


def with_hook(network, layer, images):
    """A layer's output, copied the moment it is made, and the network's own logits."""
    seen = []
    module = network.get_submodule(layer)
    handle = module.register_forward_hook(lambda m, i, output: seen.append(output.clone()))
    with torch.inference_mode():
        logits = network.eval()(images)
    handle.remove()
    return seen[-1], logits


def read_one(network, layer, average_over, with_logits, images):
    """A layer's features, and logits or None."""
    with torch.inference_mode():
        features, logits = FeatureExtractor(network, {layer: over(average_over)}, with_logits)(
            images
        )
    assert list(features) == [layer]
    return features[layer], logits


# --- features ---------------------------------------------------------------------------------


def test_vgg_features_come_from_before_the_relu_that_works_in_place(vgg):
    images = random_images()
    assert vgg.classifier[4].inplace
    expected, logits = with_hook(vgg, "classifier.3", images)
    assert (expected < 0).any()
    features, own_logits = read_one(vgg, "classifier.3", (), True, images)
    assert features.shape == (3, 4096)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(own_logits, logits)


@pytest.mark.parametrize("layer", ["classifier.0", "classifier.4", "classifier.5", "features.28"])
def test_any_layer_of_vgg_equals_a_hook(vgg, layer):
    images = random_images()
    expected, _ = with_hook(vgg, layer, images)
    if expected.ndim == 4:
        expected = expected.mean((2, 3))
    features, logits = read_one(vgg, layer, positions("vgg11_bn", [layer])[layer], False, images)
    assert logits is None
    torch.testing.assert_close(features, expected)


def resnet_by_hand(network, images):
    x = network.maxpool(torch.relu(network.bn1(network.conv1(images))))
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            shortcut = x if block.downsample is None else block.downsample(x)
            y = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
            x = torch.relu(y + shortcut)
    return x


def test_resnet_features_are_the_512_pooled_values(resnet):
    # In float64: folding batch normalisation rounds, and how much depends on the processor.
    resnet, images = copy.deepcopy(resnet).double(), random_images(size=64).double()
    with torch.inference_mode():
        maps = resnet_by_hand(resnet, images)
        expected = maps.mean((2, 3))
        layer = penultimate_layer("resnet18")
        features, logits = read_one(resnet, layer, (), True, images)
        pooled, _ = read_one(resnet, "layer4", (2, 3), False, images)
        flat, _ = read_one(resnet, "layer4", (), False, images)
        own_logits = resnet(images)
    assert features.shape == (3, 512)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(flat.flatten(1), maps.flatten(1))
    assert flat.flatten(1).shape == (3, 512 * 2 * 2)
    torch.testing.assert_close(logits, own_logits)


def test_features_do_not_depend_on_training_mode_or_on_the_other_images(resnet):
    images = random_images(5)
    before = {k: v.clone() for k, v in resnet.state_dict().items()}
    resnet.train()
    whole, _ = read_one(resnet, "flatten", (), True, images)
    resnet.train()
    single, _ = read_one(resnet, "flatten", (), True, images[2:3])
    resnet.eval()
    torch.testing.assert_close(whole[2:3], single)
    assert all(torch.equal(value, before[name]) for name, value in resnet.state_dict().items())


def test_the_last_layer_itself_gives_the_logits_twice(resnet):
    images = random_images()
    features, logits = read_one(resnet, "fc", (), True, images)
    with torch.inference_mode():
        expected = resnet(images)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(
    ("model", "head"),
    [
        ("resnet18", "fc"),
        ("vgg11_bn", "classifier.6"),
        ("mobilenet_v3_small", "classifier.3"),
        ("shufflenet_v2_x0_5", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("mnasnet0_5", "classifier.1"),
        ("googlenet", "fc"),
        ("vit_b_16", "heads.head"),
    ],
)
def test_the_penultimate_layer_is_what_the_last_layer_takes(request, model, head):
    fixtures = {"resnet18": "resnet", "vgg11_bn": "vgg"}
    if model in fixtures:
        network = request.getfixturevalue(fixtures[model])
    else:
        network = small_vit() if model == "vit_b_16" else build(model, 6)
    layer = penultimate_layer(model)
    assert layer in layer_names(model)
    assert head_parameters(model)[0] == f"{head}.weight"
    seen = []
    handle = network.get_submodule(head).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].clone())
    )
    images = random_images(2, 64 if model == "squeezenet1_1" else 32)
    with torch.inference_mode():
        logits = network.eval()(images)
        handle.remove()
    features, own_logits = read_one(network, layer, (), True, images)
    torch.testing.assert_close(features, seen[0])
    torch.testing.assert_close(own_logits, logits)


def test_extract_equals_the_network_on_preprocessed_images(resnet, mnist_digits):
    images = mnist_digits[0][:7]
    extractor = FeatureExtractor(resnet, {"flatten": over(())}, True)
    parts = list(extract(extractor, images, 32, "imagenet", "float32", CPU, 3, "test"))
    assert [len(features["flatten"]) for features, _ in parts] == [3, 3, 1]
    features = np.concatenate([f["flatten"] for f, _ in parts])
    predictions = np.concatenate([p for _, p in parts])
    with torch.inference_mode():
        inputs = preprocess(torch.from_numpy(images), 32, "imagenet")
        expected = resnet_by_hand(resnet, inputs).mean((2, 3))
        logits = resnet(inputs)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(predictions, logits.argmax(1).numpy())


# Report A's two networks, and one whose batch norm comes before its convolutions.
@pytest.mark.parametrize("model", ["vgg11_bn", "resnet18", "densenet121"])
def test_folded_batch_norms_change_nothing(model):
    torch.manual_seed(3)
    network = build(model, 6)
    # Statistics as after training: a fresh network's are zeros and ones.
    with torch.no_grad():
        network(torch.rand(4, 3, 64, 64) * 5)
        for value in network.parameters():
            if value.ndim == 1:
                value.uniform_(-1, 1)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    images = random_images(2, 64)
    extractor = FeatureExtractor(network, {penultimate_layer(model): over(())}, True)
    with torch.inference_mode():
        expected = network.eval()(images)
        _, logits = extractor(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    body = extractor.body
    called = [node.target for node in body.graph.nodes if node.op == "call_module"]
    left = [name for name in called if isinstance(body.get_submodule(name), nn.BatchNorm2d)]
    # A dense block's inputs are normalised before its convolutions; 59 norms come behind one.
    assert len(left) == {"vgg11_bn": 0, "resnet18": 0, "densenet121": 121 - 59}[model]


def test_a_convolution_that_is_read_itself_keeps_its_batch_norm(resnet):
    images = random_images()
    features, logits = read_one(resnet, "conv1", (), True, images)
    with torch.inference_mode():
        torch.testing.assert_close(features, resnet.conv1(images))
        torch.testing.assert_close(logits, resnet(images))


# Nested blocks, in-place ReLUs, layers on one tensor, a convolution and its batch norm.
SEVERAL = {
    "vgg11_bn": ["features.3", "features.4", "features", "classifier.3", "classifier.4"],
    "resnet18": ["conv1", "bn1", "layer3.0", "layer3", "layer4", "layer4.1", "avgpool", "fc"],
}


@pytest.mark.parametrize("pool", ["average", "flatten"])
@pytest.mark.parametrize("model", SEVERAL)
def test_each_of_several_layers_equals_a_hook_on_it(request, tmp_path, model, pool):
    network = request.getfixturevalue({"resnet18": "resnet", "vgg11_bn": "vgg"}[model])
    images = random_images(size=64)
    path = tmp_path / "w.safetensors"
    save_state(path, network.state_dict(), {"task": "theirs"})
    extractor = open_extractor(model, path, SEVERAL[model], pool, "theirs")
    with torch.inference_mode():
        features, logits = extractor(images)
    assert list(features) == SEVERAL[model]
    for layer in SEVERAL[model]:
        expected, own_logits = with_hook(network, layer, images)
        if pool == "average" and expected.ndim == 4:
            expected = expected.mean((2, 3))
        # A batch norm that is part of its convolution rounds otherwise, and sums cancel: by a share
        # of the largest values, which is more on some processors than on others.
        rounding = 1e-5 * max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(features[layer], expected, rtol=1e-4, atol=rounding)
        assert (features[layer] - expected).norm() < 1e-5 * expected.norm()
    torch.testing.assert_close(logits, own_logits, rtol=1e-4, atol=1e-5)


def test_a_layer_has_the_same_values_bit_for_bit_read_alone_or_with_others(resnet):
    images = random_images(size=64)
    layers = {"bn1": (), "layer2": (2, 3), "layer4": (), "layer4.1.relu_1": (), "flatten": ()}
    with torch.inference_mode():
        together, _ = FeatureExtractor(resnet, {k: over(v) for k, v in layers.items()}, True)(
            images
        )
    for layer, places in layers.items():
        alone, _ = read_one(resnet, layer, places, False, images)
        assert torch.equal(together[layer], alone), layer
    assert torch.equal(together["layer4"], together["layer4.1.relu_1"])


def test_only_a_convolution_that_is_read_keeps_its_batch_norm(resnet):
    extractor = FeatureExtractor(resnet, {"layer2.0.conv1": over(()), "flatten": over(())}, False)
    modules = [
        extractor.body.get_submodule(node.target)
        for node in extractor.body.graph.nodes
        if node.op == "call_module"
    ]
    (norm,) = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    assert torch.equal(norm.running_mean, resnet.layer2[0].bn1.running_mean)


def test_one_pass_reads_all_layers(resnet, mnist_digits, monkeypatch):
    batches = []
    forward = nn.Conv2d.forward

    def count(self, inputs):
        if self.in_channels == 3:
            batches.append(len(inputs))
        return forward(self, inputs)

    monkeypatch.setattr(nn.Conv2d, "forward", count)
    layers = {"layer1": (2, 3), "layer3": (2, 3), "flatten": ()}
    extractor = FeatureExtractor(resnet, {k: over(v) for k, v in layers.items()}, True)
    parts = list(extract(extractor, mnist_digits[0][:7], 32, "none", "float32", CPU, 3, "test"))
    assert batches == [3, 3, 1]
    shapes = [{layer: values.shape for layer, values in features.items()} for features, _ in parts]
    assert shapes == [{"layer1": (n, 64), "layer3": (n, 256), "flatten": (n, 512)} for n in batches]


def test_bfloat16_features_point_where_float32_features_point(resnet, mnist_digits):
    extractor = FeatureExtractor(resnet, {"flatten": over(())}, True)
    found = {}
    for precision in ("float32", "bfloat16"):
        ((layers, _),) = extract(
            extractor, mnist_digits[0][:8], 64, "imagenet", precision, CPU, 8, "test"
        )
        features = layers["flatten"]
        assert features.dtype == np.float32
        found[precision] = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (found["float32"] * found["bfloat16"]).sum(axis=1)
    assert cosines.min() > 0.999
    assert not np.array_equal(found["float32"], found["bfloat16"])


def test_a_batch_that_does_not_fit_is_halved(resnet, mnist_digits, monkeypatch):
    images = mnist_digits[0][:11]
    extractor = FeatureExtractor(resnet, {"flatten": over(())}, False)
    arguments = (extractor, images, 32, "imagenet", "float32", CPU, 8, "features")
    expected = np.concatenate([features["flatten"] for features, _ in extract(*arguments)])
    sizes = []
    forward = FeatureExtractor.forward

    def check(self, batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, batch)

    monkeypatch.setattr(FeatureExtractor, "forward", check)
    found = np.concatenate([features["flatten"] for features, _ in extract(*arguments)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]


def test_a_batch_that_is_filled_up_gives_each_image_once(resnet, mnist_digits, monkeypatch):
    extractor = FeatureExtractor(resnet, {"layer4": over(()), "flatten": over(())}, True)
    arguments = (extractor, mnist_digits[0][:7], 32, "imagenet", "float32", CPU, 3, "features")
    expected = list(extract(*arguments))
    sizes, forward = [], FeatureExtractor.forward

    def check(self, batch):
        sizes.append(len(batch))
        return forward(self, batch)

    monkeypatch.setattr(FeatureExtractor, "forward", check)
    monkeypatch.setattr(batches, "is_tuned_by_size", lambda device: True)
    monkeypatch.setattr(batches, "memory_left", lambda device: 0)
    found = list(extract(*arguments))
    assert sizes == [3, 3, 3]
    for (ours, classes), (by_layer, own_classes) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(classes, own_classes)
        for layer, values in by_layer.items():
            assert ours[layer].flags.c_contiguous
            np.testing.assert_allclose(ours[layer], values, rtol=1e-4, atol=1e-5)


# --- precisions -------------------------------------------------------------------------------


def test_tensor_float32_is_on_while_it_is_computed_in_and_only_then():
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    for of in flags:
        of.allow_tf32 = False
    for number in ("float32", "bfloat16", "tf32"):
        with reading.computing_in(number, CPU):
            assert [of.allow_tf32 for of in flags] == [number == "tf32"] * 2
            product = torch.ones(2, 2) @ torch.ones(2, 2)
            assert product.dtype == (torch.bfloat16 if number == "bfloat16" else torch.float32)
        assert not any(of.allow_tf32 for of in flags)
    with pytest.raises(ValueError, match="in between"), reading.computing_in("tf32", CPU):
        raise ValueError("in between")
    assert not any(of.allow_tf32 for of in flags)


def test_tensor_float32_is_refused_where_no_card_computes_in_it(resnet, mnist_digits, monkeypatch):
    extractor = FeatureExtractor(resnet, {"flatten": over(())}, True)
    words = "reading_precision: 'tf32' is for cards from NVIDIA's Ampere on, and the device is "
    with pytest.raises(UserError, match=f"{words}a CPU; allowed: float32, bfloat16"):
        list(extract(extractor, mnist_digits[0][:2], 32, "none", "tf32", CPU, 2, "test"))
    card, capability = torch.device("cuda", 0), [7, 5]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: tuple(capability))
    with pytest.raises(UserError, match=f"{words}Tesla T4; allowed"):
        reading.computed_in("tf32", card)
    capability[:] = [8, 0]
    assert reading.computed_in("tf32", card) == "tf32"


@pytest.mark.parametrize(
    ("number", "on_card"),
    [
        ("float32", torch.contiguous_format),
        ("tf32", torch.channels_last),
        ("bfloat16", torch.channels_last),
    ],
)
def test_channels_are_last_on_cpus_and_for_tensor_cores(number, on_card):
    assert reading.layout(number, torch.device("cuda", 0)) == on_card
    assert reading.layout(number, CPU) == torch.channels_last


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_network_and_images_are_in_one_layout(resnet, mnist_digits, monkeypatch, layout):
    monkeypatch.setattr(reading, "layout", lambda number, device: layout)
    seen, forward = [], nn.Conv2d.forward

    def look(self, inputs):
        seen.extend([inputs.is_contiguous(memory_format=layout), self.weight])
        return forward(self, inputs)

    monkeypatch.setattr(nn.Conv2d, "forward", look)
    extractor = FeatureExtractor(resnet, {"flatten": over(())}, True)
    ((layers, _),) = extract(extractor, mnist_digits[0][:2], 32, "none", "float32", CPU, 2, "test")
    assert all(is_so for is_so in seen[::2])
    assert all(weight.is_contiguous(memory_format=layout) for weight in seen[1::2])
    with torch.inference_mode():
        inputs = preprocess(torch.from_numpy(mnist_digits[0][:2]), 32, "none")
        expected = resnet_by_hand(resnet, inputs).mean((2, 3))
    np.testing.assert_allclose(layers["flatten"], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_extract_of_maps_keeps_channels_first(resnet, mnist_digits):
    images = mnist_digits[0][:2]
    extractor = FeatureExtractor(resnet, {"layer4": over(())}, False)
    ((layers, predictions),) = extract(extractor, images, 64, "none", "float32", CPU, 8, "test")
    features = layers["layer4"]
    with torch.inference_mode():
        expected = resnet_by_hand(resnet, preprocess(torch.from_numpy(images), 64, "none"))
    assert predictions is None
    assert features.flags.c_contiguous
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-3, atol=1e-4)


# --- places and channels ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "layer", "expected"),
    [
        ("resnet18", "layer4", (2, 3)),
        ("densenet121", "features.denseblock2", (2, 3)),
        ("vgg11", "features.20", (2, 3)),
        # Maps of 7 x 7 whatever the image, and the vector behind them.
        ("vgg11", "avgpool", (2, 3)),
        ("vgg11", "classifier.3", ()),
        ("alexnet", "avgpool", (2, 3)),
        ("squeezenet1_1", "classifier.0", (2, 3)),
        ("efficientnet_b0", "features.4", (2, 3)),
        ("regnet_y_400mf", "trunk_output", (2, 3)),
        ("googlenet", "inception4a", (2, 3)),
        ("inception_v3", "Mixed_6a", (2, 3)),
        ("convnext_tiny", "features.3", (2, 3)),
        # Inside a block ConvNeXt has its channels last, as Swin has everywhere.
        ("convnext_tiny", "features.3.0.block.3", (1, 2)),
        ("swin_t", "features.7", (1, 2)),
        ("swin_t", "norm", (1, 2)),
        ("swin_t", "permute", (2, 3)),
        ("swin_t", "avgpool", (2, 3)),
        ("swin_v2_t", "features.1", (1, 2)),
        ("vit_b_16", "conv_proj", (2, 3)),
        ("vit_b_16", "reshape", (2,)),
        ("vit_b_16", "encoder.ln", (1,)),
    ],
)
def test_places_are_told_from_channels(model, layer, expected):
    assert positions(model, [layer]) == {layer: expected}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("swin_t", {"permute": (2, 3), "flatten": (), "norm": (1, 2)}),
        # A block, and the layer at which it ends.
        ("resnet18", {"layer1": (2, 3), "layer1.1.relu_1": (2, 3), "flatten": ()}),
    ],
)
def test_each_of_several_layers_has_its_own_places(model, expected):
    assert positions(model, list(expected)) == expected


@pytest.mark.parametrize(
    ("model", "maps", "image_size"),
    [
        ("swin_t", "norm", 64),
        ("swin_v2_t", "norm", 64),
        ("convnext_tiny", "features.7", 32),
        ("resnet18", "layer4", 64),
        ("densenet121", "relu", 64),
        ("mobilenet_v2", "features", 64),
        ("efficientnet_b0", "features", 64),
        ("regnet_y_400mf", "trunk_output", 64),
    ],
)
def test_averaged_maps_are_what_the_network_itself_averages(tmp_path, model, maps, image_size):
    # These networks take the mean over all places before their last layers.
    pooled = {"convnext_tiny": "avgpool"}.get(model, penultimate_layer(model))
    torch.manual_seed(0)
    save_state(tmp_path / "w.safetensors", trained_looking(build(model, 6)).state_dict(), {})
    images = random_images(2, image_size)
    found = []
    for layer in (maps, pooled):
        extractor = open_extractor(model, tmp_path / "w.safetensors", [layer], "average", "")
        with torch.inference_mode():
            features, logits = extractor(images)
        assert logits is None
        found.append(features[layer])
    assert found[0].shape == found[1].shape and found[0].ndim == 2
    assert found[1].std() > 0
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_tokens_are_averaged(tmp_path):
    network = build("vit_b_32", 6)
    save_state(tmp_path / "w.safetensors", network.state_dict(), {})
    images = random_images(2, 224)
    expected, _ = with_hook(network, "encoder.ln", images)
    assert expected.shape == (2, 50, 768)
    extractor = open_extractor(
        "vit_b_32", tmp_path / "w.safetensors", ["encoder.ln"], "average", "no task"
    )
    with torch.inference_mode():
        features, _ = extractor(images)
    torch.testing.assert_close(features["encoder.ln"], expected.mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "layer", "pool", "message"),
    [
        # Windows of 49 places each.
        ("maxvit_t", "blocks.0.layers.0.layers.window_attention.partition_op", "average", "places"),
        # Channels in two groups.
        ("shufflenet_v2_x0_5", "stage2.1.view", "average", r"\(2, 24, 28, 28\).*flatten"),
        ("shufflenet_v2_x0_5", "stage2.1.chunk", "flatten", "no features of each image"),
        ("vit_b_16", "encoder.layers.encoder_layer_3.self_attention", "average", "no features"),
        ("vit_b_16", "getattr_1", "flatten", "no features"),
    ],
)
def test_layers_without_a_layout_are_refused_before_any_job(model, layer, pool, message):
    with pytest.raises(UserError, match=message) as caught:
        check_backbone(model, [layer], [], pool=pool)
    assert layer in str(caught.value) and "\n" not in str(caught.value)


# --- a new last layer -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "head", "fan_in"),
    [
        ("resnet18", "fc", 512),
        ("squeezenet1_1", "classifier.1", 512),
        ("mnasnet0_5", "classifier.1", 1280),
    ],
)
@pytest.mark.parametrize("gain", [0.02, 1.0])
def test_a_new_head_is_xavier_normal_with_its_gain_and_zero_bias(model, head, fan_in, gain):
    torch.manual_seed(2)
    network = build(model, 1000)
    fresh = make_head(network, model, 20, gain)
    layer = fresh.get_submodule(head)
    assert layer.weight.shape[:2] == (20, fan_in)
    # Glorot and Bengio: variance 2 / (fan in + fan out); 20 x 512 draws have it within 1 %.
    std = layer.weight.std().item()
    assert std == pytest.approx(gain * np.sqrt(2 / (fan_in + 20)), rel=0.03)
    assert abs(layer.weight.mean().item()) < 0.05 * std
    # Normal, not uniform: a uniform variable stays within sqrt(3) standard deviations.
    assert layer.weight.abs().max().item() > 2.5 * std
    assert torch.equal(layer.bias, torch.zeros(20))
    body = network.state_dict()
    for name, value in fresh.state_dict().items():
        if not name.startswith(f"{head}."):
            assert torch.equal(value, body[name]), name


def test_a_new_head_leaves_the_old_network_alone(resnet):
    before = resnet.fc.weight.clone()
    make_head(resnet, "resnet18", 4, 0.02)
    assert torch.equal(resnet.fc.weight, before)


# --- weights in files -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_come_back_from_a_file(tmp_path, resnet, suffix):
    path = tmp_path / f"w.{suffix}"
    state = resnet.state_dict()
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_state(path, state, {"weights": "some"})
    network, task = load_network("resnet18", path)
    assert task is None
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_the_head_belongs_to_weights_that_were_trained_on_the_task(tmp_path, resnet):
    network = make_head(resnet, "resnet18", 5, 1.0)
    path = tmp_path / "w.safetensors"
    save_state(path, network.state_dict(), {"weights": "some", "task": "a data set's digest"})
    loaded, task = load_network("resnet18", path)
    assert task == "a data set's digest"
    assert torch.equal(loaded.fc.weight, network.fc.weight)
    # A body alone has none, whatever it says.
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    save_state(path, state, {"task": "a data set's digest"})
    loaded, task = load_network("resnet18", path)
    assert task is None
    assert loaded.fc.out_features == 1000
    assert torch.equal(loaded.conv1.weight, network.conv1.weight)


def test_mnasnet_s_weights_come_back_although_it_asks_for_a_version(tmp_path):
    network = build("mnasnet0_5", 8)
    save_state(tmp_path / "w.safetensors", network.state_dict(), {})
    loaded, _ = load_network("mnasnet0_5", tmp_path / "w.safetensors")
    assert torch.equal(loaded.layers[0].weight, network.layers[0].weight)
    assert torch.equal(loaded.classifier[1].weight, network.classifier[1].weight)


def test_weights_from_before_batches_were_counted_are_taken(tmp_path, resnet):
    # As PyTorch before 0.4.1 saved them, and as torchvision still distributes some.
    state = {k: v for k, v in resnet.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_state(tmp_path / "w.safetensors", state, {})
    loaded = load_network("resnet18", tmp_path / "w.safetensors")[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_densenet_s_older_names_are_taken(tmp_path):
    network = build("densenet121", 5)
    state = network.state_dict()
    old = {}
    for name, value in state.items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        old[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    save_state(tmp_path / "w.safetensors", old, {})
    loaded = load_network("densenet121", tmp_path / "w.safetensors")[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_the_vision_transformer_s_older_names_become_today_s():
    layer = "encoder.layers.encoder_layer_3.mlp"
    for old, new in (
        (f"{layer}.linear_1.weight", f"{layer}.0.weight"),
        (f"{layer}.linear_2.bias", f"{layer}.3.bias"),
    ):
        assert tv.current_name(old) == new
        assert new in skeleton("vit_b_16", 7).state_dict()


def test_auxiliary_heads_of_googlenet_are_left_out(tmp_path):
    whole = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    assert any(name.startswith("aux1") for name in whole.state_dict())
    save_state(tmp_path / "w.safetensors", whole.state_dict(), {})
    loaded, _ = load_network("googlenet", tmp_path / "w.safetensors")
    assert torch.equal(loaded.fc.weight, whole.fc.weight)
    images = random_images(1, 64)
    with torch.inference_mode():
        assert loaded.eval()(images).shape == (1, 1000)


def assert_refused(model, path, message):
    with pytest.raises(UserError, match=message) as caught:
        load_network(model, path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(tmp_path, resnet):
    path = tmp_path / "w.safetensors"
    save_state(path, resnet.state_dict(), {})
    assert_refused("resnet34", path, "not the weights of resnet34")
    assert_refused("mobilenet_v3_small", path, "not the weights of mobilenet_v3_small")


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_differ_in_one_tensor_are_refused(tmp_path, resnet, change):
    state = resnet.state_dict()
    name = "layer2.0.conv1.weight"
    if change == "missing":
        del state[name]
    elif change == "extra":
        name = "layer9.weight"
        state[name] = torch.zeros(3)
    else:
        state[name] = state[name][:, :2]
    path = tmp_path / "w.pth"
    torch.save(state, path)
    assert_refused("resnet18", path, name)


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (
            lambda state: {"teacher": state, "optimizer": {"step": 1}, "epoch": 3, "loss": 1.5},
            "holds teacher, optimizer, epoch, ..., .* state dict alone, here torch.load.*'teacher'",
        ),
        (lambda state: {"epoch": 3, "accuracy": 0.5}, "holds epoch, accuracy, .*: a state dict$"),
        (
            lambda state: torchvision.models.resnet18(),
            r"ResNet.*could run any code; .*network.state_dict\(\)",
        ),
    ],
)
def test_what_is_no_state_dict_of_the_network_is_told_in_one_line_before_any_job(
    tmp_path, resnet, wrap, words
):
    path = tmp_path / "w.pth"
    torch.save(wrap(resnet.state_dict()), path)
    assert_refused("resnet18", path, words)
    with pytest.raises(UserError, match=f"^weights: {path}: .*{words}") as caught:
        check_weights("resnet18", path)
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
    torch.save(resnet.state_dict(), path)
    check_weights("resnet18", path)


def pth(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Surprise:
    """Code, which a file of weights must not bring along."""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("page.pth", b"<html>404: not found</html>"),
        ("half.pth", pth({"conv1.weight": torch.zeros(2000)})[:4000]),
        ("words.pth", b"hello world, hello world"),
        ("pickle.pkl", pickle.dumps({"conv1.weight": [1.0]}, protocol=4)),
        ("list.pth", pth([torch.zeros(2)])),
        ("tensor.pth", pth(torch.zeros(2))),
        ("code.pth", pth({"conv1.weight": Surprise()})),
        ("empty.safetensors", b""),
        ("page.safetensors", b"<html>404: not found</html>"),
        ("half.safetensors", safetensors.torch.save({"a": torch.zeros(2000)})[:4000]),
        ("missing.pth", None),
        ("missing.safetensors", None),
    ],
)
def test_files_that_hold_no_state_dict_are_named(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert_refused("resnet18", path, "state dict")


def test_metadata_come_back_and_the_digest_is_of_any_kind_of_file(tmp_path):
    path = tmp_path / "w.safetensors"
    value = torch.arange(24.0).reshape(1, 4, 3, 2).contiguous(memory_format=torch.channels_last)
    save_state(path, {"a": value}, {"weights": "tiny, made here"})
    state, metadata = load_state(path)
    assert torch.equal(state["a"], value)
    assert metadata["weights"] == "tiny, made here"
    content = b"a torch.float32 (1, 4, 3, 2)\n" + np.arange(24, dtype="<f4").tobytes()
    digest = hashlib.sha256(content).hexdigest()
    torch.save({"a": value}, tmp_path / "mine.pth")
    assert weights_digest(path) == weights_digest(tmp_path / "mine.pth") == digest


def test_the_digest_of_weights_is_that_of_their_names_types_shapes_and_values(tmp_path):
    state = {"b": torch.ones(2, 3), "a": torch.tensor(7)}
    others = [
        {"b": torch.ones(3, 2), "a": torch.tensor(7)},
        {"b": torch.ones(2, 3).double(), "a": torch.tensor(7)},
        {"b": torch.ones(2, 3), "c": torch.tensor(7)},
        {"b": torch.ones(2, 3), "a": torch.tensor(8)},
        {"b": torch.ones(2, 3).bfloat16(), "a": torch.tensor(7)},
    ]
    for n, tensors in enumerate([state, *others]):
        save_state(tmp_path / f"{n}.safetensors", tensors, {"seconds": str(n)})
    save_state(tmp_path / "again.safetensors", dict(reversed(state.items())), {"seconds": "9.5"})
    digests = {weights_digest(tmp_path / f"{n}.safetensors") for n in range(len(others) + 1)}
    assert len(digests) == len(others) + 1
    first = weights_digest(tmp_path / "0.safetensors")
    assert weights_digest(tmp_path / "again.safetensors") == first


def test_the_digest_of_a_file_is_told_when_it_is_written(tmp_path):
    state = {
        "z": torch.arange(6, dtype=torch.float32).view(2, 3),
        "a": torch.tensor(7),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.empty(0, 4),
        "sparse": torch.arange(12.0).view(1, 2, 3, 2).to(memory_format=torch.channels_last),
        "seen": torch.tensor([True, False]),
    }
    for metadata in ({}, {"weights": "größer", "epoch": "3"}):
        path = tmp_path / "w.safetensors"
        assert save_state(path, state, metadata) == sha256_file(path)
        for name, value in load_state(path)[0].items():
            assert torch.equal(value, state[name])


def test_weights_say_which_versions_made_them_and_what_they_were_made_from(tmp_path):
    path = tmp_path / "w.safetensors"
    save_state(path, {"a": torch.zeros(1)}, {}, ["torch 0.1"])
    old, now = sorted(weights_made_with(path), key=lambda line: line != "torch 0.1")
    assert old == "torch 0.1"
    assert f"torch {importlib.metadata.version('torch')}" in now.split(", ")
    torch.save({}, tmp_path / "foreign.pth")
    assert weights_made_with(tmp_path / "foreign.pth") == []


# --- what torchvision has -----------------------------------------------------------------------


def test_an_unknown_model_is_refused_with_the_nearest_ones_and_where_all_are():
    with pytest.raises(UserError) as caught:
        check_backbone("resnet19", [], [])
    line = str(caught.value)
    assert line.startswith("model: 'resnet19' is unknown; did you mean 'resnet18' or 'resnet")
    assert line.endswith("? all: python -m collapseflow layers") and len(line) < 130
    with pytest.raises(UserError, match="'xyz' is unknown; all: python -m collapseflow layers$"):
        check_backbone("xyz", [], [])


def test_segmentation_models_are_no_backbones():
    with pytest.raises(UserError, match="fcn_resnet50"):
        check_backbone("fcn_resnet50", [], [])


@pytest.mark.parametrize("model", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_images_of_which_the_first_layer_leaves_one_place_are_refused(model, batch_size):
    # Both begin with a stride of 2: of two pixels a side it leaves one place.
    check_backbone(model, LAST, [], 3, batch_size)
    for size in (1, 2):
        with pytest.raises(UserError, match=f"image_size: {size} is refused by .*: 3 or more"):
            check_backbone(model, LAST, [], size, batch_size)


@pytest.mark.parametrize("model", ["vit_b_32"])
def test_the_layers_that_are_listed_are_those_that_can_be_read(model):
    listed = layer_shapes(model, 224)
    # Parameters are layers to torchvision, too.
    parameters = dict(skeleton(model, 7).named_parameters())
    assert not set(listed) & set(parameters)
    others = set(networks.layer_names(model)) - set(listed)
    for layer in (*list(listed)[::40], *sorted(others)[::40]):
        if layer in listed:
            check_backbone(model, [layer], [], 224, pool="flatten")
        else:
            with pytest.raises(UserError, match="gives no features of each image"):
                check_backbone(model, [layer], [], 224, pool="flatten")


def test_an_unknown_layer_is_refused_with_the_nearest_name_and_where_all_are():
    with pytest.raises(UserError) as caught:
        check_backbone("densenet201", ["features.denseblock1.denselayer1.conv3"], [])
    assert str(caught.value) == (
        "layers: 'features.denseblock1.denselayer1.conv3' is no layer of densenet201; did you mean "
        "'features.denseblock1.denselayer1.conv2'? all: python -m collapseflow layers densenet201"
    )


# torchvision says with its ImageNet weights what images its networks take at least.
@pytest.mark.parametrize("model", ["squeezenet1_0", "vgg16", "alexnet", "densenet121"])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_images_that_a_network_cannot_take_are_refused_with_the_least_that_it_can(
    model, batch_size
):
    least = torchvision.models.get_model_weights(model).DEFAULT.meta["min_size"][0]
    check_backbone(model, LAST, [], least, batch_size)
    with pytest.raises(UserError) as caught:
        check_backbone(model, LAST, [], least - 1, batch_size)
    assert str(caught.value) == (
        f"image_size: {least - 1} is refused by {model}; allowed: {least} or more"
    )


def test_only_the_layers_that_are_read_must_take_the_images():
    # The pooling behind this layer has nothing left to pool.
    check_backbone("vgg16", ["features.28"], [], 16, batch_size=None)
    with pytest.raises(UserError, match="image_size: 16 is refused by vgg16"):
        check_backbone("vgg16", ["features.28"], [], 16, batch_size=2)


def test_a_batch_of_one_is_refused_where_one_value_would_be_normalised():
    check_backbone("resnet18", LAST, [], 64, batch_size=1)
    with pytest.raises(UserError, match="image_size: 32 leaves resnet18 one value"):
        check_backbone("resnet18", LAST, [], 32, batch_size=1)


def test_a_network_that_is_built_with_values_is_checked_without():
    check_backbone("regnet_y_400mf", LAST, [], 32, batch_size=2)
    assert all(p.is_meta for p in skeleton("regnet_y_400mf", 7).parameters())


def test_a_layer_that_gives_no_features_is_refused():
    with pytest.raises(UserError, match="layers: 'getattr' of vit_b_32 gives no features"):
        check_backbone("vit_b_32", ["getattr"], [], 224)


def test_a_structure_that_was_built_in_inference_mode_can_be_asked_outside_of_it():
    networks.skeleton.cache_clear()
    with torch.inference_mode():
        networks.skeleton("squeezenet1_1", 7)
    check_backbone("squeezenet1_1", LAST, [], 64, batch_size=2)
    with pytest.raises(UserError, match="image_size: 12 is refused"):
        check_backbone("squeezenet1_1", LAST, [], 12, batch_size=2)


def test_each_of_several_layers_is_checked():
    check_backbone("vit_b_32", ["penultimate", "encoder.ln", "conv_proj"], [], 224)
    for wrong in ("getattr", "encoder.layer"):
        with pytest.raises(UserError, match=f"layers: '{wrong}'"):
            check_backbone("vit_b_32", ["penultimate", wrong, "encoder.ln"], [], 224)
    with pytest.raises(UserError, match="pool: 'average' is refused for layer 'stage2.1.view'"):
        check_backbone("shufflenet_v2_x0_5", ["conv5", "stage2.1.view"], [])


@pytest.mark.parametrize("model", ["resnet18", "vgg11_bn", "vit_b_32"])
def test_penultimate_is_a_name_for_a_layer_of_every_model(model):
    assert own_name(model, "penultimate") == penultimate_layer(model)
    assert own_name(model, "classifier.3") == "classifier.3"


def test_layers_go_by_their_own_names_and_those_of_blocks():
    check_backbone("resnet18", ["layer4.1.relu_1"], ["imagenet"], 64)
    check_backbone("resnet18", ["layer4"], [], 64)
    check_backbone("vgg11_bn", ["classifier.3"], ["imagenet"], 64, pool="flatten")


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("resnet18", torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
        ("vgg11_bn", torchvision.models.VGG11_BN_Weights.IMAGENET1K_V1),
        # Here torchvision's default is another one.
        ("resnet50", torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
        # Here there is no first version.
        ("regnet_y_128gf", torchvision.models.RegNet_Y_128GF_Weights.DEFAULT),
    ],
)
def test_imagenet_weights_are_the_first_version(model, weights):
    assert weights_name(model, "imagenet") == weights.name
    # Others of theirs go by their own names.
    for other in type(weights):
        assert weights_name(model, other.name) == other.name


@dataclass
class LocalWeights:
    """Weights as torchvision describes them, on a local server."""

    url: str
    name: str = "IMAGENET1K_V1"


class Known(dict):
    """As torchvision lists them: by name, and one after another."""

    def __iter__(self):
        return iter(self.values())


@pytest.fixture
def publish(web_server, monkeypatch, tmp_path):
    """Serve a small state dict as ImageNet weights, under a name with the given hash."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    state = {"conv1.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(2)}
    content = pth(state)

    def put(digest=None, present=True):
        digest = digest or hashlib.sha256(content).hexdigest()[:8]
        if present:
            web_server.files[f"/tiny-{digest}.pth"] = content
        weights = LocalWeights(f"{web_server.address}/tiny-{digest}.pth")
        known = Known({weights.name: weights})
        monkeypatch.setattr(tv, "_weights_of", lambda model: known)
        monkeypatch.setattr(tv.Torchvision, "imagenet_weights", lambda *_: weights.name)
        return state, weights.url

    return put


def test_downloaded_weights_are_those_of_the_server(publish, tmp_path):
    state, url = publish()
    output = tmp_path / "out" / "imagenet.safetensors"
    download("resnet18", "imagenet", output)
    loaded, metadata = load_state(output)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert metadata["weights"] == "resnet18 IMAGENET1K_V1" and metadata["url"] == url


@pytest.mark.parametrize(
    ("options", "message"),
    [({"digest": "01234567"}, "invalid hash value"), ({"present": False}, "404")],
    ids=["wrong hash", "not there"],
)
def test_a_failed_download_names_the_address_and_leaves_no_file(
    publish, tmp_path, options, message
):
    _, url = publish(**options)
    output = tmp_path / "imagenet.safetensors"
    with pytest.raises(UserError, match=message) as caught:
        download("resnet18", "imagenet", output)
    assert str(caught.value).startswith(f"{url}: ")
    assert "weights" in str(caught.value)
    assert not output.exists()
    assert not list((tmp_path / "torch").rglob("*.pth"))


def in_the_cache(tmp_path, url):
    path = tmp_path / "torch" / "hub" / "checkpoints" / url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    return path


def test_cached_weights_are_taken_without_the_network(publish, tmp_path, web_server):
    state, url = publish()
    in_the_cache(tmp_path, url).write_bytes(web_server.files.pop(f"/{url.rsplit('/', 1)[1]}"))
    download("resnet18", "imagenet", tmp_path / "imagenet.safetensors")
    loaded, _ = load_state(tmp_path / "imagenet.safetensors")
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert web_server.requests == []


class TouchesAFile:
    """What a pickle may do to those who load it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("matching", [False, True], ids=["wrong digest", "right digest"])
@pytest.mark.parametrize("kind", ["other weights", "cut off", "code", "old code"])
def test_a_file_in_the_cache_is_checked_and_its_code_never_runs(
    publish, tmp_path, web_server, kind, matching
):
    state, _ = publish()
    ran = tmp_path / "ran"
    contents = {
        "other weights": pth({name: torch.randn_like(value) for name, value in state.items()}),
        "cut off": pth(state)[:-200],
        "code": pth({**state, "more": TouchesAFile(ran)}),
        "old code": pickle.dumps(TouchesAFile(ran), protocol=2),
    }
    content = contents[kind]
    _, url = publish(hashlib.sha256(content).hexdigest()[:8]) if matching else publish()
    path = in_the_cache(tmp_path, url)
    path.write_bytes(content)
    output = tmp_path / "imagenet.safetensors"
    if matching and kind == "other weights":
        download("resnet18", "imagenet", output)
        return
    with pytest.raises(UserError) as caught:
        download("resnet18", "imagenet", output)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert ("SHA-256" in str(caught.value)) is not matching
    assert not output.exists() and not ran.exists()
    assert web_server.requests == []
    # The files are what they seem: PyTorch's own way of reading runs the code.
    if "code" in kind:
        with contextlib.suppress(Exception):
            torch.load(path, weights_only=False)
        assert ran.exists()


def test_torchvision_s_names_end_in_digests():
    for model in torchvision.models.list_models(module=torchvision.models):
        if len(torchvision.models.get_model_weights(model)):
            for weights in torchvision.models.get_model_weights(model):
                assert re.search(r"-[0-9a-f]{8,}\.pth$", weights.url), model


def test_a_block_is_read_where_its_last_layer_ends():
    check_backbone("resnet18", ["layer3"], [])
    with pytest.raises(UserError, match="layers: 'layer' is no layer of resnet18"):
        check_backbone("resnet18", ["layer"], [])
    network = build("resnet18", 4).eval()
    seen = []
    network.layer3.register_forward_hook(lambda *call: seen.append(call[2].clone()))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        network(images)
    features, _ = read_one(network, "layer3", (), False, images)
    torch.testing.assert_close(features, seen[0])


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("resnet18", {"flatten"}),
        ("mobilenet_v2", {"flatten", "classifier.0"}),
        ("vgg11_bn", {"classifier.4", "classifier.5"}),
        ("convnext_tiny", {"classifier.1"}),
    ],
)
def test_dropout_before_the_last_layer_changes_no_feature(model, names):
    assert layers_before_the_last(model) == names
    network = torchvision.models.get_model(model, weights=None, num_classes=7).eval()
    read = create_feature_extractor(network, {name: name for name in names})
    with torch.inference_mode():
        values = list(read(torch.rand(2, 3, 64, 64)).values())
    assert all(torch.equal(value, values[0]) for value in values)
