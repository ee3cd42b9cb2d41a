"""Figures of 2, 30 and 200 unequal classes, some absent from the test images, grey and colour, of
small and large images: legible, or they say what they leave out."""

from itertools import combinations

import numpy as np
import pytest
from made_up import heat_maps_of, unequal_classes
from test_print import check  # noqa: F401

from collapseflow.presentation.figures import (
    confusion,
    embedding,
    geometry,
    images,
    variance,
)
from collapseflow.presentation.material import Material
from collapseflow.study.schema import Style

SHAPES = {2: (512, 512, 3), 30: (8, 8), 200: (28, 28, 3)}
FIGURES = {
    "embedding": embedding.plot_embeddings,
    "confusion": confusion.plot_confusion,
    "geometry": geometry.plot_geometry,
    "samples": images.plot_samples,
    "scattering": images.plot_scattering,
    "variance": variance.plot_variance,
}


@pytest.fixture(scope="module", params=SHAPES)
def made_up(request, tmp_path_factory):
    """The number of classes, and what figures of them are made of."""
    n = request.param
    folder = tmp_path_factory.mktemp("classes")
    return n, unequal_classes(folder, n, SHAPES[n], n_sets=2)


@pytest.mark.parametrize("name", FIGURES)
def test_words_are_within_the_figure_and_titles_beside_each_other(
    check,  # noqa: F811
    made_up,
    figures,
    request,
    tmp_path,
    name,
):
    width = request.node.callspec.params["check"]
    n, told = made_up
    material = Material(**{**told, "style": Style(width=width).drawn})
    FIGURES[name](material, {"csv": tmp_path / "confusion.csv"})
    (figure,) = figures
    check(figure)
    panels = [axis for axis in figure.axes if axis.axison and axis.get_title().strip()]
    boxes = [(axis.get_title(), axis.title.get_window_extent()) for axis in panels]
    for (first, one), (second, other) in combinations(boxes, 2):
        assert not one.shrunk(0.98, 0.98).overlaps(other.shrunk(0.98, 0.98)), (first, second)
    # No page is longer than twice that of a journal.
    assert figure.get_size_inches()[1] < 20


def test_many_classes_in_a_plane_have_one_ellipse_and_sorted_norms(made_up, figures):
    n, told = made_up
    told = {**told, "states": told["states"][1:]}
    geometry.plot_geometry(Material(**{**told, "style": Style().drawn}), {})
    plane, _, _, norms = figures[0].axes[:4]
    assert len(plane.patches) == (1 if n == 200 else len(plane.lines) - count_tested(n))
    if n == 200:
        assert plane.patches[0].center == (0, 0)
        full, hollow = norms.collections
        assert len(full.get_offsets()) == n and len(hollow.get_offsets()) == count_tested(n)
        places, heights = full.get_offsets()[np.argsort(full.get_offsets()[:, 0])].T
        assert places.tolist() == list(range(n)) and (np.diff(heights) >= 0).all()
        assert norms.get_title().endswith("sorted")


def count_tested(n):
    """The number of classes that have test images."""
    return n if n <= 2 else sum(c % 10 > 0 for c in range(n))


def test_bars_of_many_classes_are_those_of_the_largest_variances(made_up, figures):
    n, told = made_up
    variance.plot_variance(Material(**{**told, "style": Style().drawn}), {})
    heat, bars = figures[0].axes[:2]
    (cells,) = heat_maps_of(heat)
    assert cells.get_array().shape == (n, n)
    # Many areas are a bitmap.
    assert bool(cells.get_rasterized()) == (n == 200)
    names = [text.get_text() for text in bars.get_yticklabels()]
    if n == 200:
        # The variance of class c is 1 + c % 5.
        short = [name for name in names if not name.startswith("a longer")]
        assert len(names) == 40 and {int(name.split()[1]) % 5 for name in short} == {4}
        assert "largest 40 of 200" in " ".join(bars.get_title().split())
    else:
        assert len(names) == n
