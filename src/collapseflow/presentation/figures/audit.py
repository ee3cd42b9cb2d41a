"""How many images the classes of a data set have, and its closest pairs of images."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from collapseflow.images.audit import CLOSEST
from collapseflow.images.datasets import SPLITS, open_hdf5, read_info
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.figures.images import show
from collapseflow.presentation.material import Material, Outputs
from collapseflow.running.files import read_json

#: The rows of pairs, by their kinds.
WORDS = {
    "across": "closest pairs of a test image (above) and a training image (below)",
    "train": "closest pairs of training images",
    "test": "closest pairs of test images",
}
#: Letters of the name of a class.
MOST_LETTERS = 10


def plot_audit(material: Material, outputs: Outputs) -> None:
    """Above the numbers of images of the classes in descending order; below the closest pairs.

    A row for each kind of pairs (:data:`collapseflow.images.audit.KINDS`), the closest at the left,
    with the correlation of the thumbnails, or whether the images are equal, and their classes.
    """
    style = material.style
    appearance.apply(style)
    found = read_json(material.audit)
    names = [
        name if name == str(number) else f"{number} {name}"
        for number, name in enumerate(
            appearance.shortened(read_info(material.images).class_names, MOST_LETTERS)
        )
    ]
    kinds = [kind for kind in WORDS if found["closest"][kind]]
    columns = min(CLOSEST, int(style["width"] / 0.8))
    side = style["width"] / columns
    height = 1.5 + len(kinds) * (2 * side + 0.85)
    figure = plt.figure(figsize=(style["width"], height))
    figure.get_layout_engine().set(h_pad=0.02, hspace=0)
    heights = [1.5, *[2 * side + 0.85] * len(kinds)]
    parts = figure.subfigures(1 + len(kinds), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_sizes(parts[0].subplots(), found["classes"])
    with open_hdf5(material.images) as file:
        for part, kind in zip(parts[1:], kinds, strict=True):
            part.suptitle(appearance.wrapped(WORDS[kind], style["width"], style))
            axes = part.subplots(2, columns, squeeze=False)
            for axis in axes.flat:
                axis.set_axis_off()
            for pair, (above, below) in zip(found["closest"][kind], axes.T, strict=False):
                for axis, row in zip((above, below), pair["rows"], strict=True):
                    show(axis, file["images"][row], material.ink)
                value = pair["correlation"]
                words = "equal" if value == 1 else f"{np.floor(10_000 * value) / 10_000:.4f}"
                classes = [names[label] for label in dict.fromkeys(pair["labels"])]
                above.set_title("\n".join([words, *classes]), fontsize=appearance.points(style, 2))
    appearance.title(figure, material.title, style)
    appearance.save(figure, outputs)


def _draw_sizes(axis: Axes, classes: dict[str, list[int]]) -> None:
    """The numbers of images of the classes, in descending order of the training images, and then
    of the test images."""
    order = np.lexsort([-np.array(classes[split]) for split in reversed(SPLITS)])
    for split in SPLITS:
        counts = np.array(classes[split])[order]
        marker = {"marker": "o", "markersize": 3} if len(order) <= appearance.MOST_NAMED else {}
        line = {"color": appearance.NEUTRAL, **curves.SPLITS[split], **marker}
        axis.plot(np.arange(1, len(order) + 1), counts, label=curves.SPLIT_WORDS[split], **line)
    axis.set(ylabel="images of a class", xlabel="classes, the largest first")
    axis.set(xlim=(0.5, len(order) + 0.5), ylim=(0, None))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)
