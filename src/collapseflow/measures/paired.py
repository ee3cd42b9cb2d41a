"""Is one of two probes better, or was it chance? Both answered for the same test images.

Answers are boolean arrays (n,) of what is right, or (S, n) for the probes of S seeds. The images
are the chance that is meant here: the seeds are taken as they are.
"""

from math import gcd

import numpy as np

#: Resampled test sets behind an interval.
RESAMPLED = 10_000
#: A p value below this is not called chance.
LEVEL = 0.05


def pack(right: np.ndarray) -> str:
    """Right answers, bool (n,), as hexadecimal text of n / 4 digits."""
    return np.packbits(right).tobytes().hex()


def unpack(correct: str, n: int) -> np.ndarray:
    """The right answers, bool (n,), that :func:`pack` made a text of.

    Raises
    ------
    ValueError
        If the text is not that of ``n`` answers.
    """
    packed = np.frombuffer(bytes.fromhex(correct), np.uint8)
    if len(packed) != -(-n // 8):
        raise ValueError(f"{len(packed)} bytes of right answers for {n} images")
    return np.unpackbits(packed, count=n).astype(bool)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """The probability of so large a difference, of either sign, between probes that are equally
    good: two-sided, exact.

    For one probe each it is McNemar's test (1947): of the images that one of them alone has right,
    each has it with probability 1/2. For several seeds each image has the difference of the shares
    of seeds that are right, and either sign of it is equally probable (Fisher's randomisation
    test, 1935), which is the same for one seed.

    Parameters
    ----------
    a, b
        Right answers, bool (n,) or (S, n); S need not be the same for both.
    """
    # Takes longer to import than a table takes.
    from scipy.stats import binom

    differences, _ = _differences(a, b)
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    # The distribution of the sum of what is in favour of a.
    distribution = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        if size > 0:
            of_size = np.zeros(size * count + 1)
            of_size[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
            distribution = np.convolve(distribution, of_size)
    found = int(differences.clip(min=0).sum())
    tails = distribution[: found + 1].sum(), distribution[found:].sum()
    return min(1.0, 2 * float(min(tails)))


def paired_interval(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float, float]:
    """How much larger the accuracy of ``a`` is, with a 95 % interval: percentiles over resampled
    test images (paired bootstrap; Efron and Tibshirani, 1993, chapter 13).

    Resampling images draws how often each value of a difference occurs, which is what is drawn.

    Parameters
    ----------
    a, b
        Right answers, bool (n,) or (S, n); of several seeds the mean accuracy counts.
    seed
        Of the resampling.

    Returns
    -------
    difference, low, high
        Shares, not per cent.
    """
    differences, unit = _differences(a, b)
    n = len(differences)
    values, counts = np.unique(differences, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, RESAMPLED)
    low, high = np.percentile(drawn @ values * (unit / n), [2.5, 97.5])
    return float(differences.sum() * (unit / n)), float(low), float(high)


def larger_than_chance(a: np.ndarray, b: np.ndarray, seed: int) -> bool:
    """Whether the accuracies differ by more than chance: :func:`mcnemar` gives less than
    :data:`LEVEL`, and the interval of :func:`paired_interval` excludes zero."""
    _, low, high = paired_interval(a, b, seed)
    return mcnemar(a, b) < LEVEL and not low <= 0 <= high


def _differences(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """The share of seeds of ``a`` that is right about an image, minus that of ``b``: integers
    (n,) and their unit."""
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"answers for {a.shape[1]} and for {b.shape[1]} images")
    common = gcd(len(a), len(b))
    differences = len(b) // common * a.sum(axis=0) - len(a) // common * b.sum(axis=0)
    return differences, common / (len(a) * len(b))
