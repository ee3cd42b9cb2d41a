"""Few-shot curves against scikit-learn's nearest centroid and Student's t; their bounds."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier

from collapseflow.features.stores import write_store
from collapseflow.measures import few_shot as module
from collapseflow.measures.collapse import few_shot_bound
from collapseflow.measures.few_shot import few_shot, interval_of_mean
from collapseflow.measures.statistics import reduce_stores


@pytest.fixture
def make_case(make_store):
    """A function that stores features and labels of both splits; it gives the test images' store
    and the statistics of both."""

    def make(*parts):
        splits = ("train", "test")
        paths = {
            split: make_store(features.astype(np.float32), labels, name=f"{split}.h5")
            for split, (features, labels) in zip(splits, parts, strict=True)
        }
        return paths["test"], reduce_stores(paths)

    return make


def draw_classes(counts, seed=0, distance=2.0, d=10):
    """Gaussian classes 2, 5 and 9, so many images of each, far from the origin."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([2, 5, 9], counts))
    features = 50 + np.eye(d)[labels] * distance + rng.normal(size=(len(labels), d))
    return features.astype(np.float32), labels


TRAIN = draw_classes((60, 60, 60), seed=1)


def run(case, shots=(1, 3, 25, 26), draws=4, seed=0, threads=1):
    store, statistics = case
    return few_shot(store, statistics["test"], seed, threads, shots, draws)


def test_each_draw_is_the_nearest_centroid_of_its_images_on_the_others(make_case, monkeypatch):
    x, y = draw_classes((150, 100, 50))
    case = make_case(TRAIN, (x, y))
    drawn = {}
    real = module._draw

    def draw(labels, label, n, seed, givers):
        rows = real(labels, label, n, seed, givers)
        drawn[seed[1], int(label)] = rows
        return rows

    monkeypatch.setattr(module, "_draw", draw)
    # Scores of few images at a time.
    monkeypatch.setattr(module, "SCORES_BYTES", 8 * 36 * 7)
    found = run(case, shots=(1, 3, 25))
    assert list(found["shots"]) == ["1", "3", "25"]
    assert (found["n_test"], found["left_out"]) == (300, 0)
    for number in range(4):
        of_draw = [drawn[number, label] for label in (2, 5, 9)]
        for label, rows in zip((2, 5, 9), of_draw, strict=True):
            assert len(set(rows)) == 25 and (y[rows] == label).all()
        queries = np.setdiff1d(np.arange(300), np.concatenate(of_draw))
        for m in (1, 3, 25):
            rows = np.concatenate([rows[:m] for rows in of_draw])
            centroid = NearestCentroid().fit(x[rows].astype(np.float64), y[rows])
            predicted = centroid.predict(x[queries].astype(np.float64))
            # The mean of the classes' recalls.
            expected = balanced_accuracy_score(y[queries], predicted)
            assert found["shots"][str(m)]["accuracies"][number] == pytest.approx(expected)
    centroid = NearestCentroid().fit(TRAIN[0].astype(np.float64), TRAIN[1])
    of_all = balanced_accuracy_score(y, centroid.predict(x.astype(np.float64)))
    assert found["all"] == pytest.approx(of_all)


def test_the_bound_is_that_of_the_test_images_moments(make_case):
    case = make_case(TRAIN, draw_classes((150, 100, 50), distance=8))
    shots = run(case)["shots"]
    assert [shots[m]["bound"] for m in ("1", "3")] == [None, None]
    assert shots["25"]["bound"] == few_shot_bound(case[1]["test"], 25) < 1
    # 26 are more than half of a class.
    assert shots["26"]["bound"] is None
    assert [part["n_classes"] for part in shots.values()] == [3, 3, 3, 2]


def test_small_classes_give_half_of_their_images_and_do_not_cut_the_curve(make_case):
    x, y = draw_classes((150, 5, 1))
    found = run(make_case(TRAIN, (x, y)), shots=(1, 2, 10, 75, 76), draws=30)
    assert list(found["shots"]) == ["1", "2", "10", "75"]
    assert [part["n_classes"] for part in found["shots"].values()] == [2, 2, 1, 1]
    assert all(part["bound"] is None for part in found["shots"].values())
    assert (found["n_test"], found["left_out"]) == (155, 1)
    assert np.mean(found["shots"]["75"]["accuracies"]) > 0.8


@pytest.mark.parametrize("counts", [(20, 1, 1), (1, 1, 1)])
def test_fewer_than_two_classes_of_two_images_have_no_curve(make_case, counts):
    found = run(make_case(TRAIN, draw_classes(counts)))
    assert found["shots"] == {} and found["left_out"] == counts.count(1)


def test_draws_differ_and_more_images_are_better(make_case):
    shots = run(make_case(TRAIN, draw_classes((150, 100, 50))), draws=10)["shots"]
    means = [np.mean(shots[m]["accuracies"]) for m in ("1", "3", "25")]
    assert len(set(shots["1"]["accuracies"])) > 5
    assert means[0] + 0.05 < means[1] < means[2] - 0.05


def test_the_seed_decides_and_threads_change_nothing(make_case):
    case = make_case(TRAIN, draw_classes((150, 100, 50)))
    first = run(case)
    assert run(case, threads=2) == first
    assert run(case, seed=1)["shots"] != first["shots"]


def errors_and_bounds(found):
    """Mean error and bound, by m, where there is a bound."""
    return {
        int(m): (1 - np.mean(part["accuracies"]), part["bound"])
        for m, part in found["shots"].items()
        if part["bound"] is not None
    }


@pytest.mark.parametrize("distance", [4, 8, 20])
@pytest.mark.parametrize("counts", [(200, 200, 200), (400, 100, 40)])
def test_of_gaussian_classes_the_bound_is_above_the_error(make_case, counts, distance):
    test = draw_classes(counts, seed=2, distance=distance)
    found = errors_and_bounds(run(make_case(TRAIN, test), shots=(10, 20), draws=20))
    assert list(found) == [10, 20]
    for error, bound in found.values():
        assert error <= bound
    assert distance < 20 or found[20][1] < 0.5


def test_features_that_fit_random_labels_have_no_bound_below_their_error(make_case):
    """The outputs of a network that knows 400 digits' random labels by heart: the training images'
    moments would bound the error far below that of guessing, which is all that there is."""
    rng = np.random.default_rng(3)
    images = load_digits().data / 16
    labels = rng.integers(4, size=len(images))
    train, test = slice(400), slice(400, None)
    network = MLPClassifier(256, solver="lbfgs", alpha=1e-3, max_iter=2000, random_state=0)
    network.fit(images[train], labels[train])
    assert network.score(images[train], labels[train]) == 1
    outputs = network.predict_proba(images)
    case = make_case((outputs[train], labels[train]), (outputs[test], labels[test]))
    found = errors_and_bounds(run(case, shots=(10, 50, 100)))
    assert list(found) == [10, 50, 100]
    for m, (error, bound) in found.items():
        assert 0.6 < error < bound
        assert few_shot_bound(case[1]["train"], m) < 0.1
    assert 0.2 < run(case)["all"] < 0.35


def test_the_interval_of_a_mean_is_student_s():
    values = [0.61, 0.7, 0.66, 0.59, 0.72]
    low, high = interval_of_mean(values)
    # By hand: t(0.975, 4) = 2.7764.
    half = 2.7764 * np.std(values, ddof=1) / np.sqrt(5)
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-5)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (low, high) == pytest.approx(tuple(expected))
    assert interval_of_mean([0.5, 0.5]) == (0.5, 0.5)


# --- groups -------------------------------------------------------------------------------------


@pytest.fixture
def grouped_case(tmp_path, provenance, make_case):
    """A function that stores test images with groups."""

    def make(x, y, groups):
        _, statistics = make_case(TRAIN, (x, y))
        path = tmp_path / "grouped.h5"
        write_store(path, [(x, None)], y, np.arange(len(y)), provenance, np.asarray(groups))
        return path, statistics

    return make


def test_shots_and_queries_share_no_group(grouped_case, monkeypatch):
    # Images are told by their group alone: the nearest mean is right about those of groups that it
    # has seen, and guesses others.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 10)
    y = np.array([2, 5, 9])[groups % 3]
    x = (20 * np.eye(30)[groups] + rng.normal(0, 0.1, (300, 30))).astype(np.float32)
    x -= x.mean(axis=0)
    monkeypatch.setattr(
        "test_few_shot.TRAIN", (rng.normal(size=(180, 30)).astype(np.float32), TRAIN[1])
    )
    case = grouped_case(x, y, groups)
    apart = run(case, shots=(30,), draws=6)["shots"]["30"]
    assert apart["n_classes"] == 3
    mixed = few_shot_without_groups(case, monkeypatch)["shots"]["30"]
    assert np.mean(apart["accuracies"]) < 0.55 < 0.9 < np.mean(mixed["accuracies"])


def few_shot_without_groups(case, monkeypatch):
    monkeypatch.setattr(module, "read_groups", lambda store: None)
    return run(case, shots=(30,), draws=6)


def test_a_class_of_one_group_is_left_out(grouped_case):
    x, y = draw_classes((40, 40, 20))
    # Class 9 is one group; the others have four each.
    groups = np.where(y == 9, 99, 10 * y + np.arange(100) % 4)
    found = run(grouped_case(x, y, groups), shots=(1,))
    assert found["left_out"] == 1 and found["n_test"] == 80
    assert found["shots"]["1"]["n_classes"] == 2
    alone = run(grouped_case(x, y, np.zeros(100)), shots=(1,))
    assert alone["left_out"] == 3 and alone["shots"] == {} and alone["all"] is None
