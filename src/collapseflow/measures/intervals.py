"""How far a measured share may be from the true one."""

from math import sqrt

import numpy as np

#: Of 95 % intervals, two-sided.
QUANTILE = 0.975


def wilson_interval(p: float, n: int, effective: float = 1.0) -> tuple[float, float]:
    """95 % confidence interval of a proportion ``p`` of ``n`` (Wilson 1927).

    Parameters
    ----------
    effective
        As :func:`effective_share`: below 1, p is as uncertain as that of so many times n.
    """
    # Takes longer to import than a table takes.
    from scipy.stats import binomtest, norm

    if effective == 1:
        interval = binomtest(round(p * n), n).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)
    n_effective, z = effective * n, float(norm.ppf(QUANTILE))
    middle = p * n_effective + z**2 / 2
    half = z * sqrt(p * (1 - p) * n_effective + z**2 / 4)
    return (middle - half) / (n_effective + z**2), (middle + half) / (n_effective + z**2)


def effective_share(
    groups: np.ndarray, right: np.ndarray, strata: np.ndarray | None = None
) -> float:
    """The effective number of images that come in groups, such as patients, over their number.

    Images of one group are no independent draws: groups are. The share p of images that are right,
    or the mean over S strata (classes) of their shares p_s, has the linearised variance
    G / (G - 1) sum_g e_g^2, where e_g is the sum over the images i of the group g of
    (right_i - p_s) / (S n_s) (of one stratum Cochran 1977, section 3.12). That of as many
    independent images, sum_s p_s (1 - p_s) / n_s / S^2, over it is the effective share. G groups
    alone tell the variance: the share is multiplied by (t_{n - 1} / t_{G - 1})^2, the quantiles of
    Student's t (Korn and Graubard 1998). It is 1 at most. Where all images of each stratum are
    right, or none, nothing tells how much alike those of a group are: as many as groups count.

    Parameters
    ----------
    groups, right, strata
        Of each image (n,) its group, whether it is right, and its stratum; None is one stratum.

    Returns
    -------
    Above 0, and at most 1; 0 of one group, which tells nothing of others.
    """
    # Takes longer to import than a table takes.
    from scipy.stats import t

    n, numbers = len(groups), np.unique(groups, return_inverse=True)[1]
    n_groups = int(numbers.max()) + 1
    if n_groups == 1:
        return 0.0
    of = np.zeros(n, np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    sizes = np.bincount(of)
    shares = np.bincount(of, right) / sizes
    independent = (shares * (1 - shares) / sizes).sum() / len(sizes) ** 2
    share = n_groups / n
    if independent > 0:
        errors = np.bincount(numbers, (right - shares[of]) / sizes[of]) / len(sizes)
        clustered = n_groups / (n_groups - 1) * np.square(errors).sum()
        share = independent / max(clustered, independent)
    few = (t.ppf(QUANTILE, n - 1) / t.ppf(QUANTILE, n_groups - 1)) ** 2
    return float(min(1, share * few))
