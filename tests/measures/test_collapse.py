"""The measures of neural collapse against dense d x d formulas, loops and hand-computed cases."""

from itertools import combinations, permutations

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics import pairwise_distances_argmin
from sklearn.neighbors import NearestCentroid

from collapseflow.measures.collapse import (
    MEASURES,
    CollapsedError,
    few_shot_bound,
    measure,
    measure_states,
)
from collapseflow.measures.definitions import PRESETS
from collapseflow.measures.statistics import (
    MATCHED,
    reduce_stores,
    reduce_stream,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.running.errors import UserError

EVERY = (
    *("nc1", "nc1_balanced", "nc1_report_a", "nc1_quotient", "log_fuzziness"),
    *("cdnv", "directional_cdnv"),
    *("nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle"),
    *("nc2_equinorm_report_a", "nc2_equiangularity_report_a", "nc2_maximal_angle_report_a"),
    *("etf_distance", "hyperspherical_uniformity"),
    *("nc2_equinorm_head", "nc2_equiangularity_head", "nc2_maximal_angle_head"),
    *("etf_distance_head", "hyperspherical_uniformity_head", "etf_distance_duality"),
    *("nc3", "nc3_cosine", "nc4", "accuracy_nearest_mean", "norm_features", "norm_means"),
    *("norm_global_mean", "norm_head", "accuracy", "fewest_images"),
)
OF_HEAD = {name for name in EVERY if name.endswith("_head")} | {
    *("etf_distance_duality", "nc3", "nc3_cosine")
}
OF_PREDICTIONS = {"nc4", "accuracy"}
#: What is of the variance within classes.
OF_VARIANCE = {
    *("nc1", "nc1_balanced", "nc1_report_a", "nc1_quotient", "log_fuzziness"),
    *("cdnv", "directional_cdnv"),
}
#: What needs a direction of each class mean from the mean of the class means.
OF_DIRECTIONS = {
    *("nc2_equiangularity", "nc2_maximal_angle", "hyperspherical_uniformity", "nc3_cosine"),
}
OF_DIRECTIONS_OF_REPORT_A = {"nc2_equiangularity_report_a", "nc2_maximal_angle_report_a"}
#: What does not change where all features, and W with them, are that many times as large.
FREE_OF_SCALE = set(EVERY) - {
    *("nc1_report_a", "norm_features", "norm_means", "norm_global_mean", "norm_head")
}
OF_ORIGIN = {"norm_features", "norm_global_mean"}


def reduce(features, labels, predictions=None, head=None, training=None):
    """Statistics, and class means for a test split, from blocks of 37 samples."""

    def blocks(blocks_in_use):
        for row in range(0, len(labels), 37):
            part = slice(row, row + 37)
            of_part = None if predictions is None else predictions[part]
            yield features[part], labels[part], of_part

    return reduce_stream(blocks, head=head, training=training)


def measured(*case, **others):
    return measure(reduce(*case, **others)[0])


def make_case(n, d, n_classes, seed, dtype=np.float64):
    """Features, labels, the predictions of a head near the class means, and this head."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    rng.shuffle(labels)
    means = rng.normal(size=(n_classes, d))
    features = (means[labels] + rng.normal(size=(n, d)) + 3).astype(dtype)
    weight = (means + rng.normal(size=means.shape)).astype(np.float32)
    bias = rng.normal(size=n_classes).astype(np.float32)
    predictions = (features.astype(np.float64) @ weight.T + bias).argmax(axis=1)
    return features, labels, predictions, (weight, bias)


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def geometry(rows):
    """NC2 of the rows of a matrix, pair by pair."""
    C = len(rows)
    norms = np.array([np.sqrt(row @ row) for row in rows])
    angles = np.array([cosine(a, b) for a, b in combinations(rows, 2)])
    unit = [row / np.sqrt(row @ row) for row in rows]
    apart = [np.sqrt(((a - b) ** 2).sum()) for a, b in combinations(unit, 2)]
    return {
        "nc2_equinorm": np.std(norms) / np.mean(norms),
        "nc2_equiangularity": np.std(angles),
        "nc2_maximal_angle": np.mean(np.abs(angles + 1 / (C - 1))),
        "etf_distance": to_simplex(np.array([[a @ b for b in rows] for a in rows])),
        "hyperspherical_uniformity": np.mean([np.log(1 / distance) for distance in apart]),
    }


def to_simplex(gram):
    C = len(gram)
    ideal = np.full((C, C), -1 / C)
    np.fill_diagonal(ideal, 1 - 1 / C)
    return np.sqrt(((gram / np.sqrt((gram**2).sum()) - ideal / np.sqrt(C - 1)) ** 2).sum())


def dense(features, labels, predictions=None, head=None, training=None):
    """Every measure, literally, with d x d covariances in float64."""
    x = features.astype(np.float64)
    classes = np.unique(labels)
    n, C, d = len(x), len(classes), x.shape[1]
    overall = x.sum(axis=0) / n
    within, between, weighted, even_within, even_between = np.zeros((5, d, d))
    covariances, means = [], []
    for c in classes:
        mine = x[labels == c]
        mean = mine.mean(axis=0)
        covariance = (mine - mean).T @ (mine - mean) / len(mine)
        outer = np.outer(mean - overall, mean - overall)
        within += len(mine) / n * covariance
        between += outer / C
        weighted += len(mine) / n * outer
        covariances.append(covariance)
        means.append(mean)
        even_within += covariance / C
    means = np.stack(means)
    centred, around_all = means - sum(means) / C, means - overall
    for row in centred:
        even_between += np.outer(row, row) / C

    def inverse(matrix):
        return scipy.linalg.pinvh(matrix, rtol=1e-11)

    def distance(i, j):
        return ((means[i] - means[j]) ** 2).sum()

    def along(i, j):
        u = (means[j] - means[i]) / np.sqrt(distance(i, j))
        return u @ covariances[i] @ u / distance(i, j)

    traces = [np.trace(covariance) for covariance in covariances]
    cut = scipy.linalg.pinvh(between, atol=1e-5, rtol=0)
    training = training or (classes, means)
    nearest = training[0][pairwise_distances_argmin(x, training[1])]
    answer = {
        "nc1": np.trace(within @ inverse(between)) / C,
        "nc1_balanced": np.trace(even_within @ inverse(even_between)) / C,
        "nc1_report_a": np.trace(within @ cut) / C,
        "nc1_quotient": np.trace(within) / np.trace(between),
        "log_fuzziness": np.log(np.trace(within @ inverse(weighted))),
        "cdnv": np.mean(
            [(traces[i] + traces[j]) / (2 * distance(i, j)) for i, j in combinations(range(C), 2)]
        ),
        "directional_cdnv": np.mean([along(i, j) for i, j in permutations(range(C), 2)]),
        **geometry(centred),
        **{
            f"{name}_report_a": value
            for name, value in geometry(around_all).items()
            if name.startswith("nc2")
        },
        "accuracy_nearest_mean": np.mean(nearest == labels),
        "norm_features": np.mean([np.sqrt(h @ h) for h in x]),
        "norm_means": np.mean([np.sqrt(m @ m) for m in centred]),
        "norm_global_mean": np.sqrt(overall @ overall),
    }
    if head is not None:
        weight = head[0].astype(np.float64)
        answer |= {f"{name}_head": value for name, value in geometry(weight).items()}
        mine = weight[classes]
        difference = mine / np.linalg.norm(mine) - centred / np.linalg.norm(centred)
        answer |= {
            "etf_distance_duality": to_simplex(mine @ centred.T),
            "nc3": (difference**2).sum(),
            "nc3_cosine": np.mean([cosine(w, m) for w, m in zip(mine, centred, strict=True)]),
            "norm_head": np.sqrt((weight**2).sum()),
        }
    if predictions is not None:
        answer["nc4"] = np.mean(predictions == nearest)
        answer["accuracy"] = np.mean(predictions == labels)
    counts = {
        "rank": np.linalg.matrix_rank(centred),
        "n_classes": C,
        "n_samples": n,
        "n_features": d,
        "fewest_images": min((labels == c).sum() for c in classes),
    }
    return answer | counts


def check(*case, **others):
    found = measured(*case, **others)
    expected = dense(*case, **others)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-13, err_msg=name)
    return found


def test_every_measure_stands_in_its_order():
    assert tuple(MEASURES) == EVERY


# --- against the dense formulas ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "n_classes"),
    [(200, 12, 5), (40, 150, 4), (300, 3, 10), (90, 30, 2), (64, 64, 10)],
    ids=["n>d", "d>n", "classes>d", "two classes", "n=d"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_measures_equal_the_dense_formulas(n, d, n_classes, dtype):
    found = check(*make_case(n, d, n_classes, seed=n + d, dtype=dtype))
    assert found["rank"] == min(n_classes - 1, d)
    assert found.keys() >= set(EVERY)


@pytest.mark.parametrize("sizes", [(200, 30, 5, 1), (400, 40, 4, 2), (9, 9, 9, 90)])
def test_unequal_classes_equal_the_dense_formulas(sizes):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), sizes)
    features = rng.normal(size=(4, 8))[labels] * 2 + rng.normal(size=(len(labels), 8)) * (
        1 + labels[:, None]
    )
    head = rng.normal(size=(4, 8)), np.zeros(4)
    found = check(features, labels, rng.permutation(labels), head)
    assert np.exp(found["log_fuzziness"]) != pytest.approx(4 * found["nc1"], rel=0.01)
    assert found["nc1_balanced"] != pytest.approx(found["nc1"], rel=0.05)
    assert found["nc2_equinorm"] != pytest.approx(found["nc2_equinorm_report_a"], rel=0.05)
    assert found["fewest_images"] == min(sizes)


def test_on_classes_of_equal_size_the_forms_of_a_measure_are_the_same():
    rng = np.random.default_rng(2)
    labels = np.arange(120) % 6
    found = measured(rng.normal(size=(6, 9))[labels] + rng.normal(size=(120, 9)), labels)
    assert np.exp(found["log_fuzziness"]) == pytest.approx(6 * found["nc1"], rel=1e-12)
    assert found["nc1_balanced"] == pytest.approx(found["nc1"], rel=1e-12)
    for quantity in ("nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle"):
        assert found[quantity] == pytest.approx(found[f"{quantity}_report_a"], rel=1e-12)


def simplex_of_unequal_classes(sizes, noise=1e-4):
    """Features near the corners of a simplex, and W in its directions."""
    rng = np.random.default_rng(32)
    corners = np.eye(10, 12) - np.eye(10, 12).mean(axis=0)
    labels = np.repeat(np.arange(10), sizes)
    features = corners[labels] + noise * rng.normal(size=(len(labels), 12)) + 3
    return features, labels, labels, (corners, np.zeros(10))


LONG_TAIL = np.round(1000 * 100 ** (-np.arange(10) / 9)).astype(int)


@pytest.mark.parametrize(("sizes", "around_all"), [([500] * 5 + [50] * 5, 0.42), (LONG_TAIL, 0.65)])
def test_a_simplex_of_unequal_classes_is_one_around_the_mean_of_the_class_means(sizes, around_all):
    statistics, _ = reduce(*simplex_of_unequal_classes(sizes))
    found = measure(statistics)
    for quantity in (
        *("nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle", "etf_distance"),
        *("etf_distance_duality", "nc3"),
    ):
        assert found[quantity] < 1e-3, quantity
    assert found["nc3_cosine"] == pytest.approx(1, abs=1e-6)
    least = -np.log(20 / 9) / 2
    assert found["hyperspherical_uniformity"] == pytest.approx(least, abs=1e-6)
    # Around the mean of all samples it is none.
    weighted = PRESETS["sample_weighted"]
    assert weighted["etf_distance"].function(statistics) == pytest.approx(around_all, abs=0.01)
    assert weighted["nc3"].function(statistics) > 0.05
    assert found["nc2_equinorm_report_a"] > 0.05
    assert found["nc2_equiangularity_report_a"] > 0.1


def test_each_class_has_the_same_weight_in_balanced_nc1():
    """Classes of unequal spread: repeating the images of one changes NC1, and not this."""
    rng = np.random.default_rng(33)
    labels = np.arange(90) % 3
    features = 5 * np.eye(3, 6)[labels] + rng.normal(size=(90, 6)) * (1 + labels[:, None])
    more = np.concatenate([features, *[features[labels == 2]] * 9])
    of_more = np.concatenate([labels, np.full(9 * 30, 2)])
    once, often = measured(features, labels), measured(more, of_more)
    assert often["nc1_balanced"] == pytest.approx(once["nc1_balanced"], rel=1e-9)
    assert once["nc1_balanced"] == pytest.approx(once["nc1"], rel=1e-9)
    assert often["nc1"] > 1.3 * once["nc1"]


def test_a_class_that_is_absent_does_not_count():
    features, labels, predictions, _ = make_case(120, 9, 4, seed=3)
    labels, predictions = (np.array([0, 2, 5, 9])[part] for part in (labels, predictions))
    rng = np.random.default_rng(3)
    head = rng.normal(size=(10, 9)).astype(np.float32), np.zeros(10, np.float32)
    found = check(features, labels, predictions, head)
    assert found["n_classes"] == 4


def test_a_thousand_classes():
    features, labels, _, _ = make_case(2500, 30, 1000, seed=11)
    check(features, labels)


@pytest.mark.parametrize("d", [3, 12])
def test_on_the_test_split_the_nearest_mean_alone_is_of_the_training_set(d):
    train = make_case(150, d, 6, seed=4)
    features, labels, predictions, _ = make_case(90, d, 6, seed=4)
    features = features + np.random.default_rng(5).normal(size=features.shape)
    statistics, means = reduce(*train)
    found = measure(reduce(features, labels, predictions, train[3], training=means)[0])
    of_train = means.classes, np.stack([train[0][train[1] == c].mean(axis=0) for c in range(6)])
    expected = dense(features, labels, predictions, train[3], training=of_train)
    assert found == pytest.approx(expected, rel=1e-9)
    model = NearestCentroid().fit(*train[:2])
    assert found["accuracy_nearest_mean"] == model.score(features, labels)
    assert found["nc4"] == model.score(features, predictions)


def test_absolute_cutoff_of_report_a_drops_the_small_eigenvalues():
    # Sigma_B has eigenvalues near 1e3, 1e-2, 1e-3, 1e-7 and 1e-9: the last two fall below 1e-5.
    # A cutoff relative to the largest would drop two more.
    rng = np.random.default_rng(8)
    scales = np.array([30, 1e-1, 3e-2, 3e-4, 3e-5])
    labels = np.arange(180) % 6
    features = rng.normal(size=(6, 5))[labels] * scales + rng.normal(size=(180, 5)) * 0.1 * scales
    means = np.stack([features[labels == c].mean(axis=0) for c in range(6)])
    eigenvalues = np.linalg.eigvalsh(np.cov(means.T, ddof=0))
    assert not ((eigenvalues > 3e-6) & (eigenvalues < 3e-5)).any()
    assert (eigenvalues > 1e-5).sum() == 3
    found = measured(features, labels)
    assert found["nc1_report_a"] == pytest.approx(dense(features, labels)["nc1_report_a"])
    # NC1 itself keeps them all; where Sigma_B is invertible, it does not depend on their scales.
    assert found["rank"] == 5
    assert found["nc1"] == pytest.approx(dense(features / scales, labels)["nc1"], rel=1e-6)
    assert found["nc1"] > 1.2 * found["nc1_report_a"]


def test_no_eigenvalue_above_the_cutoff_of_report_a_gives_zero():
    features, labels, _, _ = make_case(60, 5, 3, seed=6)
    assert measured(1e-4 * features, labels)["nc1_report_a"] == 0


# --- invariances ------------------------------------------------------------------------------


@pytest.fixture
def case():
    return make_case(150, 8, 5, seed=20)


def compare(found, expected, names):
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)


def test_rotation(case):
    features, labels, predictions, (weight, bias) = case
    rotation = np.linalg.qr(np.random.default_rng(21).normal(size=(8, 8)))[0]
    turned = features @ rotation, labels, predictions, (weight @ rotation, bias)
    compare(measured(*turned), measured(*case), EVERY)


@pytest.mark.parametrize("factor", [1e-6, 1e5])
def test_scale(case, factor):
    features, labels, predictions, (weight, bias) = case
    larger = factor * features, labels, predictions, (factor * weight, bias)
    found, expected = measured(*larger), measured(*case)
    compare(found, expected, FREE_OF_SCALE)
    for name in ("norm_features", "norm_means", "norm_global_mean", "norm_head"):
        assert found[name] == pytest.approx(factor * expected[name])


def test_translation(case):
    features, *others = case
    moved = features + np.linspace(-40, 90, 8), *others
    found, expected = measured(*moved), measured(*case)
    compare(found, expected, set(EVERY) - OF_ORIGIN)
    assert found["norm_features"] > expected["norm_features"]


def test_names_of_classes(case):
    features, labels, predictions, (weight, bias) = case
    order = np.array([3, 0, 4, 2, 1])
    rows = np.argsort(order)
    renamed = features, order[labels], order[predictions], (weight[rows], bias[rows])
    compare(measured(*renamed), measured(*case), EVERY)


def test_order_of_samples(case):
    order = np.random.default_rng(22).permutation(150)
    compare(measured(*(part[order] for part in case[:3]), case[3]), measured(*case), EVERY)


def test_constant_features_change_nothing_but_their_norm(case):
    features, labels, predictions, _ = case
    padded = np.insert(features, [0, 3, 8], 7.5, axis=1)
    found, expected = measured(padded, labels, predictions), measured(*case[:3])
    compare(found, expected, set(EVERY) - OF_ORIGIN - OF_HEAD)


# --- an ideal simplex -------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 5, 10])
def test_a_simplex_without_scatter_is_fully_collapsed(n_classes):
    d = 12
    rotation = np.linalg.qr(np.random.default_rng(9).normal(size=(d, d)))[0][:, :n_classes]
    simplex = (np.eye(n_classes) - 1 / n_classes) @ rotation.T * 3
    labels = np.arange(8 * n_classes) % n_classes
    head = 5 * simplex, np.zeros(n_classes)
    found = measured(simplex[labels] + 2, labels, labels, head)
    length = 3 * np.sqrt(1 - 1 / n_classes)
    least = -np.log(2 * n_classes / (n_classes - 1)) / 2
    ideal = dict.fromkeys(EVERY, 0) | {
        **dict.fromkeys(("nc3_cosine", "nc4", "accuracy", "accuracy_nearest_mean"), 1),
        **dict.fromkeys(("hyperspherical_uniformity", "hyperspherical_uniformity_head"), least),
        "fewest_images": 8,
        "norm_means": length,
        "norm_global_mean": 2 * np.sqrt(d),
        "norm_features": np.linalg.norm(simplex + 2, axis=1).mean(),
        "norm_head": 5 * length * np.sqrt(n_classes),
    }
    # The logarithm of zero, but for rounding.
    assert found.pop("log_fuzziness", -np.inf) < -60
    del ideal["log_fuzziness"]
    for name, value in ideal.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["rank"] == n_classes - 1


def test_without_any_scatter_there_is_no_logarithm():
    found = measured(np.eye(3)[[0, 0, 1, 1, 2, 2]], np.array([0, 0, 1, 1, 2, 2]))
    assert found["nc1"] == 0
    assert "log_fuzziness" not in found


# --- by hand ----------------------------------------------------------------------------------


def test_two_classes_by_hand():
    # Means (2, 0) and (-2, 0); Sigma_W = [[1, 1/2], [1/2, 1/2]], Sigma_B = [[4, 0], [0, 0]].
    # Class 0 has the covariance [[1, 0], [0, 0]], class 1 [[1, 1], [1, 1]]; d^2 = 16.
    features = np.array([[1.0, 0], [3, 0], [-1, 1], [-3, -1]])
    head = np.array([[0.0, 3], [-4, 0]]), np.array([0.0, 1])
    # W h + b is (0, -3), (0, -11), (3, 5), (-3, 13).
    predictions = np.array([0, 0, 1, 1])
    found = measured(features, np.array([0, 0, 1, 1]), predictions, head)
    hand = {
        "nc1": 1 / 8,
        "nc1_balanced": 1 / 8,
        "nc1_report_a": 1 / 8,
        "nc1_quotient": 3 / 8,
        "log_fuzziness": np.log(1 / 4),
        "cdnv": 3 / 32,
        "directional_cdnv": 1 / 16,
        # Two centred means of classes of the same size always are a simplex.
        "nc2_equinorm": 0,
        "nc2_equiangularity": 0,
        "nc2_maximal_angle": 0,
        "nc2_equinorm_report_a": 0,
        "nc2_equiangularity_report_a": 0,
        "nc2_maximal_angle_report_a": 0,
        "etf_distance": 0,
        "hyperspherical_uniformity": -np.log(2),
        # Rows of the lengths 3 and 4 at a right angle.
        "nc2_equinorm_head": 1 / 7,
        "nc2_equiangularity_head": 0,
        "nc2_maximal_angle_head": 1,
        # [[9, 0], [0, 16]] / sqrt(337) less [[1, -1], [-1, 1]] / 2: 2 - 25 / sqrt(337), squared.
        "etf_distance_head": np.sqrt(2 - 25 / np.sqrt(337)),
        "hyperspherical_uniformity_head": -np.log(2) / 2,
        # W M^T = [[0, 0], [-8, 8]]: 2 - 2 * 16 / 2 / sqrt(128).
        "etf_distance_duality": np.sqrt(2 - np.sqrt(2)),
        # M / ||M|| = [[1, 0], [-1, 0]] / sqrt(2), W / 5: 2 - 2 * 4 / 5 / sqrt(2).
        "nc3": 2 - 4 * np.sqrt(2) / 5,
        "nc3_cosine": 1 / 2,
        "nc4": 1,
        "accuracy_nearest_mean": 1,
        "norm_features": (1 + 3 + np.sqrt(2) + np.sqrt(10)) / 4,
        "norm_means": 2,
        "norm_global_mean": 0,
        "norm_head": 5,
        "accuracy": 1,
        "rank": 1,
        "n_classes": 2,
        "n_samples": 4,
        "n_features": 2,
        "fewest_images": 2,
    }
    assert found == pytest.approx(hand, rel=1e-12, abs=1e-12)


def test_norms_and_angles_of_three_classes_by_hand():
    # Norms 3, 3, 3 sqrt(2); cosines 0, -1/sqrt(2), -1/sqrt(2).
    features = np.array([[3.0, 0], [0, 3], [-3, -3]])
    found = measured(features, np.array([0, 1, 2]))
    assert found["nc2_equinorm"] == pytest.approx(3 - 2 * np.sqrt(2))
    assert found["nc2_equiangularity"] == pytest.approx(1 / 3)
    assert found["nc2_maximal_angle"] == pytest.approx((np.sqrt(2) - 0.5) / 3)
    # Unit vectors sqrt(2), sqrt(2 + sqrt(2)) and sqrt(2 + sqrt(2)) apart.
    mean = (np.log(2) / 2 + np.log(2 + np.sqrt(2))) / 3
    assert found["hyperspherical_uniformity"] == pytest.approx(-mean)


def test_unequal_classes_by_hand():
    # Means 0 and 4 of three samples and one: mu_G = 1, mu_M = 2; variances 2/3 and 0.
    found = measured(np.array([[-1.0], [0], [1], [4]]), np.array([0, 0, 0, 1]))
    # Sigma_W = 1/2, Sigma_B = (1 + 9) / 2; balanced 1/3 and 4.
    assert found["nc1"] == pytest.approx(1 / 20)
    assert found["nc1_balanced"] == pytest.approx(1 / 24)
    # Lengths 2 and 2; around mu_G 1 and 3.
    assert found["nc2_equinorm"] == pytest.approx(0, abs=1e-12)
    assert found["nc2_equinorm_report_a"] == pytest.approx(1 / 2)
    assert found["norm_means"] == pytest.approx(2)


def test_fuzziness_of_unequal_classes_by_hand():
    # Means 0 and 4 of three samples and one: mu_G = 1, S_B = 3/4 * 1 + 1/4 * 9 = 3, Sigma_B = 5;
    # Sigma_W = (1 + 1) / 4.
    features = np.array([[-1.0], [0], [1], [4]])
    found = measured(features, np.array([0, 0, 0, 1]))
    assert found["log_fuzziness"] == pytest.approx(np.log(1 / 6))
    assert found["nc1"] == pytest.approx(1 / 20)


def test_agreement_with_the_nearest_mean_by_hand():
    # Nearest means 0, 0, 1, 1 (means 1 and 9); the network says 0, 1, 1, 0; labels 0, 0, 1, 1.
    features = np.array([[0.0], [2], [8], [10]])
    labels = np.array([0, 0, 1, 1])
    statistics, means = reduce(features, labels, np.array([0, 1, 1, 0]))
    found = measure(statistics)
    assert (found["nc4"], found["accuracy"], found["accuracy_nearest_mean"]) == (0.5, 0.5, 1)
    # Test samples 1 and 3 of class 0 and 4 of class 1 are nearest to 1; 7 of class 1 to 9.
    test, _ = reduce(np.array([[1.0], [3], [4], [7]]), labels, np.array([1, 0, 0, 1]), None, means)
    found = measure(test)
    assert (found["nc4"], found["accuracy"], found["accuracy_nearest_mean"]) == (0.75, 0.5, 0.75)


# --- what has no value ------------------------------------------------------------------------


def test_what_does_not_apply_is_left_out(case):
    features, labels, predictions, head = case
    assert set(EVERY) - set(measured(features, labels)) == OF_HEAD | OF_PREDICTIONS
    assert set(EVERY) - set(measured(features, labels, predictions)) == OF_HEAD
    assert set(EVERY) - set(measured(features, labels, None, head)) == OF_PREDICTIONS


def test_a_head_of_zeros_has_no_direction(case):
    features, labels, predictions, (weight, bias) = case
    found = measured(features, labels, predictions, (0 * weight, bias))
    assert set(EVERY) - set(found) == OF_HEAD - {"norm_head"}
    assert found["norm_head"] == 0


def test_two_class_means_that_coincide_have_no_distance():
    features = np.array([[1.0, 0], [3, 0], [2, 1], [2, -1], [-9, 4], [-9, 4]])
    statistics, _ = reduce(features, np.array([0, 0, 1, 1, 2, 2]))
    found = measure(statistics)
    missing = {"cdnv", "directional_cdnv", "hyperspherical_uniformity"}
    assert set(EVERY) - set(found) == missing | OF_HEAD | OF_PREDICTIONS
    assert few_shot_bound(statistics, 10) is None


@pytest.mark.parametrize("shift", [0.0, 0.1, 1e6 + 0.1])
@pytest.mark.parametrize(
    ("means", "sizes", "missing"),
    [
        ([(-4, 0), (0, 0), (4, 0)], [10, 20, 10], OF_DIRECTIONS | OF_DIRECTIONS_OF_REPORT_A),
        # At the mean of all samples alone, and at that of the class means alone.
        ([(-4, 2), (0, 0), (12, -2), (0, -2)], [30, 20, 10, 20], OF_DIRECTIONS_OF_REPORT_A),
        ([(-4, 0), (0, 0), (4, 0)], [10, 20, 30], OF_DIRECTIONS),
    ],
)
def test_a_class_mean_in_the_middle_has_no_direction_and_the_rest_a_value(
    means, sizes, missing, shift
):
    rng = np.random.default_rng(34)
    labels = np.repeat(np.arange(len(means)), sizes)
    noise = rng.normal(size=(len(labels), 5))
    for c in range(len(means)):
        noise[labels == c] -= noise[labels == c].mean(axis=0)
    features = np.array(means)[labels] @ np.eye(2, 5) + noise + shift
    case = features, labels, labels, (np.eye(len(means), 5), np.zeros(len(means)))
    found = measured(*case)
    assert set(EVERY) - set(found) == missing
    with np.errstate(invalid="ignore"):
        expected = dense(*case)
    for name in (*OF_VARIANCE, "nc2_equinorm", "etf_distance", "nc3", "norm_means"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


def test_one_image_a_class_has_no_variance_within_classes():
    rng = np.random.default_rng(35)
    features = rng.normal(size=(5, 8))
    found = measured(features, np.arange(5))
    assert set(EVERY) - set(found) == OF_VARIANCE | OF_HEAD | OF_PREDICTIONS
    assert found["fewest_images"] == 1
    statistics, _ = reduce(features, np.arange(5))
    for preset, definitions in PRESETS.items():
        for quantity in OF_VARIANCE & set(definitions):
            assert definitions[quantity].function(statistics) is None, (preset, quantity)
    # One class of two is enough.
    more = np.concatenate([features, features[:1] + 1])
    found = check(more, np.array([0, 1, 2, 3, 4, 0]))
    assert found["nc1"] > 0 and found["fewest_images"] == 1


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        measured(np.ones((4, 2)), np.full(4, 3))


@pytest.mark.parametrize("counts", [(10, 10), (3, 7), (2, 5)])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e6 + 0.1])
def test_class_means_equal_but_for_rounding_are_refused(counts, value):
    features = np.full((sum(counts), 4), value)
    with pytest.raises(CollapsedError, match="all class means coincide"):
        measured(features, np.repeat([0, 1], counts))


# --- the few-shot bound -----------------------------------------------------------------------


def literal_bound(features, labels, m):
    """The bound, pair by pair, from all samples."""
    parts = [features[labels == c].astype(np.float64) for c in np.unique(labels)]
    means = [part.mean(axis=0) for part in parts]
    total = 0.0
    for i, j in permutations(range(len(parts)), 2):
        gap = means[j] - means[i]
        d2 = gap @ gap
        lengths = [((parts[c] - means[c]) ** 2).sum(axis=1) for c in (i, j)]
        vi, vj = (squares.mean() for squares in lengths)
        directional = (((parts[i] - means[i]) @ gap) ** 2).mean() / d2 / d2
        V = (vi + vj) / d2
        theta = sum((squares**2).mean() for squares in lengths) / d2**2
        a_t = 4 / m * (V**2 + V / 4)
        a_s = V / m
        a_q = (theta + 2 * (m - 1) * V**2) / m**3
        numerator = 4 * directional + (np.sqrt(a_t) + np.sqrt(a_s) + np.sqrt(a_q)) ** 2
        total += numerator / (1 + (vj - vi) / (m * d2)) ** 2
    return total / len(parts)


@pytest.mark.parametrize("shots", [10, 25, 1000])
def test_the_bound_equals_a_loop_over_pairs(shots):
    rng = np.random.default_rng(30)
    labels = rng.permutation(np.repeat([0, 1, 2, 3], [40, 11, 1, 25]))
    # Classes of unequal variance.
    features = 2 * rng.normal(size=(4, 7))[labels]
    features += rng.normal(size=features.shape) * np.array([1, 3, 1, 0.2])[labels, None]
    statistics, _ = reduce(features, labels)
    expected = literal_bound(features, labels, shots)
    assert few_shot_bound(statistics, shots) == pytest.approx(expected, rel=1e-9)


def test_the_bound_by_hand():
    # As above: V~ = 1/16 both ways, v = (1, 2), d^2 = 16, V = 3/16; fourth powers 1 and 4.
    features = np.array([[1.0, 0], [3, 0], [-1, 1], [-3, -1]])
    statistics, _ = reduce(features, np.array([0, 0, 1, 1]))
    roots = np.sqrt(0.4 * (9 / 256 + 3 / 64)) + np.sqrt(3 / 160)
    roots += np.sqrt((5 / 256 + 18 * 9 / 256) / 1000)
    numerator = 1 / 4 + roots**2
    hand = numerator * ((1 + 1 / 160) ** -2 + (1 - 1 / 160) ** -2) / 2
    assert few_shot_bound(statistics, 10) == pytest.approx(hand)


def test_there_is_no_bound_for_fewer_than_ten_images(case):
    statistics, _ = reduce(*case)
    assert few_shot_bound(statistics, 9) is None


@pytest.mark.parametrize("shots", [10, 50])
@pytest.mark.parametrize("distance", [4, 8, 20])
@pytest.mark.parametrize("kind", ["normal", "flat", "heavy"])
def test_the_bound_holds_for_the_nearest_mean_of_few_images(shots, distance, kind):
    """The error of scikit-learn's nearest centroid on samples of three kinds of classes: equal in
    all directions, along one direction that all share, and with heavy tails."""
    rng = np.random.default_rng(31)
    n_classes, d = 4, 20
    means = distance / np.sqrt(2) * np.eye(d)[:n_classes]

    def draw(n):
        labels = np.repeat(np.arange(n_classes), n)
        noise = rng.normal(size=(len(labels), d))
        if kind == "flat":
            noise[:, 1:] *= 0.1
        elif kind == "heavy":
            noise = rng.standard_t(6, size=noise.shape)
        return means[labels] + noise * np.array([0.5, 1, 1, 1.5])[labels, None], labels

    bound = few_shot_bound(reduce(*draw(2000))[0], shots)
    errors = []
    test, labels = draw(500)
    for _ in range(20):
        model = NearestCentroid().fit(*draw(shots))
        errors.append(1 - model.score(test, labels))
    assert 0 <= np.mean(errors) <= bound


# --- files of states --------------------------------------------------------------------------


def test_states_are_measured_from_their_files(tmp_path, case):
    features, labels, predictions, head = case
    inner, means = reduce(features[:, :5], labels)
    test, _ = reduce(features[:70, :5], labels[:70], training=means)
    last, means = reduce(*case)
    end, _ = reduce(features[:70], labels[:70], predictions[:70], head, means)
    layers = {
        "relu": {"train": inner, "test": test, MATCHED: test},
        "penultimate": {"train": last, "test": end, MATCHED: end},
    }
    write_statistics(tmp_path / "one.npz", layers, [])
    write_failed_statistics(tmp_path / "two.npz", "the loss was not finite")
    paths = {1: tmp_path / "one.npz", 2: tmp_path / "two.npz"}
    failed = {"failed": "the loss was not finite"}
    assert measure_states(paths, ["relu", "penultimate"]) == [
        {
            "epoch": 1,
            "layers": {
                layer: {split: measure(statistics) for split, statistics in splits.items()}
                for layer, splits in layers.items()
            },
        },
        {
            "epoch": 2,
            "layers": {
                layer: {"train": failed, "test": failed, MATCHED: failed}
                for layer in ("relu", "penultimate")
            },
        },
    ]
    (only,) = measure_states({None: tmp_path / "one.npz"}, ["relu"])
    assert only["epoch"] is None
    assert list(only["layers"]) == ["relu"]


def test_a_split_whose_class_means_coincide_has_failed_and_the_other_is_measured(
    tmp_path, make_store, case
):
    features, labels, predictions, _ = case
    features = features.astype(np.float32)
    paths = {
        "train": make_store(np.full_like(features, 0.3), labels, predictions, "train.h5"),
        "test": make_store(features, labels, None, "test.h5"),
    }
    write_statistics(tmp_path / "raw.npz", {"": reduce_stores(paths)}, [])
    (state,) = measure_states({None: tmp_path / "raw.npz"}, [""])
    answer = state["layers"][""]
    assert answer["train"] == {"failed": "all class means coincide"}
    assert answer["test"]["nc1"] == pytest.approx(dense(features, labels)["nc1"], rel=1e-9)


def test_a_file_with_one_class_is_named(tmp_path):
    one, _ = reduce(np.ones((4, 2)), np.full(4, 3))
    of_splits = {"train": one, "test": one, MATCHED: one}
    write_statistics(tmp_path / "raw.npz", {"": of_splits}, [])
    with pytest.raises(UserError, match="raw.npz: .*two classes"):
        measure_states({None: tmp_path / "raw.npz"}, [""])


def test_a_file_without_the_matched_sample_is_named(tmp_path, case):
    statistics, _ = reduce(*case)
    write_statistics(tmp_path / "raw.npz", {"": {"train": statistics, "test": statistics}}, [])
    with pytest.raises(UserError, match="raw.npz: lacks statistics of the layer ''; delete it"):
        measure_states({None: tmp_path / "raw.npz"}, [""])


def test_products_that_are_all_zero_have_no_distance_to_the_simplex():
    # Class means along one axis, rows of the last layer along the other.
    features = np.array([[-2.0, 0], [-1, 0], [1, 0], [2, 0]])
    weight = np.array([[0, 1], [0, 2]], np.float32)
    head = (weight, np.zeros(2, np.float32))
    found = measured(features, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), head)
    assert "etf_distance_duality" not in found
    assert found["nc3_cosine"] == 0
