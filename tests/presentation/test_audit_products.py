"""The figure and table of what a data set is like."""

import json

import numpy as np
import pandas as pd
import pytest
from made_up import unequal_classes
from test_print import check  # noqa: F401

from collapseflow.images.audit import audit
from collapseflow.images.datasets import Splits, make_split, write_dataset
from collapseflow.presentation.figures.audit import plot_audit
from collapseflow.presentation.material import Material
from collapseflow.presentation.tables.audit import audit_table
from collapseflow.study.schema import Style


def material(folder, images, style=None):
    path = folder / "audit.json"
    path.write_text(json.dumps(audit(images, 0)))
    told = {"title": "Made up", "ink": False, "style": style or Style().drawn}
    return Material(audit=path, images=images, **told)


@pytest.fixture
def images(tmp_path):
    """Four training images of two classes, and two test images, of which one is a training image
    of the other class."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 9), np.uint8)
    pixels[5], pixels[1] = pixels[0], 7
    parts = make_split(pixels[:4], np.array([0, 0, 0, 1])), make_split(pixels[4:], np.array([1, 1]))
    path = tmp_path / "images.h5"
    write_dataset(path, Splits(*parts, ["cat", "dog"], "made up"))
    return path


def test_numbers_are_in_rows_by_split(tmp_path, images, out):
    audit_table(material(tmp_path, images), vars(out))
    table = pd.read_csv(out.csv).set_index(["what", "split"])["n"]
    assert table["images", "train"] == 4 and table["classes", "test"] == 1
    assert (table["largest class", "train"], table["smallest class", "train"]) == (3, 1)
    assert table["constant", "train"] == 1
    assert (table["exact across", "test"], table["exact across, other class", "test"]) == (1, 1)
    assert ("exact across", "train") not in table
    text = out.md.read_text()
    assert "| images equal to a training image" in text
    assert "images of 9 × 9 pixels, grey" in text and "sample" not in text


def test_numbers_of_images_are_whole(tmp_path, figures):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 9, 9), np.uint8)
    parts = (make_split(pixels[rows], np.array([0, 1])) for rows in (slice(2), slice(2, 4)))
    path = tmp_path / "images.h5"
    write_dataset(path, Splits(*parts, ["cat", "dog"], "made up"))
    plot_audit(material(tmp_path, path), {})
    sizes = figures[0].axes[0]
    assert all(tick == round(tick) for tick in (*sizes.get_xticks(), *sizes.get_yticks()))


def test_pairs_show_both_images_their_classes_and_what_they_have_in_common(
    tmp_path, images, figures
):
    plot_audit(material(tmp_path, images), {})
    sizes, *pictures = figures[0].axes
    training, test = sizes.lines[:2]
    assert training.get_ydata().tolist() == [3, 1] and test.get_ydata().tolist() == [0, 2]
    first = pictures[0]
    assert first.get_title().split("\n") == ["equal", "1 dog", "0 cat"]
    above, below = (axis.images[0].get_array() for axis in (first, pictures[len(pictures) // 6]))
    np.testing.assert_array_equal(above, below)


@pytest.mark.parametrize("n", [2, 200])
def test_words_are_within_the_figure(check, figures, tmp_path, request, n):  # noqa: F811
    images = unequal_classes(tmp_path, n, (28, 28, 3), n_sets=1)["images"]
    style = Style(width=request.node.callspec.params["check"]).drawn
    plot_audit(material(tmp_path, images, style), {})
    check(figures[0])
    # Of classes with as many training images those with more test images come first.
    numbers = [line.get_ydata().tolist() for line in figures[0].axes[0].lines[:2]]
    pairs = list(zip(*numbers, strict=True))
    assert pairs == sorted(pairs, reverse=True)
