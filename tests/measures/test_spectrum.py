"""Spectrum measures against the data matrix itself, hand-computed cases, and their invariances."""

import json

import numpy as np
import pytest
from scipy.stats import ortho_group

from collapseflow.features.stores import iterate
from collapseflow.images.datasets import stratified_rows
from collapseflow.measures import spectrum
from collapseflow.measures.spectrum import (
    Moments,
    alpha_req,
    effective_rank,
    h_score,
    logme,
    measure_spectrum,
    rankme,
    reduce_blocks,
    two_nn,
)
from collapseflow.presentation.rows import spectrum_rows
from collapseflow.running.errors import UserError

#: Samples, features, classes: more samples than features, fewer, more classes than features.
SHAPES = [(300, 12, 4), (40, 90, 3), (200, 5, 8)]
#: Of a data set with an absent class and one of a single image.
UNBALANCED = {0: 50, 1: 7, 3: 1, 4: 102}


def gaussian(n, d, n_classes, seed=0):
    """Correlated features of unlike scales around class means, far from zero."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    mixing = rng.normal(size=(d, d)) * np.geomspace(1, 0.05, d)
    means = rng.normal(size=(n_classes, d))
    return means[labels] + rng.normal(size=(n, d)) @ mixing + 3, labels


def moments_of(features, labels, block=37):
    starts = range(0, len(labels), block)
    blocks = [(features[i : i + block], labels[i : i + block], None) for i in starts]
    return reduce_blocks(blocks, labels)


def entropy_of_singular_values(matrix):
    sigma = np.linalg.svd(matrix, compute_uv=False)
    p = sigma[sigma > 1e-10 * sigma[0]] / sigma.sum()
    return np.exp(-np.sum(p * np.log(p)))


def h_score_by_hand(features, labels):
    centred = features - features.mean(axis=0)
    expected = np.stack([centred[labels == c].mean(axis=0) for c in labels])
    n = len(labels)
    inverse = np.linalg.pinv(centred.T @ centred / n, rcond=1e-12, hermitian=True)
    return np.trace(inverse @ (expected.T @ expected / n))


def logme_by_hand(features, labels):
    """The paper's algorithm with A = alpha I + beta F^T F and the n x d matrix, step by step."""
    n, d = features.shape
    evidences = []
    for c in np.unique(labels):
        y = (labels == c).astype(float)
        alpha, beta = 1.0, 1.0
        for _ in range(500):
            a = alpha * np.eye(d) + beta * features.T @ features
            m = beta * np.linalg.solve(a, features.T @ y)
            gamma = d - alpha * np.trace(np.linalg.inv(a))
            alpha, beta = gamma / (m @ m), (n - gamma) / np.sum((features @ m - y) ** 2)
        a = alpha * np.eye(d) + beta * features.T @ features
        m = beta * np.linalg.solve(a, features.T @ y)
        evidences.append(
            n / 2 * np.log(beta)
            + d / 2 * np.log(alpha)
            - n / 2 * np.log(2 * np.pi)
            - beta / 2 * np.sum((features @ m - y) ** 2)
            - alpha / 2 * m @ m
            - np.linalg.slogdet(a)[1] / 2
        )
    return np.mean(evidences) / n


def two_nn_by_hand(points):
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    distances.sort(axis=1)
    mu = np.sort(distances[:, 2] / distances[:, 1])
    n = len(mu)
    kept = [i for i in range(1, n + 1) if i <= 0.9 * n]
    x = np.array([np.log(mu[i - 1]) for i in kept])
    y = np.array([-np.log(1 - i / n) for i in kept])
    return np.sum(x * y) / np.sum(x * x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_equal_those_of_the_whole_matrix(shape, dtype):
    features, labels = gaussian(*shape)
    features = features.astype(dtype)
    moments = moments_of(features, labels)
    exact = features.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    np.testing.assert_array_equal(moments.classes, np.unique(labels))
    np.testing.assert_array_equal(moments.counts, np.bincount(labels))
    for c, mean in zip(moments.classes, moments.centred_means, strict=True):
        np.testing.assert_allclose(mean, centred[labels == c].mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moments.global_mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.scatter, centred.T @ centred, rtol=1e-9, atol=1e-10)


def test_a_mean_far_larger_than_the_deviations_costs_no_digits():
    # Powers of two: the shift rounds no feature.
    features = np.random.default_rng(0).integers(-8, 9, (500, 6)) / 16
    labels = np.arange(500) % 5
    near, far = moments_of(features, labels), moments_of(features + 2.0**30, labels)
    np.testing.assert_allclose(far.scatter, near.scatter, rtol=1e-12, atol=1e-9)
    for measure in (effective_rank, h_score):
        assert measure(far) == pytest.approx(measure(near), rel=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_ranks_equal_those_of_the_singular_values_of_the_data_matrix(shape):
    features, labels = gaussian(*shape)
    moments = moments_of(features, labels)
    centred = features - features.mean(axis=0)
    assert effective_rank(moments) == pytest.approx(entropy_of_singular_values(centred), rel=1e-7)
    assert rankme(moments) == pytest.approx(entropy_of_singular_values(features), rel=1e-7)
    assert effective_rank(moments) != pytest.approx(rankme(moments), rel=0.01)


@pytest.mark.parametrize("d", [1, 3, 8])
def test_isotropic_features_have_rank_d_and_one_direction_has_rank_one(d):
    isotropic = np.concatenate([np.eye(d), -np.eye(d)])
    labels = np.arange(2 * d) % 2
    for measure in (effective_rank, rankme):
        assert measure(moments_of(isotropic, labels)) == pytest.approx(d)
    line = np.outer(np.linspace(-1, 1, 2 * d), np.ones(5))
    assert effective_rank(moments_of(line, labels)) == pytest.approx(1)


def test_ranks_by_hand():
    # Singular values 3 sqrt(2) and sqrt(2): p = 3/4, 1/4.
    features = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    expected = 4 / 3**0.75
    assert effective_rank(moments_of(features, np.array([0, 0, 1, 1]))) == pytest.approx(expected)
    # Moved along a third axis: one more singular value, 2 * 2, for RankMe alone.
    moved = np.column_stack([features, np.full(4, 2.0)])
    p = np.array([3 * 2**0.5, 2**0.5, 4.0])
    p /= p.sum()
    moments = moments_of(moved, np.array([0, 0, 1, 1]))
    assert effective_rank(moments) == pytest.approx(expected)
    assert rankme(moments) == pytest.approx(np.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("d", [6, 40, 130])
def test_alpha_of_a_power_law_is_its_exponent(alpha, d):
    spectrum_values = np.arange(1.0, d + 1) ** -alpha
    scatter = np.diag(spectrum_values)[:, ::-1][::-1]
    moments = Moments(np.arange(2), np.array([100, 100]), np.zeros(d), np.zeros((2, d)), scatter)
    assert alpha_req(moments) == pytest.approx(alpha)


def test_alpha_is_the_weighted_slope_over_the_stated_indices():
    features, labels = gaussian(400, 120, 3)
    eigenvalues = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    i = np.arange(4, 101)
    x, y, w = np.log(i), np.log(eigenvalues[3:100]), 1 / i
    dx = x - np.sum(w * x) / w.sum()
    slope = np.sum(w * dx * y) / np.sum(w * dx * dx)
    assert alpha_req(moments_of(features, labels)) == pytest.approx(-slope)


def test_alpha_needs_five_directions():
    features, labels = gaussian(100, 5, 2)
    assert alpha_req(moments_of(features, labels)) is not None
    assert alpha_req(moments_of(features[:, :4], labels)) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_the_h_score_equals_the_dense_formula(shape):
    features, labels = gaussian(*shape)
    found = h_score(moments_of(features, labels))
    assert found == pytest.approx(h_score_by_hand(features, labels), rel=1e-8)
    assert 0 <= found <= min(shape[2] - 1, shape[1]) + 1e-9


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_h_score_of_collapsed_balanced_classes_is_their_number_less_one(n_classes):
    labels = np.arange(20 * n_classes) % n_classes
    assert h_score(moments_of(np.eye(n_classes)[labels] * 7 - 1, labels)) == pytest.approx(
        n_classes - 1
    )


def test_the_h_score_by_hand():
    # Means -1 and 1, deviations of 1 around them: 1 of a variance of 2.
    features = np.array([[-2.0], [0], [0], [2]])
    assert h_score(moments_of(features, np.array([0, 0, 1, 1]))) == pytest.approx(0.5)
    assert h_score(moments_of(features, np.array([0, 1, 1, 0]))) == pytest.approx(0)


@pytest.mark.parametrize("shape", [(300, 12, 4), (200, 5, 8)])
def test_logme_equals_the_papers_algorithm(shape):
    features, labels = gaussian(*shape)
    expected = logme_by_hand(features, labels)
    assert logme(moments_of(features, labels)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(300, 12, 4), (60, 80, 3), (30, 45, 3)])
def test_logme_is_the_largest_density_of_the_labels(shape):
    """y is normal with the covariance I/beta + F F^T/alpha: n x n, for each ratio of the two on a
    grid, with the best beta. Where features outnumber images the best may be no noise at all."""
    features, labels = gaussian(*shape)
    n = len(labels)
    evidences = []
    for c in np.unique(labels):
        y = (labels == c).astype(float)
        best = -np.inf
        for ratio in np.geomspace(1e-6, 1e5, 300):
            covariance = np.eye(n) + features @ features.T / ratio
            variance = y @ np.linalg.solve(covariance, y) / n
            determinant = np.linalg.slogdet(covariance)[1]
            best = max(best, -(n * np.log(2 * np.pi * variance) + determinant + n) / 2)
        evidences.append(best / n)
    assert logme(moments_of(features, labels)) == pytest.approx(np.mean(evidences), rel=3e-4)


def test_logme_by_hand_is_largest_at_the_precisions_it_finds():
    # One feature, all ones: F^T F = n, and y has the mean q. A grid over both precisions.
    n, q = 40, 0.25
    labels = (np.arange(n) < q * n).astype(int)
    ratio = np.geomspace(1e-4, 1e3, 4001)[:, None]
    beta = np.geomspace(0.1, 100, 4001)

    def evidence(q):
        m = n * q / (n + ratio)
        residual = n * q - 2 * m * n * q + m**2 * n
        alpha = ratio * beta
        return (
            np.log(alpha)
            + n * np.log(beta / (2 * np.pi))
            - np.log(alpha + beta * n)
            - beta * residual
            - alpha * m**2
        ).max() / (2 * n)

    expected = (evidence(q) + evidence(1 - q)) / 2
    assert logme(moments_of(np.ones((n, 1)), labels)) == pytest.approx(expected, rel=1e-4)


def test_logme_is_larger_for_features_that_tell_the_classes_apart():
    features, labels = gaussian(300, 12, 4)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert logme(moments_of(features, labels)) > logme(moments_of(features, shuffled)) + 0.05


@pytest.mark.parametrize("measure", [effective_rank, rankme, alpha_req, h_score, logme])
def test_rotation_scale_and_the_numbers_of_the_classes_change_nothing(measure):
    features, labels = gaussian(200, 10, 4)
    expected = measure(moments_of(features, labels))
    rotation = ortho_group.rvs(10, random_state=0)
    same = {
        "rotated": (features @ rotation, labels),
        "small": (features * 6e-9, labels),
        "large": (features * 1e6, labels),
        "renamed": (features, np.array([30, 4, 17, 9])[labels]),
        "shuffled": (features[::-1], labels[::-1]),
    }
    for name, (changed, renamed) in same.items():
        assert measure(moments_of(changed, renamed)) == pytest.approx(expected, rel=1e-6), name


@pytest.mark.parametrize("measure", [effective_rank, alpha_req, h_score])
def test_a_shift_changes_nothing_where_features_are_centred(measure):
    features, labels = gaussian(200, 10, 4)
    moved = moments_of(features + np.arange(10), labels)
    assert measure(moved) == pytest.approx(measure(moments_of(features, labels)), rel=1e-8)


def test_absent_classes_and_classes_of_one_image():
    labels = np.repeat(list(UNBALANCED), list(UNBALANCED.values()))
    features = gaussian(len(labels), 7, 5)[0]
    moments = moments_of(features, labels)
    assert h_score(moments) == pytest.approx(h_score_by_hand(features, labels))
    assert logme(moments) == pytest.approx(logme_by_hand(features, labels), rel=1e-6)


def test_what_is_not_defined_is_none():
    labels = np.arange(30) % 3
    constant = moments_of(np.full((30, 8), 0.1), labels)
    assert effective_rank(constant) is alpha_req(constant) is h_score(constant) is None
    assert rankme(constant) == pytest.approx(1)
    zero = moments_of(np.zeros((30, 8)), labels)
    assert rankme(zero) is logme(zero) is None
    one_class = moments_of(gaussian(30, 8, 3)[0], np.zeros(30, int))
    assert h_score(one_class) is logme(one_class) is None
    # Collapsed: a linear model gives the labels without noise, of any precision.
    assert logme(moments_of(np.eye(3)[labels], labels)) is None


def test_a_dead_feature_and_a_repeated_one_do_not_disturb():
    features, labels = gaussian(200, 10, 4)
    more = np.column_stack([features, np.full(200, 0.1), features[:, 0]])
    found = h_score(moments_of(more, labels))
    assert found == pytest.approx(h_score(moments_of(features, labels)), rel=1e-8)


@pytest.mark.parametrize("n", [3, 11, 150, 700])
def test_two_nn_equals_the_literal_formula(n):
    points = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    dimension, duplicates = two_nn(points)
    assert dimension == pytest.approx(two_nn_by_hand(points.astype(float)))
    assert duplicates == 0


def test_two_nn_by_hand():
    # Distances 1 and 3, 1 and 2, 1.5 and 2, 1.5 and 3.5: the largest ratio is left out.
    points = np.array([[0.0], [1], [3], [4.5]])
    ratios = [2 / 1.5, 2 / 1, 3.5 / 1.5]
    x, y = np.log(ratios), -np.log(1 - np.arange(1, 4) / 4)
    assert two_nn(points)[0] == pytest.approx((x @ y) / (x @ x))


def test_two_nn_of_a_plane_in_twenty_dimensions_is_two():
    rng = np.random.default_rng(0)
    plane = rng.uniform(size=(3000, 2)) @ ortho_group.rvs(20, random_state=0)[:2] + 5
    dimension, _ = two_nn(plane.astype(np.float32))
    assert dimension == pytest.approx(2, abs=0.12)


def test_two_nn_leaves_out_and_counts_what_is_there_twice():
    points = np.random.default_rng(0).normal(size=(60, 4))
    points[:, 3] = 0.0
    again = points[:7] * [1, 1, 1, -1.0]
    expected = two_nn(points)[0]
    dimension, duplicates = two_nn(np.concatenate([points, again, points[:2]]))
    assert (dimension, duplicates) == (pytest.approx(expected), 9)


def test_two_nn_does_not_lose_small_distances_beside_a_large_mean():
    points = np.random.default_rng(0).integers(0, 2**20, size=(100, 3)) / 2**20
    far = two_nn(points + np.array([2.0**25, 0, 0]))[0]
    assert far == pytest.approx(two_nn_by_hand(points), rel=1e-9)


def test_two_nn_needs_three_rows_that_differ_and_ratios_above_one():
    assert two_nn(np.ones((5, 2))) == (None, 4)
    assert two_nn(np.array([[0.0], [1], [1]])) == (None, 1)
    # The corners of a triangle with equal sides.
    assert two_nn(np.eye(3))[0] is None


@pytest.fixture
def stores(make_store):
    paths = {}
    for split, n in {"train": 240, "test": 60}.items():
        features, labels = gaussian(n, 12, 4, seed=n)
        paths[split] = make_store(features.astype(np.float32), labels, name=f"{split}.h5")
    return paths


def test_stores_are_measured_on_each_split(stores):
    answer = measure_spectrum(stores, seed=0, threads=1)
    json.dumps(answer, allow_nan=False)
    assert set(answer) == {"train", "test", "made_with"}
    assert any("numpy" in line for line in answer["made_with"])
    for split, n in {"train": 240, "test": 60}.items():
        features, labels = gaussian(n, 12, 4, seed=n)
        features = features.astype(np.float32).astype(float)
        expected = {
            "effective_rank": entropy_of_singular_values(features - features.mean(axis=0)),
            "rankme": entropy_of_singular_values(features),
            "h_score": h_score_by_hand(features, labels),
            "logme": logme_by_hand(features, labels),
            "two_nn": two_nn_by_hand(features),
            "n_samples": n,
            "n_sample": n,
            "duplicates": 0,
        }
        alpha = answer[split].pop("alpha_req")
        assert answer[split] == pytest.approx(expected, rel=1e-6)
        assert alpha == pytest.approx(alpha_req(moments_of(features, labels)))


def test_what_depends_on_labels_is_measured_by_the_true_ones_too(stores, make_store):
    features, true = gaussian(240, 12, 4, seed=240)
    features = features.astype(np.float32)
    noisy = np.where(np.arange(240) % 5 == 0, (true + 1) % 4, true)
    paths = {**stores, "train": make_store(features, noisy, name="n.h5", true_labels=true)}
    answer = measure_spectrum(paths, seed=0, threads=1)
    for split, labels in {"train": noisy, "train_true": true}.items():
        for name, by_hand in {"h_score": h_score_by_hand, "logme": logme_by_hand}.items():
            assert answer[split][name] == pytest.approx(by_hand(features.astype(float), labels))
    assert set(answer["train_true"]) == {"h_score", "logme", "n_samples"}
    rows = [row for row in spectrum_rows(answer) if row["split"] == "train_true"]
    assert [row["quantity"] for row in rows] == ["h_score", "logme"]
    assert [row["n"] for row in rows] == [240, 240]


def test_the_number_of_threads_does_not_count(stores):
    one, two = (measure_spectrum(stores, seed=0, threads=n) for n in (1, 2))
    for split in stores:
        assert one[split] == pytest.approx(two[split], rel=1e-9)


def test_two_nn_takes_a_stratified_sample_by_its_seed(stores, monkeypatch):
    monkeypatch.setattr(spectrum, "TWO_NN_IMAGES", 100)
    answer = {seed: measure_spectrum(stores, seed, 1)["train"] for seed in (0, 1)}
    features, labels = gaussian(240, 12, 4, seed=240)
    for seed, values in answer.items():
        rows = stratified_rows(labels, 100, seed)
        expected = two_nn_by_hand(features[rows].astype(np.float32).astype(float))
        assert values["two_nn"] == pytest.approx(expected)
        assert (values["n_sample"], values["n_samples"]) == (100, 240)


def test_values_that_are_not_defined_are_left_out(make_store):
    path = make_store(np.full((12, 5), 0.3, np.float32), np.arange(12) % 3)
    values = measure_spectrum({"train": path}, seed=0, threads=1)["train"]
    assert set(values) == {"rankme", "logme", "n_samples", "n_sample", "duplicates"}
    assert values["duplicates"] == 11


def test_a_store_of_several_blocks_is_read_once(make_store):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(900, 2048)).astype(np.float32)
    features[:, 40:] = 0
    labels = np.sort(np.arange(900) % 3)
    path = make_store(features, labels)
    assert sum(1 for _ in iterate(path)) == 2
    found = reduce_blocks(iterate(path), labels).scatter[:40, :40]
    centred = features[:, :40].astype(float) - features[:, :40].mean(axis=0, dtype=float)
    np.testing.assert_allclose(found, centred.T @ centred, rtol=1e-9, atol=1e-9)


def test_a_damaged_store_is_refused(stores):
    with stores["test"].open("r+b") as file:
        file.seek(-20, 2)
        file.truncate()
    with pytest.raises(UserError, match="test.h5"):
        measure_spectrum(stores, seed=0, threads=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_in_one_line(stores, monkeypatch, bad):
    features, labels = gaussian(80, 5, 3)
    features[41, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        moments_of(features, labels)
    monkeypatch.setattr(spectrum, "iterate", lambda path: [(features, labels, None)])
    monkeypatch.setattr(spectrum, "read_labels", lambda path: labels)
    with pytest.raises(UserError, match="train.h5: features are not finite; delete it"):
        measure_spectrum({"train": stores["train"]}, seed=0, threads=1)


@pytest.mark.parametrize("n", [10, 40])
def test_points_that_are_equally_far_apart_have_no_dimension(n):
    simplex = np.eye(n) - 1 / n
    assert two_nn(3 * simplex @ np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]) == (
        None,
        0,
    )


def test_more_features_than_memory_has_room_for_are_refused_before_they_are_read(
    stores, monkeypatch
):
    # Four matrices of 12 x 12 numbers of 8 bytes.
    monkeypatch.setattr("collapseflow.running.memory.cgroup_limits", lambda: [4607])
    with pytest.raises(UserError, match="train.h5: the spectrum of 12 features takes"):
        measure_spectrum(stores, seed=0, threads=1)
