"""The caption of a figure or table, for a paper."""

from collections.abc import Mapping
from pathlib import Path

from collapseflow.images.datasets import read_info
from collapseflow.presentation.material import CLASSES, DescribedRun, Material, Outputs
from collapseflow.presentation.rows import read_csv, seeds_in_words
from collapseflow.presentation.tables.writing import latex
from collapseflow.running.files import write_text


def write_caption(words: str, material: Material, outputs: Outputs) -> None:
    """Write the caption beside a figure, and above a table in LaTeX as a comment.

    Parameters
    ----------
    words
        What Snakemake's report says, in reStructuredText; empty of what nobody is shown.
    material, outputs
        Of the figure or table: how many images, trainings and feature sets it is of, as far as its
        job knows, are further sentences.
    """
    if not words:
        return
    caption = " ".join([" ".join(words.replace("``", "").split()), *_what(material)])
    if "txt" in outputs:
        write_text(outputs["txt"], f"{caption}\n")
    if "tex" in outputs:
        table = Path(outputs["tex"]).read_text(encoding="utf-8")
        write_text(outputs["tex"], f"% \\caption{{{latex(caption)}}}\n{table}")


def _what(material: Material) -> list[str]:
    """How many images, trainings and feature sets a figure or table is of, a sentence each."""
    told = vars(material)
    dataset = told.get("dataset")
    sentences = []
    if "images" in told:
        sizes = read_info(told["images"]).n
        sentences.append(f"Images: {_in_words(sizes)}.")
    elif "measures" in told:
        labels = told.get("datasets") or {dataset: told["title"]}
        shown = [name for name in labels if dataset in (None, name)]
        sizes = _measured(told["measures"])
        words = [f"{labels[name]} {_in_words(sizes[name])}" for name in shown if name in sizes]
        sentences += [f"Images: {'; '.join(words)}."] if words else []
    for name, kind in CLASSES.items():
        described = [one for one in told.get(name, []) if dataset in (None, one.dataset)]
        if described:
            what = "Trainings" if kind is DescribedRun else "Feature sets"
            seeded = kind is DescribedRun or any(one.seeds for one in described)
            seeds = f" ({seeds_in_words(described)})" if seeded else ""
            sentences.append(f"{what}: {len(described)}{seeds}.")
    return sentences


def _in_words(sizes: Mapping[str, int]) -> str:
    words = {"train": "training", "test": "test"}
    return " and ".join(f"{sizes[split]:,} {words[split]}" for split in words if split in sizes)


def _measured(measures: str | Path) -> dict[str, dict[str, int]]:
    """The number of images of each split of each data set: those of the accuracies, which are of
    the whole split."""
    rows = read_csv(measures)
    rows = rows[(rows["quantity"] == "accuracy") & rows["split"].isin(["train", "test"])]
    sizes: dict[str, dict[str, int]] = {}
    for (dataset, split), n in rows.groupby(["dataset", "split"], sort=False)["n"].max().items():
        sizes.setdefault(dataset, {})[split] = int(n)
    return sizes
