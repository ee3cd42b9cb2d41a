"""Neural collapse from layer to layer, before training and after it."""

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from collapseflow.measures.correlation import pearson_fit
from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import read_csv, run_rows

#: Before training and after it.
MOMENTS = {"first": {"alpha": 0.4, "linewidth": 0.7}, "last": {"alpha": 1.0, "linewidth": 1.1}}
MOMENT_WORDS = {"first": "epoch 0, before training", "last": "after the last epoch"}
#: So many letters have room side by side below an axis.
LETTERS = 48
#: Of fewer layers a straight line says little: three points that fall are always near one.
LAYERS_OF_LINE = 5


def layer_axis(axis: Axes, names: Sequence[str]) -> None:
    """The names of layers, in their order."""
    is_long = len(names) * max(map(len, names)) > LETTERS
    axis.set_xticks(range(len(names)), names, **(appearance.TURNED if is_long else {}))
    axis.set_xlabel("layer")


def over_layers(rows: pd.DataFrame, names: Sequence[str], geometric: bool = False) -> pd.DataFrame:
    """The curve (:func:`collapseflow.presentation.figures.curves.mean_and_spread`) of one quantity
    at one epoch over the numbers of the layers."""
    chosen = rows[rows["layer"].isin(names)]
    position = chosen["layer"].map(list(names).index).astype(int)
    return curves.mean_and_spread(chosen.assign(position=position), "position", geometric)


def draw_fuzziness(axis: Axes, curve: pd.DataFrame, **line: object) -> float | None:
    """Points of log D, and the least squares line through them (He and Su 2023); fewer than
    :data:`LAYERS_OF_LINE` are joined instead.

    Returns
    -------
    Pearson's r with the number of the layer; None for so few layers, and where there is no
    correlation.
    """
    known = curve["middle"].dropna()
    if len(known) < LAYERS_OF_LINE:
        curves.draw(axis, curve.index, curve, bars=True, **line)
        return None
    bare = {key: value for key, value in line.items() if not key.startswith("marker")}
    curves.draw(axis, curve.index, curve, bars=True, **{**line, "linestyle": ""})
    fit = pearson_fit(known.index, known)
    if fit is None:
        return None
    slope, intercept, r = fit
    ends = known.index[[0, -1]]
    axis.plot(ends, intercept + slope * ends, **bare)
    return r


def plot_layers(material: Material, outputs: Outputs) -> None:
    """Neural collapse at each layer of a backbone, on training and test images.

    A panel for each backbone, data set and quantity of the table that has one
    (:func:`collapseflow.measures.quantities.panels_of`); a line for each series: solid on training
    images (for measures as many as there are test images) and dashed on test images, faint at epoch
    0 and strong after the last epoch. A start that several series have in common is grey. Of
    several seeds it is the mean with a band of one standard deviation, geometric ones on
    logarithmic axes. The lines of log D of :data:`LAYERS_OF_LINE` layers or more are those of least
    squares; Pearson's r on the training images stands beside them.
    """
    style, backbones = material.style, material.backbones
    shared = curves.RunFigure.of(material, material.layered_runs)
    runs, splits = shared.runs, curves.chosen_splits(material.only_splits)
    table = run_rows(read_csv(material.measures), runs)
    # The accuracies of nearest means have intervals, which bands over seeds would be mistaken for.
    table = table.assign(low=float("nan"), high=float("nan"))
    layers = {run.backbone: list(run.layers) for run in runs}
    read = {(run.backbone, run.dataset) for run in runs}
    columns = [pair for pair in product(layers, shared.datasets) if pair in read]
    measures = curves.chosen(panels_of("layers"), material.only_measures)
    shown_panels = list(product(measures, columns))
    one = len(columns) == 1
    shape = appearance.grid(len(shown_panels), 2 if one else len(columns), style)
    # In narrow panels the correlations at epoch 0 have no room.
    is_wide = style["width"] / shape[1] > 1.7
    # Side by side, where all have room.
    shared_rows = not one and shape[1] == len(columns)
    axes_in_common = {
        "sharex": "all" if one else "col" if shared_rows else "none",
        "sharey": "row" if shared_rows else "none",
    }
    figure, axes = shared.panels(*shape, 0.36 if one else 0.3, **axes_in_common)
    if len(shared.datasets) == 1:
        appearance.title(figure, *shared.datasets.values(), style)
    for axis in axes.flat[len(shown_panels) :]:
        axis.set_axis_off()
    for axis, (measure, (backbone, dataset)) in zip(axes.flat, shown_panels, strict=False):
        names = layers[backbone]
        rows = table[(table["quantity"] == measure) & (table["dataset"] == dataset)]
        trained = dict.fromkeys(
            (run.series, run.last)
            for run in runs
            if (run.backbone, run.dataset) == (backbone, dataset)
        )
        here, before = {series for series, _ in trained}, {}
        for start in shared.starts:
            if here.intersection(start.series):
                line = {"color": start.colour, "marker": "o", **MOMENTS["first"]}
                of_start = curves.rows_of_start(rows, start)
                r = draw_measure(axis, of_start, names, measure, line, splits)
                before |= dict.fromkeys(start.series, r)
        correlations = []
        for series, last in trained:
            chosen = rows[rows["series"] == series]
            point = {"color": shared.colours[series], "marker": shared.series_markers[series]}
            if series not in before:
                line = {**point, **MOMENTS["first"]}
                before[series] = draw_measure(
                    axis, chosen[chosen["epoch"] == 0], names, measure, line, splits
                )
            line = {**point, **MOMENTS["last"]}
            after = draw_measure(
                axis, chosen[chosen["epoch"] == last], names, measure, line, splits
            )
            if after is not None:
                words = _in_words(before[series] if is_wide else None, after)
                correlations.append(Line2D([], [], label=words, linestyle="", **point))
        if correlations:
            beside = 1 if len(correlations) <= 4 else 2
            size = appearance.points(style, 1.5)
            small = {"fontsize": size, "handletextpad": 0.1}
            axis.legend(
                handles=correlations, ncols=beside, loc="upper left", frameon=False, **small
            )
            # They stand above the points. Of a panel's height titles and ticks take a quarter.
            lines = -(-len(correlations) // beside) + 1
            share = min(0.6, lines * 1.4 * size / (0.75 * 72 * figure.get_figheight() / shape[0]))
            low, high = axis.dataLim.intervaly
            top = high + share / (1 - share) * (high - low)
            axis.set_ylim(top=max(top, axis.get_ylim()[1]))
        words = quantity(measure)
        whose = [backbones[backbone]] if len(layers) > 1 else []
        whose += [shared.datasets[dataset]] if len(shared.datasets) > 1 else []
        title = f"{', '.join(whose)}: {words.label}" if whose else words.title
        appearance.panel_title(axis, title, shape[1], style)
        curves.quantity_axis(axis, measure)
        layer_axis(axis, names)
        if shared_rows:
            axis.label_outer()
    for axis in axes[:-1].flat:
        axis.set_xlabel("")
    groups = [
        shared.series_keys(marked=True),
        curves.keys(MOMENT_WORDS, MOMENTS),
        curves.split_keys(curves.BOTH_WORDS, splits),
        shared.seeds_key(),
    ]
    shared.save(figure, groups, outputs, compared=table)


def draw_measure(
    axis: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    measure: str,
    line: Mapping,
    splits: Mapping[str, Mapping] = curves.SPLITS,
) -> float | None:
    """One line over the layers at one epoch, on training and on test images.

    Returns
    -------
    Of log D on the training images, the correlation of :func:`draw_fuzziness`.
    """
    r = {}
    for split, split_line in splits.items():
        chosen = curves.on_split(rows, measure, split)
        curve = over_layers(chosen, names, quantity(measure).logarithmic)
        if measure == "log_fuzziness":
            r[split] = draw_fuzziness(axis, curve, **split_line, **line)
        else:
            curve = quantity(measure).on_axis(curve)
            curves.draw(axis, curve.index, curve, **split_line, **line)
    return r.get("train")


def _in_words(before: float | None, after: float) -> str:
    was = "" if before is None else f" (epoch 0: {before:.2f})"
    return f"r = {after:.2f}{was}".replace("-", "−")
