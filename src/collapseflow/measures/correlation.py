"""How two quantities go together over few points."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

#: Fewer points have no rank correlation here: below, the bootstrap's interval does not cover what
#: it says it does.
MIN_POINTS = 6


class Correlation(NamedTuple):
    """A rank correlation, averaged over groups of points.

    Attributes
    ----------
    rho, low, high : the mean over the groups, and its 95 % interval; all None of no group
    n_groups, n_points : the groups that have a correlation, and their points
    """

    rho: float | None
    low: float | None
    high: float | None
    n_groups: int
    n_points: int


def spearman(
    groups: Iterable[tuple[np.ndarray, np.ndarray]], seed: int, draws: int = 10_000
) -> Correlation:
    """Spearman's rank correlation within each group of points, averaged over the groups, and its
    95 % interval by a percentile bootstrap over the points of each group.

    What differs from group to group does not count. Groups of fewer than :data:`MIN_POINTS` points
    and those in which all x or all y are equal have no correlation and are left out.

    Parameters
    ----------
    groups
        Finite x (n,) and y (n,) of each group. Equal ones share their mean rank.
    seed, draws
        Of the bootstrap. Draws in which all x or all y of a group are equal have no correlation and
        are left out.
    """
    from scipy.stats import rankdata

    random = np.random.default_rng(seed)
    found, drawn, n_points = [], [], 0
    for x, y in groups:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        n = len(x)
        if n < MIN_POINTS or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        n_points += n
        found.append(_correlations(rankdata(x)[None], rankdata(y)[None])[0])
        rows = random.integers(0, n, (draws, n))
        drawn.append(_correlations(rankdata(x[rows], axis=1), rankdata(y[rows], axis=1)))
    if not found:
        return Correlation(None, None, None, 0, 0)
    low, high = np.nanpercentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return Correlation(float(np.mean(found)), float(low), float(high), len(found), n_points)


def _correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of each row of x (m, n) and y (m, n): (m,), NaN where one is constant."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    with np.errstate(invalid="ignore"):
        return np.vecdot(x, y) / np.sqrt(np.vecdot(x, x) * np.vecdot(y, y))


def pearson_fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float] | None:
    """The least squares line through points (x, y), finite (n,), and Pearson's r.

    Returns
    -------
    slope, intercept, r; None where all x or all y are equal: there is no correlation.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept), float(np.corrcoef(x, y)[0, 1])
