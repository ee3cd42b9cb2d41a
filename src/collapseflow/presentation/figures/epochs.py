"""Report A, figures 4 and 5: what happens over the epochs of fine-tuning."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from collapseflow import published
from collapseflow.presentation.figures import style as look

#: NC1 and the three parts of NC2, as the tables and as the panels call them.
MEASURES = {
    "nc1": "(a) NC1, within-class covariance",
    "nc2_equinorm": "(b) NC2, equal norms",
    "nc2_equiangularity": "(c) NC2, equal angles",
    "nc2_maximal_angle": "(d) NC2, maximal angle",
}
#: What they are, at their axes.
FORMULAS = {
    "nc1": r"$\mathrm{tr}(\Sigma_W \Sigma_B^+)/C$",
    "nc2_equinorm": "std/mean of class-mean norms",
    "nc2_equiangularity": "std of cosines",
    "nc2_maximal_angle": r"mean $|\cos + 1/(C-1)|$",
}
#: Training and test images, and what was published of them.
SPLITS = {
    "train": {"alpha": 0.5, "linewidth": 0.8, "markersize": 2.5},
    "test": {"markerfacecolor": "white"},
}
FAINT = {"alpha": 0.3, "linewidth": 2.5}
PUBLISHED = {"train": {**FAINT, "linestyle": ":"}, "test": FAINT}


def _published(labels: Mapping, dataset: str, backbone: str, last: int) -> pd.DataFrame | None:
    """The published curves of a fine-tuning up to our last epoch, if there are any."""
    name = labels["published"].get(f"{dataset}/{backbone}")
    if name is None:
        return None
    curves = published.curves()
    chosen = curves[(curves["dataset"] == name[0]) & (curves["features"] == name[1])]
    return chosen[chosen["epoch"] <= last]


def _finish_epochs(axis: Axes) -> None:
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def _finish(
    figure: Figure, groups: Sequence[Sequence[Artist]], style: Mapping, paths: Sequence[str | Path]
) -> None:
    """The legend below all panels, each group in lines of its own, and the files."""
    longest = max(len(handle.get_label()) for group in groups for handle in group)
    # A letter is about half as wide as the font is high; a key and the gap take eight letters.
    fitting = int(style["width"] * 72 / (0.5 * style["font_size"] * (longest + 8)))
    columns = max(1, min(fitting, max(map(len, groups))))
    rows = []
    for group in groups:
        for start in range(0, len(group), columns):
            row = list(group[start : start + columns])
            rows.append(row + [Line2D([], [], alpha=0, label=" ")] * (columns - len(row)))
    # A legend is filled column by column.
    handles = [row[column] for column in range(columns) for row in rows]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    look.save(figure, paths)


def _keys(names: Mapping[str, str], looks: Mapping[str, Mapping]) -> list[Line2D]:
    """The legend's lines for some names."""
    return [Line2D([], [], label=label, **looks[name]) for name, label in names.items()]


def plot_accuracy(
    collapse: str | Path, labels: Mapping, style: Mapping, paths: Sequence[str | Path]
) -> None:
    """Train and test accuracy per epoch, one panel a data set, all on the same axes.

    Both are measured on the whole split in evaluation mode. The bars are the 95 % intervals of the
    accuracy on the test images; backbones stand a little beside each other, so that the bars can be
    told apart. Published curves lie faint behind.
    """
    look.apply(style)
    table = pd.read_csv(collapse)
    datasets, backbones = labels["datasets"], labels["backbones"]
    colours = look.backbone_colours(labels["all_backbones"])
    lines = look.dataset_lines(list(datasets))
    rows, columns = look.grid(len(datasets), 2)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(style["width"], (0.42 * rows + 0.1) * style["width"]),
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    any_published = False
    beside = dict(zip(backbones, np.linspace(-0.15, 0.15, len(backbones) + 2)[1:-1], strict=True))
    for axis, (dataset, title) in zip(axes.flat, datasets.items(), strict=False):
        of_dataset = table[table["dataset"] == dataset]
        for backbone in backbones:
            chosen = of_dataset[of_dataset["backbone"] == backbone]
            behind = _published(labels, dataset, backbone, chosen["epoch"].max())
            chosen = chosen[chosen["measure"] == "accuracy"].sort_values("epoch")
            for split, of_split in SPLITS.items():
                if behind is not None:
                    any_published = True
                    faint = behind[(behind["measure"] == "accuracy") & (behind["split"] == split)]
                    axis.plot(
                        faint["epoch"],
                        100 * faint["value"],
                        color=colours[backbone],
                        **PUBLISHED[split],
                    )
                curve = chosen[chosen["split"] == split]
                around = [curve["value"] - curve["low"], curve["high"] - curve["value"]]
                axis.errorbar(
                    curve["epoch"] + beside[backbone],
                    100 * curve["value"],
                    None if curve["low"].isna().all() else 100 * np.array(around),
                    elinewidth=0.6,
                    color=colours[backbone],
                    **lines[dataset],
                    **of_split,
                )
        n = of_dataset.loc[
            (of_dataset["measure"] == "n_samples") & (of_dataset["split"] == "test"), "value"
        ].max()
        axis.set(title=f"{title}, {n:,.0f} test images", ylabel="accuracy, %")
        _finish_epochs(axis)
        axis.label_outer()
    for axis in axes.flat[len(datasets) :]:
        axis.set_axis_off()
        above = axes[-2, list(axes[-1]).index(axis)]
        above.xaxis.set_tick_params(labelbottom=True)
        above.set_xlabel("epoch")
    groups = [
        _keys(backbones, {b: {"color": colours[b]} for b in backbones}),
        _keys(
            {"train": "training images", "test": "test images, 95 % interval"},
            {s: {"color": look.NEUTRAL, "marker": "o", **SPLITS[s]} for s in SPLITS},
        ),
    ]
    if any_published:
        words = {"train": "published: last train batch", "test": "published: test, training mode"}
        groups.append(_keys(words, {s: {"color": look.NEUTRAL, **PUBLISHED[s]} for s in words}))
    _finish(figure, groups, style, paths)


def plot_collapse(
    collapse: str | Path, labels: Mapping, style: Mapping, paths: Sequence[str | Path]
) -> None:
    """NC1 and the three parts of NC2 of the training features, epoch by epoch.

    One line a backbone and data set. Epoch 0 is the network before fine-tuning; published curves
    lie faint behind.
    """
    look.apply(style)
    table = pd.read_csv(collapse)
    table = table[table["split"] == "train"]
    datasets, backbones = labels["datasets"], labels["backbones"]
    colours = look.backbone_colours(labels["all_backbones"])
    lines = look.dataset_lines(list(datasets))
    figure, axes = plt.subplots(2, 2, figsize=(style["width"], 0.8 * style["width"]), sharex=True)
    any_published = False
    for axis, (measure, title) in zip(axes.flat, MEASURES.items(), strict=True):
        for backbone, dataset in [(b, d) for b in backbones for d in datasets]:
            curve = table[
                (table["backbone"] == backbone)
                & (table["dataset"] == dataset)
                & (table["measure"] == measure)
            ].sort_values("epoch")
            behind = _published(labels, dataset, backbone, curve["epoch"].max())
            if behind is not None:
                any_published = True
                faint = behind[behind["measure"] == measure]
                axis.plot(
                    faint["epoch"],
                    faint["value"],
                    color=colours[backbone],
                    linestyle=lines[dataset]["linestyle"],
                    **FAINT,
                )
            axis.plot(curve["epoch"], curve["value"], color=colours[backbone], **lines[dataset])
        axis.set(title=title, ylabel=FORMULAS[measure])
        if measure == "nc1":
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        _finish_epochs(axis)
    for axis in axes[0]:
        axis.set_xlabel("")
    groups = [
        _keys(backbones, {b: {"color": colours[b]} for b in backbones}),
        _keys(datasets, {d: {"color": look.NEUTRAL, **lines[d]} for d in datasets}),
    ]
    if any_published:
        words = {"report_a": "published (report A)"}
        groups.append(_keys(words, {"report_a": {"color": look.NEUTRAL, **FAINT}}))
    _finish(figure, groups, style, paths)
