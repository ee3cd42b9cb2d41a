"""What swept keys of recipes do to accuracy and neural collapse."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.presentation import held_out
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import (
    networks_in_words,
    read_csv,
    run_rows,
    seeds_in_words,
    several_seeds,
)
from collapseflow.running.words import as_word

#: What is drawn around the best point.
RING = {
    "linestyle": "",
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgewidth": 0.8,
    "color": appearance.NEUTRAL,
}
#: Positive values whose ratio is larger than this stand on a logarithmic axis.
WIDE = 30


def place(values: Sequence[Any]) -> tuple[dict[str, float], str]:
    """Where swept values stand on an axis, by their texts, and its scale.

    Returns
    -------
    Positions, and ``log`` or ``linear`` for numbers, ``words`` for what has no distances: words,
    and numbers with a zero among them, in ascending order.
    """
    texts = {as_word(value): value for value in values}
    numeric = all(type(value) in (int, float) for value in texts.values())
    if numeric:
        texts = dict(sorted(texts.items(), key=lambda item: item[1]))
    if not numeric or 0 in texts.values():
        return {text: float(position) for position, text in enumerate(texts)}, "words"
    low, high = min(texts.values()), max(texts.values())
    scale = "log" if low > 0 and high / low > WIDE else "linear"
    return {text: float(value) for text, value in texts.items()}, scale


def swept_key(runs: Sequence[DescribedRun], recipe: str) -> str:
    """The first key that a recipe is run with several values of."""
    settings = [run.setting for run in runs if run.recipe == recipe]
    return next(key for key in settings[0] if len({as_word(s[key]) for s in settings}) > 1)


def _swept_axis(axis: Axes, positions: Mapping[str, float], scale: str) -> None:
    if scale == "log":
        axis.set_xscale("log")
    words = {position: text for text, position in positions.items()}
    axis.xaxis.set_major_locator(FixedLocator(list(words)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words[x]))
    axis.xaxis.set_minor_locator(NullLocator())
    if max(map(len, positions)) * len(positions) > 24:
        for label in axis.get_xticklabels():
            label.set(**appearance.TURNED)


def plot_sweep(material: Material, outputs: Outputs) -> None:
    """Accuracy, NC1 and the three parts of NC2 after the last epoch, against a swept value.

    Six panels for each recipe, over the values of the first key that it has several of. A line for
    each backbone, start and combination of the other swept keys has a colour; the data set has a
    marker; training images (for measures as many as there are test images) are solid and test
    images dashed. Of several seeds the mean with bars of one standard deviation, of NC1 the
    geometric ones; of one seed its values, with the 95 % interval of the accuracy on the test
    images. Where training images are held out, a ring is around the point that is the best on them
    (:func:`collapseflow.presentation.held_out.best_points`).
    """
    backbones, splits = material.backbones, curves.chosen_splits(material.only_splits)
    swept = material.swept_runs
    shared = curves.RunFigure.of(material, swept)
    runs = shared.runs
    networks = networks_in_words(runs, backbones)
    keys_of_all = {run.recipe: swept_key(swept, run.recipe) for run in swept}
    keys = {run.recipe: keys_of_all[run.recipe] for run in runs}

    def line_of(run: DescribedRun) -> str:
        others = [
            (key, value) for key, value in run.setting.items() if key != keys_of_all[run.recipe]
        ]
        words = [f"{key.replace('_', ' ')} {as_word(value)}" for key, value in others]
        return ", ".join([networks[run.backbone, run.start], *words])

    table = run_rows(read_csv(material.measures), runs)
    bars = {"linestyle": "", "marker": "|", "markersize": 8, "color": appearance.NEUTRAL}
    if several_seeds(runs):
        # Bars have one meaning in a figure.
        table = table.assign(low=np.nan, high=np.nan)
        bars["label"] = f"mean and s.d. over {seeds_in_words(runs)} (log axes: geometric)"
    else:
        bars["label"] = "95 % interval"
    owners = {line_of(run): run.backbone for run in swept}
    shown_lines = dict.fromkeys(map(line_of, runs))
    colours = appearance.line_colours(owners, list(backbones))
    best = held_out.best_points(held_out.final_accuracies(material.training, runs), runs)
    shown_panels = [
        *(
            ("accuracy", [split], quantity(f"accuracy_{split}").label_with_unit)
            for split in reversed(splits)
        ),
        *(
            (name, list(splits), quantity(name).title)
            for name in curves.chosen(panels_of("runs"), material.only_measures)
        ),
    ]
    n_rows, n_columns = appearance.grid(len(shown_panels), 3, material.style)
    figure, axes = shared.panels(n_rows * len(keys), n_columns, 0.33)
    for number, (recipe, key) in enumerate(keys.items()):
        recipe_runs = [run for run in runs if run.recipe == recipe]
        positions, scale = place([run.setting[key] for run in recipe_runs])
        # Each line over the positions of its runs.
        points: dict[tuple[str, str], list[DescribedRun]] = {}
        for run in recipe_runs:
            points.setdefault((line_of(run), run.dataset), []).append(run)
        recipe_axes = axes[n_rows * number : n_rows * (number + 1)].flat
        for axis in recipe_axes[len(shown_panels) :]:
            axis.set_axis_off()
        for axis, (name, its_splits, title) in zip(recipe_axes, shown_panels, strict=False):
            drawn = quantity(name)
            for ((line, dataset), line_runs), split in product(points.items(), its_splits):
                chosen = curves.on_split(table, name, split)
                curve = drawn.on_axis(_over(chosen, line_runs, key, positions, drawn.logarithmic))
                point = {"color": colours[line], "marker": shared.markers[dataset]}
                curves.draw(axis, curve.index, curve, bars=True, **point, **curves.SPLITS[split])
                for series, x in _places(line_runs, key, positions).items():
                    if (dataset, series) in best and x in curve.index:
                        axis.plot([x], [curve.loc[x, "middle"]], **RING)
            appearance.panel_title(axis, title, n_columns, material.style)
            words = key.replace("_", " ")
            axis.set_xlabel(words if len(keys) == 1 else f"{words} ({recipe})")
            _swept_axis(axis, positions, scale)
            curves.quantity_axis(axis, name)
            if drawn.is_accuracy:
                # A little above 100, where the marker of a perfect accuracy is whole.
                axis.set_ylim(top=min(axis.get_ylim()[1], 100.5))
    groups = [
        curves.colour_keys({line: line for line in shown_lines}, colours),
        shared.dataset_keys(),
        curves.split_keys(curves.BOTH_WORDS, splits),
        [Line2D([], [], **bars)],
        [Line2D([], [], label="best on held-out training images", **RING)] if best else [],
    ]
    shared.save(figure, list(filter(None, groups)), outputs, compared=table)


def _places(
    runs: Sequence[DescribedRun], key: str, positions: Mapping[str, float]
) -> dict[str, float]:
    """The positions of the series of some runs by the value of a swept key."""
    return {run.series: positions[as_word(run.setting[key])] for run in runs}


def _over(
    rows: pd.DataFrame,
    runs: Sequence[DescribedRun],
    key: str,
    positions: Mapping[str, float],
    geometric: bool,
) -> pd.DataFrame:
    """One quantity after the last epochs of some runs, over the positions of a swept key."""
    where = _places(runs, key, positions)
    last = {run.series: run.last for run in runs}
    chosen = rows[(rows["dataset"] == runs[0].dataset) & rows["series"].isin(where)]
    chosen = chosen[
        (chosen["epoch"] == chosen["series"].map(last)) & chosen["layer"].isin(["", runs[0].layer])
    ]
    return curves.mean_and_spread(chosen.assign(x=chosen["series"].map(where)), "x", geometric)
