"""Report A, figures 4 and 5: what happens over the epochs of fine-tuning."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from collapseflow import published
from collapseflow.figures import style as look

#: NC1 and the three parts of NC2, as the tables and as the panels call them.
MEASURES = {
    "nc1": r"(a) NC1, within-class covariance: $\mathrm{tr}(\Sigma_W \Sigma_B^+)/C$",
    "nc2_equinorm": "(b) NC2, equal norms: std/mean of class-mean norms",
    "nc2_equiangularity": "(c) NC2, equal angles: std of cosines",
    "nc2_maximal_angle": r"(d) NC2, maximal angle: mean $|\cos + 1/(C-1)|$",
}


def _published(labels: Mapping, dataset: str, backbone: str) -> pd.DataFrame | None:
    name = labels["published"].get(f"{dataset}/{backbone}")
    if name is None:
        return None
    curves = published.curves()
    chosen = curves[(curves["dataset"] == name[0]) & (curves["features"] == name[1])]
    return None if chosen.empty else chosen


def _finish_epochs(axis) -> None:
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def plot_accuracy(
    collapse: str | Path, labels: Mapping, style: Mapping, paths: Sequence[str | Path]
) -> None:
    """Train and test accuracy per epoch, one panel a data set.

    Both are measured on the whole split in evaluation mode; published curves lie faint behind.
    """
    look.apply(style)
    table = pd.read_csv(collapse)
    table = table[table["measure"] == "accuracy"]
    datasets = labels["datasets"]
    rows, columns = look.grid(len(datasets), 2)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(style["width"], (0.42 * rows + 0.08) * style["width"]),
        squeeze=False,
    )
    for axis in axes.flat[len(datasets) :]:
        axis.set_axis_off()
    any_published = False
    for axis, (dataset, title) in zip(axes.flat, datasets.items(), strict=False):
        for number, (backbone, name) in enumerate(labels["backbones"].items()):
            colour, marker = look.LINES[number % 8], look.MARKERS[number % 8]
            behind = _published(labels, dataset, backbone)
            chosen = table[(table["dataset"] == dataset) & (table["backbone"] == backbone)]
            for split, line in {"train": "-", "test": ":"}.items():
                if behind is not None:
                    any_published = True
                    faint = behind[(behind["measure"] == "accuracy") & (behind["split"] == split)]
                    axis.plot(
                        faint["epoch"], 100 * faint["value"], line, color=colour, alpha=0.3, lw=2
                    )
                curve = chosen[chosen["split"] == split].sort_values("epoch")
                axis.plot(
                    curve["epoch"],
                    100 * curve["value"],
                    line,
                    color=colour,
                    marker=marker,
                    label=f"{name}, {split}",
                )
        axis.set(title=title, ylabel="accuracy, %")
        _finish_epochs(axis)
    handles, names = axes.flat[0].get_legend_handles_labels()
    if any_published:
        handles.append(plt.Line2D([], [], color="grey", alpha=0.4, lw=2))
        names.append("published (train: last batch; test: network in training mode)")
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    look.save(figure, paths)


def plot_collapse(
    collapse: str | Path, labels: Mapping, style: Mapping, paths: Sequence[str | Path]
) -> None:
    """NC1 and the three parts of NC2 of the training features, epoch by epoch.

    One line a backbone and data set. Epoch 0 is the network before fine-tuning; published curves lie faint behind.
    """
    look.apply(style)
    table = pd.read_csv(collapse)
    table = table[table["split"] == "train"]
    figure, axes = plt.subplots(2, 2, figsize=(style["width"], 0.8 * style["width"]))
    pairs = [(b, d) for b in labels["backbones"] for d in labels["datasets"]]
    any_published = False
    for axis, (measure, title) in zip(axes.flat, MEASURES.items(), strict=True):
        for number, (backbone, dataset) in enumerate(pairs):
            colour, marker = look.LINES[number % 8], look.MARKERS[number % 8]
            behind = _published(labels, dataset, backbone)
            if behind is not None:
                any_published = True
                faint = behind[behind["measure"] == measure]
                axis.plot(faint["epoch"], faint["value"], color=colour, alpha=0.3, lw=2.5)
            curve = table[
                (table["backbone"] == backbone)
                & (table["dataset"] == dataset)
                & (table["measure"] == measure)
            ].sort_values("epoch")
            axis.plot(
                curve["epoch"],
                curve["value"],
                color=colour,
                marker=marker,
                label=f"{labels['backbones'][backbone]}, {labels['datasets'][dataset]}",
            )
        axis.set_title(title)
        if measure == "nc1":
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        _finish_epochs(axis)
    handles, names = axes.flat[0].get_legend_handles_labels()
    if any_published:
        handles.append(plt.Line2D([], [], color="grey", alpha=0.4, lw=2.5))
        names.append("published (report A)")
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    look.save(figure, paths)
