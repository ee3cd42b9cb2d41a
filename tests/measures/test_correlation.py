"""Correlations against SciPy and by hand, the bootstrap against a literal loop."""

import numpy as np
import pytest
from scipy import stats

from collapseflow.measures.correlation import pearson_fit, spearman


def points(n=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, x**3 + rng.normal(size=n)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_the_rank_correlation_is_scipys(n):
    x, y = points(n)
    x[0] = x[1]
    if n == 2:
        x[0] -= 1
    assert spearman(x, y, seed=0, draws=10)[0] == pytest.approx(stats.spearmanr(x, y).statistic)


def test_the_interval_is_the_percentiles_of_the_same_draws_by_a_loop():
    x, y = points()
    rho, low, high = spearman(x, y, seed=3, draws=200)
    rng = np.random.default_rng(3)
    drawn = [stats.spearmanr(x[rows], y[rows]).statistic for rows in rng.integers(0, 12, (200, 12))]
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert low < rho < high


def test_few_points_have_no_interval():
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4], seed=0) == (pytest.approx(0.8), None, None)
    assert None not in spearman([1, 2, 3, 4, 5], [1, 3, 2, 4, 5], seed=0)


def test_draws_of_equal_points_are_left_out():
    # One of five points differs: a third of the draws are without it.
    rho, low, high = spearman([0, 0, 0, 0, 1], [0, 0, 0, 0, 1], seed=0, draws=500)
    assert (rho, low, high) == pytest.approx((1, 1, 1))


def test_without_two_different_values_there_is_no_correlation():
    assert spearman([1.0], [2.0], seed=0) == (None, None, None)
    assert spearman([1, 1, 1, 1, 1, 1], range(6), seed=0) == (None, None, None)
    assert spearman(range(6), [0.1] * 6, seed=0) == (None, None, None)


def test_the_seed_decides():
    x, y = points()
    assert spearman(x, y, 1, 100) == spearman(x, y, 1, 100) != spearman(x, y, 2, 100)


def test_the_line_by_hand_and_as_scipys():
    # Around the means 1 and 2 the sums of products are 2 (xx), 3 (xy) and 6 (yy).
    assert pearson_fit([0, 1, 2], [1, 1, 4]) == pytest.approx((1.5, 0.5, np.sqrt(3) / 2))
    x, y = points(30)
    line = stats.linregress(x, y)
    assert pearson_fit(x, y) == pytest.approx((line.slope, line.intercept, line.rvalue))


def test_equal_values_have_no_line():
    assert pearson_fit([1, 1], [2, 3]) is None
    assert pearson_fit([1, 2], [3, 3]) is None
    assert pearson_fit([1], [3]) is None
