"""The measures of neural collapse against dense d x d formulas and hand-computed cases."""

import threading
import time
from itertools import combinations

import h5py
import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits

from collapseflow.features import stores
from collapseflow.measures.collapse import (
    class_means,
    collapse_measures,
    map_blocks,
    measure_stores,
)
from collapseflow.running.errors import UserError

MEASURES = ("nc1", "nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle")


def stream_of(features, labels, sizes=None):
    """Batches of the given sizes, over and over; everything at once by default."""

    def batches(blocks_in_use):
        row, turn = 0, 0
        while row < len(labels):
            size = len(labels) if sizes is None else sizes[turn % len(sizes)]
            yield features[row : row + size], labels[row : row + size]
            row, turn = row + size, turn + 1

    return batches


def dense_measures(features, labels, **cutoff):
    """Equations 1 to 4 of report A, literally, with d x d covariances in float64."""
    x = features.astype(np.float64)
    classes = np.unique(labels)
    n, n_classes = len(x), len(classes)
    overall = x.sum(axis=0) / n
    within = np.zeros((x.shape[1], x.shape[1]))
    between = np.zeros_like(within)
    centred = []
    for c in classes:
        mean = x[labels == c].mean(axis=0)
        deviations = x[labels == c] - mean
        within += deviations.T @ deviations / n
        between += np.outer(mean - overall, mean - overall) / n_classes
        centred.append(mean - overall)
    norms = np.array([np.sqrt(np.sum(m**2)) for m in centred])
    cosines = np.array([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in combinations(centred, 2)])
    inverse = scipy.linalg.pinv(between, **(cutoff or {"rtol": 1e-11}))
    return {
        "nc1": np.trace(within @ inverse) / n_classes,
        "nc2_equinorm": np.std(norms) / np.mean(norms),
        "nc2_equiangularity": np.std(cosines),
        "nc2_maximal_angle": np.mean(np.abs(cosines + 1 / (n_classes - 1))),
    }, between


def random_case(n, d, n_classes, seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    rng.shuffle(labels)
    means = rng.normal(size=(n_classes, d))
    return means[labels] + rng.normal(size=(n, d)) + 3, labels


def check(features, labels, sizes=None, **cutoff):
    measures = collapse_measures(stream_of(features, labels, sizes), cutoff.get("atol"))
    expected, _ = dense_measures(features, labels, **cutoff)
    for name in MEASURES:
        np.testing.assert_allclose(getattr(measures, name), expected[name], rtol=1e-9, atol=1e-14)
    return measures


@pytest.mark.parametrize(
    ("n", "d", "n_classes"),
    [(200, 12, 5), (40, 150, 4), (300, 3, 10), (90, 30, 2), (64, 64, 10)],
    ids=["n>d", "d>n", "classes>d", "two classes", "n=d"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_measures_equal_the_dense_formula(n, d, n_classes, dtype):
    features, labels = random_case(n, d, n_classes, seed=n + d)
    measures = check(features.astype(dtype), labels)
    assert (measures.n_samples, measures.n_features, measures.n_classes) == (n, d, n_classes)
    assert measures.rank == min(n_classes - 1, d)


def test_unbalanced_classes_weigh_the_global_mean_by_their_size():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2, 3], [200, 30, 5, 1])
    features = rng.normal(size=(4, 8))[labels] * 2 + rng.normal(size=(len(labels), 8))
    check(features, labels)


def test_a_class_that_is_absent_does_not_count():
    features, labels = random_case(120, 9, 4, seed=3)
    measures = check(features, np.array([0, 2, 5, 9])[labels])
    assert measures.n_classes == 4
    assert measures == collapse_measures(stream_of(features, labels))


def test_constant_features_change_nothing():
    features, labels = random_case(100, 6, 5, seed=4)
    padded = np.insert(features, [0, 3, 6], 7.5, axis=1)
    measures = check(padded, labels)
    np.testing.assert_allclose(
        measures.nc1, collapse_measures(stream_of(features, labels)).nc1, rtol=1e-9
    )


def test_a_thousand_classes_equal_the_dense_formula():
    features, labels = random_case(2500, 30, 1000, seed=11)
    check(features, labels, [400])


@pytest.mark.parametrize("sizes", [[1], [7], [64, 3, 1, 20], [1000]])
def test_the_size_of_the_batches_does_not_matter(sizes):
    features, labels = random_case(150, 10, 6, seed=5)
    check(features, labels, sizes)


def test_classes_may_first_show_up_in_any_batch():
    features, labels = random_case(60, 7, 5, seed=6)
    for order in (np.argsort(labels, kind="stable"), np.argsort(-labels, kind="stable")):
        check(features[order], labels[order], [9])


def test_class_means_equal_numpy():
    features, labels = random_case(50, 4, 3, seed=7)
    means = class_means(stream_of(features, labels * 2, [8]))
    assert means.classes.tolist() == [0, 2, 4]
    assert means.counts.tolist() == np.bincount(labels).tolist()
    for row in range(3):
        np.testing.assert_allclose(means.means[row], features[labels == row].mean(0), rtol=1e-12)
    np.testing.assert_allclose(means.global_mean, features.mean(axis=0), rtol=1e-12)


def test_absolute_cutoff_of_report_a_drops_the_small_eigenvalues():
    # Sigma_B has eigenvalues near 1e3, 1e-2, 1e-3, 1e-7 and 1e-9: the last two fall below 1e-5.
    # A cutoff relative to the largest would drop two more.
    rng = np.random.default_rng(8)
    scales = np.array([30, 1e-1, 3e-2, 3e-4, 3e-5])
    labels = np.arange(180) % 6
    features = rng.normal(size=(6, 5))[labels] * scales + rng.normal(size=(180, 5)) * 0.1 * scales
    _, between = dense_measures(features, labels)
    eigenvalues = np.linalg.eigvalsh(between)
    assert not ((eigenvalues > 3e-6) & (eigenvalues < 3e-5)).any()
    measures = check(features, labels, atol=1e-5, rtol=0)
    assert measures.rank == np.count_nonzero(eigenvalues > 1e-5) == 3
    # The default keeps them all, and the answer is another one.
    whole = collapse_measures(stream_of(features, labels))
    assert whole.rank == 5
    assert whole.nc1 > 1.2 * measures.nc1


def test_a_simplex_etf_without_scatter_is_fully_collapsed():
    n_classes, d = 5, 8
    rotation = np.linalg.qr(np.random.default_rng(9).normal(size=(d, d)))[0][:, :n_classes]
    simplex = (np.eye(n_classes) - 1 / n_classes) @ rotation.T * 3
    labels = np.arange(40) % n_classes
    measures = collapse_measures(stream_of(simplex[labels] + 2, labels))
    for name in MEASURES:
        assert abs(getattr(measures, name)) < 1e-12, name
    assert measures.rank == n_classes - 1


def test_contraction_of_two_classes_by_hand():
    # Means (2, 0) and (-2, 0); Sigma_W = [[1, 1/2], [1/2, 1/2]]; Sigma_B = [[4, 0], [0, 0]], so
    # tr(Sigma_W Sigma_B^+) / 2 = 1/8. Two centred means always have cosine -1 when balanced.
    features = np.array([[1.0, 0], [3, 0], [-1, 1], [-3, -1]])
    measures = collapse_measures(stream_of(features, np.array([0, 0, 1, 1])))
    np.testing.assert_allclose(measures.nc1, 0.125, rtol=1e-12)
    np.testing.assert_allclose(
        [measures.nc2_equinorm, measures.nc2_equiangularity, measures.nc2_maximal_angle],
        0,
        atol=1e-12,
    )
    assert measures.rank == 1


def test_norms_and_angles_of_three_classes_by_hand():
    # Norms 3, 3, 3 sqrt(2); cosines 0, -1/sqrt(2), -1/sqrt(2).
    features = np.array([[3.0, 0], [0, 3], [-3, -3]])
    measures = collapse_measures(stream_of(features, np.array([0, 1, 2])))
    np.testing.assert_allclose(measures.nc2_equinorm, 3 - 2 * np.sqrt(2), rtol=1e-12)
    np.testing.assert_allclose(measures.nc2_equiangularity, 1 / 3, rtol=1e-12)
    np.testing.assert_allclose(measures.nc2_maximal_angle, (np.sqrt(2) - 0.5) / 3, rtol=1e-12)
    assert measures.nc1 == 0


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        collapse_measures(stream_of(np.ones((4, 2)), np.full(4, 3)))


@pytest.mark.parametrize("counts", [(10, 10), (3, 7), (2, 5)])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e6 + 0.1])
def test_class_means_equal_but_for_rounding_are_refused(counts, value):
    features = np.full((sum(counts), 4), value)
    with pytest.raises(ValueError, match="coincides"):
        collapse_measures(stream_of(features, np.repeat([0, 1], counts)))


def test_measure_stores_adds_the_accuracy_of_a_network_with_a_head(make_store):
    features, labels = random_case(80, 5, 4, seed=10)
    features = features.astype(np.float32)
    predictions = np.where(np.arange(80) < 20, (labels + 1) % 4, labels)
    answer = measure_stores(
        {
            "train": make_store(features, labels, predictions, "train.h5"),
            "test": make_store(features[:40], labels[:40], None, "test.h5"),
        }
    )
    assert answer["train"]["accuracy"] == 0.75
    assert "accuracy" not in answer["test"]
    for split, n in (("train", 80), ("test", 40)):
        expected, _ = dense_measures(features[:n], labels[:n])
        for name in MEASURES:
            np.testing.assert_allclose(answer[split][name], expected[name], rtol=1e-9)


def test_measure_stores_names_the_store_that_has_no_measures(make_store):
    path = make_store(np.zeros((6, 3), np.float32), np.ones(6, int))
    with pytest.raises(UserError, match=f"{path.name}: .*two classes"):
        measure_stores({"train": path})


def test_a_split_whose_class_means_coincide_has_failed_and_the_other_is_measured(make_store):
    features, labels = random_case(40, 5, 4, seed=10)
    stores = {
        "train": make_store(np.full((40, 5), 0.3, np.float32), labels, labels, "train.h5"),
        "test": make_store(features.astype(np.float32), labels, None, "test.h5"),
    }
    answer = measure_stores(stores)
    assert answer["train"] == {"failed": "a class mean coincides with the mean of all samples"}
    expected, _ = dense_measures(features.astype(np.float32), labels)
    np.testing.assert_allclose(answer["test"]["nc1"], expected["nc1"], rtol=1e-9)


# --- threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [10, 1000])
def test_the_number_of_threads_changes_no_bit(n_classes):
    features, labels = random_case(3000, 70, n_classes, seed=12)
    # Labels far apart, some of them in few blocks only.
    stream = stream_of(features.astype(np.float32), labels**2, [150, 40, 333])
    one = collapse_measures(stream, threads=1)
    for threads in (2, 5):
        assert collapse_measures(stream, threads=threads) == one


def test_stores_of_many_blocks_equal_the_dense_formula_on_any_number_of_threads(
    make_store, monkeypatch
):
    monkeypatch.setattr(stores, "BLOCK_BYTES", 4000)
    features, labels = random_case(900, 50, 6, seed=13)
    features = features.astype(np.float32)
    path = make_store(features, labels)
    answers = [measure_stores({"train": path}, threads)["train"] for threads in (1, 2, 3)]
    assert answers[0] == answers[1] == answers[2]
    expected, _ = dense_measures(features, labels)
    for name in MEASURES:
        np.testing.assert_allclose(answers[0][name], expected[name], rtol=1e-9)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_answers_come_in_the_order_of_the_blocks(threads):
    def slow_at_first(features, labels):
        time.sleep(0.02 if features[0, 0] % 4 == 0 else 0)
        return int(features[0, 0])

    blocks = [(np.full((1, 1), number), np.zeros(1, int)) for number in range(23)]
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
            yield memory[number % blocks_in_use], np.full(1, number)

    def look_again_later(features, labels):
        if labels[0] == 0 and threads > 1:
            deadline = time.monotonic() + 30
            while len(read) < threads + 1 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.05)  # A block too many would be read now.
        return float(features[0, 0])

    assert list(map_blocks(look_again_later, stream, threads)) == list(range(20))


def test_threads_work_at_the_same_time():
    both = threading.Barrier(2, timeout=20)

    def meet(features, labels):
        both.wait()

    blocks = [(np.zeros((1, 1)), np.zeros(1, int))] * 4
    assert list(map_blocks(meet, lambda blocks_in_use: blocks, 2)) == [None] * 4


def test_blas_keeps_to_the_threads_that_call_it():
    def blas_threads(features, labels):
        return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]

    blocks = [(np.zeros((1, 1)), np.zeros(1, int))]
    with threadpool_limits(2, user_api="blas"):
        (answer,) = map_blocks(blas_threads, lambda blocks_in_use: blocks, 2)
    assert answer and set(answer) == {1}


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_block_ends_the_pass(threads):
    def fail(features, labels):
        raise ArithmeticError("block")

    with pytest.raises(ArithmeticError, match="block"):
        list(map_blocks(fail, stream_of(np.zeros((9, 1)), np.arange(9), [2]), threads))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_damaged_store_is_named(make_store, monkeypatch, threads):
    monkeypatch.setattr(stores, "BLOCK_BYTES", 4000)
    features, labels = random_case(900, 50, 6, seed=14)
    path = make_store(features.astype(np.float32), labels)
    with h5py.File(path, "r+") as file:
        file["features"][500, 3] += 1e-3
    with pytest.raises(UserError, match=f"{path.name}: .*rows 500 to 519 are damaged"):
        measure_stores({"train": path}, threads)
