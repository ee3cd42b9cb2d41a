"""The reduced statistics against loops over the samples, on any blocks, shards and threads."""

import threading
import time
from dataclasses import fields

import h5py
import numpy as np
import pytest
import xxhash
from scipy.spatial.distance import pdist
from threadpoolctl import threadpool_info, threadpool_limits

from collapseflow.features import stores
from collapseflow.measures import statistics as module
from collapseflow.measures.collapse import measure, measure_states
from collapseflow.measures.intervals import effective_share, wilson_interval
from collapseflow.measures.statistics import (
    MATCHED,
    TRUE,
    TRUE_MATCHED,
    ClassSums,
    map_blocks,
    matched_rows,
    read_statistics,
    reduce_stores,
    reduce_stream,
    scatter_around,
    squared_distances,
    statistics_of,
    sum_classes,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.presentation.rows import rows_of_states
from collapseflow.running.errors import UserError
from collapseflow.running.files import checksum_file

#: What does not depend on the basis of the span, by the names of the attributes.
FREE_OF_BASIS = ("classes", "counts", "means", "squared", "fourth", "directional", "norms")
COUNTS = ("nearest", "predicted", "agreeing")


def stream_of(features, labels, predictions=None, sizes=None):
    """Blocks of the given sizes, over and over; everything at once by default."""

    def blocks(blocks_in_use):
        row, turn = 0, 0
        while row < len(labels):
            size = len(labels) if sizes is None else sizes[turn % len(sizes)]
            part = slice(row, row + size)
            yield features[part], labels[part], None if predictions is None else predictions[part]
            row, turn = row + size, turn + 1

    return blocks


def make_case(n, d, n_classes, seed, spread=1.0, dtype=np.float64):
    """Features, labels and predictions; every class has a sample."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    rng.shuffle(labels)
    features = spread * rng.normal(size=(n_classes, d))[labels] + rng.normal(size=(n, d)) + 3
    predictions = np.where(rng.random(n) < 0.3, rng.integers(0, n_classes, n), labels)
    return features.astype(dtype), labels, predictions


def loops(features, labels, predictions, training=None):
    """Every attribute that does not depend on the basis, sample by sample in float64."""
    x = features.astype(np.float64)
    classes = np.unique(labels)
    means = np.stack([x[labels == c].mean(axis=0) for c in classes])
    if training is None:
        training = classes, means
    place = {c: row for row, c in enumerate(classes.tolist())}
    zeros = np.zeros(len(classes))
    answer = {name: zeros.copy() for name in ("counts", "squared", "fourth", "norms", *COUNTS)}
    answer |= {"classes": classes, "means": means}
    answer["directional"] = np.zeros((len(classes),) * 2)
    for h, label, prediction in zip(x, labels.tolist(), predictions.tolist(), strict=True):
        c = place[label]
        delta = h - means[c]
        answer["counts"][c] += 1
        answer["norms"][c] += np.sqrt((h**2).sum())
        answer["squared"][c] += (delta**2).sum()
        answer["fourth"][c] += (delta**2).sum() ** 2
        answer["directional"][c] += ((means - means[c]) @ delta) ** 2
        nearest = training[0][((training[1] - h) ** 2).sum(axis=1).argmin()]
        answer["nearest"][c] += nearest == label
        answer["predicted"][c] += prediction == label
        answer["agreeing"][c] += prediction == nearest
    return answer


def check(found, features, labels, predictions, training=None):
    """Equal to the loops; and what depends on the basis is what it says, in some basis."""
    expected = loops(features, labels, predictions, training)
    scale = np.abs(features).max()
    for name in FREE_OF_BASIS:
        np.testing.assert_allclose(
            getattr(found, name), expected[name], rtol=1e-9, atol=1e-12 * scale, err_msg=name
        )
    for name in COUNTS:
        value = getattr(found, name)
        assert value.dtype == np.int64
        assert value.tolist() == expected[name].tolist(), name
    x = features.astype(np.float64)
    centred = expected["means"] - x.mean(axis=0)
    rank = np.linalg.matrix_rank(centred)
    assert found.coordinates.shape == (len(centred), rank)
    gram = found.coordinates @ found.coordinates.T
    np.testing.assert_allclose(gram, centred @ centred.T, rtol=1e-9, atol=1e-11 * gram.max())
    axes = found.coordinates.T @ found.coordinates
    np.testing.assert_allclose(axes, np.diag(np.diag(axes)), atol=1e-11 * axes.max())
    assert (np.diff(np.diag(axes)) <= 0).all()
    # a_i^T (sum of z z^T) a_j = m_i^T (sum of (h - mu_c)(h - mu_c)^T) m_j.
    rows = np.searchsorted(expected["classes"], labels)
    along = (x - expected["means"][rows]) @ centred.T
    seen = found.coordinates @ found.scatter @ found.coordinates.T
    np.testing.assert_allclose(seen, along.T @ along, rtol=1e-9, atol=1e-10 * seen.max())
    # The same with the mean over each class in place of its sum.
    means = sum(along[rows == c].T @ along[rows == c] / (rows == c).sum() for c in set(rows))
    seen = found.coordinates @ found.balanced @ found.coordinates.T
    np.testing.assert_allclose(seen, means, rtol=1e-9, atol=1e-10 * seen.max())
    assert (found.n_samples, found.n_features) == x.shape
    assert found.n_classes == len(centred)
    np.testing.assert_allclose(found.global_mean, x.mean(axis=0), rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(
        found.variances, expected["squared"] / expected["counts"], rtol=1e-9, atol=1e-12 * scale
    )
    first, second = np.triu_indices(len(centred), k=1)
    between = ((centred[first] - centred[second]) ** 2).sum(axis=1)
    np.testing.assert_allclose(found.distances, between, rtol=1e-9, atol=1e-12 * scale)


def bits(statistics):
    """All arrays as bytes."""
    values = {field.name: getattr(statistics, field.name) for field in fields(statistics)}
    return {
        name: None if value is None else (value.dtype, value.shape, value.tobytes())
        for name, value in values.items()
    }


@pytest.mark.parametrize(
    ("n", "d", "n_classes"),
    [(200, 12, 5), (40, 150, 4), (300, 3, 10), (90, 30, 2), (64, 64, 10)],
    ids=["n>d", "d>n", "classes>d", "two classes", "n=d"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_statistics_equal_loops_over_the_samples(n, d, n_classes, dtype):
    case = make_case(n, d, n_classes, seed=n + d, dtype=dtype)
    found, _ = reduce_stream(stream_of(*case))
    check(found, *case)
    assert found.coordinates.shape[1] == min(n_classes - 1, d)
    absent = {"head_weight", "head_bias", "effective"}
    floats = set(vars(found)) - {"classes", "counts", *COUNTS, *absent}
    assert {getattr(found, name).dtype for name in floats} == {np.dtype(np.float64)}


def test_absent_and_single_image_classes_of_unequal_size():
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat([0, 2, 5, 900], [100, 30, 5, 1]))
    features = rng.normal(size=(901, 8))[labels] * 2 + rng.normal(size=(len(labels), 8))
    found, _ = reduce_stream(stream_of(features, labels, labels))
    check(found, features, labels, labels)
    assert found.classes.tolist() == [0, 2, 5, 900]
    assert found.squared[3] == pytest.approx(0, abs=1e-25)


def test_a_thousand_classes():
    case = make_case(2500, 30, 1000, seed=11)
    check(reduce_stream(stream_of(*case, [400]))[0], *case)


def test_means_in_a_plane_have_rank_two():
    rng = np.random.default_rng(2)
    labels = np.arange(60) % 6
    features = (rng.normal(size=(6, 2)) @ rng.normal(size=(2, 9)))[labels]
    noise = rng.normal(size=(60, 9))
    for c in range(6):
        noise[labels == c] -= noise[labels == c].mean(axis=0)
    found, _ = reduce_stream(stream_of(features + noise, labels))
    assert found.coordinates.shape == (6, 2)
    check(
        reduce_stream(stream_of(features + noise, labels, labels))[0],
        features + noise,
        labels,
        labels,
    )


def test_far_from_the_origin_the_samples_around_their_means_keep_their_digits():
    # Exact in float64: multiples of 1/8 beside 2^30.
    features = np.round(8 * make_case(200, 6, 4, seed=3, spread=9)[0]) / 8
    labels = make_case(200, 6, 4, seed=3)[1]
    near, _ = reduce_stream(stream_of(features, labels))
    far, _ = reduce_stream(stream_of(features + 2.0**30, labels))
    for name in ("squared", "fourth", "directional", "distances"):
        np.testing.assert_allclose(getattr(far, name), getattr(near, name), rtol=1e-6)
    assert far.nearest.tolist() == near.nearest.tolist()


def test_the_smallest_directions_of_the_means_keep_their_digits():
    """Class means along axes of lengths 1 to 1e-9: their Gram matrix would hold 1 and 1e-18."""
    scales = np.array([1, 1e-3, 1e-6, 1e-9])
    features = np.repeat(np.concatenate([np.diag(scales), -np.diag(scales)]), 2, axis=0)
    found, _ = reduce_stream(stream_of(features, np.arange(16) // 2))
    lengths = np.sqrt(np.square(found.coordinates).sum(axis=0))
    np.testing.assert_allclose(lengths, np.sqrt(2) * scales, rtol=1e-6)


# --- the test split ---------------------------------------------------------------------------


@pytest.mark.parametrize("d", [3, 12, 60])
def test_the_nearest_mean_on_the_test_split_is_one_of_the_training_set(d):
    train = make_case(150, d, 6, seed=4)
    # Other classes: 1 is absent here, and no training sample has 7.
    features, labels, predictions = make_case(90, d, 6, seed=5)
    others = np.array([0, 7, 2, 3, 4, 5])
    labels, predictions = others[labels], others[predictions]
    _, means = reduce_stream(stream_of(*train))
    found, _ = reduce_stream(stream_of(features, labels, predictions), training=means)
    of_train = loops(*train)
    training = of_train["classes"], of_train["means"]
    check(found, features, labels, predictions, training)
    assert found.nearest[found.classes.tolist().index(7)] == 0
    own = loops(features, labels, predictions)["nearest"]
    assert found.nearest.tolist() != own.tolist()


def test_stores_of_both_splits_with_a_head(tmp_path, provenance):
    cases = {
        split: make_case(n, 5, 4, 6, dtype=np.float32) for split, n in (("train", 80), ("test", 40))
    }
    rng = np.random.default_rng(7)
    head = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    paths = {}
    for split, (features, labels, predictions) in cases.items():
        paths[split] = tmp_path / f"{split}.h5"
        ids = np.arange(len(labels))
        with stores.open_writer(paths[split], labels, ids, provenance, head) as writer:
            writer.add(features, predictions)
    # The order in which they are named does not matter.
    found = reduce_stores(dict(reversed(paths.items())))
    check(found["train"], *cases["train"])
    of_train = loops(*cases["train"])
    check(found["test"], *cases["test"], (of_train["classes"], of_train["means"]))
    for split in cases:
        np.testing.assert_array_equal(found[split].head_weight, head[0].astype(np.float64))
        np.testing.assert_array_equal(found[split].head_bias, head[1].astype(np.float64))
        assert found[split].head_weight.dtype == found[split].head_bias.dtype == np.float64


def test_accuracies_of_images_in_groups_have_intervals_over_the_groups(tmp_path, provenance):
    features, labels, predictions = make_case(400, 3, 4, 5, dtype=np.float32)
    # Whole groups of ten images are predicted well, or badly.
    groups = np.random.default_rng(0).permutation(400) // 10
    predictions = np.where(groups % 3 > 0, labels, predictions)
    path = tmp_path / "test.h5"
    ids = np.arange(400)
    with stores.open_writer(path, labels, ids, provenance, groups=groups) as writer:
        writer.add(features, predictions)
    found = reduce_stores({"train": path, "test": path})
    means = np.stack([features[labels == c].mean(axis=0, dtype=np.float64) for c in range(4)])
    nearest = np.linalg.norm(features[:, None] - means, axis=2).argmin(axis=1)
    expected = [effective_share(groups, said == labels) for said in (nearest, predictions)]
    np.testing.assert_allclose(found["test"].effective, expected)
    assert expected[1] < 0.9 and found["train"].effective is None
    write_statistics(tmp_path / "state.npz", {"layer": found}, [])
    state = measure_states({0: tmp_path / "state.npz"}, ["layer"])
    rows = {(row["quantity"], row["split"]): row for row in rows_of_states(state)}
    row = rows["accuracy", "test"]
    ends = wilson_interval(row["value"], 400, expected[1])
    assert (row["low"], row["high"]) == pytest.approx(ends)
    assert rows["accuracy", "train"]["low"] is None


def test_without_predictions_or_a_head_there_are_none(make_store):
    features, labels, _ = make_case(30, 4, 3, seed=8, dtype=np.float32)
    found = reduce_stores({"train": make_store(features, labels)})
    assert list(found) == ["train"]
    for name in ("predicted", "agreeing", "head_weight", "head_bias"):
        assert getattr(found["train"], name) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_in_one_line(make_store, bad):
    features, labels, _ = make_case(30, 4, 3, seed=8)
    labels = 2 * labels
    features[7, 2] = bad
    with pytest.raises(ValueError, match=f"features of the class {labels[7]} are not finite"):
        reduce_stream(stream_of(features, labels))
    path = make_store(np.zeros((30, 4), np.float32), labels)
    with h5py.File(path, "r+") as file:
        file["features"][:] = features
        blocks = [features.astype(np.float32)]
        file["checksums"][:] = [xxhash.xxh3_64_intdigest(block) for block in blocks]
        checksums = file["checksums"][:]
        others = {name: file[name][:] for name in stores.COLUMNS if name in file}
        shape, rows = file.attrs["shape"], file.attrs["rows_per_block"]
        file.attrs["digest"] = stores.content_digest(shape, rows, checksums, others)
    checksum_file(path).unlink()
    with pytest.raises(UserError, match=f"{path.name}: the features of the class .* not finite"):
        reduce_stores({"train": path})


# --- the training images that are compared with the test images -------------------------------


def test_a_matched_sample_has_as_many_training_images_of_a_class_as_there_are_test_images():
    rng = np.random.default_rng(16)
    training = rng.permutation(np.repeat([0, 1, 2, 5, 7], [90, 40, 3, 20, 8]))
    # Class 2 has more test images, 7 has none, and no training image is of class 4.
    test = rng.permutation(np.repeat([0, 1, 2, 4, 5], [11, 10, 6, 9, 1]))
    rows = matched_rows(training, test)
    assert (np.diff(rows) > 0).all()
    assert np.bincount(training[rows]).tolist() == [11, 10, 3, 0, 0, 1]
    # The same for all states: it depends on nothing but the labels, and on test labels' number.
    np.testing.assert_array_equal(matched_rows(training, np.sort(test)), rows)
    # From all over the class, not its first images.
    assert rows[training[rows] == 0].max() > np.flatnonzero(training == 0)[45]


def split_case(sizes, d, seed):
    """Features, labels and predictions of a class each for the given numbers of samples."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    features = (
        rng.normal(size=(len(sizes), d))[labels] + rng.normal(size=(len(labels), d))
    ).astype(np.float32)
    return features, labels, np.where(rng.random(len(labels)) < 0.3, 0, labels)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_matched_sample_has_its_own_means_and_the_nearest_of_all_training_images(
    make_store, monkeypatch, threads
):
    monkeypatch.setattr(stores, "BLOCK_BYTES", 400)
    train, test = split_case([60, 30, 9], 5, 17), split_case([20, 12, 11], 5, 18)
    paths = {"train": make_store(*train, "train.h5"), "test": make_store(*test, "test.h5")}
    found = reduce_stores(paths, threads)
    assert list(found) == ["train", "test", MATCHED]
    rows = matched_rows(train[1], test[1])
    assert np.bincount(train[1][rows]).tolist() == [20, 12, 9]
    of_train = loops(*train)
    means = of_train["classes"], of_train["means"]
    check(found[MATCHED], *(part[rows] for part in train), means)
    # What stands beside it is as if it were not there.
    whole, own = reduce_stream(stream_of(*train, [20]), threads)
    assert bits(found["train"]) == bits(whole)
    alone, _ = reduce_stream(stream_of(*test, [20]), threads, own)
    assert bits(found["test"]) == bits(alone)
    assert bits(reduce_stores(paths, 3)[MATCHED]) == bits(found[MATCHED])


def test_as_many_test_images_as_training_images_match_all_of_them(make_store):
    train, test = split_case([9, 7], 4, 19), split_case([9, 8], 4, 20)
    paths = {"train": make_store(*train, "train.h5"), "test": make_store(*test, "test.h5")}
    found = reduce_stores(paths)
    assert bits(found[MATCHED]) == bits(found["train"])


@pytest.mark.parametrize("threads", [1, 2])
def test_where_labels_were_replaced_the_true_ones_are_measured_too(
    make_store, monkeypatch, threads
):
    monkeypatch.setattr(stores, "BLOCK_BYTES", 400)
    train, test = split_case([60, 30, 20], 5, 17), split_case([20, 12, 11], 5, 18)
    features, true, predictions = train
    rng = np.random.default_rng(19)
    noisy = np.where(rng.random(len(true)) < 0.2, rng.integers(0, 3, len(true)), true)
    paths = {
        "train": make_store(features, noisy, predictions, "train.h5", true),
        "test": make_store(*test, "test.h5"),
    }
    found = reduce_stores(paths, threads)
    assert list(found) == ["train", "test", MATCHED, TRUE, TRUE_MATCHED]
    # By the labels that were trained on: as if there were no others.
    without = {**paths, "train": make_store(features, noisy, predictions, "without.h5")}
    for split, alone in reduce_stores(without, threads).items():
        assert bits(found[split]) == bits(alone)
    # By the true ones: the same images, with the means of these classes.
    check(found[TRUE], features, true, predictions)
    of_true = loops(features, true, predictions)
    rows = matched_rows(true, test[1])
    means = of_true["classes"], of_true["means"]
    check(found[TRUE_MATCHED], features[rows], true[rows], predictions[rows], means)
    # NC1 and accuracy by the dense formula.
    x = features.astype(np.float64)
    centres = np.stack([x[true == c].mean(axis=0) for c in range(3)])
    within = (x - centres[true]).T @ (x - centres[true]) / len(x)
    away = centres - x.mean(axis=0)
    nc1 = np.trace(within @ np.linalg.pinv(away.T @ away / 3, rcond=1e-9)) / 3
    measured = measure(found[TRUE])
    assert measured["nc1"] == pytest.approx(nc1, rel=1e-9)
    assert measured["accuracy"] == np.mean(predictions == true)
    assert measure(found["train"])["accuracy"] == np.mean(predictions == noisy)
    alone = reduce_stores({"train": paths["train"]}, threads)
    assert list(alone) == ["train", TRUE]
    assert bits(alone[TRUE]) == bits(found[TRUE])


def test_splits_without_a_class_in_common_are_refused(make_store):
    features, labels, predictions = split_case([9, 7], 4, 19)
    paths = {
        "train": make_store(features, labels, predictions, "train.h5"),
        "test": make_store(features, labels + 2, predictions, "test.h5"),
    }
    with pytest.raises(UserError, match=r"train\.h5: shares no class with .*test\.h5"):
        reduce_stores(paths)


def test_on_noise_the_matched_sample_tells_what_the_test_images_tell(make_store):
    """NC1 and CDNV of features that know nothing of the labels grow with the images of a class."""
    rng = np.random.default_rng(21)
    d, n = 40, {"train": 600, "test": 60}
    paths = {
        split: make_store(
            rng.normal(size=(5 * count, d)).astype(np.float32),
            np.arange(5 * count) % 5,
            None,
            f"{split}.h5",
        )
        for split, count in n.items()
    }
    found = {split: measure(of_split) for split, of_split in reduce_stores(paths).items()}
    for quantity in ("nc1", "nc1_balanced", "cdnv", "directional_cdnv", "nc1_quotient"):
        assert found["train"][quantity] > 5 * found["test"][quantity]
        assert found[MATCHED][quantity] == pytest.approx(found["test"][quantity], rel=0.35)


# --- blocks, shards and threads ---------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1], [7], [64, 3, 1, 20], [1000]])
def test_the_size_of_the_blocks_does_not_matter(sizes):
    case = make_case(150, 10, 6, seed=9)
    check(reduce_stream(stream_of(*case, sizes))[0], *case)


@pytest.mark.parametrize("piece_bytes", [1, 500, 3000])
def test_the_size_of_the_pieces_does_not_matter(monkeypatch, piece_bytes):
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    case = make_case(150, 10, 6, seed=9, dtype=np.float32)
    check(reduce_stream(stream_of(*case, [70]))[0], *case)


@pytest.mark.parametrize("slices", [8, 11, 149])
def test_the_size_of_the_products_does_not_matter(monkeypatch, slices):
    case = make_case(150, 10, 6, seed=9, dtype=np.float32)
    # Five directions of ten features.
    monkeypatch.setattr(module, "SMALL_PRODUCT", slices * 50)
    check(reduce_stream(stream_of(*case))[0], *case)


def test_classes_may_first_show_up_in_any_block():
    case = make_case(60, 7, 5, seed=10)
    for order in (np.argsort(case[1], kind="stable"), np.argsort(-case[1], kind="stable")):
        ordered = [part[order] for part in case]
        check(reduce_stream(stream_of(*ordered, [9]))[0], *ordered)


@pytest.mark.parametrize("d", [3, 9])
def test_shards_of_the_data_can_be_merged(d):
    case = make_case(200, d, 5, seed=12)
    # Sorted by label: no half has all classes.
    order = np.argsort(case[1], kind="stable")
    ordered = [part[order] for part in case]
    every_third = [slice(first, None, 3) for first in range(3)]
    for shards in (every_third, [slice(70), slice(70, None)]):
        parts = [stream_of(*(part[shard] for part in ordered)) for shard in shards]
        sums = ClassSums()
        for part in parts:
            sums.merge(sum_classes(part))
        means = sums.means()
        total, *others = (scatter_around(means, means, part) for part in parts)
        for other in others:
            total.merge(other)
        check(statistics_of(means, total), *case)


@pytest.mark.parametrize("n_classes", [10, 1000])
def test_the_number_of_threads_changes_no_bit(n_classes):
    features, labels, predictions = make_case(3000, 70, n_classes, seed=13, dtype=np.float32)
    # Labels far apart, some of them in few blocks only.
    stream = stream_of(features, labels**2, predictions**2, [150, 40, 333])
    one, _ = reduce_stream(stream, threads=1)
    for threads in (2, 5):
        assert bits(reduce_stream(stream, threads=threads)[0]) == bits(one)


def test_stores_of_many_blocks_on_any_number_of_threads(make_store, monkeypatch):
    monkeypatch.setattr(stores, "BLOCK_BYTES", 4000)
    case = make_case(900, 50, 6, seed=14, dtype=np.float32)
    path = make_store(*case)
    answers = [reduce_stores({"train": path}, threads)["train"] for threads in (1, 2, 3)]
    assert bits(answers[0]) == bits(answers[1]) == bits(answers[2])
    check(answers[0], *case)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_damaged_store_is_named(make_store, monkeypatch, threads):
    monkeypatch.setattr(stores, "BLOCK_BYTES", 4000)
    path = make_store(*make_case(900, 50, 6, seed=14, dtype=np.float32))
    with h5py.File(path, "r+") as file:
        file["features"][500, 3] += 1e-3
    checksum_file(path).unlink()
    with pytest.raises(UserError, match=f"{path.name}: .*rows 500 to 519 are damaged"):
        reduce_stores({"train": path}, threads)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_answers_come_in_the_order_of_the_blocks(threads):
    def slow_at_first(features, labels, predictions):
        time.sleep(0.02 if features[0, 0] % 4 == 0 else 0)
        return int(features[0, 0])

    blocks = [(np.full((1, 1), number), np.zeros(1, int), None) for number in range(23)]
    answers = map_blocks(slow_at_first, lambda blocks_in_use: blocks, threads)
    assert list(answers) == list(range(23))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_stream_may_take_turns_with_as_many_blocks_as_it_is_asked_for(threads):
    """The first block is worked on until all other blocks in use have been read."""
    read = []

    def stream(blocks_in_use):
        memory = np.zeros((blocks_in_use, 1, 1))
        for number in range(20):
            memory[number % blocks_in_use] = number
            read.append(number)
            yield memory[number % blocks_in_use], np.full(1, number), None

    def look_again_later(features, labels, predictions):
        if labels[0] == 0 and threads > 1:
            deadline = time.monotonic() + 30
            while len(read) < threads + 1 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.05)  # A block too many would be read now.
        return float(features[0, 0])

    assert list(map_blocks(look_again_later, stream, threads)) == list(range(20))


def test_threads_work_at_the_same_time():
    both = threading.Barrier(2, timeout=20)

    def meet(features, labels, predictions):
        both.wait()

    blocks = [(np.zeros((1, 1)), np.zeros(1, int), None)] * 4
    assert list(map_blocks(meet, lambda blocks_in_use: blocks, 2)) == [None] * 4


def test_blas_keeps_to_the_threads_that_call_it():
    def blas_threads(features, labels, predictions):
        return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]

    blocks = [(np.zeros((1, 1)), np.zeros(1, int), None)]
    with threadpool_limits(2, user_api="blas"):
        (answer,) = map_blocks(blas_threads, lambda blocks_in_use: blocks, 2)
    assert answer and set(answer) == {1}


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_block_ends_the_pass(threads):
    def fail(features, labels, predictions):
        raise ArithmeticError("block")

    stream = stream_of(np.zeros((9, 1)), np.arange(9), sizes=[2])
    with pytest.raises(ArithmeticError, match="block"):
        list(map_blocks(fail, stream, threads))


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def layers():
    """Statistics of two layers; the second has a head and predictions, the first no test split."""
    features, labels, predictions = make_case(30, 4, 3, seed=15)
    head = np.ones((3, 4), np.float32), np.zeros(3, np.float32)
    bare, _ = reduce_stream(stream_of(features, labels))
    full, means = reduce_stream(stream_of(features, labels, predictions), head=head)
    test, _ = reduce_stream(stream_of(features[:20], labels[:20]), training=means)
    return {"layer1.0.relu": {"train": bare}, "penultimate": {"train": full, "test": test}}


def test_a_file_gives_back_what_was_written(tmp_path, layers):
    path = tmp_path / "epoch001.npz"
    write_statistics(path, layers, ["a 1", "b 2"])
    state = read_statistics(path)
    assert state.failed is None
    assert {"a 1", "b 2"} <= set(state.made_with)
    assert {layer: list(splits) for layer, splits in state.layers.items()} == {
        "layer1.0.relu": ["train"],
        "penultimate": ["test", "train"],
    }
    for layer, splits in layers.items():
        for split, statistics in splits.items():
            assert bits(state.layers[layer][split]) == bits(statistics)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".epoch001.npz.xxh3", path.name]


def test_the_layer_of_raw_pixels_has_no_name(tmp_path, layers):
    write_statistics(tmp_path / "raw.npz", {"": layers["penultimate"]}, [])
    assert list(read_statistics(tmp_path / "raw.npz").layers) == [""]


def test_a_failed_state_says_why(tmp_path):
    write_failed_statistics(tmp_path / "epoch002.npz", "the loss was not finite")
    state = read_statistics(tmp_path / "epoch002.npz")
    assert (state.failed, state.layers) == ("the loss was not finite", {})


def remove(path):
    path.unlink()


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_empty(path):
    path.write_bytes(b"")


def write_words(path):
    path.write_text("no statistics\n")


def write_one_array(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def write_other_arrays(path):
    np.savez(path, a=np.ones(3))


def test_a_file_of_another_version_is_told_apart(tmp_path, layers):
    path = tmp_path / "epoch003.npz"
    write_statistics(path, layers, [])
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "1/train/balanced"}
    np.savez(path, **arrays)
    checksum_file(path).unlink()
    with pytest.raises(UserError) as error:
        read_statistics(path)
    assert str(error.value) == (
        f"{path}: cannot be read (of another version, without balanced); "
        "delete it and start again: it is made anew"
    )


def write_a_layer_too_many(path):
    np.savez(path, **{"layers": np.array(["a"]), "made_with": np.array([]), "7/train/x": 1})


def write_unknown_attributes(path):
    np.savez(path, **{"layers": np.array(["a"]), "made_with": np.array([]), "0/train/x": 1})


def write_objects(path):
    np.savez(path, layers=np.array([{}], object))


@pytest.mark.parametrize(
    "damage",
    [
        remove,
        cut_in_half,
        make_empty,
        write_words,
        write_one_array,
        write_other_arrays,
        write_a_layer_too_many,
        write_unknown_attributes,
        write_objects,
    ],
)
def test_a_damaged_or_foreign_file_is_named_in_one_line(tmp_path, layers, damage):
    path = tmp_path / "epoch003.npz"
    write_statistics(path, layers, [])
    damage(path)
    # As later versions wrote it, and earlier ones.
    for _ in range(2):
        with pytest.raises(UserError) as error:
            read_statistics(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
        checksum_file(path).unlink(missing_ok=True)


def test_no_damaged_byte_goes_unseen_or_raises_anything_else(tmp_path, layers):
    path = tmp_path / "epoch003.npz"
    write_statistics(path, {"a": {"train": layers["penultimate"]["train"]}}, [])
    whole = path.read_bytes()
    expected = bits(read_statistics(path).layers["a"]["train"])
    # Without them the file's own are left.
    checksum_file(path).unlink()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = read_statistics(path)
        except UserError:
            continue
        # Dates, and other bytes that zip files hold for nothing.
        assert bits(found.layers["a"]["train"]) == expected


def test_distances_in_a_loop_are_those_of_the_class_means():
    features, labels, _ = make_case(600, 9, 7, seed=5, dtype=np.float32)
    found, _ = reduce_stream(stream_of(features, labels), products="float32")
    means = [features[labels == c].mean(axis=0, dtype=np.float64) for c in range(7)]
    expected = pdist(means, "sqeuclidean")
    np.testing.assert_allclose(found.distances, expected, rtol=1e-12, atol=1e-12)


def test_squared_distances_keep_their_digits_where_points_are_near():
    """More points than are multiplied at a time, far from the origin in pairs 1e-7 apart: in their
    products all digits of these distances are lost."""
    rng = np.random.default_rng(5)
    points = 10 + rng.normal(size=(150, 9))
    points[100:] = points[:50] + 1e-7 * rng.normal(size=(50, 9))
    first, second = np.triu_indices(150, k=1)
    expected = np.square(points[first] - points[second]).sum(axis=1)
    np.testing.assert_allclose(squared_distances(points), expected, rtol=1e-12)
