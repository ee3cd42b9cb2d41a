"""A study's name stands for one seed and one division of the images; what is trained anew."""

import pytest

from collapseflow.running.errors import UserError
from collapseflow.study.identity import record, refuse_another

STUDY = {"study": "mine", "seed": 0, "test_fraction": 0.2, "threads": 8}


def test_a_new_name_and_the_same_study_are_accepted(tmp_path):
    refuse_another(STUDY, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    record(STUDY, tmp_path / "mine")
    refuse_another(STUDY, tmp_path / "mine")
    refuse_another({**STUDY, "threads": 1}, tmp_path / "mine")


@pytest.mark.parametrize(("key", "value", "kept"), [("seed", 1, 0), ("test_fraction", 0.5, 0.2)])
def test_another_study_under_the_same_name_is_refused_in_one_line(tmp_path, key, value, kept):
    results = tmp_path / "mine"
    record(STUDY, results)
    with pytest.raises(UserError) as refused:
        refuse_another({**STUDY, key: value}, results)
    line = str(refused.value)
    assert line.startswith(f"config key {key}: value {value}, but {results} was made with {kept};")
    assert f"--config {key}={value} study=mine-{key}{value}" in line
    assert "\n" not in line


def test_results_without_a_record_and_a_damaged_one_are_accepted(tmp_path):
    for content in ("", '{"seed"', "{}"):
        (tmp_path / "identity.json").write_text(content)
        refuse_another(STUDY, tmp_path)
