"""Tables: tidy CSV for machines, Markdown and LaTeX for readers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from collapseflow import published
from collapseflow.presentation.rows import (
    MEASURES,
    failure_of_cells,
    failures_in_words,
    identity,
    networks_in_words,
    of_runs,
    over_seeds,
    read_cells,
    read_csv,
    seeds_in_words,
    several_seeds,
    swept_keys,
    write_csv,
)
from collapseflow.running.files import MADE_WITH, read_json, write_text
from collapseflow.running.resume import read_kept

#: What the tables of runs show: quantity, split and words.
SHOWN = (
    ("accuracy", "train", "train accuracy, %"),
    ("accuracy", "test", "test accuracy, %"),
    *((quantity, "train", words) for quantity, words in MEASURES.items()),
)
#: What has a meaning in LaTeX, and what its older versions do not know.
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%_#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "×": r"$\times$",
        "±": r"$\pm$",
        "†": r"$^\dagger$",
        "²": "$^2$",
    }
)


def to_markdown(header: Sequence[str], rows: Sequence[Sequence[str]], n_left: int = 1) -> str:
    """A pipe table; the first ``n_left`` columns are left-aligned, the others to the right."""
    alignment = ["left"] * n_left + ["right"] * (len(header) - n_left)
    table = pd.DataFrame(rows, columns=header).map(_pipe).rename(columns=_pipe)
    return table.to_markdown(index=False, disable_numparse=True, colalign=alignment) + "\n"


def _pipe(cell: str) -> str:
    return cell.replace("|", r"\|")


def to_latex(header: Sequence[str], rows: Sequence[Sequence[str]], n_left: int = 1) -> str:
    """A ``tabular`` in the style of booktabs, from cells in Markdown's notation.

    The cells are put into LaTeX's notation here: pandas' own escaping would make a whole cell bold,
    with the published number that stands beside our best one.
    """
    table = pd.DataFrame(rows, columns=header).map(_latex).rename(columns=_latex)
    alignment = "l" * n_left + "r" * (len(header) - n_left)
    return table.style.hide(axis="index").to_latex(column_format=alignment, hrules=True)


def _latex(cell: str) -> str:
    if cell.startswith("**"):
        bold, _, rest = cell.removeprefix("**").partition("**")
        return rf"\textbf{{{_latex(bold)}}}{_latex(rest)}"
    return cell.translate(_LATEX)


def write_table(
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
    tidy: pd.DataFrame,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    n_left: int = 1,
) -> None:
    """Write one table in its three forms, each atomically."""
    write_csv(csv, tidy)
    footer = "".join(f"\n{note}\n" for note in notes)
    write_text(md, to_markdown(header, rows, n_left) + footer)
    comments = "".join(f"% {note}\n" for note in notes)
    write_text(tex, comments + to_latex(header, rows, n_left))


def spread(quantity: str, mean: float, sd: float) -> str:
    """``mean ± sd`` of one of the quantities of measures.csv; the mean alone where there is one
    seed. Accuracies are in percent with two decimals, others have three and two digits."""
    if quantity.startswith("accuracy"):
        words = [f"{100 * mean:.2f}", f"{100 * sd:.2f}"]
    else:
        words = [f"{mean:#.3g}".removesuffix("."), f"{sd:#.2g}".removesuffix(".")]
    return words[0] if math.isnan(sd) else " ± ".join(words)


def _failed(words: Sequence[str]) -> list[str]:
    """The notes about what failed."""
    return [f"Failed, and left out: {line.removesuffix('.')}." for line in words]


def accuracy_table(
    dataset: str,
    title: str,
    features: Sequence[Mapping],
    cells: Sequence[str | Path],
    classifiers: Mapping[str, str],
    published_classifiers: Mapping[str, str],
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
) -> None:
    """Report A's tables 1 and 2: test accuracy of classifiers (rows) on features (columns).

    Parameters
    ----------
    dataset, title
        Name and label of the data set.
    features
        The columns, as :mod:`collapseflow.presentation.rows` describes them. ``published`` are
        report A's data set and name of the features.
    cells
        For each seed of each feature set the file of what
        :func:`collapseflow.measures.probes.evaluate_all` gives, or why there is nothing.
    classifiers
        Labels of the classifiers, in the order of rows.
    published_classifiers
        Report A's names of the classifiers that it has. A published number is shown where the
        number of features is the same, too.
    csv
        A row for each feature set, seed and classifier that there is; shares of 1.
    """
    known = published.accuracies()
    keys = swept_keys(features)
    records, failed = [], []
    for one, seed, content in read_cells(features, cells):
        reason = failure_of_cells(content)
        if reason is not None:
            words = [one["label"], *([] if seed is None else [f"seed {seed}"])]
            failed.append(f"{', '.join(words)}: {reason}")
            continue
        for classifier in classifiers:
            cell = content[classifier]
            low, high = cell.pop("accuracy_interval")
            del cell[MADE_WITH]
            name = (
                *(one["published"] or ()),
                cell["n_features"],
                published_classifiers.get(classifier),
            )
            value = known.get(name)
            records.append(
                {
                    "column": one["features"],
                    **identity({**one, "dataset": dataset}, seed, keys),
                    "epoch": one["epoch"],
                    "layer": one["layer"],
                    "classifier": classifier,
                    "accuracy": cell.pop("accuracy"),
                    "low": low,
                    "high": high,
                    "published": None if value is None else value / 100,
                    **cell,
                }
            )
    columns = ["column", "seed", "epoch", "classifier", "accuracy", "low", "high", "published"]
    counts = ["n_train", "n_test", "n_features", "converged"]
    tidy = pd.DataFrame(records, columns=None if records else columns + counts)
    tidy = tidy.astype({"seed": "Int64", "epoch": "Int64"})
    means = over_seeds(tidy.assign(value=tidy["accuracy"]), ["column", "classifier"])
    # The published bold marks the best of a column, and so do we; ties are all marked.
    means["best"] = means["mean"] == means.groupby("column")["mean"].transform("max")
    by_cell = means.set_index(["column", "classifier"])
    groups = dict(list(tidy.groupby(["column", "classifier"])))
    rows = []
    for classifier, label in classifiers.items():
        row = [label]
        for one in features:
            name = (one["features"], classifier)
            if name not in groups:
                row.append("")
                continue
            group, cell = groups[name], by_cell.loc[name]
            text = spread("accuracy", cell["mean"], cell["sd"])
            text = f"**{text}**" if cell["best"] else text
            text += "†" if any(converged is False for converged in group["converged"]) else ""
            value = group["published"].iloc[0]
            row.append(text if pd.isna(value) else f"{text} ({100 * value:.2f})")
        rows.append(row)
    sizes = tidy.drop_duplicates("column").set_index("column")["n_features"]
    rows.append(["size", *(str(sizes.get(one["features"], "")) for one in features)])
    notes = [f"{title}: test accuracy in %."]
    if len(tidy):
        notes = [
            f"{title}: test accuracy in %, classifiers fitted on {_range(tidy['n_train'])} "
            f"training images and scored on {_range(tidy['n_test'])} test images. Bold: the best "
            "of a column."
        ]
    seeded = [one for one in features if len(one["seeds"]) > 1]
    if seeded:
        notes.append(
            f"±: standard deviation over {seeds_in_words(seeded)}; columns without it are touched "
            "by no seed, or have one."
        )
    elif len(tidy):
        widest = ((tidy["high"] - tidy["low"]) / 2).max()
        notes.append(f"95 % intervals of the accuracies are at most ± {100 * widest:.1f} points.")
    if tidy["published"].notna().any():
        notes.append("In brackets: published in report A.")
    if any(converged is False for converged in tidy["converged"]):
        notes.append("†: the solver stopped at its iteration limit before it converged.")
    header = [title, *(one["label"] for one in features)]
    tidy = tidy.drop(columns="column")
    write_table(csv, md, tex, tidy, header, rows, [*notes, *_failed(failed)])


def _range(numbers: pd.Series) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _notes_on_runs(runs: Sequence[Mapping], failures: str | Path) -> list[str]:
    """What the tables of runs say below: over which seeds, and what failed."""
    notes = []
    if several_seeds(runs):
        notes.append(f"±: standard deviation over {seeds_in_words(runs)}.")
    failed = read_csv(failures)
    if len(failed):
        failed = of_runs(failed, runs)
    return notes + _failed(failures_in_words(failed))


def _shown(table: pd.DataFrame) -> list[str]:
    """The cells of one row: mean and standard deviation of all that :data:`SHOWN` lists."""
    by_quantity = table.set_index(["quantity", "split"])
    return [
        spread(quantity, *by_quantity.loc[(quantity, split), ["mean", "sd"]])
        if (quantity, split) in by_quantity.index
        else ""
        for quantity, split, _ in SHOWN
    ]


def _measured(measures: str | Path, runs: Sequence[Mapping]) -> tuple[pd.DataFrame, list[str]]:
    """Mean and standard deviation of all quantities of some runs, and the names of the columns
    that say what of."""
    rows = of_runs(read_csv(measures), runs)
    rows = rows[rows["quantity"].isin(["accuracy", *MEASURES])]
    names = ["dataset", "backbone", "start", "recipe", *swept_keys(runs)]
    names += ["layer", "epoch", "split", "quantity"]
    return over_seeds(rows, ["series", *names]), names


def collapse_table(
    measures: str | Path,
    failures: str | Path,
    runs: Sequence[Mapping],
    datasets: Mapping[str, str],
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
) -> None:
    """Accuracy and neural collapse of all runs, at the start and after the last epoch.

    Parameters
    ----------
    measures, failures
        The two tables of :func:`collapseflow.presentation.rows.collect_measures`.
    datasets
        Labels of the data sets.
    csv
        Mean, standard deviation and number of seeds, at all epochs, layers and on both splits.
    """
    table, names = _measured(measures, runs)
    several = any(len(run["layers"]) > 1 for run in runs)
    rows = []
    for (dataset, series), run in {(run["dataset"], run["series"]): run for run in runs}.items():
        chosen = table[(table["dataset"] == dataset) & (table["series"] == series)]
        for layer in run["layers"]:
            of_layer = chosen[chosen["layer"].isin(["", layer])]
            words = [datasets[dataset], run["label"], *([layer] if several else [])]
            for epoch in (0, run["last"]):
                shown = _shown(of_layer[of_layer["epoch"] == epoch])
                rows.append([*words, str(epoch), *shown])
    header = ["data set", "network", *(["layer"] if several else []), "epoch"]
    notes = [
        "Accuracy of the network itself; neural collapse of its features of the training images. "
        "Epoch 0 is the network before it is trained on the data set.",
        *_notes_on_runs(runs, failures),
    ]
    tidy = table[[*names, "mean", "sd", "n_seeds"]]
    n_left = len(header) - 1
    header += [words for *_, words in SHOWN]
    write_table(csv, md, tex, tidy, header, rows, notes, n_left)


def sweep_table(
    measures: str | Path,
    failures: str | Path,
    runs: Sequence[Mapping],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
) -> None:
    """Accuracy and neural collapse after the last epoch at every point of the swept recipes.

    Parameters
    ----------
    measures, failures, datasets
        As those of :func:`collapse_table`.
    runs
        The runs of recipes that are swept; the measures are those at the layer of each.
    backbones
        Labels of the backbones.
    csv
        Mean, standard deviation and number of seeds, on both splits.
    """
    table, names = _measured(measures, runs)
    keys = swept_keys(runs)
    points = {(run["dataset"], run["series"]): run for run in runs}
    networks = networks_in_words(runs, backbones)
    parts, rows = [], []
    for (dataset, series), run in points.items():
        chosen = table[
            (table["dataset"] == dataset)
            & (table["series"] == series)
            & (table["epoch"] == run["last"])
            & table["layer"].isin(["", run["layer"]])
        ]
        parts.append(chosen)
        who = identity(run, run["seed"], keys)
        setting = [who[key] for key in keys]
        rows.append(
            [
                datasets[dataset],
                networks[run["backbone"], run["start"]],
                run["recipe"],
                *setting,
                *_shown(chosen),
            ]
        )
    swept = [key.replace("_", " ") for key in keys]
    header = ["data set", "network", "recipe", *swept, *(words for *_, words in SHOWN)]
    notes = [
        "After the last epoch. Accuracy of the network itself; neural collapse of its features of "
        "the training images.",
        *_notes_on_runs(runs, failures),
    ]
    tidy = pd.concat(parts)[[*names, "mean", "sd", "n_seeds"]]
    write_table(csv, md, tex, tidy, header, rows, notes, n_left=3)


def training_table(runs: Sequence[Mapping], logs: Sequence[str | Path], csv: str | Path) -> None:
    """What training said of every epoch of every run, as tidy rows.

    Parameters
    ----------
    logs
        Of each run the file of what :func:`collapseflow.training.loop.finetune` logs.
    csv
        Columns as in measures.csv, as far as they apply; quantities ``loss``, ``learning_rate``
        (of the last batch), ``gradient_norm`` (mean over the batches), ``seconds``,
        ``images_per_second``.
    """
    keys = swept_keys(runs)
    records = []
    for run, path in zip(runs, logs, strict=True):
        who = identity(run, run["seed"], keys)
        for record in read_json(path):
            epoch = record.pop("epoch")
            records += [
                {**who, "epoch": epoch, "quantity": quantity, "value": value}
                for quantity, value in record.items()
            ]
    columns = ["dataset", "backbone", "start", "recipe", *keys]
    columns += ["seed", "epoch", "quantity", "value"]
    write_csv(csv, pd.DataFrame(records, columns=columns))


def variance_table(
    values: Sequence[dict],
    features: Mapping[str, str],
    identities: Mapping[str, Mapping],
    class_names: Sequence[str],
    published_names: Mapping[str, Sequence[str]],
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
) -> None:
    """Report B's variances beside the published ones.

    Parameters
    ----------
    values
        Records with the keys features, split, space (``t-SNE coordinates`` or ``features``),
        quantity, class_a, class_b and value; none of feature sets that failed.
    features
        Labels of the feature sets.
    identities
        Of each its data set, backbone, start, recipe, seed, epoch and layer.
    published_names
        For feature sets that report B has: its data set and its name of the features.
    """
    known = published.variances()
    kinds = {"intra_class": "intra", "pooled_pair": "inter"}

    def lookup(record: dict) -> float | None:
        name = published_names.get(record["features"])
        if name is None or record["space"] != "t-SNE coordinates":
            return None
        kind = kinds.get(record["quantity"])
        return known.get((*name, record["split"], kind, record["class_a"], record["class_b"]))

    names = ["features", "split", "space", "quantity", "class_a", "class_b", "value", "published"]
    keys = list(dict.fromkeys(key for of_one in identities.values() for key in of_one))
    tidy = pd.DataFrame(
        [{**identities[r["features"]], **r, "published": lookup(r)} for r in values],
        columns=[*keys, *names],
    )
    tidy["class_b"] = tidy["class_b"].astype("Int64")
    columns = [
        ("t-SNE coordinates", "intra_class", "intra-class, t-SNE"),
        ("t-SNE coordinates", "pooled_pair", "pooled pair, t-SNE"),
        ("features", "intra_class", "intra-class, features"),
        ("features", "pooled_pair", "pooled pair, features"),
        ("features", "mean_distance", "squared distance of means, features"),
    ]
    rows = []
    keys = ["features", "split", "class_a", "class_b"]
    for (feature, split, a, b), group in tidy.groupby(keys, dropna=False, sort=False):
        pair = class_names[a] if pd.isna(b) else f"{class_names[a]} / {class_names[b]}"
        by_column = group.set_index(["space", "quantity"])
        cells = []
        for space, quantity, _ in columns:
            if (space, quantity) not in by_column.index:
                cells.append("")
                continue
            cell = by_column.loc[(space, quantity)]
            text = f"{cell['value']:.4g}" if space == "features" else f"{cell['value']:.1f}"
            if pd.notna(cell["published"]):
                text += f" ({cell['published']:.1f})"
            cells.append(text)
        rows.append([f"{features[feature]}, {split}: {pair}", *cells])
    notes = [
        "On the t-SNE coordinates, as report B computed them: mean over the two coordinates of "
        "the variance of a class, or of the union of two classes. On the features, as it meant "
        "them: trace of the covariance of a class, or of the union of two classes, and squared "
        "distance of the class means."
    ]
    if tidy["published"].notna().any():
        notes.append("In brackets: published in report B.")
    there = set(tidy["features"])
    notes += _failed([label for name, label in features.items() if name not in there])
    write_table(csv, md, tex, tidy, ["classes", *(c[2] for c in columns)], rows, notes)


def runtime_table(
    jobs: Sequence[Sequence[str]],
    benchmarks: Sequence[str | Path],
    costs: Sequence[str | Path],
    published_minutes: dict[str, float],
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
) -> None:
    """Wall time and peak memory of the jobs that compute.

    Parameters
    ----------
    jobs
        Stage, data set and name of each; data set and name are empty where there is none.
    benchmarks, costs
        Of each job Snakemake's own file, which has the wall time of its last run, and the file
        that the job itself wrote (:func:`collapseflow.running.jobs.cost_file`), which has what
        earlier runs left for the last one, and the peak memory.
    published_minutes
        What report B needed for the same, by stage, data set and name with slashes between.
    """
    records = []
    for (stage, dataset, name), path, cost in zip(jobs, benchmarks, costs, strict=True):
        last_run = float(pd.read_csv(path, sep="\t", na_values="-")["s"].mean())
        # Results of earlier versions have none.
        known = read_kept(cost) or {"seconds_taken_over": 0.0, "peak_memory_mib": None}
        minutes = published_minutes.get(f"{stage}/{dataset}/{name}")
        records.append(
            {
                "stage": stage,
                "dataset": dataset,
                "job": name,
                "seconds": last_run + known["seconds_taken_over"],
                "seconds_of_last_run": last_run,
                "peak_memory_mib": known["peak_memory_mib"],
                "published": None if minutes is None else 60 * minutes,
            }
        )
    tidy = pd.DataFrame(records)
    rows = []
    for r in tidy.itertuples():
        words = ", ".join(filter(None, (f"{r.stage} {r.dataset}".strip(), r.job)))
        time = f"{r.seconds:.1f}"
        time += "" if pd.isna(r.published) else f" ({r.published:.0f})"
        memory = "not recorded" if pd.isna(r.peak_memory_mib) else f"{r.peak_memory_mib:.0f}"
        rows.append([words, time, memory])
    notes = [
        "Wall time of the whole computation: the last run of the job, with the start of its "
        "process, and the finished parts (epochs, classifiers) that it took over from earlier "
        "runs; what was lost in a run that was stopped does not count. Peak memory: the resident "
        "set of the last run's largest process. Drawing and tabulating are left out.",
    ]
    if tidy["published"].notna().any():
        notes.append("In brackets: report B, on a laptop.")
    header = ["job", "wall time, s", "peak memory, MiB"]
    write_table(csv, md, tex, tidy, header, rows, notes)
