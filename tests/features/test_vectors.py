"""Vectors that were computed elsewhere: how files of them are read, and stored."""

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

from collapseflow.features.stores import iterate, read_head, read_labels
from collapseflow.features.vectors import write_vectors
from collapseflow.images.datasets import write_dataset
from collapseflow.images.sources import vectors as source
from collapseflow.images.sources.prepare import prepare_dataset
from collapseflow.running.errors import UserError

N, D = 40, 3
VALUES = np.random.default_rng(0).normal(size=(N, D))
TEXT = np.array(["pear", "apple", "fig", "apple"] * 10)
SPLIT = np.array(["train", "test", "train", "train", "dev"] * 8)


def write(path, vectors=VALUES, **columns):
    """A file of vectors in the form that its ending says."""
    if path.suffix == ".npz":
        np.savez(path, vectors=vectors, **columns)
    elif path.suffix == ".npy":
        np.save(path, vectors)
        for name, values in columns.items():
            np.save(path.with_suffix(f".{name}.npy"), values)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, values in {"vectors": vectors, **columns}.items():
                text = np.asarray(values).dtype.kind == "U"
                file[name] = np.asarray(values, object if text else None)
    return path


def prepared(folder, *files, **subset):
    """The data set of some files, as the workflow prepares it."""
    entry = {"source": "features", "location": list(map(str, files)), "class_names": None}
    entry["subset"] = {"train": None, "test": None, **subset}
    prepare_dataset(entry, 0.25, 0, folder, folder / "data.h5")
    return folder / "data.h5"


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_rows_stand_where_the_split_says(tmp_path, suffix, dtype):
    values = (10 * VALUES).astype(dtype)
    path = write(tmp_path / f"mine{suffix}", values, labels=TEXT, split=SPLIT)
    dataset = prepared(tmp_path, path)
    write_vectors(dataset, path, tmp_path / "stores")
    for split in ("train", "test"):
        [(features, labels, predictions)] = iterate(tmp_path / "stores" / f"{split}.h5")
        assert features.dtype == np.float32
        assert np.array_equal(features, values[split == SPLIT].astype(np.float32))
        assert predictions is None
        # Classes are in alphabetical order.
        expected = np.searchsorted(["apple", "fig", "pear"], TEXT[split == SPLIT])
        assert np.array_equal(labels, expected)


def test_bfloat16_comes_by_safetensors(tmp_path):
    values = torch.from_numpy(VALUES).bfloat16()
    labels = torch.arange(N) % 4
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file({"hidden_states": values, "labels": labels}, path)
    dataset = prepared(tmp_path, path)
    write_vectors(dataset, path, tmp_path / "stores")
    parts = [next(iterate(tmp_path / "stores" / f"{split}.h5")) for split in ("train", "test")]
    found = np.concatenate([part[0] for part in parts])
    expected = values.float().numpy()
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
    assert [len(part[0]) for part in parts] == [30, 10]


def test_blocks_follow_each_other_whatever_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BLOCK_VALUES", 7 * D)
    path = write(tmp_path / "mine.npy", labels=TEXT, split=SPLIT)
    dataset = prepared(tmp_path, path)
    write_vectors(dataset, path, tmp_path / "stores")
    [(features, _, _)] = iterate(tmp_path / "stores" / "train.h5")
    assert np.array_equal(features, VALUES[SPLIT == "train"].astype(np.float32))


def test_a_last_layer_comes_in_the_order_of_the_classes_and_answers(tmp_path):
    # The file numbers its classes otherwise than the alphabet does; one class does not occur.
    names = ["pear", "plum", "fig", "apple"]
    own = np.array([names.index(text) for text in TEXT])
    weight, bias = np.random.default_rng(1).normal(size=(4, D)), np.arange(4.0)
    path = write(
        tmp_path / "mine.npz", labels=own, split=SPLIT, class_names=names, weight=weight, bias=bias
    )
    dataset = prepared(tmp_path, path)
    write_vectors(dataset, path, tmp_path / "stores")
    store = tmp_path / "stores" / "train.h5"
    found_weight, found_bias = read_head(store)
    # Data sets number what occurs: pear, fig, apple.
    assert np.array_equal(found_weight, weight[[0, 2, 3]].astype(np.float32))
    assert np.array_equal(found_bias, np.float32([0, 2, 3]))
    [(features, _, predictions)] = iterate(store)
    logits = features @ weight[[0, 2, 3]].T + [0, 2, 3]
    assert np.array_equal(predictions, logits.argmax(axis=1))


def test_predictions_are_given_as_labels_are(tmp_path):
    said = np.roll(TEXT, 1)
    said[0] = "apple"
    path = write(tmp_path / "mine.npz", labels=TEXT, split=SPLIT, predictions=said)
    dataset = prepared(tmp_path, path)
    write_vectors(dataset, path, tmp_path / "stores")
    [(_, labels, predictions)] = iterate(tmp_path / "stores" / "train.h5")
    right = (said == TEXT)[SPLIT == "train"]
    assert np.array_equal(predictions == labels, right)


def test_a_further_file_needs_no_labels_and_may_not_have_others(tmp_path):
    first = write(tmp_path / "layer1.npz", labels=TEXT, split=SPLIT)
    second = write(tmp_path / "layer2.npz", 2 * VALUES)
    dataset = prepared(tmp_path, first, second)
    write_vectors(dataset, second, tmp_path / "stores")
    assert len(read_labels(tmp_path / "stores" / "train.h5")) == (SPLIT == "train").sum()
    third = write(tmp_path / "layer3.npz", labels=np.roll(TEXT, 1))
    with pytest.raises(UserError, match="layer3.npz: its labels are not those of the data set's"):
        write_vectors(dataset, third, tmp_path / "others")
    assert not (tmp_path / "others").exists()


def test_values_that_are_no_numbers_are_refused_with_their_rows(tmp_path):
    values = VALUES.copy()
    values[[3, 17], 1] = np.nan, np.inf
    path = write(tmp_path / "mine.npz", values, labels=TEXT)
    dataset = prepared(tmp_path, path)
    with pytest.raises(UserError, match=r"2 of the rows 0 to 39 .* \(rows 3, 17\)"):
        write_vectors(dataset, path, tmp_path / "stores")
    # float64 that float32 has no number for.
    path = write(tmp_path / "large.npz", np.where(VALUES > 2, 1e300, VALUES), labels=TEXT)
    with pytest.raises(UserError, match="no finite numbers of 32 bits"):
        write_vectors(dataset, path, tmp_path / "stores")


@pytest.mark.parametrize(
    "columns, message",
    [
        ({}, "has no array labels or label"),
        ({"labels": TEXT[1:]}, r"labels of shape \(39,\) for 40 vectors"),
        ({"labels": np.arange(N) - 1}, "labels are no class numbers"),
        ({"labels": np.arange(N) / 2}, "labels are no class numbers"),
        ({"labels": np.arange(N), "class_names": ["a", "b"]}, "label 39 is beyond its 2 class"),
        (
            {"labels": TEXT, "split": np.full(N, "dev")},
            "no row is of the split 'train', only of dev; allowed: train and test, or no split, so",
        ),
        (
            {"labels": TEXT, "split": np.where(SPLIT == "dev", "held", SPLIT)},
            "mine.npz: split 'held' is unknown; allowed: train, test, and validation, which is not",
        ),
        ({"labels": np.zeros(N, int)}, "all training images are of one class"),
    ],
)
def test_what_is_known_of_rows_must_be_of_each_row(tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, write(tmp_path / "mine.npz", **columns))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("mine.csv", b"1,2", "is none of .npz"),
        ("mine.npz", b"no archive", "cannot be read"),
        ("mine.npy", b"no array", "cannot be read"),
        ("mine.h5", b"no HDF5", "cannot be read"),
        ("mine.safetensors", b"no tensors at all", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: {message}"), source.open_vectors(tmp_path / name):
        pass


def test_pickles_are_not_opened(tmp_path):
    np.savez(tmp_path / "mine.npz", vectors=VALUES, labels=np.array(["a", {}] * 20, object))
    with (
        pytest.raises(UserError, match="cannot be read"),
        source.open_vectors(tmp_path / "mine.npz"),
    ):
        pass


def test_files_are_in_the_order_of_their_numbers(tmp_path):
    for epoch in (10, 9, 100):
        write(tmp_path / f"epoch {epoch}.npy", labels=TEXT)
    found = source.named_files([str(tmp_path / "epoch *.npy")])
    assert list(found) == ["epoch_9", "epoch_10", "epoch_100"]
    with pytest.raises(UserError, match="matches no file"):
        source.named_files([str(tmp_path / "*.h5")])
    with pytest.raises(UserError, match="are both called 'epoch_9'"):
        source.named_files([str(tmp_path / "epoch *.npy"), str(write(tmp_path / "epoch_9.npz"))])


def test_files_are_epochs_where_the_place_says_so(tmp_path):
    for name in ("h1_9", "h1_10", "h2_9", "h1_last"):
        write(tmp_path / f"{name}.npy", labels=TEXT)
    places = [f"{tmp_path}/h1_{{epoch}}.npy", f"{tmp_path}/h2_{{epoch}}.npy"]
    assert list(source.named_files(places)) == ["h1_9", "h1_10", "h2_9"]
    assert source.epochs(places) == {"h1_9": ("h1", 9), "h1_10": ("h1", 10), "h2_9": ("h2", 9)}
    assert source.epochs([f"{tmp_path}/h1_*.npy"]) == {}
    write(tmp_path / "h1_09.npy", labels=TEXT)
    with pytest.raises(UserError, match="h1_9.npy are both of epoch 9; allowed: one file for each"):
        source.named_files(places)


def test_files_of_other_numbers_of_rows_are_refused_before_a_job(tmp_path):
    first = write(tmp_path / "a.npz", labels=TEXT)
    second = write(tmp_path / "b.npz", VALUES[1:])
    with pytest.raises(UserError, match=r"location: .*b.npz: 39 vectors, but .*a.npz has 40"):
        source.check([str(first), str(second)])
    wrong = write(tmp_path / "c.npz", labels=TEXT, weight=np.zeros((3, D + 1)))
    with pytest.raises(UserError, match=r"weight of shape \(3, 4\)"):
        source.check([str(wrong)])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"labels": np.arange(N) + 2**40}, "labels are no class numbers; allowed: text, or"),
        ({"labels": np.full(N, np.nan)}, "labels are no class numbers; allowed: text, or"),
        ({"labels": np.arange(N) * 1j}, "labels are complex128; allowed: numbers or text"),
        ({"labels": TEXT, "weight": np.zeros(3)}, r"weight of shape \(3,\) for vectors of 3"),
        ({"labels": TEXT, "weight": np.full((3, D), "a")}, "weight are <U1, not all finite"),
        ({"labels": TEXT, "weight": np.full((3, D), 1e39)}, "weight are float64, not all finite"),
        (
            {"labels": TEXT, "weight": np.zeros((3, D)), "bias": np.float32(1)},
            r"weight of shape \(3, 3\) and bias of shape \(\) for vectors of 3",
        ),
        ({"labels": TEXT, "class_names": np.float32(1)}, r"class_names of shape \(\); allowed"),
    ],
)
def test_what_no_file_of_vectors_holds_is_refused_in_a_line(tmp_path, columns, words):
    path = write(tmp_path / "a.npz", **columns)
    with pytest.raises(UserError, match=f"{path}: {words}"):
        source.check([str(path)])
        source.read([str(path)], 0.25, 0)


def test_a_division_without_a_row_of_a_split_is_refused(tmp_path):
    path = write(tmp_path / "a.npz", VALUES[:3], labels=TEXT[:3])
    line = "test_fraction 0.1 leaves no test row of 3; add rows or a split, or change test_fraction"
    with pytest.raises(UserError, match=f"{path}: {line}"):
        source.read([str(path)], 0.1, 0)


def test_what_is_damaged_behind_the_head_of_a_file_is_told_with_its_name(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = np.arange(N) % 3
        vectors = file.create_dataset("vectors", data=VALUES, chunks=(N, D), compression="gzip")
        place = vectors.id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(40))
    source.check([str(path)])
    dataset = prepared(tmp_path, path)
    with pytest.raises(UserError, match=rf"^{path}: cannot be read \(.+\); replace it$"):
        write_vectors(dataset, path, tmp_path / "stores")
    assert not (tmp_path / "stores").exists()


def test_a_sample_of_the_rows_is_taken(tmp_path):
    path = write(tmp_path / "mine.npz", labels=TEXT, split=SPLIT)
    dataset = prepared(tmp_path, path, train=8)
    write_vectors(dataset, path, tmp_path / "stores")
    [(features, _, _)] = iterate(tmp_path / "stores" / "train.h5")
    assert len(features) == 8
    rows = {tuple(row) for row in VALUES[SPLIT == "train"].astype(np.float32)}
    assert rows.issuperset(map(tuple, features))


def test_the_data_set_of_vectors_has_no_pixels(tmp_path):
    path = write(tmp_path / "mine.npz", labels=TEXT)
    splits = source.read([str(path)], 0.25, 0)
    write_dataset(tmp_path / "data.h5", splits)
    assert splits.train.images.shape == (30, 0, 0)
    assert splits.class_names == ["apple", "fig", "pear"]
