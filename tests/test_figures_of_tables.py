"""Figures of the library: what is drawn is what was given, and nothing else changes."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from collapseflow.figures import class_geometry, collapse_curves, feature_map
from collapseflow.measures import Collapse
from collapseflow.rows import write_rows
from collapseflow.running.errors import UserError

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3


def table(**columns):
    """Three epochs of two measures; more columns may be given."""
    values = {"nc1": (1.0, 0.1, 0.01), "nc2_equinorm": (0.5, 0.3, 0.2)}
    rows = [
        {"epoch": epoch, "quantity": name, "value": value}
        for name, of_epochs in values.items()
        for epoch, value in enumerate(of_epochs)
    ]
    return pd.DataFrame(rows).assign(**columns)


def lines(figure, panel):
    """The values (x, y) of the lines over epochs of a panel."""
    found = [line.get_xydata() for line in figure.axes[panel].get_lines()]
    return [line.tolist() for line in found if len(line) == 3]


def words(figure):
    """Of the legend, which is filled column by column."""
    return {text.get_text() for text in figure.legends[0].get_texts() if text.get_text() != " "}


def statistics(scale):
    collapse = Collapse(n_classes=3)
    collapse.update(3 * np.eye(3)[LABELS] + scale * RNG.normal(size=(60, 3)), LABELS)
    return collapse.statistics()


def test_curves_are_the_values_of_the_table():
    figure = collapse_curves(table(), title="mine")
    assert figure.get_suptitle() == "mine"
    assert lines(figure, 0) == [[[0, 1.0], [1, 0.1], [2, 0.01]]]
    assert lines(figure, 1) == [[[0, 0.5], [1, 0.3], [2, 0.2]]]
    assert words(figure) == {"network", "training images"}


def test_seeds_become_means_geometric_ones_on_logarithmic_axes():
    seeds = [table(seed=0), table(seed=1).assign(value=lambda rows: 4 * rows["value"])]
    figure = collapse_curves(pd.concat(seeds))
    np.testing.assert_allclose(lines(figure, 0), [[[0, 2.0], [1, 0.2], [2, 0.02]]])
    np.testing.assert_allclose(lines(figure, 1), [[[0, 1.25], [1, 0.75], [2, 0.5]]])
    assert any("seeds 0, 1" in line for line in words(figure))


def test_trainings_are_told_apart_by_what_differs_also_from_the_first_epoch_on():
    one, other = table(rate=0.1, split="train"), table(rate=0.2, split="test")
    figure = collapse_curves(pd.concat([one, other.assign(value=2.0)]))
    assert lines(figure, 0) == [
        [[0, 1.0], [1, 0.1], [2, 0.01]],
        [[0, 2.0], [1, 2.0], [2, 2.0]],
    ]
    assert words(figure) == {"rate 0.1", "rate 0.2", "training images", "test images"}


def test_a_measures_csv_is_drawn_as_pandas_reads_it(tmp_path):
    rows = [table(recipe="long", rate="0.1"), table(recipe="short", rate=""), table(recipe="")]
    pd.concat(rows).assign(seed=0, low=None).to_csv(tmp_path / "measures.csv", index=False)
    figure = collapse_curves(pd.read_csv(tmp_path / "measures.csv"))
    assert words(figure) == {"long, rate 0.1", "short", "training images"}


def test_rows_of_a_loop_of_one_s_own_are_drawn_from_their_file(tmp_path):
    for epoch, value in enumerate((1.0, 0.1, 0.01)):
        write_rows(tmp_path / "mine.csv", {"nc1": value}, 60, epoch, "test", "fc", "mine", "mlp")
    figure = collapse_curves(pd.read_csv(tmp_path / "mine.csv"))
    assert figure.get_suptitle() == "mine"
    assert lines(figure, 0) == [[[0, 1.0], [1, 0.1], [2, 0.01]]]
    assert words(figure) == {"mlp", "test images"}


def test_measures_on_as_many_training_images_as_test_images_stand_for_those_on_all():
    figure = collapse_curves(
        pd.concat([table(split="train"), table(split="train_matched").assign(value=3.0)])
    )
    assert lines(figure, 0) == [[[0, 3.0], [1, 3.0], [2, 3.0]]]
    assert words(figure) == {"network", "training images, as many as test images"}


def test_of_several_layers_the_last_is_drawn_and_other_quantities_are_passed_over():
    layers = [table(layer="layer4").assign(value=9.0), table(layer="flatten")]
    mine = pd.DataFrame(
        {"epoch": [0], "quantity": ["my_own"], "value": [1.0], "layer": ["flatten"]}
    )
    figure = collapse_curves(pd.concat([*layers, mine]))
    assert lines(figure, 0) == [[[0, 1.0], [1, 0.1], [2, 0.01]]]
    assert len([axis for axis in figure.axes if axis.axison]) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            table().drop(columns="epoch"),
            "rows: lack the column epoch; needed: epoch, quantity, value",
        ),
        (
            pd.concat([table(dataset="a"), table(dataset="b")]),
            "rows: of the data sets a, b; choose those of one of them",
        ),
        (table().iloc[:0], "rows: no measure of an epoch of a training is among them"),
        (table(epoch=0.5), "rows: have an epoch or a seed that is no whole number"),
        (table(seed="one"), "rows: have an epoch or a seed that is no whole number"),
        (table(epoch=None), "rows: no measure of an epoch of a training is among them"),
    ],
)
def test_a_table_of_which_nothing_can_be_drawn_is_refused(rows, message):
    with pytest.raises(ValueError) as refused:
        collapse_curves(rows)
    assert str(refused.value) == message


def test_a_map_has_each_point_where_it_is():
    points = RNG.normal(size=(60, 2))
    figure = feature_map(points, LABELS, list("abc"), test=LABELS == 1, title="mine")
    (axis,) = figure.axes
    drawn = np.concatenate([part.get_offsets() for part in axis.collections])
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(points, axis=0))
    assert axis.get_title() == "mine" and axis.get_xlabel() == "60 points"
    assert words(figure) == {"training", "test", "0  a", "1  b", "2  c"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinates": np.zeros((60, 3))}, r"coordinates of shape \(60, 3\), .*needed: \(N, 2\)"),
        ({"test": [True]}, r"test of \(1,\); needed"),
        ({"labels": LABELS - 1}, "labels: are no whole numbers from 0"),
        ({"labels": LABELS / 2}, "labels: are no whole numbers from 0"),
        ({"class_names": ["a", "b"]}, "class_names: 2 names for the labels 0 to 2"),
    ],
)
def test_arrays_that_are_no_map_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        feature_map(**{"coordinates": np.zeros((60, 2)), "labels": LABELS, **change})


def test_the_geometry_of_epochs_has_their_norms_and_cosines():
    states = {epoch: {"train": statistics(0.1), "test": statistics(0.2)} for epoch in (0, 7)}
    figure = class_geometry(states, list("abc"), title="mine")
    norms = np.linalg.norm(states[7]["test"].means - states[7]["test"].means.mean(axis=0), axis=1)
    of_points = [line.get_ydata()[0] for line in figure.axes[7].get_lines()[-3:]]
    np.testing.assert_allclose(of_points, norms / norms.mean())
    said = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert said[0].startswith("epoch 0, before training: NC1")
    assert said[1].startswith("epoch 7: NC1")


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({}, "states: are empty; needed: one epoch or more"),
        ({3: {"train": None}}, "states: epoch 3 lacks the split test"),
    ],
)
def test_states_that_are_not_there_are_refused(states, message):
    with pytest.raises(ValueError, match=message):
        class_geometry(states)


def test_settings_and_figures_of_others_stay_as_they_are():
    mine = plt.figure()
    plt.rcParams["font.size"] = 17
    before = dict(matplotlib.rcParams)
    feature_map(np.zeros((60, 2)), LABELS, style={"font_size": 5})
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)
    matplotlib.rcdefaults()


def test_a_style_says_which_measures_and_splits_are_shown():
    both = pd.concat([table(split="train"), table(split="test").assign(value=7.0)])
    only = {"measures": ["nc2_equinorm"], "splits": ["test"]}
    figure = collapse_curves(both, style={"only": only})
    assert len([axis for axis in figure.axes if axis.axison]) == 1
    assert lines(figure, 0) == [[[0, 7.0], [1, 7.0], [2, 7.0]]]
    assert words(figure) == {"network", "test images"}


def test_a_style_is_checked_as_a_study_s_is():
    figure = feature_map(np.zeros((60, 2)), LABELS, style={"width": "column"})
    assert figure.get_size_inches()[0] == pytest.approx(3.3)
    with pytest.raises(UserError, match="config key style.colour: is unknown; allowed: dpi, font"):
        feature_map(np.zeros((60, 2)), LABELS, style={"colour": "red"})
