"""How far a measured share may be from the true one."""

import math


def wilson_interval(p: float, n: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion ``p`` of ``n`` (Wilson 1927)."""
    z = 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
