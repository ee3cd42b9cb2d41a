"""Intervals of shares: of independent images, and of images that come in groups."""

import numpy as np
import pytest
from scipy.stats import binomtest, t

from collapseflow.measures.confusion import balanced_accuracy, confusion_counts
from collapseflow.measures.intervals import effective_share, wilson_interval


def test_half_as_many_effective_images_are_half_as_many_images():
    expected = binomtest(40, 50).proportion_ci(method="wilson")
    assert wilson_interval(0.8, 100, 0.5) == pytest.approx((expected.low, expected.high))
    assert wilson_interval(0.8, 50) == (expected.low, expected.high)
    assert wilson_interval(1.0, 100, 0.0) == (0, 1)


@pytest.mark.parametrize("by_class", [False, True])
def test_the_effective_share_is_that_of_the_linearised_variance(by_class):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 25, 300)
    strata = rng.integers(0, 3, 300) if by_class else np.zeros(300, int)
    right = rng.random(300) < rng.random(25)[groups]
    shares = [right[strata == s].mean() for s in np.unique(strata)]
    sizes = [np.sum(strata == s) for s in np.unique(strata)]
    errors = np.zeros(25)
    for g, r, s in zip(groups, right, strata, strict=True):
        errors[g] += (r - shares[s]) / sizes[s] / len(sizes)
    clustered = 25 / 24 * (errors**2).sum()
    independent = np.mean([p * (1 - p) / n for p, n in zip(shares, sizes, strict=True)])
    independent /= len(sizes)
    expected = independent / clustered * (t.ppf(0.975, 299) / t.ppf(0.975, 24)) ** 2
    assert 0.1 < expected < 0.9
    found = effective_share(groups, right, strata if by_class else None)
    assert found == pytest.approx(expected)


def test_copies_of_images_tell_no_more_than_the_images():
    right = np.arange(40) % 5 > 0
    groups, copies = np.repeat(np.arange(40), 6), np.repeat(right, 6)
    of_t = (t.ppf(0.975, 239) / t.ppf(0.975, 39)) ** 2
    assert effective_share(groups, copies) == pytest.approx(39 / 40 / 6 * of_t)
    # Where all are right, as many as groups count; one group tells nothing of others.
    assert effective_share(groups, np.ones(240, bool)) == pytest.approx(of_t / 6)
    assert effective_share(np.zeros(240, int), copies) == 0


@pytest.mark.parametrize("balanced", [False, True])
def test_intervals_of_groups_cover_the_true_value_as_often_as_they_say(balanced):
    """30 patients with ten images each; each patient has an accuracy of its own, 0.8 on average."""
    rng = np.random.default_rng(1)
    groups, n = np.repeat(np.arange(30), 10), 400
    labels = (np.arange(300) % 10 > 6).astype(int)
    found = np.zeros(2, int)
    for _ in range(n):
        right = rng.random(300) < rng.beta(1.6, 0.4, 30)[groups]
        counts = confusion_counts(labels, np.where(right, labels, 1 - labels), 2)
        share = effective_share(groups, right, labels if balanced else None)
        for place, effective in enumerate((1.0, share)):
            low, high = wilson_interval(right.mean(), 300, effective)
            if balanced:
                _, low, high = balanced_accuracy(counts, effective)
            found[place] += low <= 0.8 <= high
    of_images, of_groups = found / n
    assert of_images < 0.8 and 0.92 < of_groups < 0.985
