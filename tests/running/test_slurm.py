"""The profile for SLURM, on a real SLURM: two GPU nodes and a CPU node on this machine."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import slurm_cluster
import torch
import yaml

from collapseflow.running import slurm

ROOT = Path(__file__).parents[2]
SITE = {"cpu_partition": "cpu", "gpu_partition": "gpu", "gpu_model": slurm_cluster.GPU_MODEL}
GPU_RULES = {"pretrain", "finetune", "extract_network", "extract_scattering", "reduce_epochs"}
EPOCHS = 6
STUDY = {
    "study": "tiny",
    "threads": 1,
    "datasets": {
        "digits": {
            "source": "digits",
            "subset": {"train": 600, "test": 100},
            "scattering": {"J": 1, "L": 4, "order": 1},
        }
    },
    "backbones": {"net": {"model": "nets:make", "image_size": 32, "weights": ["random"]}},
    "recipes": {"report_a": {"epochs": EPOCHS, "batch_size": 20}},
    "classifiers": {
        "lda": {"estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"}
    },
    "embedding": {"n_samples": 150, "iterations": 100},
}
#: Beside the study file, which does not lie in the folder that the workflow is run in.
NETWORKS = """
from torchvision.models import resnet18


def make(n_classes):
    return resnet18(num_classes=n_classes)
"""
TRAINED = "results/tiny/training/digits/net/random/report_a/s0/weights"
RAW = "results/tiny/features/digits/raw"
PROGRESS = "results/tiny/progress/finetune/digits/net/random/s0"
HISTORY = f"{PROGRESS}/history.log"
FINETUNING = "rule_finetune_wildcards_digits_net_random_report_a_s0"
LEASE = "results/tiny/logs/finetune/digits/net/random/report_a/s0.log.lease"

#: Snakemake as it is, but for the pause between two questions about jobs, which otherwise grows
#: by ten seconds each time.
ASKING_OFTEN = """
import sys
from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 2, lambda self, value: None)
main(sys.argv[1:])
"""

without_accounting = pytest.mark.skipif(
    bool(slurm_cluster.missing(accounting=False)),
    reason=str(slurm_cluster.missing(accounting=False)),
)
with_accounting = pytest.mark.skipif(
    bool(slurm_cluster.missing(accounting=True)), reason=str(slurm_cluster.missing(accounting=True))
)


@pytest.fixture(scope="module")
def cluster():
    with slurm_cluster.cluster() as running:
        yield running


def profile(folder, **site):
    """The profile as a user edits it: some of its first lines."""
    text = (ROOT / "profiles" / "slurm" / "config.yaml").read_text()
    for key, value in site.items():
        text, n = re.subn(rf'^  {key}: ""$', f'  {key}: "{value}"', text, flags=re.M)
        assert n == 1, key
    edited = folder / "profile"
    edited.mkdir(exist_ok=True)
    (edited / "config.yaml").write_text(text)
    return edited


def command(folder, *arguments, study=STUDY):
    """Snakemake in a folder of its own."""
    file = folder / "mine" / "study.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(study))
    file.with_name("nets.py").write_text(NETWORKS)
    words = [sys.executable, "-c", ASKING_OFTEN, "--snakefile", ROOT / "Snakefile"]
    words += [*arguments, "--directory", folder, "--configfile", file]
    return list(map(str, words))


def on_slurm(folder, *arguments, **site):
    """Arguments for a run through the profile."""
    return ["--profile", profile(folder, **{**SITE, **site}), *arguments]


def run(words, environment=None):
    answer = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT)
    answer.text = answer.stdout + answer.stderr
    return answer


def succeed(words, environment=None):
    answer = run(words, environment)
    assert answer.returncode == 0, answer.text[-5000:]
    return answer.text


def rule_of(job):
    """The rule of a SLURM job, from the comment that the plugin gives it."""
    return re.sub(r"_wildcards_.*", "", job["Comment"]).removeprefix("rule_")


def jobs_of(cluster, folder):
    """The SLURM jobs that were submitted from a folder."""
    return [job for job in cluster.jobs() if Path(job["WorkDir"]) == folder.resolve()]


def asked_for_gpu(job):
    return f"gres:gpu:{slurm_cluster.GPU_MODEL}:1" in job.get("TresPerJob", "")


def moment(job, key):
    return datetime.fromisoformat(job[key])


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The study run to its end on this machine."""
    folder = tmp_path_factory.mktemp("local")
    succeed(command(folder, "--cores", "2"))
    return folder


@pytest.fixture(scope="module")
def remote(cluster, local, tmp_path_factory):
    """The study run to its end through the profile."""
    folder = tmp_path_factory.mktemp("remote")
    text = succeed(command(folder, *on_slurm(folder)), cluster.environment)
    return folder, text


def assert_same_weights(folder, local):
    for epoch in range(1, EPOCHS + 1):
        path = f"{TRAINED}/epoch{epoch:03d}.safetensors"
        expected = safetensors.torch.load_file(local / path)
        weights = safetensors.torch.load_file(folder / path)
        assert expected.keys() == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in expected.items()), path


@without_accounting
def test_the_study_on_slurm_equals_the_local_run(remote, local):
    folder, _ = remote
    assert_same_weights(folder, local)
    for table in ("accuracy_digits.csv", "collapse.csv"):
        ours, expected = (pd.read_csv(f / "results/tiny/tables" / table) for f in (folder, local))
        timed = [column for column in ours if column.endswith("_seconds")]
        pd.testing.assert_frame_equal(ours.drop(columns=timed), expected.drop(columns=timed))
    made = {p.relative_to(folder) for p in (folder / "results/tiny/figures").iterdir()}
    assert made == {p.relative_to(local) for p in (local / "results/tiny/figures").iterdir()}


@without_accounting
def test_jobs_of_gpu_rules_and_no_others_are_given_a_gpu(cluster, remote):
    jobs = jobs_of(cluster, remote[0])
    assert {rule_of(job) for job in jobs} == (GPU_RULES - {"pretrain"}) | {
        "extract_raw",
        "reduce_features",
        "classify",
        "embed",
    }
    for job in jobs:
        of_gpu_rule = rule_of(job) in GPU_RULES
        assert job["JobState"] == "COMPLETED"
        assert asked_for_gpu(job) == of_gpu_rule, job["Comment"]
        assert job["Partition"] == ("gpu" if of_gpu_rule else "cpu")
        assert job["NodeList"] in (("gpu1", "gpu2") if of_gpu_rule else ("cpu1",))


@without_accounting
def test_requested_memory_and_time_are_those_of_the_rules(cluster, remote):
    asked = {rule_of(job): job for job in jobs_of(cluster, remote[0])}
    # Weights are held seven times to train, twice to read.
    start = remote[0] / "results/tiny/weights/net/random/s0.safetensors"
    weights = start.stat().st_size / 1e6
    memory = {
        "finetune": math.ceil(6000 + 7 * weights),
        "reduce_epochs": math.ceil(6000 + 2 * weights),
        "classify": 12000,
        "extract_raw": 2000,
    }
    for rule, megabytes in memory.items():
        assert asked[rule]["MinMemoryNode"] == f"{megabytes}M"
    assert asked["finetune"]["TimeLimit"] == "00:32:00"
    assert asked["classify"]["TimeLimit"] == "12:00:00"
    assert asked["extract_raw"]["TimeLimit"] == "00:30:00"
    assert {job["NumCPUs"] for job in asked.values()} == {"1"}


@without_accounting
def test_no_two_jobs_share_a_card(cluster, remote):
    jobs = [job for job in jobs_of(cluster, remote[0]) if asked_for_gpu(job)]
    times = [(moment(job, "StartTime"), moment(job, "EndTime"), job["NodeList"]) for job in jobs]
    for start, end, node in times:
        together = [other for other in times if other[2] == node and start <= other[0] < end]
        assert len(together) == 1


@without_accounting
def test_a_job_waits_until_a_gpu_is_free(cluster, tmp_path):
    card = ["sbatch", "--parsable", "--chdir=/", "--output=/dev/null", "--partition=gpu"]
    card += ["--mem=100", f"--gpus={slurm_cluster.GPU_MODEL}:1", "--wrap=sleep 600"]
    others = [cluster.ask(*card).strip() for _ in range(2)]
    target = "results/tiny/features/digits/scattering"
    words = command(tmp_path, target, *on_slurm(tmp_path))
    try:
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(succeed, words, cluster.environment)
            while not any(job["Reason"] == "Resources" for job in jobs_of(cluster, tmp_path)):
                assert not ending.done(), ending.result()
                time.sleep(0.1)
            cluster.ask("scancel", others.pop())
            ending.result()
    finally:
        cluster.ask("scancel", *others)
    (job,) = jobs_of(cluster, tmp_path)
    assert job["JobState"] == "COMPLETED" and asked_for_gpu(job)


@without_accounting
def test_a_second_submission_does_nothing(cluster, remote):
    folder, _ = remote
    before = len(jobs_of(cluster, folder))
    text = succeed(command(folder, *on_slurm(folder)), cluster.environment)
    assert "Nothing to be done" in text
    assert len(jobs_of(cluster, folder)) == before


@without_accounting
def test_one_figure_submits_only_what_it_needs(cluster, tmp_path):
    target = "results/tiny/figures/samples_digits.png"
    succeed(command(tmp_path, target, *on_slurm(tmp_path)), cluster.environment)
    assert (tmp_path / target).exists()
    assert jobs_of(cluster, tmp_path) == []
    succeed(command(tmp_path, RAW, *on_slurm(tmp_path)), cluster.environment)
    assert [rule_of(job) for job in jobs_of(cluster, tmp_path)] == ["extract_raw"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which fine-tuning is the next thing to do."""
    folder = tmp_path_factory.mktemp("prepared")
    targets = ["results/tiny/data/digits.h5", "results/tiny/weights/net/random/s0.safetensors"]
    succeed(command(folder, "--cores", "2", *targets))
    return folder


@without_accounting
def test_a_training_on_two_cards_waits_for_two_of_one_node(cluster, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True, symlinks=True)
    card = ["sbatch", "--parsable", "--chdir=/", "--output=/dev/null", "--partition=pairs"]
    card += ["--mem=100", f"--gpus={slurm_cluster.GPU_MODEL}:1", "--wrap=sleep 600"]
    started = [cluster.ask(*card, f"--nodelist={node}").strip() for node in ("pair1", "pair2")]
    arguments = on_slurm(tmp_path, gpu_partition="pairs")
    words = command(tmp_path, TRAINED, *arguments, study={**STUDY, "gpus": 2})
    with open(tmp_path / "output", "w") as output:
        snakemake = subprocess.Popen(
            words, env=cluster.environment, cwd=ROOT, stdout=output, stderr=output
        )
    try:
        # A card of each node is free, and SLURM says what the job waits for.
        while not (jobs := jobs_of(cluster, tmp_path)) or jobs[0]["Reason"] in ("None", "Priority"):
            assert snakemake.poll() is None, (tmp_path / "output").read_text()
            assert not jobs or jobs[0]["JobState"] == "PENDING"
            time.sleep(0.1)
        (job,) = jobs
        assert (job["JobState"], job["Reason"]) == ("PENDING", "Resources")
        assert f"gres:gpu:{slurm_cluster.GPU_MODEL}:2" in job["TresPerJob"]
    finally:
        snakemake.kill()
        snakemake.wait()
        started += [job["JobId"] for job in jobs_of(cluster, tmp_path)]
        cluster.ask("scancel", *started)


# --- faults -----------------------------------------------------------------------------------


class Faulty:
    """A fine-tuning on the cluster that something happens to in the midst of an epoch."""

    def __init__(self, cluster, prepared, local, folder):
        self.cluster, self.local, self.folder = cluster, local, folder
        shutil.copytree(prepared, folder, dirs_exist_ok=True, symlinks=True)
        self.progress = folder / PROGRESS
        self.snakemake = None

    def words(self, *more):
        return command(self.folder, TRAINED, *on_slurm(self.folder, *more))

    def submit(self, *more):
        with open(self.folder / "output", "w") as output:
            self.snakemake = subprocess.Popen(
                self.words(*more),
                env=self.cluster.environment,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def in_the_midst(self):
        """Submit, and return the running job when two epochs are finished."""
        self.submit()
        # The last thing an epoch does is to say so.
        self.wait_for("epoch 2", lambda: "epoch 2 of" in self.history())
        return [job for job in self.jobs() if job["JobState"] == "RUNNING"][-1]

    def wait_for(self, what, ready, seconds=300):
        deadline = time.monotonic() + seconds
        while not ready():
            assert self.snakemake.poll() is None, self.said()[-5000:]
            assert time.monotonic() < deadline, f"{what} is never reached"
            time.sleep(0.05)

    def said(self):
        return (self.folder / "output").read_text()

    def history(self):
        path = self.folder / HISTORY
        return path.read_text() if path.exists() else ""

    def jobs(self):
        return jobs_of(self.cluster, self.folder)

    def process(self):
        """The process that trains."""
        return int(re.search(r'"pid": (\d+)', (self.folder / LEASE).read_text())[1])

    def ends_well(self):
        """The first command gets over it; the same command again has nothing left to do."""
        assert self.snakemake.wait(timeout=600) == 0, self.said()[-5000:]
        self.holds()

    def holds(self):
        text = succeed(self.words(), self.cluster.environment)
        assert "Nothing to be done" in text
        assert_same_weights(self.folder, self.local)
        finished = re.findall(r"epoch (\d+) of \d+ is finished", self.history())
        assert finished == [str(epoch) for epoch in range(1, EPOCHS + 1)]
        files = (self.folder / "results").rglob("*")
        assert [p for p in files if ".part." in p.name or p.suffix == ".lease"] == []

    def clean_up(self):
        if self.snakemake and self.snakemake.poll() is None:
            os.killpg(self.snakemake.pid, signal.SIGKILL)
            self.snakemake.wait()


def allocation_is_cancelled(fault):
    job = fault.in_the_midst()
    fault.cluster.ask("scancel", job["JobId"])
    fault.ends_well()
    assert [job["JobState"] for job in fault.jobs()] == ["CANCELLED", "COMPLETED"]
    assert "stopped by a signal" in fault.history()
    assert "going on after epoch" in fault.history()


def process_is_killed(fault):
    fault.in_the_midst()
    os.kill(fault.process(), signal.SIGKILL)
    fault.ends_well()
    assert [job["JobState"] for job in fault.jobs()] == ["FAILED", "COMPLETED"]
    assert "going on after epoch" in fault.history()


def snakemake_is_killed(fault):
    job = fault.in_the_midst()
    os.killpg(fault.snakemake.pid, signal.SIGKILL)
    fault.snakemake.wait()
    text = succeed(fault.words(), fault.cluster.environment)
    assert f"cancelled SLURM jobs {job['JobId']} of an interrupted run" in text
    assert [job["JobState"] for job in fault.jobs()] == ["CANCELLED", "COMPLETED"]
    fault.holds()


def job_needs_more_memory(fault):
    # What is given on the command line stands for all of the profile's set-resources.
    resources = ["finetune:mem_mb=300*attempt**2", "finetune:slurm_partition='gpu'"]
    fault.submit("--set-resources", *resources)
    fault.ends_well()
    jobs = fault.jobs()
    assert jobs[0]["MinMemoryNode"] == "300M" and jobs[1]["MinMemoryNode"] == "1200M"
    assert {job["JobState"] for job in jobs[:-1]} <= {"OUT_OF_MEMORY", "CANCELLED", "FAILED"}
    assert jobs[-1]["JobState"] == "COMPLETED"


def job_needs_more_time(fault):
    job = fault.in_the_midst()
    # It must not come to its end before SLURM looks at its time.
    os.kill(fault.process(), signal.SIGSTOP)
    fault.cluster.ask("scontrol", "update", f"JobId={job['JobId']}", "EndTime=now")
    fault.ends_well()
    first, second = fault.jobs()
    assert [first["JobState"], second["JobState"]] == ["TIMEOUT", "COMPLETED"]
    assert second["TimeLimit"] == "01:04:00"
    assert "going on after epoch" in fault.history()


def job_is_requeued(fault):
    """What preemption does to a job on a cluster that requeues."""
    job = fault.in_the_midst()
    fault.cluster.ask("scontrol", "requeue", job["JobId"])
    fault.wait_for("another turn", lambda: fault.jobs()[0]["JobState"] == "PENDING")
    # SLURM lets a requeued job rest for two minutes.
    fault.cluster.ask("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")
    fault.ends_well()
    (after,) = fault.jobs()
    assert after["JobState"] == "COMPLETED" and after["Restarts"] == "1"
    assert "going on after epoch" in fault.history()


FAULTS = [
    allocation_is_cancelled,
    process_is_killed,
    snakemake_is_killed,
    job_needs_more_memory,
    job_needs_more_time,
    job_is_requeued,
]


@pytest.fixture(scope="module")
def faults(cluster, prepared, local, tmp_path_factory):
    """All faults at the same time: more jobs than GPUs, so that some wait in the queue."""
    tries = [Faulty(cluster, prepared, local, tmp_path_factory.mktemp(f.__name__)) for f in FAULTS]
    with ThreadPoolExecutor(len(FAULTS)) as pool:
        yield {f.__name__: pool.submit(f, fault) for f, fault in zip(FAULTS, tries, strict=True)}
        for fault in tries:
            fault.clean_up()


@without_accounting
@pytest.mark.parametrize("fault", [f.__name__ for f in FAULTS])
def test_the_same_command_again_loses_no_finished_epoch_after(faults, fault):
    faults[fault].result()


@without_accounting
@pytest.mark.parametrize("with_its_processes", [True, False])
def test_a_node_that_goes_down_hands_its_job_to_another(
    cluster, prepared, local, tmp_path, with_its_processes
):
    fault = Faulty(cluster, prepared, local, tmp_path)
    job = fault.in_the_midst()
    node = job["NodeList"]
    cluster.kill(node)
    if with_its_processes:
        cluster.kill_processes(job["JobId"])
    try:
        while fault.snakemake.poll() is None and fault.jobs()[0]["Restarts"] == "0":
            time.sleep(0.5)
        if fault.jobs()[0]["Restarts"] == "1":
            # SLURM lets a job that has lost its node rest for two minutes.
            cluster.ask("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")
        fault.ends_well()
    finally:
        cluster.start_node(node)
        fault.clean_up()
    (after,) = fault.jobs()
    assert after["JobState"] == "COMPLETED"
    if with_its_processes:
        assert after["Restarts"] == "1" and after["NodeList"] not in ("", node)
        assert "going on after epoch" in fault.history()


@without_accounting
def test_a_restarted_controller_is_survived(cluster, prepared, local, tmp_path):
    fault = Faulty(cluster, prepared, local, tmp_path)
    fault.in_the_midst()
    cluster.kill("slurmctld")
    time.sleep(3)
    cluster.start_controller()
    try:
        fault.ends_well()
    finally:
        fault.clean_up()
    assert [job["JobState"] for job in fault.jobs()] == ["COMPLETED"]


@without_accounting
def test_a_second_study_in_the_folder_leaves_the_jobs_of_the_first_alone(
    cluster, prepared, local, tmp_path
):
    fault = Faulty(cluster, prepared, local, tmp_path)
    try:
        job = fault.in_the_midst()
        target = "results/other/features/digits/raw"
        words = command(tmp_path, target, *on_slurm(tmp_path), "--config", "study=other")
        text = succeed(words, cluster.environment)
        assert f"SLURM jobs {job['JobId']} are left alone" in text and "cancelled" not in text
        fault.ends_well()
    finally:
        fault.clean_up()
    assert sorted(rule_of(job) for job in fault.jobs()) == ["extract_raw", "finetune"]
    assert {job["JobState"] for job in fault.jobs()} == {"COMPLETED"}
    # Both have given back the leases by which the other knew that they were alive.
    assert list((tmp_path / slurm.RUNS).iterdir()) == []


@without_accounting
def test_another_attempt_asks_for_no_more_time_than_the_partition_has(cluster, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True, symlinks=True)
    words = command(tmp_path, RAW, *on_slurm(tmp_path))
    cluster.ask("scontrol", "update", "PartitionName=cpu", "MaxTime=40", "State=DOWN")
    try:
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(succeed, words, cluster.environment)
            while not (jobs := jobs_of(cluster, tmp_path)):
                assert not ending.done(), ending.result()
                time.sleep(0.1)
            cluster.ask("scancel", jobs[0]["JobId"])
            cluster.ask("scontrol", "update", "PartitionName=cpu", "State=UP")
            ending.result()
    finally:
        cluster.ask("scontrol", "update", "PartitionName=cpu", "MaxTime=2-0", "State=UP")
    jobs = jobs_of(cluster, tmp_path)
    assert [job["TimeLimit"] for job in jobs] == ["00:30:00", "00:40:00"]
    assert [job["JobState"] for job in jobs] == ["CANCELLED", "COMPLETED"]


@without_accounting
def test_a_mistake_of_the_user_is_submitted_once(cluster, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True, symlinks=True)
    (tmp_path / "results/tiny/data/digits.h5").write_bytes(b"no HDF5")
    answer = run(command(tmp_path, RAW, *on_slurm(tmp_path)), cluster.environment)
    assert answer.returncode != 0
    assert [job["JobState"] for job in jobs_of(cluster, tmp_path)] == ["FAILED"]


# --- what cannot be served --------------------------------------------------------------------


@without_accounting
@pytest.mark.parametrize(
    ("site", "line"),
    [
        (
            {"gpu_partition": "gpus"},
            "profiles/slurm: partition 'gpus' is unknown; allowed: cpu, gpu, pairs",
        ),
        (
            {"gpu_partition": "cpu"},
            "profiles/slurm: rule finetune: gpu 1 is more than partition 'cpu' has "
            "(0 GPUs on a node); set gpu_partition, or `device: cpu` in the study",
        ),
    ],
)
def test_a_wrong_partition_ends_before_the_first_job_in_one_line(
    cluster, prepared, tmp_path, site, line
):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True, symlinks=True)
    answer = run(command(tmp_path, TRAINED, *on_slurm(tmp_path, **site)), cluster.environment)
    assert answer.returncode != 0
    assert [said for said in answer.text.splitlines() if said.startswith("profiles/slurm:")] == [
        line
    ]
    assert "Traceback" not in answer.text
    assert jobs_of(cluster, tmp_path) == []


# --- with accounting --------------------------------------------------------------------------


@with_accounting
def test_with_accounting_states_come_from_sacct_and_a_report_is_written(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True, symlinks=True)
    with slurm_cluster.cluster(accounting=True) as cluster:
        wrong = run(
            command(tmp_path, TRAINED, *on_slurm(tmp_path, account="nobody")), cluster.environment
        )
        assert wrong.returncode != 0 and "Traceback" not in wrong.text
        lines = [said for said in wrong.text.splitlines() if said.startswith("profiles/slurm:")]
        assert lines == ["profiles/slurm: account 'nobody' is not yours; allowed: root, thesis"]

        targets = [TRAINED, RAW]
        words = command(tmp_path, *targets, *on_slurm(tmp_path, account="thesis"), "--verbose")
        text = succeed(words, cluster.environment)
        assert "command=sacct" in text
        listed = cluster.ask(
            *("sacct", "--allusers", "--allocations", "--noheader", "--parsable2"),
            "--format=Account,State,Partition,AllocTRES,Comment",
        )
        jobs = {line.split("|")[-1]: line.split("|") for line in listed.splitlines()}
    assert sorted(jobs) == [
        "rule_extract_raw_wildcards_digits",
        FINETUNING,
    ]
    for comment, (account, state, partition, tres, _) in jobs.items():
        assert account == "thesis" and state == "COMPLETED"
        assert ("gres/gpu=1" in tres.split(",")) == ("finetune" in comment)
        assert partition == ("gpu" if "finetune" in comment else "cpu")
    (report,) = (tmp_path / "results" / "efficiency").glob("efficiency_report_*.csv")
    efficiency = pd.read_csv(report)
    assert {"rule_extract_raw_wildcards_digits", FINETUNING} == set(efficiency["RuleName"])
    assert (efficiency["MaxRSS_MB"] > 50).all()
