"""Main memory of one machine: what jobs that run side by side may take together."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from collapseflow.running.errors import UserError

PROCESS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def free_megabytes() -> int:
    """Nine tenths of the memory that is free now, or of what a container or an allocation has."""
    limits = [psutil.virtual_memory().available, *cgroup_limits()]
    return max(1, int(0.9 * min(limits) / 1e6))


def require_memory(n_bytes: float, of: str, instead: str) -> None:
    """Refuse what the machine, or the container or allocation, can never hold.

    Parameters
    ----------
    of, instead
        What needs so much, and what needs less, in words.

    Raises
    ------
    UserError
        With both numbers.
    """
    most = min([psutil.virtual_memory().total, *cgroup_limits()])
    if n_bytes > most:
        raise UserError(
            f"{of} takes {n_bytes / 1e9:.1f} GB of memory, and there are {most / 1e9:.1f}; "
            f"allowed: {instead}"
        )


def cgroup_limits() -> Iterator[int]:
    """Limits in bytes on the memory of this process and of the groups around it (Linux), in
    version 1 and 2 of control groups."""
    try:
        lines = PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, name = CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / group.lstrip("/")
        # A container sees its own group as the root, whatever its name is outside.
        for place in (folder, *folder.parents):
            limit = place / name
            if place.is_relative_to(root) and limit.is_file():
                words = limit.read_text(encoding="utf-8").strip()
                if words != "max":
                    yield int(words)
