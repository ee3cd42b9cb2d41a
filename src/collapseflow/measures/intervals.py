"""How far a measured share may be from the true one."""


def wilson_interval(p: float, n: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion ``p`` of ``n`` (Wilson 1927)."""
    # Takes longer to import than a table takes.
    from scipy.stats import binomtest

    interval = binomtest(round(p * n), n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
