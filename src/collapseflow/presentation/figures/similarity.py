"""How similar the layers of a network are: to each other, before and after training, over seeds."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import failure_of, write_csv
from collapseflow.running.files import read_json

#: Heat maps of a row, by their keys in the files: title, rows and columns.
MAPS = {
    "first": ("before training", "layer", "layer"),
    "last": ("after training", "layer", "layer"),
    "first_last": ("before and after", "layer, before", "layer, after"),
}
COLOURS = "viridis"
SCALE = Normalize(0, 1)
#: Lines over layers: all are of training images, and of the series of their row.
LINES = {
    "trained": {"color": "#222222", "marker": "o", **curves.SPLITS["train"]},
    "seeds": {"color": appearance.NEUTRAL, "marker": "x", **curves.SPLITS["train"]},
}
WORDS = {
    "trained": "a layer before and after training",
    "seeds": "a layer after training, in two seeds (mean over pairs)",
}
#: Widths of the panels of a row.
WIDTHS = (1, 1, 1, 1.5)
#: Height of the colour bar in inches, and of it with its words.
BAR = 0.1
BAR_WORDS = 0.45
UNDEFINED = "#cccccc"
#: More layers than these, or longer names, are numbered at the axes.
MOST_NAMED = 6
LONGEST_NAME = 8
#: Numbers, and letters of names, that have room at an axis.
MOST_NUMBERS = 6
MOST_LEVEL = 20
#: Files of vectors that have their names at an axis; of more, some have.
MOST_SETS = 30


def plot_similarity(material: Material, outputs: Outputs) -> None:
    """Linear CKA of the layers of a network, a row for each series.

    From the left: heat maps of layers with each other before training, after it, and before (rows)
    with after it (columns), of the first seed, in one scale from 0 to 1; each layer with itself
    before and after training, and after training in different seeds (mean over the pairs of
    seeds). What has no value, as the similarity of constant features, is grey. A series that failed
    is an empty row with the reason.
    """
    style = material.style
    appearance.apply(style)
    contents = list(map(read_json, material.similarity))
    known = [content for content in contents if failure_of(content) is None]
    seeded = any(len(content["seeds"]) > 1 for content in known)
    # Side by side, or two and two.
    _, columns = appearance.grid(len(WIDTHS), len(WIDTHS), style)
    rows = len(WIDTHS) // columns
    # By width, a row of squares with what stands around them.
    row_height = (0.285 if rows == 1 else 0.55) * style["width"]
    n_rows = rows * len(contents)
    figure = plt.figure(figsize=(style["width"], n_rows * row_height + BAR + BAR_WORDS + 0.3))
    grid = figure.add_gridspec(
        n_rows + 1,
        columns,
        width_ratios=WIDTHS[:columns],
        height_ratios=[row_height] * n_rows + [BAR],
    )
    for number, (label, content) in enumerate(zip(material.series, contents, strict=True)):
        row = [
            figure.add_subplot(grid[number * rows + place // columns, place % columns])
            for place in range(len(WIDTHS))
        ]
        reason = failure_of(content)
        if reason is None:
            _draw_maps(row[:3], content)
            _draw_lines(row[3], content)
            titles = [*(title for title, *_ in MAPS.values()), "each layer"]
            appearance.row_titles(row[:columns], label, titles[:columns], style)
            for axis, title in zip(row[columns:], titles[columns:], strict=True):
                axis.set_title(title)
        else:
            for axis in row:
                axis.set_axis_off()
            words = textwrap.fill(f"{label} failed: {reason}", int(style["width"] * 72 / 5))
            text = row[0].text(0, 0.5, words, va="center", transform=row[0].transAxes)
            text.set_in_layout(False)
    place = figure.add_subplot(grid[-1, : min(3, columns)])
    bar = figure.colorbar(ScalarMappable(SCALE, COLOURS), cax=place, orientation="horizontal")
    bar.set_label("linear CKA (unbiased)" + (", first seed" if seeded else ""))
    appearance.title(figure, f"{material.title}: similarity of layers", style)
    shown = {kind: WORDS[kind] for kind in WORDS if kind == "trained" or seeded}
    curves.save_with_legend(figure, [curves.keys(shown, LINES)], _notes(known), style, outputs)


def plot_similarity_of_vectors(material: Material, outputs: Outputs) -> None:
    """Linear CKA of files of vectors with each other, in their order; what has no value is grey.

    The CSV has a row for each pair.
    """
    style = material.style
    appearance.apply(style)
    [content] = map(read_json, material.similarity)
    names, values = content["sets"], _matrix(content["cka"])
    figure, axis = plt.subplots(figsize=(style["width"], 0.7 * style["width"]))
    appearance.heat_map(axis, values, cmap=COLOURS, norm=SCALE)
    axis.set_aspect("equal")
    axis.set_facecolor(UNDEFINED)
    places = list(range(0, len(names), math.ceil(len(names) / MOST_SETS)))
    words = [names[place] for place in places]
    axis.set_xticks(places, words, rotation=90)
    axis.set_yticks(places, words)
    axis.tick_params(length=2, pad=1.5)
    bar = figure.colorbar(ScalarMappable(SCALE, COLOURS), ax=axis, location="bottom", shrink=0.5)
    bar.set_label("linear CKA (unbiased)")
    n = f"{content['n_images']:,}"
    appearance.title(figure, f"{material.title}: similarity on {n} training vectors", style)
    appearance.save(figure, outputs)
    pairs = [(one, other) for one in range(len(names)) for other in range(one)]
    rows = [(names[other], names[one], values[one, other]) for one, other in pairs]
    write_csv(outputs["csv"], pd.DataFrame(rows, columns=["vectors", "others", "cka"]))


def _matrix(values: Sequence[Sequence[float | None]]) -> np.ndarray:
    return np.array(values, dtype=float)


def _lines(content: Mapping) -> dict[str, np.ndarray]:
    """The two lines over the layers (L,), NaN where there is no value."""
    pairs = np.triu_indices(len(content["seeds"]), k=1)
    by_layer = [_matrix(content["across_seeds"][layer])[pairs] for layer in content["layers"]]
    return {
        "trained": _matrix(content["first_last"]).diagonal(),
        "seeds": np.array([found.mean() if found.size else np.nan for found in by_layer]),
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
    for axis, (key, (_, rows, columns)) in zip(axes, MAPS.items(), strict=True):
        appearance.heat_map(axis, _matrix(content[key]), cmap=COLOURS, norm=SCALE)
        axis.set_aspect("equal")
        axis.set_facecolor(UNDEFINED)
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
    axis.set(xlabel="layer", ylabel="CKA", ylim=_limits(lines.values()))
    # As high as the heat maps.
    axis.set_box_aspect(WIDTHS[0] / WIDTHS[-1])
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def _limits(values: Iterable[np.ndarray]) -> tuple[float, float]:
    """The estimator is around 0 for what has nothing in common, also below."""
    known = [value for array in values for value in array[np.isfinite(array)]]
    return min(-0.03, 1.1 * min(known, default=0)), 1.03


def _notes(known: Sequence[Mapping]) -> list[str]:
    """The number of images, the layers that are numbered, and what has no value."""
    if not known:
        return []
    numbers = sorted({content["n_images"] for content in known})
    words = f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
    notes = [f"On {words} training images."]
    for names in dict.fromkeys(tuple(content["layers"]) for content in known):
        if _numbered(names):
            # A number stays in a line with its name.
            numbered = ", ".join(f"{n}\u00a0{name}" for n, name in enumerate(names, 1))
            notes.append(f"Layers: {numbered}.")
    if any(np.isnan(_matrix(content[key])).any() for content in known for key in MAPS):
        notes.append("Grey: not defined, as for features that are the same on all images.")
    return notes
