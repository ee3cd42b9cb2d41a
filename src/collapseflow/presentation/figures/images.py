"""Sample images per class, and one image's scattering coefficients."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from collapseflow.images.datasets import Split
from collapseflow.presentation.figures import style as look

#: Pictures name at most this many classes, one a row, with at most so many letters.
MOST_CLASSES = 20
MOST_LETTERS = 20


def plot_samples(
    split: Split,
    class_names: Sequence[str],
    title: str,
    ink: bool,
    seed: int,
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """A grid of training images, one class a row, drawn by ``seed``.

    With ``ink``, grey images are printed as ink on paper: what is black in them is white.
    """
    look.apply(style)
    shown = np.unique(split.labels)[:MOST_CLASSES]
    columns = style["samples_per_class"]
    side = 0.36
    figure, axes = plt.subplots(
        len(shown),
        columns,
        figsize=(1.2 + side * columns, 0.5 + side * len(shown)),
        squeeze=False,
        gridspec_kw={"wspace": 0.02, "hspace": 0.02},
    )
    rng = np.random.default_rng(seed)
    for row, label in zip(axes, shown, strict=True):
        members = np.flatnonzero(split.labels == label)
        chosen = rng.permutation(members)[:columns]
        for axis in row:
            axis.set_axis_off()
        for axis, index in zip(row, chosen, strict=False):
            _show(axis, split.images[index], ink)
        row[0].text(
            -0.15,
            0.5,
            look.shortened(class_names[label], MOST_LETTERS),
            transform=row[0].transAxes,
            ha="right",
            va="center",
        )
    n_classes = len(np.unique(split.labels))
    if n_classes > MOST_CLASSES:
        title += f" (first {MOST_CLASSES} of {n_classes} classes)"
    look.title(figure, title, style)
    look.save(figure, paths)


def _show(axis: Axes, image: np.ndarray, ink: bool) -> None:
    axis.imshow(image, cmap="gray_r" if ink else "gray", vmin=0, vmax=255)


def plot_scattering(
    image: np.ndarray,
    coefficients: Sequence[tuple[int, float, np.ndarray]],
    title: str,
    ink: bool,
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """Report A, figure 1: an image and some of its first-order scattering coefficients.

    ``ink`` as of :func:`plot_samples`.
    """
    look.apply(style)
    columns = 1 + (len(coefficients) + 1) // 2
    figure = plt.figure(figsize=(0.75 * style["width"], 0.75 * style["width"] * 2.0 / columns))
    spec = figure.add_gridspec(2, columns + 1, width_ratios=[2, *[1] * (columns - 1), 0.08])
    axis = figure.add_subplot(spec[:, 0])
    _show(axis, image, ink)
    room = 0.75 * style["width"] * 2 / (columns + 1)
    axis.set_title(look.wrapped(title, room, style))
    axis.set_axis_off()
    largest = max(float(values.max()) for _, _, values in coefficients)
    for position, (scale, angle, values) in enumerate(coefficients):
        axis = figure.add_subplot(spec[position // (columns - 1), 1 + position % (columns - 1)])
        shown = look.heat_map(axis, values, cmap="viridis", vmin=0, vmax=largest)
        axis.set_aspect("equal")
        axis.set_title(f"$j={scale}$, {angle:.0f}°", parse_math=True)
        axis.set_axis_off()
    figure.colorbar(shown, cax=figure.add_subplot(spec[:, -1]), label="coefficient")
    look.save(figure, paths)
