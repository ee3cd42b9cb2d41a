"""Confusion matrices: which shares are drawn, in which order, and what stands beside them."""

import numpy as np
import pandas as pd
import pytest
from made_up import RAW, cell, describe_features, heat_maps_of

from collapseflow.presentation.figures import confusion
from collapseflow.presentation.material import Material
from collapseflow.study.schema import Style

STYLE = Style().drawn
NET = describe_features("net/plain", (0, 1), epoch=3, recipe="plain", label="Net, tuned")
#: Of 40, 20 and 4 images.
UNEQUAL = [[36, 4, 0], [5, 15, 0], [3, 0, 1]]


@pytest.fixture
def draw(write, write_images, figures, out):
    """A function that draws contents of cells and gives the panels, and the CSV."""

    def draw_figure(counts, features, names):
        cells = [
            {"lr": {"failed": "lost"} if of is None else cell(0.5, confusion=of)} for of in counts
        ]
        files = write("classification", cells)
        told = {"columns": features, "title": "Digits", "style": STYLE}
        told |= {"confused": "lr", "confused_label": "LR"}
        read = {"classification": files, "images": write_images(names)}
        confusion.plot_confusion(Material(**read, **told), vars(out))
        panels = [axis for axis in figures[-1].axes if getattr(axis, "_colorbar", None) is None]
        return panels, pd.read_csv(out.csv)

    return draw_figure


def shown(axis):
    (cells,) = heat_maps_of(axis)
    return cells.get_array().filled(np.nan)


def test_shares_of_the_true_classes_with_names_and_numbers(draw, figures):
    (axis,), _ = draw([UNEQUAL], [RAW], ["cat", "dog", "emu"])
    expected = [[0.9, 0.1, 0], [0.25, 0.75, 0], [0.75, 0, 0.25]]
    np.testing.assert_allclose(shown(axis), expected)
    assert [t.get_text() for t in axis.get_xticklabels()] == ["cat", "dog", "emu"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["cat (40)", "dog (20)", "emu (4)"]
    written = {text.get_position()[::-1]: text.get_text() for text in axis.texts}
    assert written[0, 0] == "90" and written[2, 0] == "75" and (0, 2) not in written
    # Mean of the recalls 0.9, 0.75 and 0.25.
    words = " ".join(axis.get_xlabel().split())
    assert words == "predicted class balanced 63 %; least: emu, 25 % of 4"
    assert axis.get_title() == "raw pixels"
    assert figures[0].get_suptitle() == "Digits: LR, test images"


def test_seeds_are_counted_together_and_rows_are_of_each(draw):
    other = [[40, 0, 0], [0, 20, 0], [0, 0, 4]]
    (_, axis), table = draw([UNEQUAL, UNEQUAL, other], [RAW, NET], ["cat", "dog", "emu"])
    np.testing.assert_allclose(shown(axis)[0], [76 / 80, 4 / 80, 0])
    of_net = table[(table["backbone"] == "net") & (table["seed"] == 0)]
    assert list(zip(of_net["true"], of_net["predicted"], of_net["n"], strict=True)) == [
        *((0, 0, 36), (0, 1, 4), (1, 0, 5), (1, 1, 15), (2, 0, 3), (2, 2, 1)),
    ]
    recall = of_net[of_net["true"] == of_net["predicted"]].set_index("true_name")["share"]
    assert recall.to_dict() == {"cat": 0.9, "dog": 0.75, "emu": 0.25}
    assert set(table["classifier"]) == {"lr"} and set(table["epoch"].dropna()) == {3}


def test_three_of_many_classes_are_named_unless_more_are_least(draw):
    perfect = 9 * np.eye(60, dtype=int)
    counts = perfect.copy()
    for place in (7, 8, 9):
        counts[place, place], counts[place, 0] = 3, 6
    names = [f"a bird of the woods, {number}" for number in range(60)]
    (some, none), _ = draw(
        [matrix.tolist() for matrix in (counts, perfect, perfect)], [RAW, NET], names
    )
    woods = (f"a bird o…oods, {number}, 33 % of 9" for number in (7, 8, 9))
    assert " ".join(some.get_xlabel().split()) == f"predicted class least: {'; '.join(woods)}"
    assert " ".join(none.get_xlabel().split()) == "predicted class least: 60 classes, 100 %"


def test_equal_classes_have_no_numbers_of_images_and_no_balanced_accuracy(draw):
    (axis,), _ = draw([[[3, 1], [0, 4]]], [RAW], ["a", "b"])
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"]
    assert " ".join(axis.get_xlabel().split()) == "predicted class least: a, 75 % of 4"


def test_a_class_without_test_images_has_no_shares(draw):
    (axis,), table = draw([[[3, 1], [0, 0]]], [RAW], ["a", "b", "c"])
    assert np.isnan(shown(axis)[1:]).all()
    assert set(table["true_name"]) == {"a"}


@pytest.mark.parametrize("n", [20, 80])
def test_many_classes_have_no_names_and_stand_beside_those_they_are_taken_for(draw, figures, n):
    """Each class is taken for the one that is half of all classes away."""
    counts = 6 * np.eye(n, dtype=int) + 4 * np.roll(np.eye(n, dtype=int), n // 2, axis=1)
    panels, _ = draw([counts.tolist()] * 3, [RAW, NET], [f"class {c}" for c in range(n)])
    for axis in panels:
        beside = [
            np.flatnonzero(row == 0.4).item() - place for place, row in enumerate(shown(axis))
        ]
        labels = [text.get_text() for text in axis.get_xticklabels()]
        if n == 80:
            assert set(np.abs(beside)) == {1} and not labels
        else:
            assert set(np.abs(beside)) == {10} and labels[3] == "class 3"
        assert not axis.texts
    title = " ".join(figures[0].get_suptitle().split())
    expected = "80 classes, not named, similar ones beside each other"
    assert title.endswith(expected) == (n == 80)


def test_of_very_many_classes_those_taken_for_each_other_are_shown_and_the_least_are_counted(
    draw, figures
):
    """Of 150 classes 40 pairs are taken for each other, the last four in all their images."""
    n, counts = 150, 8 * np.eye(150, dtype=int)
    # One class has no image, and the pairs come from both ends.
    counts[75] = 0
    wrong = [2, *[4] * 35, *[8] * 4]
    for place, of_pair in enumerate(wrong):
        a, b = place, n - 1 - place
        for true, predicted in ((a, b), (b, a)):
            counts[true, true] -= of_pair
            counts[true, predicted] += of_pair
    (axis,), table = draw([counts.tolist()], [RAW], [f"class {c}" for c in range(n)])
    drawn = shown(axis)
    assert drawn.shape == (100, 100)
    off = drawn[~np.eye(100, dtype=bool)]
    np.testing.assert_array_equal(np.unique(off[off > 0], return_counts=True)[1], [2, 70, 8])
    words = " ".join(axis.get_xlabel().split())
    assert words.endswith("least: 8 classes, 0 %")
    title = " ".join(figures[0].get_suptitle().split())
    assert "the 100 of 150 classes most often taken for each other, not named" in title
    # All of them are in the table.
    assert set(table["true"]) == set(range(n)) - {75}


def test_rows_without_test_images_are_said_to_be_grey(draw, figures):
    draw([[[3, 1], [0, 0]]], [RAW], ["a", "b"])
    draw([[[3, 1], [1, 1]]], [RAW], ["a", "b"])
    said = ["grey: no test images" in figure.get_suptitle() for figure in figures]
    assert said == [True, False]


def test_what_failed_is_an_empty_panel(draw):
    (left, right), table = draw([[[3, 1], [0, 4]], None, None], [RAW, NET], ["a", "b"])
    assert heat_maps_of(left) and not heat_maps_of(right)
    assert "failed" in right.texts[0].get_text()
    assert set(table["backbone"]) == {"raw"}
    (axis,), table = draw([None], [RAW], ["a", "b"])
    assert "failed" in axis.texts[0].get_text() and table.empty
