"""How the time and the memory of a dry run grow with the number of jobs.

    python benchmarks/planning.py [DATASETS...]

Studies of about 1,000, 10,000 and 100,000 jobs are made from configuration alone: 11, 110 and
1,100 data sets, ten networks, 100 epochs of fine-tuning. Prints a table.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
BACKBONES = 10


def study(datasets: int) -> dict:
    """A sweep over data sets and ten networks, one seed."""
    return {
        "study": "sweep",
        "datasets": {f"data{n}": {"source": "digits"} for n in range(datasets)},
        "backbones": {
            f"net{n}": {"model": "resnet18", "image_size": 32, "weights": ["random"]}
            for n in range(BACKBONES)
        },
        "scattering": {"J": 1, "L": 4, "order": 1},
        "finetune": {"epochs": 100, "batch_size": 64},
    }


def plan(datasets: int) -> tuple[int, float, float]:
    """Jobs, seconds and MiB of a dry run, measured in a process of its own.

    It is the second one: the first also asks PyTorch and scikit-learn about the study file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(yaml.safe_dump(study(datasets)))
        words = [sys.executable, "-m", "snakemake", "fig_samples", "--dry-run", "--cores", "2"]
        words += ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", path]
        words = list(map(str, words))
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        words.remove("fig_samples")
        with open(Path(folder) / "output", "w+") as output:
            started = time.perf_counter()
            child = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - started
            output.seek(0)
            text = output.read()
        if status:
            sys.exit(text[-3000:])
        jobs = int(re.findall(r"^total +(\d+)$", text, flags=re.M)[-1])
        return jobs, seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", type=int, default=[11, 110, 1100])
    print("| jobs | seconds | ms a job | MiB | KiB a job |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for datasets in parser.parse_args().datasets:
        jobs, seconds, mebibytes = plan(datasets)
        each = f"{1000 * seconds / jobs:.1f} | {mebibytes:.0f} | {1024 * mebibytes / jobs:.0f}"
        print(f"| {jobs:,} | {seconds:.1f} | {each} |", flush=True)


if __name__ == "__main__":
    main()
