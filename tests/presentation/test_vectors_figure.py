"""The figure of vectors that were computed elsewhere: file by file, or over their epochs."""

import pytest

from collapseflow.presentation.figures.vectors import plot_vectors
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import COLUMNS, frame, write_csv
from collapseflow.study.schema import Style


@pytest.fixture
def draw(tmp_path, figures):
    """A function that draws NC1 of some files: name, series, epoch and value of each."""

    def draw_figure(*files):
        given = {"dataset": "mine", "start": "", "recipe": "", "layer": ""}
        columns = [
            {**given, "features": name, "backbone": series, "epoch": epoch, "label": name}
            for name, series, epoch, _ in files
        ]
        rows = [
            {
                **given,
                "backbone": series,
                "seed": None,
                "epoch": epoch,
                "n": 9,
                "split": split,
                "quantity": "nc1",
                "value": share * value,
            }
            for _, series, epoch, value in files
            for split, share in (("train_matched", 1), ("test", 2))
        ]
        write_csv(tmp_path / "measures.csv", frame(rows, COLUMNS))
        told = {"dataset": "mine", "title": "Mine", "columns": columns, "style": Style().drawn}
        plot_vectors(Material(measures=tmp_path / "measures.csv", **told), {})
        [axis] = [axis for axis in figures[-1].axes if axis.get_visible() and axis.axison]
        return axis

    return draw_figure


def lines(axis):
    """The points of each line; that from which an axis begins is none."""
    shown = [line for line in axis.lines if line.get_alpha() is None]
    return {tuple(zip(*line.get_data(), strict=True)) for line in shown}


def test_files_that_are_epochs_stand_at_their_numbers_a_line_for_each_series(draw):
    axis = draw(
        *(("a_3", "a", 3, 0.5), ("a_30", "a", 30, 0.25)),
        *(("b_3", "b", 3, 8.0), ("b_10", "b", 10, 4.0)),
    )
    assert lines(axis) == {
        *(((3, 0.5), (30, 0.25)), ((3, 1.0), (30, 0.5))),
        *(((3, 8.0), (10, 4.0)), ((3, 16.0), (10, 8.0))),
    }
    assert len({line.get_color() for line in axis.lines}) == 2
    assert axis.get_xlabel() == "epoch"


def test_other_files_stand_beside_each_other_by_their_names(draw):
    axis = draw(("layer_2", "layer_2", None, 0.5), ("layer_10", "layer_10", None, 0.25))
    assert lines(axis) == {((0, 0.5), (1, 0.25)), ((0, 1.0), (1, 0.5))}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["layer_2", "layer_10"]
