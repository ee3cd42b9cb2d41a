"""The page: findings, links, what it says of seeds, recipes and failures, what made the results."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest

from collapseflow.presentation.rows import IDENTITY
from collapseflow.presentation.summary import versions_behind, write_summary

OLD, NEW = "torch 1, scipy 1", "torch 2, scipy 1"


@pytest.fixture
def results(tmp_path):
    """A function that writes one result of each kind: data, t-SNE, classifiers, epochs."""

    def write(*lines):
        files = [tmp_path / name for name in ("a.h5", "b.npz", "c.json", "d")]
        info = {"class_names": "[]", "source": "", "sha256": "", "n_train": 1, "n_test": 1}
        with h5py.File(files[0], "w") as file:
            file["images"] = np.zeros((2, 8, 8), np.uint8)
            file.attrs.update(info | {"made_with": json.dumps(lines[0])})
        np.savez(files[1], made_with=np.array(lines[1]))
        cells = {"lda": {"made_with": lines[2]}, "rf": {"made_with": []}, "lr": {"failed": "lost"}}
        files[2].write_text(json.dumps(cells))
        # A folder of epochs, with what Snakemake leaves in it; and one result with parts.
        files[3].mkdir()
        np.savez(files[3] / "epoch001.npz", made_with=np.array(lines[3]))
        (files[3] / ".snakemake_timestamp").touch()
        files.append(tmp_path / "e.json")
        files[4].write_text(json.dumps({"train": {"two_nn": 3.0}, "made_with": lines[2]}))
        return files

    return write


def test_what_all_results_share_is_said_once(results):
    assert versions_behind(results([NEW], [NEW], [NEW], [NEW])) == [f"{NEW}."]


def test_what_differs_is_counted_with_all_that_stands_behind_a_result(results):
    lines = versions_behind(results([NEW], [OLD, NEW], [NEW], [OLD, NEW]))
    assert lines == [f"- 5 results: {NEW}.", f"- 2 results: {OLD}."]


FOUND = {"kind": "training", "text": "NC1 < 1.", "links": ["figures/probes.png"]}
LIMIT = {"kind": "limits", "text": "One seed.", "links": []}
FAILURE = {"dataset": "digits", "backbone": "net", "start": "random", "recipe": "plain", "seed": 1}


def shown(rule, heading, stem, *suffixes):
    return {"rule": rule, "heading": heading, "files": {end: f"{stem}.{end}" for end in suffixes}}


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        (["plot_samples", "plot_embedding", "plot_embedding", "plot_probes"], "3.png"),
        (["plot_samples", "plot_embedding", "plot_embedding"], "1.png"),
        (["tabulate_runtime", "plot_samples"], "1.png"),
    ],
)
def test_the_page_shows_the_figure_that_says_most(tmp_path, results, rules, path):
    data, *_ = results([NEW], [NEW], [NEW], [NEW])
    columns = [*IDENTITY, "epoch", "layer", "what", "reason"]
    pd.DataFrame(columns=columns).to_csv(tmp_path / "failures.csv", index=False)
    (tmp_path / "findings.json").write_text("[]")
    study = {"study": "toy", "seeds": [], "precision": "auto", "recipes": {}}
    study |= {"precision_of_reading": "tf32"}
    contents = [shown(rule, f"H{n}", str(n), "png", "md") for n, rule in enumerate(rules)]
    files = tmp_path / "failures.csv", tmp_path / "findings.json"
    write_summary(study, {"a": data}, *files, contents, [data], tmp_path / "summary.md")
    assert f"![H{path[0]}]({path})" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("failed", [[], [{**FAILURE, "what": "Digits, Net", "reason": "lost"}]])
def test_the_page_says_seeds_recipes_and_what_failed(tmp_path, results, failed):
    data, *_ = results([NEW], [NEW], [NEW], [NEW])
    table = pd.DataFrame(failed, columns=[*IDENTITY, "epoch", "layer", "what", "reason"])
    table.to_csv(tmp_path / "failures.csv", index=False)
    findings = tmp_path / "findings.json"
    findings.write_text(json.dumps([FOUND, LIMIT]))
    study = {
        "study": "toy",
        "seeds": [0, 2],
        "precision": "float32",
        "precision_of_reading": "float32",
        "recipes": {
            "decay": {"epochs": 20, "weight_decay": 0.0005, "steps": [0.25, 0.5]},
            "plain": {},
        },
    }
    contents = [
        shown("plot_collapse", "Collapse", "figures/a/collapse", "pdf", "png", "txt"),
        shown("plot_probes", "Collapse and probes", "figures/probes", "pdf", "png"),
        shown("tabulate_collapse", "Collapse", "tables/collapse", "csv", "md", "tex"),
    ]
    page, failures = tmp_path / "summary.md", tmp_path / "failures.csv"
    write_summary(study, {"Digits": data}, failures, findings, contents, [data], page)
    lines = page.read_text().splitlines()
    assert lines[0] == "# Study `toy`"
    assert lines[4:7] == [
        "- NC1 &lt; 1. ([probes](figures/probes.png))",
        "",
        "![Collapse and probes](figures/probes.png)",
    ]
    assert lines[8:11] == ["## Limits", "", "- One seed."]
    assert "Seeds 0, 2. Networks are trained in float32; features are read in float32." in lines
    assert "- Recipe `decay`: epochs 20, weight decay 0.0005, steps 0.25 and 0.5." in lines
    assert "- Recipe `plain`: the defaults." in lines
    assert ("- Digits, Net, seed 1: lost" in lines) == bool(failed)
    assert ("## What failed" in lines) == bool(failed)
    (line,) = [line for line in lines if line.startswith("- Collapse:")]
    assert line == (
        "- Collapse: [a/collapse](figures/a/collapse.png) ([PDF](figures/a/collapse.pdf)), "
        "[collapse](tables/collapse.md) ([CSV](tables/collapse.csv), [TeX](tables/collapse.tex))"
    )
    assert f"{NEW}." in lines


def test_names_on_the_page_are_text(tmp_path, results):
    data, *_ = results([NEW], [NEW], [NEW], [NEW])
    with h5py.File(data, "a") as file:
        file.attrs["source"] = "/a/*b*"
    failed = [{**FAILURE, "what": "a|b", "reason": "<b>lost</b>"}]
    table = pd.DataFrame(failed, columns=[*IDENTITY, "epoch", "layer", "what", "reason"])
    table.to_csv(tmp_path / "failures.csv", index=False)
    study = {"study": "toy", "seeds": [], "precision": "auto", "recipes": {}}
    study |= {"precision_of_reading": "tf32"}
    page = tmp_path / "summary.md"
    contents = [shown("plot_samples", "$x$", "figures/samples", "pdf", "png")]
    findings, failures = tmp_path / "findings.json", tmp_path / "failures.csv"
    findings.write_text("[]")
    write_summary(study, {"a|b": data}, failures, findings, contents, [data], page)
    text = page.read_text()
    # Where nothing is trained, the page says nothing of seeds and training.
    assert (
        "\nFeatures are read in TensorFloat-32, which rounds what is multiplied to 10 bits.\n"
        in text
    )
    # Nor of findings and limits that there are none of.
    assert "Nothing: no two feature sets" in text and "## Limits" not in text
    assert r"a\|b, seed 1: &lt;b&gt;lost&lt;/b&gt;" in text
    assert r"| a\|b" in text and r"/a/\*b\*" in text
    assert r"- \$x\$: [samples](figures/samples.png)" in text
