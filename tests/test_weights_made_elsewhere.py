"""A network that a plain PyTorch loop has trained, measured by a study: docs/my-weights.md."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from made_elsewhere import CLASSES, draw_shapes, examples, run_examples

from collapseflow.running.errors import UserError
from collapseflow.study.schema import load

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "my-weights.md"


def blocks(language):
    """The examples of the page in a language."""
    return examples(PAGE, language)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder in which the page's examples have run, the network and the rows of the study."""
    folder = tmp_path_factory.mktemp("mine")
    draw_shapes(folder / "shapes")
    names = run_examples(PAGE, folder)
    study = yaml.safe_load(blocks("yaml")[0])
    # What takes time and is not of this page.
    study |= {"threads": 1, "classifiers": {"ncm": {"estimator": "collapseflow.NearestClassMean"}}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    command += ["results/mine/measures.csv", "--cores", "2", "--directory", folder]
    command += ["--configfile", folder / "mine.yaml"]
    answer = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-5000:]
    rows = pd.read_csv(folder / "results" / "mine" / "measures.csv", keep_default_na=False)
    return folder, names, rows[rows["epoch"].astype(str) == "0"]


def values(rows, split, recipe):
    """The values of a split at epoch 0, of the start or of the run, by quantity."""
    chosen = rows[(rows["split"] == split) & (rows["recipe"] == recipe)]
    return dict(zip(chosen["quantity"], chosen["value"].astype(float), strict=True))


def seen(names, split):
    """Features and logits float64, and labels, of the loop's own network."""
    network, found = names["network"].module, []
    handle = network.fc.register_forward_pre_hook(lambda layer, inputs: found.append(inputs[0]))
    loader = torch.utils.data.DataLoader(names[split], 20)
    with torch.inference_mode():
        logits = torch.cat([network(images) for images, _ in loader]).double().numpy()
    handle.remove()
    labels = np.array([label for _, label in names[split].samples])
    return torch.cat(found).double().numpy(), logits, labels


def by_dense_formulas(names, split):
    """Accuracy, NC3 and NC4 as Papyan, Han and Donoho (2020) define them."""
    train, _, train_labels = seen(names, "train")
    features, logits, labels = seen(names, split)
    means = np.stack([features[labels == c].mean(0) for c in range(len(CLASSES))])
    centred = means - means.mean(0)
    weight = names["network"].module.fc.weight.detach().double().numpy()
    difference = weight / np.linalg.norm(weight) - centred / np.linalg.norm(centred)
    of_training = np.stack([train[train_labels == c].mean(0) for c in range(len(CLASSES))])
    distances = np.linalg.norm(features[:, None] - of_training, axis=2)
    return {
        "accuracy": (logits.argmax(1) == labels).mean(),
        "nc3": (difference**2).sum(),
        "nc4": (logits.argmax(1) == distances.argmin(1)).mean(),
    }


@pytest.mark.parametrize("recipe", ["", "finetuned"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_accuracy_nc3_and_nc4_of_a_network_trained_elsewhere_are_in_the_measures(
    measured, split, recipe, monkeypatch
):
    folder, names, rows = measured
    monkeypatch.chdir(folder)
    found, expected = values(rows, split, recipe), by_dense_formulas(names, split)
    for quantity, value in expected.items():
        assert found[quantity] == pytest.approx(value, rel=1e-5), quantity
    if split == "test":
        assert found["accuracy"] == names["right"] / len(names["test"])
        assert found["accuracy"] > 0.6


def test_the_job_says_how_the_file_was_taken(measured):
    folder, _, _ = measured
    log = folder / "results/mine/logs/extract/shapes/resnet18/file/epoch000.log"
    text = log.read_text()
    assert "mine.pth: the entry model, names without 'module.'" in text
    assert "mine.pth: its last layer tells the data set's classes" in text


def test_the_page_says_what_check_config_says(measured):
    folder, _, _ = measured
    answer = subprocess.run(
        [sys.executable, "-m", "collapseflow", "check-config", "mine.yaml"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert blocks("text")[0] in answer.stderr


def test_the_page_s_other_examples_are_right(measured, monkeypatch):
    folder, names, _ = measured
    plain = torch.load(folder / "plain.pth", weights_only=True)
    assert plain["class_names"] == CLASSES
    assert plain["model"].keys() == names["network"].state_dict().keys()
    monkeypatch.chdir(folder)
    study = yaml.safe_load(blocks("yaml")[0])
    told = {**study, **yaml.safe_load(blocks("yaml")[1])}
    assert load(told).backbones["resnet18"].classes_of_weights == "shapes"
    with pytest.raises(UserError, match="classes_of_weights: 'shapes' is no data set"):
        load({**told, "datasets": {"other": study["datasets"]["shapes"]}})
