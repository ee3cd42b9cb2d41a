"""What a classifier takes for what: counts by true and predicted class, and what follows."""

from math import sqrt

import numpy as np

from collapseflow.measures.intervals import wilson_interval

#: Classes are called unequal from this :func:`imbalance` on. That of MNIST's test images is 1.27,
#: and their balanced accuracy tells nothing that the accuracy does not.
UNEQUAL = 1.5


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """The numbers of images by true class (rows) and predicted class, int64 (C, C)."""
    pairs = np.asarray(labels) * n_classes + np.asarray(predicted)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def recalls(counts: np.ndarray) -> np.ndarray:
    """The share of each true class that is recognised, float64 (C,); NaN of what has no image."""
    sizes = counts.sum(axis=1)
    return np.where(sizes > 0, np.diag(counts) / np.maximum(sizes, 1), np.nan)


def imbalance(counts: np.ndarray) -> float:
    """The number of images of the largest class over that of the smallest one that has some."""
    sizes = counts.sum(axis=1)
    return float(sizes.max() / sizes[sizes > 0].min())


def balanced_accuracy(counts: np.ndarray, effective: float = 1.0) -> tuple[float, float, float]:
    """The mean of the classes' recalls, with its 95 % interval.

    The recalls are independent shares, each with the limits l_c, u_c of Wilson (1927); the interval
    of their mean is that of Zou and Donner (Statistics in Medicine 27, 2008), mean - sqrt(sum
    (p_c - l_c)^2) / C and mean + sqrt(sum (u_c - p_c)^2) / C. For one class it is Wilson's.

    Parameters
    ----------
    counts
        As :func:`confusion_counts` gives them; classes without images do not count.
    effective
        Of images in groups: as :func:`collapseflow.measures.intervals.effective_share`, by class.

    Returns
    -------
    value, low, high
    """
    there = counts.sum(axis=1) > 0
    shares = recalls(counts)[there]
    sizes = counts.sum(axis=1)[there].tolist()
    limits = [wilson_interval(p, n, effective) for p, n in zip(shares, sizes, strict=True)]
    low, high = np.transpose(limits)
    mean, n_classes = float(shares.mean()), len(shares)
    below = sqrt(np.square(shares - low).sum()) / n_classes
    above = sqrt(np.square(high - shares).sum()) / n_classes
    return mean, mean - below, mean + above
