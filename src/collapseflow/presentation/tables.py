"""Tables: tidy CSV for machines, Markdown and LaTeX for readers."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from collapseflow import published
from collapseflow.measures.intervals import wilson_interval
from collapseflow.running.files import MADE_WITH, atomic_path, read_json, write_text
from collapseflow.running.resume import read_kept


def to_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; the first column is left-aligned, the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A ``tabular`` in the style of booktabs, from cells in Markdown's notation."""
    lines = [r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}", r"\toprule"]
    lines.append(" & ".join(map(_latex, header)) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(map(_latex, row)) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex(cell: str) -> str:
    bold = cell.startswith("**")
    if bold:
        head, _, rest = cell.removeprefix("**").partition("**")
        return rf"\textbf{{{_latex(head)}}}{_latex(rest)}"
    for character in "&%_#$":
        cell = cell.replace(character, "\\" + character)
    for character, command in {"×": r"$\times$", "†": r"$^\dagger$", "²": "$^2$"}.items():
        cell = cell.replace(character, command)
    return cell


def write_table(
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
    tidy: pd.DataFrame,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> None:
    """Write one table in its three forms, each atomically."""
    write_csv(csv, tidy)
    footer = "".join(f"\n{note}\n" for note in notes)
    write_text(md, to_markdown(header, rows) + footer)
    comments = "".join(f"% {note}\n" for note in notes)
    write_text(tex, comments + to_latex(header, rows))


def write_csv(path: str | Path, tidy: pd.DataFrame) -> None:
    """Write a data frame without its index, atomically."""
    with atomic_path(path) as temporary:
        tidy.to_csv(temporary, index=False)


def accuracy_table(
    cells: Sequence[str | Path],
    title: str,
    features: dict[str, str],
    classifiers: dict[str, str],
    published_names: dict[str, Sequence[str]],
    published_classifiers: dict[str, str],
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
) -> None:
    """Report A's tables 1 and 2: test accuracy of classifiers (rows) on features (columns).

    Parameters
    ----------
    cells
        For each feature set a file of what :func:`collapseflow.measures.probes.evaluate_all` gives.
    features, classifiers
        Names and labels, in the order of columns and rows.
    published_names, published_classifiers
        For feature sets and classifiers that report A has: its data set and its name of the
        features, and its name of the classifier. A published number is shown where the number of
        features is the same, too.
    """
    known = published.accuracies()
    by_features = dict(zip(features, map(read_json, cells), strict=True))
    records = []
    for feature, classifier in product(features, classifiers):
        cell = by_features[feature][classifier]
        low, high = cell.pop("accuracy_interval")
        del cell[MADE_WITH]
        name = (
            *published_names.get(feature, ()),
            cell["n_features"],
            published_classifiers.get(classifier),
        )
        value = known.get(name)
        records.append(
            {
                "features": feature,
                "features_label": features[feature],
                "classifier": classifier,
                "accuracy": cell.pop("accuracy"),
                "accuracy_low": low,
                "accuracy_high": high,
                "published_accuracy": None if value is None else value / 100,
                **cell,
            }
        )
    tidy = pd.DataFrame(records)
    # The published bold marks the best of a column, and so do we; ties are all marked.
    tidy["best"] = tidy["accuracy"] == tidy.groupby("features")["accuracy"].transform("max")
    by_cell = tidy.set_index(["features", "classifier"])
    rows = []
    for classifier, label in classifiers.items():
        row = [label]
        for feature in features:
            cell = by_cell.loc[(feature, classifier)]
            text = f"{100 * cell['accuracy']:.2f}"
            text = f"**{text}**" if cell["best"] else text
            text += "†" if cell["converged"] is False else ""
            if pd.notna(cell["published_accuracy"]):
                text += f" ({100 * cell['published_accuracy']:.2f})"
            row.append(text)
        rows.append(row)
    sizes = tidy.drop_duplicates("features").set_index("features")["n_features"]
    rows.append(["size", *(str(sizes[feature]) for feature in features)])
    notes = [
        f"{title}: test accuracy in %, classifiers fitted on {_range(tidy['n_train'])} training "
        f"images and scored on {_range(tidy['n_test'])} test images. Bold: the best of a column."
    ]
    if tidy["published_accuracy"].notna().any():
        notes.append("In brackets: published in report A.")
    if any(converged is False for converged in tidy["converged"]):
        notes.append("†: the solver stopped at its iteration limit before it converged.")
    write_table(csv, md, tex, tidy, [title, *features.values()], rows, notes)


def _range(numbers: pd.Series) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def collapse_table(
    statistics: Sequence[str | Path], starts: dict[str, str], csv: str | Path
) -> None:
    """All epochs of all fine-tunings: data set, backbone, epoch, split, measure, value.

    ``low`` and ``high`` are the 95 % interval of an accuracy on test images, which are a sample of
    all there could be; the training images are all that there are.

    Parameters
    ----------
    statistics
        Files ``<data set>/<backbone>.json`` of what
        :func:`collapseflow.measures.epochs.measure_epochs` gives.
    """
    records = []
    for path in map(Path, statistics):
        for of_epoch, split in product(read_json(path), ("train", "test")):
            for measure, value in of_epoch[split].items():
                low = high = None
                if measure == "accuracy" and split == "test":
                    low, high = wilson_interval(value, of_epoch[split]["n_samples"])
                records.append(
                    {
                        "dataset": path.parent.name,
                        "backbone": path.stem,
                        "start": starts[path.stem],
                        "epoch": of_epoch["epoch"],
                        "split": split,
                        "measure": measure,
                        "value": value,
                        "low": low,
                        "high": high,
                    }
                )
    write_csv(csv, pd.DataFrame(records))


def variance_table(
    values: Sequence[dict],
    features: dict[str, str],
    class_names: Sequence[str],
    published_names: dict[str, Sequence[str]],
    csv: str | Path,
    md: str | Path,
    tex: str | Path,
) -> None:
    """Report B's variances beside the published ones.

    Parameters
    ----------
    values
        Records with the keys features, split, space (``t-SNE coordinates`` or ``features``),
        quantity, class_a, class_b and value.
    """
    known = published.variances()
    kinds = {"intra_class": "intra", "pooled_pair": "inter"}

    def lookup(record: dict) -> float | None:
        name = published_names.get(record["features"])
        if name is None or record["space"] != "t-SNE coordinates":
            return None
        kind = kinds.get(record["quantity"])
        return known.get((*name, record["split"], kind, record["class_a"], record["class_b"]))

    tidy = pd.DataFrame([{**r, "published": lookup(r)} for r in values])
    tidy["class_b"] = tidy["class_b"].astype("Int64")
    tidy.insert(2, "features_label", tidy["features"].map(features))
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
                "published_seconds": None if minutes is None else 60 * minutes,
            }
        )
    tidy = pd.DataFrame(records)
    rows = []
    for r in tidy.itertuples():
        words = ", ".join(filter(None, (f"{r.stage} {r.dataset}".strip(), r.job)))
        time = f"{r.seconds:.1f}"
        time += "" if pd.isna(r.published_seconds) else f" ({r.published_seconds:.0f})"
        memory = "not recorded" if pd.isna(r.peak_memory_mib) else f"{r.peak_memory_mib:.0f}"
        rows.append([words, time, memory])
    notes = [
        "Wall time of the whole computation: the last run of the job, with the start of its "
        "process, and the finished parts (epochs, classifiers) that it took over from earlier "
        "runs; what was lost in a run that was stopped does not count. Peak memory: the resident "
        "set of the last run's largest process. Drawing and tabulating are left out.",
    ]
    if tidy["published_seconds"].notna().any():
        notes.append("In brackets: report B, on a laptop.")
    header = ["job", "wall time, s", "peak memory, MiB"]
    write_table(csv, md, tex, tidy, header, rows, notes)
