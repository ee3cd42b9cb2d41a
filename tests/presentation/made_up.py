"""Made-up results of studies: runs, their measures, classifiers on their features."""

from itertools import product

from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from collapseflow.presentation.material import DescribedFeatures, DescribedRun

DATASETS = {"mnist5k": "MNIST subset", "digits": "Digits 8×8", "fashion": "Fashion-MNIST"}
BACKBONES = {"resnet18": "ResNet18", "resnet34": "ResNet34", "vgg11": "VGG11"}
#: The measures of :func:`measured`.
MEASURED = ("nc1", "nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle")


def describe_run(dataset="digits", backbone="resnet18", seed=0, setting=None, **changes):
    """A run as the study describes it."""
    setting = setting or {}
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in setting.items())
    run = {
        "dataset": dataset,
        "backbone": backbone,
        "start": "random",
        "recipe": "decay" if setting else "plain",
        "setting": setting,
        "seed": seed,
        "label": ", ".join(filter(None, [BACKBONES.get(backbone, backbone), words])),
        "start_label": "random",
        "layers": ["flatten"],
        "last": 4,
    } | changes
    series = "/".join([backbone, run["start"], run["recipe"], words])
    return DescribedRun(**{"series": series, **run})


def describe_runs(
    datasets=("digits",), backbones=("resnet18",), seeds=(0,), settings=({},), **more
):
    """The runs of every combination."""
    of_all = product(datasets, backbones, settings, seeds)
    return [describe_run(d, b, seed, setting, **more) for d, b, setting, seed in of_all]


def measured(run, epochs, value, accuracy, n=None):
    """What measure_states gives of a run.

    ``value(run, epoch, layer, split, quantity)`` and ``accuracy(run, epoch, split)`` say the
    numbers; a text is the reason of a failure, None no accuracy.
    """
    n = n or {"train": 1000, "test": 400}
    content = []
    for epoch in epochs:
        layers = {}
        for layer, split in product(run.layers, ("train", "test")):
            values = {q: value(run, epoch, layer, split, q) for q in MEASURED}
            if isinstance(values["nc1"], str):
                values = {"failed": values["nc1"]}
            else:
                values |= {"rank": 9, "n_classes": 10, "n_samples": n[split], "n_features": 64}
                share = accuracy(run, epoch, split)
                values |= {} if share is None else {"accuracy": share}
            layers.setdefault(layer, {})[split] = values
        content.append({"epoch": epoch, "layers": layers})
    return content


def describe_features(features, seeds=(), epoch=0, **changes):
    """A column of an accuracy table as the study describes it."""
    described = {
        "features": features,
        "dataset": "digits",
        "backbone": features.split("/")[0],
        "start": "imagenet",
        "recipe": "",
        "epoch": epoch,
        "layer": "flatten",
        "label": features,
        "seeds": list(seeds),
    }
    return DescribedFeatures(**described | changes)


RAW = describe_features("raw", start="", layer="", label="raw pixels", epoch=None)


def cell(accuracy, **changes):
    """What a classifier on a feature set gives."""
    return {
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.01, accuracy + 0.02],
        "implementation": "collapseflow 1",
        "n_train": 12000,
        "n_test": 3000,
        "n_features": 512,
        "confusion": [[1, 1], [1, 1]],
        "fit_seconds": 1.5,
        "predict_seconds": 0.5,
        "iterations": 7,
        "converged": True,
        "made_with": ["torch 1"],
    } | changes


def heat_maps_of(axis):
    """The heat maps of a panel, which are no bitmaps; none of a colour bar."""
    assert not axis.images
    is_bar = getattr(axis, "_colorbar", None) is not None
    return [] if is_bar else [c for c in axis.collections if isinstance(c, QuadMesh)]


def words_of(figure):
    """The words of a figure's legend, and its title: the notes below."""
    legend = figure.legends[0]
    words = [text.get_text().strip() for text in legend.get_texts()]
    return [word for word in words if word], legend.get_title().get_text()


def glyphs_of(figure):
    """The legend's entries of a figure, with what a reader sees of each: kind, colours with their
    opacity, dashes, marker."""
    glyphs = []
    for legend in figure.legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if not text.get_text().strip():
                continue
            alpha = handle.get_alpha()
            if isinstance(handle, Patch):
                seen = ("patch", to_rgba(handle.get_facecolor()), handle.get_hatch())
            else:
                line, marker = handle.get_linestyle(), handle.get_marker()
                has_marker = marker not in ("", "None", None)
                seen = (
                    to_rgba(handle.get_color(), alpha),
                    None if line == "None" else str(handle._unscaled_dash_pattern),
                    marker if has_marker else None,
                    has_marker and handle.get_markersize(),
                    has_marker and to_rgba(handle.get_markerfacecolor(), alpha),
                )
            glyphs.append((text.get_text(), seen))
    return glyphs
