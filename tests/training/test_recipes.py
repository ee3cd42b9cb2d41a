"""Recipes against PyTorch's own schedules and losses, and augmentation against dense formulas."""

import json
import math

import numpy as np
import pytest
import torch
import torchvision.models
from scipy.ndimage import map_coordinates
from torch import nn
from torch.optim import lr_scheduler

from collapseflow.images.datasets import make_split
from collapseflow.running.errors import UserError
from collapseflow.study.recipes import Recipe, expand
from collapseflow.training.augmentation import augment, draw_augmentation
from collapseflow.training.loop import seed_everything, train_one_epoch
from collapseflow.training.optimisation import learning_rate, loss_function, new_optimizer
from collapseflow.training.recipes import NetworkRecipe, identity
from collapseflow.training.trained import (
    check_trained,
    freeze,
    set_to_train,
    trained_parameters,
)


def changed(recipe, **keys):
    return recipe.model_copy(update=keys)


RECIPE = NetworkRecipe(
    model="resnet18",
    image_size=32,
    normalize="none",
    precision="float32",
    seed=5,
    epochs=12,
    batch_size=8,
    optimizer="adam",
    learning_rate=0.1,
    head_gain=None,
)
SGD = changed(RECIPE, optimizer="sgd")


# --- what weights depend on -------------------------------------------------------------------


@pytest.mark.parametrize("steps", [[1 / 3, 2 / 3], [0.5]])
def test_a_recipe_comes_back_from_json(steps):
    recipe = changed(RECIPE, schedule="step", steps=steps)
    assert NetworkRecipe(**json.loads(recipe.model_dump_json())) == recipe
    assert json.loads(json.dumps(identity(recipe))) == identity(recipe)


VOID = {
    "epochs": 13,
    "momentum": 0.5,
    "nesterov": True,
    "steps": [0.5],
    "step_factor": 0.2,
}


@pytest.mark.parametrize("key", VOID)
def test_keys_that_do_nothing_are_not_part_of_the_identity(key):
    assert identity(changed(RECIPE, **{key: VOID[key]})) == identity(RECIPE)
    assert key not in identity(RECIPE)


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [
        (changed(RECIPE, schedule="step"), "epochs", 13),
        (changed(RECIPE, schedule="step"), "steps", [0.5]),
        (changed(RECIPE, schedule="step"), "step_factor", 0.2),
        (changed(RECIPE, schedule="cosine"), "epochs", 13),
        (SGD, "momentum", 0.5),
        (changed(SGD, momentum=0.9), "nesterov", True),
        (RECIPE, "label_smoothing", 0.1),
        *(
            (RECIPE, key, value)
            for key, value in {
                "model": "resnet34",
                "image_size": 64,
                "normalize": "imagenet",
                "precision": "bfloat16",
                "seed": 6,
                "batch_size": 9,
                "optimizer": "adamw",
                "learning_rate": 0.2,
                "weight_decay": 0.1,
                "schedule": "cosine",
                "warmup": 1,
                "loss": "mse",
                "trained": "head",
                "head_gain": 0.02,
                "augmentation": "flip",
                "validation": "training_mode",
                "patience": 3,
            }.items()
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_other_key_is_part_of_the_identity(recipe, key, value):
    assert identity(changed(recipe, **{key: value})) != identity(recipe)


def test_without_validation_the_identity_is_what_it_was_before_there_was_one():
    assert identity(changed(RECIPE, validation="none")) == {
        "model": "resnet18",
        "image_size": 32,
        "normalize": "none",
        "precision": "float32",
        "seed": 5,
        "batch_size": 8,
        "optimizer": "adam",
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "schedule": "constant",
        "warmup": 0,
        "loss": "cross_entropy",
        "label_smoothing": 0.0,
        "trained": "all",
        "head_gain": None,
        "augmentation": "none",
    }


COMMON = {
    "model": "resnet18",
    "image_size": 32,
    "normalize": "none",
    "precision": "float32",
    "seed": 5,
    "warmup": 0,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "augmentation": "none",
}
REPORT_A = COMMON | {
    "batch_size": 512,
    "optimizer": "adam",
    "learning_rate": 2e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "trained": "all",
    "head_gain": 0.02,
}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("report_a", REPORT_A),
        ("report_a_faithful", REPORT_A | {"validation": "training_mode"}),
        (
            "papyan2020",
            COMMON
            | {
                "epochs": 350,
                "batch_size": 128,
                "optimizer": "sgd",
                "momentum": 0.9,
                "nesterov": False,
                "learning_rate": 0.0679,
                "weight_decay": 5e-4,
                "schedule": "step",
                "steps": [1 / 3, 2 / 3],
                "step_factor": 0.1,
                "trained": "all",
                "head_gain": None,
            },
        ),
        (
            "linear_probe",
            COMMON
            | {
                "epochs": 20,
                "batch_size": 64,
                "optimizer": "adam",
                "learning_rate": 1e-3,
                "weight_decay": 0.0,
                "schedule": "cosine",
                "trained": "head",
                "head_gain": None,
            },
        ),
    ],
)
def test_epochs_that_were_kept_for_a_preset_are_found_again(preset, expected):
    """Their folder is named by a digest of this."""
    told = expand({preset: {}})[preset]
    training = Recipe(**told).training()
    keys = ("model", "image_size", "normalize", "precision", "seed")
    recipe = NetworkRecipe(**{key: COMMON[key] for key in keys}, **training)
    assert identity(recipe) == expected


def test_held_out_images_and_patience_are_part_of_the_identity():
    without = identity(RECIPE)
    held_out = identity(changed(RECIPE, validation=0.1))
    assert held_out == without | {"validation": 0.1}
    patient = identity(changed(RECIPE, validation=0.1, patience=3))
    assert patient == held_out | {"patience": 3}


def test_label_smoothing_is_no_part_of_squared_errors():
    recipe = changed(RECIPE, loss="mse")
    assert identity(changed(recipe, label_smoothing=0.1)) == identity(recipe)


# --- learning rate ----------------------------------------------------------------------------


def rates_of_torch(make_scheduler, n_steps):
    """The rates that a scheduler of PyTorch sets for a rate of 0.1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def rates_of_ours(recipe, batches=1):
    return [learning_rate(recipe, n / batches) for n in range(recipe.epochs * batches)]


def test_a_constant_rate_is_exactly_the_recipe_s():
    assert set(rates_of_ours(changed(RECIPE, learning_rate=2e-4), 7)) == {2e-4}


def test_the_cosine_is_pytorch_s_batch_by_batch():
    expected = rates_of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 12 * 5), 12 * 5)
    ours = rates_of_ours(changed(RECIPE, schedule="cosine"), 5)
    np.testing.assert_allclose(ours, expected, rtol=1e-9)
    assert learning_rate(changed(RECIPE, schedule="cosine"), 6) == pytest.approx(0.05)
    assert learning_rate(changed(RECIPE, schedule="cosine"), 12) == pytest.approx(0, abs=1e-15)


# In floating point, 0.07 x 100 and 0.55 x 100 are a little more than 7 and 55.
@pytest.mark.parametrize(
    ("epochs", "steps"), [(12, (1 / 3, 2 / 3)), (9, (1 / 3, 2 / 3)), (100, (0.07, 0.55, 0.9))]
)
def test_steps_are_pytorch_s_at_whole_epochs(epochs, steps):
    milestones = [round(share * epochs) for share in steps]
    expected = rates_of_torch(lambda o: lr_scheduler.MultiStepLR(o, milestones, 0.2), epochs)
    recipe = changed(RECIPE, schedule="step", epochs=epochs, steps=steps, step_factor=0.2)
    np.testing.assert_allclose(rates_of_ours(recipe), expected, rtol=1e-12)


def test_a_step_may_be_within_an_epoch():
    recipe = changed(RECIPE, schedule="step", epochs=5, steps=(0.5,))
    rates = [learning_rate(recipe, done) for done in (2.25, 2.5, 4.75)]
    assert rates == pytest.approx([0.1, 0.01, 0.01])


def test_the_warm_up_is_pytorch_s_linear_one_and_then_comes_the_schedule():
    recipe = changed(RECIPE, warmup=3)
    expected = rates_of_torch(lambda o: lr_scheduler.LinearLR(o, 1e-12, 1, 3 * 4), 12 * 4)
    np.testing.assert_allclose(rates_of_ours(recipe, 4), expected, atol=1e-9)
    cosine = rates_of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 9 * 4), 9 * 4)
    ours = rates_of_ours(changed(recipe, schedule="cosine"), 4)
    np.testing.assert_allclose(ours, expected[: 3 * 4] + cosine, atol=1e-9)
    # Steps are shares of all epochs.
    steps = changed(recipe, schedule="step")
    hand = [0, 0.1 / 3, 0.2 / 3, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001]
    np.testing.assert_allclose(rates_of_ours(steps), hand, atol=1e-12)


# --- loss -------------------------------------------------------------------------------------


@pytest.fixture
def logits():
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(0)) * 3


LABELS = torch.tensor([0, 3, 1, 1, 2, 0, 3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_squared_errors_are_halved_and_averaged_over_the_images(logits, dtype):
    logits = logits.to(dtype)
    one_hot = np.eye(4)[LABELS.numpy()]
    expected = np.sum((logits.double().numpy() - one_hot) ** 2) / (2 * 7)
    loss = loss_function(changed(RECIPE, loss="mse"), logits, LABELS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_dense_formula_s(logits, smoothing):
    z = logits.double().numpy()
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    target = (1 - smoothing) * np.eye(4)[LABELS.numpy()] + smoothing / 4
    loss = loss_function(changed(RECIPE, label_smoothing=smoothing), logits, LABELS)
    assert loss.item() == pytest.approx(-np.mean((target * log_p).sum(1)), rel=1e-6)


# --- what is trained --------------------------------------------------------------------------


def parameters_of(model):
    return [name for name, _ in torchvision.models.get_model(model).named_parameters()]


@pytest.mark.parametrize(
    ("model", "trained", "prefixes"),
    [
        ("resnet18", "head", ("fc.",)),
        ("resnet18", "avgpool", ("fc.",)),
        ("resnet18", "layer4", ("layer4.", "fc.")),
        # The shortcut of a block is evaluated behind its convolutions.
        ("resnet18", "layer4.0.bn2", ("layer4.0.bn2", "layer4.0.downsample", "layer4.1.", "fc.")),
        ("resnet18", "conv1", ("",)),
        ("vgg11_bn", "classifier.4", ("classifier.6",)),
        ("squeezenet1_1", "head", ("classifier.1",)),
        ("squeezenet1_1", "features.12", ("features.12.", "classifier.1")),
        # Attention's projections belong to one layer; parameters outside of layers count, too.
        ("vit_b_16", "encoder.ln", ("encoder.ln", "heads.")),
        (
            "vit_b_16",
            "encoder.layers.encoder_layer_11",
            ("encoder.layers.encoder_layer_11.", "encoder.ln", "heads."),
        ),
        ("vit_b_16", "encoder", ("encoder.", "heads.")),
        (
            "convnext_tiny",
            "features.7.2.block.5",
            ("features.7.2.layer_scale", "features.7.2.block.5.", "classifier."),
        ),
    ],
)
def test_the_parameters_from_a_layer_on_are_trained(model, trained, prefixes):
    expected = {name for name in parameters_of(model) if name.startswith(prefixes)}
    assert trained_parameters(model, trained) == expected
    check_trained(model, trained)


@pytest.mark.parametrize(
    ("model", "trained", "words"),
    [
        ("resnet18", "layer44", "'layer44' is no layer of resnet18; did you mean 'layer4'?"),
        ("resnet18", "x.y", "allowed: all, head, or a layer: python -m collapseflow layers resnet"),
        ("squeezenet1_1", "classifier.3", "leaves the last layer of squeezenet1_1 untrained; all"),
    ],
)
def test_other_layers_are_refused_in_one_line(model, trained, words):
    with pytest.raises(UserError, match="^trained: ") as caught:
        check_trained(model, trained)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_all_and_head_fit_every_model():
    for model in ("resnet18", "vit_b_16"):
        check_trained(model, "all")
        check_trained(model, "head")


@pytest.mark.parametrize(
    ("model", "trained", "in_training"),
    [
        ("resnet18", "all", ("",)),
        ("resnet18", "layer4", ("layer4", "avgpool", "fc")),
        ("resnet18", "layer4.1.bn2", ("layer4.1.bn2", "fc", "avgpool", "layer4.1.relu")),
        ("vgg11_bn", "head", ("classifier.6",)),
        ("vgg11_bn", "classifier.4", ("classifier.4", "classifier.5", "classifier.6")),
    ],
)
def test_only_what_is_evaluated_from_the_layer_on_is_in_training_mode(model, trained, in_training):
    network = torchvision.models.get_model(model)
    recipe = changed(RECIPE, model=model, trained=trained)
    network.eval()
    set_to_train(network, recipe)
    for name, module in network.named_modules():
        # A module around others has no mode of its own that matters.
        if not list(module.children()):
            assert module.training is name.startswith(in_training), name
    freeze(network, recipe)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    kept = set() if trained == "all" else trained_parameters(model, trained)
    assert frozen == (set(parameters_of(model)) - kept if kept else set())
    (group,) = new_optimizer(network, recipe).param_groups
    assert len(group["params"]) == len(kept or parameters_of(model))


def test_frozen_features_do_not_change_while_the_rest_is_trained():
    recipe = changed(RECIPE, model="vgg11_bn", trained="head", epochs=1)
    torch.manual_seed(0)
    network = torchvision.models.get_model("vgg11_bn", num_classes=4)
    freeze(network, recipe)
    inputs = []
    network.classifier[6].register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    optimizer = new_optimizer(network, recipe)
    arguments = (make_split(images, np.arange(8) % 4), recipe, 1, torch.device("cpu"), 8)
    for _ in range(2):
        train_one_epoch(network, optimizer, *arguments)
    assert torch.equal(*inputs)
    assert inputs[0].std() > 0


# --- augmentation -----------------------------------------------------------------------------


def noise(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_shift_moves_by_whole_pixels_and_is_black_outside():
    image = torch.arange(1, 65, dtype=torch.float32).view(1, 1, 8, 8)
    images = image.repeat(4, 1, 1, 1)
    shifted = augment(images, {"shift": torch.tensor([[0, 0], [1, 0], [0, -1], [-1, 1]])})
    assert torch.equal(shifted[0], image[0])
    expected = np.zeros((3, 8, 8))
    original = image[0, 0].numpy()
    expected[0, 1:] = original[:-1]
    expected[1, :, :-1] = original[:, 1:]
    expected[2, :-1, 1:] = original[1:, :-1]
    np.testing.assert_array_equal(shifted[1:, 0].numpy(), expected)


def test_a_shift_moves_all_channels_alike():
    images = noise((2, 3, 16, 16))
    drawn = torch.tensor([[2, -2], [-1, 2]])
    together = augment(images, {"shift": drawn})
    for channel in range(3):
        alone = augment(images[:, channel : channel + 1], {"shift": drawn})
        assert torch.equal(together[:, channel : channel + 1], alone)


def test_a_flip_mirrors_left_and_right():
    images = noise((3, 3, 5, 5))
    flipped = augment(images, {"flip": torch.tensor([True, False, True])}).numpy()
    expected = images.numpy().copy()
    expected[[0, 2]] = expected[[0, 2], :, :, ::-1]
    np.testing.assert_array_equal(flipped, expected)


@pytest.mark.parametrize("crop", [(1, 0, 0), (0.5, 0, 0.5), (0.5, 0.25, 0.1), (0.8, 0.2, 0.05)])
def test_a_crop_is_the_bilinear_interpolation_between_pixel_centres(crop):
    size = 12
    images = noise((1, 3, size, size))
    side, top, left = crop
    cropped = augment(images, {"crop": torch.tensor([crop], dtype=torch.float32)})[0]
    centres = (np.arange(size) + 0.5) / size
    rows, columns = (size * (edge + side * centres) - 0.5 for edge in (top, left))
    for channel in range(3):
        image = images[0, channel].double().numpy()
        places = np.meshgrid(rows, columns, indexing="ij")
        expected = map_coordinates(image, places, order=1, mode="nearest")
        np.testing.assert_allclose(cropped[channel], expected, atol=1e-5)


def test_kinds_are_applied_in_their_order():
    images = noise((1, 1, 8, 8))
    shift, flip = torch.tensor([[0, 1]]), torch.tensor([True])
    first = augment(images, {"shift": shift, "flip": flip})[0, 0].numpy()
    original = images[0, 0].numpy()
    expected = np.zeros((8, 8), np.float32)
    expected[:, 1:] = original[:, :-1]
    np.testing.assert_array_equal(first, expected[:, ::-1])
    other = augment(images, {"flip": flip, "shift": shift})[0, 0].numpy()
    expected = np.zeros((8, 8), np.float32)
    expected[:, 1:] = original[:, ::-1][:, :-1]
    np.testing.assert_array_equal(other, expected)


def test_draws_have_the_distributions_that_are_promised():
    n = 20_000
    draws = draw_augmentation("crop+shift+flip", n, 36, np.random.default_rng(0))
    assert list(draws) == ["crop", "shift", "flip"]
    # An eighth of 36 pixels are 4.5; nine shifts are equally likely in either direction.
    for direction in draws["shift"].T:
        values, counts = np.unique(direction, return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        np.testing.assert_allclose(counts / n, 1 / 9, atol=0.01)
    assert abs(np.corrcoef(draws["shift"].T)[0, 1]) < 0.03
    assert draws["flip"].dtype == bool and abs(draws["flip"].mean() - 0.5) < 0.02
    side, top, left = draws["crop"].T
    # The area is uniform in [0.25, 1], the place uniform in what is left.
    quantiles = np.quantile(side**2, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quantiles, [0.25, 0.4375, 0.625, 0.8125, 1], atol=0.02)
    for edge in (top, left):
        share = (edge / (1 - side))[side < 0.99]
        np.testing.assert_allclose(np.quantile(share, [0, 0.5, 1]), [0, 0.5, 1], atol=0.02)
        assert edge.min() >= 0 and (edge + side).max() <= 1 + 1e-6


def test_without_augmentation_nothing_is_drawn():
    generator = np.random.default_rng(3)
    assert draw_augmentation("none", 10, 32, generator) == {}
    assert generator.random() == np.random.default_rng(3).random()


class Recorder(nn.Module):
    """A linear network that keeps what it is given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last, self.given = nn.Linear(3 * 16 * 16, 4), []

    def forward(self, images):
        self.given.append(images)
        return self.last(images.flatten(1))


def epoch_of(recipe, micro_batch, epoch=2):
    """What a network is given in an epoch of 19 images, and the record of the epoch."""
    images = np.random.default_rng(0).integers(0, 256, (19, 16, 16), dtype=np.uint8)
    network, data = Recorder(), make_split(images, np.arange(19) % 4)
    optimizer = new_optimizer(network, recipe)
    arguments = (optimizer, data, recipe, epoch, torch.device("cpu"), micro_batch)
    record = train_one_epoch(network, *arguments)
    return images, torch.cat(network.given), record


def test_each_image_is_changed_as_drawn_for_it_after_the_order():
    recipe = changed(RECIPE, image_size=16, augmentation="flip", learning_rate=1e-3)
    images, given, _ = epoch_of(recipe, 8)
    generator = seed_everything(recipe.seed, 2)
    order = generator.permutation(19)[:16]
    flipped = (generator.random(19) < 0.5)[order]
    assert 0 < flipped.sum() < 16
    expected = images[order] / 255
    expected[flipped] = expected[flipped][:, :, ::-1]
    np.testing.assert_allclose(given[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("augmentation", ["none", "shift+flip+crop"])
def test_augmentation_and_the_record_do_not_depend_on_micro_batches(augmentation):
    recipe = changed(SGD, image_size=16, augmentation=augmentation, learning_rate=1e-2)
    _, whole, expected = epoch_of(recipe, 8)
    _, parts, record = epoch_of(recipe, 3)
    assert torch.equal(parts, whole)
    for key in ("loss", "gradient_norm"):
        assert record[key] == pytest.approx(expected[key], rel=1e-5)
    assert record["last_batch_accuracy"] == expected["last_batch_accuracy"]
    _, other, _ = epoch_of(recipe, 8, epoch=3)
    assert not torch.equal(other, whole)


def test_the_record_has_the_rate_of_the_last_batch():
    recipe = changed(SGD, image_size=16, schedule="cosine", epochs=4)
    _, _, record = epoch_of(recipe, 8)
    assert record["epoch"] == 2
    # 1.5 of 4 epochs are done.
    assert record["learning_rate"] == pytest.approx(0.05 * (1 + math.cos(math.pi * 1.5 / 4)))
