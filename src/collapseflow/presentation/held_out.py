"""Which point of a sweep is the best, by images that no network was trained on and that no table
reports: held-out training images, never the test images."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from collapseflow.presentation.material import DescribedRun
from collapseflow.presentation.rows import over_seeds, read_csv, run_rows

#: Their names in training.csv. Where test images go through the network in training mode their
#: accuracy has the same name; a loss is there of held-out images only.
ACCURACY, LOSS = "validation_accuracy", "validation_loss"


def final_accuracies(training: str | Path, runs: Sequence[DescribedRun]) -> pd.DataFrame:
    """Accuracy and loss on held-out images of each run's last network.

    Parameters
    ----------
    training
        What :func:`collapseflow.presentation.tables.runs.training_table` wrote.

    Returns
    -------
    Columns ``dataset``, ``series``, ``seed``, :data:`ACCURACY` and :data:`LOSS`: a row for each run
    that holds images out and has not failed.
    """
    rows = run_rows(read_csv(training), runs)
    last = {(run.dataset, run.series): run.last for run in runs}
    found = []
    for (dataset, series, seed), group in rows.groupby(["dataset", "series", "seed"], sort=False):
        values = group.set_index(["quantity", "epoch"])["value"]
        # Where training stopped early, the last network is the best epoch's.
        best = group.loc[group["quantity"] == "best_epoch", "value"]
        epoch = int(best.iloc[0]) if len(best) else last[dataset, series]
        if (LOSS, epoch) in values.index:
            numbers = {name: values[name, epoch] for name in (ACCURACY, LOSS)}
            found.append({"dataset": dataset, "series": series, "seed": seed, **numbers})
    return pd.DataFrame(found, columns=["dataset", "series", "seed", ACCURACY, LOSS])


def best_points(accuracies: pd.DataFrame, runs: Sequence[DescribedRun]) -> list[tuple[str, str]]:
    """Of the points of a recipe, with one network on one data set, the one with the best mean
    accuracy on held-out images; of equal ones that with the smaller loss.

    None where points hold out different images, or where there are not two to choose from. A point
    of which a run failed is not chosen.

    Parameters
    ----------
    accuracies
        From :func:`final_accuracies`.

    Returns
    -------
    Data sets and series.
    """
    seeds: dict[tuple[str, str], int] = {}
    sweeps: dict[tuple, dict[tuple[str, str], None]] = {}
    for run in runs:
        point = run.dataset, run.series
        seeds[point] = seeds.get(point, 0) + 1
        if "validation" not in run.setting:
            sweep = run.dataset, run.backbone, run.start, run.recipe
            sweeps.setdefault(sweep, {})[point] = None
    means = {}
    for point, group in accuracies.groupby(["dataset", "series"]):
        if len(group) == seeds[point]:
            means[point] = group[ACCURACY].mean(), -group[LOSS].mean()
    candidates = [[point for point in points if point in means] for points in sweeps.values()]
    return [max(points, key=means.__getitem__) for points in candidates if len(points) > 1]


def spread_over_seeds(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the accuracies of each point
    (:func:`collapseflow.presentation.rows.over_seeds`)."""
    named = accuracies.rename(columns={ACCURACY: "value"})
    named = named.assign(quantity=ACCURACY, low=math.nan, high=math.nan)
    return over_seeds(named, ["dataset", "series"])
