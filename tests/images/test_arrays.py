"""Images in arrays, written by NumPy and h5py."""

import h5py
import numpy as np
import pytest
from PIL import Image

from collapseflow.images.datasets import read_split
from collapseflow.images.sources import arrays
from collapseflow.images.sources.prepare import prepare_dataset
from collapseflow.running.errors import UserError
from collapseflow.study.schema import load

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
LABELS = np.arange(20) % 2


def save(folder, kind, **content):
    """Arrays in a place of some kind."""
    if kind == "npz":
        np.savez_compressed(folder / "a.npz", **content)
        return folder / "a.npz"
    if kind == "npy":
        (folder / "a").mkdir()
        for name, array in content.items():
            np.save(folder / "a" / f"{name}.npy", array)
        return folder / "a"
    with h5py.File(folder / "a.h5", "w") as file:
        for name, array in content.items():
            array = np.asarray(array)
            kind = h5py.string_dtype() if array.dtype.kind in "UO" else array.dtype
            file.create_dataset(name, data=array.astype(kind))
    return folder / "a.h5"


def read(path, columns=None, size=None, test_fraction=0.2, fit="crop"):
    return arrays.read(path, columns or {}, size, test_fraction, 0, fit)


def refused(path, columns=None):
    with pytest.raises(UserError) as caught:
        read(path, columns)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


KINDS = ["npz", "npy", "h5"]


@pytest.mark.parametrize("kind", KINDS)
def test_undivided_images_are_divided(tmp_path, kind):
    splits = read(save(tmp_path, kind, images=IMAGES, labels=LABELS))
    assert sorted([*splits.train.ids, *splits.test.ids]) == list(range(20))
    assert np.bincount(splits.test.labels).tolist() == [2, 2]
    for part in (splits.train, splits.test):
        np.testing.assert_array_equal(part.images, IMAGES[part.ids])
        np.testing.assert_array_equal(part.labels, LABELS[part.ids])
    assert splits.class_names == ["0", "1"]


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_test_images_by_their_usual_names(tmp_path, kind):
    content = {"x_train": IMAGES[:12], "y_train": LABELS[:12, None]}
    content |= {"x_test": IMAGES[12:], "y_test": LABELS[12:, None].astype(np.uint8)}
    splits = read(save(tmp_path, kind, **content, val_images=IMAGES[:1]))
    np.testing.assert_array_equal(splits.train.images, IMAGES[:12])
    np.testing.assert_array_equal(splits.test.images, IMAGES[12:])
    assert splits.test.labels.tolist() == LABELS[12:].tolist()
    assert splits.test.ids.tolist() == list(range(8))


@pytest.mark.parametrize("kind", KINDS)
def test_splits_groups_and_labels_as_texts(tmp_path, kind):
    split = np.array(["train"] * 12 + ["val"] * 4 + ["Test"] * 4)
    labels, group = np.array(["öl", "Wein"])[LABELS], np.arange(20) // 4
    path = save(tmp_path, kind, images=IMAGES, labels=labels, split=split, group=group)
    if kind == "h5":
        # As h5py gives texts: bytes.
        assert isinstance(h5py.File(path)["labels"][0], bytes)
    splits = read(path)
    assert splits.class_names == ["Wein", "öl"]
    assert splits.train.ids.tolist() == list(range(12))
    assert splits.test.ids.tolist() == list(range(16, 20))
    assert splits.test.labels.tolist() == (1 - LABELS[16:]).tolist()
    assert splits.test.groups.tolist() == [4] * 4
    assert "not read: 4 validation images" in splits.source
    divided = read(path, {"split": None})
    assert not set(divided.train.groups) & set(divided.test.groups)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (IMAGES[..., 0], IMAGES[..., 0]),
        (IMAGES[..., :1], IMAGES[..., 0]),
        (IMAGES, IMAGES),
        (IMAGES.transpose(0, 3, 1, 2), IMAGES),
        (IMAGES.transpose(0, 3, 1, 2)[:, :1], IMAGES[..., 0]),
    ],
    ids=["NHW", "NHW1", "NHW3", "N3HW", "N1HW"],
)
def test_channels_stand_last_or_first(tmp_path, images, expected):
    splits = read(save(tmp_path, "npz", images=images, labels=LABELS))
    np.testing.assert_array_equal(splits.train.images, expected[splits.train.ids])


def test_a_size_is_made_as_pillow_does(tmp_path):
    path = save(tmp_path, "npz", images=IMAGES, labels=LABELS)
    splits = read(path, size=[6, 8], fit="squash")
    for image, row in zip(splits.test.images, splits.test.ids, strict=True):
        expected = Image.fromarray(IMAGES[row]).resize((8, 6), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image, expected)


def test_columns_name_other_arrays_also_inside_groups(tmp_path):
    path = save(tmp_path, "h5", **{"scan/pixels": IMAGES, "scan/kind": LABELS, "images": LABELS})
    splits = read(path, {"images": "scan/pixels", "labels": "scan/kind"})
    np.testing.assert_array_equal(splits.test.images, IMAGES[splits.test.ids])


GOOD = {"images": IMAGES, "labels": LABELS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": IMAGES / 255}, "images: float64 (20, 5, 4, 3); allowed: uint8; where they are"),
        ({"images": IMAGES.astype(np.int64)}, "save images.astype('uint8')"),
        ({"images": IMAGES > 9}, "save 255 * images.astype('uint8')"),
        ({"images": IMAGES[:, 0, 0]}, "images: uint8 (20, 3); allowed: (N, H, W), (N, H, W, 1)"),
        ({"images": IMAGES[:, :, :, [0, 0]]}, "images: uint8 (20, 5, 4, 2); allowed: (N, H, W)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images: uint8 (0, 5, 4, 3) is empty"),
        ({"labels": LABELS[:19]}, "labels: int64 (19,) for the 20 images of images; allowed"),
        ({"labels": np.eye(2)[LABELS]}, "of one-hot labels save labels.argmax(axis=1)"),
        ({"labels": LABELS / 2}, "labels: float64 (20,); allowed: whole numbers or texts; save"),
        ({"labels": LABELS - 1}, "labels: labels out of range, 10, the first -1; allowed"),
        ({"labels": LABELS + 65535}, "labels: labels out of range, 10, the first 65536"),
        ({"labels": 0 * LABELS}, "all labels are 0; allowed: two classes or more"),
        ({"split": np.array(["train", "hold"])[LABELS]}, "split 'hold' is unknown; allowed: train"),
        ({"split": np.array(["train", "test"])}, "split: <U5 (2,) for the 20 images"),
        (
            {"split": np.array(["train", "test"])[LABELS], "group": np.arange(20) // 10},
            "groups with training and test images, 2: 0, 1; put each on",
        ),
        ({"y": LABELS}, "'labels' and 'y' may both be the labels; say which"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_what_is_wrong_with_arrays_is_said_in_one_line(tmp_path, kind, change, words):
    if kind == "h5":
        words = words.replace("<U5", "object")
    assert words in refused(save(tmp_path, kind, **{**GOOD, **change}))


def test_names_that_are_not_there_are_said(tmp_path):
    path = save(tmp_path, "npz", pixels=IMAGES, labels=LABELS)
    message = refused(path)
    assert (
        "has no images, called images or image or x or data; say which of pixels, labels" in message
    )
    assert "columns.images: 'pixel' is not there; did you mean" in refused(
        path, {"images": "pixel"}
    )
    assert "columns.split: does not go with train_images" in refused(
        path, {"train_images": "pixels", "split": "labels"}
    )


def test_files_that_are_none_are_refused(tmp_path):
    for name, words in {
        "a.npz": "cannot be read (File is not a zip file)",
        "a.h5": "cannot be read (",
        "a.csv": "ends with .csv; allowed: .npz, .h5, .hdf5, .hdf, or a folder with .npy files",
    }.items():
        (tmp_path / name).write_text("x")
        assert words in refused(tmp_path / name)
    (tmp_path / "folder").mkdir()
    assert "holds no arrays" in refused(tmp_path / "folder")
    pickled = save(tmp_path, "npz", images=IMAGES, labels=np.array([{}] * 20))
    assert "Object arrays cannot be loaded" in refused(pickled)


def test_images_that_are_cut_off_are_refused(tmp_path):
    path = save(tmp_path, "npy", images=IMAGES, labels=LABELS)
    file = path / "images.npy"
    file.write_bytes(file.read_bytes()[:-7])
    assert refused(path).startswith(f"{path}: cannot be read (")


def test_a_class_with_test_images_alone_and_unequal_shapes_are_refused(tmp_path):
    content = {"x_train": IMAGES[:12], "y_train": LABELS[:12]}
    content |= {"x_test": IMAGES[12:], "y_test": LABELS[12:] + 1}
    path = save(tmp_path, "npz", **content)
    assert "no training image of 2, only test images" in refused(path)
    path = save(tmp_path, "npz", **{**content, "x_test": IMAGES[12:, :4], "y_test": LABELS[12:]})
    assert "training images of shape (5, 4, 3), test images of shape (4, 4, 3)" in refused(path)
    assert read(path, size=4).test.images.shape == (8, 4, 4, 3)


def test_images_are_not_read_before_the_first_job(tmp_path, monkeypatch):
    read_members = []
    member = arrays._member
    monkeypatch.setattr(
        arrays, "_member", lambda path, name: read_members.append(name) or member(path, name)
    )
    arrays.look_into(save(tmp_path, "npz", **GOOD), {})
    assert read_members == ["labels"]


def test_from_the_study_file_to_the_data_set(tmp_path):
    path = save(tmp_path, "npz", **GOOD)
    entry = {"source": "arrays", "location": str(path), "size": 8, "class_names": ["no", "yes"]}
    study = load({"study": "mine", "datasets": {"mine": entry}})
    output = tmp_path / "mine.h5"
    prepare_dataset(study.datasets["mine"].entry(), 0.2, 0, tmp_path, output)
    test = read_split(output, "test")
    assert test.images.shape == (4, 8, 8, 3)
    assert test.labels.tolist() == LABELS[test.ids].tolist()
    with pytest.raises(UserError, match="class_names: 3 names for the 2 classes of"):
        load({"study": "m", "datasets": {"m": {**entry, "class_names": ["a", "b", "c"]}}})
    with pytest.raises(UserError, match=f"datasets.m.location: {path}: columns.labels: 'x' is"):
        load({"study": "m", "datasets": {"m": {**entry, "columns": {"labels": "x"}}}})


def test_images_of_one_group_cannot_be_divided_which_is_told_with_the_file(tmp_path):
    path = tmp_path / "one.npz"
    np.savez(path, images=np.zeros((4, 3, 3), np.uint8), labels=[0, 1, 0, 1], group=[7, 7, 7, 7])
    line = f"{path}: all images are of one group; allowed: two groups or more to divide"
    with pytest.raises(UserError, match=f"^{line}$"):
        arrays.read(path, {}, None, 0.5, 0)
