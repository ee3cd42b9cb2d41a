"""The caption of a figure or table, for a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from collapseflow.images.datasets import read_info
from collapseflow.measures.statistics import MATCHED, read_statistics
from collapseflow.presentation.figures.curves import chosen_runs, chosen_splits
from collapseflow.presentation.material import (
    CLASSES,
    Described,
    DescribedRun,
    Material,
    Outputs,
)
from collapseflow.presentation.rows import read_csv, seeds_in_words
from collapseflow.presentation.tables.writing import latex
from collapseflow.running.files import write_text


def write_caption(words: str, splits: Sequence[str], material: Material, outputs: Outputs) -> None:
    """Write the caption beside a figure, and above a table in LaTeX as a comment.

    Parameters
    ----------
    words
        What Snakemake's report says, in reStructuredText; empty of what nobody is shown.
    splits
        Those whose images the numbers are of (:class:`collapseflow.study.products.Product`).
    material, outputs
        Of the figure or table: how many images, trainings and feature sets it shows, as far as its
        job knows, are further sentences.
    """
    if not words:
        return
    caption = " ".join([" ".join(words.replace("``", "").split()), *_what(splits, material)])
    if "txt" in outputs:
        write_text(outputs["txt"], f"{caption}\n")
    if "tex" in outputs:
        table = Path(outputs["tex"]).read_text(encoding="utf-8")
        write_text(outputs["tex"], f"% \\caption{{{latex(caption)}}}\n{table}")


def _what(splits: Sequence[str], material: Material) -> list[str]:
    """How many images, trainings and feature sets a figure or table shows, a sentence each."""
    described = {name: _shown(name, material) for name in CLASSES}
    sentences = _images(_drawn(splits, material), material, described)
    for name, shown in described.items():
        if shown:
            what = "Trainings" if CLASSES[name] is DescribedRun else "Feature sets"
            seeded = CLASSES[name] is DescribedRun or any(one.seeds for one in shown)
            seeds = f" ({seeds_in_words(shown)})" if seeded else ""
            sentences.append(f"{what}: {len(shown)}{seeds}.")
    return sentences


def _shown(name: str, material: Material) -> list[Described]:
    """The runs, or the feature sets, that are shown."""
    told = vars(material)
    found = [one for one in told.get(name, []) if told.get("dataset") in (None, one.dataset)]
    recipes = told.get("only_recipes")
    return chosen_runs(found, recipes) if recipes else found


def _drawn(splits: Sequence[str], material: Material) -> list[str]:
    """The splits that are shown of what there is."""
    shown = chosen_splits(vars(material).get("only_splits", ()))
    return [split for split in splits if ("test" if split == "test" else "train") in shown]


def _images(
    splits: Sequence[str], material: Material, described: Mapping[str, Sequence[Described]]
) -> list[str]:
    """The sentence about the images of some splits; none where nothing is known of them."""
    told = vars(material)
    if "states" in told:
        words = [_in_words(_of_states(told), splits)]
    elif "images" in told:
        words = [_in_words(read_info(told["images"]).n, splits)]
    elif "measures" in told:
        labels = told.get("datasets") or {told["dataset"]: told["title"]}
        shown = {one.dataset for several in described.values() for one in several}
        # First weights are measured on all data sets, also on those that no run is trained on.
        everywhere = "starts" in told or not shown
        sizes = _measured(told["measures"])
        words = [
            f"{label} {in_words}"
            for name, label in labels.items()
            if (everywhere or name in shown)
            and (in_words := _in_words(sizes.get(name, {}), splits))
        ]
    else:
        words = []
    return [f"Images: {'; '.join(words)}."] if any(words) else []


def _in_words(sizes: Mapping[str, int], splits: Sequence[str]) -> str:
    n = {split: f"{sizes[split]:,}" for split in splits if split in sizes}
    words = []
    if "train" in n:
        words.append(f"{n['train']} training")
        words[0] += f" (measures: {n[MATCHED]})" if MATCHED in n else ""
    elif MATCHED in n:
        words.append(f"{n[MATCHED]} training")
    return " and ".join([*words, *([f"{n['test']} test"] if "test" in n else [])])


def _of_states(told: Mapping) -> dict[str, int]:
    """The number of images of each split of a run: of its first state that has not failed."""
    for _, path in told["states"]:
        state = read_statistics(path)
        if state.failed is None:
            of_layer = state.layers[told["layer"]]
            return {split: statistics.n_samples for split, statistics in of_layer.items()}
    return {}


def _measured(measures: str | Path) -> dict[str, dict[str, int]]:
    """The number of images of each split of each data set: the largest of any row. Few-shot
    accuracies count draws instead, and some measures take a part of the images."""
    rows = read_csv(measures).dropna(subset="n")
    sizes: dict[str, dict[str, int]] = {}
    for (dataset, split), n in rows.groupby(["dataset", "split"], sort=False)["n"].max().items():
        sizes.setdefault(dataset, {})[split] = int(n)
    return sizes
