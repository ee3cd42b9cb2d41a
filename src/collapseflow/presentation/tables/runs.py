"""Accuracy and neural collapse of runs, and what their training said."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from collapseflow.images.datasets import SPLITS
from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.presentation import held_out
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import (
    failures_in_words,
    few_images_in_words,
    identity,
    networks_in_words,
    over_seeds,
    read_csv,
    run_rows,
    seeds_in_words,
    several_seeds,
    swept_keys,
    write_csv,
)
from collapseflow.presentation.tables.writing import (
    Bold,
    Cell,
    failed_in_words,
    seeds_note,
    spread,
    write_table,
)
from collapseflow.running.files import read_json

#: What the tidy tables have of several seeds.
MEANS = ["mean", "sd", "n_seeds", "geometric"]
#: What the tables of runs show: quantity, split and words.
SHOWN = (
    *(("accuracy", s, quantity(f"accuracy_{s}").label_with_unit) for s in SPLITS),
    *((name, "train", quantity(name).label) for name in panels_of("runs")),
)
#: What the table of a sweep says of the choice of a point.
NOTES_ON_VALIDATION = (
    "Validation accuracy: on training images that are held out and not trained on; they are among "
    "those of train accuracy and neural collapse. In bold the best point of a recipe, for each "
    "network and data set. The test images chose nothing: the test accuracy of that point is an "
    "estimate for new images; the highest test accuracy of several points would be none.",
)
NOTES_WITHOUT_VALIDATION = (
    "No point is called the best: no training images were held out (validation) that could choose "
    "it, and the test images would then say too much of it.",
)


def _notes_on_runs(
    runs: Sequence[DescribedRun],
    rows: pd.DataFrame,
    datasets: Mapping[str, str],
    failures: str | Path,
) -> list[str]:
    """What the tables of runs say below: over which seeds, of which classes there are few images,
    and what failed."""
    notes = [seeds_note(seeds_in_words(runs), geometric=True)] if several_seeds(runs) else []
    few = few_images_in_words(rows[rows["split"] == "train"], datasets)
    return [*notes, *(f"{words}." for words in few), *failed_runs_in_words(runs, failures)]


def failed_runs_in_words(runs: Sequence[DescribedRun], failures: str | Path) -> list[str]:
    """The notes about those of some runs that failed."""
    failed = read_csv(failures)
    if len(failed):
        failed = run_rows(failed, runs)
    return failed_in_words(failures_in_words(failed))


def _shown(table: pd.DataFrame) -> list[str]:
    """The cells of one row: mean and standard deviation of all that :data:`SHOWN` lists."""
    by_quantity = table.set_index(["quantity", "split"])
    return [
        spread(name, *by_quantity.loc[(name, split), ["mean", "sd", "half_width"]])
        if (name, split) in by_quantity.index
        else ""
        for name, split, _ in SHOWN
    ]


def _measured(rows: pd.DataFrame, runs: Sequence[DescribedRun]) -> tuple[pd.DataFrame, list[str]]:
    """Mean and standard deviation of all quantities in the rows of some runs, and the names of the
    columns that say what of."""
    rows = rows[rows["quantity"].isin(["accuracy", *panels_of("runs")])]
    names = ["dataset", "backbone", "start", "recipe", *swept_keys(runs)]
    names += ["layer", "epoch", "split", "quantity"]
    return over_seeds(rows, ["series", *names]), names


def collapse_table(material: Material, outputs: Outputs) -> None:
    """Accuracy and neural collapse of all runs, at the start and after the last epoch.

    The CSV has mean, standard deviation and number of seeds, and whether the two are geometric
    (:func:`collapseflow.presentation.rows.over_seeds`), at all epochs, layers and on all splits.
    """
    runs, datasets = material.runs, material.datasets
    measured = run_rows(read_csv(material.measures), runs)
    table, names = _measured(measured, runs)
    several = any(len(run.layers) > 1 for run in runs)
    rows = []
    for (dataset, series), run in {(run.dataset, run.series): run for run in runs}.items():
        chosen = table[(table["dataset"] == dataset) & (table["series"] == series)]
        for layer in run.layers:
            at_layer = chosen[chosen["layer"].isin(["", layer])]
            words = [datasets[dataset], run.label, *([layer] if several else [])]
            for epoch in (0, run.last):
                shown = _shown(at_layer[at_layer["epoch"] == epoch])
                rows.append([*words, str(epoch), *shown])
    header = ["data set", "network", *(["layer"] if several else []), "epoch"]
    notes = [
        "Accuracy of the network itself; neural collapse of its features of the training images. "
        "Epoch 0 is the network before it is trained on the data set.",
        *_notes_on_runs(runs, measured, datasets, material.failures),
    ]
    tidy = table[[*names, *MEANS]]
    n_left = len(header) - 1
    header += [words for *_, words in SHOWN]
    write_table(outputs, tidy, header, rows, notes, n_left)


def sweep_table(material: Material, outputs: Outputs) -> None:
    """Accuracy and neural collapse after the last epoch at every point of the swept recipes.

    Where training images are held out, the accuracy on them as well, and the best point by it
    (:func:`collapseflow.presentation.held_out.best_points`): without them no point is called best.

    The CSV is as that of :func:`collapse_table`, after the last epoch, at the ``layer`` of each
    run; where images are held out also ``validation_accuracy``, on the split ``validation``, and
    ``best``, 1 for the best point.
    """
    runs, datasets = material.swept_runs, material.datasets
    measured = run_rows(read_csv(material.measures), runs)
    table, names = _measured(measured, runs)
    keys = swept_keys(runs)
    accuracies = held_out.final_accuracies(material.training, runs)
    validated = held_out.spread_over_seeds(accuracies).set_index(["dataset", "series"])
    best = held_out.best_points(accuracies, runs)
    points = {(run.dataset, run.series): run for run in runs}
    networks = networks_in_words(runs, material.backbones)
    parts, rows = [], []
    for (dataset, series), run in points.items():
        chosen = table[
            (table["dataset"] == dataset)
            & (table["series"] == series)
            & (table["epoch"] == run.last)
            & table["layer"].isin(["", run.layer])
        ]
        who = identity(run, run.seed, keys)
        setting = [who[key] for key in keys]
        shown: list[Cell] = [*_shown(chosen)]
        if len(validated):
            is_best = (dataset, series) in best
            cell = ""
            if (dataset, series) in validated.index:
                found = validated.loc[(dataset, series)]
                cell = spread("accuracy", found["mean"], found["sd"])
                where = {"layer": "", "epoch": run.last, "split": "validation"}
                row = {**who, **where, "quantity": held_out.ACCURACY, **found}
                row["n_seeds"] = int(found["n_seeds"])
                chosen = pd.concat([pd.DataFrame([row])[chosen.columns.drop("series")], chosen])
            shown.insert(0, Bold(cell) if is_best else cell)
            chosen = chosen.assign(best=int(is_best))
        parts.append(chosen)
        rows.append(
            [
                datasets[dataset],
                networks[run.backbone, run.start],
                run.recipe,
                *setting,
                *shown,
            ]
        )
    swept = [key.replace("_", " ") for key in keys]
    header = ["data set", "network", "recipe", *swept]
    header += [quantity(held_out.ACCURACY).label_with_unit] if len(validated) else []
    header += [words for *_, words in SHOWN]
    notes = [
        "After the last epoch. Accuracy of the network itself; neural collapse of its features of "
        "the training images.",
        *(NOTES_ON_VALIDATION if len(validated) else NOTES_WITHOUT_VALIDATION),
        *_notes_on_runs(runs, measured, datasets, material.failures),
    ]
    tidy = pd.concat(parts)[[*names, *MEANS, *(["best"] if len(validated) else [])]]
    write_table(outputs, tidy, header, rows, notes, n_left=3)


def training_table(material: Material, outputs: Outputs) -> None:
    """What training said of every epoch of every run, as tidy rows.

    Columns as in measures.csv, as far as they apply; quantities ``loss``, ``learning_rate`` (of the
    last batch), ``gradient_norm`` (mean over the batches), ``last_batch_accuracy`` (training mode),
    ``validation_accuracy`` (test images in training mode, where they go through the network, or
    held-out images in evaluation mode), ``validation_loss`` (of held-out images), ``best_epoch``
    (at the epoch after which training stopped early), ``seconds``, ``images_per_second``. Of a
    training that was made elsewhere what its log has of them
    (:func:`collapseflow.presentation.logs.read_log`).
    """
    keys = swept_keys(material.runs)
    records = []
    for run, path in zip(material.runs, material.logs, strict=True):
        who = identity(run, run.seed, keys)
        for record in read_json(path):
            epoch = record.pop("epoch")
            records += [
                {**who, "epoch": epoch, "quantity": name, "value": value}
                for name, value in record.items()
            ]
    columns = ["dataset", "backbone", "start", "recipe", *keys]
    columns += ["seed", "epoch", "quantity", "value"]
    write_csv(outputs["csv"], pd.DataFrame(records, columns=columns))
