"""CKA against the n x n formulas written down literally, and its invariances."""

import json

import numpy as np
import pytest
from scipy.stats import ortho_group

from collapseflow.images.datasets import stratified_rows
from collapseflow.measures import similarity
from collapseflow.measures.similarity import (
    Kernel,
    cka,
    compare_layers,
    compare_sets,
    sample,
    unbiased_hsic,
)
from collapseflow.running.errors import UserError

#: Widths of two layers for 30 images: both narrow, one wide, both wide.
WIDTHS = [(4, 7), (6, 50), (50, 6), (40, 80)]


def layers(p, q, n=30, seed=0, shared=2):
    """Two layers that share some directions, not centred."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, shared))
    x, y = (
        common @ rng.normal(size=(shared, d)) + rng.normal(size=(n, d)) + rng.normal(size=d)
        for d in (p, q)
    )
    return x.astype(np.float32), y.astype(np.float32)


def hsic_by_hand(x, y):
    """Song et al. (2012), equation 5, with n x n matrices; features are not centred."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    n, one = len(x), np.ones(len(x))
    k, ell = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(ell, 0)
    total = np.trace(k @ ell)
    total += (one @ k @ one) * (one @ ell @ one) / ((n - 1) * (n - 2))
    total -= 2 / (n - 2) * (one @ k @ ell @ one)
    return total / (n * (n - 3))


def cka_by_hand(x, y):
    return hsic_by_hand(x, y) / np.sqrt(hsic_by_hand(x, x) * hsic_by_hand(y, y))


def biased_cka(x, y):
    x, y = (values.astype(float) - values.mean(axis=0, dtype=float) for values in (x, y))
    cross, own_x, own_y = (np.linalg.norm(a.T @ b) ** 2 for a, b in ((x, y), (x, x), (y, y)))
    return cross / np.sqrt(own_x * own_y)


def ours(x, y):
    return cka(Kernel(x), Kernel(y))


@pytest.mark.parametrize("n", [4, 5, 30])
@pytest.mark.parametrize("widths", WIDTHS)
def test_hsic_and_cka_equal_the_literal_formula(widths, n):
    x, y = layers(*widths, n=n)
    assert unbiased_hsic(Kernel(x), Kernel(y)) == pytest.approx(hsic_by_hand(x, y), rel=1e-9)
    if n == 30:
        assert ours(x, y) == pytest.approx(cka_by_hand(x, y), rel=1e-9)


def test_hsic_by_hand():
    # Each row of K~ = L~ has one 1, two -1 and a 0: squares 12, sum -4, squared sums of rows 4.
    x = np.array([[1.0], [1], [-1], [-1]], np.float32)
    expected = (12 + 16 / 6 - 2 / 2 * 4) / 4
    assert unbiased_hsic(Kernel(x), Kernel(x)) == pytest.approx(expected)


def test_no_matrix_of_images_where_there_are_fewer_features():
    x, y = layers(4, 50)
    assert Kernel(x).matrix is None
    assert Kernel(y).matrix.shape == (30, 30)


def test_independent_wide_features_are_not_similar_where_the_biased_estimate_is():
    rng = np.random.default_rng(0)
    unbiased, biased = [], []
    for _ in range(20):
        x, y = (rng.normal(size=(32, 2000)).astype(np.float32) for _ in range(2))
        unbiased.append(ours(x, y))
        biased.append(biased_cka(x, y))
    assert abs(np.mean(unbiased)) < 0.02
    assert np.min(biased) > 0.9


@pytest.mark.parametrize("widths", WIDTHS)
def test_rotation_scale_and_shift_change_nothing(widths):
    x, y = layers(*widths)
    expected = ours(x, y)
    rotated = x.astype(float) @ ortho_group.rvs(widths[0], random_state=0)
    for changed in (rotated, x * 6e-9, x * 1e6, x + 100.0, rotated[:, ::-1] * 3 - 1):
        assert ours(changed.astype(np.float32), y) == pytest.approx(expected, abs=1e-4)
    order = np.random.default_rng(0).permutation(30)
    assert ours(x[order], y[order]) == pytest.approx(expected)


@pytest.mark.parametrize("d", [3, 80])
def test_a_layer_is_as_similar_to_itself_as_can_be(d):
    x, _ = layers(d, 4)
    assert ours(x, x) == pytest.approx(1)
    assert ours(x, 2 * x + 1) == pytest.approx(1)


def test_constant_features_have_no_similarity():
    x, y = layers(4, 5)
    for constant in (np.full((30, 3), 0.1, np.float32), np.full((30, 50), 0.1, np.float32)):
        assert ours(constant, y) is ours(x, constant) is None
    # Beside others they do not count.
    more = np.column_stack([x, np.full(30, 0.1, np.float32)])
    assert ours(more, y) == pytest.approx(ours(x, y))


def test_the_sample_is_stratified_and_at_most_all():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    rows = sample(labels, 20, seed=4)
    np.testing.assert_array_equal(rows, stratified_rows(labels, 20, 4))
    np.testing.assert_array_equal(np.bincount(labels[rows]), [12, 6, 2])
    np.testing.assert_array_equal(sample(labels, 5000, seed=1), np.arange(100))
    with pytest.raises(UserError, match="^3 images to compare layers on; allowed: 4 or more$"):
        sample(labels[:3], 5000, seed=0)


LABELS = np.arange(60) % 3


def state(make_store, name, seed):
    """Stores of the layers ``a`` (narrow) and ``b`` (wide), and their features."""
    a, b = layers(8, 70, n=60, seed=seed)
    paths = {
        layer: make_store(features, LABELS, name=f"{name}-{layer}.h5")
        for layer, features in (("a", a), ("b", b))
    }
    return paths, {"a": a, "b": b}


@pytest.mark.parametrize("n", [60, 20])
def test_all_layers_of_all_states_are_compared(make_store, monkeypatch, n):
    monkeypatch.setattr(similarity, "N_IMAGES", n)
    first, x = state(make_store, "first", 0)
    last, y = {}, {}
    for seed in (5, 7, 6):
        last[seed], y[seed] = state(make_store, f"s{seed}", seed)
    answer = compare_layers(first, last, seed=2, threads=1)
    json.dumps(answer, allow_nan=False)
    made_with = answer.pop("made_with")
    assert any("numpy" in line for line in made_with)
    rows = stratified_rows(LABELS, n, 2)

    def table(one, other):
        return np.array([[cka_by_hand(one[i][rows], other[j][rows]) for j in other] for i in one])

    across = {
        layer: np.array([[cka_by_hand(y[s][layer][rows], y[t][layer][rows]) for t in y] for s in y])
        for layer in "ab"
    }
    assert (answer["n_images"], answer["layers"], answer["seeds"]) == (n, ["a", "b"], [5, 7, 6])
    np.testing.assert_allclose(answer["first"], table(x, x), rtol=1e-8)
    np.testing.assert_allclose(answer["last"], table(y[5], y[5]), rtol=1e-8)
    np.testing.assert_allclose(answer["first_last"], table(x, y[5]), rtol=1e-7, atol=1e-9)
    assert set(answer["across_seeds"]) == {"a", "b"}
    for layer, expected in across.items():
        np.testing.assert_allclose(answer["across_seeds"][layer], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n", [60, 20])
def test_sets_are_compared_with_each_other(make_store, monkeypatch, n):
    monkeypatch.setattr(similarity, "N_IMAGES", n)
    stores, x = state(make_store, "first", 0)
    dead = np.full((60, 2), 0.1, np.float32)
    answer = compare_sets({**stores, "c": make_store(dead, LABELS, name="c.h5")}, seed=2, threads=1)
    json.dumps(answer, allow_nan=False)
    rows = stratified_rows(LABELS, n, 2)
    found = np.array(answer["cka"], dtype=float)
    expected = [[cka_by_hand(x[i][rows], x[j][rows]) for j in "ab"] for i in "ab"]
    np.testing.assert_allclose(found[:2, :2], expected, rtol=1e-7)
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all()
    assert (answer["n_images"], answer["sets"]) == (n, ["a", "b", "c"])
    other = make_store(x["a"], LABELS[::-1].copy(), name="other.h5")
    with pytest.raises(UserError, match="other.h5: holds other images than .*first-a.h5"):
        compare_sets({"a": stores["a"], "b": other}, seed=0, threads=1)


def test_one_seed_and_a_dead_layer(make_store):
    first, _ = state(make_store, "first", 0)
    last, _ = state(make_store, "last", 1)
    last["b"] = make_store(np.full((60, 2), 0.1, np.float32), LABELS, name="dead.h5")
    answer = compare_layers(first, {0: last}, seed=0, threads=2)
    assert answer["across_seeds"] == {"a": [[1.0]], "b": [[None]]}
    assert answer["last"] == [[1.0, None], [None, None]]
    assert [row[1] for row in answer["first_last"]] == [None, None]


def test_stores_of_other_images_are_refused(make_store):
    first, _ = state(make_store, "first", 0)
    last, features = state(make_store, "last", 1)
    last["b"] = make_store(features["b"], LABELS[::-1].copy(), name="other.h5")
    with pytest.raises(UserError, match="other.h5: holds other images than .*first-a.h5"):
        compare_layers(first, {0: last}, seed=0, threads=1)
