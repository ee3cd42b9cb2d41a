"""Classes, imbalance, label noise, mean and standard deviation: against counts and sums by hand."""

import numpy as np
import pytest

from collapseflow.images.datasets import (
    Splits,
    content_digest,
    make_split,
    read_info,
    read_split,
    write_dataset,
)
from collapseflow.images.sources import changes
from collapseflow.images.sources.known import n_used, positions_of
from collapseflow.images.sources.prepare import prepare_dataset, read_source
from collapseflow.running.errors import UserError
from collapseflow.study.schema import Dataset


def splits_of(counts, n_test=2, channels=None):
    """Training images of so many a class, whose pixels are their place; test images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    shape = (len(labels), 2, 2) if channels is None else (len(labels), 2, 2, channels)
    images = np.broadcast_to(
        np.arange(len(labels)).reshape(-1, *[1] * (len(shape) - 1)), shape
    ).astype(np.uint8)
    test = make_split(images[: n_test * len(counts)], np.repeat(np.arange(len(counts)), n_test))
    names = [chr(ord("a") + label) for label in range(len(counts))]
    return Splits(make_split(images, labels), test, names, "by hand")


# --- classes ----------------------------------------------------------------------------------


def test_classes_are_taken_in_their_order():
    splits = changes.take_classes(splits_of([3, 2, 4]), ["c", "a"], np.array([0, 1, 2]))
    assert splits.class_names == ["c", "a"]
    # Images stay in their order: those of a come first, as the class with the number 1.
    assert splits.train.labels.tolist() == [1] * 3 + [0] * 4
    assert splits.train.ids.tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert splits.train.images[:, 0, 0].tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert splits.test.labels.tolist() == [1, 1, 0, 0]
    assert splits.source == "by hand; 2 of 3 classes"


@pytest.mark.parametrize(
    ("classes", "names", "numbers", "expected"),
    [
        (["b", "a"], ["a", "b", "c"], [0, 1, 2], [1, 0]),
        ([2, 0], ["a", "b", "c"], [0, 1, 2], [2, 0]),
        # EMNIST begins with 1.
        ([3, 1], ["a", "b", "c"], [1, 2, 3], [2, 0]),
        # What is a name is one, also where it is written as a number.
        ([3, 1], ["1", "2", "3"], [0, 1, 2], [2, 0]),
        ([7, "3"], list("0123456789"), range(10), [7, 3]),
    ],
)
def test_classes_by_name_or_number(classes, names, numbers, expected):
    assert positions_of(classes, names, numbers) == expected


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        (["cat", "dgo"], "classes: 'dgo' is unknown; did you mean 'dog'? allowed: cat, dog"),
        ([0, 2], "classes: '2' is unknown; allowed: 0, 1"),
        (["cat", 1], "classes: '1' is unknown; allowed: cat, dog"),
    ],
)
def test_an_unknown_class_is_one_line(classes, line):
    with pytest.raises(UserError) as caught:
        positions_of(classes, ["cat", "dog"], [0, 1])
    assert str(caught.value) == line


def test_classes_of_a_source_with_names_of_one_s_own(tmp_path):
    names = ["null", "eins", "zwei", *"3456789"]
    entry = Dataset(source="digits", class_names=names, classes=["zwei", "null"]).entry()
    splits = read_source(entry, 0.2, 0, tmp_path)
    whole = read_source(Dataset(source="digits").entry(), 0.2, 0, tmp_path)
    assert splits.class_names == ["zwei", "null"]
    for part in ("train", "test"):
        ours, all_of_them = getattr(splits, part), getattr(whole, part)
        rows = np.flatnonzero(np.isin(all_of_them.labels, [0, 2]))
        np.testing.assert_array_equal(ours.images, all_of_them.images[rows])
        np.testing.assert_array_equal(ours.labels, all_of_them.labels[rows] == 0)


# --- imbalance --------------------------------------------------------------------------------


def test_long_tails_are_those_of_cao_et_al():
    # CIFAR-10-LT and CIFAR-100-LT with ratio 100 have 12,406 and 10,847 images.
    sizes = changes.class_sizes(np.full(10, 5000), "exponential", 100)
    assert sizes.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert changes.class_sizes(np.full(100, 500), "exponential", 100).sum() == 10_847


@pytest.mark.parametrize(
    ("available", "kind", "ratio", "expected"),
    [
        ([40] * 4, "step", 10, [40, 40, 4, 4]),
        ([40] * 5, "step", 10, [40, 40, 40, 4, 4]),
        ([30, 30, 30], "exponential", 9, [30, 10, 3]),
        ([30, 30, 30], "exponential", 1, [30, 30, 30]),
        # The second class has too few for a first one of 30: 8 x 3 are 24.
        ([30, 8, 30], "exponential", 9, [24, 8, 2]),
        # Where the first class is the smallest, the others follow it.
        ([10, 90], "step", 5, [10, 2]),
    ],
)
def test_class_sizes_by_hand(available, kind, ratio, expected):
    assert changes.class_sizes(np.array(available), kind, ratio).tolist() == expected


def test_imbalance_takes_a_seeded_sample_and_leaves_the_test_images():
    splits = splits_of([40, 40, 40])
    first, again, other = (
        changes.with_imbalance(splits, "exponential", 16, seed) for seed in (0, 0, 1)
    )
    for one in (first, other):
        assert np.bincount(one.train.labels).tolist() == [40, 10, 2]
        # Pixels are the places in the source.
        assert one.train.images[:, 0, 0].tolist() == one.train.ids.tolist()
        assert (np.diff(one.train.ids) > 0).all()
        np.testing.assert_array_equal(one.train.labels, one.train.ids // 40)
        assert one.test is splits.test
    assert first.train.ids.tolist() == again.train.ids.tolist() != other.train.ids.tolist()
    smaller = changes.with_imbalance(splits, "exponential", 4, 0)
    assert set(first.train.ids) <= set(smaller.train.ids)
    assert first.source.endswith(
        "exponential imbalance 16: 52 of 120 training images, 40 to 2 of a class"
    )


def test_a_class_of_one_image_is_one_line():
    with pytest.raises(UserError) as caught:
        changes.with_imbalance(splits_of([40, 40]), "step", 25, 0)
    assert str(caught.value) == (
        "imbalance.ratio: 25 leaves 1 of the 40 training images of the class 'b'; allowed: a ratio "
        "that leaves 2 or more of each class"
    )


# --- label noise ------------------------------------------------------------------------------


def test_a_share_of_labels_is_replaced_and_the_true_ones_are_kept():
    splits = splits_of([300, 600, 100])
    first, again, other = (changes.with_label_noise(splits, 0.3, seed) for seed in (0, 0, 1))
    for noisy in (first, other):
        train = noisy.train
        np.testing.assert_array_equal(train.true_labels, splits.train.labels)
        assert (train.labels != train.true_labels).sum() == 300
        assert noisy.test is splits.test
        # Every other class is as likely: of n replaced labels n / 2, within 5 standard deviations.
        for true in range(3):
            new = train.labels[(train.true_labels == true) & (train.labels != true)]
            counts = np.delete(np.bincount(new, minlength=3), true)
            assert abs(counts[0] - len(new) / 2) < 5 * np.sqrt(len(new)) / 2
        # And every image: of n in a class 0.3 n.
        hit = np.bincount(train.true_labels[train.labels != train.true_labels], minlength=3)
        expected = 0.3 * np.array([300, 600, 100])
        assert (abs(hit - expected) < 5 * np.sqrt(expected * 0.7)).all()
    np.testing.assert_array_equal(first.train.labels, again.train.labels)
    assert (first.train.labels != other.train.labels).any()
    assert first.source == "by hand; 300 of 1000 training labels are replaced"


def test_noise_that_meets_no_image_is_one_line():
    with pytest.raises(UserError, match="label_noise: 0.01 of 20 training images is none; allowed"):
        changes.with_label_noise(splits_of([10, 10]), 0.01, 0)


def test_only_classes_with_training_images_are_given():
    splits = splits_of([50, 0, 50])
    labels = changes.with_label_noise(splits, 0.5, 0).train.labels
    assert set(labels) == {0, 2}


# --- mean and standard deviation --------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 5, 7), (40, 5, 7, 3)])
def test_measured_is_numpy_s_mean_and_deviation_of_all_pixels(monkeypatch, shape):
    # In parts of three images.
    monkeypatch.setattr(changes, "COUNTED", 3 * np.prod(shape[1:]))
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mean, std = changes.measured(images)
    axes = (0, 1, 2)
    np.testing.assert_allclose(mean, np.ravel((images / 255).mean(axis=axes)), rtol=1e-13)
    np.testing.assert_allclose(std, np.ravel((images / 255).std(axis=axes)), rtol=1e-13)


def test_mean_and_deviation_stand_in_the_file(tmp_path):
    splits = splits_of([4, 4], channels=3)
    for mean, std in (
        ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
        ("measured", [0.4, 0.5, 0.6]),
        ("measured", "measured"),
    ):
        write_dataset(tmp_path / "a.h5", changes.with_normalization(splits, mean, std))
        info = read_info(tmp_path / "a.h5")
        own = splits.train.images / 255
        expected = [0.1, 0.2, 0.3] if mean != "measured" else own.mean(axis=(0, 1, 2))
        np.testing.assert_allclose(info.mean, expected, rtol=1e-13)
        expected = [0.4, 0.5, 0.6] if std != "measured" else own.std(axis=(0, 1, 2))
        np.testing.assert_allclose(info.std, expected, rtol=1e-13)
    write_dataset(tmp_path / "b.h5", splits)
    without = read_info(tmp_path / "b.h5")
    assert without.mean is None and without.std is None
    # They are no part of what the images are.
    assert without.sha256 == info.sha256


@pytest.mark.parametrize(
    ("mean", "std", "line"),
    [
        ([0.1] * 3, [0.2] * 3, "mean: 3 numbers for images of 1 channel; allowed: a number for"),
        ("measured", [0.2] * 3, "std: 3 numbers for images of 1 channel; allowed: a number for"),
        ([0.1], "measured", "std: all pixels of the training images are alike"),
    ],
)
def test_numbers_that_do_not_fit_the_images_are_one_line(mean, std, line):
    with pytest.raises(UserError, match=line):
        # All pixels of the one training image are 0.
        changes.with_normalization(splits_of([1], n_test=1), mean, std)


# --- together ---------------------------------------------------------------------------------


def test_everything_at_once(tmp_path):
    entry = Dataset(
        source="digits",
        classes=[3, 1, 2],
        subset={"train": 300},
        imbalance={"kind": "exponential", "ratio": 4},
        label_noise=0.25,
        mean="measured",
        std="measured",
    ).entry()
    path = tmp_path / "data.h5"
    prepare_dataset(entry, 0.2, 0, tmp_path, path)
    info, train, test = read_info(path), read_split(path, "train"), read_split(path, "test")
    whole = read_source(Dataset(source="digits").entry(), 0.2, 0, tmp_path)
    assert info.class_names == ["3", "1", "2"]
    # The sample has as good as 100 images of each class.
    counts = np.bincount(train.true_labels)
    assert abs(counts - [100, 50, 25]).max() <= 2
    assert (train.labels != train.true_labels).sum() == round(0.25 * counts.sum())
    assert test.true_labels is None
    # What the images truly are: by where they stand in the source.
    of_source = dict(zip(whole.train.ids.tolist(), whole.train.labels.tolist(), strict=True))
    truly = [of_source[place] for place in train.ids.tolist()]
    assert np.array([3, 1, 2])[train.true_labels].tolist() == truly
    np.testing.assert_allclose(info.mean, [(train.images / 255).mean()], rtol=1e-13)
    np.testing.assert_allclose(info.std, [(train.images / 255).std()], rtol=1e-13)
    every = [np.concatenate(parts) for parts in zip(*map(arrays, (train, test)), strict=True)]
    split = np.repeat(np.arange(2, dtype=np.uint8), [len(train.labels), len(test.labels)])
    assert info.sha256 == content_digest(every[0], every[1], split, every[2])


def arrays(split):
    true = split.labels if split.true_labels is None else split.true_labels
    return split.images, split.labels, true


def test_true_labels_count_among_what_the_images_are(tmp_path):
    """Two sources with the same noisy labels and other true ones are other data sets."""
    digests = []
    for true in (None, [0, 0, 1, 1], [1, 0, 1, 0]):
        split = make_split(np.zeros((4, 2, 2), np.uint8), np.array([0, 0, 1, 1]))
        noisy = split if true is None else changes.replace(split, true_labels=np.array(true))
        write_dataset(tmp_path / "a.h5", Splits(noisy, split, ["a", "b"], "x"))
        found = read_split(tmp_path / "a.h5", "train").true_labels
        assert true is None and found is None or found.tolist() == true
        digests.append(read_info(tmp_path / "a.h5").sha256)
    assert len(set(digests)) == 3


def test_what_is_not_asked_for_is_no_part_of_an_entry():
    """Data sets of before there were these keys are not prepared anew."""
    keys = {"classes", "imbalance", "label_noise", "mean", "std"}
    assert not keys & Dataset(source="digits").entry().keys()
    used = Dataset(source="digits", label_noise=0.1, mean=[0.1], std=[1]).entry()
    assert keys & used.keys() == {"label_noise", "mean", "std"}


@pytest.mark.parametrize(
    ("keys", "is_part"),
    [
        ({}, False),
        ({"label_noise": 0.1}, False),
        ({"subset": {"test": 100}}, True),
        ({"classes": [1, 2]}, True),
        ({"imbalance": {"kind": "step", "ratio": 2}}, True),
    ],
)
def test_what_leaves_out_images_is_told_from_what_changes_labels(keys, is_part):
    assert Dataset(source="digits", **keys).is_part is is_part


def test_numbers_of_images_are_known_where_nothing_changes_them():
    known = {"source": "digits", "subset": {"train": 100, "test": None}}
    assert n_used(known, 0.2) == {"train": 100, "test": 359}
    assert n_used({**known, "classes": [1, 2]}, 0.2) == {"train": 100}
    assert n_used({**known, "imbalance": {"kind": "step", "ratio": 2}}, 0.2) == {"test": 359}
