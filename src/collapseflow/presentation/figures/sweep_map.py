"""What two swept keys of a recipe do together: heat maps."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from collapseflow.measures.quantities import quantity
from collapseflow.presentation import held_out
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.figures.sweep import place
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import (
    networks_in_words,
    over_seeds,
    read_csv,
    run_rows,
    seeds_in_words,
    several_seeds,
)
from collapseflow.running.words import as_word

#: A panel each: quantity, split and title.
MAPS = (
    ("accuracy", "test", "accuracy, test, %"),
    ("accuracy", "train", "accuracy, training, %"),
    ("nc1", "test", "NC1, test"),
    ("nc1", "train", "NC1, training"),
)
COLOURS = {"accuracy": "viridis", "nc1": "magma"}
NO_RESULT = "#dddddd"
#: Around the best point, black in white: it is seen on light and on dark cells.
FRAME = {"fill": False, "edgecolor": "black", "linewidth": 1.6}
FRAME_AROUND = {"fill": False, "edgecolor": "white", "linewidth": 3.6}
SPLITS = ("test", "train")
#: Letters of a number in a cell.
MOST_LETTERS = 6


def maps_of(
    runs: Sequence[DescribedRun], backbones: Mapping[str, str]
) -> dict[str, list[DescribedRun]]:
    """The runs of each map: of a network and a recipe that is run with several values of two keys,
    at the same values of further keys; by these in words."""
    by_recipe: dict[str, list[DescribedRun]] = {}
    for run in runs:
        by_recipe.setdefault(run.recipe, []).append(run)
    swept = {recipe: _swept_keys(of_recipe) for recipe, of_recipe in by_recipe.items()}
    networks = networks_in_words(runs, backbones)
    found: dict[str, list[DescribedRun]] = {}
    for run in runs:
        keys = swept[run.recipe]
        if len(keys) < 2:
            continue
        words = [networks[run.backbone, run.start], run.recipe]
        words += [f"{key.replace('_', ' ')} {as_word(run.setting[key])}" for key in keys[2:]]
        found.setdefault(", ".join(words), []).append(run)
    return found


def axes_of(runs: Sequence[DescribedRun]) -> list[tuple[str, list[str]]]:
    """The keys to the right and down of a map of some runs, each with its values in order, as
    texts."""
    return [(key, list(place([run.setting[key] for run in runs])[0])) for key in _swept_keys(runs)]


def _swept_keys(runs: Sequence[DescribedRun]) -> list[str]:
    """The keys that some runs of a recipe have several values of."""
    return [key for key in runs[0].setting if len({as_word(run.setting[key]) for run in runs}) > 1]


def plot_sweep_map(material: Material, outputs: Outputs) -> None:
    """Accuracy and NC1 after the last epoch at each point of two swept keys.

    For each data set and network, and each combination of further swept keys of its recipe, four
    heat maps: the first swept key goes to the right, the second one down. NC1 of training images is
    that of as many of each class as there are test images. Of several seeds the mean, of NC1 the
    geometric one. Colours have one scale for each quantity and data set. Where training images are
    held out, a frame is around the point that is the best on them
    (:func:`collapseflow.presentation.held_out.best_points`).
    """
    shared = curves.RunFigure.of(material, material.runs_swept_twice)
    runs, style = shared.runs, material.style
    table = run_rows(read_csv(material.measures), runs)
    values = _last_values(table, runs)
    best = held_out.best_points(held_out.final_accuracies(material.training, runs), runs)
    groups = {
        (dataset, f"{label}: {heading}"): of_dataset
        for dataset, label in material.datasets.items()
        for heading, of_map in maps_of(runs, material.backbones).items()
        if (of_dataset := [run for run in of_map if run.dataset == dataset])
    }
    _, columns = appearance.grid(len(MAPS), len(MAPS), style)
    below = len(MAPS) // columns
    figure, axes = shared.panels(below * len(groups), columns, 0.3)
    missing = False
    for row, ((dataset, heading), of_group) in zip(
        axes.reshape(len(groups), len(MAPS)), groups.items(), strict=True
    ):
        titles = [title for *_, title in MAPS]
        appearance.row_titles(row[:columns], heading, titles[:columns], style)
        for axis, title in zip(row[columns:], titles[columns:], strict=True):
            axis.set_title(title)
        of_dataset = {run.series for run in runs if run.dataset == dataset}
        for number, (axis, (name, split, _)) in enumerate(zip(row, MAPS, strict=True)):
            on_both = [values.get((dataset, s, name, part)) for s in of_dataset for part in SPLITS]
            scale = _scale(name, [value for value in on_both if value is not None])
            found = {s: values.get((dataset, s, name, split), np.nan) for s in of_dataset}
            room = style["width"] / columns
            named = number % columns == 0
            missing |= not _draw(axis, name, of_group, found, scale, room, style, named)
        for series in {run.series for run in of_group}:
            if (dataset, series) in best:
                x, y = _cell(of_group, series)
                for axis in row:
                    for look in (FRAME_AROUND, FRAME):
                        axis.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, **look))
    keys = [Patch(facecolor=NO_RESULT, label="no result")] if missing else []
    if best:
        keys.append(Patch(label="best on held-out training images", **FRAME))
    words = seeds_in_words(runs)
    if several_seeds(runs):
        words = f"mean over {words} (NC1: geometric)"
    keys.append(Line2D([], [], linestyle="", label=words))
    shared.save(figure, [keys], outputs, compared=table)


def _last_values(
    table: pd.DataFrame, runs: Sequence[DescribedRun]
) -> dict[tuple[str, str, str, str], float]:
    """Means over seeds after the last epoch, by data set, series, quantity and split."""
    last, layer = ({run.series: getattr(run, key) for run in runs} for key in ("last", "layer"))
    at_end = table["epoch"] == table["series"].map(last)
    at_layer = (table["layer"] == "") | (table["layer"] == table["series"].map(layer))
    table = table[at_end & at_layer]
    return {
        (row.dataset, row.series, name, split): row.mean
        for name, split, _ in MAPS
        for row in over_seeds(
            curves.on_split(table, name, split), ["dataset", "series"]
        ).itertuples()
    }


def _scale(name: str, values: Sequence[float]) -> Normalize:
    """The scale of the colours of one quantity."""
    known = [v for v in values if np.isfinite(v) and (v > 0 or not quantity(name).logarithmic)]
    low, high = (min(known), max(known)) if known else (0.5, 1.0)
    if quantity(name).logarithmic:
        return LogNorm(low, max(high, 1.01 * low))
    return Normalize(min(low, high - 0.01), high)


def _cell(runs: Sequence[DescribedRun], series: str) -> tuple[int, int]:
    """Column and row of a series."""
    run = next(run for run in runs if run.series == series)
    x, y = (texts.index(as_word(run.setting[key])) for key, texts in axes_of(runs))
    return x, y


def _draw(
    axis: Axes,
    name: str,
    runs: Sequence[DescribedRun],
    found: Mapping[str, float],
    scale: Normalize,
    room: float,
    style: Mapping,
    named: bool,
) -> bool:
    """One heat map, with its numbers where cells have room for them, else with a scale; whether
    each cell has one.

    Parameters
    ----------
    found
        Values by series.
    room
        The width of the panel in inches.
    named
        Whether the rows have their words.
    """
    (across, columns), (down, rows) = axes_of(runs)
    values = np.full((len(rows), len(columns)), np.nan)
    for series in {run.series for run in runs}:
        x, y = _cell(runs, series)
        values[y, x] = found[series]
    if quantity(name).logarithmic:
        values[values <= 0] = np.nan
    drawn = appearance.heat_map(axis, values, cmap=COLOURS[name], norm=scale)
    axis.set_facecolor(NO_RESULT)
    axis.tick_params(length=0)
    turned = max(map(len, columns)) * len(columns) > 16
    axis.set_xticks(range(len(columns)), columns, **(appearance.TURNED if turned else {}))
    axis.set_yticks(range(len(rows)), rows if named else [""] * len(rows))
    axis.set_xlabel(across.replace("_", " "))
    axis.set_ylabel(down.replace("_", " ") if named else "")
    size = appearance.points(style, 1)
    # A digit is about 0.6 of the font's size wide.
    if 0.7 * room * 72 / len(columns) < 0.6 * size * MOST_LETTERS:
        axis.figure.colorbar(drawn, ax=axis)
        return not np.isnan(values).any()
    words = {
        cell: f"{100 * value:.1f}" if quantity(name).is_accuracy else f"{value:.3g}"
        for cell, value in np.ndenumerate(values)
        if not np.isnan(value)
    }
    appearance.write_in_cells(axis, drawn, words, size)
    return len(words) == values.size
