"""The common appearance: legible in print, distinguishable for colour-blind readers."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from unicodedata import bidirectional

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

from collapseflow.presentation.material import Outputs
from collapseflow.running.files import atomic_path

#: Ten colours that stay apart under the common colour-vision deficiencies: Paul Tol's
#: "muted" scheme (personal.sron.nl/~pault) and black.
COLOURS = (
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#222222"),
)
#: Colours of backbones and runs, after Paul Tol's "vibrant" and "muted" schemes: as light as no
#: other, so that a print in grey tells them apart, too.
LINES = ("#0077BB", "#EE8844", "#009988", "#882255", "#66CCEE", "#332288", "#111111")
#: What is of no backbone: raw pixels, scattering, and the keys of legends.
NEUTRAL = "#777777"
#: Markers of data sets, of classes, and of runs where data sets have panels of their own.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: In inches: least width of a panel with what stands around it, of which so much is the words at
#: its axis; and least height of a row of curves.
NARROWEST = 1.3
BESIDE = 0.5
LOWEST = 1.7
#: Long names below an axis.
TURNED = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
#: Points per inch of what is a bitmap within a PDF or an SVG: clouds of points.
RASTER_DPI = 300
#: A heat map of more cells is a bitmap, too: as areas they would be tens of megabytes.
MOST_AREAS = 10_000
#: Up to so many classes each has a colour and marker of its own, and a name in legends: up to
#: :data:`FEW_NAMES` with more letters, so that of many two stand beside each other in a column.
MOST_NAMED = 60
FEW_NAMES = 10
LETTERS = 24
FEWER_LETTERS = 16
#: Marks without width, and a space at which no line ends.
LEFT_TO_RIGHT, NO_BREAK = "\N{LEFT-TO-RIGHT MARK}", "\N{NO-BREAK SPACE}"
#: Up to so many classes have room at the axes of heat maps, and large numbers in maps.
FEW_CLASSES = 20
#: How the files that are no bitmaps call the date that they do not have.
DATES = {"pdf": "CreationDate", "svg": "Date"}


def apply(style: Mapping) -> None:
    """Set matplotlib's defaults from the study's ``style``.

    Words are drawn as they are: names of classes and data sets may have any characters. A formula
    says ``parse_math=True`` where it is set.
    """
    size, small = points(style), points(style, 1)
    plt.rcParams.update(
        {
            "font.size": size,
            "figure.titlesize": 1.2 * size,
            "axes.titlesize": size,
            "axes.labelsize": size,
            "legend.fontsize": small,
            "xtick.labelsize": small,
            "ytick.labelsize": small,
            "figure.dpi": style["dpi"],
            "savefig.dpi": style["dpi"],
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "lines.linewidth": 1.2,
            "lines.markersize": 3.5,
            "pdf.fonttype": 42,  # text stays text in the PDF, and in the SVG
            "svg.fonttype": "none",
            "svg.hashsalt": "collapseflow",
            "text.parse_math": False,
            "figure.constrained_layout.use": True,
        }
    )


def points(style: Mapping, less: float = 0) -> float:
    """The size of words that are so many points smaller than others, but not below what the width
    of the figures asks for."""
    return max(style["font_size"] - less, style["smallest"])


def save(figure: Figure, outputs: Outputs) -> None:
    """Save as PDF, PNG and SVG, those of them that are wanted, atomically.

    PDF and SVG have their :func:`document_title`, and no date: the same study gives the same file.
    """
    for suffix in [suffix for suffix in ("pdf", "png", "svg") if suffix in outputs]:
        path = outputs[suffix]
        how = {}
        if suffix in DATES:
            words = {"Title": document_title(path), DATES[suffix]: None}
            how = {"dpi": RASTER_DPI, "metadata": words}
        with atomic_path(path) as temporary:
            figure.savefig(temporary, **how)
    plt.close(figure)


def document_title(path: str | Path) -> str:
    """What a figure is, from its place ``results/<study>/figures/<name>``: its name and the study;
    elsewhere the name of its file."""
    *folders, name = Path(path).with_suffix("").parts
    if "figures" not in folders[1:]:
        return name
    place = folders.index("figures", 1)
    return f"{'/'.join([*folders[place + 1 :], name])}, study {folders[place - 1]}"


def heat_map(axis: Axes, values: np.ndarray, **scale: object) -> QuadMesh:
    """Cells (rows, columns) as areas that stay sharp at any size, more than :data:`MOST_AREAS` as a
    bitmap; the first row at the top, with whole numbers in their middles; what is NaN shows the
    panel's ground."""
    rows, columns = (np.arange(n + 1) - 0.5 for n in np.shape(values))
    masked = np.ma.masked_invalid(values)
    is_bitmap = masked.size > MOST_AREAS
    cells = axis.pcolormesh(columns, rows, masked, edgecolors="none", rasterized=is_bitmap, **scale)
    axis.invert_yaxis()
    return cells


def write_in_cells(
    axis: Axes, cells: QuadMesh, words: Mapping[tuple[int, int], str], size: float
) -> None:
    """Words in cells (row, column) of a heat map: black on light colours, white on dark ones (by
    the luminance of ITU-R BT.709)."""
    luminance = cells.to_rgba(cells.get_array())[..., :3] @ (0.2126, 0.7152, 0.0722)
    for (row, column), word in words.items():
        colour = "black" if luminance[row, column] > 0.45 else "white"
        axis.text(column, row, word, ha="center", va="center", fontsize=size, color=colour)


def class_appearances(n_classes: int, order: np.ndarray | None = None) -> list[tuple[str, str]]:
    """Colour and marker of each class: ten colours, then the same ones with the next marker.

    More than :data:`MOST_NAMED` are told apart by nothing: they get colours of a perceptual map,
    from the first to the last of ``order``, int (C,), or of their labels.
    """
    if n_classes <= MOST_NAMED:
        return [(COLOURS[c % len(COLOURS)], MARKERS[c // len(COLOURS)]) for c in range(n_classes)]
    sampled = matplotlib.colormaps["viridis"](np.linspace(0, 1, n_classes))
    if order is not None:
        sampled = sampled[np.argsort(order)]
    return [(matplotlib.colors.to_hex(colour), MARKERS[0]) for colour in sampled]


def backbone_colours(backbones: Sequence[str]) -> dict[str, str]:
    """A colour for each backbone of a study, the same in all its figures.

    More backbones than :data:`LINES` take theirs from a perceptual map, so that none comes twice.
    """
    colours = LINES
    if len(backbones) > len(LINES):
        # Not up to its end: yellow lines are hard to see on white.
        sampled = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(backbones)))
        colours = tuple(map(matplotlib.colors.to_hex, sampled))
    return dict(zip(backbones, colours, strict=False))


def line_colours(owners: Mapping[str, str], backbones: Sequence[str]) -> dict[str, str]:
    """A colour for each line, the same in all figures that show the same lines.

    Where each backbone has one line it is the backbone's colour, else every line has its own.

    Parameters
    ----------
    owners
        The backbone of each line.
    backbones
        All backbones of the study.
    """
    if len(set(owners.values())) < len(owners):
        return backbone_colours(list(owners))
    colours = backbone_colours(backbones)
    return {line: colours[backbone] for line, backbone in owners.items()}


def dataset_markers(datasets: Sequence[str]) -> dict[str, str | Outline]:
    """A marker for each data set of a study, the same in all its figures.

    Beyond the last of :data:`MARKERS` a data set is marked by its number: none comes twice.
    """
    return {
        dataset: MARKERS[position] if position < len(MARKERS) else _digits(position + 1)
        for position, dataset in enumerate(datasets)
    }


@cache
def _digits(number: int) -> Outline:
    """A number as a marker."""
    outline = TextPath((0, 0), str(number))
    box = outline.get_extents()
    middle = (box.min + box.max) / 2
    return Outline(outline.vertices - middle, outline.codes)


def shortened(names: Sequence[str], letters: int) -> list[str]:
    """Names, of which those longer than so many letters are cut, with an ellipsis at the end; in
    the middle where several names begin alike. One that is written from right to left stays in a
    line, between marks, so that it does not turn the words around it."""
    head, tail = letters // 2, letters - letters // 2 - 1
    cut = [n if len(n) <= letters else f"{n[: letters - 1].rstrip()}…" for n in names]
    often = Counter(cut)
    return [
        _in_line(
            short
            if often[short] == 1 or len(name) <= letters
            else f"{name[:head].rstrip()}…{name[-tail:].lstrip()}"
        )
        for name, short in zip(names, cut, strict=True)
    ]


def _in_line(name: str) -> str:
    if not any(bidirectional(letter) in ("R", "AL") for letter in name):
        return name
    return f"{LEFT_TO_RIGHT}{name.replace(' ', NO_BREAK)}{LEFT_TO_RIGHT}"


def numbered_names(names: Sequence[str], n: int) -> list[str]:
    """Names of classes with their numbers, unless they are these, for a legend that has ``n`` of
    them: shortened."""
    letters = LETTERS if n <= FEW_NAMES else FEWER_LETTERS
    return [
        name if name == str(number) else f"{number}  {name}"
        for number, name in enumerate(shortened(names, letters))
    ]


def wrapped(words: str, inches: float, style: Mapping) -> str:
    """Words in as many lines as so much room asks for."""
    # A letter is hardly wider than 0.6 of the font's size.
    return textwrap.fill(words, max(8, int(inches * 72 / (0.6 * points(style)))))


def fitted(words: str, inches: float, style: Mapping) -> str:
    """Words as they are, or in lines where they are wider than so much room."""
    wide = TextPath((0, 0), words, size=points(style)).get_extents().width / 72
    return (
        words if wide <= inches else textwrap.fill(words, max(8, int(len(words) * inches / wide)))
    )


def panel_title(axis: Axes, words: str, columns: int, style: Mapping) -> None:
    """The title of one of so many panels beside each other."""
    axis.set_title(fitted(words, style["width"] / columns - BESIDE, style))


def title(figure: Figure, words: str, style: Mapping) -> None:
    """The title of a figure, in a font that is 1.2 times as large as the others."""
    figure.suptitle(wrapped(words, figure.get_size_inches()[0] / 1.2, style))


def row_titles(axes: Sequence[Axes], words: str, titles: Sequence[str], style: Mapping) -> None:
    """Words on a row of panels, as wide as they all are, above the titles of the panels."""
    size = points(style)
    # Bold letters are a tenth wider, and begin at the panel, not at the words beside it.
    over = wrapped(words, (style["width"] - BESIDE) / 1.1, style)
    for axis, panel_title in zip(axes, titles, strict=True):
        # The words stand in lines that are kept free for them.
        axis.set_title("\n" * (over.count("\n") + 1) + panel_title, fontsize=size)
    above = {"xytext": (0, 6 + 1.15 * size), "textcoords": "offset points"}
    written = axes[0].annotate(
        over, (0, 1), xycoords="axes fraction", fontweight="bold", va="bottom", **above
    )
    written.set_in_layout(False)


def by_similarity(distances: np.ndarray) -> np.ndarray:
    """The order of classes in which similar ones stand beside each other.

    That of the leaves of average linkage, turned so that neighbours are as near as they can be
    (Bar-Joseph, Gifford and Jaakkola 2001).

    Parameters
    ----------
    distances
        (C, C); what is not known is NaN and counts as the largest that is.

    Returns
    -------
    int array (C,)
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = np.isfinite(distances)
    filled = np.where(known, distances, distances[known].max(initial=0))
    condensed = squareform((filled + filled.T) / 2, checks=False)
    return leaves_list(linkage(condensed, "average", optimal_ordering=True))


def grid(n: int, columns: int, style: Mapping, least: float = NARROWEST) -> tuple[int, int]:
    """Rows and columns for ``n`` panels: so many columns, or as many as have room in the figure,
    each at ``least`` so many inches wide."""
    columns = max(1, min(n, columns, int(style["width"] / least)))
    return -(-n // columns), columns
