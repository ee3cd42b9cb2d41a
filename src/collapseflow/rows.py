"""Measures of one's own training as rows of a file like a study's measures.csv.

What reads a study's file reads this one: ``python -m collapseflow compare``, the figures of the
library, pandas.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from collapseflow.measures.statistics import MEASURED_SPLITS
from collapseflow.presentation.rows import (
    COLUMNS,
    IDENTITY,
    frame,
    read_csv,
    rows_of_states,
    write_csv,
)
from collapseflow.running.errors import instead


def write_rows(
    path: str | Path,
    values: Mapping[str, float],
    n: int,
    epoch: int | None,
    split: str,
    layer: str,
    dataset: str,
    backbone: str,
    start: str = "",
    recipe: str = "",
    seed: int | None = None,
) -> None:
    """Write the measures of one layer after one epoch, a row each, beside the rows that are there.

    Rows of the same training, epoch, layer and split are replaced, so that a training may be
    repeated. The file is written anew and is whole at any moment; one process writes it.

    Parameters
    ----------
    path
        The file; it need not exist.
    values, n
        What :meth:`collapseflow.measures.Collapse.compute` gives, without definitions of others,
        and how many vectors it was of (``Collapse.n_samples``).
    epoch
        How many epochs the network has been trained: 0 before the first.
    split
        ``train``, ``test`` or ``train_matched``. An accuracy on test images has its 95 % interval.
    layer
        Whose vectors they are. ``accuracy`` is the network's, and has none.
    dataset, backbone, start, recipe, seed
        The training: texts, and a whole number.

    Raises
    ------
    ValueError
        If there is no such split.
    UserError
        If the file is there and is no such table.
    """
    if split not in MEASURED_SPLITS:
        raise ValueError(f"split: {split!r} is unknown; {instead(split, MEASURED_SPLITS)}")
    who = dict(zip(IDENTITY, (dataset, backbone, start, recipe, seed), strict=True))
    state = {"epoch": epoch, "layers": {layer: {split: {**values, "n_samples": n}}}}
    rows = frame([{**who, **row} for row in rows_of_states([state])], COLUMNS)
    if Path(path).exists():
        rows = pd.concat([_without(read_csv(path), rows), rows], ignore_index=True)
    write_csv(path, rows)


def _without(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The old rows that are not of a training, epoch, layer and split of the new ones."""
    keys = [*IDENTITY, "epoch", "layer", "split"]
    of_new = new[keys].drop_duplicates()
    found = old[keys].merge(of_new, how="left", on=keys, indicator=True)["_merge"]
    return old[(found == "left_only").to_numpy()]
