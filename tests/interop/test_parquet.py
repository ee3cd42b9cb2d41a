"""Tables in Parquet, as pandas and pyarrow write them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pyarrow = pytest.importorskip("pyarrow")

from collapseflow.images.sources import table  # noqa: E402
from collapseflow.running.errors import UserError  # noqa: E402


@pytest.fixture
def frame(tmp_path):
    """16 pictures of two classes, whose level is their number."""
    for number in range(16):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / f"{number}.bmp")
    return pd.DataFrame(
        {
            "file_name": [f"{number}.bmp" for number in range(16)],
            "label": [number % 2 for number in range(16)],
            "patient": pd.Categorical([f"p{number // 4}" for number in range(16)]),
        }
    )


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (lambda label: label, ["0", "1"]),
        (lambda label: label.astype(float), ["0", "1"]),
        (lambda label: label.map({0: "x", 1: "a"}), ["a", "x"]),
        (lambda label: label.map({0: "x", 1: "a"}).astype("category"), ["a", "x"]),
    ],
    ids=["int", "float", "text", "category"],
)
def test_a_table_of_pandas(tmp_path, frame, labels, names):
    frame["label"] = labels(frame["label"])
    frame.to_parquet(tmp_path / "t.parquet")
    splits = table.read(tmp_path / "t.parquet", {}, None, 0.25, 0, 1)
    assert splits.class_names == names
    assert not set(splits.train.groups) & set(splits.test.groups)
    for part in (splits.train, splits.test):
        assert part.images[:, 0, 0].tolist() == part.ids.tolist()
        odd = part.ids % 2 if names == ["0", "1"] else 1 - part.ids % 2
        assert part.labels.tolist() == odd.tolist()


def test_what_is_missing_has_no_value(tmp_path, frame):
    frame.loc[3, "label"] = np.nan
    frame.to_parquet(tmp_path / "t.pq")
    with pytest.raises(
        UserError, match="rows without a value in the column 'label', 1: 3, counted"
    ):
        table.look_into(tmp_path / "t.pq", {})


def test_what_is_no_parquet_is_refused_in_one_line(tmp_path):
    (tmp_path / "t.parquet").write_text("path,label\n")
    with pytest.raises(UserError, match="cannot be read as Parquet") as caught:
        table.look_into(tmp_path / "t.parquet", {})
    assert "\n" not in str(caught.value)
