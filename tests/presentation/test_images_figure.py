"""Figures that show images: the colours that pixels have in them, long names, few scales."""

import numpy as np
import pytest

from collapseflow.images.datasets import make_split
from collapseflow.presentation.figures import images
from collapseflow.presentation.material import Material
from collapseflow.study.schema import Dataset, Style

STYLE = Style(samples_per_class=3).drawn


#: A coefficient.
ONE = [(0, 0.0, np.ones((1, 1)))]


@pytest.fixture
def draw(write_images, monkeypatch):
    """A function that draws images of some classes; their scattering coefficients are ``maps``."""

    def draw_images(plot, split, names, ink=True, maps=ONE, title="mine"):
        monkeypatch.setattr(images, "first_order_paths", lambda image, n: maps)
        told = {"title": title, "ink": ink, "seed": 0, "scattering": {}, "style": STYLE}
        plot(Material(images=write_images(names, split), **told), {})

    return draw_images


def drawn(axis):
    """The greys from 0 to 1 that a figure gives the pixels of an axis."""
    (shown,) = axis.get_images()
    return shown.to_rgba(shown.get_array())[..., 0]


#: A black pixel and a white one.
PAIR = np.array([[0, 255]], np.uint8)


@pytest.mark.parametrize(("ink", "expected"), [(False, [[0, 1]]), (True, [[1, 0]])])
def test_black_is_paper_only_where_strokes_are_ink(draw, figures, ink, expected):
    split = make_split(np.stack([PAIR] * 4), np.array([0, 0, 1, 1]))
    draw(images.plot_samples, split, "ab", ink=ink)
    draw(images.plot_scattering, split, "ab", ink=ink)
    samples, scattering = figures
    with_images = [axis for axis in samples.axes if axis.get_images()]
    assert len(with_images) == 4
    for axis in [*with_images, scattering.axes[0]]:
        np.testing.assert_allclose(drawn(axis), expected)


@pytest.mark.parametrize("ink", [False, True])
def test_colours_are_never_turned(draw, figures, ink):
    orange = np.full((1, 1, 1, 3), (255, 128, 0), np.uint8)
    draw(images.plot_scattering, make_split(orange, np.zeros(1, int)), "a", ink=ink)
    (shown,) = figures[0].axes[0].get_images()
    assert shown.to_rgba(shown.get_array(), bytes=True)[0, 0, :3].tolist() == [255, 128, 0]


@pytest.mark.parametrize(
    ("keys", "ink"),
    [
        ({"source": "mnist"}, True),
        ({"source": "letters"}, True),
        ({"source": "torchvision", "name": "KMNIST"}, True),
        ({"source": "torchvision", "name": "FER2013"}, False),
        ({"source": "idx", "location": "."}, False),
    ],
)
def test_ink_is_what_mnist_and_its_kin_are(keys, ink):
    assert Dataset(**keys).is_ink == ink


def test_a_folder_s_images_are_shown_as_they_are(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    assert not Dataset(source="folder", location=str(tmp_path)).is_ink


@pytest.fixture
def split():
    """Twelve images of three classes."""
    labels = np.repeat(np.arange(3), 4)
    pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)
    return make_split(pixels, labels)


def test_long_names_of_classes_end_with_an_ellipsis_and_all_stand_in_the_figure(
    split, draw, figures
):
    long = "a name that goes on and on until it has fifty letters or more"
    draw(images.plot_samples, split, ["zero", long, "two"])
    figure = figures[0]
    words = [text for axis in figure.axes for text in axis.texts]
    shown = [text.get_text() for text in words]
    assert shown == ["zero", f"{long[: images.MOST_LETTERS - 1].rstrip()}…", "two"]
    figure.canvas.draw()
    for text in words:
        assert text.get_window_extent().x0 >= 0


def test_coefficients_are_of_an_image_with_something_in_it(draw, figures):
    edge = np.where(np.arange(8) < 4, 0, 255) * np.ones((8, 1))
    pixels = np.stack([np.full((8, 8), 200), edge, np.full((8, 8), 90)]).astype(np.uint8)
    draw(images.plot_scattering, make_split(pixels, np.zeros(3, int)), "a", ink=False)
    np.testing.assert_allclose(drawn(figures[0].axes[0]), edge / 255)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_as_many_coefficients_are_shown_as_there_are(split, draw, figures, n):
    maps = [(0, 45.0 * k, np.full((4, 4), k + 1.0)) for k in range(n)]
    draw(images.plot_scattering, split, "abc", maps=maps, title="digits")
    titles = [axis.get_title() for axis in figures[0].axes if axis.get_title()]
    assert titles == ["digits", *(f"$j=0$, {45 * k:.0f}°" for k in range(n))]
