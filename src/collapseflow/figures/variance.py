"""Report B's variances: a heat map of the pairs beside the bars of the classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from collapseflow.figures import style as look


def plot_variance(
    variance: str | Path,
    features: Mapping[str, str],
    class_names: Sequence[str],
    heading: str,
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """On the features: squared distances of class means, and traces of class covariances.

    One row a feature set; training images. The bars also show the test images.
    """
    look.apply(style)
    table = pd.read_csv(variance)
    table = table[table["space"] == "features"]
    n = len(class_names)
    figure, axes = plt.subplots(
        len(features),
        2,
        figsize=(style["width"], 0.46 * style["width"] * len(features)),
        squeeze=False,
        gridspec_kw={"width_ratios": [1.15, 1]},
    )
    for (heat, bars), (name, label) in zip(axes, features.items(), strict=True):
        chosen = table[table["features"] == name]
        pairs = chosen[(chosen["quantity"] == "mean_distance") & (chosen["split"] == "train")]
        matrix = np.full((n, n), np.nan)
        for row in pairs.itertuples():
            a, b = row.class_a, int(row.class_b)
            matrix[a, b] = matrix[b, a] = row.value
        shown = heat.imshow(matrix, cmap="viridis")
        heat.set_xticks(range(n), class_names, rotation=45, ha="right", rotation_mode="anchor")
        heat.set_yticks(range(n), class_names)
        heat.set_title(f"{label}: squared distance of class means")
        figure.colorbar(shown, ax=heat, shrink=0.9)
        for offset, split, colour in ((-0.2, "train", "#0077BB"), (0.2, "test", "#EE7733")):
            intra = chosen[(chosen["quantity"] == "intra_class") & (chosen["split"] == split)]
            bars.barh(intra["class_a"] + offset, intra["value"], 0.4, color=colour, label=split)
        bars.set_yticks(range(n), class_names)
        bars.invert_yaxis()
        bars.set(title="intra-class variance", xlabel="trace of the class covariance")
    axes[0, 1].legend(frameon=False)
    figure.suptitle(f"{heading}; pairs: training images")
    look.save(figure, paths)
