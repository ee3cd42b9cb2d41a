"""How similar the layers of a network are: to each other, before and after training, over seeds."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from collapseflow.presentation.figures import curves
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.rows import failure_of
from collapseflow.running.files import read_json

#: Heat maps of a row, by their keys in the files: title, rows and columns.
MAPS = {
    "first": ("before training", "layer", "layer"),
    "last": ("after training", "layer", "layer"),
    "first_last": ("before and after", "layer, before", "layer, after"),
}
COLOURS = "viridis"
SCALE = Normalize(0, 1)
#: Lines over layers.
LINES = {
    "trained": {"color": look.LINES[0], "linestyle": "-", "marker": "o"},
    "seeds": {"color": look.LINES[1], "linestyle": (0, (3, 1.5)), "marker": "s"},
}
#: Of single layers: points, one above the other where their values are the same.
POINTS = {"linestyle": "", "markersize": 5}
SHIFTS = {"trained": -0.13, "seeds": 0.13}
WORDS = {
    "trained": "a layer before and after training",
    "seeds": "a layer after training, in two seeds (mean over pairs)",
}
#: Widths of the panels of a row.
WIDTHS = (1, 1, 1, 1.5)
#: Heights in inches: the colour bar, with its words, and a series in the panel of single layers.
BAR = 0.1
BAR_WORDS = 0.45
SINGLE = 0.27
UNDEFINED = "#cccccc"
#: A reason of a failure has room for so many letters.
MOST_LETTERS = 60
#: More layers than these, or longer names, are numbered at the axes.
MOST_NAMED = 6
LONGEST_NAME = 8
#: Numbers, and letters of names, that have room at an axis.
MOST_NUMBERS = 6
MOST_LEVEL = 20


def plot_similarity(
    files: Sequence[str | Path],
    labels: Sequence[str],
    heading: str,
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """Linear CKA of the layers of a network, a row for each series that is read at several layers.

    From the left: heat maps of layers with each other before training, after it, and before (rows)
    with after it (columns), of the first seed, in one scale from 0 to 1; each layer with itself
    before and after training, and after training in different seeds (mean over the pairs of
    seeds). Series that are read at one layer share a panel with these two numbers, in which a
    series that failed has the reason. What has no value, as the similarity of constant features, is
    grey.

    Parameters
    ----------
    files
        What :func:`collapseflow.measures.similarity.compare_layers` gives, or ``failed``, of each
        series.
    labels
        Of the series.
    heading
        Title of the figure.
    """
    look.apply(style)
    contents = list(zip(labels, map(read_json, files), strict=True))
    known = [(label, content) for label, content in contents if failure_of(content) is None]
    layered = [(label, content) for label, content in known if len(content["layers"]) > 1]
    others = [(label, content) for label, content in contents if (label, content) not in layered]
    seeded = any(len(content["seeds"]) > 1 for _, content in known)
    # By width, a row of squares with what stands around them.
    row_height = 0.285 * style["width"]
    heights = [
        len(layered) * row_height + BAR + BAR_WORDS if layered else 0,
        (len(others) + 2) * SINGLE if others else 0,
    ]
    figure = plt.figure(figsize=(style["width"], sum(heights) + 0.3))
    shown_heights = [height for height in heights if height]
    parts = iter(
        figure.subfigures(len(shown_heights), 1, squeeze=False, height_ratios=shown_heights).flat
    )
    if layered:
        part = next(parts)
        grid = part.add_gridspec(
            len(layered) + 1,
            len(WIDTHS),
            width_ratios=WIDTHS,
            height_ratios=[row_height] * len(layered) + [BAR],
        )
        for number, (label, content) in enumerate(layered):
            row = [part.add_subplot(grid[number, column]) for column in range(len(WIDTHS))]
            _draw_maps(row[:3], content)
            _draw_lines(row[3], content)
            _write_over(row[0], label, style)
        place = part.add_subplot(grid[-1, :3])
        bar = part.colorbar(ScalarMappable(SCALE, COLOURS), cax=place, orientation="horizontal")
        bar.set_label("linear CKA (unbiased)" + (", first seed" if seeded else ""))
    if others:
        _draw_single(next(parts).subplots(), others)
    figure.suptitle(f"{heading}: similarity of layers", fontsize=style["font_size"] + 1)
    shown = {kind: WORDS[kind] for kind in WORDS if kind == "trained" or seeded}
    bare = {} if layered else POINTS
    looks = {kind: {**line, **bare} for kind, line in LINES.items()}
    curves.finish(figure, [curves.keys(shown, looks)], _notes(known), style, paths)


def _matrix(values: Sequence[Sequence[float | None]]) -> np.ndarray:
    return np.array(values, dtype=float)


def _lines(content: Mapping) -> dict[str, np.ndarray]:
    """The two lines over the layers (L,), NaN where there is no value."""
    pairs = np.triu_indices(len(content["seeds"]), k=1)
    of_seeds = [_matrix(content["across_seeds"][layer])[pairs] for layer in content["layers"]]
    return {
        "trained": _matrix(content["first_last"]).diagonal(),
        "seeds": np.array([of_layer.mean() if of_layer.size else np.nan for of_layer in of_seeds]),
    }


def _numbered(names: Sequence[str]) -> bool:
    return len(names) > MOST_NAMED or max(map(len, names)) > LONGEST_NAME


def _ticks(names: Sequence[str]) -> list[str]:
    """The names of layers; of many, some of their numbers."""
    if not _numbered(names):
        return list(names)
    step = math.ceil(len(names) / MOST_NUMBERS)
    return [str(place + 1) if place % step == 0 else "" for place in range(len(names))]


def _layer_ticks(names: Sequence[str]) -> tuple[list[int], list[str], dict]:
    """Places, words and their direction, for an axis of layers."""
    ticks = _ticks(names)
    is_long = not _numbered(names) and sum(map(len, names)) + len(names) > MOST_LEVEL
    turned = {"rotation": 90} if is_long else {}
    return [place for place, tick in enumerate(ticks) if tick], list(filter(None, ticks)), turned


def _draw_maps(axes: Sequence[Axes], content: Mapping) -> None:
    places, words, turned = _layer_ticks(content["layers"])
    for axis, (key, (title, rows, columns)) in zip(axes, MAPS.items(), strict=True):
        look.heat_map(axis, _matrix(content[key]), cmap=COLOURS, norm=SCALE)
        axis.set_aspect("equal")
        axis.set_facecolor(UNDEFINED)
        # The words on the row stand above, in a line that is kept free for them.
        axis.set_title(f"\n{title}")
        axis.set_xticks(places, words, **turned)
        axis.set_yticks(places, words if axis is axes[0] else [""] * len(places))
        axis.tick_params(length=2, pad=1.5)
        axis.set(xlabel=columns, ylabel=rows)


def _draw_lines(axis: Axes, content: Mapping) -> None:
    lines = _lines(content)
    for kind, values in lines.items():
        axis.plot(range(len(values)), values, **LINES[kind])
    places, words, turned = _layer_ticks(content["layers"])
    axis.set_xticks(places, words, **turned)
    axis.set_title("\neach layer")
    axis.set(xlabel="layer", ylabel="CKA", ylim=_limits(lines.values()))
    # As high as the heat maps.
    axis.set_box_aspect(WIDTHS[0] / WIDTHS[-1])
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def _draw_single(axis: Axes, contents: Sequence[tuple[str, Mapping]]) -> None:
    """A line for each series that is read at one layer, and for each that failed."""
    drawn = []
    for place, (_, content) in enumerate(contents):
        reason = failure_of(content)
        if reason is not None:
            words = textwrap.shorten(f"failed: {reason}", MOST_LETTERS, placeholder=" …")
            axis.text(0, place, words, va="center", fontsize="small", color=look.NEUTRAL)
            continue
        for kind, values in _lines(content).items():
            axis.plot(values, [place + SHIFTS[kind]], **{**LINES[kind], **POINTS})
            drawn.append(values)
    axis.set_yticks(range(len(contents)), [textwrap.fill(label, 44) for label, _ in contents])
    axis.set(xlabel="CKA", xlim=_limits(drawn), ylim=(len(contents) - 0.5, -0.5))
    axis.grid(axis="x", linewidth=0.3, alpha=0.6)


def _limits(values: Iterable[np.ndarray]) -> tuple[float, float]:
    """The estimator is around 0 for what has nothing in common, also below."""
    known = [value for array in values for value in array[np.isfinite(array)]]
    return min(-0.03, 1.1 * min(known, default=0)), 1.03


def _write_over(axis: Axes, words: str, style: Mapping) -> None:
    """Words on a row, as wide as they are, above the titles of its panels."""
    above = {"xytext": (0, 6 + 1.3 * style["font_size"]), "textcoords": "offset points"}
    text = axis.annotate(words, (0, 1), xycoords="axes fraction", fontweight="bold", **above)
    text.set_in_layout(False)


def _notes(known: Sequence[tuple[str, Mapping]]) -> list[str]:
    """The number of images, the layers that are numbered, and what has no value."""
    if not known:
        return []
    numbers = sorted({content["n_images"] for _, content in known})
    words = f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
    notes = [f"On {words} training images."]
    for names in dict.fromkeys(tuple(content["layers"]) for _, content in known):
        if len(names) > 1 and _numbered(names):
            # A number stays in a line with its name.
            numbered = ", ".join(f"{n}\u00a0{name}" for n, name in enumerate(names, 1))
            notes.append(f"Layers: {numbered}.")
    layered = [content for _, content in known if len(content["layers"]) > 1]
    if any(np.isnan(_matrix(content[key])).any() for content in layered for key in MAPS):
        notes.append("Grey: not defined, as for features that are the same on all images.")
    return notes
