"""Which feature sets are best."""

import math
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import NamedTuple

import pandas as pd

from collapseflow.measures.paired import LEVEL
from collapseflow.presentation.findings.results import (
    CANNOT_BE_TOLD,
    FOUND,
    Finding,
    Results,
    Value,
    as_value,
    in_each,
    name,
    name_of,
)
from collapseflow.presentation.findings.words import named, percent, points, probability
from collapseflow.presentation.rows import swept_keys


class Compared(NamedTuple):
    """A feature set with the accuracies of its seeds, or its only one."""

    name: tuple[str, ...]
    label: str
    accuracies: list[Value]
    is_seeded: bool

    @property
    def mean(self) -> float:
        return fmean(found.value for found in self.accuracies)

    @property
    def words(self) -> str:
        if len(self.accuracies) == 1:
            return percent(self.accuracies[0])
        sd = stdev(found.value for found in self.accuracies)
        return f"{100 * self.mean:.1f} ± {100 * sd:.1f} % ({len(self.accuracies)} seeds)"


def best_features(results: Results) -> list[Finding]:
    """On which feature set the classifier is right most often.

    It is called the best where it is better than each other one: by McNemar's test on the same test
    images, p times the number of all pairs (Bonferroni; the same images have picked it), with zero
    outside of the paired interval, and in each of its seeds better than in each of the other's.
    Networks that have taken in test images are left out.
    """
    alike: dict[tuple, dict[str, str]] = {}
    for dataset in results.datasets:
        ranked, differences = _ranked(results, dataset), _differences(results, dataset)
        if len(ranked) < 2:
            continue
        best, *others = ranked
        n_pairs = math.comb(len(ranked), 2)
        equal = [
            other
            for other in others
            if not _is_better(best, other, differences[best.name, other.name], n_pairs)
        ]
        second = (equal or others)[0]
        numbers = (
            f"{best.words} of {best.accuracies[0].n:,} test images are right with "
            f"{named([best.label])} and {second.words} with {named([second.label])} "
            f"({results.classifier_label}), "
            f"{points(differences[best.name, second.name])}, "
            f"{probability(differences[best.name, second.name]['p'])}"
        )
        seeds = min((len(one.accuracies) for one in ranked if one.is_seeded), default=0)
        labels = best.label, *(one.label for one in equal)
        alike.setdefault((labels, len(ranked), seeds), {})[dataset] = numbers
    return [_finding(results, *claim, numbers) for claim, numbers in alike.items()]


def _finding(
    results: Results, labels: tuple[str, ...], n: int, seeds: int, numbers: Mapping[str, str]
) -> Finding:
    """One of the data sets on which the same feature sets are at the top."""
    on, briefly = named(map(results.datasets.get, numbers)), results.in_short(list(numbers))
    if len(labels) == 1:
        verdict = FOUND
        begin = f"The best of {n} feature sets on {on} is {named(labels)}"
        end = "the others are worse by more than chance"
        short = f"Best of {n} feature sets on {briefly}: {labels[0]}"
    else:
        verdict, worse = CANNOT_BE_TOLD, n - len(labels)
        begin = f"Which of {n} feature sets is the best on {on} cannot be told"
        end = f"{named(labels[1:])} may be as good as the first"
        end += ", the one other is worse by more than chance" * (worse == 1)
        end += f", the {worse} others are worse by more than chance" * (worse > 1)
        short = f"Best of {n} feature sets on {briefly} cannot be told; highest: {labels[0]}"
    times = f" × {math.comb(n, 2)} pairs" if n > 2 else ""
    test = f"asked for: McNemar's test with p{times} < {LEVEL}"
    test += f"; {seeds} seed{'s' if seeds > 1 else ''}" * (seeds > 0)
    each = [f"on {results.datasets[d]} " * (len(numbers) > 1) + w for d, w in numbers.items()]
    text = f"{begin}: {'; '.join(each)}; {end} ({test})."
    shown_in = in_each("tabulate_comparison", numbers) + in_each("tabulate_accuracy", numbers)
    return Finding("features", text, short, verdict, shown_in)


def _ranked(results: Results, dataset: str) -> list[Compared]:
    """The feature sets of a data set that have accuracies, the highest mean first."""
    rows = results.rows[
        (results.rows["quantity"] == f"accuracy_{results.classifier}")
        & (results.rows["dataset"] == dataset)
    ]
    accuracies: dict[tuple, list[Value]] = defaultdict(list)
    for row in rows.to_dict("records"):
        accuracies[name(row, results.swept, row["epoch"], row["layer"])].append(as_value(row))
    columns = [one for one in results.columns if one.dataset == dataset]
    flawed = [(run.recipe, run.setting) for run in results.flawed]
    # Those of this data set tell apart what its comparison has.
    keys = swept_keys(columns)
    ranked = [
        Compared(name_of(one, keys), one.label, found, bool(one.seeds))
        for one in columns
        if (one.recipe, one.setting) not in flawed
        if (found := accuracies[name_of(one, results.swept)])
    ]
    return sorted(ranked, key=lambda one: -one.mean)


def _differences(results: Results, dataset: str) -> dict[tuple, dict[str, float]]:
    """By how much the first of two feature sets is better than the second, both ways around."""
    keys = swept_keys(one for one in results.columns if one.dataset == dataset)
    table = results.comparisons.get(dataset, pd.DataFrame(columns=["classifier"]))
    found = {}
    for row in table[table["classifier"] == results.classifier].to_dict("records"):
        sides = [
            {key.removesuffix(end): text for key, text in row.items() if key.endswith(end)}
            for end in ("_a", "_b")
        ]
        a, b = (name(side, keys, side["epoch"], side["layer"]) for side in sides)
        difference, low, high, p = (float(row[k]) for k in ("difference", "low", "high", "p"))
        found[b, a] = {"difference": difference, "low": low, "high": high, "p": p}
        found[a, b] = {"difference": -difference, "low": -high, "high": -low, "p": p}
    return found


def _is_better(best: Compared, other: Compared, found: Mapping[str, float], n_pairs: int) -> bool:
    in_every_seed = min(best.accuracies).value > max(other.accuracies).value
    return found["p"] * n_pairs < LEVEL and found["low"] > 0 and in_every_seed
