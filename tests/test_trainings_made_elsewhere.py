"""A training of a plain PyTorch loop beside one of a study's own: docs/my-training.md."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from made_elsewhere import CLASSES, draw_shapes, examples, run_examples

from collapseflow.features.stores import iterate, read_head
from collapseflow.measures import Collapse

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "my-training.md"


def measure(folder):
    """Run the study of the page; its rows and what Snakemake has said."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    command += ["results/mine/measures.csv", "results/mine/tables/training.csv", "--cores", "2"]
    command += ["--directory", folder, "--configfile", folder / "mine.yaml"]
    answer = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT
    )
    text = answer.stdout + answer.stderr
    assert answer.returncode == 0, text[-5000:]
    rows = pd.read_csv(folder / "results" / "mine" / "measures.csv", keep_default_na=False)
    return rows, text


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder in which the page's examples have run, and the rows of the study."""
    folder = tmp_path_factory.mktemp("mine")
    draw_shapes(folder / "shapes")
    names = run_examples(PAGE, folder)
    study = yaml.safe_load(examples(PAGE, "yaml")[0])
    # What takes time and is not of this page.
    study |= {"threads": 1, "features": []}
    (folder / "mine.yaml").write_text(yaml.safe_dump(study))
    return folder, names, measure(folder)[0]


def by_dense_formulas(folder, names, epoch):
    """Accuracy, NC1 and NC3 of a checkpoint on training images, as Papyan, Han and Donoho (2020)
    define them, at the input of the last layer."""
    network, found = names["network"], []
    path = folder / "run7" / f"epoch_{epoch}.ckpt"
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    network.eval()
    handle = network.fc.register_forward_pre_hook(lambda layer, inputs: found.append(inputs[0]))
    loader = torch.utils.data.DataLoader(names["train"], 20)
    with torch.inference_mode():
        logits = torch.cat([network(images) for images, _ in loader])
    handle.remove()
    labels = np.array([label for _, label in names["train"].samples])
    weight = network.fc.weight.detach().numpy()
    return dense(torch.cat(found).numpy(), labels, weight, logits.argmax(1).numpy())


def dense(features, labels, weight, predicted):
    """The same of vectors, in float64."""
    features, weight = features.astype(np.float64), weight.astype(np.float64)
    means = np.stack([features[labels == c].mean(0) for c in range(len(CLASSES))])
    centred = means - means.mean(0)
    within = features - means[labels]
    sigma_w = within.T @ within / len(labels)
    sigma_b = centred.T @ centred / len(CLASSES)
    difference = weight / np.linalg.norm(weight) - centred / np.linalg.norm(centred)
    return {
        "accuracy": (predicted == labels).mean(),
        "nc1": np.trace(sigma_w @ np.linalg.pinv(sigma_b, rcond=1e-10, hermitian=True))
        / len(CLASSES),
        "nc3": (difference**2).sum(),
    }


def values(rows, recipe, epoch):
    """The values on training images at the last layer's input, by quantity."""
    chosen = rows[(rows["recipe"] == recipe) & (rows["split"] == "train")]
    chosen = chosen[(chosen["epoch"] == epoch) & chosen["layer"].isin(["", "penultimate"])]
    return dict(zip(chosen["quantity"], chosen["value"].astype(float), strict=True))


def test_checkpoints_are_measured_as_epochs_beside_the_study_s_own(measured, monkeypatch):
    folder, names, rows = measured
    monkeypatch.chdir(folder)
    assert set(rows["recipe"]) == {"", "ours", "theirs"}
    assert set(rows[rows["recipe"] == "theirs"]["epoch"]) == {0, 1, 2, 3}
    assert set(rows[rows["recipe"] == "theirs"]["layer"]) == {"", "layer4", "penultimate"}
    for epoch in (1, 2, 3):
        found = values(rows, "theirs", epoch)
        for quantity, value in by_dense_formulas(folder, names, epoch).items():
            assert found[quantity] == pytest.approx(value, rel=1e-4), (epoch, quantity)
    assert values(rows, "ours", 2).keys() == values(rows, "theirs", 2).keys()


def test_its_log_stands_beside_the_study_s_own(measured):
    folder, _, _ = measured
    training = pd.read_csv(folder / "results/mine/tables/training.csv")
    assert {"loss", "gradient_norm"} < set(training[training["recipe"] == "ours"]["quantity"])
    theirs = training[training["recipe"] == "theirs"].set_index(["quantity", "epoch"])["value"]
    log = pd.read_csv(folder / "run7/log.csv").set_index("epoch")
    expected = {
        **{("loss", epoch): value for epoch, value in log["train_loss"].items()},
        **{("learning_rate", epoch): value for epoch, value in log["lr"].items()},
    }
    assert theirs.to_dict() == expected


def test_of_the_same_vectors_study_library_and_dense_formulas_agree_to_12_digits(measured):
    folder, _, rows = measured
    run = "results/mine/features/shapes/resnet18/random/theirs/s0"
    store = folder / run / "epoch003" / "penultimate" / "train.h5"
    [(features, labels, predicted)] = iterate(store)
    head = read_head(store)
    collapse = Collapse(n_classes=len(CLASSES), products="float64")
    collapse.update(features, labels, features @ head[0].T + head[1])
    by_library = collapse.compute(head=head)
    by_study = values(rows, "theirs", 3)
    for quantity, value in dense(features, labels, head[0], predicted).items():
        assert by_study[quantity] == pytest.approx(value, rel=1e-12, abs=0), quantity
        assert by_library[quantity] == pytest.approx(value, rel=1e-12, abs=0), quantity


def test_nothing_is_copied(measured):
    folder, _, _ = measured
    weights = folder / "results/mine/training/shapes/resnet18/random/theirs/s0/weights"
    for epoch in (1, 2, 3):
        link = weights / f"epoch{epoch:03}.ckpt"
        assert link.is_symlink() and link.resolve() == folder / "run7" / f"epoch_{epoch}.ckpt"


def test_a_checkpoint_that_appears_later_is_measured_and_the_others_are_not_again(measured):
    folder, _, before = measured
    kept = folder / "results/mine/progress/reduce_epochs/shapes/resnet18/random/theirs/s0"
    times = {path.name: path.stat().st_mtime_ns for path in kept.glob("epoch*.json")}
    # The last epoch of a run is reduced from the features that are kept of it.
    assert set(times) == {"epoch001.json", "epoch002.json"}
    shutil.copy(folder / "run7/epoch_2.ckpt", folder / "run7/epoch_4.ckpt")
    rows, said = measure(folder)
    assert "rule finetune" not in said and "rule prepare_dataset" not in said
    assert times == {name: (kept / name).stat().st_mtime_ns for name in times}
    assert values(rows, "theirs", 4) == pytest.approx(values(rows, "theirs", 2))
    assert values(rows, "theirs", 3) == values(before, "theirs", 3)
