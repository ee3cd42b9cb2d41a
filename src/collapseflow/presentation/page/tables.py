"""The tables of a study as the page shows them."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

#: What :func:`collapseflow.presentation.tables.writing.markdown` puts a backslash before.
_ESCAPED = re.compile(r"\\([\\`*|~$_\](#+.)=-])")
_BOLD = re.compile(r"^\*\*(.*?)(?<!\\)\*\*")


@dataclass(frozen=True)
class Cell:
    """What a cell says, and with which words it begins that are bold."""

    bold: str
    words: str


@dataclass(frozen=True)
class Table:
    """A table that :func:`collapseflow.presentation.tables.writing.write_table` wrote.

    Attributes
    ----------
    header
        The names of the columns.
    right
        Of each column whether it is aligned to the right.
    rows
        Cells, row by row.
    notes
        The sentences below it.
    """

    header: list[str]
    right: list[bool]
    rows: list[list[Cell]]
    notes: list[str]


def read_table(path: str | Path) -> Table:
    """Read a table's Markdown, which is made for readers, as words without notation."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    notes = [_plain(line) for line in lines if line and not line.startswith("|")]
    header, alignment, *rows = [_cells(line) for line in table]
    return Table(
        header=[_plain(cell) for cell in header],
        right=[cell.endswith(":") for cell in alignment],
        rows=[[_cell(cell) for cell in row] for row in rows],
        notes=notes,
    )


def _cells(line: str) -> list[str]:
    # A bar that belongs to the words has a backslash before it, and a backslash has one itself.
    cells = re.findall(r"((?:\\.|[^\\|])*)\|", line.strip()[1:])
    return [cell.strip() for cell in cells]


def _cell(text: str) -> Cell:
    bold = _BOLD.match(text)
    if bold is None:
        return Cell("", _plain(text))
    return Cell(_plain(bold[1]), _plain(text[bold.end() :]))


def _plain(text: str) -> str:
    return html.unescape(_ESCAPED.sub(r"\1", text))
