"""What figures of runs share: means with bands over seeds, axes of epochs, the legend below."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    ScalarFormatter,
)

from collapseflow.measures.collapse import MEASURES
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.rows import (
    failures_in_words,
    of_runs,
    read_csv,
    seeds_in_words,
    several_seeds,
)

#: A line with more points than these is marked at some of them only.
MOST_MARKED = 20
#: From this last epoch on the axis of epochs is logarithmic.
LONG = 50
#: A figure names so many failures; the summary names all.
MOST_FAILURES = 3


def series_in_words(runs: Sequence[Mapping]) -> dict[str, str]:
    """Labels of the series of some runs, in their order."""
    return {run["series"]: run["label"] for run in runs}


def series_colours(runs: Sequence[Mapping], backbones: Sequence[str]) -> dict[str, str]:
    """The colours of the series of some runs, of all runs of a study."""
    return look.line_colours({run["series"]: run["backbone"] for run in runs}, backbones)


def around(rows: pd.DataFrame, by: str, geometric: bool = False) -> pd.DataFrame:
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
    axis: Axes, x: Sequence[float], curve: pd.DataFrame, bars: bool = False, **line: object
) -> None:
    """Draw a curve of :func:`around`, with error bars or, where those would be too many, a band."""
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
        axis.fill_between(
            x, curve["low"], curve["high"], color=line["color"], alpha=0.15, linewidth=0
        )


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


def value_axis(axis: Axes, logarithmic: bool) -> None:
    """A logarithmic axis, or one from zero, with thin lines to read it by."""
    if logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(FuncFormatter(partial(_between_decades, axis)))
    else:
        # Not a limit of the axis, which would no longer grow with what is drawn later.
        axis.axhline(0, alpha=0).sticky_edges.y.append(0)
        axis.autoscale_view(scalex=False)
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def _between_decades(axis: Axes, value: float, _: int) -> str:
    """Values with 2 and 5 are labelled where the axis has few powers of ten; all, where it has
    few values."""
    low, high = axis.get_ylim()
    labelled = "23456789" if high / low < 4 else "25" if high / low < 300 else ""
    return f"{value:g}" if f"{value:e}"[0] in labelled else ""


def measure_axis(axis: Axes, measure: str) -> None:
    """The axis of a measure of collapse, with its formula."""
    of_measure = MEASURES[measure]
    axis.set_ylabel(of_measure.formula, parse_math=True)
    value_axis(axis, of_measure.logarithmic)


def close_grid(axes: np.ndarray, n: int) -> None:
    """Leave out the panels (rows, columns) after the first ``n``, all over epochs; those that have
    no panel below say so."""
    for axis in axes.flat[n:]:
        axis.set_axis_off()
    for position, axis in enumerate(axes.flat[:n]):
        lowest = position + axes.shape[1] >= n
        axis.xaxis.set_tick_params(labelbottom=lowest)
        axis.set_xlabel("epoch" if lowest else "")


def keys(names: Mapping[str, str], looks: Mapping[str, Mapping]) -> list[Line2D]:
    """The legend's lines for some names."""
    return [Line2D([], [], label=label, **looks[name]) for name, label in names.items()]


def seeds_key(runs: Sequence[Mapping], more: str = "") -> list[Patch]:
    """The legend's word on the bands; nothing where no series has several seeds."""
    if not several_seeds(runs):
        return []
    label = f"mean and s.d. over {seeds_in_words(runs)}{more}"
    return [Patch(color=look.NEUTRAL, alpha=0.3, linewidth=0, label=label)]


def failure_notes(failures: str | Path, runs: Sequence[Mapping]) -> list[str]:
    """What a figure says of runs that failed."""
    table = read_csv(failures)
    if not len(table):
        return []
    words = failures_in_words(of_runs(table, runs))
    notes = [f"Failed: {line}" for line in words[:MOST_FAILURES]]
    more = len(words) - len(notes)
    return [*notes, f"and {more} more failed; see the summary"] if more else notes


def finish(
    figure: Figure,
    groups: Sequence[Sequence[Artist]],
    notes: Sequence[str],
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """The legend below all panels, each group in lines of its own, then notes; and the files.

    The figure grows by what stands below its panels.
    """
    # A letter is about half as wide as the font is high; a key and the gap take eight letters.
    letters = style["width"] * 72 / (0.5 * style["font_size"])
    longest = max(len(handle.get_label()) for group in groups for handle in group)
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
        legend.set_title("\n".join(lines), {"size": style["font_size"] - 1})
    high = (len(rows) + len(lines)) * 1.45 * style["font_size"] / 72
    width, panels = figure.get_size_inches()
    figure.set_size_inches(width, panels + high)
    look.save(figure, paths)
