"""The memory of one machine, with files in the place of the kernel's."""

from types import SimpleNamespace

import pytest

from collapseflow.running import memory
from collapseflow.running.errors import UserError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that gives a machine so much free memory and such control groups."""

    def make(available, groups="", limits=()):
        monkeypatch.setattr(
            memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=available)
        )
        monkeypatch.setattr(memory, "PROCESS", tmp_path / "cgroup")
        monkeypatch.setattr(memory, "CGROUPS", tmp_path / "sys")
        (tmp_path / "cgroup").write_text(groups)
        for name, content in dict(limits).items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return make


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("", {}),
        ("0::/\n", {}),
        ("0::/user.slice/a\n", {"user.slice/a/memory.max": "max"}),
        ("0::/user.slice/a\n", {"user.slice/b/memory.max": 10**9}),
        ("3:cpu,cpuacct:/a\n", {"memory/a/memory.limit_in_bytes": 10**9, "a/memory.max": 10**9}),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": 2**63 - 4096}),
    ],
)
def test_without_a_limit_it_is_nine_tenths_of_what_is_free(machine, groups, limits):
    machine(64 * 10**9, groups, limits)
    assert memory.free_megabytes() == 57600


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("0::/user.slice/a\n", {"user.slice/a/memory.max": 8 * 10**9}),
        ("0::/job_1/step_0\n", {"job_1/memory.max": 8 * 10**9, "job_1/step_0/memory.max": "max"}),
        ("0::/a\n", {"memory.max": 8 * 10**9}),
        ("5:cpu:/\n4:memory:/docker/7\n0::/\n", {"memory/memory.limit_in_bytes": 8 * 10**9}),
        (
            "4:hugetlb,memory:/job_1\n",
            {"memory/job_1/memory.limit_in_bytes": 8 * 10**9, "memory.max": 10**9},
        ),
    ],
)
def test_a_limit_of_the_group_or_of_one_around_it_counts(machine, groups, limits):
    machine(64 * 10**9, groups, limits)
    assert memory.free_megabytes() == 7200


def test_a_machine_without_control_groups_has_what_is_free(machine, monkeypatch, tmp_path):
    machine(10**9)
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "none")
    assert memory.free_megabytes() == 900


def test_what_no_memory_holds_is_refused_with_both_numbers(machine, monkeypatch):
    machine(5 * 10**9, "0::/a\n", {"a/memory.max": 3 * 10**9})
    total = SimpleNamespace(available=5 * 10**9, total=8 * 10**9)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: total)
    memory.require_memory(3e9, "all", "less")
    with pytest.raises(
        UserError, match=r"^all takes 3\.1 GB of memory, and there are 3\.0; allowed"
    ):
        memory.require_memory(3.1e9, "all", "less")
