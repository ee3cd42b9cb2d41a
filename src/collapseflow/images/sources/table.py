"""Images that a table names: CSV or Parquet, a row an image."""

import csv
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from collapseflow.images.datasets import Splits, make_split
from collapseflow.images.sources.own import (
    FIRST,
    NAMED,
    NAMED_IN_SOURCE,
    NOT_READ,
    choose,
    classes_of,
    divide,
    first,
    groups_of,
    not_read,
    parts_of,
    require_trained_classes,
)
from collapseflow.images.sources.pictures import Fit, Size, read_pictures, stack, unequal_sizes
from collapseflow.running.errors import UserError
from collapseflow.running.resume import digest

logger = logging.getLogger(__name__)

#: What columns are usually called, in lower case.
USUAL = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image"),
    "label": ("label", "labels", "class", "class_name", "target", "category"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id", "video"),
}
NEEDED = ("path", "label")
#: Endings of tables in Parquet; others are CSV.
PARQUET = (".parquet", ".pq")
#: What stands between two values of a CSV file: that of these which its first line has most of.
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Table:
    """A table whose words have been understood; rows of validation images are left out.

    Attributes
    ----------
    path : of the table
    rows : int64 (N,), the number of each row, from 0
    files : where each image is, as the table says
    labels : int64 (N,)
    class_names : by number
    parts : 0 of training and 1 of test images, int64 (N,); None where they are undivided
    groups : int64 (N,), or None
    notes : what is to be said of it
    """

    path: Path
    rows: np.ndarray
    files: list[str]
    labels: np.ndarray
    class_names: list[str]
    parts: np.ndarray | None
    groups: np.ndarray | None
    notes: list[str]

    def places(self) -> list[Path]:
        """The images' files; what is relative is so to the table's folder."""
        return [self.path.parent / os.path.expanduser(file) for file in self.files]


def read(
    location: str | Path,
    columns: Mapping[str, str | None],
    size: Size,
    test_fraction: float,
    seed: int,
    threads: int,
    on_bad_image: Literal["stop", "skip"] = "stop",
    fit: Fit = "crop",
) -> Splits:
    """Read the images of a table, decoded on several threads.

    Parameters
    ----------
    columns
        By ``path``, ``label``, ``split`` and ``group`` the names of columns, where they are not
        the usual ones (:data:`USUAL`), or None where there is to be none.
    size, fit, test_fraction, seed, threads, on_bad_image
        As :mod:`collapseflow.images.sources` says.

    Raises
    ------
    UserError
        Naming what cannot be used, all of it in one message.
    """
    table = look_into(location, columns)
    places = table.places()
    found = read_pictures(places.__getitem__, len(places), size, fit, threads, table.path.name)
    bad = [f"{table.files[row]} ({words})" for row, words in found.bad.items()]
    names = [table.files[row] for row in found.rows]
    complaints = []
    if bad and on_bad_image == "stop":
        complaints.append(
            f"{len(bad)} of {len(places)} files cannot be read as images; replace them or remove "
            f"their rows: {first(bad, NAMED)}, or set the key 'on_bad_image' to 'skip'"
        )
    if not found.rows:
        complaints.append("no image can be read")
    if unequal := unequal_sizes(found.images, names):
        complaints.append(unequal)
    if complaints:
        raise UserError(f"{table.path}: {'; '.join(complaints)}")
    source = [f"images of the table {table.path.name}", *table.notes, *found.notes]
    if bad:
        source.append(f"left out {len(bad)} of {len(places)} files: {first(bad, NAMED_IN_SOURCE)}")
        logger.warning(
            "%s: left out %d of %d files: %s", table.path, len(bad), len(places), "; ".join(bad)
        )
    rows = np.array(found.rows)
    groups = None if table.groups is None else table.groups[rows]
    everything = make_split(
        stack(found.images), table.labels[rows], table.rows[rows], groups, names
    )
    if table.parts is None:
        train, test = divide(everything, test_fraction, seed, table.class_names, table.path)
    else:
        train, test = (everything.take(np.flatnonzero(table.parts[rows] == k)) for k in (0, 1))
        for what, part in (("training", train), ("test", test)):
            if len(part.labels) == 0:
                raise UserError(f"{table.path}: no {what} image can be read")
        try:
            require_trained_classes(train, test, table.class_names)
        except UserError as error:
            raise UserError(f"{table.path}: {error}") from None
    return Splits(train, test, table.class_names, "; ".join(source))


def look_into(location: str | Path, columns: Mapping[str, str | None]) -> Table:
    """Understand a table, without a look at its images.

    Raises
    ------
    UserError
        Naming the table, if it cannot be read, a column is missing, a row lacks a value or says
        what is not understood, a file is named twice, or a group has training and test images.
    """
    path = Path(os.path.expanduser(location))
    try:
        return _understood(path, columns)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def content(
    location: str | Path, columns: Mapping[str, str | None], on_bad_image: Literal["stop", "skip"]
) -> str:
    """A digest of a table's bytes, and of the sizes and times of change of the files that it names.

    Raises
    ------
    UserError
        As :func:`look_into`, and if files are missing, unless these are skipped.
    """
    table = look_into(location, columns)
    listing, missing = [], []
    for name, place in zip(table.files, table.places(), strict=True):
        if place.is_file():
            status = place.stat()
            listing.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        else:
            missing.append(name)
            listing.append(name)
    if missing and on_bad_image == "stop":
        raise UserError(
            f"{table.path}: {len(missing)} of {len(listing)} files are missing: "
            f"{first(missing, FIRST)}; paths are relative to {table.path.parent}"
        )
    return digest({"table": hashlib.sha256(table.path.read_bytes()).hexdigest(), "files": listing})


def _understood(path: Path, columns: Mapping[str, str | None]) -> Table:
    head, values = (_parquet if path.suffix.lower() in PARQUET else _csv)(path)
    twice = [name for name, n in Counter(head).items() if n > 1]
    if twice:
        raise UserError(f"has two columns {twice[0]!r}; allowed: one of a name")
    chosen = {
        role: choose(head, columns, role, usual, needed=role in NEEDED)
        for role, usual in USUAL.items()
    }
    if not len(values[head[0]]):
        raise UserError("has no rows; allowed: a row an image")
    found = {role: values[name] for role, name in chosen.items() if name is not None}
    for role, of_role in found.items():
        empty = [str(row) for row, value in enumerate(of_role) if not value.strip()]
        if empty:
            raise UserError(
                f"rows without a value in the column {chosen[role]!r}, {len(empty)}: "
                f"{first(empty, FIRST, ', ')}, counted from 0; fill or remove them"
            )
    files = found["path"]
    places = Counter(os.path.normpath(file) for file in files)
    several = [file for file, n in places.items() if n > 1]
    if several:
        raise UserError(
            f"files in more than one row, {len(several)}: {first(several, FIRST)}; allowed: a row "
            "for each image"
        )
    parts = parts_of(found["split"]) if "split" in found else None
    groups = groups_of(found["group"], parts) if "group" in found else None
    kept = np.arange(len(files)) if parts is None else np.flatnonzero(parts != NOT_READ)
    labels, class_names = classes_of([found["label"][row] for row in kept])
    notes = []
    if groups is not None:
        groups = groups[kept]
        notes.append(f"{len(np.unique(groups))} groups by {chosen['group']}")
    if parts is not None:
        notes += not_read(parts)
    return Table(
        path,
        kept,
        [files[row] for row in kept],
        labels,
        class_names,
        None if parts is None else parts[kept],
        groups,
        notes,
    )


def _csv(path: Path) -> tuple[list[str], dict[str, Sequence[str]]]:
    """The names of the columns, and their values by name."""
    try:
        # A byte order mark, as Excel writes it, is no part of the first name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=line.count)
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            head = next(rows, [])
            if not head:
                raise UserError("is empty; allowed: a line with the names of columns, and rows")
            values = []
            for row in rows:
                if len(row) not in (0, len(head)):
                    raise UserError(
                        f"line {rows.line_num} has {len(row)} values, the first line {len(head)} "
                        "names; allowed: as many"
                    )
                if row:
                    values.append(row)
    except UnicodeDecodeError:
        raise UserError("is no text in UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"line {rows.line_num}: {error}") from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from None
    columns = zip(*values, strict=True) if values else [()] * len(head)
    return head, dict(zip(head, columns, strict=True))


def _parquet(path: Path) -> tuple[list[str], dict[str, Sequence[str]]]:
    """The same of a table in Parquet; nulls are empty, whole numbers have no point."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            "Parquet needs the package pyarrow: pip install pyarrow, or save the table as CSV"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return table.column_names, {
        name: [_as_text(value) for value in values] for name, values in columns.items()
    }


def _as_text(value: object) -> str:
    # Not a number is what pandas has in the place of what is missing.
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
