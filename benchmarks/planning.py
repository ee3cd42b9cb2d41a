"""How planning grows with a study: of everything, and of what each submitted job plans first.

    python benchmarks/planning.py [DATASETS...]

Studies are made from configuration alone: ten networks, two recipes of 100 epochs, five seeds, and
2, 12, 20 and 48 data sets, that is 100 runs for each. Beside the wall time stands the processor
time, which other work on the machine changes little.
"""

import argparse
import re
import resource
import sys
import tempfile
from pathlib import Path

from study import Answer, snakemake

BACKBONES = 10
RUNS = 2 * 5 * BACKBONES
#: What a node is told of the one job that it runs, beside options that cost nothing.
ON_A_NODE = (
    *("--target-jobs", "prepare_dataset:dataset=data0", "--allowed-rules", "prepare_dataset"),
    *("--mode", "remote", "--force", "--no-hooks", "--nolock", "--ignore-incomplete"),
)


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


def timed(folder: Path, datasets: int, *arguments: str) -> tuple[Answer, float]:
    """A dry run, and the processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = snakemake(folder, study(datasets), *arguments, "--dry-run")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return answer, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="*", type=int, default=[2, 12, 20, 48])
    asked = parser.parse_args().datasets
    print("## Planning of large sweeps\n")
    print(
        "`snakemake --dry-run` of studies made from configuration alone: ten networks, two "
        "recipes of 100 epochs, five seeds, more and more data sets. One file: "
        "`results/sweep/data/data0.h5`, which waits for nothing; on a node: the same as the job "
        "that a cluster's node is told to run, and plans first. Goals: one job below 3 s at 1,200 "
        "runs and below 10 s at 4,800.\n"
    )
    print("| data sets | runs | of what | jobs | seconds | of processor | ms a job | MiB |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for datasets in asked:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            # The first one also asks PyTorch and scikit-learn about the study file.
            snakemake(folder, study(datasets), "fig_samples", "--dry-run")
            for words, arguments in {
                "everything": ("all",),
                "one file": ("results/sweep/data/data0.h5",),
                "on a node": ON_A_NODE,
            }.items():
                answer, processor = timed(folder, datasets, *arguments)
                jobs = int(re.findall(r"^total +(\d+)$", answer.text, flags=re.M)[-1])
                print(
                    f"| {datasets:,} | {datasets * RUNS:,} | {words} | {jobs:,} "
                    f"| {answer.seconds:.1f} | {processor:.1f} "
                    f"| {1000 * answer.seconds / jobs:.1f} | {answer.mebibytes:,.0f} |",
                    flush=True,
                )
                print(f"  {words}: {answer.seconds:.1f} s", file=sys.stderr, flush=True)
    print(flush=True)


if __name__ == "__main__":
    main()
