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

#: Of more classes than :data:`collapseflow.presentation.figures.appearance.MOST_NAMED` so many are
#: named, and the others are grey.
NAMED_OF_MANY = 20
OTHERS = ("#bbbbbb", "o")
#: Training images behind test images.
BEHIND = 0.2
#: Width and height of a bold digit, by the size of its font; steps in which numbers are moved.
LETTER = (0.75, 0.85)
MOST_STEPS = 300


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

    Of a map of training and test images the training images lie faint behind. Of many classes
    those with the most images are coloured and named, and the others are grey. Under each panel:
    the number of points (and of how many they are a sample), the perplexity, and the share of each
    point's 10 nearest neighbours that the picture keeps. A panel without points, of features that
    do not exist, says why (``failed`` of its file).
    """
    appearance.apply(style)
    n = len(panels)
    rows, columns = appearance.grid(n, 2 if n <= 4 else 3 if n <= 6 or n % 3 == 0 else 4, style)
    side = style["width"] / columns
    high = rows * (side + 0.75) + 0.4
    figure, axes = plt.subplots(rows, columns, figsize=(style["width"], high), squeeze=False)
    named = _named([content for content, _ in panels], len(class_names))
    joint = False
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (content, title) in zip(axes.flat, panels, strict=False):
        joint |= len(content["splits"]) > 1
        failed = str(content["failed"]) if "failed" in content else None
        if failed is None:
            _draw(axis, content, len(class_names), named, side, style)
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
    names = appearance.numbered_names(class_names, len(named))
    groups = [
        _split_keys() if joint else [],
        _class_keys([names[label] for label in named], list(named.values())),
    ]
    if n_others := len(class_names) - len(named):
        groups.append(_class_keys([f"the other {n_others:,} classes"], [OTHERS]))
    curves.save_with_legend(figure, groups, [], style, outputs)
    return figure


def _named(contents: Sequence[dict], n_classes: int) -> dict[int, tuple[str, str]]:
    """Colour and marker of the classes that are named, by their labels: of many those with the most
    images, of the split that is in front."""
    if n_classes <= appearance.MOST_NAMED:
        return dict(enumerate(appearance.class_appearances(n_classes)))
    counts = np.zeros(n_classes, np.int64)
    for content in contents:
        if "failed" not in content:
            front = content["split"] == content["split"].max()
            counts += np.bincount(content["labels"][front], minlength=n_classes)
    most = np.argsort(-counts, kind="stable")[:NAMED_OF_MANY]
    looks = appearance.class_appearances(NAMED_OF_MANY)
    return dict(zip(np.sort(most).tolist(), looks, strict=True))


def _draw(
    axis: plt.Axes,
    content: Mapping[str, np.ndarray],
    n_classes: int,
    named: Mapping[int, tuple[str, str]],
    side: float,
    style: Mapping,
) -> None:
    """Points and the numbers of the classes, in a panel so many inches wide."""
    coordinates, labels = content["coordinates"], content["labels"]
    looks = [named.get(label, OTHERS) for label in range(n_classes)]
    colours, markers = (np.array(values, dtype=object) for values in zip(*looks, strict=True))
    others = ~np.isin(labels, list(named))
    # A denser picture gets smaller points.
    area = style["point_size"] * min(2.0, np.sqrt(5_000 / len(labels)))
    kinds = list(dict.fromkeys(markers))
    first = content["split"] == 0
    faint = BEHIND if (~first).any() else 1
    layers = [
        (np.flatnonzero(chosen & is_drawn), alpha)
        for chosen, alpha in ((first, faint), (~first, 1))
        for is_drawn in (others, ~others)
        if (chosen & is_drawn).any()
    ]
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
    outline = matplotlib.patheffects.withStroke(linewidth=1.5, foreground="white")
    # The number of a class stands where its images in front are; of a class that is absent there,
    # where the others are; beside that where several classes are in one place.
    front = content["split"] == content["split"].max()
    shown = np.intersect1d(labels, list(named))
    of_classes = (np.flatnonzero(labels == label) for label in shown)
    places = [
        np.median(coordinates[own[front[own]] if front[own].any() else own], axis=0)
        for own in of_classes
    ]
    size = appearance.points(style, 0 if n_classes <= appearance.FEW_CLASSES else 2)
    # The panel is as wide as the map and its margins.
    point = 1.1 * np.ptp(coordinates, axis=0).max() / (72 * side)
    room = [(LETTER[0] * len(str(label)), LETTER[1]) for label in shown]
    places = apart(np.array(places), size * point * np.array(room))
    bold = {"ha": "center", "va": "center", "weight": "bold", "fontsize": size}
    for label, (x, y) in zip(shown, places, strict=True):
        axis.text(x, y, str(label), path_effects=[outline], **bold)


def apart(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The centres of boxes, pushed so far that none lies on another, as far as some steps do it.

    Parameters
    ----------
    places, sizes : float (n, 2)
    """
    n = len(places)
    # Boxes in one place go as many ways as they are.
    angles = 2 * np.pi * np.arange(n)[:, None] / n
    ways = 1e-6 * np.hstack([np.cos(angles), np.sin(angles)])
    others = ~np.eye(n, dtype=bool)[..., None]
    for _ in range(MOST_STEPS):
        away = (places[:, None] - places) / ((sizes[:, None] + sizes) / 2)
        away = np.where(away.any(axis=2, keepdims=True), away, ways[:, None] - ways)
        over = (1 - np.abs(away).max(axis=2, keepdims=True)).clip(0) * others
        if over.max(initial=0) < 0.01:
            break
        length = np.linalg.norm(away, axis=2, keepdims=True)
        push = (away / np.where(others, length, 1) * over).sum(axis=1)
        places = places + sizes * push.clip(-0.2, 0.2)
    return places


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
