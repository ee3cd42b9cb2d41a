"""Report B's variances: a heat map of the pairs beside the bars of the classes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from collapseflow.images.datasets import read_info
from collapseflow.presentation.figures import appearance
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import read_csv

#: Above this number of classes their names are smaller, and not below the heat map as well.
MOST_AT_FULL_SIZE = 20


def plot_variance(material: Material, outputs: Outputs) -> None:
    """On the features: squared distances of class means, and traces of class covariances.

    One row a feature set, in the colour of its backbone; training images. The bars also show the
    test images. Distances and traces are in the units of the features, which differ from network
    to network: each row has scales of its own, from zero. Many classes are in an order in which
    similar ones, by the features of the first row, stand beside each other.
    """
    features, style = material.variance_features, material.style
    appearance.apply(style)
    class_names = read_info(material.variance_images).class_names
    (variance,) = material.variance
    table = read_csv(variance).astype({"class_a": int})
    table = table[table["space"] == "features"]
    n = len(class_names)
    many = n > MOST_AT_FULL_SIZE
    size = appearance.points(style, 2 if many else 0)
    # Room for the names of all classes, one below the other; the heat map has a third of the width.
    below, columns = appearance.grid(2, 2, style, 2.5)
    beside_heat = min(size, below * 0.31 * style["width"] * 72 / n)
    # Of the title of the heat map, beside which its scale stands.
    room = (0.45 if columns == 2 else 0.6) * style["width"]
    high = max(0.46 * style["width"], n * 1.3 * size / 72 + 1.4)
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
    names = [class_names[label] for label in order]
    places = np.argsort(order)
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
            heat.set_xlabel("classes in the same order")
        else:
            heat.set_xticks(range(n), names, **appearance.TURNED)
        if not many:
            heat.set_yticks(range(n), names, fontsize=size)
        elif beside_heat >= style["smallest"]:
            heat.set_yticks(range(n), names, fontsize=beside_heat)
        else:
            heat.set_yticks([])
        heat.set_title(appearance.wrapped(f"{label}: squared distance of class means", room, style))
        figure.colorbar(shown, ax=heat, shrink=0.6 if many else 0.9)
        # A folder begins with the backbone.
        colour = colours.get(folder.partition("/")[0], appearance.NEUTRAL)
        for offset, split, face in ((-0.2, "train", colour), (0.2, "test", "white")):
            intra = chosen[(chosen["quantity"] == "intra_class") & (chosen["split"] == split)]
            bars.barh(
                places[intra["class_a"]] + offset,
                intra["value"],
                0.4,
                color=face,
                edgecolor=colour,
                linewidth=0.8,
            )
        bars.set_yticks(range(n), names, fontsize=size)
        bars.invert_yaxis()
        bars.set(title="intra-class variance", xlabel="trace of the class covariance")
    handles = [
        Patch(facecolor=face, edgecolor=appearance.NEUTRAL, linewidth=0.8, label=f"{split} images")
        for split, face in (("training", appearance.NEUTRAL), ("test", "white"))
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
    words = "pairs: training images; each row in the units of its features"
    words += "; similar classes beside each other" if many else ""
    appearance.title(figure, f"{material.variance_heading}; {words}", style)
    appearance.save(figure, outputs)


def _distances(table: pd.DataFrame, folder: str, n: int) -> np.ndarray:
    """Squared distances of the class means of a feature set (n, n), NaN where there are none."""
    pairs = table[
        (table["features"] == folder)
        & (table["quantity"] == "mean_distance")
        & (table["split"] == "train")
    ]
    matrix = np.full((n, n), np.nan)
    for row in pairs.itertuples():
        a, b = row.class_a, int(float(row.class_b))
        matrix[a, b] = matrix[b, a] = row.value
    return matrix
