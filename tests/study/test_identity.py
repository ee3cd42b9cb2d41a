"""A study's name stands for one seed, one division of the images, and its data sets."""

import pytest

from collapseflow.running.errors import UserError
from collapseflow.running.files import write_json
from collapseflow.study.identity import record, refuse_another
from collapseflow.study.schema import load

STUDY = {"study": "mine", "seed": 0, "test_fraction": 0.2, "threads": 8, "datasets": {}}


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


def test_results_of_which_nothing_is_kept_are_accepted(tmp_path):
    (tmp_path / "identity.json").write_text("{}")
    refuse_another(STUDY, tmp_path)


@pytest.mark.parametrize(
    "content", ["", '{"seed"', "[]", '{"datasets": 1}', '{"datasets": {"a": 1}}']
)
def test_a_record_that_cannot_be_read_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "identity.json").write_text(content)
    for guard in (refuse_another, record):
        with pytest.raises(UserError) as refused:
            guard(STUDY, tmp_path)
        assert str(refused.value).startswith(f"{tmp_path / 'identity.json'}: damaged; ")
        assert "\n" not in str(refused.value)


def test_a_record_with_another_digit_is_refused(tmp_path):
    record(STUDY, tmp_path)
    path = tmp_path / "identity.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="identity.json: damaged; "):
        refuse_another({**STUDY, "seed": 1}, tmp_path)


# --- data sets --------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """Two folders of images of two classes, of other sizes."""
    for n, name in enumerate(("one", "two")):
        for label in "ab":
            path = tmp_path / name / label / "image.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(bytes(10 + n))
    return tmp_path


def study_of(**datasets):
    """The checked content of a study with some data sets."""
    return load({"study": "mine", "datasets": datasets}).model_dump()


def made(folder, **datasets):
    """The results of a study with some data sets, which have been prepared."""
    results = folder / "results" / "mine"
    for name in datasets:
        (results / "data").mkdir(parents=True, exist_ok=True)
        (results / "data" / f"{name}.h5").touch()
    record(study_of(**datasets), results)
    return results


@pytest.mark.parametrize(
    ("before", "after", "key", "value", "was"),
    [
        ({"source": "digits"}, {"source": "mnist5k"}, "source", '"mnist5k"', '"digits"'),
        (
            {"source": "torchvision", "name": "MNIST"},
            {"source": "torchvision", "name": "KMNIST"},
            *("name", '"KMNIST"', '"MNIST"'),
        ),
        (
            {"source": "torchvision", "name": "EMNIST", "arguments": {"split": "letters"}},
            {"source": "torchvision", "name": "EMNIST", "arguments": {"split": "digits"}},
            *("arguments", '{"split": "digits"}', '{"split": "letters"}'),
        ),
        (
            {"source": "folder", "location": "one", "size": 32},
            {"source": "folder", "location": "one", "size": 64},
            *("size", "64", "32"),
        ),
        (
            {"source": "digits"},
            {"source": "digits", "subset": {"train": 100}},
            *("subset.train", "100", "null"),
        ),
        (
            {"source": "digits"},
            {"source": "digits", "label_noise": 0.1},
            *("label_noise", "0.1", "null"),
        ),
        (
            {"source": "digits", "imbalance": {"kind": "step", "ratio": 5}},
            {"source": "digits", "imbalance": {"kind": "step", "ratio": 10}},
            *("imbalance", '{"kind": "step", "ratio": 10.0}', '{"kind": "step", "ratio": 5.0}'),
        ),
        (
            {"source": "digits", "classes": [1, 2]},
            {"source": "digits", "classes": [2, 1]},
            *("classes", "2, 1", "1, 2"),
        ),
        (
            {"source": "folder", "location": "one"},
            {"source": "folder", "location": "two"},
            *("location", "HERE/two", "HERE/one"),
        ),
        (
            {"source": "idx", "location": ["one", "https://example.org/"]},
            {"source": "idx", "location": ["two"]},
            *("location", "HERE/two", "HERE/one, https://example.org/"),
        ),
        (
            {"source": "idx", "location": "https://example.org/one/"},
            {"source": "idx", "location": "https://example.org/two/"},
            *("location", "https://example.org/two/", "https://example.org/one/"),
        ),
    ],
)
def test_other_images_under_a_data_set_s_name_are_refused_in_one_line(
    folders, monkeypatch, before, after, key, value, was
):
    monkeypatch.chdir(folders)
    results = made(folders, mine=before)
    refuse_another(study_of(mine=before), results)
    with pytest.raises(UserError) as refused:
        refuse_another(study_of(mine=after), results)
    line = str(refused.value).replace(str(folders), "HERE")
    assert line.startswith(f"config key datasets.mine.{key}: value {value}, but ")
    assert f"was made with {was}; allowed: " in line and "--config study=mine-2" in line
    assert line.endswith("rm -r HERE/results/mine/data/mine.h5") and "\n" not in line
    # Another key for it, and what was deleted, are nobody's loss.
    refuse_another(study_of(other=after), results)
    (results / "data" / "mine.h5").unlink()
    refuse_another(study_of(mine=after), results)


def test_the_same_images_reached_in_another_way_are_accepted(folders, monkeypatch):
    monkeypatch.chdir(folders)
    monkeypatch.setenv("HOME", str(folders))
    results = made(folders, mine={"source": "folder", "location": "one"})
    (folders / "link").symlink_to("one")
    for spelling in (str(folders / "one"), "~/one", "two/../one", "link"):
        refuse_another(study_of(mine={"source": "folder", "location": spelling}), results)
    # The folder moved, with the images in it.
    (folders / "link").unlink()
    (folders / "one").rename(folders / "moved")
    refuse_another(study_of(mine={"source": "folder", "location": "moved"}), results)
    # Images that are added are an edit of the same data set.
    record(study_of(mine={"source": "folder", "location": "moved"}), results)
    (folders / "moved" / "a" / "another.png").write_bytes(bytes(5))
    refuse_another(study_of(mine={"source": "folder", "location": "moved"}), results)


def test_where_files_of_known_content_are_does_not_matter(folders, monkeypatch):
    monkeypatch.chdir(folders)
    from collapseflow.images.sources.known import IDX_FILES

    sha256 = dict.fromkeys(IDX_FILES, "0" * 64)
    pairs = {
        "download": ({"source": "mnist"}, {"source": "mnist", "location": "one"}),
        "mounts": (
            {"source": "idx", "location": "one"},
            {"source": "idx", "location": ["~nobody-of-this-name/one", "two", "one"]},
        ),
        "digests": (
            {"source": "idx", "location": "one", "sha256": sha256},
            {"source": "idx", "location": "two", "sha256": sha256},
        ),
        "root": (
            {"source": "torchvision", "name": "MNIST"},
            {"source": "torchvision", "name": "MNIST", "arguments": {"root": "one"}},
        ),
        "words": ({"source": "digits"}, {"source": "digits", "label": "Ziffern"}),
    }
    results = made(folders, **{name: before for name, (before, _) in pairs.items()})
    refuse_another(study_of(**{name: after for name, (_, after) in pairs.items()}), results)


def test_a_data_set_is_remembered_while_a_study_does_without_it(folders):
    results = made(folders, one={"source": "digits"}, two={"source": "mnist5k"})
    without = study_of(one={"source": "digits"})
    refuse_another(without, results)
    record(without, results)
    with pytest.raises(UserError, match=r"datasets\.two\.source"):
        refuse_another(study_of(one={"source": "digits"}, two={"source": "letters"}), results)


def test_results_that_did_not_keep_their_data_sets_are_taken_over(folders):
    results = made(folders, mine={"source": "digits"})
    write_json(results / "identity.json", {"seed": 0, "test_fraction": 0.2})
    refuse_another(study_of(mine={"source": "mnist5k"}), results)
    record(study_of(mine={"source": "mnist5k"}), results)
    with pytest.raises(UserError):
        refuse_another(study_of(mine={"source": "digits"}), results)
