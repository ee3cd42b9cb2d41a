"""What is more than the spread between seeds."""

import math
from collections.abc import Callable
from itertools import combinations
from statistics import fmean, stdev
from typing import Any, NamedTuple

from collapseflow.measures.paired import LEVEL
from collapseflow.presentation.findings.results import CANNOT_BE_TOLD, FOUND, Finding, Results
from collapseflow.presentation.findings.words import factor, named, number, probability, spread
from collapseflow.presentation.material import DescribedRun

#: Fewer seeds say too little of how far seeds differ.
ENOUGH_SEEDS = 3
#: What is compared, each after the last epoch: quantity, split and words.
COMPARED = {
    "accuracy": ("test", "accuracy on the test images"),
    "nc1": ("train", "NC1 of the training images"),
}


class Contrast(NamedTuple):
    """Two series on one data set that differ in one thing alone, by one quantity.

    ``values`` are of the seeds of each; ``p`` is Welch's, None where there are too few seeds.
    """

    dataset: str
    labels: tuple[str, str]
    values: tuple[list[float], list[float]]
    p: float | None


def recipes_beyond_seeds(results: Results) -> list[Finding]:
    """Whether recipes make another thing of the same first weights, by more than seeds differ."""
    return _beyond_seeds(results, "recipes", lambda run: run.start)


def starts_beyond_seeds(results: Results) -> list[Finding]:
    """Whether a recipe makes another thing of other first weights, by more than seeds differ."""
    return _beyond_seeds(results, "starts", lambda run: (run.recipe, str(run.setting)))


def _beyond_seeds(
    results: Results, what: str, common: Callable[[DescribedRun], Any]
) -> list[Finding]:
    """Welch's t test over the seeds, of the logarithms of NC1; p times the number of all pairs and
    quantities (Bonferroni).

    Parameters
    ----------
    common
        What a pair has in common, beside data set and backbone.
    """
    by_quantity = {quantity: _contrasts(results, quantity, common) for quantity in COMPARED}
    n_tests = sum(one.p is not None for found in by_quantity.values() for one in found)
    findings = []
    for quantity, contrasts in by_quantity.items():
        if not contrasts:
            continue
        _, of = COMPARED[quantity]
        judged = [contrast for contrast in contrasts if contrast.p is not None]
        sure = [contrast for contrast in judged if contrast.p * n_tests < LEVEL]
        largest = max(sure or judged or contrasts, key=lambda one: _size(one, quantity))
        words = _in_words(largest, quantity, results)
        times = f" × {n_tests} comparisons" if n_tests > 1 else ""
        test = f"(asked for: Welch's t test with p{times} < {LEVEL})"
        if sure:
            verdict = FOUND
            pairs = f" in {len(sure)} of {len(contrasts)} pairs" * (len(contrasts) > 1)
            text = f"{what.capitalize()} differ in {of} by more than seeds do{pairs} {test}"
            short = f"{what.capitalize()} differ in {of}{pairs}"
        else:
            verdict = CANNOT_BE_TOLD
            why = test if judged else f"from fewer than {ENOUGH_SEEDS} seeds"
            text = f"Whether {what} differ in {of} by more than seeds do cannot be told {why}"
            short = f"Whether {what} differ in {of} cannot be told"
        # Of two long names nothing would be left of the numbers.
        short += f"; {_briefly(largest, quantity, results)}"
        n = len(judged or contrasts)
        which = "of these" if sure else f"of {n} pairs"
        most = f"; {which} the largest difference" if len(sure) > 1 or n > 1 and not sure else ""
        shown_in = ("tabulate_collapse", ""), ("tabulate_sweep", "")
        findings.append(Finding(what, f"{text}{most}: {words}.", short, verdict, shown_in))
    return findings


def _contrasts(
    results: Results, quantity: str, common: Callable[[DescribedRun], Any]
) -> list[Contrast]:
    split, _ = COMPARED[quantity]
    alike: dict[tuple, list[tuple[str, list[float]]]] = {}
    for replicates in results.replicates():
        found = [results.values.get(run, run.last, split, quantity) for run in replicates]
        values = [one.value for one in found if one and (quantity != "nc1" or one.value > 0)]
        if values:
            run = replicates[0]
            group = run.dataset, run.backbone, common(run)
            alike.setdefault(group, []).append((run.label, values))
    return [
        Contrast(dataset, (a, b), (of_a, of_b), _welch(of_a, of_b, quantity))
        for (dataset, *_), group in alike.items()
        for (a, of_a), (b, of_b) in combinations(group, 2)
    ]


def _welch(a: list[float], b: list[float], quantity: str) -> float | None:
    """p of Welch's t test (1947); None of too few seeds."""
    # Takes longer to import than the rest takes.
    from scipy.stats import ttest_ind

    if min(len(a), len(b)) < ENOUGH_SEEDS:
        return None
    if quantity == "nc1":
        a, b = ([math.log(value) for value in side] for side in (a, b))
    # Seeds that all give one number have no spread to compare with.
    if not stdev(a) and not stdev(b):
        return 1.0
    return float(ttest_ind(a, b, equal_var=False).pvalue)


def _mean(values: list[float], quantity: str) -> float:
    return math.exp(fmean(map(math.log, values))) if quantity == "nc1" else fmean(values)


def _size(contrast: Contrast, quantity: str) -> float:
    """How far the means of a pair are from each other: a ratio, or a difference."""
    a, b = (_mean(side, quantity) for side in contrast.values)
    return max(a / b, b / a) if quantity == "nc1" else abs(a - b)


def _briefly(contrast: Contrast, quantity: str, results: Results) -> str:
    """By how much a pair differs."""
    size = _size(contrast, quantity)
    words = f"{factor(size)} times" if quantity == "nc1" else f"{100 * size:.1f} points"
    return f"{results.datasets[contrast.dataset]}: {words}"


def _in_words(contrast: Contrast, quantity: str, results: Results) -> str:
    sides, details = [], []
    for label, side in zip(contrast.labels, contrast.values, strict=True):
        mean, label = _mean(side, quantity), named([label])
        if quantity == "nc1":
            sides.append(f"{label} {number(mean)}")
        else:
            # Of one seed nothing says how far more digits go.
            seeded = len(side) > 1
            words = f"{100 * mean:.2f} ± {100 * stdev(side):.2f}" if seeded else f"{100 * mean:.1f}"
            sides.append(f"{label} {words} %")
    numbers = [len(side) for side in contrast.values]
    if quantity == "nc1":
        details.append(f"{factor(_size(contrast, quantity))} times")
        details += ["geometric means"] * (max(numbers) > 1)
    details.append(f"{spread(numbers, str)} seed{'s' if max(numbers) > 1 else ''}")
    if contrast.p is not None:
        details.append(probability(contrast.p))
    return f"{results.datasets[contrast.dataset]}, {' against '.join(sides)} ({', '.join(details)})"
