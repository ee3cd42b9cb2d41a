"""What is told of a plan: by hand, and as Snakemake's own dry run has it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from collapseflow.running.engine import Planned
from collapseflow.study.announcements import Training
from collapseflow.study.forecast import KINDS, Past, changed, forecast, kind_of, reason

ROOT = Path(__file__).parents[2]

# --- why --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ([64], {"batch_size": 32}, ["batch_size 32 instead of 64"]),
        (
            [{"epochs": 3, "lr": 0.1, "loss": "ce"}],
            {"recipe": {"epochs": 3, "lr": 0.2, "loss": "ce"}},
            ["recipe.lr 0.2 instead of 0.1"],
        ),
        (
            [{"lda": {"solver": "svd"}, "rf": {"n": 5}}],
            {"classifiers": {"lda": {"solver": "lsqr"}, "lr": {"C": 1}}},
            [
                "classifiers.lda.solver 'lsqr' instead of 'svd'",
                "classifiers.lr is now {'C': 1}",
                "classifiers.rf is gone",
            ],
        ),
        (["0123456789abcdef"], {"code": "fedcba9876543210"}, ["the code has changed"]),
        (
            ["a label", "0123456789abcdef"],
            {"code": "fedcba9876543210", "label": "another"},
            ["the code has changed", "label 'another' instead of 'a label'"],
        ),
        ([None], {"images": "ab"}, ["images 'ab' instead of None"]),
        ([], {"images": "ab"}, ["images is now 'ab'"]),
        ([0.5], {}, ["0.5 is gone"]),
        ([[1, 2]], {"kept": [1, 2, 3]}, ["kept [1, 2, 3] instead of [1, 2]"]),
        (
            [[{"name": "a" * 50, "epoch": 1}, {"name": "b" * 50, "epoch": 1}]],
            {"runs": [{"name": "a" * 50, "epoch": 2}, {"name": "b" * 50, "epoch": 2}]},
            ["runs.epoch 2 instead of 1"],
        ),
        ([["x" * 90]], {"runs": ["x" * 90, "y"]}, ["runs: 2 entries instead of 1"]),
        # Lists that are alike in kind belong together, whatever their order.
        (
            [[[1, 2]], [{"last": 2}]],
            {"runs": [{"last": 3}], "epochs": [[1, 2, 3]]},
            [
                "runs [{'last': 3}] instead of [{'last': 2}]",
                "epochs [[1, 2, 3]] instead of [[1, 2]]",
            ],
        ),
        # A text that Python cannot read back stands as it is.
        (["<object>"], {"where": "b"}, ["where 'b' instead of '<object>'"]),
    ],
)
def test_changes_are_told_key_by_key(before, now, words):
    assert changed(before, now) == words


def test_a_job_names_its_changes_and_a_drawing_its_input():
    anew = {
        "cause": "its input is made anew",
        "before": (1, 1, 1, 1, 1),
        "now": dict.fromkeys("abcde", 2),
    }
    text = "a 2 instead of 1, b 2 instead of 1, c 2 instead of 1 and 2 more"
    assert reason(Planned("classify", ("results/s/classification/d/raw.json",), **anew)) == text
    drawn = Planned("plot", ("results/s/figures/one.pdf",), **anew)
    assert reason(drawn) == "its input is made anew"
    assert reason(Planned("plot", drawn.outputs, before=(1,), now={"a": 2})) == "a 2 instead of 1"


def test_what_jobs_do_follows_from_rule_and_output():
    kinds = {
        ("finetune", "results/s/training/d/n/weights"): "trained",
        ("extract_raw", "results/s/features/d/raw"): "read",
        ("prepare_dataset", "results/s/data/d.h5"): "prepared",
        ("download_weights", "resources/weights/n.safetensors"): "downloaded",
        ("collect_measures", "results/s/measures.csv"): "measured",
        ("plot_probes", "results/s/figures/probes.pdf"): "drawn",
        ("tabulate_probes", "results/s/tables/probes.csv"): "drawn",
        ("summarize", "results/s/summary.md"): "drawn",
    }
    assert {key: kind_of(Planned(key[0], (key[1],))) for key in kinds} == kinds


def test_the_rules_that_are_named_are_the_workflow_s():
    files = (ROOT / "workflow" / "rules").glob("*.smk")
    rules = {name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.M)}
    assert {rule for named in KINDS.values() for rule in named} < rules


# --- what it takes ----------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results, and a function that lets a job have run."""
    monkeypatch.chdir(tmp_path)

    def ran(name, seconds, output=None, size=0, study="old", earlier=None):
        benchmark = Path("results", study, "benchmarks", f"{name}.tsv")
        benchmark.parent.mkdir(parents=True, exist_ok=True)
        benchmark.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t-\n")
        if earlier is not None:
            cost = Path("results", study, "logs", f"{name}.cost.json")
            cost.parent.mkdir(parents=True, exist_ok=True)
            cost.write_text(f'{{"seconds_taken_over": {earlier}, "peak_memory_mib": 1}}')
        if output:
            path = Path("results", study, output)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"0" * size)

    return ran


def classified(dataset, features, study="new"):
    return Planned(
        "classify",
        (f"results/{study}/classification/{dataset}/{features}.json",),
        f"results/{study}/benchmarks/classify/{dataset}/{features}.tsv",
        "first time",
    )


def test_the_job_most_like_it_tells_what_one_takes(results):
    results("classify/d/net/a/s0", 10, "classification/d/net/a/s0.json", 100)
    results("classify/d/net/a/s1", 30, "classification/d/net/a/s1.json", 300)
    results("classify/d/net/b/s2", 70, "classification/d/net/b/s2.json", 700)
    past = Past(Path("results"))
    # Its own, when it has run before; the mean of those that are equally like it.
    assert past.seconds(classified("d", "net/a/s1", "old")) == 30
    assert past.seconds(classified("d", "net/a/s2")) == pytest.approx((10 + 30 + 70) / 3)
    assert past.seconds(classified("d", "net/a/s3")) == 20
    assert past.bytes(classified("d", "net/a/s3")) == 200
    assert len(past.used) == 3
    # Another data set, another backbone, another depth: nothing is like it.
    for job in (("e", "net/a/s0"), ("d", "other/a/s0"), ("d", "net/a/s0/more")):
        assert past.seconds(classified(*job)) is None
        assert past.bytes(classified(*job)) is None


def test_a_data_set_is_like_itself_alone(results):
    results("prepare_dataset/d", 4, "data/d.h5", 50)
    past = Past(Path("results"))
    for name, seconds in (("d", 4), ("e", None)):
        paths = (
            (f"results/new/data/{name}.h5",),
            f"results/new/benchmarks/prepare_dataset/{name}.tsv",
        )
        assert past.seconds(Planned("prepare_dataset", *paths)) == seconds
    results("collect_measures", 9)
    job = Planned("collect_measures", (), "results/new/benchmarks/collect_measures.tsv")
    assert past.seconds(job) == 9


def test_what_is_drawn_takes_as_long_whatever_the_data_set(results):
    results("plot_confusion/d", 4, "figures/confusion_d.pdf", 50)
    job = Planned(
        "plot_confusion",
        ("results/new/figures/confusion_e.pdf",),
        "results/new/benchmarks/plot_confusion/e.tsv",
    )
    assert Past(Path("results")).seconds(job) == 4
    assert Past(Path("results")).bytes(job) == 50


def test_a_training_takes_the_seconds_of_its_new_epochs(results, tmp_path):
    name = "d/net/random/slow/s0"
    results(f"finetune/{name}", 20, f"training/{name}/log.json", earlier=10)
    Path("results/old/training", name, "log.json").write_text('[{"epoch": 1}, {"epoch": 2}]')
    job = Planned(
        "finetune",
        (f"results/old/training/{name}/log.json",),
        f"results/old/benchmarks/finetune/{name}.tsv",
        before=(2,),
        now={"epochs": 5},
    )
    assert Past(Path("results")).seconds(job, 3) == pytest.approx(3 * (20 + 10) / 2)
    training = Training(name, "nowhere", {"epochs": 5}, [5], "code", job.outputs[0])
    text = forecast("old", [job], [training], [], Past(Path("results")))
    assert re.search(r"^trained: 5 epochs new, 0 kept +1 +0\.02 +0\.00$", text, flags=re.M)


def test_a_forecast_fits_and_says_where_it_is_from(results):
    results("classify/d/net/a/s0", 7200, "classification/d/net/a/s0.json", 2_000_000)
    jobs = [classified("d", f"net/a/s{n}") for n in (1, 2)] + [classified("e", "net/a/s0")]
    jobs += [Planned("all", ())]
    told = forecast(
        "new", jobs, [], ["a line that is said in any case, " * 4], Past(Path("results"))
    )
    assert max(map(len, told.splitlines())) <= 80
    assert re.search(r"^measured +3 +4\.00 +0\.00$", told, flags=re.M)
    words = " ".join(told.split())
    assert "as jobs like these have taken below results/ (jobs: 1); left out" in words
    assert "because too little is known: 1" in words
    assert "why 3 first time (classify)" in words
    assert "said in any case" in words
    nothing = forecast("new", jobs[2:], [], [], Past(Path("results")))
    assert re.search(r"^measured +1 +not known +not known$", nothing, flags=re.M)
    assert "Nothing like this has run below results/" in nothing


# --- as Snakemake has it ----------------------------------------------------------------------

STUDY = {
    "study": "short",
    "threads": 1,
    "datasets": {"digits": {"source": "digits", "subset": {"train": 100, "test": 50}}},
    "scattering": {"J": 1, "L": 2, "order": 1},
    "features": ["raw"],
    "classifiers": {"rf": {"estimator": "collapseflow.RandomForestClassifier"}},
    "embedding": {"n_samples": 60, "iterations": 20},
}


def run(folder, module, *words, study=STUDY, ok=True):
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    answer = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert (answer.returncode == 0) is ok, (answer.stdout + answer.stderr)[-3000:]
    return answer.stdout


def snakemake(folder, *words, study=STUDY):
    snakefile = str(ROOT / "Snakefile")
    words = ("--snakefile", snakefile, "--configfile", "study.yaml", "--cores", "2", *words)
    return run(folder, "snakemake", *words, study=study)


def plan(folder, study=STUDY, **options):
    return run(folder, "collapseflow", "plan", "study.yaml", study=study, **options)


def numbers(told):
    """Numbers of jobs: of all, and of the reasons."""
    table, reasons = told.split("\nwhy\n")
    jobs = re.findall(r"^\w.* +(\d+) +\S+(?: known)? +\S+(?: known)?$", table, flags=re.M)
    return sum(map(int, jobs)), sum(map(int, re.findall(r"^ *(\d+)  ", reasons, flags=re.M)))


def planned(folder, study):
    """The number of jobs in Snakemake's own dry run, without the target that has no output."""
    told = snakemake(folder, "--dry-run", study=study)
    return int(re.search(r"^total +(\d+)$", told, flags=re.M)[1]) - 1


def test_a_plan_is_the_one_of_a_dry_run(tmp_path):
    told = plan(tmp_path)
    assert numbers(told) == (planned(tmp_path, STUDY),) * 2
    assert told.count("not known") and "first time" in told
    snakemake(tmp_path)
    assert plan(tmp_path) == "Nothing to do: all is there\n"
    rf = {"rf": {**STUDY["classifiers"]["rf"], "parameters": {"n_estimators": 7}}}
    study = {**STUDY, "classifiers": rf, "embedding": {"n_samples": 60, "iterations": 30}}
    (tmp_path / "results/short/figures/samples_digits.pdf").unlink()
    told = plan(tmp_path, study)
    assert numbers(told) == (planned(tmp_path, study),) * 2
    reasons = " ".join(told.split("\nwhy\n")[1].split())
    assert re.search(r"1 classifiers\.rf\.parameters\.n_estimators is now 7", reasons)
    assert re.search(r"\d options\.iterations 30 instead of 20 \(embed\)", reasons)
    assert "its files are missing (plot_samples)" in reasons
    assert "its input is made anew" in reasons
    assert "not known" not in told
    assert max(map(len, told.splitlines())) <= 80
    refused = plan(tmp_path, {**STUDY, "study": 3}, ok=False)
    assert refused.startswith("config key study: ") and "Traceback" not in refused
