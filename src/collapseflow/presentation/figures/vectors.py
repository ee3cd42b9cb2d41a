"""Neural collapse of vectors that were computed elsewhere, file by file."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np

from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.figures.epochs import draw_collapse
from collapseflow.presentation.figures.layers import LETTERS
from collapseflow.presentation.material import (
    DescribedFeatures,
    DescribedRun,
    Material,
    Outputs,
)
from collapseflow.presentation.rows import COLUMNS, read_csv

WORDS = {split: text.replace("images", "vectors") for split, text in curves.BOTH_WORDS.items()}


def plot_vectors(material: Material, outputs: Outputs) -> None:
    """The measures of collapse of each file of vectors, in the order of the files.

    A panel for each quantity of the table that has one
    (:func:`collapseflow.measures.quantities.panels_of`) and values: solid on training vectors (for
    measures as many of each class as there are test vectors), dashed on test vectors. Files that
    are epochs are drawn as those of runs are (:func:`draw_collapse`).
    """
    style, names = material.style, [column.backbone for column in material.columns]
    table = read_csv(material.measures)
    table = table[(table["dataset"] == material.dataset) & table["backbone"].isin(names)]
    if runs := _runs(material.columns):
        series = {run.series: run.label for run in runs}
        shared = curves.RunFigure(runs, {material.dataset: material.title}, series, None, style)
        draw_collapse(table.assign(seed=runs[0].seed), shared, WORDS, outputs)
        return
    appearance.apply(style)
    # Accuracies have intervals, which bands over seeds would be mistaken for.
    table = table[COLUMNS].assign(
        low=np.nan, high=np.nan, position=table["backbone"].map(names.index)
    )
    panels = [name for name in panels_of("epochs") if (table["quantity"] == name).any()]
    rows, columns = appearance.grid(len(panels), 3, style)
    figure, axes = plt.subplots(
        *(rows, columns),
        figsize=(style["width"], rows * max(0.3 * style["width"], appearance.LOWEST)),
        squeeze=False,
        sharex=True,
    )
    for axis, name in zip(axes.flat, panels, strict=False):
        of_quantity = table[table["quantity"] == name]
        for split, line in curves.SPLITS.items():
            chosen = curves.on_split(of_quantity, name, split)
            curve = quantity(name).on_axis(
                curves.mean_and_spread(chosen, "position", quantity(name).logarithmic)
            )
            curves.draw(axis, curve.index, curve, color=appearance.LINES[0], marker="o", **line)
        appearance.panel_title(axis, quantity(name).title, columns, style)
        curves.quantity_axis(axis, name)
        is_long = columns * len(names) * max(map(len, names)) > LETTERS
        axis.set_xticks(range(len(names)), names, **(appearance.TURNED if is_long else {}))
    curves.close_grid(axes, len(panels))
    for axis in axes.flat:
        axis.set_xlabel("")
    appearance.title(figure, material.title, style)
    curves.save_with_legend(figure, [curves.split_keys(WORDS)], [], style, outputs)


def _runs(columns: Sequence[DescribedFeatures]) -> list[DescribedRun]:
    """The series of vectors that are epochs, as runs; none where files are something else."""
    epochs: dict[str, list[int]] = {}
    for column in columns:
        if column.epoch is not None:
            epochs.setdefault(column.backbone, []).append(column.epoch)
    return [
        DescribedRun(
            dataset=columns[0].dataset,
            backbone=series,
            start="",
            recipe="",
            setting={},
            seed=0,
            series=series,
            label=series,
            start_label="",
            last=max(of_series),
            layers=[""],
        )
        for series, of_series in epochs.items()
    ]
