"""What is asked of SLURM before a run, answered by small programs in its place."""

import getpass
import json
import os
import shlex
import socket
import subprocess
import sys

import pytest

from collapseflow.running import lease, slurm
from collapseflow.running.errors import UserError
from collapseflow.running.slurm import (
    Partition,
    at_most,
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
    cpu, gpu = CLUSTER["cpu"], CLUSTER["gpu"]
    expected = {"summary": cpu, "classify": cpu, "embed": cpu, "finetune": gpu}
    assert check_requests(requests, CLUSTER) == expected
    assert check_requests([], {}) == {}


@pytest.mark.parametrize(
    ("partition", "key", "amount", "expected"),
    [
        ("cpu", "minutes", 1440, 1440),
        ("cpu", "minutes", 2880, 1440),
        ("gpu", "minutes", 10**9, 10**9),
        ("gpu", "mem_mb", 128001, 128000),
        (None, "mem_mb", 10**9, 10**9),
    ],
)
def test_no_attempt_asks_for_more_than_the_partition_has(partition, key, amount, expected):
    assert at_most(CLUSTER.get(partition), key, amount) == expected


def test_a_limit_between_two_minutes_is_rounded_down():
    assert at_most(parse_partitions("p|1:00:30|1|1|(null)")["p"], "minutes", 120) == 60


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
    offers = check(iter(REQUESTS))
    assert {rule: offer.minutes for rule, offer in offers.items()} == {
        "classify": 60,
        "finetune": None,
    }
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


# --- jobs of other runs -----------------------------------------------------------------------


@pytest.fixture
def clock(stop_the_clock, monkeypatch):
    """One clock for both who wait: for the end of jobs, and for signs of life."""
    clock = stop_the_clock(slurm)
    monkeypatch.setattr(lease, "time", clock)
    return clock


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


@pytest.fixture(scope="module")
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def a_run(tmp_path, ended):
    """A function that leaves the lease of a run in a folder: dead on this machine unless told."""
    held = lease.Lease(tmp_path / "a lease of this process")
    held.acquire()
    mine = json.loads(held.path.read_text())
    held.release()

    def make(name, folder=tmp_path, **changes):
        path = folder / ".snakemake" / "collapseflow" / "runs" / f"{name}.lease"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(mine | {"pid": ended, "token": name} | changes))
        return path

    return make


ALIVE = {"pid": os.getpid()}
ELSEWHERE = {"host": "login2 pid:[4026531836]"}


@pytest.fixture
def said():
    return []


def test_nothing_is_cancelled_where_nothing_is_left(queue, asked, clock, tmp_path, said):
    cancel_leftovers(tmp_path, said.append)
    assert said == []
    assert asked("scancel") == []
    assert clock.waited == 0
    (question,) = asked("squeue")
    assert "--me" in question.split()


def test_only_jobs_of_dead_runs_in_this_folder_are_cancelled(
    queue, asked, clock, tmp_path, a_run, said
):
    (tmp_path / "other study").mkdir()
    leases = [a_run("dead"), a_run("dead2"), a_run("idle")]
    elsewhere = a_run("there", tmp_path / "other study")
    others = [
        (11, "dead", "(null)", tmp_path),
        (12, "dead", "my_rule_job", tmp_path),
        (13, "there", "rule_embed", tmp_path / "other study"),
        (15, "dead", "rule_embed", tmp_path.parent),
        (16, "dead", "a|b", tmp_path),
    ]
    mine = [
        (21, "dead", "rule_embed_wildcards_digits", tmp_path),
        (22, "dead2", "rule_a|b", f"{tmp_path}/"),
    ]
    queue.write_text(jobs(*others[:3], *mine, *others[3:]))
    clock.meanwhile = lambda: queue.write_text(jobs(*others))
    cancel_leftovers(tmp_path, said.append)
    assert asked("scancel") == ["21 22"]
    assert said == ["cancelled SLURM jobs 21, 22 of an interrupted run"]
    assert [path.exists() for path in leases] == [False] * 3
    assert elsewhere.exists()


def test_jobs_of_a_live_run_are_left_alone(queue, asked, clock, tmp_path, a_run, said):
    live, dead = a_run("live", **ALIVE), a_run("dead")
    rows = [(1, "live", "rule_a", tmp_path), (2, "dead", "rule_a", tmp_path)]
    queue.write_text(jobs(*rows, (3, "live", "rule_b", tmp_path)))
    clock.meanwhile = lambda: queue.write_text(jobs(rows[0]))
    cancel_leftovers(tmp_path, said.append)
    assert asked("scancel") == ["2"]
    here = socket.gethostname()
    assert said == [
        f"SLURM jobs 1, 3 are left alone: they belong to a run on {here}, process {os.getpid()}",
        "cancelled SLURM jobs 2 of an interrupted run",
    ]
    assert live.exists() and not dead.exists()


def test_jobs_of_a_run_that_left_no_lease_are_named_and_left_alone(
    queue, asked, clock, tmp_path, said
):
    queue.write_text(jobs((1, "old", "rule_a", tmp_path), (2, "old", "rule_b", tmp_path)))
    cancel_leftovers(tmp_path, said.append)
    assert asked("scancel") == []
    assert said == [
        "SLURM jobs 1, 2 were submitted from this folder by a run that is not known here; "
        "if it no longer runs, cancel them: scancel 1 2"
    ]


def test_a_number_that_another_process_has_now_is_no_sign_of_life(
    queue, asked, clock, tmp_path, a_run, said
):
    a_run("before the reboot", **ALIVE, born="another start 4711")
    queue.write_text(jobs((1, "before the reboot", "rule_a", tmp_path)))
    clock.meanwhile = lambda: queue.write_text("")
    cancel_leftovers(tmp_path, said.append)
    assert asked("scancel") == ["1"]


WAITING = (
    "SLURM jobs 1 belong to a run on login2; waiting up to 180 s for a sign of life",
    "SLURM jobs 1 are left alone: they belong to a run on login2, process {}",
)


def test_a_run_on_another_machine_that_leaves_signs_of_life_is_alive(
    queue, asked, clock, tmp_path, a_run, said, ended
):
    a_run("far", **ELSEWHERE)
    queue.write_text(jobs((1, "far", "rule_a", tmp_path)))
    clock.meanwhile = lambda: clock.waited > 8 and a_run("far", **ELSEWHERE, beat=1)
    cancel_leftovers(tmp_path, said.append)
    assert asked("scancel") == []
    assert said == [WAITING[0], WAITING[1].format(ended)]
    assert 8 < clock.waited < 15


def test_a_run_on_another_machine_without_a_sign_of_life_is_dead(
    queue, asked, clock, tmp_path, a_run, said
):
    far, idle = a_run("far", **ELSEWHERE), a_run("idle", **ELSEWHERE)
    rows = [(1, "far", "rule_a", tmp_path), (2, "far", "rule_b", tmp_path)]
    queue.write_text(jobs(*rows))

    def pass_time():
        # One job ends by itself before the other is cancelled.
        queue.write_text(jobs(rows[1]) if clock.waited < 181 else "")

    clock.meanwhile = pass_time
    cancel_leftovers(tmp_path, said.append)
    assert asked("scancel") == ["2"]
    assert said[-1] == "cancelled SLURM jobs 2 of an interrupted run"
    assert 180 < clock.waited < 190
    # Nothing is known of a run that has no jobs, and nobody waits for it.
    assert not far.exists() and idle.exists()


@pytest.mark.parametrize("left", [True, False])
def test_a_run_holds_a_lease_until_it_ends_and_leaves_it_where_it_leaves_jobs(
    queue, tmp_path, left
):
    script = """
import json, sys
from pathlib import Path
from collapseflow.running.slurm import announce_run
announce_run(sys.argv[1], "mine")
(path,) = (Path(sys.argv[1]) / ".snakemake/collapseflow/runs").iterdir()
print(path.name, json.loads(path.read_text())["pid"])
"""
    queue.write_text(jobs((1, "mine" if left else "other", "rule_a", tmp_path)))
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.communicate()[0].split() == ["mine.lease", str(process.pid)]
    assert process.returncode == 0
    folder = tmp_path / ".snakemake" / "collapseflow" / "runs"
    assert [path.name for path in folder.iterdir()] == (["mine.lease"] if left else [])


@pytest.mark.parametrize(("workdir", "folder"), [("link", "."), ("study", "../link"), ("link", "")])
def test_the_folder_may_go_by_another_name(
    queue, asked, clock, tmp_path, monkeypatch, a_run, said, workdir, folder
):
    (tmp_path / "study").mkdir()
    (tmp_path / "link").symlink_to("study")
    monkeypatch.chdir(tmp_path / "study")
    a_run("dead", tmp_path / "study")
    queue.write_text(jobs((7, "dead", "rule_embed", tmp_path / workdir)))
    clock.meanwhile = lambda: queue.write_text("")
    cancel_leftovers(folder, said.append)
    assert asked("scancel") == ["7"]


def test_cancelled_jobs_are_waited_for_until_the_last_one_is_gone(
    queue, asked, clock, tmp_path, a_run, said
):
    a_run("dead")
    a_run("live", **ALIVE)
    left = [(n, "dead", "rule_embed", tmp_path) for n in (21, 22)]
    others = (23, "live", "rule_embed", tmp_path)
    queue.write_text(jobs(*left, others))

    def end():
        if clock.waited > 60:
            queue.write_text(jobs(others))
        elif clock.waited > 30:
            queue.write_text(jobs(left[1], others))

    clock.meanwhile = end
    cancel_leftovers(tmp_path, said.append, seconds=100)
    assert 60 < clock.waited < 70
    assert asked("scancel") == ["21 22"]


def test_jobs_that_do_not_end_are_an_error_in_one_line(queue, clock, tmp_path, a_run, said):
    path = a_run("dead")
    rows = [(21, "dead", "rule_a", tmp_path), (22, "dead", "rule_b", tmp_path)]
    queue.write_text(jobs(*rows))
    clock.meanwhile = lambda: queue.write_text(jobs(rows[1]))
    with pytest.raises(UserError) as caught:
        cancel_leftovers(tmp_path, said.append, seconds=5)
    assert lines_of(caught) == [
        "SLURM jobs 22 of an interrupted run do not end; look at them with squeue and start "
        "again when they are gone"
    ]
    assert 5 < clock.waited < 10
    assert path.exists()


# --- no SLURM, or one that fails --------------------------------------------------------------

QUESTIONS = {
    "squeue": lambda folder: cancel_leftovers(folder, print),
    "scancel": lambda folder: cancel_leftovers(folder, print),
    "sinfo": lambda folder: check([]),
    "sacctmgr": lambda folder: check_accounts(["physics"]),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_program_that_is_missing_is_named_in_one_line(
    queue, program, programs, tmp_path, a_run, name
):
    a_run("dead")
    queue.write_text(jobs((21, "dead", "rule_embed", tmp_path)))
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
def test_an_error_of_slurm_is_one_line(queue, program, tmp_path, a_run, name, error, words):
    a_run("dead")
    queue.write_text(jobs((21, "dead", "rule_embed", tmp_path)))
    program("scontrol", RECORDS)
    program(name, error=error, status=3)
    with pytest.raises(UserError) as caught:
        QUESTIONS[name](tmp_path)
    assert lines_of(caught) == [f"{words}; is this a login node of a SLURM cluster?"]
