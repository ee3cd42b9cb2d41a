"""Rows of one's own training against what was given, and beside rows that were there."""

import pandas as pd
import pytest

from collapseflow.presentation.rows import COLUMNS, read_csv, write_csv
from collapseflow.rows import write_rows
from collapseflow.running.errors import UserError

VALUES = {"nc1": 0.5, "cdnv": 2.0, "accuracy": 0.9}
WHERE = {"epoch": 1, "split": "test", "layer": "fc", "dataset": "mnist", "backbone": "mlp"}


def test_a_row_a_measure_as_a_study_has_them(tmp_path):
    path = tmp_path / "rows.csv"
    write_rows(path, VALUES, 100, **WHERE, recipe="NA", seed=2)
    rows = read_csv(path)
    assert list(rows.columns) == COLUMNS
    assert rows["quantity"].tolist() == ["nc1", "cdnv", "accuracy"]
    assert rows["value"].tolist() == [0.5, 2.0, 0.9]
    assert rows["layer"].tolist() == ["fc", "fc", ""]
    same = rows.drop(columns=["quantity", "value", "layer", "low", "high"]).drop_duplicates()
    assert same.to_dict("records") == [
        {
            "dataset": "mnist",
            "backbone": "mlp",
            "start": "",
            "recipe": "NA",
            "seed": 2,
            "epoch": 1,
            "split": "test",
            "n": 100,
        }
    ]
    # Wilson's interval of 90 of 100.
    assert rows.loc[2, ["low", "high"]].tolist() == pytest.approx([0.8256, 0.9448], abs=1e-4)
    assert rows.loc[:1, "low"].isna().all()


def test_what_is_written_again_replaces_itself_and_nothing_else(tmp_path):
    path = tmp_path / "rows.csv"
    others = [{"epoch": 2}, {"split": "train"}, {"layer": "body"}, {"seed": 1}, {"start": "x"}]
    write_rows(path, {**VALUES, "nc3": 7.0}, 9, **WHERE)
    for other in others:
        write_rows(path, {"nc1": 0.1}, 10, **WHERE | other)
    write_rows(path, {"nc1": 0.7}, 12, **WHERE)
    rows = read_csv(path)
    mine = rows[(rows["value"] != 0.1) & (rows["quantity"] != "accuracy")]
    assert mine[["quantity", "value", "n"]].to_numpy().tolist() == [["nc1", 0.7, 12]]
    assert (rows["value"] == 0.1).sum() == len(others)


def test_columns_of_a_file_that_is_there_stay(tmp_path):
    path = tmp_path / "measures.csv"
    row = dict.fromkeys(COLUMNS, "") | {"quantity": "nc1", "value": 3.0, "momentum": "0.9"}
    write_csv(path, pd.DataFrame([row]))
    write_rows(path, VALUES, 9, **WHERE)
    rows = read_csv(path)
    assert list(rows.columns) == [*COLUMNS, "momentum"]
    assert rows["momentum"].tolist() == ["0.9", "", "", ""]


def test_a_wrong_split_or_file_ends_in_one_line(tmp_path):
    path = tmp_path / "rows.csv"
    with pytest.raises(ValueError, match="^split: 'val' is unknown; allowed: train, test[^\n]*$"):
        write_rows(path, VALUES, 9, **WHERE | {"split": "val"})
    assert not path.exists()
    write_rows(path, VALUES, 9, **WHERE)
    path.write_text(path.read_text().replace("0.5", "0.6"))
    with pytest.raises(UserError, match=r"rows\.csv"):
        write_rows(path, VALUES, 9, **WHERE)
