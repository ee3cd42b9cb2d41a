"""How two quantities go together over few points."""

import numpy as np

#: An interval is given for so many points or more.
MIN_POINTS = 5


def spearman(
    x: np.ndarray, y: np.ndarray, seed: int, draws: int = 10_000
) -> tuple[float | None, float | None, float | None]:
    """Spearman's rank correlation, and its 95 % interval by a percentile bootstrap over points.

    Parameters
    ----------
    x, y
        Finite values (n,). Equal ones share their mean rank.
    seed, draws
        Of the bootstrap. Draws in which all x or all y are equal have no correlation and are
        left out.

    Returns
    -------
    rho, low, high. All None for fewer than two points or where all x or all y are equal; low and
    high None for fewer than :data:`MIN_POINTS` points.
    """
    from scipy.stats import rankdata

    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n = len(x)
    if n < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None, None
    rho = float(_correlations(rankdata(x)[None], rankdata(y)[None])[0])
    if n < MIN_POINTS:
        return rho, None, None
    drawn = np.random.default_rng(seed).integers(0, n, (draws, n))
    correlations = _correlations(rankdata(x[drawn], axis=1), rankdata(y[drawn], axis=1))
    low, high = np.nanpercentile(correlations, [2.5, 97.5])
    return rho, float(low), float(high)


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
