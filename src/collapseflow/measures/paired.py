"""Is one of two probes better, or was it chance? Both answered for the same test images.

Answers are boolean arrays (n,) of what is right, or (S, n) for the probes of S seeds. The images
are the chance that is meant here: the seeds are taken as they are. Where images have groups (n,),
such as patients, the groups are: images of one group are no independent draws.
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


def mcnemar(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None) -> float:
    """The probability of so large a difference, of either sign, between probes that are equally
    good: two-sided, exact.

    For one probe each it is McNemar's test (1947): of the images that one of them alone has right,
    each has it with probability 1/2. For several seeds each image has the difference of the shares
    of seeds that are right, and either sign of it is equally probable (Fisher's randomisation
    test, 1935), which is the same for one seed. So has each group the sum over its images.

    Parameters
    ----------
    a, b
        Right answers, bool (n,) or (S, n); S need not be the same for both.
    groups
        Of the images, int (n,), where they have some.
    """
    # Takes longer to import than a table takes.
    from scipy.stats import binom

    differences, _, _ = _differences(a, b, groups)
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


def paired_interval(
    a: np.ndarray, b: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> tuple[float, float, float]:
    """How much larger the accuracy of ``a`` is, with a 95 % interval: percentiles over resampled
    test images (paired bootstrap; Efron and Tibshirani, 1993, chapter 13), or over resampled groups
    of them (cluster bootstrap; Field and Welsh 2007).

    Resampling images draws how often each value of a difference occurs, which is what is drawn; of
    groups, how often each sum of differences and number of images occur together.

    Parameters
    ----------
    a, b
        Right answers, bool (n,) or (S, n); of several seeds the mean accuracy counts.
    seed
        Of the resampling.
    groups
        As :func:`mcnemar`. One alone tells nothing of others: the interval is all that there is.

    Returns
    -------
    difference, low, high
        Shares, not per cent.
    """
    differences, sizes, unit = _differences(a, b, groups)
    n, n_images = len(differences), sizes.sum()
    difference = float(differences.sum() * (unit / n_images))
    if groups is not None and n == 1:
        return difference, -1.0, 1.0
    (values, of_values), counts = np.unique(
        np.stack([differences, sizes]), axis=1, return_counts=True
    )
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, RESAMPLED)
    resampled = n if groups is None else drawn @ of_values
    low, high = np.percentile(drawn @ values * (unit / resampled), [2.5, 97.5])
    return difference, float(low), float(high)


def larger_than_chance(
    a: np.ndarray, b: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> bool:
    """Whether the accuracies differ by more than chance: :func:`mcnemar` gives less than
    :data:`LEVEL`, and the interval of :func:`paired_interval` excludes zero."""
    _, low, high = paired_interval(a, b, seed, groups)
    return mcnemar(a, b, groups) < LEVEL and not low <= 0 <= high


def _differences(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """The share of seeds of ``a`` that is right about an image, minus that of ``b``, or the sum of
    it over a group: integers (n,); the numbers of images behind them; and their unit."""
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"answers for {a.shape[1]} and for {b.shape[1]} images")
    common = gcd(len(a), len(b))
    differences = len(b) // common * a.sum(axis=0) - len(a) // common * b.sum(axis=0)
    unit = common / (len(a) * len(b))
    if groups is None:
        return differences, np.ones_like(differences), unit
    numbers = np.unique(groups, return_inverse=True)[1]
    sums = np.zeros(numbers.max() + 1, differences.dtype)
    np.add.at(sums, numbers, differences)
    return sums, np.bincount(numbers), unit
