"""Report B's variances: a heat map of the pairs beside the bars of the classes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from collapseflow.images.datasets import read_info
from collapseflow.presentation.figures import appearance
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import read_csv

#: Of more classes than can be named so many have bars: those with the largest variances.
MOST_BARS = 40
#: Letters of a name, and where the panels are below each other.
LETTERS = 20
FEWER_LETTERS = 12


def plot_variance(material: Material, outputs: Outputs) -> None:
    """On the features: squared distances of class means, and traces of class covariances.

    One row a feature set, in the colour of its backbone; training images. The bars also show the
    test images. Distances and traces are in the units of the features, which differ from network
    to network: each row has scales of its own, from zero. Many classes are in an order in which
    similar ones, by the features of the first row, stand beside each other; of more than can be
    named (:data:`collapseflow.presentation.figures.appearance.MOST_NAMED`) the bars are of those
    with the largest variances on training images.
    """
    features, style = material.variance_features, material.style
    appearance.apply(style)
    class_names = read_info(material.variance_images).class_names
    (variance,) = material.variance
    table = read_csv(variance).astype({"class_a": int})
    table = table[table["space"] == "features"]
    n = len(class_names)
    many = n > appearance.FEW_CLASSES
    n_bars = n if n <= appearance.MOST_NAMED else MOST_BARS
    size = appearance.points(style, 2 if many else 0)
    # Room for the names of all classes, one below the other; the heat map has a third of the width.
    below, columns = appearance.grid(2, 2, style, 2.5)
    beside_heat = min(size, below * 0.31 * style["width"] * 72 / n)
    # Of the title of the heat map, beside which its scale stands.
    room = (0.4 if columns == 2 else 0.5) * style["width"]
    high = max((0.46 if columns == 2 else 0.75) * style["width"], n_bars * 1.3 * size / 72 + 1.4)
    letters = LETTERS if columns == 2 else FEWER_LETTERS
    colours = appearance.backbone_colours(material.backbone_names)
    figure, axes = plt.subplots(
        below * len(features),
        columns,
        figsize=(style["width"], below * high * len(features)),
        squeeze=False,
        gridspec_kw={"width_ratios": [1.15, 1][:columns]},
    )
    axes = axes.reshape(len(features), 2)
    matrices = {folder: _distances(table, folder, n) for folder in features}
    known = [matrix for matrix in matrices.values() if np.isfinite(matrix).any()]
    order = appearance.by_similarity(known[0]) if many and known else np.arange(n)
    short = appearance.shortened(class_names, letters)
    names = [short[label] for label in order]
    for (heat, bars), (folder, label) in zip(axes, features.items(), strict=True):
        chosen = table[table["features"] == folder]
        matrix = matrices[folder][np.ix_(order, order)]
        if chosen.empty:
            heat.text(0.5, 0.5, "failed", ha="center", va="center", transform=heat.transAxes)
            heat.set_title(label)
            heat.set_axis_off()
            bars.set_axis_off()
            continue
        shown = appearance.heat_map(heat, matrix, cmap="viridis", vmin=0)
        heat.set_aspect("equal")
        if many:
            heat.set_xticks([])
            heat.set_xlabel("classes in the same order" if n_bars == n else "classes, not named")
        else:
            heat.set_xticks(range(n), names, **appearance.TURNED)
        if not many:
            heat.set_yticks(range(n), names, fontsize=size)
        elif n_bars == n and beside_heat >= style["smallest"]:
            heat.set_yticks(range(n), names, fontsize=beside_heat)
        else:
            heat.set_yticks([])
        heat.set_title(appearance.fitted(f"{label}: squared distance of class means", room, style))
        figure.colorbar(shown, ax=heat, shrink=0.6 if many else 0.9)
        # A folder begins with the backbone.
        colour = colours.get(folder.partition("/")[0], appearance.NEUTRAL)
        intra_class = chosen[chosen["quantity"] == "intra_class"]
        widest = order if n_bars == n else _widest(intra_class, n_bars)
        places = {label: place for place, label in enumerate(widest.tolist())}
        for offset, split, face in ((-0.2, "train", colour), (0.2, "test", "white")):
            intra = intra_class[intra_class["split"] == split]
            intra = intra[intra["class_a"].isin(places)]
            bars.barh(
                intra["class_a"].map(places) + offset,
                intra["value"],
                0.4,
                color=face,
                edgecolor=colour,
                linewidth=0.8,
            )
        bars.set_yticks(range(len(places)), [short[label] for label in places], fontsize=size)
        bars.invert_yaxis()
        words = "intra-class variance"
        words += f": the largest {n_bars} of {n:,}" if n_bars < n else ""
        bars.set_title(appearance.fitted(words, 0.8 * room, style))
        bars.set_xlabel("trace of the class covariance")
    handles = [
        Patch(facecolor=face, edgecolor=appearance.NEUTRAL, linewidth=0.8, label=f"{split} images")
        for split, face in (("training", appearance.NEUTRAL), ("test", "white"))
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
    words = "pairs: training images; each row in the units of its features"
    words += "; similar classes beside each other" if many else ""
    appearance.title(figure, f"{material.variance_heading}; {words}", style)
    appearance.save(figure, outputs)


def _widest(intra_class: pd.DataFrame, n: int) -> np.ndarray:
    """The labels of the ``n`` classes with the largest variances on training images, in order."""
    on_train = intra_class[intra_class["split"] == "train"].sort_values(
        "value", ascending=False, kind="stable"
    )
    return on_train["class_a"].to_numpy()[:n]


def _distances(table: pd.DataFrame, folder: str, n: int) -> np.ndarray:
    """Squared distances of the class means of a feature set (n, n), NaN where there are none."""
    pairs = table[
        (table["features"] == folder)
        & (table["quantity"] == "mean_distance")
        & (table["split"] == "train")
    ]
    matrix = np.full((n, n), np.nan)
    a, b = pairs["class_a"].to_numpy(), pairs["class_b"].astype(float).astype(int).to_numpy()
    matrix[a, b] = matrix[b, a] = pairs["value"]
    return matrix
