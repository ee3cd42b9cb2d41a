"""Few-shot curves against scikit-learn's nearest centroid and Student's t."""

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import NearestCentroid

from collapseflow.measures import few_shot as module
from collapseflow.measures.few_shot import few_shot, interval_of_mean


@pytest.fixture
def stores(make_store):
    rng = np.random.default_rng(0)
    parts = []
    for n in (150, 300):
        labels = rng.permutation(np.repeat([2, 5, 9], [n // 2, n // 3, n - n // 2 - n // 3]))
        features = 50 + np.eye(10)[labels] * 2 + rng.normal(size=(n, 10))
        parts.append((features.astype(np.float32), labels))
    paths = [make_store(*part, name=f"{k}.h5") for k, part in enumerate(parts)]
    return (*paths, *parts)


def run(stores, shots=(1, 3, 25, 26), draws=4, seed=0, threads=1):
    return few_shot(*stores[:2], lambda m: 1 / m, seed, threads, shots, draws)


def test_each_draw_is_the_nearest_centroid_of_its_images(stores, monkeypatch):
    drawn = {}
    real = module._draw

    def draw(labels, label, n, seed):
        rows = real(labels, label, n, seed)
        drawn[seed[1], int(label)] = rows
        return rows

    monkeypatch.setattr(module, "_draw", draw)
    # Scores of few images at a time.
    monkeypatch.setattr(module, "SCORES_BYTES", 8 * 36 * 7)
    found = run(stores)
    (x, y), (z, w) = stores[2:]
    # The rarest class has 25 images.
    assert list(found["shots"]) == ["1", "3", "25"] and found["n_test"] == 300
    for number in range(4):
        for label in (2, 5, 9):
            rows = drawn[number, label]
            assert len(set(rows)) == 25 and (y[rows] == label).all()
        for m in (1, 3, 25):
            rows = np.concatenate([drawn[number, label][:m] for label in (2, 5, 9)])
            centroid = NearestCentroid().fit(x[rows].astype(np.float64), y[rows])
            expected = centroid.score(z.astype(np.float64), w)
            assert found["shots"][str(m)]["accuracies"][number] == pytest.approx(expected)
    assert [part["bound"] for part in found["shots"].values()] == [1, 1 / 3, 1 / 25]


def test_draws_differ_and_more_images_are_better(stores):
    shots = run(stores, draws=10)["shots"]
    means = [np.mean(shots[m]["accuracies"]) for m in ("1", "3", "25")]
    assert len(set(shots["1"]["accuracies"])) > 5
    assert means[0] + 0.05 < means[1] < means[2] - 0.05


def test_the_seed_decides_and_threads_change_nothing(stores):
    first = run(stores)
    assert run(stores, threads=2) == first
    assert run(stores, seed=1)["shots"] != first["shots"]


def test_a_class_of_one_image_leaves_one_shot_and_none_is_left_of_more(make_store, stores):
    (x, y), _ = stores[2:]
    rows = np.concatenate([np.flatnonzero(y == 2)[:1], np.flatnonzero(y != 2)])
    few = make_store(x[rows], y[rows], name="few.h5")
    assert list(run((few, stores[1]))["shots"]) == ["1"]
    assert run((few, stores[1]), shots=(2, 5))["shots"] == {}


def test_the_interval_of_a_mean_is_student_s():
    values = [0.61, 0.7, 0.66, 0.59, 0.72]
    low, high = interval_of_mean(values)
    # By hand: t(0.975, 4) = 2.7764.
    half = 2.7764 * np.std(values, ddof=1) / np.sqrt(5)
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-5)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (low, high) == pytest.approx(tuple(expected))
    assert interval_of_mean([0.5, 0.5]) == (0.5, 0.5)
