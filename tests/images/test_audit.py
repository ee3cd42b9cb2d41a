"""What is found out about the images of a data set."""

from itertools import combinations, product

import numpy as np
import pytest

from collapseflow.images import audit as module
from collapseflow.images.audit import audit, thumbnails_of
from collapseflow.images.datasets import Splits, make_split, write_dataset


@pytest.fixture
def look(tmp_path):
    """A function that audits training and test images with their labels."""

    def of(train, train_labels, test, test_labels, n_classes=3):
        path = tmp_path / "images.h5"
        parts = make_split(train, train_labels), make_split(test, test_labels)
        write_dataset(path, Splits(*parts, [f"c{c}" for c in range(n_classes)], "made up"))
        return audit(path, seed=0)

    return of


@pytest.fixture
def images():
    """Random images, 40 for training and 25 for tests, with their labels."""
    rng = np.random.default_rng(0)
    both = rng.integers(0, 200, (65, 19, 23), np.uint8)
    labels = rng.integers(0, 3, 65)
    return both[:40], labels[:40], both[40:], labels[40:]


def thumbnail_by_hand(image):
    """The means of 16 parts by 16, of an image of at least so many pixels a side."""
    grey = image.astype(float) if image.ndim == 2 else image.astype(float).mean(axis=2)
    rows, columns = ([k * n // 16 for k in range(17)] for n in grey.shape)
    return np.array(
        [
            [grey[a:b, c:d].mean() for c, d in zip(columns, columns[1:], strict=False)]
            for a, b in zip(rows, rows[1:], strict=False)
        ]
    )


@pytest.mark.parametrize("shape", [(28, 28), (16, 40), (33, 17, 3)])
def test_products_of_thumbnails_are_pearson_s_correlations(shape):
    images = np.random.default_rng(1).integers(0, 256, (5, *shape), np.uint8)
    found = thumbnails_of(images)
    by_hand = np.corrcoef([thumbnail_by_hand(image).ravel() for image in images])
    np.testing.assert_allclose(found @ found.T, by_hand, atol=1e-5)


def test_small_images_are_their_own_thumbnails_and_flat_ones_have_none():
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8), np.uint8)
    images[1] = 77
    found = thumbnails_of(images)
    assert found.shape == (3, 64) and not found[1].any()
    expected = np.corrcoef(images[[0, 2]].reshape(2, -1))[0, 1]
    assert found[0] @ found[2] == pytest.approx(expected, abs=1e-5)


def test_classes_sizes_and_constant_images_are_counted(look, images):
    train, train_labels, test, _ = images
    train[[3, 7]], test[0] = 12, 200
    found = look(train, train_labels, test, np.zeros(25, int))
    assert found["shape"] == [19, 23] and found["n"] == {"train": 40, "test": 25}
    assert found["classes"]["train"] == [(train_labels == c).sum() for c in range(3)]
    assert found["classes"]["test"] == [25, 0, 0]
    assert found["constant"] == {"train": 2, "test": 1}
    # Two of them are equal, and none is near to another.
    assert found["exact"]["train"]["images"] == 2 and found["exact"]["across"]["images"] == 0
    assert all(part["images"] == 0 for part in found["near_duplicates"].values())


def test_equal_images_are_counted_by_image_with_those_of_other_labels(look, images):
    train, train_labels, test, test_labels = images
    train[5] = train[9] = train[0]
    train_labels[[0, 5, 9]] = 0, 0, 1
    test[2] = test[3] = train[0]
    test_labels[[2, 3]] = 0, 2
    test[4], test_labels[4] = train[20], train_labels[20]
    found = look(train, train_labels, test, test_labels)
    assert found["exact"] == {
        # All three have one with another label: 0 and 5 have image 9.
        "train": {"images": 3, "other_label": 3},
        "test": {"images": 2, "other_label": 2},
        "across": {"images": 3, "other_label": 2},
    }
    pairs = [pair["rows"] for pair in found["closest"]["across"] if pair["correlation"] == 1]
    expected = [[40 + t, r] for t, r in product((2, 3), (0, 5, 9))] + [[44, 20]]
    assert sorted(pairs) == expected
    assert all(part["images"] == 0 for part in found["near_duplicates"].values())


@pytest.mark.parametrize("block", [7, 2048])
def test_near_duplicates_and_closest_pairs_are_those_of_all_pairs(look, images, monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    train, train_labels, test, test_labels = images
    rng = np.random.default_rng(2)
    # Brighter, of less contrast, and with a little noise.
    train[30] = train[1] // 2 + 90
    test[6] = train[2] + rng.integers(0, 4, train[2].shape, np.uint8)
    test[7] = np.where(rng.random(train[3].shape) < 0.05, 255, train[3])
    train_labels[2], test_labels[6] = 0, 1
    found = look(train, train_labels, test, test_labels)
    flat = [thumbnail_by_hand(image).ravel() for image in (*train, *test)]
    correlations = np.corrcoef(flat)
    pairs = {
        "train": list(combinations(range(40), 2)),
        "test": list(combinations(range(40, 65), 2)),
        "across": list(product(range(40, 65), range(40))),
    }
    for kind, of_kind in pairs.items():
        values = sorted((correlations[pair] for pair in of_kind), reverse=True)[: module.CLOSEST]
        closest = found["closest"][kind]
        assert [pair["correlation"] for pair in closest] == pytest.approx(values, abs=1e-5)
        for pair in closest:
            assert correlations[tuple(pair["rows"])] == pytest.approx(pair["correlation"], abs=1e-5)
    labels = np.concatenate([train_labels, test_labels])
    near = [pair for pair in pairs["across"] if correlations[pair] >= module.NEAR]
    assert (46, 2) in near
    assert found["near_duplicates"]["across"] == {
        "images": len({a for a, _ in near}),
        "other_label": len({a for a, b in near if labels[a] != labels[b]}),
    }
    assert found["near_duplicates"]["train"]["images"] == 2
    assert not any(part["images"] for part in found["exact"].values())


def test_of_very_many_images_a_sample_is_compared(look, images, monkeypatch):
    monkeypatch.setattr(module, "MOST_COMPARED", 20)
    train, train_labels, test, test_labels = images
    test[:] = train[:25]
    found = look(train, train_labels, test, test_labels)
    assert found["compared"] == 20
    # Exact duplicates are looked for among all.
    assert found["exact"]["across"]["images"] == 25


def test_images_are_read_in_blocks_with_the_same_result(look, images, monkeypatch):
    whole = look(*images)
    monkeypatch.setattr(module, "BLOCK_BYTES", 19 * 23 * 3)
    assert look(*images) == whole
