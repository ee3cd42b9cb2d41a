"""Tidy rows of all measures of a study: the one file that tables, figures and pandas read.

Runs and feature sets come as :mod:`collapseflow.study.descriptions` describes them
(:mod:`collapseflow.presentation.material`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from collapseflow.images.datasets import SPLITS
from collapseflow.measures.confusion import balanced_accuracy, imbalance
from collapseflow.measures.few_shot import interval_of_mean
from collapseflow.measures.intervals import wilson_interval
from collapseflow.measures.quantities import (
    BALANCED,
    BOUND,
    CLASSIFIER,
    FEW_SHOT,
    FEWEST_IMAGES,
    QUANTITIES,
    WITH_ALL_IMAGES,
    quantity,
)
from collapseflow.measures.statistics import MATCHED, TRUE
from collapseflow.presentation.material import Described, DescribedFeatures, DescribedRun
from collapseflow.running.files import checked_path, open_checked, read_json, readable
from collapseflow.running.words import as_word

#: What tells one run from another, beside the swept keys.
IDENTITY = ["dataset", "backbone", "start", "recipe", "seed"]
#: The columns of measures.csv; one for each swept key follows.
COLUMNS = [*IDENTITY, *("epoch", "layer", "split", "quantity", "value", "low", "high", "n")]
#: Measures of classes with fewer images are flagged.
ENOUGH_IMAGES = 10
#: The images of a split, in words.
IMAGES = {"train": "training", "test": "test", MATCHED: "matched training"}
_NUMBERS = {
    **dict.fromkeys(("seed", "epoch", "n", "n_seeds"), "Int64"),
    **dict.fromkeys(("value", "low", "high", "mean", "sd"), "float64"),
}


def swept_keys(described: Iterable[Described]) -> list[str]:
    """The keys that runs or feature sets differ in within a recipe, in their order."""
    return list(dict.fromkeys(key for one in described for key in one.setting))


def identity(described: Described, seed: int | None, keys: Sequence[str]) -> dict[str, Any]:
    """The columns that say what a run or a feature set is, with an empty text for what it lacks."""
    setting = {key: as_word(value) for key, value in described.setting.items()}
    names = {key: getattr(described, key) for key in ("dataset", "backbone", "start", "recipe")}
    return {**names, **{key: setting.get(key, "") for key in keys}, "seed": seed}


def failure_of(result: Mapping) -> str | None:
    """Why a result is missing in a file of results; None if it is there."""
    return result.get("failed")


def failure_of_results(content: Mapping[str, Any]) -> str | None:
    """Why there are no results in a file; None if there are. Of classifiers each says it."""
    parts = [content, *(part for part in content.values() if isinstance(part, Mapping))]
    return next(filter(None, map(failure_of, parts)), None)


def with_seeds(
    features: Sequence[DescribedFeatures],
) -> Iterator[tuple[DescribedFeatures, int | None]]:
    """Each feature set with each of its seeds, or once with None where no seed touches it."""
    return ((one, seed) for one in features for seed in one.seeds or [None])


def read_results(
    features: Sequence[DescribedFeatures], files: Sequence[str | Path]
) -> Iterator[tuple[DescribedFeatures, int | None, dict]]:
    """Feature set, seed and content of each file of results.

    Parameters
    ----------
    files
        One for each seed of each feature set, or one where no seed touches it.
    """
    for (one, seed), path in zip(with_seeds(features), files, strict=True):
        yield one, seed, read_json(path)


def collect_measures(
    runs: Sequence[DescribedRun],
    measured_runs: Sequence[Sequence[Mapping]],
    untrained: Sequence[DescribedFeatures],
    measured_untrained: Sequence[Sequence[Mapping]],
    features: Sequence[DescribedFeatures],
    results: Sequence[tuple[Callable[[Mapping], Iterable[dict]], Sequence[str | Path]]],
    datasets: Mapping[str, str],
    csv: str | Path,
    failures: str | Path,
) -> None:
    """Write all measures of a study as tidy rows, and why some are missing.

    Parameters
    ----------
    runs, measured_runs
        Runs, and of each what :func:`collapseflow.measures.collapse.measure_states` gives.
    untrained, measured_untrained
        Feature sets that no training on the data set has touched: raw pixels, scattering, starts;
        and of each seed of each the same, with the set's layer alone.
    features, results
        The feature sets that are analysed; and of each analysis
        (:mod:`collapseflow.study.analyses`) the function that makes rows of its results, and a file
        of them for each seed of each feature set.
    datasets
        Labels of the data sets.
    csv
        A row for each data set, backbone, start, recipe, seed, epoch, layer, split and quantity of
        :mod:`collapseflow.measures.quantities`. ``accuracy`` is of the network itself, hence
        without layer; ``balanced_accuracy_<classifier>`` is there where classes have different
        numbers of test images. ``low`` and ``high`` are the 95 % interval of an accuracy on test
        images, which are a sample (Wilson 1927; of a balanced one
        :func:`collapseflow.measures.confusion.balanced_accuracy`; of images in groups by
        :func:`collapseflow.measures.intervals.effective_share`), or of the mean over the draws of a
        few-shot accuracy; ``n`` counts the images, or the draws. A column for each swept key
        comes last.
    failures
        A row for each run or feature set that failed: the first epoch without measures, the layer
        if only some failed, ``what`` (all but seed and epoch) and ``reason`` in words.
    """
    keys = swept_keys([*runs, *features])
    measured = [
        *((run, run.seed, content) for run, content in zip(runs, measured_runs, strict=True)),
        *(
            (one, seed, content)
            for (one, seed), content in zip(with_seeds(untrained), measured_untrained, strict=True)
        ),
    ]
    rows, failed = [], []
    for described, seed, content in measured:
        who = identity(described, seed, keys)
        rows += [{**who, **row} for row in rows_of_states(content)]
        failed += [
            {**who, **failure, "label": described.label} for failure in _failures_of_states(content)
        ]
    broken = [_who(failure, keys) for failure in failed]
    for make_rows, files in results:
        for (one, seed), path in zip(with_seeds(features), files, strict=True):
            who = identity(one, seed, keys)
            where = {"epoch": one.epoch, "layer": one.layer}
            content = read_json(path)
            # A whole file, but of another version or none of these.
            with readable(path):
                reason = failure_of_results(content)
                made = [] if reason else [{**who, **where, **row} for row in make_rows(content)]
            rows += made
            if reason is not None and _who(who, keys) not in broken:
                failed.append({**who, **where, "reason": reason, "label": one.label})
    for failure in failed:
        words = [datasets[failure["dataset"]], failure.pop("label"), failure["layer"]]
        failure["what"] = ", ".join(filter(None, words))
    write_csv(csv, frame(rows, [*COLUMNS, *keys]))
    where = ["epoch", "layer", "what", "reason"]
    write_csv(failures, frame(failed, [*IDENTITY, *where, *keys]))


def rows_of_states(content: Sequence[Mapping]) -> Iterator[dict]:
    """Of what :func:`collapseflow.measures.collapse.measure_states` gives, without what says of
    which run it is."""
    for state in content:
        accuracies = {}
        for layer, splits in state["layers"].items():
            for split, measured in splits.items():
                if failure_of(measured) is not None:
                    continue
                n = measured["n_samples"]
                where = {"epoch": state["epoch"], "layer": layer, "split": split, "n": n}
                for name, value in measured.items():
                    if name not in QUANTITIES:
                        continue
                    row = {**where, "quantity": name, "value": value}
                    if quantity(name).is_accuracy:
                        row |= _interval(
                            value, n, split, measured.get("effective", {}).get(name, 1)
                        )
                    # Only a network with a head of its own predicts, the same at all layers.
                    if name == "accuracy":
                        accuracies[split] = {**row, "layer": ""}
                    else:
                        yield row
        yield from accuracies.values()


def _interval(share: float, n: int, split: str, effective: float) -> dict[str, float | None]:
    """The interval of an accuracy on test images; training images are all that there are."""
    low, high = wilson_interval(share, n, effective) if split == "test" else (None, None)
    return {"low": low, "high": high}


def balanced(cell: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """The balanced accuracy of a cell of :func:`collapseflow.measures.probes.evaluate_all`, with
    its interval, where classes have different numbers of test images."""
    counts = np.array(cell["confusion"])
    if imbalance(counts) == 1:
        return None
    value, low, high = balanced_accuracy(counts)
    return value, *cell.get("balanced_interval", (low, high))


def classification_rows(content: Mapping[str, Mapping]) -> Iterator[dict]:
    """Of what :func:`collapseflow.measures.probes.evaluate_all` gives."""
    for classifier, cell in content.items():
        low, high = cell["accuracy_interval"]
        yield {
            "split": "test",
            "quantity": CLASSIFIER.member(classifier).name,
            "value": cell["accuracy"],
            "low": low,
            "high": high,
            "n": cell["n_test"],
        }
        if found := balanced(cell):
            value, low, high = found
            yield {
                "split": "test",
                "quantity": BALANCED.member(classifier).name,
                "value": value,
                "low": low,
                "high": high,
                "n": cell["n_test"],
            }


def spectrum_rows(content: Mapping[str, Any]) -> Iterator[dict]:
    """Of what :func:`collapseflow.measures.spectrum.measure_spectrum` gives."""
    for split in (*SPLITS, *([TRUE] if TRUE in content else [])):
        found = content[split]
        for name, value in found.items():
            if name in QUANTITIES:
                n = found["n_samples"]
                if name == "two_nn":
                    n = found["n_sample"] - found["duplicates"]
                yield {"split": split, "quantity": name, "value": value, "n": n}


def few_shot_rows(content: Mapping[str, Any]) -> Iterator[dict]:
    """Of what :func:`collapseflow.measures.few_shot.few_shot` gives."""
    images = {"split": "test", "n": content["n_test"]}
    for shots, found in content["shots"].items():
        accuracies = found["accuracies"]
        low, high = interval_of_mean(accuracies)
        yield {
            "split": "test",
            "quantity": FEW_SHOT.member(shots).name,
            "value": float(np.mean(accuracies)),
            "low": low,
            "high": high,
            "n": len(accuracies),
        }
        if found["bound"] is not None:
            yield {**images, "quantity": BOUND.member(shots).name, "value": found["bound"]}
    if content["all"] is not None:
        yield {**images, "quantity": WITH_ALL_IMAGES, "value": content["all"]}


def _failures_of_states(content: Sequence[Mapping]) -> Iterator[dict]:
    """Epoch, layer and reason of the first failure of each layer; of all layers at once, if they
    fail together."""
    first: dict[str, tuple[int, str]] = {}
    for state in content:
        for layer, splits in state["layers"].items():
            for measured in splits.values():
                reason = failure_of(measured)
                if reason is not None:
                    first.setdefault(layer, (state["epoch"], reason))
    together = len(set(first.values())) == 1 and len(first) == len(content[0]["layers"])
    if together:
        first = {"": next(iter(first.values()))}
    for layer, (epoch, reason) in first.items():
        yield {"epoch": epoch, "layer": layer, "reason": reason}


def _who(row: Mapping, keys: Sequence[str]) -> tuple:
    return tuple(row[key] for key in [*IDENTITY, *keys])


def frame(rows: Sequence[Mapping], columns: Sequence[str]) -> pd.DataFrame:
    """A data frame with whole numbers also where some are missing."""
    table = pd.DataFrame(rows, columns=columns)
    whole = [column for column in columns if _NUMBERS.get(column) == "Int64"]
    return table.astype(dict.fromkeys(whole, "Int64"))


def write_csv(path: str | Path, tidy: pd.DataFrame) -> None:
    """Write a data frame without its index, with its checksums."""
    with checked_path(path) as temporary:
        tidy.to_csv(temporary, index=False)


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read what :func:`write_csv` wrote; names stay texts (also ``NA`` and ``1e3``).

    Raises
    ------
    UserError
        If the file is no such table, or is not as its checksums say.
    """
    with open_checked(path) as file:
        return pd.read_csv(
            file,
            dtype=defaultdict(lambda: str, _NUMBERS),
            keep_default_na=False,
            na_values=dict.fromkeys(_NUMBERS, [""]),
        )


def run_rows(rows: pd.DataFrame, runs: Sequence[DescribedRun]) -> pd.DataFrame:
    """The rows of some runs, in their order, with a column ``series``."""
    keys = swept_keys(runs)
    others = [c for c in rows.columns if c not in [*COLUMNS, "what", "reason", *keys]]
    table = pd.DataFrame(
        [{**identity(run, run.seed, keys + others), "series": run.series} for run in runs]
    ).astype({"seed": "Int64"})
    return table.merge(rows, on=[*IDENTITY, *keys, *others])


def over_seeds(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation (ddof = 1; missing for one seed) and number of seeds.

    Of what figures draw on logarithmic axes they are the geometric ones: the exponentials of mean
    and standard deviation of the logarithms, the second a factor.

    Parameters
    ----------
    rows
        As in measures.csv; ``by`` keeps quantities apart, or there is one.

    Returns
    -------
    Columns ``by``, ``mean``, ``sd``, ``n_seeds``, ``geometric`` (bool), and ``half_width``, half of
    the 95 % interval of a value, the mean over seeds; rows in the order in which they come first.
    """
    geometric = rows["quantity"].map(lambda name: quantity(name).logarithmic).astype(bool)
    # The logarithm of 0 is no number, and the mean with it 0.
    with np.errstate(divide="ignore"):
        values = rows["value"].where(~geometric, np.log(rows["value"].where(geometric)))
    half_width = (rows["high"] - rows["low"]) / 2
    table = rows.assign(value=values, geometric=geometric, half_width=half_width)
    with np.errstate(invalid="ignore"):
        means = table.groupby(list(by), sort=False, dropna=False).agg(
            mean=("value", "mean"),
            sd=("value", "std"),
            n_seeds=("value", "count"),
            geometric=("geometric", "first"),
            half_width=("half_width", "mean"),
        )
    for column in ("mean", "sd"):
        means[column] = means[column].where(~means["geometric"], np.exp(means[column]))
    return means.reset_index()


def networks_in_words(
    runs: Sequence[DescribedRun], backbones: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Labels of the backbones and starts of some runs; the start where a backbone has several."""
    networks = dict.fromkeys((run.backbone, run.start) for run in runs)
    starts = {(run.backbone, run.start): run.start_label for run in runs}
    alone = {b for b in backbones if sum(backbone == b for backbone, _ in networks) == 1}
    return {
        (b, start): backbones[b] if b in alone else f"{backbones[b]}, {starts[b, start]}"
        for b, start in networks
    }


def few_images_in_words(rows: pd.DataFrame, datasets: Mapping[str, str]) -> list[str]:
    """A sentence for each data set of which a class is measured on fewer than
    :data:`ENOUGH_IMAGES` images.

    Parameters
    ----------
    rows
        Of measures.csv: all quantities of what is shown, on the splits that are shown.
    datasets
        Labels of the data sets.
    """
    few = rows[(rows["quantity"] == FEWEST_IMAGES) & (rows["value"] < ENOUGH_IMAGES)]
    few = few[few["split"].isin(IMAGES)]
    sentences = []
    for dataset, its_rows in few.groupby("dataset", sort=False):
        fewest = its_rows.groupby("split")["value"].min()
        sentences.append(f"{datasets[dataset]}: {fewest_in_words(fewest)}")
    return sentences


def fewest_in_words(fewest: Mapping[str, float]) -> str:
    """What is said of a class with fewer than :data:`ENOUGH_IMAGES` images, by split."""
    words = [
        f"{fewest[split]:.0f} {images} image{'' if fewest[split] == 1 else 's'}"
        for split, images in IMAGES.items()
        if split in fewest
    ]
    return (
        f"a class has only {' and '.join(words)}; of fewer than {ENOUGH_IMAGES}, the variance "
        "within the class comes out too small"
    )


def seeds_in_words(described: Iterable[Described]) -> str:
    """``seeds 0, 1, 2``: those of some runs, or of some feature sets."""
    several = [[one.seed] if isinstance(one, DescribedRun) else one.seeds for one in described]
    return numbered_seeds(set().union(*several))


def numbered_seeds(seeds: Iterable[int]) -> str:
    """``seeds 0, 1, 2``, in ascending order."""
    words = [str(seed) for seed in sorted(seeds)]
    return f"seed{'s' if len(words) > 1 else ''} {', '.join(words)}"


def several_seeds(runs: Iterable[DescribedRun]) -> bool:
    """Whether some series has more than one seed."""
    seeds: dict[tuple, set] = defaultdict(set)
    for run in runs:
        seeds[run.dataset, run.series].add(run.seed)
    return any(len(its_seeds) > 1 for its_seeds in seeds.values())


def failures_in_words(failures: pd.DataFrame) -> list[str]:
    """One line for each failure; seeds that failed alike share one."""
    lines = []
    alike = failures.groupby(["what", "epoch", "reason"], sort=False, dropna=False)
    for (what, epoch, reason), group in alike:
        seeds = group["seed"].dropna().tolist()
        words = [what, *([numbered_seeds(seeds)] if seeds else [])]
        words += [] if pd.isna(epoch) else [f"epoch {epoch}"]
        lines.append(f"{', '.join(words)}: {reason}")
    return lines
