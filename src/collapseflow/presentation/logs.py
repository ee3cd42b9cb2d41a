"""The log of a training that was made elsewhere, in the words of training.csv."""

import logging
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.running.errors import UserError, instead

logger = logging.getLogger(__name__)

#: What a log may tell of an epoch, as the figure of training shows it.
TOLD = (*panels_of("training"), *panels_of("held_out"))
#: Of these that are means over an epoch; of others what an epoch says last counts.
MEANS = ("loss", "gradient_norm", "images_per_second")


def read_log(
    path: str | Path, columns: Mapping[str, str], counted_from: int
) -> list[dict[str, float]]:
    """What a CSV file tells of epochs, in their order: of each its number ``epoch`` from 1, and
    those of :data:`TOLD` that are there and finite.

    An epoch may have several rows, of which each tells a part, as in Lightning's logs: of several
    values :data:`MEANS` are averaged, and of others the last one counts. A row without the number
    of an epoch is of that which comes next. Of an epoch that was trained again after others, as
    after a return to an earlier checkpoint, only what was told the last time counts.

    Parameters
    ----------
    columns
        Names of columns in the file, by ``epoch`` and those of :data:`TOLD`; what is left out is
        called so in the file, or not there.
    counted_from
        The number of the first epoch in the file.

    Raises
    ------
    UserError
        If the file cannot be read, a column is not there, or a value is none of its quantity.
    """
    table = _read(path, columns)
    numbers = table["epoch"].bfill()
    table = table.assign(epoch=numbers + 1 - counted_from).dropna(subset="epoch")
    for number in table["epoch"]:
        if number < 1 or number != int(number):
            raise UserError(
                f"log: {path}: has the epoch {number - 1 + counted_from:g}; allowed: whole numbers "
                f"from {counted_from} (the key counted_from)"
            )
    of_epochs = pd.DataFrame({name: _by_epoch(table, name) for name in table.columns.drop("epoch")})
    return [
        {"epoch": int(epoch), **values.dropna().to_dict()} for epoch, values in of_epochs.iterrows()
    ]


def _by_epoch(table: pd.DataFrame, name: str) -> pd.Series:
    """What one column tells of each epoch that it tells anything of."""
    told = table[["epoch", name]].dropna()
    # Rows of an epoch that follow each other were written in one go.
    go = told["epoch"].diff().ne(0).cumsum()
    last = told[go == go.groupby(told["epoch"]).transform("max")]
    return last.groupby("epoch")[name].agg("mean" if name in MEANS else "last")


def _read(path: str | Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """The columns of a log by our names, as numbers; missing where they are not finite."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, index_col=False, skipinitialspace=True)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        # Pandas says in several lines what it cannot read.
        words = " ".join(str(error).split())
        raise UserError(f"log: {path}: cannot be read as CSV ({words}); replace it") from None
    for name, column in columns.items():
        if column not in table:
            raise UserError(
                f"columns.{name}: {path} has no column {column!r}; {instead(column, table)}"
            )
    named = {name: columns.get(name, name) for name in ("epoch", *TOLD)}
    there = {name: column for name, column in named.items() if column in table}
    if "epoch" not in there or len(there) == 1:
        lacks = "epoch" if "epoch" not in there else " or ".join(TOLD)
        raise UserError(
            f"log: {path}: has no column {lacks}, only {', '.join(table)}; say which it is by the "
            "key columns"
        )
    return pd.DataFrame(
        {name: _numbers(path, name, table[column]) for name, column in there.items()}
    )


def _numbers(path: str | Path, name: str, values: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    allowed = "numbers"
    wrong = numbers.isna() & values.notna()
    if name != "epoch" and quantity(name).is_accuracy:
        allowed = "shares from 0 to 1"
        wrong |= (numbers < 0) | (numbers > 1)
    if wrong.any():
        raise UserError(
            f"log: {path}: {values.name} is {values[wrong].iloc[0]!s}; allowed: {allowed}"
        )
    return numbers.where(np.isfinite(numbers)).astype(np.float64)


def check_log(
    path: str | Path, columns: Mapping[str, str], counted_from: int, epochs: Collection[int]
) -> None:
    """Read a log as :func:`read_log`, and say of which of some epochs it has nothing."""
    told = {record["epoch"] for record in read_log(path, columns, counted_from)}
    if missing := [str(epoch) for epoch in epochs if epoch not in told]:
        logger.warning("%s: has nothing of epoch %s", path, ", ".join(missing))
