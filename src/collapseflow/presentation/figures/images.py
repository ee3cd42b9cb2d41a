"""Sample images per class, and one image's scattering coefficients."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from collapseflow.features.scattering import first_order_paths
from collapseflow.images.datasets import read_info, read_split
from collapseflow.presentation.figures import appearance
from collapseflow.presentation.material import Material, Outputs

#: Pictures name at most this many classes, one a row, with at most so many letters.
MOST_CLASSES = 20
MOST_LETTERS = 20
#: Coefficients beside an image, and how many images it is chosen among.
MOST_COEFFICIENTS = 6
CANDIDATES = 100


def plot_samples(material: Material, outputs: Outputs) -> None:
    """A grid of training images, one class a row, drawn by the study's seed."""
    style, words = material.style, material.title
    split = read_split(material.images, "train")
    names = appearance.shortened(read_info(material.images).class_names, MOST_LETTERS)
    appearance.apply(style)
    shown = np.unique(split.labels)[:MOST_CLASSES]
    columns = style["samples_per_class"]
    side = min(0.36, (style["width"] - 1.2) / columns)
    figure, axes = plt.subplots(
        len(shown),
        columns,
        figsize=(1.2 + side * columns, 0.5 + side * len(shown)),
        squeeze=False,
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    rng = np.random.default_rng(material.seed)
    for row, label in zip(axes, shown, strict=True):
        members = np.flatnonzero(split.labels == label)
        chosen = rng.permutation(members)[:columns]
        for axis in row:
            axis.set_axis_off()
        for axis, index in zip(row, chosen, strict=False):
            show(axis, split.images[index], material.ink)
        row[0].text(
            -0.15,
            0.5,
            names[label],
            transform=row[0].transAxes,
            ha="right",
            va="center",
        )
    n_classes = len(np.unique(split.labels))
    if n_classes > MOST_CLASSES:
        words += f" (first {MOST_CLASSES} of {n_classes} classes)"
    appearance.title(figure, words, style)
    appearance.save(figure, outputs)


def show(axis: Axes, image: np.ndarray, ink: bool) -> None:
    """An image (H, W) or (H, W, 3), with ink printed black on white."""
    axis.imshow(image, cmap="gray_r" if ink else "gray", vmin=0, vmax=255)


def plot_scattering(material: Material, outputs: Outputs) -> None:
    """Report A, figure 1: an image and some of its first-order scattering coefficients.

    Of some images, spread evenly over the training images, the one whose pixels vary most: an empty
    sky answers to no direction.
    """
    style = material.style
    appearance.apply(style)
    images = read_split(material.images, "train").images
    places = np.linspace(0, len(images) - 1, min(CANDIDATES, len(images))).astype(int)
    image = max((images[place] for place in places), key=np.std)
    coefficients = first_order_paths(image, **material.scattering, n=MOST_COEFFICIENTS)
    columns = 1 + (len(coefficients) + 1) // 2
    wide = max(0.75 * style["width"], min(style["width"], 3.3))
    figure = plt.figure(figsize=(wide, wide * 2.0 / columns))
    spec = figure.add_gridspec(2, columns + 1, width_ratios=[2, *[1] * (columns - 1), 0.08])
    axis = figure.add_subplot(spec[:, 0])
    show(axis, image, material.ink)
    room = wide * 2 / (columns + 1)
    axis.set_title(appearance.wrapped(material.title, room, style))
    axis.set_axis_off()
    largest = max(float(values.max()) for _, _, values in coefficients)
    for position, (scale, angle, values) in enumerate(coefficients):
        axis = figure.add_subplot(spec[position // (columns - 1), 1 + position % (columns - 1)])
        shown = appearance.heat_map(axis, values, cmap="viridis", vmin=0, vmax=largest)
        axis.set_aspect("equal")
        between = ", " if room > 1.4 else ",\n"
        axis.set_title(f"$j={scale}${between}{angle:.0f}°", parse_math=True)
        axis.set_axis_off()
    figure.colorbar(shown, cax=figure.add_subplot(spec[:, -1]), label="coefficient")
    appearance.save(figure, outputs)
