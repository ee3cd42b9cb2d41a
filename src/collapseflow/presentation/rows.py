"""Tidy rows of all measures of a study: the one file that tables, figures and pandas read.

Runs and feature sets come as the plain mappings that :class:`collapseflow.study.plan.Plan`
describes them with. A run has the keys ``dataset``, ``backbone``, ``start``, ``recipe``,
``setting`` (swept keys and their values), ``seed``, ``series`` (the same for all seeds and data
sets), ``label``, ``start_label``, ``layers`` (in order), ``layer`` (the one that figures over
epochs show), ``last`` (epoch) and ``published`` (the names of published curves, or None). A feature
set has ``features``, ``backbone``, ``start``, ``recipe``, ``setting``, ``epoch``, ``layer``,
``label``, ``seeds`` (empty if no seed touches it) and ``published``; a text that does not apply is
empty, an epoch None.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from collapseflow.measures.intervals import wilson_interval
from collapseflow.running.errors import UserError
from collapseflow.running.files import atomic_path, read_json
from collapseflow.running.words import as_word

#: What tells one run from another, beside the swept keys.
IDENTITY = ["dataset", "backbone", "start", "recipe", "seed"]
#: The columns of measures.csv; one for each swept key follows.
COLUMNS = [*IDENTITY, *("epoch", "layer", "split", "quantity", "value", "low", "high", "n")]
#: NC1 and the three parts of NC2, in words.
MEASURES = {
    "nc1": "NC1",
    "nc2_equinorm": "NC2, equal norms",
    "nc2_equiangularity": "NC2, equal angles",
    "nc2_maximal_angle": "NC2, maximal angle",
}
_NUMBERS = {
    **dict.fromkeys(("seed", "epoch", "n", "n_seeds"), "Int64"),
    **dict.fromkeys(("value", "low", "high", "mean", "sd"), "float64"),
}


def swept_keys(described: Iterable[Mapping]) -> list[str]:
    """The keys that runs or feature sets differ in within a recipe, in their order."""
    return list(dict.fromkeys(key for one in described for key in one["setting"]))


def identity(described: Mapping, seed: int | None, keys: Sequence[str]) -> dict[str, Any]:
    """The columns that say what a run or a feature set is, with an empty text for what it lacks."""
    setting = {key: as_word(value) for key, value in described["setting"].items()}
    names = {key: described[key] for key in ("dataset", "backbone", "start", "recipe")}
    return {**names, **{key: setting.get(key, "") for key in keys}, "seed": seed}


def failure_of(result: Mapping) -> str | None:
    """Why a result is missing in a file of results; None if it is there."""
    return result.get("failed")


def failure_of_cells(content: Mapping[str, Mapping]) -> str | None:
    """Why there are no classifiers on a feature set; None if there are."""
    return next(filter(None, map(failure_of, content.values())), None)


def read_cells(
    features: Sequence[Mapping], cells: Sequence[str | Path]
) -> Iterator[tuple[Mapping, int | None, dict]]:
    """Feature set, seed and content of each file of classifiers.

    Parameters
    ----------
    cells
        One file for each seed of each feature set, or one where no seed touches it.
    """
    owners = [(one, seed) for one in features for seed in one["seeds"] or [None]]
    for (one, seed), path in zip(owners, cells, strict=True):
        yield one, seed, read_json(path)


def collect_measures(
    runs: Sequence[Mapping],
    measures: Sequence[str | Path],
    features: Mapping[str, Sequence[Mapping]],
    cells: Sequence[str | Path],
    datasets: Mapping[str, str],
    csv: str | Path,
    failures: str | Path,
) -> None:
    """Write all measures of a study as tidy rows, and why some are missing.

    Parameters
    ----------
    runs, measures
        Runs, and of each the file of what :func:`collapseflow.measures.epochs.measure_epochs`
        gives.
    features, cells
        The feature sets of each data set, and of each of their seeds the file of what
        :func:`collapseflow.measures.probes.evaluate_all` gives, data set by data set.
    datasets
        Labels of the data sets.
    csv
        A row for each data set, backbone, start, recipe, seed, epoch, layer, split and quantity:
        ``accuracy`` (of the network itself, hence without layer), ``nc1``, ``nc2_equinorm``,
        ``nc2_equiangularity``, ``nc2_maximal_angle``, ``accuracy_<classifier>``. ``low`` and
        ``high`` are the 95 % interval (Wilson 1927) of an accuracy on test images, which are a
        sample; ``n`` counts the images. A column for each swept key comes last.
    failures
        A row for each run or feature set that failed: the first epoch without measures, the layer
        if only some failed, ``what`` (all but seed and epoch) and ``reason`` in words.
    """
    described = [{**one, "dataset": d} for d, several in features.items() for one in several]
    keys = swept_keys([*runs, *described])
    rows, failed = [], []
    for run, path in zip(runs, measures, strict=True):
        content = read_json(path)
        who = identity(run, run["seed"], keys)
        rows += [{**who, **row} for row in _rows_of_run(content)]
        failed += [
            {**who, **failure, "label": run["label"]} for failure in _failures_of_run(content)
        ]
    broken = [_who(failure, keys) for failure in failed]
    for one, seed, content in read_cells(described, cells):
        who = identity(one, seed, keys)
        where = {"epoch": one["epoch"], "layer": one["layer"]}
        reason = failure_of_cells(content)
        if reason is None:
            rows += [{**who, **where, **row} for row in _rows_of_classifiers(content)]
        elif _who(who, keys) not in broken:
            failed.append({**who, **where, "reason": reason, "label": one["label"]})
    for failure in failed:
        words = [datasets[failure["dataset"]], failure.pop("label"), failure["layer"]]
        failure["what"] = ", ".join(filter(None, words))
    write_csv(csv, _frame(rows, [*COLUMNS, *keys]))
    where = ["epoch", "layer", "what", "reason"]
    write_csv(failures, _frame(failed, [*IDENTITY, *where, *keys]))


def _rows_of_run(content: Sequence[Mapping]) -> Iterator[dict]:
    for of_epoch in content:
        accuracies = {}
        for layer, of_layer in of_epoch["layers"].items():
            for split, measured in of_layer.items():
                if failure_of(measured) is not None:
                    continue
                n = measured["n_samples"]
                where = {"epoch": of_epoch["epoch"], "split": split, "n": n}
                for quantity in MEASURES:
                    value = measured[quantity]
                    yield {**where, "layer": layer, "quantity": quantity, "value": value}
                # Only a network with a head of its own predicts, the same at all layers.
                if "accuracy" in measured:
                    of_network = {**where, "layer": "", "quantity": "accuracy"}
                    accuracies[split] = {**of_network, **_share(measured["accuracy"], n, split)}
        yield from accuracies.values()


def _share(value: float, n: int, split: str) -> dict[str, float]:
    """An accuracy, on test images with its interval: training images are all that there are."""
    low, high = wilson_interval(value, n) if split == "test" else (None, None)
    return {"value": value, "low": low, "high": high}


def _rows_of_classifiers(content: Mapping[str, Mapping]) -> Iterator[dict]:
    for classifier, cell in content.items():
        low, high = cell["accuracy_interval"]
        yield {
            "split": "test",
            "quantity": f"accuracy_{classifier}",
            "value": cell["accuracy"],
            "low": low,
            "high": high,
            "n": cell["n_test"],
        }


def _failures_of_run(content: Sequence[Mapping]) -> Iterator[dict]:
    """Epoch, layer and reason of the first failure of each layer; of all layers at once, if they
    fail together."""
    first: dict[str, tuple[int, str]] = {}
    for of_epoch in content:
        for layer, of_layer in of_epoch["layers"].items():
            for measured in of_layer.values():
                reason = failure_of(measured)
                if reason is not None:
                    first.setdefault(layer, (of_epoch["epoch"], reason))
    together = len(set(first.values())) == 1 and len(first) == len(content[0]["layers"])
    if together:
        first = {"": next(iter(first.values()))}
    for layer, (epoch, reason) in first.items():
        yield {"epoch": epoch, "layer": layer, "reason": reason}


def _who(row: Mapping, keys: Sequence[str]) -> tuple:
    return tuple(row[key] for key in [*IDENTITY, *keys])


def _frame(rows: Sequence[Mapping], columns: Sequence[str]) -> pd.DataFrame:
    """A data frame with whole numbers also where some are missing."""
    table = pd.DataFrame(rows, columns=columns)
    whole = [column for column in columns if _NUMBERS.get(column) == "Int64"]
    return table.astype(dict.fromkeys(whole, "Int64"))


def write_csv(path: str | Path, tidy: pd.DataFrame) -> None:
    """Write a data frame without its index, atomically."""
    with atomic_path(path) as temporary:
        tidy.to_csv(temporary, index=False)


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read what :func:`write_csv` wrote; names stay texts (also ``NA`` and ``1e3``).

    Raises
    ------
    UserError
        If the file is no such table.
    """
    try:
        return pd.read_csv(
            path,
            dtype=defaultdict(lambda: str, _NUMBERS),
            keep_default_na=False,
            na_values=dict.fromkeys(_NUMBERS, [""]),
        )
    except (OSError, ValueError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{path}: is no table of measures: {message}") from None


def of_runs(rows: pd.DataFrame, runs: Sequence[Mapping]) -> pd.DataFrame:
    """The rows of some runs, in their order, with a column ``series``."""
    keys = swept_keys(runs)
    others = [c for c in rows.columns if c not in [*COLUMNS, "what", "reason", *keys]]
    table = pd.DataFrame(
        [{**identity(run, run["seed"], keys + others), "series": run["series"]} for run in runs]
    ).astype({"seed": "Int64"})
    return table.merge(rows, on=[*IDENTITY, *keys, *others])


def over_seeds(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation (ddof = 1; missing for one seed) and number of seeds.

    Returns
    -------
    Columns ``by``, ``mean``, ``sd``, ``n_seeds``; rows in the order in which they come first.
    """
    groups = rows.groupby(list(by), sort=False, dropna=False)["value"]
    return groups.agg(mean="mean", sd="std", n_seeds="count").reset_index()


def networks_in_words(
    runs: Sequence[Mapping], backbones: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Labels of the backbones and starts of some runs; the start where a backbone has several."""
    networks = dict.fromkeys((run["backbone"], run["start"]) for run in runs)
    starts = {(run["backbone"], run["start"]): run["start_label"] for run in runs}
    alone = {b for b in backbones if sum(backbone == b for backbone, _ in networks) == 1}
    return {
        (b, start): backbones[b] if b in alone else f"{backbones[b]}, {starts[b, start]}"
        for b, start in networks
    }


def seeds_in_words(described: Iterable[Mapping]) -> str:
    """``seeds 0, 1, 2``: those of some runs, or of some feature sets."""
    several = [one["seeds"] if "seeds" in one else [one["seed"]] for one in described]
    return _seeds(set().union(*several))


def _seeds(seeds: Iterable[int]) -> str:
    words = [str(seed) for seed in sorted(seeds)]
    return f"seed{'s' if len(words) > 1 else ''} {', '.join(words)}"


def several_seeds(runs: Iterable[Mapping]) -> bool:
    """Whether some series has more than one seed."""
    seeds: dict[tuple, set] = defaultdict(set)
    for run in runs:
        seeds[run["dataset"], run["series"]].add(run["seed"])
    return any(len(of_series) > 1 for of_series in seeds.values())


def failures_in_words(failures: pd.DataFrame) -> list[str]:
    """One line for each failure; seeds that failed alike share one."""
    lines = []
    alike = failures.groupby(["what", "epoch", "reason"], sort=False, dropna=False)
    for (what, epoch, reason), group in alike:
        seeds = group["seed"].dropna().tolist()
        words = [what, *([_seeds(seeds)] if seeds else [])]
        words += [] if pd.isna(epoch) else [f"epoch {epoch}"]
        lines.append(f"{', '.join(words)}: {reason}")
    return lines
