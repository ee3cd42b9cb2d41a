"""Paired comparison of probes against hand-computed cases, enumeration and brute force."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from collapseflow.measures.paired import (
    larger_than_chance,
    mcnemar,
    pack,
    paired_interval,
    unpack,
)


def answers(only_a, only_b, both, neither):
    """Answers of two probes, with so many images of each kind."""
    a = [True] * only_a + [False] * only_b + [True] * both + [False] * neither
    b = [False] * only_a + [True] * only_b + [True] * both + [False] * neither
    order = np.random.default_rng(0).permutation(len(a))
    return np.array(a)[order], np.array(b)[order]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1001])
def test_packed_answers_come_back(n):
    right = np.random.default_rng(n).random(n) < 0.7
    text = pack(right)
    assert len(text) == 2 * -(-n // 8)
    np.testing.assert_array_equal(unpack(text, n), right)


def test_the_first_image_is_the_highest_bit():
    assert unpack("a180", 9).tolist() == [1, 0, 1, 0, 0, 0, 0, 1, 1]


def test_answers_for_another_number_of_images_are_refused():
    with pytest.raises(ValueError, match="2 bytes .* for 17 images"):
        unpack("ff00", 17)
    with pytest.raises(ValueError, match="answers for 3 and for 4 images"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))


def test_mcnemar_by_hand():
    # 5 against 1: (C(6, 0) + C(6, 1)) / 2^6, on both sides.
    assert mcnemar(*answers(5, 1, 30, 4)) == pytest.approx(2 * 7 / 64, rel=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 3), (40, 12), (1, 200), (700, 650)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_images(only_a, only_b):
    total = only_a + only_b
    expected = binomtest(only_a, total).pvalue if total else 1.0
    a, b = answers(only_a, only_b, 900, 50)
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seeds", [(2, 2), (3, 1), (2, 3)])
def test_of_several_seeds_all_signs_are_enumerated(seeds):
    rng = np.random.default_rng(sum(seeds))
    n = 11
    a, b = (rng.random((s, n)) < p for s, p in zip(seeds, (0.8, 0.45), strict=True))
    differences = a.mean(axis=0) - b.mean(axis=0)
    signs = np.array(list(product([1, -1], repeat=n)))
    sums = signs @ np.abs(differences)
    found = differences.sum()
    tails = np.mean(sums >= found - 1e-9), np.mean(sums <= found + 1e-9)
    assert mcnemar(a, b) == pytest.approx(min(1, 2 * min(tails)), rel=1e-9)


def test_the_same_seed_twice_is_one_seed():
    a, b = answers(20, 9, 60, 11)
    assert mcnemar(np.stack([a, a]), np.stack([b, b])) == pytest.approx(mcnemar(a, b), rel=1e-12)


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (3, 2)])
def test_the_interval_is_that_of_resampled_images(seeds):
    rng = np.random.default_rng(1)
    n = 400
    easy = rng.random(n)
    a = easy + rng.normal(size=(seeds[0], n)) * 0.2 > 0.2
    b = easy + rng.normal(size=(seeds[1], n)) * 0.2 > 0.26
    difference, low, high = paired_interval(a, b, seed=0)
    assert difference == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    per_image = a.mean(axis=0) - b.mean(axis=0)
    resampled = per_image[rng.integers(0, n, (20_000, n))].mean(axis=1)
    expected = np.percentile(resampled, [2.5, 97.5])
    width = expected[1] - expected[0]
    np.testing.assert_allclose([low, high], expected, atol=0.05 * width)


def test_the_interval_is_that_of_the_normal_distribution_with_many_images():
    a, b = answers(900, 600, 8000, 500)
    difference, low, high = paired_interval(a, b, seed=3)
    assert difference == pytest.approx(0.03)
    half = 1.96 * np.sqrt((1500 / 10_000 - 0.03**2) / 10_000)
    np.testing.assert_allclose([low, high], [0.03 - half, 0.03 + half], atol=0.05 * half)
    mirrored = paired_interval(b, a, seed=4)
    np.testing.assert_allclose(mirrored, [-difference, -high, -low], atol=0.1 * half)


def test_the_same_seed_gives_the_same_interval():
    a, b = answers(30, 20, 100, 10)
    assert paired_interval(a, b, seed=5) == paired_interval(a, b, seed=5)


def test_equal_probes_differ_by_nothing():
    a, _ = answers(10, 0, 80, 10)
    assert paired_interval(a, a, seed=0) == (0, 0, 0)
    assert mcnemar(a, a) == 1
    assert not larger_than_chance(a, a, seed=0)


def test_what_is_larger_than_chance():
    clear, unclear = answers(60, 20, 900, 20), answers(45, 35, 900, 20)
    assert larger_than_chance(*clear, seed=0) and larger_than_chance(*clear[::-1], seed=0)
    assert not larger_than_chance(*unclear, seed=0)
    # Five images against none: the interval excludes zero, the exact test has p = 2 / 32.
    few = answers(5, 0, 0, 5)
    assert paired_interval(*few, seed=0)[1] > 0
    assert not larger_than_chance(*few, seed=0)


@pytest.fixture
def grouped():
    """Answers of three and two seeds for 60 images of 12 groups of unequal size."""
    rng = np.random.default_rng(0)
    groups = np.r_[np.arange(12), rng.integers(0, 12, 48)]
    hard = rng.random(12)[groups]
    return (*(rng.random((seeds, 60)) > hard * p for seeds, p in ((3, 0.6), (2, 0.9))), groups)


def test_signs_are_those_of_groups(grouped):
    a, b, groups = grouped
    of_groups = np.bincount(groups, a.mean(axis=0) - b.mean(axis=0))
    sums = np.array(list(product([1, -1], repeat=12))) @ np.abs(of_groups)
    found = of_groups.sum()
    tails = np.mean(sums >= found - 1e-9), np.mean(sums <= found + 1e-9)
    assert mcnemar(a, b, groups) == pytest.approx(min(1, 2 * min(tails)), rel=1e-9)
    # Copies of an image tell no more than the image.
    copies = [np.repeat(of, 5, axis=1) for of in (a, b)]
    assert mcnemar(*copies, np.repeat(np.arange(60), 5)) == pytest.approx(mcnemar(a, b))


def test_the_interval_of_groups_is_that_of_resampled_groups(grouped):
    a, b, groups = grouped
    difference, low, high = paired_interval(a, b, 0, groups)
    per_image = a.mean(axis=0) - b.mean(axis=0)
    assert difference == pytest.approx(per_image.mean())
    members = [per_image[groups == g] for g in range(12)]
    drawn = np.random.default_rng(1).integers(0, 12, (10_000, 12))
    resampled = [np.concatenate([members[g] for g in of_draw]).mean() for of_draw in drawn]
    expected = np.percentile(resampled, [2.5, 97.5])
    np.testing.assert_allclose([low, high], expected, atol=0.05 * np.ptp(expected))
    # An image a group is as without groups; one group tells nothing of others.
    assert paired_interval(a, b, 0, np.arange(60)) == pytest.approx(paired_interval(a, b, 0))
    assert paired_interval(a, b, 0, np.zeros(60, int)) == (difference, -1, 1)
    assert not larger_than_chance(a, b, 0, np.zeros(60, int))
