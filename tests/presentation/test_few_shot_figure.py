"""The figure of few images a class: which values are drawn, with which intervals and words."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from made_up import RAW, describe_features, words_of

from collapseflow.presentation.figures import few_shot
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import COLUMNS
from collapseflow.study.schema import Style

STYLE = Style().drawn
IMAGENET = describe_features("resnet18/imagenet", label="ResNet18, ImageNet")
TRAINED = describe_features(
    "resnet18/plain", [0, 1, 2], 4, start="random", recipe="plain", label="ResNet18, trained"
)
INTERVAL = "95 % interval of the mean over draws of images"
ALL, BOUND = "all training images", "1 − bound from directional CDNV"


def rows_of(column, accuracies, bounds=None, with_all=None, seed=None, **changes):
    """Rows of one seed of a feature set: shares, by the number of images a class."""
    who = {key: getattr(column, key) for key in ("dataset", "backbone", "start", "recipe")}
    where = {"seed": seed, "epoch": column.epoch, "layer": column.layer, "split": "test"}
    row = {**who, **where, **changes}
    found = [
        {"quantity": f"accuracy_few_shot_{m}", "value": a, "low": a - 0.02, "high": a + 0.03}
        for m, a in accuracies.items()
    ]
    found += [{"quantity": f"few_shot_bound_{m}", "value": b} for m, b in (bounds or {}).items()]
    if with_all is not None:
        found.append({"quantity": "accuracy_few_shot_all", "value": with_all})
        # Not the mean over the classes.
        found.append({"quantity": "accuracy_nearest_mean", "value": 0.05})
    return [row | one for one in found]


def material_of(measures, columns):
    told = {"dataset": "digits", "title": "Digits 8×8", "style": STYLE}
    return Material(measures=measures, columns=columns, **told)


@pytest.fixture
def draw(tmp_path, figures):
    """A function that draws rows of some columns and gives the figure."""

    def draw_figure(columns, *of_rows):
        path = tmp_path / "measures.csv"
        table = pd.DataFrame([row for rows in of_rows for row in rows], columns=COLUMNS)
        table.astype({"seed": "Int64", "epoch": "Int64"}).to_csv(path, index=False)
        few_shot.plot_few_shot(material_of(path, columns), {})
        return figures[-1]

    return draw_figure


def points_of(lines):
    """The points of lines with a marker or a dash, by colour."""
    return {
        matplotlib.colors.to_hex(line.get_color()): dict(zip(*line.get_data(), strict=True))
        for line in lines
    }


def kinds_of(figure):
    """Lines of accuracies, hollow markers and bounds of the panel."""
    lines = figure.axes[0].lines
    hollow = [line for line in lines if line.get_markerfacecolor() == "none"]
    dotted = [line for line in lines if line.get_alpha() == few_shot.FAINT["alpha"]]
    return [line for line in lines if line not in [*hollow, *dotted]], hollow, dotted


def ends_of_bars(figure):
    """Lower and upper ends of all bars of the panel."""
    bars = [collection.get_segments() for collection in figure.axes[0].collections]
    return [[tuple(bar[:, 1]) for bar in of_line] for of_line in bars]


def test_draws_the_mean_of_the_draws_with_its_interval(draw):
    figure = draw([RAW, IMAGENET], rows_of(RAW, {1: 0.3, 5: 0.5}), rows_of(IMAGENET, {1: 0.6}))
    axis = figure.axes[0]
    curves, hollow, dotted = kinds_of(figure)
    assert list(points_of(curves).values()) == [
        pytest.approx({1: 30, 5: 50}),
        pytest.approx({1: 60}),
    ]
    assert len({line.get_marker() for line in curves}) == 2
    # All are of test images.
    assert {line.get_linestyle() for line in curves} == {"--"}
    assert {line.get_markerfacecolor() for line in curves} == {"white"}
    assert ends_of_bars(figure) == [
        [pytest.approx((28, 33)), pytest.approx((48, 53))],
        [pytest.approx((58, 63))],
    ]
    assert not hollow and not dotted
    assert axis.get_title() == "Digits 8×8: nearest class mean of few images"
    assert axis.get_xscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "5", "all\ntraining"]
    words, notes = words_of(figure)
    assert set(words) == {"raw pixels", "ResNet18, ImageNet", INTERVAL, ALL}
    assert notes == ""


def test_all_training_images_stand_beyond_the_largest_number(draw):
    figure = draw([RAW, IMAGENET], rows_of(RAW, {1: 0.3, 50: 0.5}, with_all=0.7))
    curves, hollow, _ = kinds_of(figure)
    assert points_of(hollow) == {next(iter(points_of(curves))): pytest.approx({100: 70})}
    assert figure.axes[0].get_xticks().tolist() == [1, 50, 100]


def test_dotted_is_one_minus_the_bound_where_that_is_above_zero(draw):
    bounds = {10: 1.4, 20: 1.0, 50: 0.7, 100: 0.25}
    shares = dict.fromkeys(bounds, 0.9)
    figure = draw(
        [RAW, IMAGENET],
        rows_of(RAW, shares, {10: 0.8, 20: 2.0}),
        rows_of(IMAGENET, shares, bounds),
    )
    curves, _, dotted = kinds_of(figure)
    assert points_of(dotted) == {
        colour: pytest.approx(expected)
        for colour, expected in zip(points_of(curves), [{10: 20}, {50: 30, 100: 75}], strict=True)
    }
    # A single point would be no line.
    assert [line.get_marker() for line in dotted] == [".", ""]
    words, notes = words_of(figure)
    assert BOUND in words and notes == ""


def test_a_bound_that_says_nothing_is_named_not_drawn(draw):
    figure = draw([RAW], rows_of(RAW, {10: 0.5, 100: 0.6}, {10: 3.0, 100: 1.2}))
    assert not kinds_of(figure)[2]
    words, notes = words_of(figure)
    assert BOUND not in words
    assert notes == "The bound from directional CDNV allows any accuracy here."


def test_several_seeds_have_their_mean_and_standard_deviation(draw):
    shares = [0.5, 0.6, 0.8]
    figure = draw(
        [RAW, TRAINED],
        rows_of(RAW, {10: 0.3}),
        *(
            rows_of(TRAINED, {10: a, 100: a + 0.1}, {100: 1 - a}, with_all=a + 0.15, seed=seed)
            for seed, a in enumerate(shares)
        ),
    )
    mean, sd = 100 * np.mean(shares), 100 * np.std(shares, ddof=1)
    curves, hollow, dotted = kinds_of(figure)
    assert list(points_of(curves).values())[1] == pytest.approx({10: mean, 100: mean + 10})
    # Those of the raw pixels, over draws, would be taken for the same.
    assert ends_of_bars(figure) == [
        [pytest.approx((mean - sd, mean + sd)), pytest.approx((mean + 10 - sd, mean + 10 + sd))]
    ]
    assert list(points_of(hollow).values()) == [pytest.approx({200: mean + 15})]
    assert list(points_of(dotted).values()) == [pytest.approx({100: mean})]
    assert "mean and s.d. over seeds 0, 1, 2" in words_of(figure)[0]
    assert INTERVAL not in words_of(figure)[0]


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "fashion"},
        {"backbone": "vgg11"},
        {"start": "random"},
        {"recipe": "plain"},
        {"epoch": 4},
        {"layer": "layer4"},
        {"split": "train"},
    ],
)
def test_rows_of_others_are_left_out(draw, other):
    figure = draw(
        [IMAGENET], rows_of(IMAGENET, {1: 0.5}), rows_of(IMAGENET, {1: 0.9, 2: 0.9}, **other)
    )
    assert list(points_of(kinds_of(figure)[0]).values()) == [pytest.approx({1: 50})]


def test_feature_sets_without_values_are_named(draw):
    figure = draw([RAW, IMAGENET, TRAINED], rows_of(IMAGENET, {1: 0.5}))
    words, notes = words_of(figure)
    assert "ResNet18, ImageNet" in words and "raw pixels" not in words
    assert notes == "Without values (see the summary): raw pixels; ResNet18, trained."


@pytest.mark.parametrize(
    ("fewest", "split", "is_said"), [(1, "test", True), (2, "test", False), (1, "train", False)]
)
def test_classes_of_one_test_image_are_said_to_be_left_out(draw, fewest, split, is_said):
    smallest = rows_of(IMAGENET, {1: 0.5})[0]
    smallest |= {"quantity": "fewest_images", "value": fewest, "split": split}
    figure = draw([IMAGENET], [*rows_of(IMAGENET, {1: 0.5}), smallest])
    assert words_of(figure)[1] == (
        "Classes of one test image or group are left out." if is_said else ""
    )


def test_no_values_at_all_are_still_a_figure(draw):
    words, notes = words_of(draw([RAW]))
    assert "raw pixels" not in words and "raw pixels" in notes


def test_writes_the_files_it_is_asked_for(tmp_path):
    table = pd.DataFrame(rows_of(RAW, {1: 0.3, 10: 0.5}, {10: 0.9}, 0.6), columns=COLUMNS)
    table.to_csv(tmp_path / "measures.csv", index=False)
    outputs = {suffix: tmp_path / f"figure.{suffix}" for suffix in ("pdf", "png")}
    few_shot.plot_few_shot(material_of(tmp_path / "measures.csv", [RAW]), outputs)
    assert all(path.stat().st_size for path in outputs.values())
