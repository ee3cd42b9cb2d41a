"""t-SNE pictures: one panel an embedding, and under each what it is worth."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.patheffects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from collapseflow.images.datasets import read_info
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import Material, Outputs
from collapseflow.running.files import read_arrays

#: Classes are named in the picture and in a legend up to this number.
MOST_NAMED = 60
#: Letters of a name in the legend.
MOST_LETTERS = 24
#: Training images behind test images.
BEHIND = 0.2


def plot_embeddings(material: Material, outputs: Outputs) -> None:
    """The t-SNE of each feature set of a data set (:func:`draw_maps`)."""
    maps = map(read_arrays, material.embeddings)
    panels = list(zip(maps, material.column_labels, strict=True))
    class_names = read_info(material.images).class_names
    draw_maps(panels, material.embedding_heading, class_names, material.style, outputs)


def plot_train_test(material: Material, outputs: Outputs) -> None:
    """Report B's t-SNE, of training and of test images alone (:func:`draw_maps`)."""
    maps = map(read_arrays, material.variance_embeddings)
    panels = list(zip(maps, material.variance_titles, strict=True))
    class_names = read_info(material.variance_images).class_names
    draw_maps(panels, material.variance_heading, class_names, material.style, outputs)


def draw_maps(
    panels: Sequence[tuple[Mapping[str, np.ndarray], str]],
    heading: str,
    class_names: Sequence[str],
    style: Mapping,
    outputs: Outputs,
) -> Figure:
    """Draw embeddings (:func:`collapseflow.measures.embedding.embed`), each with its title, side by
    side in the colours of their classes.

    Of a map of training and test images the training images lie faint behind. Under each panel: the
    number of points (and of how many they are a sample), the perplexity, and the share of each
    point's 10 nearest neighbours that the picture keeps. A panel without points, of features that
    do not exist, says why (``failed`` of its file).
    """
    appearance.apply(style)
    n = len(panels)
    rows, columns = appearance.grid(n, 2 if n <= 4 else 3 if n <= 6 or n % 3 == 0 else 4, style)
    side = style["width"] / columns
    names = appearance.numbered_names(class_names, MOST_LETTERS)
    named = len(names) <= MOST_NAMED
    high = rows * (side + 0.75) + 0.4
    figure, axes = plt.subplots(rows, columns, figsize=(style["width"], high), squeeze=False)
    class_appearances = appearance.class_appearances(len(class_names))
    joint = False
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (content, title) in zip(axes.flat, panels, strict=False):
        joint |= len(content["splits"]) > 1
        failed = str(content["failed"]) if "failed" in content else None
        if failed is None:
            _draw(axis, content, class_appearances, named, style)
            small = {**style, "font_size": appearance.points(style, 2)}
            lines = [appearance.wrapped(words, side, small) for words in _worth(content)]
            axis.set_xlabel("\n".join(lines), fontsize=small["font_size"])
        else:
            words = textwrap.fill(
                f"failed: {failed}", int(side * 72 / (0.6 * appearance.points(style)))
            )
            axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes)
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim", box_aspect=1)
        lines = [appearance.wrapped(part, 0.9 * side, style) for part in title.split(", ", 1)]
        axis.set_title("\n".join(lines))
        axis.spines[:].set_visible(False)
    appearance.title(figure, heading, style)
    groups = [
        _split_keys() if joint else [],
        _class_keys(names, class_appearances) if named else [],
    ]
    if any(groups):
        curves.save_with_legend(figure, groups, [], style, outputs)
    else:
        appearance.save(figure, outputs)
    return figure


def _draw(
    axis: plt.Axes,
    content: Mapping[str, np.ndarray],
    class_appearances: Sequence[tuple[str, str]],
    named: bool,
    style: Mapping,
) -> None:
    coordinates, labels = content["coordinates"], content["labels"]
    colours, markers = (
        np.array(values, dtype=object) for values in zip(*class_appearances, strict=True)
    )
    # A denser picture gets smaller points.
    area = style["point_size"] * min(2.0, np.sqrt(5_000 / len(labels)))
    kinds = list(dict.fromkeys(markers))
    behind, before = (np.flatnonzero(content["split"] == place) for place in (0, 1))
    layers = [(behind, BEHIND), (before, 1)] if len(before) else [(behind, 1)]
    for points, alpha in layers:
        # In random order, so that no class hides another by being drawn last.
        order = np.random.default_rng(0).permutation(points)
        for part in np.array_split(order, 1 if len(kinds) == 1 else 20):
            for kind in kinds:
                rows = part[markers[labels[part]] == kind]
                axis.scatter(
                    *coordinates[rows].T,
                    s=area,
                    c=list(colours[labels[rows]]),
                    marker=kind,
                    alpha=alpha,
                    linewidths=0,
                    rasterized=True,
                )
    if not named:
        return
    outline = matplotlib.patheffects.withStroke(linewidth=1.5, foreground="white")
    # The number of a class stands where the images in front are.
    front = content["split"] == content["split"].max()
    for label in np.unique(labels[front]):
        x, y = np.median(coordinates[front & (labels == label)], axis=0)
        axis.text(
            *(x, y, str(label)),
            ha="center",
            va="center",
            weight="bold",
            fontsize=appearance.points(style, 0 if len(class_appearances) <= 20 else 2),
            path_effects=[outline],
        )


def _class_keys(
    names: Sequence[str], class_appearances: Sequence[tuple[str, str]]
) -> list[plt.Line2D]:
    return [
        plt.Line2D([], [], linestyle="", marker=marker, color=colour, label=name)
        for (colour, marker), name in zip(class_appearances, names, strict=True)
    ]


def _split_keys() -> list[plt.Line2D]:
    opacities = {"training": {"alpha": 1.5 * BEHIND}, "test": {"alpha": 1}}
    words = {split: split for split in opacities}
    return curves.keys(words, opacities, linestyle="", marker="o")


def _worth(content: Mapping[str, np.ndarray]) -> list[str]:
    """What a panel shows, and what it is worth; of a map from elsewhere that is not known."""
    if "perplexity" not in content:
        return [f"{len(content['labels']):,} points"]
    kinds = {"train": "training", "test": "test"}
    parts = []
    sampled = False
    for place, (split, total) in enumerate(
        zip(content["splits"].tolist(), content["n_total"].tolist(), strict=True)
    ):
        n = int(np.count_nonzero(content["split"] == place))
        sampled |= n < total
        size = f"all {n:,}" if n == total else f"{n:,} of {total:,}"
        parts.append(f"{size} {kinds[split]}")
    size = " and ".join(parts) + " images" + (", stratified" if sampled else "")
    perplexity, recall = float(content["perplexity"]), float(content["recall"])
    return [size, f"perplexity {perplexity:.0f}, 10-NN recall {recall:.2f}"]
