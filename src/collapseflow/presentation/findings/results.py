"""What findings follow from, and what one is."""

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.presentation.rows import COLUMNS, FEWEST_IMAGES, identity

FOUND, NOT_FOUND, CANNOT_BE_TOLD = "found", "not found", "cannot be told"
#: So wide is a terminal.
SHORT = 100
#: A smaller factor between two values of NC1 is called none: so much do training and test images of
#: MNIST and Fashion-MNIST differ, whatever was trained (17 %, docs/collapse.md).
NC1_DIFFERS = 1.2


@dataclass(frozen=True)
class Finding:
    """One sentence.

    Attributes
    ----------
    kind
        What it is about: a key of :data:`collapseflow.presentation.findings.KINDS`.
    text
        With its numbers and their intervals.
    short
        The same in at most :data:`SHORT` characters; what is longer is cut.
    verdict
        :data:`FOUND`, :data:`NOT_FOUND` or :data:`CANNOT_BE_TOLD`.
    shown_in
        Rules of the tables and figures that have its numbers, each with a data set; an empty text
        where there is one a study.
    """

    kind: str
    text: str
    short: str
    verdict: str
    shown_in: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "short", textwrap.shorten(self.short, SHORT, placeholder=" …"))


class Value(NamedTuple):
    """One value of measures.csv, with its interval and its number of images."""

    value: float
    low: float
    high: float
    n: int


def as_value(row: Mapping[str, Any]) -> Value:
    """The value of a row."""
    return Value(row["value"], row["low"], row["high"], row["n"])


def name(who: Mapping[str, str], keys: Sequence[str], epoch: Any, layer: str) -> tuple[str, ...]:
    """What tells a feature set from others of its data set, as texts.

    Parameters
    ----------
    keys
        The swept keys that tell some apart.
    """
    epoch = "" if epoch is None or pd.isna(epoch) else str(epoch)
    return *(who[key] for key in ("backbone", "start", "recipe", *keys)), epoch, layer


def name_of(one: DescribedFeatures, keys: Sequence[str]) -> tuple[str, ...]:
    """The :func:`name` of a feature set as the study describes it."""
    return name(identity(one, None, keys), keys, one.epoch, one.layer)


class RunValues:
    """Values of runs at the layer of each that figures over epochs show."""

    def __init__(self, rows: pd.DataFrame, runs: Sequence[DescribedRun]):
        wanted = ("accuracy", "accuracy_nearest_mean", "nc1", FEWEST_IMAGES)
        rows = rows[rows["quantity"].isin(wanted) & rows["value"].notna()]
        self._values: dict[tuple, Value] = {}
        self._epochs: dict[tuple, set[int]] = defaultdict(set)
        swept = [column for column in rows.columns if column not in COLUMNS]
        names = {tuple(identity(run, run.seed, swept).values()): run for run in runs}
        who = ["dataset", "backbone", "start", "recipe", *swept, "seed"]
        for row in rows.to_dict("records"):
            run = names.get(tuple(row[key] for key in who))
            if run and row["layer"] in ("", run.layer):
                place = run.dataset, run.series, run.seed
                self._epochs[place].add(row["epoch"])
                self._values[*place, row["epoch"], row["split"], row["quantity"]] = as_value(row)

    def get(self, run: DescribedRun, epoch: int, split: str, quantity: str) -> Value | None:
        """One value; None where there is none."""
        return self._values.get((run.dataset, run.series, run.seed, epoch, split, quantity))

    def epochs(self, run: DescribedRun) -> list[int]:
        """The measured epochs, in ascending order."""
        return sorted(self._epochs[run.dataset, run.series, run.seed])

    def nc1_ratio(
        self, run: DescribedRun, one: tuple[int, str], other: tuple[int, str]
    ) -> float | None:
        """NC1 of an epoch and split over NC1 of another; None where one has no logarithm."""
        a, b = (self.get(run, *where, "nc1") for where in (one, other))
        return a.value / b.value if a and b and a.value > 0 and b.value > 0 else None


@dataclass(frozen=True)
class Results:
    """What findings follow from.

    Attributes
    ----------
    rows, failures
        The tables of :func:`collapseflow.presentation.rows.collect_measures`.
    comparisons
        By data set the CSV of
        :func:`collapseflow.presentation.tables.comparisons.comparison_table`, its values as texts.
    runs, columns
        All runs; the feature sets that are compared, of all data sets.
    datasets
        Labels of the data sets by their names.
    classifier, classifier_label
        What compares feature sets: the study file chooses it, not its accuracy on test images.
    subsets
        The names of data sets of which the study takes a part.
    flawed
        The runs whose networks have taken in test images, as report A's have.
    repeated
        Of data sets that have some: the number of test images that are training images, too, and
        of all test images.
    """

    rows: pd.DataFrame
    failures: pd.DataFrame
    comparisons: Mapping[str, pd.DataFrame]
    runs: Sequence[DescribedRun]
    columns: Sequence[DescribedFeatures]
    datasets: Mapping[str, str]
    classifier: str
    classifier_label: str
    subsets: Sequence[str] = ()
    flawed: Sequence[DescribedRun] = ()
    repeated: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @cached_property
    def values(self) -> RunValues:
        """The values of the runs."""
        return RunValues(self.rows, self.runs)

    @property
    def swept(self) -> list[str]:
        """The swept keys that are columns of the rows."""
        return [column for column in self.rows.columns if column not in COLUMNS]

    def replicates(self) -> list[list[DescribedRun]]:
        """The runs that differ by their seed only, together."""
        alike: dict[tuple[str, str], list[DescribedRun]] = {}
        for run in self.runs:
            alike.setdefault((run.dataset, run.series), []).append(run)
        return list(alike.values())

    def in_short(self, datasets: Sequence[str]) -> str:
        """The label of a data set, or the number of several."""
        several = f"{len(datasets)} data sets"
        return self.datasets[datasets[0]] if len(datasets) == 1 else several


def in_each(rule: str, datasets: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """A table or figure of each of some data sets, as :attr:`Finding.shown_in` has it."""
    return tuple((rule, dataset) for dataset in datasets)
