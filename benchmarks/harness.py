"""What the comparisons share: fresh processes, alternating rounds, ratios, one Markdown table.

A comparison is a file of its own: it defines sides and rows and calls :func:`compare`. A side is a
function that takes a folder, imports and loads what it needs, and returns the work to be timed;
the work returns a JSON-like answer, by which the sides are held to agree, or a function that gives
it when the clock has stopped; ``answer["share"]`` is the share of the work that was done, where
all of it would take hours, and the time is scaled up by it. Every side runs in a
process of its own, so that its memory is its own, one after another, in rounds; a ratio is the
median over the rounds of the ratio within a round. Starting Python and importing is not timed.
A side that runs networks takes its device as a job does (:func:`device`): a card of its own, on
which float32 is float32 for every side. The process that starts the sides takes none.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import psutil

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

#: Where the runs of the sides stand for the floor.
RUNS = "runs.json"

Answer = dict[str, Any]
Work = Callable[[], Answer | Callable[[], Answer]]
Side = Callable[[Path], Work]


@dataclass(frozen=True)
class Row:
    """One comparison of two sides.

    Attributes
    ----------
    ours, alternative
        Names of sides.
    goal
        Our speed over the alternative's; with ``at_most``, our time over the alternative's.
    agree
        Takes both answers; gives whether the results agree, and the evidence in words.
    """

    ours: str
    alternative: str
    goal: float
    agree: Callable[[dict, dict], tuple[bool, str]]
    at_most: bool = False


@dataclass(frozen=True)
class Run:
    """One run of a side: seconds of its work, MiB it added to the process, its answer, and MiB that
    PyTorch has taken of a card's memory at the peak, with what lay there before the work."""

    seconds: float
    mebibytes: float
    answer: dict[str, Any]
    card_mebibytes: float = 0.0


def compare(
    title: str,
    task: str,
    sides: Mapping[str, Side],
    rows: Sequence[Row],
    prepare: Callable[[Path], None] | None = None,
    floor: Callable[[Path, Mapping[str, list[Run]]], str] | None = None,
    rounds: int = 5,
    per_second: str | None = None,
) -> None:
    """Run the comparison that the calling script is, or one side of it in a child process.

    Parameters
    ----------
    title, task
        Heading of the section, and one paragraph on the work that all sides do.
    prepare
        Writes what the sides read into a folder, once.
    floor
        One paragraph on what the hardware allows and how far from it we end; as a side, in a
        process of its own.
    per_second
        What ``answer["items"]`` counts: speeds are printed as so many a second.
    """
    parser = argparse.ArgumentParser(description=f"{title}: {task}")
    parser.add_argument("--rounds", type=int, default=rounds, help="runs of each side")
    beside = {"prepare": partial(_prepared, prepare), "floor": partial(_floor, floor)}
    arguments = parse(parser, {**sides, **beside})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if prepare:
            run_apart("prepare", folder)
        runs: dict[str, list[Run]] = {side: [] for side in sides}
        for number in range(arguments.rounds):
            # Every other round backwards: a machine that slows down or warms up favours no side.
            for side in list(sides) if number % 2 == 0 else list(reversed(sides)):
                runs[side].append(run_apart(side, folder))
                print(f"  {side}: {runs[side][-1].seconds:.2f} s", file=sys.stderr, flush=True)
        print(f"## {title}\n\n{task}\n")
        different = _print_table(rows, runs, per_second)
        if floor:
            found = {side: list(map(asdict, of_side)) for side, of_side in runs.items()}
            (folder / RUNS).write_text(json.dumps(found))
            print(f"\n{run_apart('floor', folder).answer['words']}")
        print(flush=True)
    if different:
        sys.exit(f"{title}: the results differ: {', '.join(different)}")


def _prepared(prepare: Callable[[Path], None], folder: Path) -> Work:
    prepare(folder)
    return dict


def _floor(floor: Callable[[Path, Mapping[str, list[Run]]], str], folder: Path) -> Work:
    found = json.loads((folder / RUNS).read_text())
    runs = {side: [Run(**run) for run in of_side] for side, of_side in found.items()}
    return lambda: {"words": floor(folder, runs)}


@cache
def device():
    """The device of this process, taken and set as a job's."""
    from collapseflow.running.hardware import pick_device

    return pick_device("auto")


def _on_card() -> bool:
    """Whether this process has used a card."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def parse(parser: argparse.ArgumentParser, sides: Mapping[str, Side]) -> argparse.Namespace:
    """The arguments of a script; in a child process run the side that is asked for and exit."""
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        _run_here(sides[arguments.side], arguments.folder)
        sys.exit()
    return arguments


def _run_here(side: Side, folder: Path) -> None:
    work = side(folder)
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    answer = work()
    if _on_card():
        sys.modules["torch"].cuda.synchronize()
    seconds = time.perf_counter() - started
    taken = sys.modules["torch"].cuda.max_memory_reserved() / 2**20 if _on_card() else 0.0
    added = max(0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 2**20)
    answer = answer() if callable(answer) else answer
    seconds /= answer.get("share", 1)
    print(json.dumps(asdict(Run(seconds, added, answer, taken))))


def run_apart(side: str, folder: Path) -> Run:
    """Run one side of the calling script in a process of its own (:func:`parse`)."""
    words = [sys.executable, sys.argv[0], "--side", side, "--folder", str(folder)]
    child = subprocess.run(words, capture_output=True, text=True, check=False)
    if child.returncode:
        sys.exit(f"{side}: {child.stderr[-3000:]}")
    return Run(**json.loads(child.stdout.splitlines()[-1]))


def _print_table(
    rows: Sequence[Row], runs: Mapping[str, list[Run]], per_second: str | None
) -> list[str]:
    unit = f"{per_second}/s" if per_second else "seconds"
    print(f"| ours | {unit} | MiB | alternative | {unit} | MiB | ratio | goal | results |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- |")
    different = []
    for row in rows:
        ours, other = runs[row.ours], runs[row.alternative]
        ratios = [a.seconds / b.seconds for a, b in zip(other, ours, strict=True)]
        if row.at_most:
            ratios = [1 / ratio for ratio in ratios]
        ratio = statistics.median(ratios)
        met = ratio <= row.goal if row.at_most else ratio >= row.goal
        # The first answers: the rounds repeat the same seeded work.
        agree, words = row.agree(ours[0].answer, other[0].answer)
        if not agree:
            different.append(f"{row.ours} and {row.alternative} ({words})")
        spread = f"{min(ratios):.3g} to {max(ratios):.3g}, n = {len(ratios)}"
        goal = f"{'≤' if row.at_most else '≥'} {row.goal:g}{'' if met else ', missed'}"
        cells = [
            row.ours,
            *_speed_and_memory(ours, per_second),
            row.alternative,
            *_speed_and_memory(other, per_second),
            f"**{ratio:.3g}** ({spread})",
            goal,
            words if agree else f"DIFFERENT: {words}",
        ]
        print(f"| {' | '.join(cells)} |")
    return different


def _speed_and_memory(runs: Sequence[Run], per_second: str | None) -> tuple[str, str]:
    seconds = statistics.median(run.seconds for run in runs)
    speed = runs[0].answer["items"] / seconds if per_second else seconds
    return f"{speed:.3g}", memory(runs)


def memory(runs: Sequence[Run]) -> str:
    """The MiB of a cell: the process's, and the card's where there is one."""
    words = f"{statistics.median(run.mebibytes for run in runs):,.0f}"
    taken = statistics.median(run.card_mebibytes for run in runs)
    return f"{words} + {taken:,.0f} on the card" if taken else words


def matrix_rate(dtype: str) -> float:
    """Multiply-adds count as two: operations a second of PyTorch's faster one of two, a product of
    4096 x 4096 and a convolution of 3 x 3 with 256 channels, whose data a cache can hold."""
    import torch
    from torch.nn.functional import conv2d

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device()).to(getattr(torch, dtype))

    a = random(4096, 4096)
    images, filters = (
        random(*shape).to(memory_format=torch.channels_last)
        for shape in ((64, 256, 16, 16), (256, 256, 3, 3))
    )
    rate = 0.0
    for operations, work in (
        (2 * 4096**3, lambda: a @ a),
        (2 * 64 * 14**2 * 256**2 * 9, lambda: conv2d(images, filters)),
    ):
        for _ in range(5):
            started = time.perf_counter()
            work().flatten()[0].item()
            rate = max(rate, operations / (time.perf_counter() - started))
    return rate


def copy_bandwidth(mebibytes: int = 512) -> float:
    """Bytes a second that one core reads and writes when it copies an array in memory."""
    import numpy as np

    a = np.ones(mebibytes * 2**17)
    b = np.empty_like(a)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        np.copyto(b, a)
        best = min(best, time.perf_counter() - started)
    return 2 * a.nbytes / best
