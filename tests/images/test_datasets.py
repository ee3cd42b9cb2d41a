"""Samples, checks and files of data sets against counts by hand and hashlib."""

import hashlib
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from collapseflow.images.datasets import (
    Splits,
    content_digest,
    grouped_rows,
    held_out_rows,
    make_split,
    raw_pixels,
    read_info,
    read_split,
    split_off_test,
    stratified_rows,
    take_subset,
    write_dataset,
)
from collapseflow.running.errors import UserError
from collapseflow.verification import verify


def toy_split(n=12, seed=0, shape=(5, 4), n_classes=3):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    return make_split(images, np.arange(n) % n_classes)


def toy_splits(shape=(5, 4)):
    return Splits(
        toy_split(12, 0, shape), toy_split(6, 1, shape), ["nought", "öne", "two"], "made here"
    )


UNBALANCED = np.repeat([0, 1, 2, 7], [500, 250, 37, 13])


@pytest.mark.parametrize("n", [1, 4, 10, 99, 400, 799, 800])
@pytest.mark.parametrize("labels", [UNBALANCED, UNBALANCED[::-1], np.arange(800) % 9])
def test_stratified_rows_are_n_in_ascending_order_with_each_class_at_its_share(labels, n):
    rows = stratified_rows(labels, n, seed=3)
    assert len(rows) == n
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0 and rows[-1] < len(labels)
    for c in np.unique(labels):
        share = n * np.count_nonzero(labels == c) / len(labels)
        assert abs(np.count_nonzero(labels[rows] == c) - share) < 1


def test_stratified_rows_give_what_is_left_to_the_largest_remainders():
    # Shares of 4 among 5, 3 and 2: exactly 2, 1.2 and 0.8.
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    assert np.bincount(labels[stratified_rows(labels, 4, seed=0)]).tolist() == [2, 1, 1]


def test_stratified_rows_depend_on_the_seed_alone():
    first = stratified_rows(UNBALANCED, 200, seed=1)
    assert first.tolist() == stratified_rows(UNBALANCED, 200, seed=1).tolist()
    assert first.tolist() != stratified_rows(UNBALANCED, 200, seed=2).tolist()


def test_stratified_rows_reach_every_image():
    labels = np.arange(40) % 2
    reached = {int(row) for seed in range(60) for row in stratified_rows(labels, 4, seed)}
    assert reached == set(range(40))


def test_stratified_rows_refuse_more_than_there_are():
    with pytest.raises(UserError, match="11.*10"):
        stratified_rows(np.arange(10), 11, seed=0)


def test_split_off_test_divides_every_class_and_loses_nothing():
    everything = toy_split(300, shape=(2, 2))
    train, test = split_off_test(everything, 0.2, seed=5)
    assert np.bincount(test.labels).tolist() == [20, 20, 20]
    assert np.bincount(train.labels).tolist() == [80, 80, 80]
    assert sorted([*train.ids, *test.ids]) == list(range(300))
    for part in (train, test):
        np.testing.assert_array_equal(part.images, everything.images[part.ids])
        np.testing.assert_array_equal(part.labels, everything.labels[part.ids])


def test_take_subset_keeps_rows_together_and_none_keeps_all():
    splits = toy_splits()
    smaller = take_subset(splits, 6, None, seed=0)
    assert np.bincount(smaller.train.labels).tolist() == [2, 2, 2]
    np.testing.assert_array_equal(smaller.train.images, splits.train.images[smaller.train.ids])
    assert smaller.test is splits.test
    assert smaller.class_names == splits.class_names


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4), np.float32), [0, 1], "float32"),
        (np.zeros((2, 16), np.uint8), [0, 1], r"\(2, 16\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), [0, 1], "4 channels"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1, 2], "2 images with 3 labels"),
        (np.zeros((0, 4, 4), np.uint8), [], "0 images"),
        (np.zeros((2, 4, 4), np.uint8), [0, -1], "label -1"),
        (np.zeros((2, 4, 4), np.uint8), [[0], [1]], r"\(2, 1\)"),
    ],
)
def test_make_split_refuses_what_are_no_labelled_images(images, labels, message):
    with pytest.raises(UserError, match=message):
        make_split(images, np.array(labels, dtype=int))


def test_make_split_numbers_the_images_and_sets_the_types():
    split = make_split(np.zeros((3, 2, 2), np.uint8), np.array([2, 0, 1], np.uint8))
    assert split.labels.dtype == split.ids.dtype == np.int64
    assert split.labels.tolist() == [2, 0, 1]
    assert split.ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)], ids=["grey", "RGB"])
def test_a_data_set_comes_back_as_it_was_written(tmp_path, shape):
    path = tmp_path / "toy.h5"
    splits = take_subset(toy_splits(shape), 6, 3, seed=0)
    write_dataset(path, splits)
    for name in ("train", "test"):
        written, read = getattr(splits, name), read_split(path, name)
        for column in ("images", "labels", "ids"):
            mine, its = getattr(written, column), getattr(read, column)
            np.testing.assert_array_equal(its, mine)
            assert its.dtype == mine.dtype
    info = read_info(path)
    assert info.class_names == ["nought", "öne", "two"]
    assert info.source == "made here"
    assert info.n == {"train": 6, "test": 3}
    assert info.image_shape == shape


def test_the_digest_is_over_types_shapes_and_values(tmp_path):
    path = tmp_path / "toy.h5"
    splits = toy_splits()
    write_dataset(path, splits)
    both = (splits.train, splits.test)
    expected = hashlib.sha256(
        b"|u1(18, 5, 4)"
        + b"".join(part.images.tobytes() for part in both)
        + b"<i8(18,)"
        + b"".join(part.labels.astype("<i8").tobytes() for part in both)
        + b"|u1(18,)"
        + bytes(12)
        + b"\1" * 6
    ).hexdigest()
    assert read_info(path).sha256 == expected
    with h5py.File(path) as file:
        assert file["split"][:].tolist() == [0] * 12 + [1] * 6
        assert (
            content_digest(*(file[name][:] for name in ("images", "labels", "split"))) == expected
        )


@pytest.mark.parametrize("change", ["value", "shape", "type"])
def test_the_digest_changes_with_the_content(change):
    array = np.arange(12, dtype=np.int64)
    other = {
        "value": np.where(array == 5, 6, array),
        "shape": array.reshape(3, 4),
        "type": array.view(np.uint64),
    }[change]
    assert content_digest(array) != content_digest(other)


def test_a_label_without_a_name_is_refused_and_no_file_is_left(tmp_path):
    splits = Splits(toy_split(), toy_split(), ["one", "two"], "x")
    with pytest.raises(UserError, match="label 2 has no name"):
        write_dataset(tmp_path / "toy.h5", splits)
    assert list(tmp_path.iterdir()) == []


def test_splits_of_different_image_shapes_are_refused(tmp_path):
    splits = Splits(toy_split(), toy_split(shape=(5, 4, 3)), ["a", "b", "c"], "x")
    with pytest.raises(UserError, match=r"\(5, 4\).*\(5, 4, 3\)"):
        write_dataset(tmp_path / "toy.h5", splits)
    assert list(tmp_path.iterdir()) == []


def read_everything(path):
    read_info(path)
    return read_split(path, "train"), read_split(path, "test")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_a_file_cut_off_is_named(tmp_path, share):
    path = tmp_path / "toy.h5"
    write_dataset(path, toy_splits())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="toy.h5"):
        read_everything(path)


def test_a_changed_pixel_is_found_when_it_is_read(tmp_path):
    path = tmp_path / "toy.h5"
    splits = toy_splits()
    write_dataset(path, splits)
    content = bytearray(path.read_bytes())
    position = content.find(splits.train.images[3].tobytes())
    assert position > 0
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="toy.h5"):
        read_everything(path)


def test_an_overwritten_table_of_contents_is_named(tmp_path):
    path = tmp_path / "toy.h5"
    write_dataset(path, toy_splits())
    content = path.read_bytes()
    path.write_bytes(content.replace(b"images\0", b"imagos\0"))
    with pytest.raises(UserError, match="toy.h5"):
        read_everything(path)


def test_what_is_no_hdf5_or_another_one_or_missing_is_named(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name in ("text.h5", "other.h5", "missing.h5"):
        with pytest.raises(UserError, match=name):
            read_everything(tmp_path / name)


def test_raw_pixels_are_the_grey_levels_over_255_in_order():
    images = np.arange(2500 * 4, dtype=np.int64).astype(np.uint8).reshape(2500, 2, 2)
    batches = list(raw_pixels(images))
    assert len(batches) > 1
    assert all(predictions is None for _, predictions in batches)
    values = np.concatenate([features for features, _ in batches])
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, images / 255, rtol=1e-6)


# --- groups and names ---------------------------------------------------------------------------


def patients(n_groups, seed=0, n_classes=3):
    """Labels and groups of patients with 1 to 20 images, most of them of one class."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 21, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    labels = np.repeat(rng.integers(0, n_classes, n_groups), sizes)
    odd = rng.random(len(labels)) < 0.1
    labels[odd] = rng.integers(0, n_classes, odd.sum())
    mixed = rng.permutation(len(labels))
    return labels[mixed], groups[mixed]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_grouped_rows_are_whole_groups_near_each_class_s_share(share):
    labels, groups = patients(120)
    n = round(share * len(labels))
    for seed in range(5):
        rows = grouped_rows(labels, groups, n, seed)
        others = np.setdiff1d(np.arange(len(labels)), rows)
        assert not set(groups[rows]) & set(groups[others])
        assert abs(len(rows) - n) <= 20
        for c in range(3):
            assert abs(np.sum(labels[rows] == c) - share * np.sum(labels == c)) <= 20


def test_grouped_rows_are_as_near_as_scikit_learn_s():
    labels, groups = patients(120)

    def distance(rows):
        return np.abs(np.bincount(labels[rows], minlength=3) - np.bincount(labels) / 5).sum()

    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)
    theirs = np.mean([distance(test) for _, test in folds])
    n = round(len(labels) / 5)
    ours = np.mean([distance(grouped_rows(labels, groups, n, seed)) for seed in range(5)])
    assert ours <= theirs


def test_grouped_rows_depend_on_the_seed_and_not_on_the_groups_numbers():
    labels, groups = patients(40)
    rows = grouped_rows(labels, groups, 80, seed=1)
    assert rows.tolist() == grouped_rows(labels, 7 * groups + 3, 80, seed=1).tolist()
    assert rows.tolist() != grouped_rows(labels, groups, 80, seed=2).tolist()


def test_grouped_rows_take_one_group_and_leave_one_however_large_they_are():
    labels, groups = np.array([0, 1, 0, 1, 0]), np.array([5, 5, 5, 9, 9])
    assert grouped_rows(labels, groups, 1, seed=0).tolist() == [3, 4]
    assert grouped_rows(labels, groups, 4, seed=0).tolist() in ([0, 1, 2], [3, 4])
    assert grouped_rows(labels, groups, 0, seed=0).tolist() == []
    with pytest.raises(UserError, match="all images are of one group"):
        grouped_rows(labels, np.zeros(5), 1, seed=0)


def test_without_groups_a_division_is_the_one_that_it_was():
    rows = held_out_rows(UNBALANCED, 200, 1)
    assert rows.tolist() == stratified_rows(UNBALANCED, 200, 1).tolist()


def test_split_off_test_keeps_groups_together():
    labels, groups = patients(60)
    images = np.zeros((len(labels), 1, 1), np.uint8)
    names = [f"{g}/{k}.png" for k, g in enumerate(groups)]
    train, test = split_off_test(make_split(images, labels, None, groups, names), 0.2, seed=0)
    assert not set(train.groups) & set(test.groups)
    for part in (train, test):
        assert [name.split("/")[0] for name in part.names] == list(map(str, part.groups))
        np.testing.assert_array_equal(part.labels, labels[part.ids])


def named_splits(groups=(0, 0, 1)):
    images, labels = np.zeros((3, 2, 2), np.uint8), np.array([0, 1, 0])
    train = make_split(images, labels, groups=np.array(groups), names=["a.png", "ü/b.png", "c"])
    test = make_split(images, labels, groups=np.array([2, 2, 3]), names=["d", "e", "f"])
    return Splits(train, test, ["no", "yes"], "made here")


def test_groups_and_names_come_back(tmp_path):
    write_dataset(tmp_path / "named.h5", named_splits())
    train, test = (read_split(tmp_path / "named.h5", split) for split in ("train", "test"))
    assert train.names.tolist() == ["a.png", "ü/b.png", "c"]
    assert test.names.tolist() == ["d", "e", "f"]
    assert train.groups.tolist() == [0, 0, 1] and test.groups.tolist() == [2, 2, 3]
    assert test.groups.dtype == np.int64
    assert "whole" in verify(tmp_path / "named.h5")


def test_a_data_set_is_known_by_its_groups_but_not_by_its_names(tmp_path):
    splits = named_splits()
    plain = Splits(
        *(make_split(p.images, p.labels) for p in (splits.train, splits.test)), ["no", "yes"], ""
    )
    for name, one in {
        "with": splits,
        "renamed": replace(splits, train=replace(splits.train, names=splits.test.names)),
        "regrouped": named_splits((0, 1, 1)),
        "plain": plain,
    }.items():
        write_dataset(tmp_path / f"{name}.h5", one)
    digests = {p.stem: read_info(p).sha256 for p in tmp_path.glob("*.h5")}
    assert digests["with"] == digests["renamed"]
    assert len({digests["with"], digests["regrouped"], digests["plain"]}) == 3
    assert read_split(tmp_path / "plain.h5", "train").names is None
    assert read_split(tmp_path / "plain.h5", "train").groups is None


def test_a_flipped_bit_among_the_names_is_found(tmp_path):
    path = tmp_path / "named.h5"
    write_dataset(path, named_splits())
    content = bytearray(path.read_bytes())
    content[content.index("ü/b.png".encode())] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_split(path, "train")
