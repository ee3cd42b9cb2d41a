"""What the features of a start are worth on a data set, before any training on it and after it."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from collapseflow.measures.correlation import MIN_POINTS, spearman
from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import (
    few_images_in_words,
    over_seeds,
    read_csv,
    run_rows,
    swept_keys,
    write_csv,
)
from collapseflow.presentation.tables.writing import seeds_note, signed, spread, write_table

#: The panels' columns: what is measured of the training images' features before any training.
SOURCES = panels_of("transfer")
#: The panels' rows: what the features are worth on the test images.
TARGETS = {
    "probing": quantity("accuracy_linear").label_with_unit,
    "fine-tuning": "after fine-tuning, %",
}
#: Markers: the backbone's last layer, and those before it.
LAST = {"linestyle": "", "markersize": 4}
EARLIER = {**LAST, "markerfacecolor": "none", "markeredgewidth": 0.8}
#: Of the bootstrap.
SEED = 0
#: The heat maps: title, colours.
MAPS = {
    "accuracy_linear": (quantity("accuracy_linear").label_with_unit, "viridis"),
    "gain_over_random": (quantity("gain_over_random").label_with_unit, "PuOr_r"),
    "nc1": (f"{quantity('nc1').label}, training images", "viridis_r"),
}
#: Around cells where the source is the target.
FRAME = {"fill": False, "edgecolor": "black", "linewidth": 1.2}
_PLACE = ["dataset", "backbone", "start", "layer"]


def _untrained(
    table: pd.DataFrame, datasets: Mapping[str, str], backbones: Mapping[str, str]
) -> pd.DataFrame:
    """The rows of the features of first weights, before any training on the data set."""
    chosen = (table["recipe"] == "") & table["backbone"].isin(backbones) & (table["layer"] != "")
    return table[chosen & table["dataset"].isin(datasets) & (table["start"] != "")]


def _learned_it(rows: pd.DataFrame) -> pd.Series:
    """Whether the start has been trained on the data set itself."""
    return rows["start"] == "pretrain-" + rows["dataset"]


def _last_layers(rows: pd.DataFrame) -> dict[str, str]:
    """The last layer of each backbone: measures.csv has them in their order, of each data set."""
    layers = rows.drop_duplicates(["backbone", "layer"]).drop_duplicates("backbone", keep="last")
    return layers.set_index("backbone")["layer"].to_dict()


def transfer_points(
    table: pd.DataFrame,
    runs: Sequence[DescribedRun],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
) -> pd.DataFrame:
    """The points of :func:`plot_transfer`.

    Parameters
    ----------
    table
        measures.csv.
    runs, datasets, backbones
        As :class:`collapseflow.presentation.material.Material` has them.

    Returns
    -------
    A row for each data set, backbone, start, layer (after fine-tuning: the layer of the runs; a
    point for each recipe), row of panels (``after``) and quantity: its ``value`` on the training
    images, ``accuracy`` on the test images, both means over seeds, and ``n_seeds`` of the accuracy.
    """
    keys = swept_keys(runs)
    rows = _untrained(table, datasets, backbones)
    rows = rows[~_learned_it(rows)]
    train = rows[(rows["split"] == "train") & rows["quantity"].isin(SOURCES)]
    values = over_seeds(train, [*_PLACE, "quantity"])
    values = values.rename(columns={"mean": "value"})[[*_PLACE, "quantity", "value"]]
    probes = over_seeds(rows[rows["quantity"] == "accuracy_linear"], _PLACE)
    found = [probes.assign(after="probing", recipe="", **dict.fromkeys(keys, ""))]
    if runs:
        ends = pd.DataFrame(
            [{"series": run.series, "at": run.layer, "last": run.last} for run in runs]
        ).drop_duplicates()
        tuned = run_rows(table, runs).merge(ends, on="series")
        tuned = tuned[
            (tuned["quantity"] == "accuracy")
            & (tuned["split"] == "test")
            & (tuned["epoch"] == tuned["last"])
        ].assign(layer=lambda ended: ended["at"])
        found.append(over_seeds(tuned, [*_PLACE, "recipe", *keys]).assign(after="fine-tuning"))
    points = pd.concat(found).rename(columns={"mean": "accuracy"}).merge(values, on=_PLACE)
    named = ["dataset", "backbone", "start", "recipe", *keys, "layer", "after"]
    return points[[*named, "quantity", "value", "accuracy", "n_seeds"]].dropna(subset="value")


def plot_transfer(material: Material, outputs: Outputs) -> None:
    """Test accuracies on target data sets against measures of the features before training on them.

    A column of panels for each of :data:`SOURCES` that there is, on the training images at epoch 0;
    a row for the linear probe of the same features, and one for the network after fine-tuning from
    them (at the layer that the runs name). A point is a data set (marker), a backbone and start
    (colour) and a layer (hollow: not the last one), the mean over seeds; starts that have been
    trained on the data set itself are left out. Each panel has Spearman's rank correlation over the
    points of a data set, averaged over the data sets, which differ in how hard they are, and its
    95 % bootstrap interval; points of a network go together, so that intervals are rather too
    narrow. The CSV has the points (:func:`transfer_points`).
    """
    datasets, backbones, style = material.datasets, material.backbones, material.style
    appearance.apply(style)
    table = read_csv(material.measures)
    points = transfer_points(table, material.runs, datasets, backbones)
    write_csv(outputs["csv"], points)
    recipes = [*material.only_recipes, ""] if material.only_recipes else []
    points = points[points["recipe"].isin(recipes or points["recipe"])]
    columns = [source for source in SOURCES if (points["quantity"] == source).any()] or ["nc1"]
    columns = curves.chosen(columns, material.only_measures)
    rows = [target for target in TARGETS if (points["after"] == target).any()] or ["probing"]
    networks = list(dict.fromkeys(zip(points["backbone"], points["start"], strict=True)))
    colours = appearance.line_colours(
        {network: network[0] for network in networks}, list(backbones)
    )
    markers = appearance.dataset_markers(list(datasets))
    last = _last_layers(_untrained(table, datasets, backbones))
    # The panels of a row of the figure, below each other where they have no room.
    n_below, n_columns = appearance.grid(len(columns), len(columns), style)
    n_rows = n_below * len(rows)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(
            style["width"],
            max((0.04 + 0.25 * n_rows) * style["width"], n_rows * appearance.LOWEST),
        ),
        squeeze=False,
        sharex="col" if n_below == 1 else "none",
        sharey="row" if n_below == 1 else "none",
    )
    axes = axes.reshape(len(rows), n_below * n_columns)
    for axis in axes[:, len(columns) :].flat:
        axis.set_axis_off()
    for (number, target), (place, source) in product(enumerate(rows), enumerate(columns)):
        axis = axes[number, place]
        chosen = points[(points["after"] == target) & (points["quantity"] == source)]
        for point in chosen.itertuples():
            kind = LAST if point.layer == last[point.backbone] else EARLIER
            colour = colours[point.backbone, point.start]
            marker = markers[point.dataset]
            axis.plot(point.value, 100 * point.accuracy, color=colour, marker=marker, **kind)
        small = {"fontsize": appearance.points(style, 1.5), "linespacing": 1.15}
        axis.set_title(_correlation(chosen), **small)
        axis.grid(linewidth=0.3, alpha=0.6)
        if quantity(source).logarithmic and len(chosen):
            _logarithmic(axis)
        else:
            axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.set_xlabel(quantity(source).label if n_below > 1 or number == len(rows) - 1 else "")
        axis.set_ylabel(TARGETS[target] if place % n_columns == 0 else "")
    hollow = any(point.layer != last[point.backbone] for point in points.itertuples())
    shown = {d: datasets[d] for d in datasets if (points["dataset"] == d).any()} or datasets
    groups = [
        curves.keys(
            _networks_in_words(networks, material.starts, backbones),
            {network: {"color": colours[network]} for network in networks},
            marker="o",
            linestyle="",
        ),
        curves.marker_keys(shown, markers),
    ]
    if hollow:
        kinds = {"last layer": LAST, "earlier layer": EARLIER}
        groups.append(curves.keys({kind: kind for kind in kinds}, kinds, marker="o"))
    words = (
        "ρ: Spearman's rank correlation within a target, mean over the targets that have "
        f"{MIN_POINTS} points or more, and its 95 % bootstrap interval over their n points"
    )
    if (points["n_seeds"] > 1).any():
        geometric = [quantity(s).label for s in SOURCES if quantity(s).logarithmic]
        words += f"; points are means over seeds (of {' and '.join(geometric)} geometric)"
    if not len(points):
        words = "No start has both a measure and an accuracy."
    rows = _untrained(table, datasets, backbones)
    few = few_images_in_words(rows[rows["split"] == "train"], datasets)
    curves.save_with_legend(figure, groups, [words, *few], style, outputs)


def _networks_in_words(
    networks: Sequence[tuple[str, str]], starts: Mapping[str, str], backbones: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Labels of backbones and starts."""
    return {(b, start): f"{backbones[b]}, {starts[start]}" for b, start in networks}


def _correlation(points: pd.DataFrame) -> str:
    """Spearman's correlation within targets in words, in two lines."""
    groups = [
        (group["value"], group["accuracy"]) for _, group in points.groupby("dataset", sort=False)
    ]
    found = spearman(groups, SEED)
    if found.rho is None:
        most = max((len(values) for values, _ in groups), default=0)
        if most < MIN_POINTS:
            return f"too few points for ρ:\nat most {most} a target"
        return f"no correlation\nn = {len(points)}"
    targets = f"{found.n_groups} target{'s' if found.n_groups > 1 else ''}"
    interval = f"[{found.low:.2f}, {found.high:.2f}], n = {found.n_points}"
    return f"ρ = {found.rho:.2f}, {targets}\n{interval}".replace("-", "−")


def _logarithmic(axis: Axes) -> None:
    """A logarithmic axis of x with few labels, as a panel is narrow."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    wide = high / low > 30
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=4))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


# --- sources by targets -----------------------------------------------------------------------


def transfer_matrix(
    table: pd.DataFrame, datasets: Mapping[str, str], backbones: Mapping[str, str]
) -> pd.DataFrame:
    """The cells of :func:`plot_transfer_matrix`.

    Returns
    -------
    A row for each data set, backbone, start (``layer``: the backbone's last one) and quantity
    (:data:`MAPS`; shares, also the gain): what
    :func:`collapseflow.presentation.rows.over_seeds` gives (for the gain, a difference of means,
    the mean alone), and ``own``: whether the start has been trained on the data set.
    """
    rows = _untrained(table, datasets, backbones)
    rows = rows[rows["layer"] == rows["backbone"].map(_last_layers(rows))]
    wanted = ((rows["quantity"] == "accuracy_linear") & (rows["split"] == "test")) | (
        (rows["quantity"] == "nc1") & (rows["split"] == "train")
    )
    cells = over_seeds(rows[wanted], [*_PLACE, "quantity"])
    probes = cells[cells["quantity"] == "accuracy_linear"]
    random = probes[probes["start"] == "random"].rename(columns={"mean": "random"})
    gains = probes[probes["start"] != "random"].merge(
        random[["dataset", "backbone", "random"]], on=["dataset", "backbone"]
    )
    gains = gains.assign(
        quantity="gain_over_random",
        mean=gains["mean"] - gains["random"],
        sd=np.nan,
        n_seeds=pd.NA,
        half_width=np.nan,
    ).drop(columns="random")
    cells = pd.concat([cells.astype({"n_seeds": "Int64"}), gains.astype({"n_seeds": "Int64"})])
    return cells.assign(own=_learned_it(cells)).reset_index(drop=True)


def plot_transfer_matrix(material: Material, outputs: Outputs) -> None:
    """What features of each source (rows) are worth to each target (columns), untrained on it.

    Heat maps side by side, a row of them for each backbone, of the features of its last layer:
    test accuracy of the linear probe, what that is above the one of random weights, and NC1 of the
    training images; of several seeds the mean. Where the source is the target itself the cell is
    framed. The same as a table. Random weights are the first source.
    """
    starts, style = material.starts, material.style
    datasets, backbones = material.datasets, material.backbones
    appearance.apply(style)
    table = read_csv(material.measures)
    cells = transfer_matrix(table, datasets, backbones)
    order = sorted(starts, key=lambda start: start != "random")
    blocks = {
        backbone: [s for s in order if (its_cells["start"] == s).any()]
        for backbone in backbones
        if len(its_cells := cells[cells["backbone"] == backbone])
    }
    rows = _untrained(table, datasets, backbones)
    few = few_images_in_words(rows[rows["split"] == "train"], datasets)
    _write_matrix(cells, blocks, few, starts, datasets, backbones, outputs)
    shown = [d for d in datasets if (cells["dataset"] == d).any()]
    quantities = [q for q in MAPS if (cells["quantity"] == q).any()] or ["accuracy_linear"]
    n_rows = [len(sources) for sources in blocks.values()] or [1]
    # Side by side, or all below each other.
    columns = appearance.grid(len(quantities), len(quantities), style, 2.2)[1]
    below = 1 if columns == len(quantities) else len(quantities)
    high = below * (0.35 * sum(n_rows) + 0.75 * len(n_rows)) + 0.3
    figure, axes = plt.subplots(
        below * len(n_rows),
        len(quantities) // below,
        figsize=(style["width"], high),
        squeeze=False,
        height_ratios=below * n_rows,
    )
    if below > 1:
        axes = axes.reshape(below, len(n_rows)).T
    for place, name in enumerate(quantities):
        shown_cells = cells[cells["quantity"] == name]
        scale = _scale(name, shown_cells["mean"])
        for number, (backbone, sources) in enumerate(blocks.items()):
            block = shown_cells[shown_cells["backbone"] == backbone]
            axis, first = axes[number, place], not place or below > 1
            _draw_map(axis, name, block, sources, shown, scale, style)
            targets = [datasets[d] for d in shown]
            axis.set_xticks(range(len(shown)), targets, **appearance.TURNED | {"rotation": 30})
            axis.set_yticks(range(len(sources)), [starts[s] for s in sources] if first else [])
            title = MAPS[name][0]
            # The name of the backbone, as wide as it is, above the titles of its panels.
            axis.set_title(f"\n{title}" if len(blocks) > 1 else title)
            if len(blocks) > 1 and first:
                above = 6 + 1.3 * appearance.points(style)
                over = {"xytext": (0, above), "textcoords": "offset points"}
                bold = {"xycoords": "axes fraction", "fontweight": "bold", **over}
                text = axis.annotate(backbones[backbone], (0, 1), **bold)
                text.set_in_layout(False)
    words = "rows: what the network has learned before; columns: what its features are used for"
    if cells["own"].any():
        words += "\nframed: both are the same data set"
    if not len(cells):
        words = "No features of first weights have been measured."
        axes[0, 0].set_axis_off()
    small = {**style, "font_size": appearance.points(style, 1)}
    lines = [appearance.wrapped(line, style["width"], small) for line in words.splitlines()]
    figure.supxlabel("\n".join(lines), fontsize=small["font_size"])
    appearance.save(figure, outputs)


def _scale(name: str, values: pd.Series) -> Normalize:
    """The scale of the colours of one quantity."""
    known, shown = values.dropna(), quantity(name)
    if shown.unit == "points":
        largest = max(0.01, known.abs().max())
        return Normalize(-largest, largest)
    if shown.logarithmic:
        return LogNorm(known.min(), max(known.max(), 1.01 * known.min()))
    return Normalize(min(known.min(), 0.99 * known.max()), known.max())


def _draw_map(
    axis: Axes,
    name: str,
    cells: pd.DataFrame,
    sources: Sequence[str],
    targets: Sequence[str],
    scale: Normalize,
    style: Mapping,
) -> None:
    """A heat map of one quantity of a backbone, with its numbers."""
    values = np.full((len(sources), len(targets)), np.nan)
    for cell in cells.itertuples():
        values[sources.index(cell.start), targets.index(cell.dataset)] = cell.mean
    drawn = appearance.heat_map(axis, values, cmap=MAPS[name][1], norm=scale)
    axis.set_facecolor("#eeeeee")
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    words = {
        cell: _number(name, value) for cell, value in np.ndenumerate(values) if not np.isnan(value)
    }
    appearance.write_in_cells(axis, drawn, words, appearance.points(style, 1))
    for cell in cells[cells["own"]].itertuples():
        row, column = sources.index(cell.start), targets.index(cell.dataset)
        axis.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, **FRAME))


def _number(name: str, value: float) -> str:
    """A number of a heat map, with as many digits as a cell has room for."""
    shown = quantity(name)
    if shown.unit == "points":
        return signed(value, 1)
    if shown.is_accuracy:
        return f"{100 * value:.1f}"
    return f"{value:#.3g}".removesuffix(".")


def _write_matrix(
    cells: pd.DataFrame,
    blocks: Mapping[str, Sequence[str]],
    few: Sequence[str],
    starts: Mapping[str, str],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    outputs: Outputs,
) -> None:
    """The table: a row for each quantity of each backbone and source, a column for each target."""
    by_cell = {
        (cell.quantity, cell.backbone, cell.start, cell.dataset): cell
        for cell in cells.itertuples()
    }
    shown = [d for d in datasets if (cells["dataset"] == d).any()]
    rows = []
    for backbone, sources in blocks.items():
        for name, source in product(MAPS, sources):
            row = [by_cell.get((name, backbone, source, target)) for target in shown]
            if any(row):
                words = [backbones[backbone], MAPS[name][0], starts[source]]
                rows.append([*words, *map(_in_words, row)])
    notes = [
        "Features that a network learned on a source (rows), at its last layer and without any "
        "training on the target (columns)."
    ]
    if (cells["n_seeds"] > 1).any():
        notes.append(seeds_note("the seeds of a source", geometric=True))
    if cells["own"].any():
        notes.append("† The source is the target itself.")
    notes += [f"{words}." for words in few]
    header = ["backbone", "quantity", "source", *(datasets[d] for d in shown)]
    write_table(outputs, cells, header, rows, notes, n_left=3)


def _in_words(cell: Any) -> str:
    """A cell of the table; a dash where there is none."""
    if cell is None:
        return "–"
    words = (
        signed(cell.mean)
        if quantity(cell.quantity).unit == "points"
        else spread(cell.quantity, cell.mean, cell.sd, cell.half_width)
    )
    return f"{words} †" if cell.own else words
