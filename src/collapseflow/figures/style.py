"""The common look: legible in print, distinguishable for colour-blind readers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from collapseflow.files import atomic_path  # noqa: E402

#: Ten colours that stay apart under the common colour-vision deficiencies: Paul Tol's
#: "muted" scheme (personal.sron.nl/~pault) and black.
COLOURS = (
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#222222"),
)
#: Lines are told apart by colour and by marker.
LINES = ("#0077BB", "#EE7733", "#009988", "#CC3311", "#33BBEE", "#EE3377", "#BBBBBB", "#222222")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def apply(style: Mapping) -> None:
    """Set matplotlib's defaults from the study's ``style``."""
    size = style["font_size"]
    plt.rcParams.update(
        {
            "font.size": size,
            "axes.titlesize": size,
            "axes.labelsize": size,
            "legend.fontsize": size - 1,
            "xtick.labelsize": size - 1,
            "ytick.labelsize": size - 1,
            "figure.dpi": style["dpi"],
            "savefig.dpi": style["dpi"],
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "lines.linewidth": 1.2,
            "lines.markersize": 3.5,
            "pdf.fonttype": 42,  # text stays text in the PDF
            "figure.constrained_layout.use": True,
        }
    )


def save(figure: Figure, paths: Sequence[str | Path]) -> None:
    """Save under each path, in the format of its suffix, atomically."""
    for path in paths:
        with atomic_path(path) as temporary:
            # No date inside: the same study gives the same file.
            undated = {"CreationDate": None} if str(path).endswith(".pdf") else None
            figure.savefig(temporary, metadata=undated)
    plt.close(figure)


def class_colours(n_classes: int) -> list:
    """A colour for each class; beyond ten they come from a perceptual map."""
    if n_classes <= len(COLOURS):
        return list(COLOURS[:n_classes])
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 1, n_classes)))


def grid(n: int, columns: int) -> tuple[int, int]:
    """Rows and columns for ``n`` panels."""
    columns = min(n, columns)
    return -(-n // columns), columns
