"""Claims that hold for all seeds of a series, and equal ones of several series in one sentence."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from collapseflow.presentation.findings.results import Results
from collapseflow.presentation.findings.words import named
from collapseflow.presentation.material import DescribedRun


class Claim(NamedTuple):
    """What holds for runs that differ by their seed only, and of each the numbers behind it."""

    what: Any
    numbers: list[tuple[DescribedRun, Any]]


class Pooled(NamedTuple):
    """Equal claims: on which data sets, in words which runs of each with which numbers, and all
    numbers."""

    what: Any
    datasets: list[str]
    words: str
    numbers: list[Any]


def in_every_seed(states: Iterable[Any], otherwise: Any) -> Any:
    """What all seeds have in common."""
    found = set(states)
    return found.pop() if len(found) == 1 else otherwise


def pooled(
    claims: Iterable[Claim], results: Results, write: Callable[[list], str]
) -> Iterator[Pooled]:
    """Equal claims together.

    Parameters
    ----------
    write
        Makes words of the numbers of some runs on one data set.
    """
    alike: dict[Any, dict[str, list[tuple[DescribedRun, Any]]]] = {}
    for what, numbers in claims:
        run, _ = numbers[0]
        alike.setdefault(what, {}).setdefault(run.dataset, []).extend(numbers)
    for what, by_dataset in alike.items():
        words, everything = [], []
        for dataset, found in by_dataset.items():
            runs, numbers = zip(*found, strict=True)
            where = f"on {results.datasets[dataset]} ({_which(runs, results)})"
            words.append(f"{where} {write(list(numbers))}")
            everything += numbers
        yield Pooled(what, list(by_dataset), "; ".join(words), everything)


def _which(runs: Sequence[DescribedRun], results: Results) -> str:
    """Which of the runs on a data set some are."""
    n = sum(run.dataset == runs[0].dataset for run in results.runs)
    if len(runs) == n > 1:
        return "both runs" if n == 2 else f"all {n} runs"
    labels = named(run.label for run in runs)
    return labels if n == 1 else f"{len(runs)} of {n} runs: {labels}"
