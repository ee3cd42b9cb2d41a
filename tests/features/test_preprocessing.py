"""Resizing against PIL, normalisation against torchvision's own transforms."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from collapseflow.features.inputs import Inputs, Normalization, Resizing, inputs_of
from collapseflow.features.preprocessing import describe, preprocess, resize


def with_pil(images, size):
    resized = [Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR) for i in images]
    return np.stack([np.asarray(image) for image in resized]).astype(np.float64)


def with_ours(images, size):
    values = resize(torch.from_numpy(images), size)
    assert values.dtype == torch.float32
    values = values.permute(0, 2, 3, 1).double().numpy()
    return values[..., 0] if images.ndim == 3 else values


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [224, 32, 20, 28])
def test_resized_mnist_is_within_one_grey_level_of_pil(mnist_digits, size):
    images = mnist_digits[0][::500]
    assert np.abs(with_ours(images, size) - with_pil(images, size)).max() <= 1


@pytest.mark.parametrize("size", [32, 6, 224])
def test_resized_digits_are_within_one_grey_level_of_pil(small_digits, size):
    images = small_digits[:20]
    assert np.abs(with_ours(images, size) - with_pil(images, size)).max() <= 1


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((3, 28, 28, 3), 224),
        ((3, 32, 32, 3), 13),
        ((2, 64, 64, 3), 20),
        ((2, 37, 50, 3), 28),
        ((2, 9, 31), 32),
    ],
)
def test_resized_noise_is_within_one_grey_level_of_pil(shape, size):
    images = noise(shape)
    assert np.abs(with_ours(images, size) - with_pil(images, size)).max() <= 1


def test_an_image_of_the_right_size_stays_as_it_is():
    images = noise((2, 12, 12, 3))
    np.testing.assert_array_equal(with_ours(images, 12), images)


TO_IMAGENET = transforms.Compose(
    [
        transforms.Grayscale(3),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


def test_imagenet_normalisation_of_a_grey_image_equals_torchvision(mnist_digits):
    images = mnist_digits[0][[7, 2007]]
    ours = preprocess(torch.from_numpy(images), 28, "imagenet")
    assert ours.shape == (2, 3, 28, 28)
    for row in range(2):
        reference = TO_IMAGENET(Image.fromarray(images[row]))
        torch.testing.assert_close(ours[row], reference, rtol=1e-5, atol=1e-5)


def test_imagenet_normalisation_keeps_the_order_of_the_channels():
    images = noise((2, 10, 10, 3))
    ours = preprocess(torch.from_numpy(images), 10, "imagenet")
    colour = transforms.Compose(TO_IMAGENET.transforms[1:])
    for row in range(2):
        reference = colour(Image.fromarray(images[row]))
        torch.testing.assert_close(ours[row], reference, rtol=1e-5, atol=1e-5)


def test_the_whole_chain_of_report_a_is_within_one_grey_level(mnist_digits):
    images = mnist_digits[0][[100, 3000]]
    chain = transforms.Compose([transforms.Resize((224, 224)), *TO_IMAGENET.transforms])
    ours = preprocess(torch.from_numpy(images), 224, "imagenet")
    for row in range(2):
        difference = (ours[row] - chain(Image.fromarray(images[row]))).abs().amax((1, 2))
        # One grey level, in units of each channel's standard deviation.
        limit = torch.tensor([1 / 0.229, 1 / 0.224, 1 / 0.225]) / 255 * 1.001
        assert (difference <= limit).all()


def test_without_normalisation_values_are_grey_levels_over_255(small_digits):
    images = small_digits[:3]
    ours = preprocess(torch.from_numpy(images), 8, "none").numpy()
    for channel in range(3):
        np.testing.assert_allclose(ours[:, channel], images / 255, rtol=1e-6)


def test_the_output_lies_channels_last_in_memory():
    for images in (noise((2, 8, 8)), noise((2, 8, 8, 3))):
        for normalize in ("imagenet", "none"):
            values = preprocess(torch.from_numpy(images), 16, normalize)
            assert values.is_contiguous(memory_format=torch.channels_last)


def test_the_description_says_what_was_done():
    words = describe(Inputs(224, "imagenet"))
    assert words == "bilinear (antialiased) to 224 px, 3 channels, [0, 1], ImageNet mean and s.d."
    assert "no normalisation" in describe(Inputs(32, "none"))
    own = Normalization((0.5, 0.4, 0.3), (0.2, 0.1, 0.6), "mean and s.d. of mine")
    words = describe(Inputs(96, own, Resizing(104, "bicubic")))
    assert "bicubic (antialiased), shorter side to 104 px, middle 96 px" in words
    assert words.endswith("mean and s.d. of mine (0.5, 0.4, 0.3), (0.2, 0.1, 0.6)")


@pytest.mark.parametrize("shape", [(3, 28, 28), (2, 40, 57, 3), (2, 57, 40, 3)])
@pytest.mark.parametrize(
    ("model", "image_size"),
    [("resnet18", "weights"), ("regnet_y_16gf", "weights"), ("swin_t", 96)],
)
def test_images_as_weights_want_them_equal_torchvision_s_own_transform(shape, model, image_size):
    # Of the last two the interpolation is bicubic for the newest of the one and for the other.
    weights = torchvision.models.get_model_weights(model).DEFAULT
    inputs = inputs_of(model, image_size, "weights", "weights", weights.name)
    own = weights.transforms()
    if image_size != "weights":
        share = own.resize_size[0] / own.crop_size[0]
        own = type(own)(
            crop_size=image_size,
            resize_size=round(share * image_size),
            interpolation=own.interpolation,
        )
    images = noise(shape)
    expected = torch.stack([own(Image.fromarray(image).convert("RGB")) for image in images])
    found = preprocess(
        torch.from_numpy(images), inputs.image_size, inputs.normalize, resizing=inputs.resizing
    )
    assert found.shape == expected.shape
    # PIL rounds to grey levels after each of its two passes.
    assert (found - expected).abs().max() * min(own.std) * 255 <= 2


@pytest.mark.parametrize(("shape", "channels"), [((2, 9, 9), 1), ((2, 9, 9, 3), 3)])
def test_augmentation_comes_between_resizing_and_normalisation(shape, channels):
    given = []

    def blacken(values):
        given.append(values.clone())
        return torch.zeros_like(values)

    images = torch.from_numpy(noise(shape))
    ours = preprocess(images, 12, "imagenet", blacken)
    assert torch.equal(given[0], resize(images, 12) / 255)
    assert given[0].shape == (2, channels, 12, 12)
    black = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(ours, black(torch.zeros(2, 3, 12, 12)))
