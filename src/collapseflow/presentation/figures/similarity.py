"""How similar the layers of a network are: to each other, before and after training, over seeds."""

import math
import textwrap
from collections.abc import Mapping, Sequence
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
    "first": ("before", "before", "before"),
    "last": ("after", "after", "after"),
    "first_last": ("before and after", "before", "after"),
}
COLOURS = "viridis"
SCALE = Normalize(0, 1)
#: Lines over layers.
LINES = {
    "trained": {"color": look.LINES[0], "linestyle": "-", "marker": "o"},
    "seeds": {"color": look.LINES[1], "linestyle": (0, (3, 1.5)), "marker": "s"},
}
WORDS = {
    "trained": "a layer before and after training",
    "seeds": "a layer after training, in two seeds (mean over pairs)",
}
#: More layers than these, or longer names, are numbered at the axes.
MOST_NAMED = 6
LONGEST_NAME = 8
#: Numbers that have room at an axis.
MOST_NUMBERS = 6


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
    seeds). Series that are read at one layer share a panel with these two numbers. What has no
    value, as the similarity of constant features, is grey. A series that failed is named below.

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
    single = [(label, content) for label, content in known if len(content["layers"]) == 1]
    n_rows = max(1, len(layered) + bool(single))
    figure = plt.figure(figsize=(style["width"], 0.31 * n_rows * style["width"]))
    grid = figure.add_gridspec(n_rows, 4, width_ratios=(1, 1, 1, 1.5))
    maps = []
    for number, (label, content) in enumerate(layered):
        row = [figure.add_subplot(grid[number, column]) for column in range(4)]
        _draw_maps(row[:3], content)
        _draw_lines(row[3], _ticks(content["layers"]), _lines(content))
        row[3].set(xlabel="layer", ylabel="CKA")
        _write_over(row[0], label, style)
        maps += row[:3]
    if single or not layered:
        axis = figure.add_subplot(grid[-1, :])
        values = [_lines(content) for _, content in single]
        lines = {kind: np.array([of_one[kind][0] for of_one in values]) for kind in LINES}
        names = [textwrap.fill(label, 18) for label, _ in single]
        _draw_lines(axis, names, lines, joined=False)
        axis.set(ylabel="CKA", xlim=(-0.5, max(len(single), 1) - 0.5))
    if maps:
        bar = figure.colorbar(
            ScalarMappable(SCALE, COLOURS),
            ax=maps,
            location="bottom",
            aspect=40,
            fraction=0.04,
            pad=0.02,
        )
        bar.set_label("linear CKA (unbiased), first seed")
    figure.suptitle(heading)
    seeded = any(len(content["seeds"]) > 1 for _, content in known)
    shown = {kind: WORDS[kind] for kind in WORDS if kind == "trained" or seeded}
    notes = [*_notes(known), *_failed(contents)]
    curves.finish(figure, [curves.keys(shown, LINES)], notes, style, paths)


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


def _draw_maps(axes: Sequence[Axes], content: Mapping) -> None:
    ticks = _ticks(content["layers"])
    places = [place for place, tick in enumerate(ticks) if tick]
    shown = [tick for tick in ticks if tick]
    turned = {} if _numbered(content["layers"]) else {"rotation": 90}
    for axis, (key, (title, rows, columns)) in zip(axes, MAPS.items(), strict=True):
        axis.imshow(_matrix(content[key]), cmap=COLOURS, norm=SCALE)
        axis.set_facecolor("#cccccc")
        # The words on the row stand above, in a line that is kept free for them.
        axis.set_title(f"\n{title}")
        axis.set_xticks(places, shown, **turned)
        axis.set_yticks(places, shown if axis is axes[0] else [])
        axis.tick_params(length=2, pad=1.5)
        axis.set(xlabel=columns, ylabel=rows)


def _draw_lines(
    axis: Axes, ticks: Sequence[str], lines: Mapping[str, np.ndarray], joined: bool = True
) -> None:
    for kind, values in lines.items():
        bare = {} if joined else {"linestyle": "", "markersize": 5}
        axis.plot(range(len(values)), values, **{**LINES[kind], **bare})
    places = [place for place, tick in enumerate(ticks) if tick]
    axis.set_xticks(places, [tick for tick in ticks if tick])
    # The estimator is around 0 for what has nothing in common, also below.
    low = min([0.0, *(float(np.nanmin(v)) for v in lines.values() if np.isfinite(v).any())])
    axis.set_ylim(min(-0.03, 1.1 * low), 1.03)
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)


def _write_over(axis: Axes, words: str, style: Mapping) -> None:
    """Words on a row, as wide as they are, above the titles of its panels."""
    above = {"xytext": (0, 6 + 1.3 * style["font_size"]), "textcoords": "offset points"}
    text = axis.annotate(words, (0, 1), xycoords="axes fraction", fontweight="bold", **above)
    text.set_in_layout(False)


def _notes(known: Sequence[tuple[str, Mapping]]) -> list[str]:
    """The number of images, and the layers that are numbered."""
    if not known:
        return []
    numbers = sorted({content["n_images"] for _, content in known})
    words = f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
    notes = [f"On {words} training images."]
    for names in dict.fromkeys(tuple(content["layers"]) for _, content in known):
        if len(names) > 1 and _numbered(names):
            notes.append(f"Layers: {', '.join(f'{n} {name}' for n, name in enumerate(names, 1))}.")
    return notes


def _failed(contents: Sequence[tuple[str, Mapping]]) -> list[str]:
    failed = [(label, failure_of(content)) for label, content in contents]
    words = [f"Failed: {label}: {reason}" for label, reason in failed if reason is not None]
    more = len(words) - curves.MOST_FAILURES
    notes = words[: curves.MOST_FAILURES]
    return [*notes, f"and {more} more failed; see the summary"] if more > 0 else notes
