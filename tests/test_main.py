"""The commands for study files, layers and the comparison of studies."""

import importlib
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision import models

import collapseflow.running
from collapseflow.__main__ import main
from collapseflow.measures.statistics import (
    reduce_stores,
    write_failed_statistics,
    write_statistics,
)


def test_windows_is_refused_in_one_line_before_anything_else_is_imported(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match=r"^collapseflow runs on Linux .* WSL2[^\n]*$"):
        importlib.reload(collapseflow.running)


def test_a_study_file_that_is_right_is_told_in_one_line(tmp_path, capsys):
    path = tmp_path / "my.yaml"
    path.write_text("study: toy\ndatasets: {digits: {source: digits}}\n")
    assert main(["check-config", str(path)]) == 0
    assert capsys.readouterr().out == (
        f"{path}: all right; study toy, data sets digits, backbones none\n"
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (ImportError("libx.so: failed to map segment"), "libx.so: failed to map segment"),
    ],
)
def test_too_little_memory_is_told_in_one_line(tmp_path, capsys, monkeypatch, error, words):
    def read(path):
        raise error

    monkeypatch.setattr("collapseflow.study.file.read", read)
    assert main(["check-config", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{words}; allow this process more memory (ulimit -v)\n"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("colour: 1\n", "config key colour: is unknown; "),
        ("study: two\n", "PATH, line 3: the key study stands in line 1 already"),
        (
            "backbones: {vgg16: {image_size: 16, weights: [random]}}\n",
            "config key backbones.vgg16.image_size: 16 is refused by vgg16; allowed: 32 or more",
        ),
        (
            "backbones: {resnet18: {layers: [layer4, layer9], weights: [random]}}\n",
            "config key backbones.resnet18.layers: 'layer9' is no layer of resnet18; ",
        ),
        (
            "backbones: {resnet18: {weights: [random]}}\nrecipes: {mine: {trained: layer9}}\n",
            "config key recipes.mine.trained: 'layer9' is no layer of resnet18; ",
        ),
    ],
)
def test_a_study_file_that_is_wrong_is_told_in_one_line(tmp_path, capsys, more, line):
    path = tmp_path / "my.yaml"
    path.write_text(f"study: toy\ndatasets: {{digits: {{source: digits}}}}\n{more}")
    assert main(["check-config", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(line.replace("PATH", str(path)))
    assert out.count("\n") == 1 and not err


def test_layers_are_listed_with_the_shapes_that_hooks_see(capsys):
    assert main(["layers", "resnet18", "--image-size", "64"]) == 0
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    width = max(map(len, rows))
    network = models.resnet18().eval()
    seen = {}

    def remember(name):
        def hook(module, inputs, output):
            seen.setdefault(name, output.shape[1:])

        return hook

    for name, module in network.named_modules():
        if name and not list(module.children()):
            module.register_forward_hook(remember(name))
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 64))
    for name, shape in seen.items():
        assert rows[name] == f"{name:{width}}  {' x '.join(map(str, shape))}"
    assert rows["flatten"].split() == ["flatten", "512", "(default)"]
    assert list(rows)[-1] == "fc"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["resnet19"], "model: 'resnet19' is unknown; did you mean 'resnet18' or 'resnet"),
        (
            ["inception_v3", "--image-size", "32"],
            "image_size: 32 is refused by inception_v3; allowed: 75 or more",
        ),
    ],
)
def test_layers_of_what_cannot_be_are_one_line(capsys, words, line):
    assert main(["layers", *words]) == 1
    assert capsys.readouterr().out.startswith(line)


def test_layers_of_no_model_are_the_models(capsys):
    assert main(["layers"]) == 0
    assert {"alexnet", "resnet18", "vit_b_16"} <= set(capsys.readouterr().out.split())


def test_weights_that_a_job_would_refuse_are_refused_before_it(tmp_path, capsys):
    state = models.squeezenet1_1().state_dict()
    weights, path = tmp_path / "w.pth", tmp_path / "my.yaml"
    path.write_text(
        "study: toy\ndatasets: {digits: {source: digits}}\n"
        f"backbones: {{squeezenet1_1: {{image_size: 64, weights: [{weights}]}}}}\n"
    )
    torch.save(models.squeezenet1_0().state_dict(), weights)
    assert main(["check-config", str(path)]) == 1
    out = capsys.readouterr().out
    where = "config key backbones.squeezenet1_1.weights: "
    assert out.startswith(f"{where}{weights}: not the weights of squeezenet1_1: ")
    assert out.count("\n") == 1
    torch.save(state, weights)
    assert main(["check-config", str(path)]) == 0


COLUMNS = ["dataset", "backbone", "start", "recipe", "seed", "epoch", "layer", "split", "quantity"]
COLUMNS += ["value", "low", "high", "n"]


def write_study(folder, rows, **swept):
    """The measures.csv of a study from seed, epoch, quantity and value of its rows."""
    folder.mkdir(parents=True)
    table = pd.DataFrame(
        [
            ("digits", "net", "random", "plain", seed, epoch, "fc", "test", quantity, value)
            for seed, epoch, quantity, value in rows
        ],
        columns=COLUMNS[:-3],
    )
    table.reindex(columns=COLUMNS).assign(**swept).to_csv(folder / "measures.csv", index=False)
    return str(folder)


@pytest.fixture
def studies(tmp_path):
    """The folders of two studies: two seeds and two epochs, one seed and another last epoch."""
    one = [(s, e, "nc1", 1.0 + s + e) for s in (0, 1) for e in (0, 4)]
    one += [(0, 4, "accuracy", 0.96), (1, 4, "accuracy", 0.98)]
    two = [(0, 20, "nc1", 0.5), (0, 20, "accuracy_lr", 0.75)]
    return write_study(tmp_path / "one", one), write_study(tmp_path / "two", two)


def cells(text):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [rows[0], *rows[2:]]


def test_studies_are_compared_side_by_side(studies, capsys):
    assert main(["compare", *studies]) == 0
    text, _, note = capsys.readouterr().out.partition("\n\n")
    assert "(ddof = 1)" in note
    header, *rows = cells(text)
    who = ["data set", "backbone", "start", "recipe", "epoch", "layer", "split", "quantity"]
    assert header == [*who, "one", "two"]
    what = ["digits", "net", "random", "plain"]
    # Geometric mean of 5 and 6; mean and deviation of 96 and 98.
    assert rows == [
        [*what, "4 / 20", "fc", "test", "nc1", "5.48 ×÷ 1.14", "0.500"],
        [*what, "4", "fc", "test", "accuracy, %", "97.00 ± 1.41", ""],
        [*what, "20", "fc", "test", "accuracy_lr, %", "", "75.00"],
    ]


def test_the_rows_of_compared_studies_are_written_with_their_names(studies, tmp_path, capsys):
    swept = write_study(tmp_path / "deep" / "two", [(0, 4, "nc1", 1.0)], weight_decay=0.5)
    assert main(["compare", *studies, swept, "--csv", str(tmp_path / "all.csv")]) == 0
    header, *rows = cells(capsys.readouterr().out.partition("\n\n")[0])
    # Two folders have the same name.
    assert header[-3:] == [*studies, swept]
    assert [row[3] for row in rows] == ["plain"] * 3 + ["plain, weight decay 0.5"]
    table = pd.read_csv(tmp_path / "all.csv")
    assert table.columns.tolist() == ["study", *COLUMNS, "weight_decay"]
    assert table["study"].value_counts().to_dict() == dict(
        zip([*studies, swept], (6, 2, 1), strict=True)
    )
    assert table["weight_decay"].dropna().tolist() == [0.5]


def test_what_cannot_be_compared_is_told_in_one_line(studies, tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_text("dataset,backbone\ndigits,net\n")
    (tmp_path / "empty").mkdir()
    for place, line in (
        (tmp_path / "empty", f"{tmp_path}/empty/measures.csv: is missing; finish the study, or "),
        (tmp_path / "no.csv", f"{tmp_path}/no.csv: is missing; finish the study, or "),
        (other, f"{other}: has no column 'start'; name a measures.csv"),
        (studies[0], f"{studies[0]}/measures.csv: is named twice; name each study once"),
    ):
        assert main(["compare", studies[0], str(place)]) == 1
        out = capsys.readouterr().out
        assert out.startswith(line) and out.count("\n") == 1


@pytest.fixture
def state(make_store, tmp_path):
    """The statistics of two classes at (2, 0) and (-2, 0), at two layers; the test images are
    those of one class."""
    features = np.array([[1, 0], [3, 0], [-1, 1], [-3, -1]], np.float32)
    train = make_store(features, np.array([0, 0, 1, 1]), name="train.h5")
    test = make_store(features[:2], np.array([0, 0]), name="test.h5")
    statistics = reduce_stores({"train": train, "test": test})
    path = tmp_path / "state.npz"
    write_statistics(path, {"layer4": statistics, "flatten": {"train": statistics["train"]}}, [])
    return str(path)


def test_definitions_by_the_true_labels(make_store, tmp_path, capsys):
    # By the labels trained on the means are (0, 0.5) and (0, -0.5), truly (2, 0) and (-2, 0).
    features = np.array([[1, 0], [3, 0], [-1, 1], [-3, -1]], np.float32)
    noisy, true = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    store = make_store(features, noisy, true_labels=true)
    write_statistics(tmp_path / "s.npz", {"flatten": reduce_stores({"train": store})}, [])
    assert main(["definitions", str(tmp_path / "s.npz"), "--split", "train_true"]) == 0
    rows = cells(capsys.readouterr().out)[1:]
    # As of the same classes below.
    assert {row[3] for row in rows if row[:2] == ["nc1", "papyan2020"]} == {"0.1250"}


def test_definitions_stand_side_by_side(state, capsys):
    assert main(["definitions", state, "--layer", "flatten"]) == 0
    header, *rows = cells(capsys.readouterr().out)
    assert header == ["quantity", "preset", "definition", "value"]
    # Sigma_W = [[1, 1/2], [1/2, 1/2]], Sigma_B = [[4, 0], [0, 0]].
    nc1 = {row[1]: row[3] for row in rows if row[0] == "nc1"}
    assert nc1 == {
        "collapseflow": "0.1250",
        "papyan2020": "0.1250",
        "papyan_notebook": "0.2500",
        "report_a": "0.1250",
        "zhu2021": "0.1250",
        "dang2023": "0.1250",
        "he_su": "0.2500",
        "tirer": "0.3750",
    }
    # Variances 1 and 2, at a distance of 4.
    cdnv = {row[1]: row[2:] for row in rows if row[0] == "cdnv"}
    assert cdnv["galanti"] == ["as here", "0.09375"]
    assert cdnv["luthra_code"] == ["without the 1/2; ddof = 1", "0.3750"]
    assert main(["definitions", state, "--layer", "layer4", "--split", "train_matched"]) == 1
    assert "need at least two classes" in capsys.readouterr().out
    # There is no head.
    assert not any("head" in row[0] or row[0] in ("nc3", "nc4") for row in rows)


def test_what_has_no_definitions_is_told_in_one_line(state, tmp_path, capsys):
    failed, damaged = tmp_path / "failed.npz", tmp_path / "damaged.npz"
    write_failed_statistics(failed, "the loss is not finite")
    damaged.write_bytes(b"PK")
    for words, line in (
        ([state], "layer: name one; allowed: layer4, flatten"),
        (
            [state, "--layer", "flaten"],
            "layer: 'flaten' is unknown; did you mean 'flatten'? allowed: layer4, flatten",
        ),
        (
            [state, "--layer", "flatten", "--split", "test"],
            f"split: {state} has no 'test'; allowed: train",
        ),
        (
            [state, "--layer", "layer4", "--split", "test"],
            f"{state}: the measures of collapse need at least two classes",
        ),
        (
            [str(tmp_path / "measures.csv")],
            f"{tmp_path}/measures.csv: holds no statistics of features; allowed: a file results/",
        ),
        ([str(failed)], f"{failed}: holds no statistics: the loss is not finite"),
        ([str(damaged)], f"{damaged}: cannot be read ("),
    ):
        assert main(["definitions", *words]) == 1
        out = capsys.readouterr().out
        assert out.startswith(line) and out.count("\n") == 1


def test_features_without_layers_take_no_layer(make_store, tmp_path, capsys):
    features = np.array([[1, 0], [3, 0], [-1, 1], [-3, -1]], np.float32)
    statistics = reduce_stores({"train": make_store(features, np.array([0, 0, 1, 1]))})
    path = str(tmp_path / "raw.npz")
    write_statistics(path, {"": statistics}, [])
    assert main(["definitions", path]) == 0
    assert "| nc1" in capsys.readouterr().out
    assert main(["definitions", path, "--layer", "fc"]) == 1
    line = "layer: 'fc' is unknown; these features have no layers: leave it out\n"
    assert capsys.readouterr().out == line
