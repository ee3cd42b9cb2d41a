"""The page's words about what made the results."""

import json

import h5py
import numpy as np
import pytest

from collapseflow.presentation.summary import PRECISIONS, versions_behind

OLD, NEW = "torch 1, scipy 1", "torch 2, scipy 1"


@pytest.fixture
def results(tmp_path):
    """A function that writes one result of each kind: data, t-SNE, classifiers, epochs."""

    def write(*lines):
        files = [tmp_path / name for name in ("a.h5", "b.npz", "c.json", "d.json")]
        info = {"class_names": "[]", "source": "", "sha256": "", "n_train": 1, "n_test": 1}
        with h5py.File(files[0], "w") as file:
            file["images"] = np.zeros((2, 8, 8), np.uint8)
            file.attrs.update(info | {"made_with": json.dumps(lines[0])})
        np.savez(files[1], made_with=np.array(lines[1]))
        files[2].write_text(json.dumps({"lda": {"made_with": lines[2]}, "rf": {"made_with": []}}))
        files[3].write_text(json.dumps([{"epoch": 0, "made_with": lines[3]}]))
        return files

    return write


def test_what_all_results_share_is_said_once(results):
    assert versions_behind(results([NEW], [NEW], [NEW], [NEW])) == [f"{NEW}."]


def test_what_differs_is_counted_with_all_that_stands_behind_a_result(results):
    lines = versions_behind(results([NEW], [OLD, NEW], [NEW], [OLD, NEW]))
    assert lines == [f"- 4 results: {NEW}.", f"- 2 results: {OLD}."]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_page_says_in_which_precision_features_are_read(precision):
    read = "bfloat16" if precision == "bfloat16" else "float32"
    assert f"features are read in {read}" in PRECISIONS[precision]
