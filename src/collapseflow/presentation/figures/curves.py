"""What figures of runs share: who has which colour, line and marker, means with bands over seeds,
axes of epochs, the legend below.

One encoding holds in all of them. The colour of a line says its series; what belongs to no series
is grey. Solid lines and full markers are training images, dashed lines and hollow markers test
images. Data sets have markers; where they have panels of their own, series have them. Measures of
collapse depend on how many images a class has: beside those of the test images stand those of as
many training images.
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    ScalarFormatter,
)

from collapseflow.measures.quantities import quantity
from collapseflow.measures.statistics import MATCHED
from collapseflow.presentation.figures import appearance
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import (
    failures_in_words,
    few_images_in_words,
    networks_in_words,
    read_csv,
    run_rows,
    seeds_in_words,
    several_seeds,
)

#: Lines of training and of test images.
SPLITS = {
    "train": {"linestyle": "-"},
    "test": {
        "linestyle": (0, (3, 1.5)),
        "markerfacecolor": "white",
        "markeredgewidth": 0.7,
    },
}
SPLIT_WORDS = {"train": "training images", "test": "test images"}
MATCHED_WORDS = {**SPLIT_WORDS, "train": "training images, as many as test images"}
BOTH_WORDS = {**SPLIT_WORDS, "train": "training images (measures: as many as test images)"}
#: A line with more points than these is marked at some of them only.
MOST_MARKED = 20
#: A logarithmic axis has at most so many labels.
MOST_TICKS = 8
#: From this last epoch on the axis of epochs is logarithmic.
LONG = 50
#: A figure names so many failures; the summary names all.
MOST_FAILURES = 3
#: What the legend adds to the word on the bands where panels have logarithmic axes.
GEOMETRIC = " (log axes: geometric)"


Thing = TypeVar("Thing")


def chosen(
    there: Sequence[Thing], names: Sequence[str], name_of: Callable[[Thing], str] = str
) -> list[Thing]:
    """What is shown of what a figure has: what the study file names, and all where it names nothing
    or nothing of this."""
    return [one for one in there if name_of(one) in names] or list(there)


def chosen_runs(runs: Sequence[DescribedRun], recipes: Sequence[str]) -> list[DescribedRun]:
    """:func:`chosen` of runs, by their recipes."""
    return chosen(runs, recipes, lambda run: run.recipe)


def chosen_splits(names: Sequence[str]) -> dict[str, dict]:
    """The lines of the splits that are shown: :func:`chosen` of :data:`SPLITS`."""
    return {split: SPLITS[split] for split in chosen(list(SPLITS), names)}


@dataclass(frozen=True)
class Start:
    """What several series have in common, which is drawn once: their epoch 0.

    ``series`` are their names, ``colour`` a grey, ``label`` what the legend calls it.
    """

    series: tuple[str, ...]
    colour: str
    label: str


def common_starts(runs: Sequence[DescribedRun], backbones: Mapping[str, str]) -> list[Start]:
    """The starts that several series of some runs have in common on a data set."""
    trained: dict[tuple[str, str], dict[str, set[str]]] = {}
    for run in runs:
        by_dataset = trained.setdefault((run.backbone, run.start), {})
        by_dataset.setdefault(run.dataset, set()).add(run.series)
    common = [
        start
        for start, by_dataset in trained.items()
        if any(len(series) > 1 for series in by_dataset.values())
    ]
    words = networks_in_words(runs, backbones)
    n = len(common)
    greys = [appearance.NEUTRAL] if n == 1 else np.linspace(0.3, 0.75, n).astype(str)
    return [
        Start(
            tuple(sorted(set().union(*trained[start].values()))),
            to_hex(grey),
            f"{words[start]}: common start",
        )
        for start, grey in zip(common, greys, strict=True)
    ]


def rows_of_start(rows: pd.DataFrame, start: Start) -> pd.DataFrame:
    """The rows of a common start, each seed once."""
    first = rows[rows["series"].isin(start.series) & (rows["epoch"] == 0)]
    return first.drop_duplicates(["dataset", "seed", "layer", "split", "quantity"])


class RunFigure:
    """What the figures of some runs share: colours, markers, starts, the legend and the notes.

    Attributes
    ----------
    runs, style
        The runs, and the study's ``style``, which holds from now on.
    labels, colours, series_markers
        Of the series, in the order of the runs.
    datasets, markers
        Labels of the data sets of the runs, and the markers of all data sets.
    starts
        What several series have in common.
    last
        The last epoch of any run.
    """

    def __init__(
        self,
        runs: Sequence[DescribedRun],
        datasets: Mapping[str, str],
        backbones: Mapping[str, str],
        failures: str | Path | None,
        style: Mapping,
        coloured: Sequence[DescribedRun] | None = None,
    ) -> None:
        """
        Parameters
        ----------
        datasets, backbones, failures, style
            Of the study, as :class:`collapseflow.presentation.material.Material` has them; without
            a study there is no table of ``failures``.
        coloured
            The runs among whose series colours are shared out, if these are others.
        """
        appearance.apply(style)
        self.runs, self.style = runs, style
        self.labels = {run.series: run.label for run in runs}
        owners = {run.series: run.backbone for run in coloured or runs}
        self.colours = appearance.line_colours(owners, list(backbones))
        # More series than markers have them again, with other colours.
        self.series_markers = dict(zip(owners, cycle(appearance.MARKERS), strict=False))
        self.datasets = {
            dataset: label
            for dataset, label in datasets.items()
            if any(run.dataset == dataset for run in runs)
        }
        self.markers = appearance.dataset_markers(list(datasets))
        self.starts = common_starts(runs, backbones)
        self.last = max(run.last for run in runs)
        self._failures = failures

    @classmethod
    def of(
        cls, material: Material, runs: Sequence[DescribedRun], dataset: str | None = None
    ) -> "RunFigure":
        """The figure of those of some runs of a study that its file chooses, of one data set or of
        all. A run has the colour that it has among all of ``runs``, whatever is chosen."""
        here = [run for run in runs if dataset in (None, run.dataset)]
        shown = chosen_runs(here, material.only_recipes)
        labels = material.datasets, material.backbones
        return cls(shown, *labels, material.failures, material.style, coloured=runs)

    def has_common_start(self, series: str) -> bool:
        """Whether the epoch 0 of a series is one of :attr:`starts`."""
        return any(series in start.series for start in self.starts)

    def panels(
        self, rows: int, columns: int, height: float, **shared: Any
    ) -> tuple[Figure, np.ndarray]:
        """A figure of panels (rows, columns), each row that part of the figure's width high, but
        not too low to be read."""
        size = self.style["width"], rows * max(height * self.style["width"], appearance.LOWEST)
        return plt.subplots(rows, columns, figsize=size, squeeze=False, **shared)

    def series_keys(self, marked: bool = False) -> list[Artist]:
        """The legend's colours of series and common starts; with the markers of series where they
        are ``marked``."""
        starts = [Patch(facecolor=start.colour, label=start.label) for start in self.starts]
        if not marked:
            return colour_keys(self.labels, self.colours) + starts
        looks = {
            series: {"color": self.colours[series], "marker": self.series_markers[series]}
            for series in self.labels
        }
        return keys(self.labels, looks, linestyle="") + starts

    def dataset_keys(self) -> list[Line2D]:
        """The legend's markers of the data sets."""
        return marker_keys(self.datasets, self.markers)

    def seeds_key(self, more: str = GEOMETRIC) -> list[Patch]:
        """The legend's word on the bands; nothing where no series has several seeds."""
        if not several_seeds(self.runs):
            return []
        label = f"mean and s.d. over {seeds_in_words(self.runs)}{more}"
        light, edge = to_rgba(appearance.NEUTRAL, 0.2), to_rgba(appearance.NEUTRAL, 0.6)
        return [Patch(facecolor=light, edgecolor=edge, linewidth=0.4, label=label)]

    def save(
        self,
        figure: Figure,
        groups: Sequence[Sequence[Artist]],
        outputs: Outputs,
        compared: pd.DataFrame | None = None,
    ) -> None:
        """:func:`save_with_legend`, with notes on the runs that failed and, where rows of measures
        are ``compared``, on the classes that have few images there."""
        notes = []
        if compared is not None:
            notes = few_images_in_words(compared[compared["split"] != "train"], self.datasets)
        notes += self._failure_notes()
        save_with_legend(figure, groups, notes, self.style, outputs)

    def _failure_notes(self) -> list[str]:
        if self._failures is None:
            return []
        table = read_csv(self._failures)
        if not len(table):
            return []
        words = failures_in_words(run_rows(table, self.runs))
        notes = [f"Failed: {line}" for line in words[:MOST_FAILURES]]
        more = len(words) - len(notes)
        return [*notes, f"and {more} more failed; see the summary"] if more else notes


def on_split(rows: pd.DataFrame, name: str, split: str) -> pd.DataFrame:
    """The rows of a quantity on a split. On training images accuracies are those on all of them,
    other quantities those on as many as there are test images."""
    wanted = MATCHED if split == "train" and not quantity(name).is_accuracy else split
    return rows[(rows["quantity"] == name) & (rows["split"] == wanted)]


def mean_and_spread(rows: pd.DataFrame, by: str, geometric: bool = False) -> pd.DataFrame:
    """The middle of one curve and what lies around it.

    Several seeds: mean, and mean ± standard deviation (ddof = 1), of the logarithms if
    ``geometric``. One seed: its values, and their intervals where they have some.

    Returns
    -------
    Columns ``middle``, ``low``, ``high``, by the values of ``by`` in ascending order.
    """
    if rows["seed"].nunique() <= 1:
        table = rows.set_index(by).sort_index().rename(columns={"value": "middle"})
        return table.reindex(columns=["middle", "low", "high"])
    values = np.log(rows["value"]) if geometric else rows["value"]
    groups = values.groupby(rows[by])
    mean, sd = groups.mean(), groups.std()
    table = pd.DataFrame({"middle": mean, "low": mean - sd, "high": mean + sd})
    return np.exp(table) if geometric else table


def draw(
    axis: Axes,
    x: Sequence[float],
    curve: pd.DataFrame,
    bars: bool = False,
    from_common_start: bool = False,
    **line: object,
) -> None:
    """Draw a curve of :func:`mean_and_spread`, with error bars or, where there are too many, a
    band.

    Of a curve over epochs ``from_common_start`` epoch 0 is the end of a line alone: what it has
    in common with others is drawn with :func:`draw_starts`.
    """
    if from_common_start and curve.index[:1].tolist() == [0]:
        bare = {key: value for key, value in line.items() if not key.startswith("marker")}
        if line.get("linestyle"):
            axis.plot(x[:2], curve["middle"].iloc[:2], **bare)
        x, curve = x[1:], curve.iloc[1:]
    if not len(curve):
        return
    many = len(curve) > MOST_MARKED
    if many and "marker" in line:
        line = {**line, "markevery": _marked(np.asarray(x, dtype=float))}
    bounded = curve["low"].notna().any()
    if bounded and bars and not many:
        errors = [curve["middle"] - curve["low"], curve["high"] - curve["middle"]]
        axis.errorbar(x, curve["middle"], errors, elinewidth=0.6, **line)
        return
    axis.plot(x, curve["middle"], **line)
    if bounded:
        # With an edge: where bands lie on each other, it says which is which.
        alpha = line.get("alpha", 1)
        axis.fill_between(
            x,
            curve["low"],
            curve["high"],
            facecolor=to_rgba(line["color"], 0.12 * alpha),
            edgecolor=to_rgba(line["color"], 0.4 * alpha),
            linewidth=0.4,
        )


def draw_starts(
    axis: Axes,
    rows: pd.DataFrame,
    starts: Sequence[Start],
    geometric: bool = False,
    scale: float = 1,
    **marker: object,
) -> None:
    """Points at epoch 0, with bars, of what several curves of one quantity begin with."""
    for start in starts:
        curve = scale * mean_and_spread(rows_of_start(rows, start), "epoch", geometric)
        line = {**marker, "linestyle": "", "color": start.colour}
        draw(axis, curve.index, curve, bars=True, **line)


def _marked(epochs: np.ndarray) -> list[int]:
    """Some of many epochs, evenly spaced on the axis of :func:`epoch_axis`."""
    places = epochs if epochs[-1] < LONG else np.log1p(epochs)
    wanted = np.linspace(places[0], places[-1], 8)
    return sorted({int(np.abs(places - place).argmin()) for place in wanted})


def epoch_axis(axis: Axes, first: int, last: int) -> None:
    """Whole epochs; a long training is seen from its first epochs to its last."""
    axis.set_xlabel("epoch")
    if last < LONG:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    ticks = [m * 10**power for power in range(len(str(last))) for m in (1, 3)]
    axis.xaxis.set_major_locator(FixedLocator([0, *(tick for tick in ticks if tick <= last)]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.set_xlim(0.9 if first else -0.1, last * 1.1)


class LogTicks(LogLocator):
    """Ticks of a logarithmic axis: powers of ten, also their multiples where those are few, and
    evenly spaced values where the axis is shorter than any; at least two in all cases."""

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        """The ticks between two values."""
        low, high = sorted((vmin, vmax))
        powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        for digits, enough in (((1,), 3), ((1, 2, 5), 3), (range(1, 10), 2)):
            ticks = np.ravel(10.0 ** powers[:, None] * np.array(digits))
            # What rounding leaves just outside of the axis is on it.
            ticks = ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]
            if len(ticks) >= enough:
                return ticks[:: -(-len(ticks) // MOST_TICKS)]
        ticks = MaxNLocator(4, min_n_ticks=2).tick_values(low, high)
        return ticks[(ticks >= low) & (ticks <= high)]

    def nonsingular(self, vmin: float, vmax: float) -> tuple[float, float]:
        """Limits that can be told apart."""
        low, high = super().nonsingular(vmin, vmax)
        return (low, high) if high / low > 1.01 else (low / 1.01, high * 1.01)


def log_ticks(axis: Axis) -> None:
    """Label an x or y axis that is logarithmic."""
    axis.set_major_locator(LogTicks())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=range(2, 10)))
    axis.set_minor_formatter(NullFormatter())


def value_axis(axis: Axes, logarithmic: bool) -> None:
    """A logarithmic axis, or one from zero, with thin lines to read it by."""
    if logarithmic:
        axis.set_yscale("log")
        log_ticks(axis.yaxis)
    else:
        # Not a limit of the axis, which would no longer grow with what is drawn later.
        axis.axhline(0, alpha=0).sticky_edges.y.append(0)
    axis.autoscale_view(scalex=False)
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def quantity_axis(axis: Axes, name: str) -> None:
    """The axis of a quantity with its formula: from zero where that is ideal, or logarithmic."""
    shown = quantity(name)
    axis.set_ylabel(shown.axis, parse_math=True)
    if shown.logarithmic or shown.ideal is not None and shown.on_axis(shown.ideal) == 0:
        value_axis(axis, shown.logarithmic)
    else:
        axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def letters() -> Iterator[str]:
    """Letters of panels: a to z, aa, ab and so on."""
    return ("".join(word) for n in count(1) for word in product(ascii_lowercase, repeat=n))


def close_grid(axes: np.ndarray, n: int) -> None:
    """Leave out the panels (rows, columns) after the first ``n``, all over epochs; those that have
    no panel below say so."""
    for axis in axes.flat[n:]:
        axis.set_axis_off()
    for position, axis in enumerate(axes.flat[:n]):
        lowest = position + axes.shape[1] >= n
        axis.xaxis.set_tick_params(labelbottom=lowest)
        axis.set_xlabel("epoch" if lowest else "")


def keys(names: Mapping[str, str], lines: Mapping[str, Mapping], **common: Any) -> list[Line2D]:
    """The legend's grey lines for some names, unless they say another colour."""
    grey = {"color": appearance.NEUTRAL, **common}
    return [Line2D([], [], label=label, **{**grey, **lines[name]}) for name, label in names.items()]


def colour_keys(names: Mapping[str, str], colours: Mapping[str, str]) -> list[Patch]:
    """The legend's colours of some names: a patch, because a line says more than its colour."""
    return [Patch(facecolor=colours[name], label=label) for name, label in names.items()]


def split_keys(
    words: Mapping[str, str] = SPLIT_WORDS, splits: Mapping[str, Mapping] = SPLITS
) -> list[Line2D]:
    """The legend's lines of training and test images, those that are drawn."""
    return keys({split: words[split] for split in splits}, splits, marker="o")


def marker_keys(names: Mapping[str, str], markers: Mapping[str, str]) -> list[Line2D]:
    """The legend's markers of some names."""
    return keys(names, {name: {"marker": markers[name]} for name in names}, linestyle="")


def _in_lines(label: str, letters: int) -> str:
    """A label in lines of so many letters; a value stays with the last word of what has it, as in
    "weight decay 0"."""
    kept = re.sub(r" (?=[\d.e-]+(,|$))", appearance.NO_BREAK, label)
    return textwrap.fill(kept, letters).replace(appearance.NO_BREAK, " ")


def save_with_legend(
    figure: Figure,
    groups: Sequence[Sequence[Artist]],
    notes: Sequence[str],
    style: Mapping,
    outputs: Outputs,
) -> None:
    """The legend below all panels, each group in lines of its own, then notes; and the files.

    The figure grows by what stands below its panels.
    """
    # A letter is about half as wide as the font is high; a key and the gap take eight letters.
    size = appearance.points(style)
    letters = style["width"] * 72 / (0.5 * size)
    for handle in [handle for group in groups for handle in group]:
        handle.set_label(_in_lines(handle.get_label(), max(8, int(letters) - 8)))
    longest = max(len(line) for g in groups for h in g for line in h.get_label().split("\n"))
    columns = max(1, min(int(letters / (longest + 8)), max(map(len, groups))))
    rows = []
    for group in groups:
        for start in range(0, len(group), columns):
            row = list(group[start : start + columns])
            rows.append(row + [Line2D([], [], alpha=0, label=" ")] * (columns - len(row)))
    # A legend is filled column by column.
    handles = [row[column] for column in range(columns) for row in rows]
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False
    )
    lines = [line for note in notes for line in textwrap.wrap(note, int(letters))]
    if lines:
        legend.set_title("\n".join(lines), {"size": appearance.points(style, 1)})
    n_lines = sum(1 + max(handle.get_label().count("\n") for handle in row) for row in rows)
    high = (n_lines + len(lines)) * 1.45 * size / 72
    width, panels = figure.get_size_inches()
    figure.set_size_inches(width, panels + high)
    appearance.save(figure, outputs)
