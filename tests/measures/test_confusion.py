"""Confusion counts against scikit-learn, and the interval of the balanced accuracy."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score

from collapseflow.measures.confusion import (
    balanced_accuracy,
    confusion_counts,
    imbalance,
    recalls,
)
from collapseflow.measures.intervals import wilson_interval


@pytest.fixture
def answers():
    """Labels and predictions of five unequal classes, of which the last has no image."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), [100, 30, 10, 3, 0])
    return labels, np.where(rng.random(len(labels)) < 0.7, labels, rng.integers(5, size=143))


def test_counts_recalls_and_balanced_accuracy_are_scikit_learn_s(answers):
    counts = confusion_counts(*answers, 5)
    np.testing.assert_array_equal(counts, confusion_matrix(*answers, labels=range(5)))
    expected = recall_score(*answers, labels=range(4), average=None)
    np.testing.assert_allclose(recalls(counts)[:4], expected)
    assert np.isnan(recalls(counts)[4])
    # scikit-learn warns of the class that is predicted and has no image.
    with pytest.warns(UserWarning, match="not in y_true"):
        expected = balanced_accuracy_score(*answers)
    assert balanced_accuracy(counts)[0] == pytest.approx(expected)


def test_the_imbalance_is_of_the_classes_that_are_there(answers):
    assert imbalance(confusion_counts(*answers, 5)) == pytest.approx(100 / 3)
    assert imbalance(np.diag([4, 4, 0])) == 1


def test_the_interval_of_one_class_is_wilson_s():
    counts = np.array([[8, 2], [0, 0]])
    assert balanced_accuracy(counts) == pytest.approx((0.8, *wilson_interval(0.8, 10)))


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [([200, 50, 10], [0.9, 0.7, 0.5]), ([100, 20, 20, 5], [0.99, 0.95, 0.9, 0.6])],
)
def test_the_interval_covers_the_true_value_as_often_as_it_says(sizes, shares):
    rng = np.random.default_rng(0)
    found, n = 0, 400
    for _ in range(n):
        right = rng.binomial(sizes, shares)
        counts = np.diag(right) + np.roll(np.diag(sizes - right), 1, axis=1)
        _, low, high = balanced_accuracy(counts)
        found += low <= np.mean(shares) <= high
    # Within three standard deviations of such a simulation.
    assert abs(found / n - 0.95) < 3 * (0.95 * 0.05 / n) ** 0.5
