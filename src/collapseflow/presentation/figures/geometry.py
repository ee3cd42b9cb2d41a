"""The geometry of the class means of one run: before training, at its start and at its end."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Patch
from matplotlib.ticker import MaxNLocator

from collapseflow.images.datasets import read_info
from collapseflow.measures.collapse import CollapsedError, measure
from collapseflow.measures.quantities import quantity
from collapseflow.measures.statistics import MATCHED, Statistics, read_statistics
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import ENOUGH_IMAGES, fewest_in_words

#: Panels of a row.
TITLES = ("principal plane", "cosines, training", "cosines, test", "norm / mean norm")
#: What is compared: training images, as many as there are test images, and these.
SPLITS = (MATCHED, "test")
TRAINING = "Training images: as many of each class as there are test images."
SHARE = "Principal plane: with its share of the variance of the training images' class means."
#: Orange: nearer to each other than in a simplex; purple: farther. The colours get lighter from
#: end to end, so that also a print in grey tells nearer from farther.
COLOURS = LinearSegmentedColormap.from_list(
    "nearness", ("#2d004b", "#6a51a3", "#999999", "#f2b25c", "#fff0c0")
)
#: What has no cosine.
NOTHING = "white"
#: Markers of test means, and of the rows of the last layer's weight.
HOLLOW = {"markerfacecolor": "none", "markeredgewidth": 0.8}
ROWS = {"linestyle": "", "marker": "x", "markersize": 3, "markeredgewidth": 0.8}


def principal_plane(
    train: Statistics, test: Statistics
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Class means in the plane of the first two principal axes of the training set's.

    Returns
    -------
    The class means of the training set (C, 2) around their mean; those of the test set (C', 2)
    around the same; the within-class covariance of the training set in the plane, float64 (2, 2);
    and the plane's share of the variance of the training set's class means. What lies in one line
    has zeros in the second direction.
    """
    axes = np.linalg.svd(train.directions, full_matrices=False)[2][:2]
    kept = len(axes)
    own = train.directions @ axes.T
    basis = train.centred.T @ (own / (own**2).sum(axis=0))
    means = np.zeros((train.n_classes, 2))
    means[:, :kept] = own
    others = np.zeros((test.n_classes, 2))
    others[:, :kept] = (test.means - train.means.mean(axis=0)) @ basis
    covariance = np.zeros((2, 2))
    covariance[:kept, :kept] = axes @ train.scatter @ axes.T / train.n_samples
    share = float((own**2).sum() / (train.directions**2).sum())
    return means, others, covariance, share


def cosines(statistics: Statistics) -> np.ndarray:
    """Cosines between the class means around their mean, float64 (C, C); NaN on the diagonal, and
    where a class mean is that mean and has no direction."""
    lengths = np.linalg.norm(statistics.centred, axis=1, keepdims=True)
    unit = statistics.centred / np.where(lengths > 0, lengths, np.nan)
    found = unit @ unit.T
    np.fill_diagonal(found, np.nan)
    return found


def plot_geometry(material: Material, outputs: Outputs) -> None:
    """The states of a run, from their files (:func:`draw_geometry`)."""
    states = {epoch: read_state(path, material.layer) for epoch, path in material.states}
    class_names = read_info(material.images).class_names
    heading = f"{material.run_heading}, {material.layer}"
    draw_geometry(states, class_names, heading, [TRAINING], material.style, outputs)


def draw_geometry(
    by_epoch: Mapping[int, Mapping[str, Statistics] | str],
    class_names: Sequence[str],
    heading: str,
    remarks: Sequence[str],
    style: Mapping,
    outputs: Outputs,
) -> Figure:
    """A page of small panels, a row for each epoch.

    ``remarks`` say which training images these are. Their class means (full) in
    the plane of their first two principal axes, with its share of their variance, each with the
    ellipse of one standard deviation within the classes (pooled over them), and those of the test
    images (hollow) in the same plane; the cosines between the centred class means of training and
    of test images, in colours around the -1/(C - 1) of a simplex, the same in all rows; norms of
    the centred class means, and of the rows of the last layer's weight, over their mean. The row's
    title has NC1 and CDNV; a note says where a class has few images. An epoch that failed is an
    empty row with the reason. Many classes stand in the heat maps in an order in which similar
    ones, in the last row, are beside each other. More than can be named
    (:data:`collapseflow.presentation.figures.appearance.MOST_NAMED`) have colours along this
    order, one ellipse together, and norms in the order of those of the training images.
    """
    appearance.apply(style)
    states = list(by_epoch.values())
    known = [state for state in states if not isinstance(state, str)]
    _, columns = appearance.grid(4, 4, style)
    rows = len(states) * 4 // columns
    size = style["width"], rows * max(0.32 * style["width"], style["width"] / columns)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    # The panels of a state, in as many rows as they need.
    axes = axes.reshape(len(states), 4)
    figure.get_layout_engine().set(hspace=0.08)
    order = _order(known, len(class_names))
    class_appearances = _appearances(order)
    for row, epoch, state in zip(axes, by_epoch, states, strict=True):
        words = "epoch 0, before training" if epoch == 0 else f"epoch {epoch}"
        if isinstance(state, str):
            for axis in row:
                axis.set_axis_off()
            wrapped = appearance.wrapped(f"{words} failed: {state}", style["width"], style)
            reason = row[0].text(0, 0.5, wrapped, va="center", transform=row[0].transAxes)
            reason.set_in_layout(False)
            continue
        share = _draw_plane(row[0], state, class_appearances)
        titles = [f"{TITLES[0]} ({100 * share:.0f} %)", *TITLES[1:]]
        titles[3] += ", sorted" if _many(order) else ""
        appearance.row_titles(row[:columns], f"{words}: {_worth(state)}", titles[:columns], style)
        for axis, title in zip(row[columns:], titles[columns:], strict=True):
            axis.set_title(title)
        _draw_norms(row[3], state, class_appearances)
        for axis in row:
            axis.set_box_aspect(1)
            axis.set_anchor("N")
            axis.tick_params(labelsize=appearance.points(style, 2), length=2, pad=1.5)
    if known:
        _draw_cosines(figure, axes[:, 1:3], states, order, style)
        drawn = [row[3] for row in axes if row[3].axison]
        low, high = np.array([axis.get_ylim() for axis in drawn]).T
        for axis in drawn:
            axis.set_ylim(low.min(), high.max())
    appearance.title(figure, heading, style)
    has_head = any(state[MATCHED].head_weight is not None for state in known)
    notes = [*remarks, *_few_in_words(known[0]), SHARE] if known else []
    notes += [_order_in_words(order)] if known and len(order) > appearance.FEW_CLASSES else []
    curves.save_with_legend(
        figure, _keys(class_names, class_appearances, has_head), notes, style, outputs
    )
    return figure


def _many(classes: Sequence) -> bool:
    """Whether classes are too many to be named."""
    return len(classes) > appearance.MOST_NAMED


def _appearances(order: np.ndarray) -> list[tuple[str, str]]:
    """Colour and marker of each class: neighbouring colours have other markers, so that also a
    print in grey tells them apart; of many classes colours along an order."""
    looks = appearance.class_appearances(len(order), order)
    if _many(order):
        return looks
    markers, n_colours = appearance.MARKERS, len(appearance.COLOURS)
    return [
        (colour, markers[(label + label // n_colours) % len(markers)])
        for label, (colour, _) in enumerate(looks)
    ]


def _order(states: Sequence[Mapping[str, Statistics]], n_classes: int) -> np.ndarray:
    """The labels of all classes as they stand in the heat maps."""
    if n_classes <= appearance.FEW_CLASSES or not states:
        return np.arange(n_classes)
    last = states[-1][MATCHED]
    distances = np.full((n_classes, n_classes), np.nan)
    distances[np.ix_(last.classes, last.classes)] = 1 - cosines(last)
    return appearance.by_similarity(distances)


def _few_in_words(state: Mapping[str, Statistics]) -> list[str]:
    """A note where a class has few images, which are the same in all states."""
    fewest = {split: state[split].counts.min() for split in SPLITS}
    few = {split: n for split, n in fewest.items() if n < ENOUGH_IMAGES}
    return [f"Here {fewest_in_words(few)}."] if few else []


def _order_in_words(order: np.ndarray) -> str:
    words = "Heat maps: similar classes stand beside each other"
    if _many(order):
        return (
            f"{words}. {len(order):,} classes are not named: colours go along their order in the "
            "heat maps; the ellipse is around the mean of all; norms are in the order of those of "
            "training images."
        )
    return f"{words}; from the top: {', '.join(map(str, order))}."


def read_state(path: str | Path, layer: str) -> Mapping[str, Statistics] | str:
    """The statistics of a layer by split, or why there is nothing to draw."""
    state = read_statistics(path)
    return state.failed or drawable(state.layers[layer])


def drawable(state: Mapping[str, Statistics]) -> Mapping[str, Statistics] | str:
    """The statistics of a layer by split, or that there is nothing to draw where all class means
    coincide."""
    try:
        for statistics in state.values():
            measure(statistics)
    except CollapsedError as error:
        return str(error)
    return state


def _worth(state: Mapping[str, Statistics]) -> str:
    train, test = (measure(state[split]) for split in SPLITS)
    known = [name for name in ("nc1", "cdnv") if name in train and name in test]
    return ",  ".join(
        f"{quantity(name).label} {train[name]:.3g} (test {test[name]:.3g})" for name in known
    )


def _draw_means(
    axis: Axes,
    labels: np.ndarray,
    places: np.ndarray,
    class_appearances: Sequence[tuple[str, str]],
    hollow: bool,
) -> None:
    """Markers of the classes with some labels at (x, y): full of training, hollow of test images;
    smaller for many classes."""
    n_classes = len(class_appearances)
    size = 3.5 if n_classes <= appearance.FEW_CLASSES else 2
    if _many(class_appearances):
        colours = [class_appearances[label][0] for label in labels.tolist()]
        kind = {"facecolors": "none", "edgecolors": colours, "linewidths": 0.5, "s": 5}
        axis.scatter(*places.T, **(kind if hollow else {"color": colours, "linewidths": 0, "s": 3}))
        return
    kind = {"markersize": 1.6 * size, **HOLLOW} if hollow else {"markersize": size}
    for label, place in zip(labels.tolist(), places, strict=True):
        colour, marker = class_appearances[label]
        axis.plot(*place, marker=marker, color=colour, **kind)


def _draw_plane(
    axis: Axes, state: Mapping[str, Statistics], class_appearances: Sequence[tuple[str, str]]
) -> float:
    """The plane with all class means; gives its share of the variance of those of training."""
    means, others, covariance, share = principal_plane(state[MATCHED], state["test"])
    lengths, directions = np.linalg.eigh(covariance)
    width, height = 2 * np.sqrt(np.maximum(lengths, 0))
    angle = np.degrees(np.arctan2(*directions[::-1, 0]))
    zorder = 1
    if _many(class_appearances):
        # Above the means, which else hide it.
        around, zorder = [((0, 0), appearance.NEUTRAL, 0.5)], 3
    else:
        colours = [class_appearances[label][0] for label in state[MATCHED].classes.tolist()]
        around = [(mean, colour, 0.12) for mean, colour in zip(means, colours, strict=True)]
    for centre, colour, alpha in around:
        looks = {"color": colour, "alpha": alpha, "linewidth": 0.6, "zorder": zorder}
        axis.add_patch(Ellipse(centre, width, height, angle=angle, **looks))
    _draw_means(axis, state[MATCHED].classes, means, class_appearances, hollow=False)
    _draw_means(axis, state["test"].classes, others, class_appearances, hollow=True)
    axis.set_aspect("equal", adjustable="datalim")
    axis.locator_params(nbins=4)
    return share


def _draw_norms(
    axis: Axes, state: Mapping[str, Statistics], class_appearances: Sequence[tuple[str, str]]
) -> None:
    axis.axhline(1, color=appearance.NEUTRAL, linewidth=0.5, zorder=0.5)
    found = {split: np.linalg.norm(state[split].centred, axis=1) for split in SPLITS}
    places = np.arange(len(class_appearances))
    if _many(class_appearances):
        # Of classes without training images at the end.
        known = np.full(len(class_appearances), np.inf)
        known[state[MATCHED].classes] = found[MATCHED]
        places = np.argsort(np.argsort(known, kind="stable"))
    weight = state[MATCHED].head_weight
    if weight is not None:
        norms = np.linalg.norm(weight, axis=1)
        small = {"markersize": 1.2, "markeredgewidth": 0.2, "zorder": 0.9}
        crosses = {**ROWS, **small} if _many(class_appearances) else ROWS
        axis.plot(places[: len(norms)], norms / norms.mean(), color=appearance.NEUTRAL, **crosses)
    for split, norms in found.items():
        labels = state[split].classes
        where = np.column_stack([places[labels], norms / norms.mean()])
        _draw_means(axis, labels, where, class_appearances, hollow=split == "test")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_cosines(
    figure: Figure,
    axes: np.ndarray,
    states: Sequence[Mapping[str, Statistics] | str],
    order: np.ndarray,
    style: Mapping,
) -> None:
    """Heat maps (rows, training and test) of the states that are there, in one scale."""
    panels = [
        (axis, state[split])
        for row, state in zip(axes, states, strict=True)
        if not isinstance(state, str)
        for axis, split in zip(row, SPLITS, strict=True)
    ]
    simplex = -1 / (panels[0][1].n_classes - 1)
    off = max(0.05, *(float(np.nanmax(np.abs(cosines(one) - simplex))) for _, one in panels))
    scale = Normalize(simplex - off, simplex + off)
    for axis, one in panels:
        shown = order[np.isin(order, one.classes)]
        rows = np.searchsorted(one.classes, shown)
        values = cosines(one)[np.ix_(rows, rows)]
        image = appearance.heat_map(axis, values, cmap=COLOURS, norm=scale)
        axis.set_facecolor(NOTHING)
        if _many(order):
            axis.set(xticks=[], yticks=[])
            continue
        places = range(0, len(shown), math.ceil(len(shown) / 10))
        numbers = [str(shown[place]) for place in places]
        # Of many classes the rows alone have numbers: those of columns would lie on each other.
        axis.set_xticks(
            places, numbers if len(order) <= appearance.FEW_CLASSES else [""] * len(numbers)
        )
        axis.set_yticks(places, numbers)
    bar = figure.colorbar(image, ax=axes, location="bottom", aspect=40, fraction=0.03, pad=0.02)
    # The scale is as wide on both sides of the simplex; cosines end before that.
    bar.ax.set_xlim(max(-1, scale.vmin), min(1, scale.vmax))
    bar.locator = MaxNLocator(5)
    words = f"cosine of centred class means (grey: {simplex:.2g}, as in a simplex)"
    words = words.replace("-", "\N{MINUS SIGN}")
    bar.set_label(appearance.fitted(words, 0.9 * style["width"], style))


def _keys(
    class_names: Sequence[str], class_appearances: Sequence[tuple[str, str]], has_head: bool
) -> list[list[Artist]]:
    dot = {"linestyle": "", "marker": "o", "color": appearance.NEUTRAL}
    groups: list[list[Artist]] = [
        [
            Line2D([], [], label="training mean", **dot),
            Line2D([], [], label="test mean", markersize=5.5, **dot, **HOLLOW),
            Patch(color=appearance.NEUTRAL, alpha=0.3, linewidth=0, label="1 s.d. within"),
            *([Line2D([], [], color=appearance.NEUTRAL, label="rows of W", **ROWS)] * has_head),
        ]
    ]
    if not _many(class_names):
        names = appearance.numbered_names(class_names, len(class_names))
        groups.append(
            [
                Line2D([], [], linestyle="", marker=marker, color=colour, label=name)
                for (colour, marker), name in zip(class_appearances, names, strict=True)
            ]
        )
    return groups
