"""What each flaw of the two reports is worth."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from collapseflow.measures.correlation import spearman
from collapseflow.measures.quantities import quantity
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import networks_in_words, over_seeds, read_csv, run_rows
from collapseflow.presentation.tables.runs import failed_runs_in_words
from collapseflow.presentation.tables.writing import seeds_note, signed, spread, write_table

LAST_BATCH = "train accuracy on the last batch, not on the whole set"
TRAINING_MODE = "test images in training mode"
LEAK = "test images in the statistics of batch normalisation"
CUTOFF = "absolute cutoff of the pseudo-inverse"
NOT_NORMALISED = "no normalisation as on ImageNet"
COORDINATES = "variances of t-SNE coordinates, not of features"
#: What is not shown under the label of its quantity.
WORDS = {
    "accuracy_linear": "linear probe, test accuracy, %",
    "intra_class": "rank correlation over the classes",
    "pooled_pair": "rank correlation over the pairs of classes",
}
#: Of the bootstrap over classes.
SEED = 0
COLUMNS = [
    *("report", "flaw", "dataset", "network", "seed", "quantity"),
    *("as_reported", "corrected", "difference", "ratio"),
    *("rank_correlation", "low", "high", "n"),
]


def flaws_table(material: Material, outputs: Outputs) -> None:
    """What the reports would say, and what is so: a row for each flaw that the study has.

    Of report A four flaws, each alone, after the last epoch: the accuracy of the last batch, the
    test images in training mode and the absolute cutoff on the weights of the flawed recipe; the
    test images in the statistics of batch normalisation with the weights of the flawed recipe
    against those of the corrected one. Of report B features without ImageNet's normalisation
    against those with it, before any training; and whether variances of t-SNE coordinates, which it
    published, rank classes and pairs as variances of features do, which it meant.

    The CSV has a row for each flaw, data set, network, seed and quantity: values ``as_reported``
    and ``corrected``, their ``difference`` (accuracies; shares of 1) or ``ratio`` (NC1 of the
    training features at the ``layer`` of a run); for variances Spearman's ``rank_correlation`` over
    ``n`` classes or pairs, of classes with its 95 % interval.
    """
    faithful, backbones = material.faithful, material.backbones
    rows = read_csv(material.measures)
    recipes = {recipe for pair in faithful for recipe in pair}
    concerned = [run for run in material.runs if _recipe(run) in recipes]
    records = []
    if concerned:
        records += _rows_of_report_a(
            rows, read_csv(material.training), concerned, faithful, backbones
        )
    records += _without_normalisation(rows, material.without_imagenet, backbones, material.starts)
    for variance in material.variance:
        records += _correlations(read_csv(variance), material.variance_features)
    tidy = pd.DataFrame(records, columns=COLUMNS)
    tidy = tidy.astype({"seed": "Int64", "n": "Int64"})
    correlated = tidy["rank_correlation"].notna().any()
    names = ["report", "flaw", "dataset", "network", "quantity"]
    lines = []
    for (report, flaw, dataset, network, name), group in tidy.groupby(names, sort=False):
        words = WORDS.get(name, quantity(name).label_with_unit)
        lines.append([f"{report}: {flaw}", material.datasets[dataset], network, words])
        lines[-1] += [*_shown(name, group), *([_rank(group)] if correlated else [])]
    header = ["flaw", "data set", "network", "quantity", "as in the report", "corrected"]
    header += ["difference, points", "ratio", *(["rank correlation"] if correlated else [])]
    notes = []
    if concerned:
        notes.append(
            "A: report A, after the last epoch. Test images in the statistics of batch "
            "normalisation: the weights of the flawed recipe against those of the corrected one; "
            "all else on the weights of the flawed one. NC1 of the training features."
        )
    if material.without_imagenet:
        notes.append("B: report B; features before any training on the data set.")
    notes.append(
        "Difference: as in the report minus corrected. Ratio: as in the report over corrected."
    )
    if correlated:
        notes.append(
            "Rank correlation: Spearman's, of the variances of t-SNE coordinates with those of "
            "features; over classes with its 95 % interval (bootstrap). Pairs share their classes, "
            "hence have none."
        )
    if (tidy.groupby(names)["seed"].count() > 1).any():
        notes.append(
            f"{seeds_note('seeds', geometric=True)} Differences: seed by seed. Ratios: the "
            "geometric mean."
        )
    if concerned:
        notes += failed_runs_in_words(concerned, material.failures)
    write_table(outputs, tidy, header, lines, notes, n_left=4)


def _recipe(run: DescribedRun) -> str:
    """The recipe's name in the study, with its swept values."""
    return run.series.split("/", 2)[2]


def _pair(name: str, reported: float | None, corrected: float | None) -> dict[str, Any] | None:
    """A quantity with the flaw and without; None where one of them is missing."""
    if reported is None or corrected is None:
        return None
    values = {"quantity": name, "as_reported": reported, "corrected": corrected}
    if quantity(name).is_accuracy:
        return {**values, "difference": reported - corrected}
    return {**values, "ratio": reported / corrected if corrected else math.nan}


def _rows_of_report_a(
    rows: pd.DataFrame,
    training: pd.DataFrame,
    runs: Sequence[DescribedRun],
    faithful: Sequence[tuple[str, str]],
    backbones: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    networks = networks_in_words(runs, backbones)
    where = ["dataset", "series", "seed", "epoch", "layer", "split", "quantity"]
    measured = _values(run_rows(rows, runs), where)
    logged = _values(run_rows(training, runs), ["dataset", "series", "seed", "epoch", "quantity"])
    for flawed, corrected in faithful:
        for run in runs:
            if _recipe(run) != flawed:
                continue
            network = networks[run.backbone, run.start]
            who = {
                "report": "A",
                "dataset": run.dataset,
                "network": network if len(faithful) == 1 else f"{network}, {corrected}",
                "seed": run.seed,
            }
            series = f"{run.backbone}/{run.start}/{corrected}"
            last = run.dataset, run.series, run.seed, run.last
            instead = run.dataset, series, run.seed, run.last
            nc1 = run.layer, "train", "nc1"
            on_train, on_test = (("", split, "accuracy") for split in ("train", "test"))
            test = measured.get((*last, *on_test))
            pairs = [
                (
                    LAST_BATCH,
                    "accuracy_train",
                    logged.get((*last, "last_batch_accuracy")),
                    measured.get((*last, *on_train)),
                ),
                (TRAINING_MODE, "accuracy_test", logged.get((*last, "validation_accuracy")), test),
                (LEAK, "accuracy_test", test, measured.get((*instead, *on_test))),
                (LEAK, "nc1", measured.get((*last, *nc1)), measured.get((*instead, *nc1))),
                (
                    CUTOFF,
                    "nc1",
                    measured.get((*last, run.layer, "train", "nc1_report_a")),
                    measured.get((*last, *nc1)),
                ),
            ]
            for flaw, *values in pairs:
                if found := _pair(*values):
                    yield {**who, "flaw": flaw, **found}


def _values(rows: pd.DataFrame, names: Sequence[str]) -> dict[tuple, float]:
    """The values by some columns."""
    rows = rows.dropna(subset="value")
    return dict(zip(rows[names].itertuples(index=False, name=None), rows["value"], strict=True))


def _without_normalisation(
    rows: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    backbones: Mapping[str, str],
    starts: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """Features before any training on the data set."""
    shown = (("accuracy_linear", "test"), ("nc1", "train"))
    rows = rows[(rows["recipe"] == "") & (rows["epoch"] == 0)]
    names = ["dataset", "start", "layer", "seed"]
    for without, normalised in pairs:
        for name, split in shown:
            chosen = rows[(rows["quantity"] == name) & (rows["split"] == split)]
            reported, corrected = (
                chosen.loc[chosen["backbone"] == backbone, [*names, "value"]]
                for backbone in (without, normalised)
            )
            both = reported.merge(corrected, on=names, suffixes=("_reported", "_corrected"))
            several = both["layer"].nunique() > 1
            for row in both.itertuples():
                words = [
                    backbones[normalised],
                    starts[row.start],
                    *([row.layer] if several else []),
                ]
                yield {
                    "report": "B",
                    "flaw": NOT_NORMALISED,
                    "dataset": row.dataset,
                    "network": ", ".join(words),
                    "seed": row.seed,
                    **_pair(name, row.value_reported, row.value_corrected),
                }


def _correlations(variance: pd.DataFrame, features: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Do t-SNE coordinates rank classes and pairs as the features do?"""
    names = ["features", "dataset", "split", "quantity"]
    classes = ["class_a", "class_b"]
    coordinates, in_features = (
        variance[variance["space"] == space] for space in ("t-SNE coordinates", "features")
    )
    both = coordinates.merge(in_features, on=[*names, *classes], suffixes=("_tsne", ""))
    for (folder, dataset, split, name), group in both.groupby(names, sort=False):
        found = spearman([(group["value_tsne"], group["value"])], SEED)
        if found.rho is not None:
            yield {
                "report": "B",
                "flaw": COORDINATES,
                "dataset": dataset,
                "network": f"{features[folder]}, {split}",
                "quantity": name,
                "rank_correlation": found.rho,
                **({"low": found.low, "high": found.high} if name == "intra_class" else {}),
                "n": len(group),
            }


def _shown(name: str, group: pd.DataFrame) -> list[str]:
    """Both values, difference and ratio of some seeds."""
    if group["as_reported"].isna().all():
        return [""] * 4
    unbounded = {"quantity": name, "low": math.nan, "high": math.nan}
    values = []
    for column in ("as_reported", "corrected"):
        (means,) = over_seeds(
            group.assign(value=group[column], **unbounded), ["quantity"]
        ).itertuples()
        values.append(spread(name, means.mean, means.sd))
    if quantity(name).is_accuracy:
        mean, sd = group["difference"].mean(), group["difference"].std()
        difference = signed(mean) + ("" if math.isnan(sd) else f" ± {100 * sd:.2f}")
        return [*values, difference, ""]
    # The absolute cutoff may leave nothing, and NC1 zero.
    with np.errstate(divide="ignore"):
        ratio = float(np.exp(np.log(group["ratio"]).mean()))
    return [*values, "", "" if math.isnan(ratio) else f"{ratio:.3g}"]


def _rank(group: pd.DataFrame) -> str:
    """The rank correlation of one row; of trainings, which have seeds, there is none."""
    if group["rank_correlation"].isna().all():
        return ""
    (row,) = group.itertuples()
    text = f"{row.rank_correlation:.2f}"
    return text if pd.isna(row.low) else f"{text} [{row.low:.2f}, {row.high:.2f}]"
