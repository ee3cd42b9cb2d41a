"""How the time and the memory of a dry run grow with the number of jobs.

    python benchmarks/planning.py [DATASETS...]

Studies are made from configuration alone: ten networks, two recipes of 100 epochs, five seeds, and
2 and 20 data sets, which is about 1,000 and 10,000 jobs.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from study import Answer, snakemake

BACKBONES = 10


def study(datasets: int) -> dict:
    """Runs of ten networks with two recipes and five seeds on some data sets."""
    return {
        "study": "sweep",
        "datasets": {f"data{n}": {"source": "digits"} for n in range(datasets)},
        "backbones": {
            f"net{n}": {"model": "resnet18", "image_size": 32, "weights": ["random"]}
            for n in range(BACKBONES)
        },
        "scattering": {"J": 1, "L": 4, "order": 1},
        "seeds": [0, 1, 2, 3, 4],
        "recipes": {"decay": {"epochs": 100, "weight_decay": [0, 0.0005], "measure": "log"}},
    }


def plan(datasets: int) -> tuple[int, Answer]:
    """Jobs and cost of a dry run.

    It is the second one: the first also asks PyTorch and scikit-learn about the study file.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snakemake(folder, study(datasets), "fig_samples", "--dry-run")
        answer = snakemake(folder, study(datasets), "--dry-run")
    jobs = int(re.findall(r"^total +(\d+)$", answer.text, flags=re.M)[-1])
    return jobs, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", type=int, default=[2, 20])
    asked = parser.parse_args().datasets
    print("## Planning of large sweeps\n")
    print(
        "`snakemake --dry-run` of studies made from configuration alone: ten networks, two "
        "recipes of 100 epochs, five seeds, more and more data sets.\n"
    )
    print("| data sets | jobs | seconds | ms a job | memory, MiB | KiB a job |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for datasets in asked:
        jobs, answer = plan(datasets)
        print(
            f"| {datasets:,} | {jobs:,} | {answer.seconds:.1f} "
            f"| {1000 * answer.seconds / jobs:.1f} | {answer.mebibytes:,.0f} "
            f"| {1024 * answer.mebibytes / jobs:.0f} |",
            flush=True,
        )
        print(f"  {jobs:,} jobs: {answer.seconds:.1f} s", file=sys.stderr, flush=True)
    print(flush=True)


if __name__ == "__main__":
    main()
