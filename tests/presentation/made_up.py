"""Made-up results of studies: runs, their measures, classifiers on their features."""

import json
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from collapseflow.images.datasets import Splits, make_split, write_dataset
from collapseflow.measures.statistics import reduce_stream, write_statistics
from collapseflow.presentation.material import DescribedFeatures, DescribedRun

DATASETS = {"mnist5k": "MNIST subset", "digits": "Digits 8×8", "fashion": "Fashion-MNIST"}
BACKBONES = {"resnet18": "ResNet18", "resnet34": "ResNet34", "vgg11": "VGG11"}
#: Figures show all that they have.
EVERYTHING = {"only_recipes": [], "only_splits": [], "only_measures": []}
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


def class_names_of(n_classes):
    """Names of many classes, some of them long."""
    return [f"class {c}" if c % 7 else f"a longer name of class {c}" for c in range(n_classes)]


def unequal_classes(folder, n_classes, shape=(8, 8), style=None, n_features=24, n_sets=3):
    """What the figures of one data set are made of: classes of unequal numbers of images, every
    tenth of them absent from the test images, on ``n_sets`` feature sets.

    Files are written into ``folder``; ``style`` is the study's.
    """
    rng = np.random.default_rng(0)
    names = class_names_of(n_classes)
    sizes = np.maximum(2, np.round(20 * 0.1 ** (np.arange(n_classes) / n_classes))).astype(int)
    labels = {"train": np.repeat(np.arange(n_classes), sizes)}
    tested = np.array([c for c in range(n_classes) if c % 10 or n_classes <= 2])
    labels["test"] = np.repeat(tested, np.maximum(2, sizes[tested] // 2))
    ground = rng.integers(0, 256, (n_classes, *shape), dtype=np.uint8)
    splits = [
        make_split(ground[of] // 2 + rng.integers(0, 128, (len(of), *shape), np.uint8), of)
        for of in labels.values()
    ]
    images = folder / "images.h5"
    write_dataset(images, Splits(*splits, names, "made up"))

    centres = 4 * rng.normal(size=(n_classes, n_features))
    n = {split: len(of) for split, of in labels.items()}
    embeddings, classification, states = [], [], []
    for number in range(n_sets):
        spread = 3.0 - number
        both = np.concatenate(list(labels.values()))
        embeddings.append(folder / f"embedding{number}.npz")
        np.savez(
            embeddings[-1],
            coordinates=4 * (centres[both, :2] + 0.2 * spread * rng.normal(size=(len(both), 2))),
            labels=both,
            split=np.repeat([0, 1], list(n.values())),
            splits=list(n),
            n_total=list(n.values()),
            perplexity=30.0,
            recall=0.5,
        )
        counts = np.zeros((n_classes, n_classes), int)
        wrong = rng.random(n["test"]) < 0.1 * spread
        taken = np.where(wrong, (labels["test"] + 1) % n_classes, labels["test"])
        np.add.at(counts, (labels["test"], taken), 1)
        right = ~wrong
        classification.append(folder / f"classification{number}.json")
        linear = cell(
            right.mean(),
            confusion=counts.tolist(),
            n_train=n["train"],
            n_test=n["test"],
            right=right.astype(int).tolist(),
        )
        classification[-1].write_text(json.dumps({"linear": linear}))
        features = {
            split: centres[of] + spread * rng.normal(size=(len(of), n_features))
            for split, of in labels.items()
        }
        head = (centres, np.zeros(n_classes)) if number else None
        train, means = _reduced(features["train"], labels["train"], None, head)
        test, _ = _reduced(features["test"], labels["test"], means, head)
        states.append((number, folder / f"state{number}.npz"))
        of_splits = {"train": train, "train_matched": train, "test": test}
        write_statistics(states[-1][1], {"flatten": of_splits}, [])
    columns = [describe_features(f"net{n}", label=f"ResNet18, ImageNet {n}") for n in range(n_sets)]
    return {
        "images": images,
        "variance_images": images,
        "embeddings": embeddings,
        "variance_embeddings": embeddings,
        "classification": classification,
        "states": states,
        "columns": columns,
        "column_labels": [one.label for one in columns],
        "variance_titles": [one.label for one in columns],
        "classifiers": {"linear": "linear probe"},
        "neighbours": {},
        "published_classifiers": {},
        "confused": "linear",
        "confused_label": "linear probe",
        "layer": "flatten",
        "title": "Made-up classes",
        "run_heading": "Made-up classes: ResNet18, ImageNet",
        "embedding_heading": "Made-up classes",
        "variance_heading": "Made-up classes",
        "variance": [_variances(folder, centres, labels)],
        "variance_features": {"net0": "ResNet18, ImageNet"},
        "backbone_names": ["net0"],
        "scattering": {"J": 1, "L": 2, "order": 1},
        "ink": False,
        "seed": 0,
        "style": style,
    }


def _reduced(features, labels, means, head):
    return reduce_stream(lambda _: iter([(features, labels, None)]), 1, means, head)


def _variances(folder, centres, labels):
    """The table of report B's variances, of as many classes."""
    classes = np.arange(len(centres))
    intra = [
        ("net0", split, "intra_class", c, None, 1 + c % 5)
        for split, of in labels.items()
        for c in np.unique(of)
    ]
    a, b = np.triu_indices(len(classes), 1)
    distances = np.sum((centres[a] - centres[b]) ** 2, axis=1)
    pairs = [
        ("net0", "train", "mean_distance", *pair)
        for pair in zip(a.tolist(), b.tolist(), distances.tolist(), strict=True)
    ]
    path = folder / "variance.csv"
    columns = ["features", "split", "quantity", "class_a", "class_b", "value"]
    table = pd.DataFrame(intra + pairs, columns=columns).assign(space="features")
    table.to_csv(path, index=False)
    return path


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
