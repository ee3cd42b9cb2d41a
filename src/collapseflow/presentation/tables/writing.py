"""Tables in four forms: tidy CSV, Markdown, LaTeX, and JSON, which the page of a study shows; and
what their cells and notes say."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from collapseflow.measures.quantities import quantity
from collapseflow.presentation.material import Outputs
from collapseflow.presentation.rows import write_csv
from collapseflow.running.files import write_json, write_text

#: What has a meaning in LaTeX, and what its older versions do not know.
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%_#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        "×": r"$\times$",
        "÷": r"$\div$",
        "±": r"$\pm$",
        "†": r"$^\dagger$",
        "§": r"\S{}",
        "¶": r"\P{}",
        "≈": r"$\approx$",
        "−": "$-$",
        "–": "--",
        "²": "$^2$",
    }
)
#: What has a meaning in Markdown: GitHub's, with its tables, its formulas and HTML. An underscore
#: has none within a word, nor a bracket that no address follows.
_MARKDOWN = re.compile(r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
#: What begins a heading, a list or a rule.
_BLOCK = re.compile(r"^(\d*)([#+.)=-])(?=[\s#=-]|$)")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True)
class Bold:
    """A cell of a table whose first words are bold."""

    words: str
    rest: str = ""


Cell = str | Bold


def markdown(words: str) -> str:
    """Markdown that shows these words as they are, in one line."""
    line = " ".join(words.split()).translate(_ENTITIES)
    return _BLOCK.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\g<0>", line))


def to_markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]], n_left: int = 1) -> str:
    """A pipe table; the first ``n_left`` columns are left-aligned, the others to the right."""
    alignment = ["left"] * n_left + ["right"] * (len(header) - n_left)
    table = pd.DataFrame(rows, columns=header).map(_markdown_cell).rename(columns=markdown)
    return table.to_markdown(index=False, disable_numparse=True, colalign=alignment) + "\n"


def _markdown_cell(cell: Cell) -> str:
    if isinstance(cell, Bold):
        return f"**{markdown(cell.words)}**{markdown(cell.rest)}"
    return markdown(cell)


def to_latex(header: Sequence[str], rows: Sequence[Sequence[Cell]], n_left: int = 1) -> str:
    """A ``tabular`` in the style of booktabs.

    The cells are put into LaTeX's notation here: pandas' own escaping would make a whole cell bold,
    with the published number that stands beside our best one.
    """
    table = pd.DataFrame(rows, columns=header).map(_latex_cell).rename(columns=latex)
    alignment = "l" * n_left + "r" * (len(header) - n_left)
    return table.style.hide(axis="index").to_latex(column_format=alignment, hrules=True)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, Bold):
        return rf"\textbf{{{latex(cell.words)}}}{latex(cell.rest)}"
    return latex(cell)


def latex(words: str) -> str:
    """LaTeX that shows these words as they are, in one line."""
    line = " ".join(words.split()).translate(_LATEX)
    # In the first cell of a row they would belong to the end of the row before.
    return f"{{{line[0]}}}{line[1:]}" if line.startswith(("[", "*")) else line


def write_table(
    outputs: Outputs,
    tidy: pd.DataFrame,
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str],
    n_left: int = 1,
) -> None:
    """Write one table in its four forms, each atomically; what it says are words, and no
    notation.

    The JSON has ``header``, ``n_left``, ``rows`` and ``notes``; a cell that begins with bold words
    is a list of these and the rest.
    """
    write_csv(outputs["csv"], tidy)
    footer = "".join(f"\n{markdown(note)}\n" for note in notes)
    write_text(outputs["md"], to_markdown(header, rows, n_left) + footer)
    comments = "".join(f"% {' '.join(note.split())}\n" for note in notes)
    write_text(outputs["tex"], comments + to_latex(header, rows, n_left))
    cells = [
        [[cell.words, cell.rest] if isinstance(cell, Bold) else cell for cell in row]
        for row in rows
    ]
    told = {"header": list(header), "n_left": n_left, "rows": cells, "notes": list(notes)}
    write_json(outputs["json"], told)


def decimals(half_width: float) -> int:
    """Decimals of a percentage, from half of the 95 % interval of the share: as many as leave the
    half one significant digit; two where there is no interval."""
    if math.isnan(half_width):
        return 2
    return max(0, -int(f"{100 * half_width:.0e}".partition("e")[2]))


def signed(difference: float, places: int = 2) -> str:
    """A difference of shares in points of percent, with its sign."""
    # What rounds to zero has no minus.
    return f"{round(100 * difference, places) + 0.0:+.{places}f}".replace("-", "−")


def spread(name: str, mean: float, sd: float, half_width: float = math.nan) -> str:
    """``mean ± sd`` of one of the quantities of the table, ``mean ×÷ factor`` of geometric ones;
    the mean alone where there is one seed.

    Accuracies are in percent, with the decimals that their interval allows (:func:`decimals`), so
    many that none below 100 is rounded to it, and no standard deviation to zero; others have three
    and two digits.

    Parameters
    ----------
    mean, sd, half_width
        Those of :func:`collapseflow.presentation.rows.over_seeds`.
    """
    written = quantity(name)
    if written.is_accuracy:
        places = decimals(half_width)
        if sd > 0:
            places = max(places, decimals(sd))
        # Not all are right where one is wrong.
        while float(f"{100 * mean:.{places}f}") == 100 > 100 * mean:
            places += 1
        words = [f"{100 * mean:.{places}f}"]
        if not math.isnan(sd):
            words.append(f"{100 * sd:.{places}f}")
        return " ± ".join(words)
    factor = written.logarithmic
    words = [f"{mean:#.3g}".removesuffix(".")]
    if not math.isnan(sd):
        words.append(f"{sd:#.3g}" if factor else f"{sd:#.2g}".removesuffix("."))
    return (" ×÷ " if factor else " ± ").join(words)


def seeds_note(seeds: str, geometric: bool) -> str:
    """What ± means in a table, and ×÷ where it has geometric means (``geometric``)."""
    note = f"±: standard deviation over {seeds} (ddof = 1)"
    if not geometric:
        return f"{note}."
    return (
        f"{note}. ×÷: geometric mean and standard deviation (a factor, ddof = 1), as figures with "
        "a logarithmic axis have them."
    )


def failed_in_words(words: Sequence[str]) -> list[str]:
    """The notes about what failed."""
    return [f"Failed, and left out: {line.removesuffix('.')}." for line in words]


def range_in_words(numbers: pd.Series) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
