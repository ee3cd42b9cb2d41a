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
#: What every rule says of itself.
SAID = ("log", "benchmark", "conda_env", "message", "script", "params")
#: Snakemake's dry run, with every job told as a line of JSON.
TELLING = f"""
import json, sys
from snakemake.cli import main
from snakemake.executors import dryrun

def tell(self, job):
    told = dict((k, v) for k, v in job.resources.items() if isinstance(v, int | str))
    told["local"] = job.rule.name in job.dag.workflow._localrules
    told["silent"] = [name for name in {SAID} if not getattr(job.rule, name)]
    print(json.dumps(dict(told, rule=job.rule.name, threads=job.threads)))

dryrun.Executor.printjob = tell
main(sys.argv[1:])
"""
SITE = {"account": "thesis", "cpu_partition": "long", "gpu_partition": "cards", "gpu_model": "a100"}


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
def cluster(tmp_path_factory):
    """The profile of a cluster, filled in."""
    folder = tmp_path_factory.mktemp("cluster")
    text = (ROOT / "profiles" / "slurm" / "config.yaml").read_text()
    for key, value in SITE.items():
        text, n = re.subn(rf'^  {key}: ""$', f'  {key}: "{value}"', text, flags=re.M)
        assert n == 1
    (folder / "config.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def paper(cluster):
    """The study of the reports, planned through the profile of a cluster."""
    return planned(cluster, cluster, "--configfile", ROOT / "config" / "paper.yaml")


@pytest.fixture(scope="module")
def pretrained(cluster):
    """A study that trains from weights that it makes itself, planned in the same way."""
    weights = ["random", "pretrain", "package"]
    study = {
        "study": "small",
        "datasets": {"digits": {"source": "digits"}},
        "backbones": {"mobilenet_v2": {"image_size": 32, "weights": weights}},
    }
    path = cluster / "pretrained.yaml"
    path.write_text(yaml.safe_dump(study))
    return planned(cluster, cluster, "--configfile", path)


def test_the_page_on_slurm_says_what_is_submitted(paper):
    page = (ROOT / "docs" / "slurm.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (\d+) \| (yes|no) \|", page, flags=re.M)
    told = {tuple(re.findall(r"\w+", names)): (int(n), gpu == "yes") for names, n, gpu in rows}
    submitted = [job for job in paper if not job["local"]]
    assert {job["rule"] for job in submitted} == {name for names in told for name in names}
    for names, (n, on_card) in told.items():
        jobs = [job for job in submitted if job["rule"] in names]
        assert len(jobs) == n, names
        assert all(bool(job.get("gpu")) == on_card for job in jobs), names
    n_all = sum(n for n, _ in told.values())
    beside = re.search(r"has (\d+) SLURM jobs, and (\d+) more for its key `analyses`", page)
    assert n_all == sum(map(int, beside.groups()))
    # MNIST at 224 px, with a network whose weights are not there yet: as the page says, too.
    gigabytes, minutes = re.search(r"is (\d+\.\d) GB and (\d+)\nminutes", page).groups()
    for job in submitted:
        if job["rule"] == "finetune":
            assert (job["mem_mb"], job["runtime"]) == (1000 * float(gigabytes) + 10, int(minutes))


def test_jobs_on_a_card_and_others_go_to_their_partitions(paper, pretrained):
    submitted = [job for job in paper + pretrained if not job["local"]]
    assert {"finetune", "pretrain"} <= {job["rule"] for job in submitted if job.get("gpu")}
    for job in submitted:
        on_card = bool(job.get("gpu"))
        assert job["slurm_account"] == "thesis"
        assert job["slurm_partition"] == ("cards" if on_card else "long"), job["rule"]
        assert job.get("gpu_model") == ("a100" if on_card else None)
        # SLURM would spread cards over nodes.
        assert job.get("nodes") == (1 if job["rule"] in ("finetune", "pretrain") else None)
        assert job["threads"] >= 1 and job["mem_mb"] >= 1000 and job["runtime"] >= 15


def test_what_runs_where_it_was_submitted_is_small(paper, pretrained):
    for job in paper + pretrained:
        if job["local"]:
            assert not job.get("gpu") and job["mem_mb"] <= 4000, job["rule"]


def test_every_job_has_a_log_a_benchmark_an_environment_and_a_message(paper, pretrained):
    silent = {job["rule"]: job["silent"] for job in paper + pretrained if job["silent"]}
    # Targets have no more than inputs.
    assert not silent


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
