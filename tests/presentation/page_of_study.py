"""A made-up study whose page tests look at: names that are no HTML, numbers known by hand."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
from made_up import describe_features, describe_run
from PIL import Image

from collapseflow.images.datasets import Splits, make_split, write_dataset
from collapseflow.measures.paired import pack
from collapseflow.measures.statistics import (
    reduce_stream,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.presentation.page.writing import Sources, write_page
from collapseflow.presentation.rows import COLUMNS
from collapseflow.presentation.tables.writing import write_table
from collapseflow.running.words import as_word

CLASSES = ["<script>boom()</script>", 'a "quote" & \u2028', "שלום"]
#: Images of each class in the training and in the test set.
N_TRAIN, N_TEST = 20, 12
EPOCHS = (0, 1, 4)
RAW = describe_features("raw", start="", layer="", label="raw pixels", epoch=None)
TUNED = describe_features(
    "resnet18/random/plain/epoch004/flatten",
    start="random",
    recipe="plain",
    epoch=4,
    seeds=[0, 1],
    label="ResNet18 <b>tuned</b>",
)
CLASSIFIERS = {"lda": "LDA", "rf": "random <i>forest</i>"}
#: By feature set: which test images a classifier has wrong.
WRONG = {"raw": {"lda": [0, 7, 30], "rf": [1]}, TUNED.features: {"lda": [5], "rf": []}}
#: Results of an earlier version, which do not say what the wrong images are taken for: of others
#: it is the class after their own.
OLD = "raw", "rf"
#: NC1 of two seeds after training: their geometric mean is 0.02, its factor exp(sqrt(2) ln 2).
NC1_AFTER = (0.04, 0.01)


def grey_of(split, row):
    """The grey of an image, by which it is known again."""
    return 10 + 3 * row if split == "train" else 12 + 6 * row


#: Whether images are files.
NAMED = False


def write_images(path):
    def of(split, n_of_class):
        n = len(CLASSES) * n_of_class
        images = np.zeros((n, 28, 28), np.uint8)
        images[:] = np.array([grey_of(split, row) for row in range(n)])[:, None, None]
        names = [f"{split}/{row} ü.jpg" for row in range(n)] if NAMED else None
        return make_split(images, np.arange(n) % len(CLASSES), 1000 + np.arange(n), names=names)

    write_dataset(path, Splits(of("train", N_TRAIN), of("test", N_TEST), CLASSES, "made up"))


def rows():
    found = []

    def add(quantity, value, split, epoch, layer="flatten", seed=0, low=None, high=None, **who):
        who = {"backbone": "resnet18", "start": "random", "recipe": "plain"} | who
        where = {"dataset": "digits", "seed": seed, "epoch": epoch, "layer": layer, "split": split}
        of_value = {"quantity": quantity, "value": value, "low": low, "high": high, "n": 36}
        found.append({**who, **where, **of_value})

    for seed in (0, 1):
        for epoch in EPOCHS:
            for split in ("train", "test", "train_matched"):
                after = NC1_AFTER[seed] if split == "test" else 0.01
                add("nc1", 2.0 if epoch == 0 else after, split, epoch, seed=seed)
                add("nc1", 8.0, split, epoch, "conv", seed)
                nearest = 0.5 if epoch == 0 else 0.9 + 0.02 * seed
                add("accuracy_nearest_mean", nearest, split, epoch, seed=seed)
                if epoch:
                    add("accuracy", 0.75 + 0.1 * seed, split, epoch, "", seed)
    none = {"backbone": "raw", "start": "", "recipe": "", "seed": None, "layer": ""}
    for name, wrong in WRONG["raw"].items():
        share = 1 - len(wrong) / 36
        add(f"accuracy_{name}", share, "test", None, low=share - 0.1, high=share + 0.02, **none)
    for name, wrong in WRONG[TUNED.features].items():
        for seed in (0, 1):
            add(f"accuracy_{name}", 1 - len(wrong) / 36, "test", 4, seed=seed)
    table = pd.DataFrame(found, columns=COLUMNS)
    return table.astype({"seed": "Int64", "epoch": "Int64"})


def swept():
    """Runs of two swept keys, and their rows: the accuracy on test images after the last epoch is
    that of the weight decay plus a tenth of the batch size, in percent; one run has not got there.
    """
    settings = [{"weight_decay": d, "batch_size": b} for d in (0.1, 0.0) for b in (64, 8)]
    runs = [describe_run(setting=setting, layers=["conv", "flatten"]) for setting in settings]
    found = []
    for run in runs:
        share = run.setting["weight_decay"] + run.setting["batch_size"] / 1000
        lost = run.setting == {"weight_decay": 0.0, "batch_size": 8}
        row = {**rows().iloc[0].to_dict(), "recipe": run.recipe, "split": "test", **run.setting}
        row = {**row, "weight_decay": as_word(run.setting["weight_decay"])}
        for epoch in (1,) if lost else (1, 4):
            of_epoch = {**row, "epoch": epoch}
            found.append(
                {**of_epoch, "layer": "", "quantity": "accuracy", "value": share * epoch / 4}
            )
            found.append({**of_epoch, "value": 10 * share, "quantity": "nc1"})
            found.append({**of_epoch, "value": 99.0, "quantity": "nc1", "layer": "conv"})
    return runs, pd.DataFrame(found).astype({"seed": "Int64", "epoch": "Int64"})


def long_rows(epochs, layers):
    """NC1 of 1 / (1 + epoch) of the test images, at each layer."""
    found = rows().iloc[:1]
    found = pd.concat(
        [
            found.assign(epoch=epoch, layer=layer, split="test", value=1 / (1 + epoch))
            for epoch in epochs
            for layer in layers
        ]
    )
    return found.astype({"seed": "Int64", "epoch": "Int64"})


def write_maps(folder, classes=None):
    """Two maps: all images on a line by their row, and the same the other way round."""
    n_train, n_test = (len(CLASSES) * n for n in (N_TRAIN, N_TEST))
    x = np.concatenate([np.arange(n_train), np.arange(n_test) * 1.6])
    labels = np.concatenate([np.arange(n) % (classes or len(CLASSES)) for n in (n_train, n_test)])
    split = np.repeat([0, 1], [n_train, n_test])
    paths = []
    for name, sign in (("raw", 1), ("tuned", -1)):
        paths.append(folder / f"{name}.npz")
        np.savez(
            paths[-1],
            coordinates=np.column_stack([sign * x, 30 * split]).astype(np.float32),
            labels=labels,
            splits=["train", "test"],
            split=split,
            perplexity=12.0,
            recall=0.5,
            made_with=["torch 1"],
        )
    return paths


def write_classification(folder):
    paths = []
    for name, features in (("raw", "raw"), ("tuned0", TUNED.features), ("tuned1", TUNED.features)):
        content = {}
        for classifier, wrong in WRONG[features].items():
            right = np.ones(len(CLASSES) * N_TEST, bool)
            right[wrong] = False
            cell = {"correct": pack(right), "n_test": len(right), "made_with": ["torch 1"]}
            if (features, classifier) != OLD:
                cell["mistaken_for"] = [(row + 1) % len(CLASSES) for row in wrong]
            content[classifier] = cell
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(content))
    return paths


def features_of(epoch, split, n_classes):
    """Class means that move apart, with noise: features, labels."""
    rng = np.random.default_rng([epoch, split])
    labels = np.repeat(np.arange(n_classes), 12)
    means = (1 + epoch) * np.eye(n_classes, n_classes + 2)
    means[:, -1] = np.arange(n_classes)
    return means[labels] + 0.3 * rng.normal(size=(len(labels), n_classes + 2)), labels


def write_states(folder):
    """The statistics of the epochs of a run; epoch 2 has failed."""
    states = []
    for epoch in (0, 1, 2, 4):
        states.append((epoch, folder / f"state{epoch}.npz"))
        if epoch == 2:
            write_failed_statistics(states[-1][1], "lost")
            continue
        found, means = {}, None
        for number, split in enumerate(("train_matched", "test")):
            blocks = [(*features_of(epoch, number, len(CLASSES)), None)]
            found[split], means = reduce_stream(lambda _, b=blocks: iter(b), 1, means, None)
        write_statistics(states[-1][1], {"flatten": found}, [])
    told = {"dataset": "digits", "heading": "Digits <i>run</i>", "layer": "flatten"}
    return [{**told, "states": states}]


def write_tables(folder):
    (folder / "tables").mkdir()
    (folder / "figures").mkdir()
    Image.new("RGB", (60, 40), "#0077bb").save(folder / "figures" / "probes.png")
    side = {"backbone_a": "raw", "start_a": "", "recipe_a": "", "epoch_a": None, "layer_a": ""}
    other = {"backbone_b": "resnet18", "start_b": "random", "recipe_b": "plain", "epoch_b": 4}
    difference = {"difference": 0.0556, "low": -0.01, "high": 0.12, "larger_than_chance": False}
    pair = {"dataset": "digits", **side, **other, "layer_b": "flatten"}
    tidy = pd.DataFrame([{**pair, "classifier": "lda", **difference}])
    outputs = {end: folder / "tables" / f"comparison_digits.{end}" for end in ENDS}
    table = ["Digits", "LDA | *two*"], [["b − a", "≈ +5.6 [−1, +12]"], ["c − a", "+7 [2, 9]"]]
    write_table(outputs, tidy.astype({"epoch_b": "Int64"}), *table, ["A note: 1 < 2 & [x](y)."])
    return [outputs["csv"]]


def contents():
    shared = {"rule": "plot_probes", "dataset": "", "caption": "Collapse ``and`` <probes>."}
    shared |= {"heading": "Collapse and probes", "category": "Neural collapse", "label": "probes"}
    table = {"rule": "tabulate_comparison", "dataset": "digits", "caption": "Which differ."}
    table |= {"heading": "Digits: which differ", "category": "Classification", "label": "pairs"}
    return [
        {**table, "files": {end: f"tables/comparison_digits.{end}" for end in ENDS}},
        {**shared, "files": {end: f"figures/probes.{end}" for end in ("pdf", "png")}},
        # Of a category that the page has not heard of.
        {**shared, "heading": "Something new", "category": "New", "files": {"png": PROBES}},
    ]


PROBES = "figures/probes.png"
ENDS = ("csv", "md", "tex", "json")


def with_a_failed_run(folder):
    """What :func:`write` is told of a second network, which was lost in its second epoch."""
    runs = [describe_run(seed=seed, layers=["conv", "flatten"]) for seed in (0, 1)]
    lost = [describe_run(backbone="vgg11", seed=seed) for seed in (0, 1)]
    what = {"dataset": "digits", "backbone": "vgg11", "start": "random", "recipe": "plain"}
    what |= {"epoch": 2, "layer": "", "what": "VGG11 on Digits", "reason": "the loss is <nan>"}
    pd.DataFrame([{**what, "seed": run.seed} for run in lost]).to_csv(folder / "lost.csv")
    return {"runs": [*runs, *lost], "failures": folder / "lost.csv"}


def without_a_network():
    """What :func:`write` is told of a study of pixels alone."""
    study = {"study": "pixels", "seeds": [], "recipes": {}}
    study |= dict.fromkeys(("precision", "precision_of_reading"), "float32")
    return {"runs": [], "geometry": [], "study": study}


def with_a_smaller_data_set(folder, monkeypatch):
    """What :func:`write` is told of a second data set, of two classes."""
    (folder / "more").mkdir()
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "CLASSES", ["one", "two"])
        patch.setitem(globals(), "WRONG", {"raw": {"lda": [3]}, TUNED.features: {"lda": []}})
        write_images(folder / "more" / "images.h5")
        maps = write_maps(folder / "more")
        classification = write_classification(folder / "more")
    write_images(folder / "images.h5")
    return {
        "columns": [RAW, TUNED, *(replace(one, dataset="more") for one in (RAW, TUNED))],
        "embeddings": [*write_maps(folder), *maps],
        "classification": [*write_classification(folder), *classification],
        "images": [folder / "images.h5", folder / "more" / "images.h5"],
        "datasets": {"digits": "Digits", "more": "More"},
    }


def write(folder, measures=None, **changes):
    """Write the study and its page below a folder; give the page."""
    write_images(folder / "images.h5")
    measures = rows() if measures is None else measures
    measures.to_csv(folder / "measures.csv", index=False)
    columns = ["dataset", "backbone", "start", "recipe", "seed", "epoch", "layer", "what", "reason"]
    pd.DataFrame(columns=columns).to_csv(folder / "failures.csv", index=False)
    findings = [
        {
            "kind": "features",
            "text": "Networks are better <than> pixels.",
            "short": "",
            "verdict": "found",
            "links": ["tables/comparison_digits.md"],
        },
        {"kind": "limits", "text": "Two seeds.", "short": "", "verdict": "cannot be told"}
        | {"links": []},
    ]
    (folder / "findings.json").write_text(json.dumps(findings))
    classification = write_classification(folder)
    runs = [describe_run(seed=seed, layers=["conv", "flatten"]) for seed in (0, 1)]
    sources = {
        "measures": folder / "measures.csv",
        "failures": folder / "failures.csv",
        "findings": folder / "findings.json",
        "images": [folder / "images.h5"],
        "tables": [*write_tables(folder), folder / "measures.csv"],
        "results": classification,
        "classification": classification,
        "embeddings": write_maps(folder),
        "contents": contents(),
        "geometry": write_states(folder),
        "study": {
            "study": "toy & co",
            "seeds": [0, 1],
            "precision": "float32",
            "precision_of_reading": "float32",
            "recipes": {"plain": {"epochs": 4}},
        },
        "runs": runs,
        "columns": [RAW, TUNED],
        "datasets": {"digits": "Digits"},
        "backbones": {"resnet18": "ResNet18", "vgg11": "VGG11"},
        "classifiers": CLASSIFIERS,
        "seed": 0,
        "command": "snakemake --cores all",
    }
    write_page(Sources(**sources | changes), folder / "report.html")
    return folder / "report.html"
