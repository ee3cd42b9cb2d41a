"""What is asked of SLURM before a run, answered by small programs in its place."""

import getpass
import os
import shlex

import pytest

from collapseflow import slurm
from collapseflow.errors import UserError
from collapseflow.slurm import (
    Partition,
    cancel_leftovers,
    check,
    check_accounts,
    check_requests,
    has_accounting,
    parse_partitions,
)

CLUSTER = {
    "cpu": Partition(minutes=1440, cpus=64, mem_mb=256000, default=True),
    "gpu": Partition(minutes=None, cpus=32, mem_mb=128000, gpus=4),
}
RECORDS = "AccountingStorageType   = accounting_storage/slurmdbd"
NO_RECORDS = "AccountingStorageType   = accounting_storage/none"


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    """The only folder with programs: nothing here asks a real cluster."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return folder


@pytest.fixture
def program(programs):
    """A function that makes a program: what it prints, as text or from a file; how it ends."""

    def make(name, prints="", error="", status=0):
        path = programs / name
        lines = ["#!/bin/sh", f'echo "$*" >> {shlex.quote(str(path))}.asked']
        if isinstance(prints, os.PathLike):
            lines.append(
                f'while IFS= read -r line; do echo "$line"; done < {shlex.quote(str(prints))}'
            )
        elif prints:
            lines.append(f"printf '%s\\n' {shlex.quote(prints)}")
        if error:
            lines.append(f"printf '%s\\n' {shlex.quote(error)} >&2")
        path.write_text("\n".join([*lines, f"exit {status}", ""]))
        path.chmod(0o755)

    return make


@pytest.fixture
def asked(programs):
    """A function that gives the arguments of each call of a program."""

    def read(name):
        path = programs / f"{name}.asked"
        return path.read_text().splitlines() if path.exists() else []

    return read


def lines_of(caught):
    return str(caught.value).splitlines()


# --- partitions -------------------------------------------------------------------------------


def test_a_partition_is_the_largest_of_its_nodes():
    listing = (
        "cpu*|1-00:00:00|64|256000|(null)\n"
        "gpu|infinite|32|128000|gpu:v100:2\n"
        "cpu*|1-00:00:00|16|1024000|(null)\n"
        "gpu|infinite|24|512000|gpu:a100:8(S:0-1)\n"
        "gpu|infinite|48|64000|(null)\n"
    )
    assert parse_partitions(listing) == {
        "cpu": Partition(minutes=1440, cpus=64, mem_mb=1024000, gpus=0, default=True),
        "gpu": Partition(minutes=None, cpus=48, mem_mb=512000, gpus=8, default=False),
    }


def test_a_cluster_may_have_no_partitions():
    assert parse_partitions("") == {}


def test_at_least_so_many_is_read_as_so_many():
    assert parse_partitions("all|infinite|16+|64000+|(null)\n") == {
        "all": Partition(minutes=None, cpus=16, mem_mb=64000)
    }


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("infinite", None),
        ("n/a", None),
        ("0:30", 0.5),
        ("30:00", 30),
        ("1:00:30", 60.5),
        ("12:00:00", 720),
        ("1-00:00:00", 1440),
        ("7-12:30:00", 10830),
        ("365-00:00:00", 525600),
    ],
)
def test_time_limits_are_read_as_sinfo_prints_them(limit, minutes):
    assert parse_partitions(f"p|{limit}|1|1|(null)\n")["p"].minutes == minutes


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", 0),
        ("gpu", 1),
        ("gpu:4", 4),
        ("gpu:a100:4", 4),
        ("gpu:a100", 1),
        ("gpu:4(S:0-1)", 4),
        ("gpu:a100:4(S:0-1)", 4),
        ("gpu:a100:4(S:0,2)", 4),
        ("gpu:a100:2,gpu:v100:3", 5),
        ("gpu:a100:2(S:0),gpu:v100:3(S:1)", 5),
        ("gpu:1,nvme:2", 1),
        ("nvme:2,gpu:1g.10gb:7", 7),
        ("nvme:2", 0),
        ("gpufree:3", 0),
    ],
)
def test_gpus_are_counted_as_sinfo_prints_them(gres, gpus):
    assert parse_partitions(f"p|infinite|1|1|{gres}\n")["p"].gpus == gpus


# --- requests ---------------------------------------------------------------------------------


def refused(requests, partitions=CLUSTER):
    """The lines of the refusal."""
    with pytest.raises(UserError) as caught:
        check_requests(requests, partitions)
    return lines_of(caught)


def test_nothing_is_said_of_what_just_fits():
    on_cpu = {"mem_mb": 256000, "runtime": 1440}
    on_gpu = {"slurm_partition": "gpu", "gpu": 4, "mem_mb": 128000, "runtime": 10**9}
    requests = [
        ("summary", 1, {}),
        ("classify", 64, on_cpu),
        ("embed", 64, {**on_cpu, "slurm_partition": ""}),
        ("embed", 64, {**on_cpu, "slurm_partition": "cpu", "gpu": 0}),
        ("finetune", 32, on_gpu),
    ]
    check_requests(requests, CLUSTER)
    check_requests([], {})


@pytest.mark.parametrize(
    ("threads", "resources", "words"),
    [
        (
            1,
            {"gpu": 1},
            "gpu 1 is more than partition 'cpu' has (0 GPUs on a node); "
            "set gpu_partition, or `device: cpu` in the study",
        ),
        (
            65,
            {},
            "threads 65 is more than partition 'cpu' has (64 CPUs on a node); "
            "set another partition, or set-resources for this rule",
        ),
        (
            1,
            {"mem_mb": 256001},
            "mem_mb 256001 is more than partition 'cpu' has (256000 MB on a node); "
            "set another partition, or set-resources for this rule",
        ),
        (
            1,
            {"runtime": 1441},
            "runtime 1441 is more than partition 'cpu' has (1440 minutes); "
            "set another partition, or set-resources for this rule",
        ),
    ],
    ids=["gpu", "threads", "mem_mb", "runtime"],
)
def test_what_no_node_can_serve_is_one_line(threads, resources, words):
    expected = [f"profiles/slurm: rule embed: {words}"]
    assert refused([("embed", threads, resources)]) == expected
    named = {**resources, "slurm_partition": "cpu"}
    assert refused([("embed", threads, resources), ("embed", threads, named)]) == expected


def test_every_mistake_of_every_rule_has_a_line_of_its_own():
    too_much = {"gpu": 5, "mem_mb": 128001, "slurm_partition": "gpu"}
    lines = refused([("a", 33, too_much), ("fits", 1, {}), ("b", 33, too_much)])
    assert len(lines) == 6
    for rule in ("a", "b"):
        for key in ("gpu 5", "threads 33", "mem_mb 128001"):
            (line,) = [
                line for line in lines if line.startswith(f"profiles/slurm: rule {rule}: {key}")
            ]
            assert "partition 'gpu'" in line


def test_an_unknown_partition_is_named_once_with_those_that_there_are():
    lost = {"slurm_partition": "gqu", "mem_mb": 10**9}
    assert refused([("a", 1, lost), ("b", 1000, lost)]) == [
        "profiles/slurm: partition 'gqu' is unknown; allowed: cpu, gpu"
    ]


def test_without_a_default_partition_one_must_be_set():
    partitions = {**CLUSTER, "cpu": Partition(minutes=1440, cpus=64, mem_mb=256000)}
    check_requests([("a", 1, {"slurm_partition": "cpu"})], partitions)
    assert refused([("a", 1, {}), ("b", 1000, {"slurm_partition": ""})], partitions) == [
        "profiles/slurm: this cluster has no default partition: set cpu_partition and "
        "gpu_partition; allowed: cpu, gpu"
    ]


# --- accounts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configuration", "records"),
    [
        (f"Configuration data\nAccountingStorageHost = db\n{RECORDS}\nAuthType = x", True),
        (NO_RECORDS, False),
        ("AccountingStorageType   = (null)", False),
        (f"Other{RECORDS}", False),
        ("", False),
    ],
)
def test_a_cluster_with_a_database_keeps_records(program, asked, configuration, records):
    program("scontrol", configuration)
    assert has_accounting() is records
    assert asked("scontrol") == ["show config"]


def test_a_cluster_that_does_not_answer_keeps_no_records(program):
    program("scontrol", error="Unable to contact slurm controller", status=1)
    assert not has_accounting()


def test_without_slurm_there_are_no_records():
    assert not has_accounting()


def test_accounts_of_the_user_pass(program, asked):
    program("scontrol", RECORDS)
    program("sacctmgr", "physics\nphysics\nmaths")
    check_accounts({"physics", "maths"})
    (question,) = asked("sacctmgr")
    assert f"user={getpass.getuser()}" in question.split()


@pytest.mark.parametrize(
    ("listed", "allowed"),
    [
        ("physics\nmaths\nphysics", "maths, physics"),
        ("", "none: ask the cluster's support for one"),
    ],
)
def test_an_account_of_others_is_refused_in_one_line(program, listed, allowed):
    program("scontrol", RECORDS)
    program("sacctmgr", listed)
    with pytest.raises(UserError) as caught:
        check_accounts(["phys"])
    assert lines_of(caught) == [f"profiles/slurm: account 'phys' is not yours; allowed: {allowed}"]


@pytest.mark.parametrize("enforced", ["none", "associations,limits,qos"])
@pytest.mark.parametrize("listed", ["", "physics"])
def test_who_has_no_account_is_told_so_where_the_cluster_insists(program, enforced, listed):
    program("scontrol", f"{RECORDS}\nAccountingStorageEnforce = {enforced}")
    program("sacctmgr", listed)
    if enforced == "none" or listed:
        check_accounts([""])
        return
    with pytest.raises(UserError) as caught:
        check_accounts([""])
    assert lines_of(caught) == [
        "profiles/slurm: account '' is not yours; allowed: none: ask the cluster's support for one"
    ]


def test_without_records_every_account_passes(program, asked):
    program("scontrol", NO_RECORDS)
    program("sacctmgr", error="You are not running a supported accounting_storage", status=1)
    check_accounts({"anything"})
    assert asked("sacctmgr") == []


# --- all of it --------------------------------------------------------------------------------

REQUESTS = [
    ("classify", 2, {"mem_mb": 1000, "runtime": 60, "slurm_account": "physics"}),
    ("finetune", 2, {"gpu": 1, "slurm_partition": "gpu", "slurm_account": ""}),
]


def test_jobs_are_compared_with_what_the_cluster_says_of_itself(program):
    program("sinfo", "cpu*|1:00:00|2|1000|(null)\ngpu|infinite|2|1000|gpu:1")
    program("scontrol", RECORDS)
    program("sacctmgr", "physics")
    check(iter(REQUESTS))
    program("sinfo", "cpu*|59:00|2|1000|(null)\ngpu|infinite|2|1000|(null)")
    with pytest.raises(UserError) as caught:
        check(iter(REQUESTS))
    runtime, gpu = lines_of(caught)
    assert "rule classify: runtime 60" in runtime and "rule finetune: gpu 1" in gpu
    program("sinfo", "cpu*|infinite|2|1000|(null)\ngpu|infinite|2|1000|gpu:1")
    program("sacctmgr", "maths")
    with pytest.raises(UserError, match="account 'physics' is not yours; allowed: maths"):
        check(iter(REQUESTS))


def test_jobs_without_an_account_need_none(program):
    program("sinfo", "cpu*|1:00:00|2|1000|(null)\ngpu|infinite|2|1000|gpu:1")
    program("scontrol", RECORDS)
    program("sacctmgr")
    check([("classify", 2, {"slurm_account": ""}), ("summary", 1, {})])


# --- jobs of an earlier run -------------------------------------------------------------------


@pytest.fixture
def clock(stop_the_clock):
    return stop_the_clock(slurm)


@pytest.fixture
def queue(tmp_path, program):
    """The file that squeue shows; scancel only notes what it is asked for."""
    path = tmp_path / "queue"
    path.touch()
    program("squeue", path)
    program("scancel")
    return path


def jobs(*rows):
    return "".join("|".join(map(str, row)) + "\n" for row in rows)


def test_nothing_is_cancelled_where_nothing_is_left(queue, asked, clock, tmp_path):
    assert cancel_leftovers(tmp_path) == []
    assert asked("scancel") == []
    assert clock.waited == 0
    (question,) = asked("squeue")
    assert "--me" in question.split()


def test_only_jobs_of_snakemake_in_this_folder_are_cancelled(
    queue, asked, clock, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLURM_JOB_ID", "14")
    others = [
        (11, "(null)", tmp_path),
        (12, "my_rule_job", tmp_path),
        (13, "rule_embed", tmp_path / "other study"),
        (14, "rule_study", tmp_path),
        (15, "rule_embed", tmp_path.parent),
        (16, "a|b", tmp_path),
    ]
    mine = [(21, "rule_embed_wildcards_digits", tmp_path), (22, "rule_summary", f"{tmp_path}/")]
    queue.write_text(jobs(*others[:3], *mine, *others[3:]))
    clock.meanwhile = lambda: queue.write_text(jobs(*others))
    assert cancel_leftovers(tmp_path) == ["21", "22"]
    assert asked("scancel") == ["21 22"]


def test_of_the_job_that_snakemake_runs_in_the_whole_number_counts(
    queue, clock, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    queue.write_text(jobs((11, "rule_embed", tmp_path), (1, "rule_study", tmp_path)))
    clock.meanwhile = lambda: queue.write_text("")
    assert cancel_leftovers(tmp_path) == ["11"]


@pytest.mark.parametrize(("workdir", "folder"), [("link", "."), ("study", "../link"), ("link", "")])
def test_the_folder_may_go_by_another_name(queue, clock, tmp_path, monkeypatch, workdir, folder):
    (tmp_path / "study").mkdir()
    (tmp_path / "link").symlink_to("study")
    monkeypatch.chdir(tmp_path / "study")
    queue.write_text(jobs((7, "rule_embed", tmp_path / workdir)))
    clock.meanwhile = lambda: queue.write_text("")
    assert cancel_leftovers(folder) == ["7"]


def test_cancelled_jobs_are_waited_for_until_the_last_one_is_gone(queue, asked, clock, tmp_path):
    left = [(21, "rule_embed", tmp_path), (22, "rule_summary", tmp_path)]
    queue.write_text(jobs(*left))

    def end():
        if clock.waited > 60:
            queue.write_text("")
        elif clock.waited > 30:
            queue.write_text(jobs(left[1]))

    clock.meanwhile = end
    assert cancel_leftovers(tmp_path, seconds=100) == ["21", "22"]
    assert clock.waited > 60
    assert len(asked("scancel")) == 1


def test_jobs_that_do_not_end_are_an_error_in_one_line(queue, clock, tmp_path):
    queue.write_text(jobs((21, "rule_a", tmp_path), (22, "rule_b", tmp_path)))
    clock.meanwhile = lambda: queue.write_text(jobs((22, "rule_b", tmp_path)))
    with pytest.raises(UserError) as caught:
        cancel_leftovers(tmp_path, seconds=5)
    assert lines_of(caught) == [
        "SLURM jobs 22 of an interrupted run do not end; look at them with squeue and start "
        "again when they are gone"
    ]
    assert 5 < clock.waited < 10


# --- no SLURM, or one that fails --------------------------------------------------------------

QUESTIONS = {
    "squeue": lambda folder: cancel_leftovers(folder),
    "scancel": lambda folder: cancel_leftovers(folder),
    "sinfo": lambda folder: check([]),
    "sacctmgr": lambda folder: check_accounts(["physics"]),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_program_that_is_missing_is_named_in_one_line(queue, program, programs, tmp_path, name):
    queue.write_text(jobs((21, "rule_embed", tmp_path)))
    program("scontrol", RECORDS)
    (programs / name).unlink(missing_ok=True)
    with pytest.raises(UserError) as caught:
        QUESTIONS[name](tmp_path)
    assert lines_of(caught) == [f"{name}: not found; run this on a SLURM cluster"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "slurm: first\nslurm: Unable to contact controller",
            "slurm: Unable to contact controller",
        ),
        ("", "exit status 3"),
    ],
    ids=["with words", "without"],
)
@pytest.mark.parametrize("name", QUESTIONS)
def test_an_error_of_slurm_is_one_line(queue, program, tmp_path, name, error, words):
    queue.write_text(jobs((21, "rule_embed", tmp_path)))
    program("scontrol", RECORDS)
    program(name, error=error, status=3)
    with pytest.raises(UserError) as caught:
        QUESTIONS[name](tmp_path)
    assert lines_of(caught) == [f"{words}; is this a login node of a SLURM cluster?"]
