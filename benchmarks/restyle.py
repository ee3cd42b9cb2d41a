"""A figure asked for again in another style, and the planning of the embedded study.

python benchmarks/restyle.py
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import yaml

from study import CORES, EMBEDDED, snakemake

ROUNDS = 5
FIGURE_GOAL, PLANNING_GOAL = 5.0, 3.0
FIGURES = {"fig2": "t-SNE of all features", "fig5": "neural collapse per epoch"}


def quick(study: dict) -> dict:
    """The embedded study with as many panels, points and networks, on one data set and hardly
    trained: only its figures are drawn again."""
    return {
        **study,
        "datasets": {"mnist5k": study["datasets"]["mnist5k"]},
        "pretrain": {**study["pretrain"], "images": 500, "epochs": 1},
        "recipes": {"report_a": {**study["recipes"]["report_a"], "epochs": 1}},
    }


def planning(study: dict) -> list[float]:
    """Seconds of the first dry run in a folder, and of as many more as there are rounds."""
    with tempfile.TemporaryDirectory() as folder:
        return [snakemake(Path(folder), study, "-n").seconds for _ in range(1 + ROUNDS)]


def redrawing(study: dict) -> dict[str, list[float]]:
    """Seconds of asking for each figure with another font size, after all of them are there."""
    seconds: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snakemake(folder, study, *FIGURES)
        for number in range(ROUNDS):
            for figure in FIGURES:
                style = {"font_size": 8.5 + number / 10}
                answer = snakemake(folder, {**study, "style": style}, figure)
                if "\n2 of 2 steps (100%) done" not in answer.text:
                    sys.exit(f"{figure}: not the figure alone was made\n{answer.text}")
                seconds[figure].append(answer.seconds)
                print(f"  {figure}: {answer.seconds:.2f} s", file=sys.stderr, flush=True)
    return seconds


def row(words: str, seconds: list[float], goal: float) -> str:
    """A line of the table: median and spread."""
    median = statistics.median(seconds)
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}, n = {len(seconds)}"
    missed = "" if median < goal else ", missed"
    return f"| {words} | **{median:.2f}** ({spread}) | < {goal:g}{missed} |"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    study = yaml.safe_load(EMBEDDED.read_text())
    first, *again = planning(study)
    figures = redrawing(quick(study))
    print("## A figure in another style\n")
    print(
        f"`snakemake --cores {CORES} FIGURE` after `style.font_size` was changed in the study "
        "file, every other file being there: it plans, draws one figure as PDF and PNG, and ends. "
        "The study has the panels and points of the embedded one. Below, `snakemake -n` of the "
        f"embedded study from nothing; the first one in a folder takes {first:.1f} s, because it "
        "asks PyTorch and scikit-learn about the study file.\n"
    )
    print("| what | seconds | goal |")
    print("| --- | ---: | ---: |")
    for figure, words in FIGURES.items():
        print(row(f"`{figure}`, {words}", figures[figure], FIGURE_GOAL))
    print(row("planning the embedded study", again, PLANNING_GOAL))
    print(flush=True)


if __name__ == "__main__":
    main()
