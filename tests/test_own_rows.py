"""Rows and vectors of one's own training against what was given, and beside what was there."""

import h5py
import numpy as np
import pandas as pd
import pytest

from collapseflow.images.sources import vectors
from collapseflow.measures import Collapse, kept
from collapseflow.presentation.rows import COLUMNS, read_csv, write_csv
from collapseflow.rows import write_rows, write_vectors
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


# --- vectors ----------------------------------------------------------------------------------


def seen(n, seed, logits=True, d=6, **others):
    """A Collapse of four classes that has seen vectors in batches of 7, and all that it was given:
    vectors, labels, predictions."""
    rng = np.random.default_rng(seed)
    given = rng.normal(size=(n, d)), np.arange(n) % 4, rng.normal(size=(n, 4))
    collapse = Collapse(4, **others)
    for start in range(0, n, 7):
        features, labels, scores = (part[start : start + 7] for part in given)
        collapse.update(features, labels, scores if logits else None)
    return collapse, (given[0], given[1], given[2].argmax(axis=1))


def test_vectors_are_read_as_a_study_reads_them(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "BLOCK_BYTES", 1000)
    train, of_train = seen(90, 0, memory=2000)
    test, of_test = seen(50, 1)
    weight, bias = np.random.default_rng(2).normal(size=(4, 6)), np.arange(4.0)
    path = tmp_path / "hidden_3.h5"
    for _ in range(2):
        write_vectors(path, {"test": test, "train": train}, (weight, bias))
    assert [file.name for file in tmp_path.iterdir()] == ["hidden_3.h5"]
    vectors.check([str(path)])
    whole = [np.concatenate(parts) for parts in zip(of_train, of_test, strict=True)]
    with vectors.open_vectors(path) as found:
        blocks = np.concatenate([block for _, block in found.blocks()])
        np.testing.assert_array_equal(blocks, whole[0].astype(np.float32))
        np.testing.assert_array_equal(found.column(vectors.LABELS), whole[1])
        np.testing.assert_array_equal(found.column(vectors.PREDICTIONS), whole[2])
        for part, expected in zip(found.head(), (weight, bias), strict=True):
            np.testing.assert_array_equal(part, expected.astype(np.float32))
    divided = vectors.read([str(path)], 0.5, 0)
    np.testing.assert_array_equal(divided.train.labels, of_train[1])
    np.testing.assert_array_equal(divided.test.labels, of_test[1])
    assert divided.class_names == list("0123")


def test_without_logits_and_head_there_are_none(tmp_path):
    collapses = {"train": seen(9, 0, logits=False)[0], "test": seen(8, 1, logits=False)[0]}
    write_vectors(tmp_path / "a.h5", collapses)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"vectors", "labels", "split", "class_names"}


@pytest.mark.parametrize(
    ("name", "train", "test", "words"),
    [
        ("a.npz", {}, {}, "path: .*a.npz; a name that ends in .h5"),
        ("a.h5", {}, None, "collapses: train; a study takes train and test"),
        ("a.h5", {}, {"n": 0}, "collapses: there are no vectors of test yet"),
        ("a.h5", {}, {"logits": False}, "collapses: logits came with train or test alone"),
        ("a.h5", {}, {"d": 5}, "collapses: vectors of 5 values after vectors of 6"),
        ("a.h5", {"keep": "moments"}, {}, "keep='moments': there are no vectors"),
        ("a.h5", {"d": 5}, {"d": 5}, "a head with a weight of shape \\(4, 6\\)"),
    ],
)
def test_vectors_that_no_study_takes_are_not_written(tmp_path, name, train, test, words):
    given = {"train": train} if test is None else {"train": train, "test": test}
    collapses = {split: seen(**{"n": 8, "seed": 0} | of)[0] for split, of in given.items()}
    with pytest.raises(ValueError, match=f"^{words}[^\n]*$"):
        write_vectors(tmp_path / name, collapses, (np.ones((4, 6)), None))
    assert not list(tmp_path.iterdir())
