"""What colours tell in figures, a print in grey and readers without green cones can tell."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import Normalize
from vision import DEUTERANOPIA, distance, lab, lightness, linear

from collapseflow.presentation.figures import appearance, geometry

#: Least difference of L* at which two greys are told apart in a legend and a line.
GREYS = 8
#: Least distance in CIELAB at which colours are.
COLOURS = 15


def test_lightness_and_distance_are_those_of_cie():
    # sRGB's red has L* 53.24, a* 80.09, b* 67.20; the middle grey of 119 has L* 50.0.
    np.testing.assert_allclose(lab(linear("#ff0000")), (53.24, 80.09, 67.2), atol=0.05)
    assert lightness("#777777") == pytest.approx(50.0, abs=0.1)
    assert lightness("white") == pytest.approx(100, abs=0.01)
    # Greys look the same to all, and red and green do not.
    np.testing.assert_allclose(DEUTERANOPIA.sum(axis=1), 1, atol=1e-6)
    assert distance("#cc3311", "#668811", DEUTERANOPIA) < 0.5 * distance("#cc3311", "#668811")


@pytest.mark.parametrize("pair", [*combinations(appearance.LINES, 2)], ids="-".join)
def test_lines_are_told_apart_in_grey_and_without_green_cones(pair):
    one, other = pair
    assert abs(lightness(one) - lightness(other)) >= GREYS
    assert distance(one, other, DEUTERANOPIA) >= COLOURS
    assert distance(one, other) >= COLOURS


def test_lines_are_seen_on_white():
    assert max(map(lightness, appearance.LINES)) < 80
    many = appearance.backbone_colours([f"net{n}" for n in range(12)])
    # Of many backbones each colour is lighter than the one before.
    steps = np.diff([lightness(colour) for colour in many.values()])
    assert (steps > 5).all() and max(map(lightness, many.values())) < 82


@pytest.mark.parametrize("n", [2, 10, 20, 60])
def test_classes_in_the_plane_differ_in_marker_or_in_grey(n):
    looks = geometry._appearances(np.arange(n))
    assert len(set(looks)) == n
    for (one, marker), (other, other_marker) in combinations(looks, 2):
        if marker != other_marker or one == other:
            continue
        assert distance(one, other, DEUTERANOPIA) >= COLOURS
        if n <= 10:
            assert abs(lightness(one) - lightness(other)) >= GREYS


def test_neighbours_among_classes_have_other_markers():
    markers = [marker for _, marker in geometry._appearances(np.arange(60))]
    assert all(one != other for one, other in zip(markers, markers[1:], strict=False))


@pytest.mark.parametrize("cones", [None, DEUTERANOPIA], ids=["all", "deuteranopia"])
def test_cosines_get_lighter_from_farther_to_nearer_than_in_a_simplex(cones):
    scale = Normalize(-1, 1)
    colours = [geometry.COLOURS(scale(value))[:3] for value in np.linspace(-1, 1, 41)]
    light = [lab(linear(c) if cones is None else cones @ linear(c))[0] for c in colours]
    assert np.diff(light).min() > 0.3
    # Below, at and above the cosine of a simplex.
    assert light[0] + 30 < light[20] < light[-1] - 30
    # What is at it has no hue.
    assert np.abs(lab(linear(geometry.COLOURS(0.5)[:3]))[1:]).max() < 3
