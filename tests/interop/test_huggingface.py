"""Data sets that the library datasets has saved, or has in its cache."""

import io
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

datasets = pytest.importorskip("datasets")

from collapseflow.images.datasets import read_split  # noqa: E402
from collapseflow.images.sources import huggingface, places  # noqa: E402
from collapseflow.images.sources.prepare import prepare_dataset  # noqa: E402
from collapseflow.running.errors import UserError  # noqa: E402
from collapseflow.study.check import check_against_libraries, check_once  # noqa: E402
from collapseflow.study.schema import load  # noqa: E402

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(20) % 2
NAMED = datasets.ClassLabel(names=["snake", "öl"])


def make(rows, labels=NAMED, **more):
    features = {"id": datasets.Value("int64"), "picture": datasets.Image(), "kind": labels}
    content = {
        "id": [100 + row for row in rows],
        "picture": [Image.fromarray(IMAGES[row]) for row in rows],
        "kind": [int(LABELS[row]) for row in rows],
    }
    if isinstance(labels, datasets.Value) and labels.dtype == "string":
        content["kind"] = [("b", "a")[value] for value in content["kind"]]
    for name, values in more.items():
        features[name] = datasets.Value("string")
        content[name] = [values[row] for row in rows]
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def read(place, columns=None, size=None, test_fraction=0.2, on_bad_image="stop", **named):
    named = {"name": None, "arguments": {}} | named
    return huggingface.read(
        place,
        named["name"],
        named["arguments"],
        columns or {},
        size,
        test_fraction,
        0,
        2,
        on_bad_image,
    )


def refused(place, columns=None, **named):
    with pytest.raises(UserError) as caught:
        read(place, columns, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_undivided_images_are_divided(tmp_path):
    make(range(20)).save_to_disk(tmp_path / "mine")
    splits = read(tmp_path / "mine")
    assert splits.class_names == ["snake", "öl"]
    assert sorted([*splits.train.ids, *splits.test.ids]) == list(range(20))
    assert np.bincount(splits.test.labels).tolist() == [2, 2]
    for part in (splits.train, splits.test):
        np.testing.assert_array_equal(part.images, IMAGES[part.ids])
        np.testing.assert_array_equal(part.labels, LABELS[part.ids])
    assert splits.source == "mine of the library datasets"


@pytest.mark.parametrize(
    ("names", "used", "note"),
    [
        (("train", "test"), (0, 1), ""),
        (("train", "validation", "test"), (0, 2), "; not read: validation"),
        (("train", "validation"), (0, 1), "; the test images are those of validation"),
        (("Training", "TEST", "extra"), (0, 1), "; not read: extra"),
        (("Test", "train"), (1, 0), ""),
    ],
)
def test_splits_by_their_usual_names(tmp_path, names, used, note):
    rows = np.array_split(np.arange(20), len(names))
    parts = {name: make(of) for name, of in zip(names, rows, strict=True)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "mine")
    splits = read(tmp_path / "mine")
    for part, place in zip((splits.train, splits.test), used, strict=True):
        np.testing.assert_array_equal(part.images, IMAGES[rows[place]])
        assert part.ids.tolist() == list(range(len(rows[place])))
    assert splits.source == f"mine of the library datasets{note}"


def test_training_images_beside_others_are_divided(tmp_path):
    parts = {"train": make(range(10)), "unlabelled": make(range(10, 20))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "mine")
    splits = read(tmp_path / "mine")
    assert sorted([*splits.train.ids, *splits.test.ids]) == list(range(10))
    assert splits.source == "mine of the library datasets; not read: unlabelled"


def test_splits_without_training_images_are_refused(tmp_path):
    parts = {"one": make(range(10)), "two": make(range(10, 20))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "mine")
    assert "has the splits one, two; allowed: a split train" in refused(tmp_path / "mine")


@pytest.mark.parametrize("kind", ["string", "int32"])
def test_labels_without_names_are_texts_or_numbers(tmp_path, kind):
    make(range(20), datasets.Value(kind)).save_to_disk(tmp_path / "mine")
    assert "has no label, called label or labels" in refused(tmp_path / "mine")
    splits = read(tmp_path / "mine", {"label": "kind"})
    names = ["a", "b"] if kind == "string" else ["0", "1"]
    assert splits.class_names == names
    expected = 1 - LABELS if kind == "string" else LABELS
    assert splits.train.labels.tolist() == expected[splits.train.ids].tolist()


def test_groups_stay_whole_and_are_refused_on_both_sides(tmp_path):
    patients = [f"p{row // 4}" for row in range(20)]
    make(range(20), patient=patients).save_to_disk(tmp_path / "mine")
    splits = read(tmp_path / "mine")
    of = [{patients[row] for row in part.ids} for part in (splits.train, splits.test)]
    assert not of[0] & of[1] and len(of[0] | of[1]) == 5
    assert "5 groups by patient" in splits.source
    assert read(tmp_path / "mine", {"group": None}).train.groups is None
    parts = {
        name: make(range(i, i + 10), patient=patients) for i, name in ((0, "train"), (10, "test"))
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "two")
    message = refused(tmp_path / "two")
    assert "groups with training and test images, 1: p2; put each on one side, or say" in message
    assert read(tmp_path / "two", {"group": None}).test.groups is None


def test_a_size_and_grey_among_colours(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": NAMED})
    pictures = [Image.fromarray(x if k else x[..., 0]) for k, x in enumerate(IMAGES)]
    rows = {"image": pictures, "label": LABELS.tolist()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "mine")
    splits = read(tmp_path / "mine", size=[4, 8])
    images = np.concatenate([splits.train.images, splits.test.images])
    first = images[np.concatenate([splits.train.ids, splits.test.ids]).argmin()]
    assert images.shape == (20, 4, 8, 3)
    assert (np.ptp(first, axis=-1) == 0).all()


def test_images_that_cannot_be_read_are_named_or_left_out(tmp_path):
    content = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(content, "PNG")
    good = {"bytes": content.getvalue(), "path": None}
    features = datasets.Features({"image": datasets.Image(), "label": NAMED})
    rows = {"image": [{**good, "bytes": b"none"}, *[good] * 19], "label": LABELS.tolist()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "mine")
    message = refused(tmp_path / "mine")
    assert "1 of 20 images cannot be read: row 0 (no image that Pillow reads); set" in message
    splits = read(tmp_path / "mine", on_bad_image="skip")
    assert sorted([*splits.train.ids, *splits.test.ids]) == list(range(1, 20))
    assert "left out 1 of 20 images: row 0" in splits.source


def test_a_group_that_is_missing_is_none(tmp_path):
    make(range(20), patient=["a", "b", None, "c"] * 5).save_to_disk(tmp_path / "mine")
    assert "images without a group in 'patient', 5" in refused(tmp_path / "mine")


def test_16_bit_levels_are_divided_by_one_number_for_all(tmp_path):
    # 12 bits in the training images, 10 in the test images.
    levels = {"train": [4000, 100] * 2, "test": [1000, 100] * 2}
    features = datasets.Features({"image": datasets.Image(), "label": NAMED})
    parts = {}
    for split, values in levels.items():
        pictures = [Image.fromarray(np.full((4, 4), value, np.uint16)) for value in values]
        rows = {"image": pictures, "label": [0, 1] * 2}
        parts[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "mine")
    splits = read(tmp_path / "mine")
    assert splits.train.images[:, 0, 0].tolist() == [4000 // 16, 100 // 16] * 2
    assert splits.test.images[:, 0, 0].tolist() == [1000 // 16, 100 // 16] * 2
    assert splits.source.endswith("; 8 of 16 bits use 12, divided by 16")


def test_an_image_that_is_missing_cannot_be_read(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": NAMED})
    pictures = [None, *map(Image.fromarray, IMAGES[1:])]
    rows = {"image": pictures, "label": LABELS.tolist()}
    parts = {"train": datasets.Dataset.from_dict(rows, features=features), "test": make(range(4))}
    parts["test"] = parts["test"].rename_columns({"picture": "image", "kind": "label"})
    parts["test"] = parts["test"].remove_columns("id")
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "mine")
    assert "1 of 24 images cannot be read: row 0 of train (no" in refused(tmp_path / "mine")


def test_what_is_not_labelled_images_is_refused(tmp_path):
    make(range(20)).save_to_disk(tmp_path / "mine")
    assert "columns.image: 'id' has no images, but" in refused(tmp_path / "mine", {"image": "id"})
    assert "columns.label: 'knid' is not there; did you mean 'kind'" in refused(
        tmp_path / "mine", {"label": "knid"}
    )
    (tmp_path / "other").mkdir()
    assert "allowed: a folder that save_to_disk has made" in refused(tmp_path / "other")
    part = make(range(20))
    missing = part.map(lambda row: {"kind": -1 if row["id"] == 103 else row["kind"]})
    missing.save_to_disk(tmp_path / "missing")
    turned = datasets.ClassLabel(names=["a", "b\u202ec"])
    make(range(20), turned).save_to_disk(tmp_path / "turned")
    assert "the label 'b\\u202ec' has control characters" in refused(tmp_path / "turned")
    assert "images without a label in 'kind', 1" in refused(tmp_path / "missing")


def no_network(*arguments, **named):
    raise AssertionError("a server is asked")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A data set in a cache, as load_dataset has made it of images in folders."""
    for row in range(20):
        path = tmp_path / "repository" / ("train", "test")[row // 10] / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[row]).save(path)
    return str(tmp_path / "repository")


def test_a_data_set_that_is_not_in_the_cache_is_refused_without_a_server(monkeypatch, tmp_path):
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    message = refused(None, name="nobody/nothing", arguments={"revision": "main"})
    assert message.startswith("name: 'nobody/nothing' is not in the cache of datasets, ")
    command = "load_dataset('nobody/nothing', revision='main')\""
    assert message.endswith(f'python -c "from datasets import load_dataset; {command}')


def test_other_arguments_are_refused():
    message = refused(None, name="mnist", arguments={"token": "x"})
    assert message.startswith("arguments: 'token' is unknown; allowed: name, revision")


def put_into_cache(repository, cache, name):
    """What the library leaves in a cache of the data set somebody/NAME of the hub."""
    made_in = cache.with_name(f"made of {name}")
    datasets.load_dataset(repository, cache_dir=str(made_in))
    (made,) = (path for path in made_in.iterdir() if path.is_dir())
    cache.mkdir(exist_ok=True)
    there = made.rename(cache / f"somebody___{name}")
    for path in there.rglob("*.arrow"):
        path.rename(path.with_name(path.name.replace(made.name, name)))
    for path in there.rglob("dataset_info.json"):
        path.write_text(path.read_text().replace(f'"{made.name}"', f'"{name}"'))
    return there


def test_a_data_set_of_the_hub_is_read_from_the_cache(cached, tmp_path, monkeypatch):
    # What the library leaves in its cache, under the name that a data set of the hub has there.
    put_into_cache(cached, tmp_path / "cache", "some_animals")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    splits = read(None, name="somebody/SomeAnimals")
    assert splits.class_names == ["a", "b"] and len(splits.train.ids) == 10
    assert splits.source == "somebody/SomeAnimals of the library datasets"


def test_a_data_set_by_its_name(cached):
    splits = read(None, name=cached)
    assert splits.class_names == ["a", "b"]
    assert len(splits.train.ids) == len(splits.test.ids) == 10
    found = {image.tobytes() for image in splits.train.images}
    assert found == {image.tobytes() for image in IMAGES[:10]}


def study(**entry):
    return {"study": "m", "datasets": {"mine": {"source": "huggingface", **entry}}}


def test_the_study_file_is_checked(tmp_path):
    place = str(tmp_path / "mine")
    make(range(20)).save_to_disk(place)
    assert check_against_libraries(load(study(location=place))) == []
    check_once(load(study(location=place)), tmp_path / "checked")
    assert len(list((tmp_path / "checked").iterdir())) == 1
    (line,) = check_against_libraries(load(study(location=place, columns={"label": "x"})))
    assert line.startswith(f"config key datasets.mine.location: {place}: columns.label: 'x' is not")
    (line,) = check_against_libraries(load(study(location=place, class_names=["a", "b", "c"])))
    assert line.startswith("config key datasets.mine.class_names: 3 names for 2 classes")
    (line,) = check_against_libraries(load(study(name="nobody/nothing")))
    assert line.startswith("config key datasets.mine.name: 'nobody/nothing' is not in the cache")
    for entry in ({}, {"location": place, "name": "x"}):
        with pytest.raises(UserError, match="needs either the key 'location'"):
            load(study(**entry))


def test_from_the_study_file_to_the_data_set(tmp_path):
    make(range(20)).save_to_disk(tmp_path / "mine")
    entry = load(study(location=str(tmp_path / "mine"), size=8)).datasets["mine"].entry()
    prepare_dataset(entry, 0.2, 0, tmp_path, tmp_path / "mine.h5")
    test = read_split(tmp_path / "mine.h5", "test")
    assert test.images.shape == (4, 8, 8, 3) and test.labels.tolist() == LABELS[test.ids].tolist()


def test_a_saved_data_set_is_classified(tmp_path):
    levels = RNG.integers(0, 60, (60, 6, 5), dtype=np.uint8)
    levels[1::2] += 150
    pictures = [Image.fromarray(level) for level in levels]
    features = datasets.Features({"picture": datasets.Image(), "kind": NAMED})
    content = {"picture": pictures, "kind": [number % 2 for number in range(60)]}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(tmp_path / "mine")
    (tmp_path / "study.yaml").write_text(
        "study: m\n"
        "datasets: {mine: {source: huggingface, location: mine}}\n"
        "features: [raw]\n"
        "classifiers: {linear: {estimator: collapseflow.LinearProbe}}\n",
        encoding="utf-8",
    )
    table = "results/m/tables/accuracy_mine.csv"
    words = ["-m", "snakemake", table, "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    answer = subprocess.run(
        [sys.executable, *words, "--configfile", "study.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
    assert pd.read_csv(tmp_path / table)["accuracy"].tolist() == [1]


def test_the_content_changes_with_the_files(tmp_path):
    entry = {"source": "huggingface", "location": [str(tmp_path / "mine")]}
    entry |= {"name": None, "arguments": {}}
    make(range(20)).save_to_disk(tmp_path / "mine")
    before = places.content(entry)
    assert places.content(entry) == before
    file = next((tmp_path / "mine").glob("*.arrow"))
    os.utime(file, ns=(1, 1))
    assert re.fullmatch("[0-9a-f]{16}", before) and places.content(entry) != before


def test_what_is_in_the_cache_changes_with_its_revision_alone(cached, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    entry = {"source": "huggingface", "location": None, "arguments": {}}
    entry["name"] = "somebody/SomeAnimals"
    assert places.content(entry) is None
    there = put_into_cache(cached, cache, "some_animals")
    before = places.content(entry)
    assert re.fullmatch("[0-9a-f]{16}", before)
    # Neither another data set, nor reading, nor what its methods leave beside.
    put_into_cache(cached, cache, "others")
    data = datasets.load_dataset(entry["name"], split="train")
    data.map(lambda row: {"label": 1 - row["label"]})
    assert list(there.rglob("cache-*.arrow")) and places.content(entry) == before
    (revision,) = there.glob("*/*/*/")
    assert places.content({**entry, "arguments": {"name": revision.parts[-3]}}) == before
    assert places.content({**entry, "arguments": {"name": "another"}}) is None
    revision.rename(revision.with_name("another"))
    assert places.content(entry) != before


@pytest.mark.parametrize(
    "variables",
    [{"HF_DATASETS_CACHE": "/x/y"}, {"HF_HOME": "/x"}, {"XDG_CACHE_HOME": "/x"}, {"HOME": "/x"}],
    ids=str,
)
def test_the_cache_is_where_the_library_has_it(variables, monkeypatch):
    for name in ("HF_DATASETS_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = "import datasets; print(datasets.config.HF_DATASETS_CACHE)"
    asked = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert asked.stdout.strip() == str(huggingface._cache())


def test_the_documentation_s_data_set_is_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "images")
    from my_images import execute

    monkeypatch.chdir(tmp_path)
    parts = {"train": make(range(14)), "validation": make(range(14, 20))}
    datasets.DatasetDict(parts).save_to_disk("beans")
    execute("Hugging Face")
    test = read_split("results/beans/data/beans.h5", "test")
    assert test.images.shape == (6, 64, 64, 3) and test.ids.tolist() == list(range(6))
