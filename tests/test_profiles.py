"""The profiles without a cluster: what the paper study would ask for, and one machine's cards."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
#: Snakemake's dry run, with every job told as a line of JSON.
TELLING = """
import json, sys
from snakemake.cli import main
from snakemake.executors import dryrun

def tell(self, job):
    told = {k: v for k, v in job.resources.items() if isinstance(v, int | str)}
    told["local"] = job.rule.name in job.dag.workflow._localrules
    print(json.dumps({**told, "rule": job.rule.name, "threads": job.threads}))

dryrun.Executor.printjob = tell
main(sys.argv[1:])
"""
SITE = {"account": "thesis", "cpu_partition": "long", "gpu_partition": "cards", "gpu_model": "a100"}
#: Rules that are submitted: GPUs, threads, MB, minutes. Of 70,000 images, and networks whose
#: weights are not there yet.
SUBMITTED = {
    "extract_raw": (0, 1, 2000, 30),
    "extract_scattering": (1, 4, 4000, 120),
    "extract_network": (1, 4, 7310, 34),
    "finetune": (1, 4, 10310, 132),
    "reduce_epochs": (1, 4, 7310, 69),
    "reduce_features": (0, 8, 2000, 60),
    "classify": (0, 8, 12000, 720),
    "embed": (0, 8, 8000, 240),
    "spectrum": (0, 8, 4000, 120),
    "few_shot": (0, 8, 4000, 120),
}
LOCAL = {
    "tabulate_variance",
    "tabulate_comparison",
    "tabulate_flaws",
    "plot_probes",
    "plot_geometry",
    "plot_confusion",
    "plot_few_shot",
    "plot_transfer",
    "plot_transfer_matrix",
    "prepare_dataset",
    "download_weights",
    "plot_samples",
    "plot_scattering",
    "plot_embedding",
    "plot_embedding_train_test",
    "plot_accuracy_per_epoch",
    "plot_collapse",
    "plot_training",
    "plot_variance",
    "collect_measures",
    "tabulate_accuracy",
    "tabulate_collapse",
    "tabulate_training",
    "tabulate_runtime",
    "find",
    "summarize",
}


def planned(folder, profile, *arguments, environment=()):
    """The jobs of a dry run through a profile."""
    words = [sys.executable, "-c", TELLING, "--dry-run", "--snakefile", ROOT / "Snakefile"]
    words += ["--directory", folder, "--profile", profile, "--cores", "8", *arguments]
    answer = subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **dict(environment)},
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    lines = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    return [job for job in map(json.loads, lines) if job["rule"] != "all"]


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The study of the reports, planned through the profile of a cluster."""
    folder = tmp_path_factory.mktemp("paper")
    text = (ROOT / "profiles" / "slurm" / "config.yaml").read_text()
    for key, value in SITE.items():
        text, n = re.subn(rf'^  {key}: ""$', f'  {key}: "{value}"', text, flags=re.M)
        assert n == 1
    (folder / "config.yaml").write_text(text)
    return planned(folder, folder, "--configfile", ROOT / "config" / "paper.yaml")


@pytest.mark.parametrize("rule", SUBMITTED)
def test_each_submitted_rule_of_the_paper_study_asks_for_what_it_needs(paper, rule):
    gpus, threads, megabytes, minutes = SUBMITTED[rule]
    jobs = [job for job in paper if job["rule"] == rule]
    assert jobs
    for job in jobs:
        assert not job["local"]
        asked = (job.get("gpu", 0), job["threads"], job["mem_mb"], job["runtime"])
        assert asked == (gpus, threads, megabytes, minutes)
        assert job["slurm_account"] == "thesis"
        assert job["slurm_partition"] == ("cards" if gpus else "long")
        assert job.get("gpu_model") == ("a100" if gpus else None)
        # SLURM would spread cards over nodes.
        assert job.get("nodes") == (1 if rule == "finetune" else None)


def test_everything_else_runs_where_it_was_submitted(paper):
    others = {job["rule"]: job["local"] for job in paper if job["rule"] not in SUBMITTED}
    assert others == dict.fromkeys(LOCAL, True)


def test_the_reports_need_at_most_60_slurm_jobs_and_what_is_asked_for_beside_its_own(paper):
    submitted = [job["rule"] for job in paper if not job["local"]]
    analyses = [rule for rule in submitted if rule in ("spectrum", "few_shot")]
    # Of the 2 x 6 columns and the 2 x 2 starts of report B.
    assert len(analyses) == 2 * (12 + 4)
    # For each of 2 data sets raw pixels, scattering, 2 networks before and after fine-tuning,
    # 2 fine-tunings, 2 curves, statistics of 4 untrained feature sets, 6 columns of classifiers and
    # 6 t-SNEs; report B: 2 feature sets of one data set with their statistics, 4 t-SNEs.
    reports = 2 * (1 + 1 + 4 + 2 + 2 + 4 + 6 + 6) + 2 * 2 + 4
    assert reports == 60
    # Transfer takes report B's starts on the other data set, and classifiers on them on both.
    assert len(submitted) == reports + len(analyses) + 2 * 2 + 4


def test_the_profile_sends_exactly_the_rules_with_a_gpu_to_the_gpu_partition():
    text = (ROOT / "profiles" / "slurm" / "config.yaml").read_text()
    named = set(re.findall(r'"(\w+)"', re.search(r"\?for rule in \((.*)\):", text)[1]))
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    blocks = re.split(r"^(?:use )?rule (\w+)", rules, flags=re.M)
    assert named == {
        name
        for name, body in zip(blocks[1::2], blocks[2::2], strict=True)
        if re.search(r"gpu=\w*GPUS", body)
    }


@pytest.mark.parametrize(
    ("device", "gpus", "each"), [("cpu", 0, 1), ("auto", 1, 1), ("cuda", 1, 3), ("cpu", 0, 3)]
)
def test_a_study_for_cpus_asks_for_memory_instead_of_a_gpu(tmp_path, device, gpus, each):
    study = {
        "study": "small",
        "device": device,
        "gpus": each,
        "datasets": {"digits": {"source": "digits"}},
        "backbones": {"net": {"model": "resnet18", "image_size": 112, "weights": ["random"]}},
        "recipes": {"mine": {"batch_size": [50, 100]}},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    jobs = planned(tmp_path, ROOT / "profiles" / "slurm", "--configfile", path)
    asked = {job["rule"]: (job["gpu"], job["mem_mb"]) for job in jobs if "gpu" in job}
    trained = sorted(job["mem_mb"] for job in jobs if job["rule"] == "finetune")
    # On a CPU a batch is in main memory: 4,000 MB, and for an image of 224 px 60 MB to read
    # features (256 at a time), 130 MB to train; a quarter of that at 112 px.
    assert asked["finetune"][0] == gpus * each
    small, large = (4000 + images * 130 // 4 for images in (50, 100))
    # On cards, each process has its own.
    assert trained == ([each * 10200 + 1] * 2 if gpus else [small, large])
    assert asked["extract_network"] == (gpus, 7201 if gpus else 4000 + 256 * 60 // 4)
    assert asked["extract_scattering"] == (gpus, 4000)
    cores = {job["rule"]: job["threads"] for job in jobs}
    assert cores["finetune"] == (min(8, 4 * each) if gpus else 8)
    assert cores["extract_network"] == cores["extract_scattering"] == (4 if gpus else 8)
    assert cores["classify"] == 8


@pytest.mark.parametrize("cards", [0, 2])
def test_on_one_machine_a_job_has_a_card_s_memory_and_cores_where_there_is_one(tmp_path, cards):
    study = {
        "study": "small",
        "datasets": {"digits": {"source": "digits"}},
        "backbones": {"net": {"model": "resnet18", "image_size": 112, "weights": ["random"]}},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    visible = ",".join(map(str, range(cards)))
    jobs = planned(
        tmp_path,
        ROOT / "profiles" / "workstation",
        *("--configfile", path),
        environment={"CUDA_VISIBLE_DEVICES": visible},
    )
    (trained,) = [job for job in jobs if job["rule"] == "finetune"]
    asked = (trained["threads"], trained["mem_mb"])
    assert asked == ((4, 10201) if cards else (8, 4000 + 64 * 130 // 4))


@pytest.mark.parametrize("cards", [0, 1, 3])
def test_a_workstation_runs_as_many_gpu_jobs_as_it_has_cards(tmp_path, cards):
    study = {
        "study": "small",
        "threads": 1,
        "datasets": {"digits": {"source": "digits", "subset": {"train": 50, "test": 20}}},
        "features": ["raw"],
    }
    path, tools = tmp_path / "study.yaml", tmp_path / "tools"
    path.write_text(yaml.safe_dump(study))
    tools.mkdir()
    lines = "".join(f"echo 'GPU {n}: made up'\n" for n in range(cards))
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}")
    (tools / "nvidia-smi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    words = [sys.executable, "-m", "snakemake", "fig_samples", "--snakefile", ROOT / "Snakefile"]
    words += ["--directory", tmp_path, "--profile", ROOT / "profiles" / "workstation"]
    answer = subprocess.run(
        list(map(str, [*words, "--configfile", path])),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
    (provided,) = re.findall(r"^Provided resources: (.*)$", answer.stderr, flags=re.M)
    assert re.findall(r"\bgpu\b\D*(\d+)", provided) == ([str(cards)] if cards else [])


#: Snakemake on a machine with so much free memory.
WITH_MEMORY = """
import sys
from types import SimpleNamespace
from collapseflow.running import memory
from snakemake.cli import main

free = SimpleNamespace(available=int(sys.argv.pop(1)) * 10**6)
memory.psutil = SimpleNamespace(virtual_memory=lambda: free)
memory.cgroup_limits = lambda: []
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def three_columns(tmp_path_factory):
    """A study of which three columns of classifiers, of 12 GB each, are next."""
    folder = tmp_path_factory.mktemp("columns")
    digits = {"source": "digits", "subset": {"train": 200, "test": 50}}
    study = {
        "study": "small",
        "threads": 1,
        "device": "cpu",
        "datasets": dict.fromkeys(("one", "two", "three"), digits),
        "features": ["raw"],
        "classifiers": {"nearest": {"estimator": "sklearn.neighbors.NearestCentroid"}},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    stored = [f"results/small/features/{d}/raw" for d in ("one", "two", "three")]
    on_workstation(folder, 10**6, *stored)
    return folder


def on_workstation(folder, megabytes, *targets):
    """Run through the profile on four cores, and so much free memory; what Snakemake says."""
    words = [sys.executable, "-c", WITH_MEMORY, megabytes, *targets, "--cores", 4]
    words += ["--snakefile", ROOT / "Snakefile", "--directory", folder]
    words += ["--profile", ROOT / "profiles" / "workstation"]
    words += ["--configfile", folder / "study.yaml"]
    answer = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return answer.stderr


@pytest.mark.parametrize(
    ("megabytes", "together"),
    # 0.9 of it holds five, two, and less than one: a job gets no more than there is.
    [(70_000, [3]), (30_000, [2, 1]), (6_000, [1, 1, 1])],
)
def test_a_workstation_starts_no_more_jobs_than_fit_its_memory(three_columns, megabytes, together):
    targets = [f"results/small/classification/{d}/raw.json" for d in ("one", "two", "three")]
    for target in targets:
        (three_columns / target).unlink(missing_ok=True)
    said = on_workstation(three_columns, megabytes, *targets)
    started = [int(n) for n in re.findall(r"^Execute (\d+) jobs", said, flags=re.M)]
    assert started == together
