"""Correlations against SciPy and by hand, the bootstrap against a literal loop."""

import numpy as np
import pytest
from scipy import stats

from collapseflow.measures.correlation import pearson_fit, spearman

NONE = (None, None, None, 0, 0)


def points(n=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, x**3 + rng.normal(size=n)


@pytest.mark.parametrize("n", [6, 40])
def test_the_rank_correlation_is_scipys(n):
    x, y = points(n)
    x[0] = x[1]
    found = spearman([(x, y)], seed=0, draws=10)
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found[3:] == (1, n)


def test_the_mean_over_groups_by_hand():
    # Differences of ranks 0 but for two neighbours that change places: 1 - 6 * 2 / (6 * 35); all
    # changed about: -1.
    up = range(6), [1, 0, 2, 3, 4, 5]
    down = range(100, 107), [76, 75, 74, 73, 72, 71, 70]
    first = 1 - 12 / 210
    assert spearman([up], 0, 10).rho == pytest.approx(first)
    assert spearman([down], 0, 10).rho == pytest.approx(-1)
    found = spearman([up, down], 0, 10)
    assert found.rho == pytest.approx((first - 1) / 2) and found[3:] == (2, 13)
    # Of all points at once, the second group is higher in both.
    assert stats.spearmanr([*up[0], *down[0]], [*up[1], *down[1]]).statistic > 0.5


def test_the_interval_is_the_percentiles_of_the_same_draws_by_a_loop():
    groups = points(12), points(9, seed=1)
    found = spearman(groups, seed=3, draws=200)
    rng = np.random.default_rng(3)
    drawn = [
        [
            stats.spearmanr(x[rows], y[rows]).statistic
            for rows in rng.integers(0, len(x), (200, len(x)))
        ]
        for x, y in groups
    ]
    expected = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.low < found.rho < found.high


def test_groups_of_few_points_have_no_correlation():
    few = range(5), [1, 3, 2, 4, 5]
    assert spearman([few], seed=0) == NONE
    enough = points(6)
    assert spearman([few, enough], seed=0, draws=50) == spearman([enough], seed=0, draws=50)


def test_draws_of_equal_points_are_left_out():
    # One of six points differs: a third of the draws are without it.
    found = spearman([([0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1])], seed=0, draws=500)
    assert found[:3] == pytest.approx((1, 1, 1))


def test_without_two_different_values_there_is_no_correlation():
    assert spearman([], seed=0) == NONE
    assert spearman([([1, 1, 1, 1, 1, 1], range(6)), (range(6), [0.1] * 6)], seed=0) == NONE


def test_the_seed_decides():
    groups = [points()]
    assert spearman(groups, 1, 100) == spearman(groups, 1, 100) != spearman(groups, 2, 100)


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
