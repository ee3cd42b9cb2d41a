"""Wavelet scattering: numbers of coefficients, kymatio's numpy frontend, angles of gratings."""

import numpy as np
import pytest
import torch
from kymatio.numpy import Scattering2D
from kymatio.torch import Scattering2D as Torch

from collapseflow.features.scattering import first_order_paths, scattering
from collapseflow.running.errors import UserError
from collapseflow.study.schema import Scattering

CPU = torch.device("cpu")


def noise(shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def transform(images, J, L, order, batch_size=256):
    batches = list(scattering(images, J, L, order, CPU, "test", batch_size))
    assert all(predictions is None for _, predictions in batches)
    assert all(len(features) <= batch_size for features, _ in batches)
    return np.concatenate([features for features, _ in batches])


@pytest.mark.parametrize(
    ("J", "L", "order", "shape"), [(2, 9, 1, (19, 7, 7)), (2, 7, 2, (64, 7, 7))]
)
def test_report_a_s_numbers_of_coefficients(mnist_digits, J, L, order, shape):
    features = transform(mnist_digits[0][:2], J, L, order)
    assert features.shape == (2, *shape)
    assert Scattering(J=J, L=L, order=order).n_coefficients == shape[0]


@pytest.mark.parametrize(("J", "L", "order"), [(1, 3, 2), (3, 4, 1), (3, 4, 2), (2, 8, 2)])
def test_n_coefficients_counts_the_paths(J, L, order):
    # First order: every scale and angle; second order: a larger scale behind each of them.
    paths = [((j, a),) for j in range(J) for a in range(L)]
    if order == 2:
        paths += [
            (*p, (j, a)) for p in list(paths) for j in range(p[0][0] + 1, J) for a in range(L)
        ]
    assert Scattering(J=J, L=L, order=order).n_coefficients == 1 + len(paths)
    assert transform(noise((1, 16, 16)), J, L, order).shape == (1, 1 + len(paths), 16 >> J, 16 >> J)


@pytest.mark.parametrize(("J", "L", "order"), [(2, 9, 1), (2, 7, 2)])
def test_batches_equal_kymatio_s_numpy_frontend_image_by_image(mnist_digits, J, L, order):
    images = mnist_digits[0][::1000]
    features = transform(images, J, L, order, batch_size=2)
    reference = Scattering2D(J=J, L=L, shape=(28, 28), max_order=order)
    for row, image in enumerate(images):
        expected = reference((image / 255).astype(np.float32))
        np.testing.assert_allclose(features[row], expected, atol=1e-5)


def test_colours_are_transformed_one_by_one():
    images = noise((3, 16, 16, 3))
    features = transform(images, 2, 4, 2)
    assert features.shape == (3, 3, 25, 4, 4)
    for channel in range(3):
        single = transform(np.ascontiguousarray(images[..., channel]), 2, 4, 2)
        np.testing.assert_allclose(features[:, channel], single, atol=1e-6)


@pytest.mark.parametrize("shape", [(11, 16, 16), (11, 16, 16, 3)])
def test_a_batch_that_does_not_fit_is_halved(monkeypatch, shape):
    images = noise(shape)
    expected = transform(images, 2, 4, 1)
    forward, sizes = Torch.scattering, []

    def check(self, values):
        sizes.append(len(values))
        if len(values) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, values)

    monkeypatch.setattr(Torch, "scattering", check)
    np.testing.assert_allclose(transform(images, 2, 4, 1, batch_size=8), expected, atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]


def test_a_scale_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match=r"scattering\.J: 4 .*16 pixels.*8 x 8.*smaller J"):
        transform(noise((1, 8, 8)), 4, 4, 1)


@pytest.mark.parametrize(("L", "n"), [(8, 4), (7, 5), (6, 12), (4, 8)])
def test_first_order_paths_gives_n_different_maps_of_the_transform(mnist_digits, L, n):
    image = mnist_digits[0][600]
    paths = first_order_paths(image, 2, L, 2, n)
    assert len(paths) == n
    assert len({(scale, angle) for scale, angle, _ in paths}) == n
    assert {scale for scale, _, _ in paths} == {0, 1}
    first_order = transform(image[None], 2, L, 2)[0, 1 : 1 + 2 * L]
    for _, _, values in paths:
        assert values.shape == (7, 7)
        assert min(np.abs(first_order - values).max(axis=(1, 2))) < 1e-6


@pytest.mark.parametrize("L", [4, 7, 8])
def test_the_angle_is_the_direction_of_the_strokes(L):
    y, x = -np.mgrid[:32, :32][0], np.mgrid[:32, :32][1]
    for step in range(6):
        direction = np.deg2rad(30 * step)
        across = -x * np.sin(direction) + y * np.cos(direction)
        grating = (127 + 120 * np.cos(2 * across)).astype(np.uint8)
        paths = first_order_paths(grating, 2, L, 1, 2 * L)
        strongest = max(paths, key=lambda path: path[2][2:-2, 2:-2].mean())[1]
        assert 0 <= strongest < 180
        off = abs(strongest - 30 * step) % 180
        # No filter is farther than half a step from the grating.
        assert min(off, 180 - off) <= 90 / L + 1e-9


def test_first_order_paths_are_all_different_where_there_are_fewer_than_asked_for(mnist_digits):
    paths = first_order_paths(mnist_digits[0][0], 1, 4, 1, 6)
    assert [angle for _, angle, _ in paths] == sorted({angle for _, angle, _ in paths})
    assert len(paths) == 4


def test_first_order_paths_of_a_coloured_image_use_its_grey_levels():
    image = noise((16, 16))
    coloured = np.dstack([image] * 3)
    for grey, colour in zip(
        first_order_paths(image, 2, 4, 1, 3), first_order_paths(coloured, 2, 4, 1, 3), strict=True
    ):
        assert grey[:2] == colour[:2]
        np.testing.assert_allclose(grey[2], colour[2], atol=1e-6)
