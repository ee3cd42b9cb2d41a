"""Pictures of images: samples of classes with long names, coefficients of few scales."""

import numpy as np
import pytest

from collapseflow.images.datasets import Split
from collapseflow.presentation.figures import images
from collapseflow.study.schema import Style

STYLE = Style().model_dump()


@pytest.fixture
def split():
    """Twelve images of three classes."""
    labels = np.repeat(np.arange(3), 4)
    pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)
    return Split(pixels, labels, np.arange(12))


def test_long_names_of_classes_end_with_an_ellipsis_and_all_stand_in_the_figure(split, figures):
    long = "a name that goes on and on until it has fifty letters or more"
    images.plot_samples(split, ["zero", long, "two"], "mine", 0, STYLE, [])
    figure = figures[0]
    words = [text for axis in figure.axes for text in axis.texts]
    shown = [text.get_text() for text in words]
    assert shown == ["zero", f"{long[: images.MOST_LETTERS - 1].rstrip()}…", "two"]
    figure.canvas.draw()
    for text in words:
        assert text.get_window_extent().x0 >= 0


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_as_many_coefficients_are_shown_as_there_are(figures, n):
    image = np.zeros((8, 8), np.uint8)
    maps = [(0, 45.0 * k, np.full((4, 4), k + 1.0)) for k in range(n)]
    images.plot_scattering(image, maps, "digits", STYLE, [])
    titles = [axis.get_title() for axis in figures[0].axes if axis.get_title()]
    assert titles == ["digits", *(f"$j=0$, {45 * k:.0f}°" for k in range(n))]
