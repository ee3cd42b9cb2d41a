"""The measures of several studies side by side."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from collapseflow.measures.quantities import quantity
from collapseflow.presentation.rows import COLUMNS, over_seeds, read_csv, write_csv
from collapseflow.presentation.tables.writing import (
    markdown,
    seeds_note,
    spread,
    to_markdown,
)
from collapseflow.running.errors import UserError


def read_studies(places: Sequence[str | Path]) -> pd.DataFrame:
    """The rows of several studies, with a first column ``study``.

    Parameters
    ----------
    places
        Folders ``results/<study>``, or files like the measures.csv in them. A study has the name
        of its folder, or the whole place where two have the same.

    Raises
    ------
    UserError
        Naming what is missing.
    """
    paths = [
        Path(place, "measures.csv") if Path(place).is_dir() else Path(place) for place in places
    ]
    twice = [p for place, p in enumerate(paths) if p.resolve() in map(Path.resolve, paths[:place])]
    if twice:
        raise UserError(f"{twice[0]}: is named twice; name each study once")
    names = [path.resolve().parent.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(place) for place in places]
    tables = []
    for name, path in zip(names, paths, strict=True):
        if not path.is_file():
            raise UserError(
                f"{path}: is missing; finish the study, or name a folder results/<study> or a "
                "measures.csv"
            )
        table = read_csv(path)
        missing = [column for column in COLUMNS if column not in table.columns]
        if missing:
            raise UserError(f"{path}: has no column {missing[0]!r}; name a measures.csv")
        table.insert(0, "study", name)
        tables.append(table)
    rows = pd.concat(tables, ignore_index=True)
    # What only one study sweeps does not apply to the others.
    swept = [column for column in rows.columns if column not in ["study", *COLUMNS]]
    return rows.fillna(dict.fromkeys(swept, ""))


def compare_studies(places: Sequence[str | Path], csv: str | Path | None = None) -> str:
    """A Markdown table of the last epoch of every run, and of the classifiers on feature sets.

    A row for each data set, backbone, start, recipe with its swept values, layer, split and
    quantity; a column for each study: the value, or mean ± standard deviation over seeds. Studies
    whose last epochs differ have them in the order of columns.

    Parameters
    ----------
    places
        As those of :func:`read_studies`.
    csv
        Where to write the rows of all studies, if anywhere.
    """
    rows = read_studies(places)
    if csv is not None:
        write_csv(csv, rows)
    swept = [column for column in rows.columns if column not in ["study", *COLUMNS]]
    # A run's last epoch is the last one of its rows; classifiers have their own.
    run_columns = ["study", "dataset", "backbone", "start", "recipe", *swept, "quantity"]
    last = rows.groupby(run_columns, dropna=False)["epoch"].transform("max")
    rows = rows[(rows["epoch"] == last) | rows["epoch"].isna()]
    names = ["dataset", "backbone", "start", "recipe", *swept, "layer", "split", "quantity"]
    table = over_seeds(rows, ["study", *names, "epoch"])
    studies = list(dict.fromkeys(table["study"]))
    lines = []
    for what, group in table.groupby(names, sort=False):
        by_study = group.set_index("study")
        words = dict(zip(names, what, strict=True))
        points = [f"{key.replace('_', ' ')} {words[key]}" for key in swept if words[key]]
        recipe = ", ".join(filter(None, [words["recipe"], *points]))
        epochs = [str(e) for e in dict.fromkeys(by_study["epoch"].dropna())]
        name = words["quantity"]
        unit = quantity(name).unit
        cells = [
            spread(name, *by_study.loc[study, ["mean", "sd", "half_width"]])
            if study in by_study.index
            else ""
            for study in studies
        ]
        first = [words["dataset"], words["backbone"], words["start"], recipe, " / ".join(epochs)]
        lines.append(
            [*first, words["layer"], words["split"], f"{name}, {unit}" if unit else name, *cells]
        )
    header = ["data set", "backbone", "start", "recipe", "epoch", "layer", "split", "quantity"]
    text = to_markdown([*header, *studies], lines, n_left=len(header))
    if (table["n_seeds"] > 1).any():
        text += f"\n{markdown(seeds_note('the seeds of a study', geometric=True))}\n"
    return text
