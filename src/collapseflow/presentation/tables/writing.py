"""Tables in three forms: tidy CSV, Markdown and LaTeX; and what their cells and notes say."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from collapseflow.presentation.rows import write_csv
from collapseflow.running.files import write_text

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
        "§": r"\S{}",
        "¶": r"\P{}",
        "≈": r"$\approx$",
        "−": "$-$",
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


def signed(difference: float) -> str:
    """A difference of shares in points of percent, with its sign."""
    # What rounds to zero has no minus.
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "−")


def spread(quantity: str, mean: float, sd: float) -> str:
    """``mean ± sd`` of one of the quantities of measures.csv; the mean alone where there is one
    seed. Accuracies are in percent with two decimals, others have three and two digits."""
    if quantity.startswith("accuracy"):
        words = [f"{100 * mean:.2f}", f"{100 * sd:.2f}"]
    else:
        words = [f"{mean:#.3g}".removesuffix("."), f"{sd:#.2g}".removesuffix(".")]
    return words[0] if math.isnan(sd) else " ± ".join(words)


def failed_in_words(words: Sequence[str]) -> list[str]:
    """The notes about what failed."""
    return [f"Failed, and left out: {line.removesuffix('.')}." for line in words]


def range_in_words(numbers: pd.Series) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
