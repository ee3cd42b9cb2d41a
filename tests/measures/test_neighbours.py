"""Nearest neighbours and nearest class means against dense formulas and scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from collapseflow.measures import neighbours
from collapseflow.measures.neighbours import NearestClassMean, NearestNeighbors
from collapseflow.measures.probes import build_classifier
from collapseflow.running.errors import UserError


def make(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice([1, 4, 7], n, p=[0.2, 0.3, 0.5])
    features = np.eye(8)[labels] * 1.5 + rng.normal(size=(n, 8))
    return features.astype(np.float32), labels


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (5, 1), (1, 1e-6), (1000, 0.07)])
def test_votes_are_those_of_the_dense_formula(k, temperature, monkeypatch):
    (x, y), (z, _) = make(200, 0), make(90, 1)
    # Few images at a time.
    monkeypatch.setattr(neighbours, "PIECE_BYTES", 4 * 200 * 7)
    x64, z64 = (a / np.linalg.norm(a, axis=1)[:, None] for a in (x.astype(float), z.astype(float)))
    similar = z64 @ x64.T
    expected = []
    for row in similar:
        nearest = np.argsort(-row)[:k]
        weights = np.exp((row[nearest] - row.max()) / temperature)
        expected.append(max((1, 4, 7), key=lambda c: weights[y[nearest] == c].sum()))
    found = NearestNeighbors(k, temperature).fit(x, y).predict(z)
    np.testing.assert_array_equal(found, expected)


def test_with_a_weight_that_scikit_learn_is_given_it_answers_the_same():
    (x, y), (z, _) = make(300, 2), make(100, 3)
    theirs = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda d: np.exp(-d / 0.07)
    ).fit(x, y)
    ours = NearestNeighbors().fit(x, y).predict(z)
    assert np.mean(ours == theirs.predict(z)) > 0.98


@pytest.mark.parametrize("origin", [0, 30, 1e4])
def test_far_from_the_origin_it_answers_as_scikit_learn_in_float64(origin):
    (x, y), (z, w) = make(400, 2), make(200, 3)
    x, z = ((3 * a + origin).astype(np.float32) for a in (x, z))
    theirs = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((d.min() - d) / 0.07)
    ).fit(x.astype(np.float64), y)
    ours = NearestNeighbors().fit(x, y).predict(z)
    expected = theirs.predict(z.astype(np.float64))
    assert np.mean(ours == expected) > 0.99
    assert np.mean(ours == w) == pytest.approx(np.mean(expected == w), abs=0.01)


def test_the_length_of_features_does_not_matter():
    (x, y), (z, _) = make(200, 4), make(80, 5)
    expected = NearestNeighbors().fit(x, y).predict(z)
    factors = np.exp2(np.random.default_rng(6).integers(-30, 10, (200, 1))).astype(np.float32)
    np.testing.assert_array_equal(NearestNeighbors().fit(x * factors, y).predict(z), expected)
    assert NearestNeighbors().fit(0 * x, y).predict(z).shape == (80,)


@pytest.mark.parametrize("parameters", [{"n_neighbors": 0}, {"temperature": 0.0}])
def test_no_neighbours_and_no_temperature_are_refused(parameters):
    (key,) = parameters
    with pytest.raises(UserError, match=f"parameters: .*'{key}'"):
        build_classifier("collapseflow.NearestNeighbors", parameters, "none", 0, 1)


@pytest.mark.parametrize(("scale", "origin"), [(1, 0), (6e-9, 0), (1, 1000)])
def test_the_nearest_mean_is_that_of_scikit_learn_in_float64(scale, origin, monkeypatch):
    monkeypatch.setattr(neighbours, "PIECE_BYTES", 8 * 8 * 33)
    (x, y), (z, _) = make(300, 7), make(100, 8)
    x, z = ((scale * a + origin).astype(np.float32) for a in (x, z))
    ours = NearestClassMean().fit(x, y)
    means = np.array([x[y == c].astype(np.float64).mean(axis=0) for c in (1, 4, 7)])
    np.testing.assert_allclose(ours.means_, means, rtol=1e-12)
    distances = np.linalg.norm(z[:, None].astype(np.float64) - means, axis=2)
    np.testing.assert_array_equal(ours.predict(z), np.array([1, 4, 7])[distances.argmin(axis=1)])
    theirs = NearestCentroid().fit(x.astype(np.float64), y).predict(z.astype(np.float64))
    np.testing.assert_array_equal(ours.predict(z), theirs)
