"""Numbers and names in sentences."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from collapseflow.presentation.findings.results import Value
from collapseflow.presentation.tables.writing import decimals, signed

#: So many names stand in a sentence.
NAMED = 3


def percent(found: Value) -> str:
    """An accuracy with its interval: ``93.1 % [92.6, 93.6]``."""
    places = max(1, decimals((found.high - found.low) / 2))
    value, low, high = (f"{100 * share:.{places}f}" for share in found[:3])
    return f"{value} % [{low}, {high}]"


def points(difference: Mapping[str, float]) -> str:
    """A difference of accuracies with its interval: ``+0.4 points [−0.6, +1.5]``."""
    # One decimal more than accuracies have: the ends are compared with zero.
    places = 1 + decimals((difference["high"] - difference["low"]) / 2)
    value, low, high = (signed(difference[key], places) for key in ("difference", "low", "high"))
    return f"{value} points [{low}, {high}]"


def probability(p: float) -> str:
    """A p value: ``p = 0.064``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def percentage(share: float) -> str:
    """A share in per cent, without the sign; none but 1 reads 100.0."""
    return f"{100 * share:.1f}" if share == 1 or share < 0.9995 else f"{100 * share:.3f}"


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def factor(value: float) -> str:
    """A ratio of 1 or more: ``3.4``, ``14``, ``1,200``."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def spread(values: Sequence[float], write: Callable[[float], str], joint: str = " to ") -> str:
    """The smallest and the largest value, or one where they read the same."""
    low, high = write(min(values)), write(max(values))
    return high if low == high else f"{low}{joint}{high}"


def smaller(falls: Sequence[float], joint: str = " to ") -> str:
    """By which factors something has fallen: ``3.4 to 14 times smaller``; below 1 it has risen."""
    # What reads as 1.0 has neither fallen nor risen.
    read = [1.0 if factor(max(fall, 1 / fall)) == "1.0" else fall for fall in falls]
    low, high = min(read), max(read)
    if low < 1 < high:
        return f"from {factor(1 / low)} times larger to {factor(high)} times smaller"
    if low < 1:
        return f"{spread([1 / fall for fall in read], factor, joint)} times larger"
    return f"{spread(read, factor, joint)} times smaller"


def named(names: Iterable[str]) -> str:
    """Names after each other, of many the first ones and how many more there are."""
    # Labels have commas of their own.
    names = [f"“{name}”" if "," in name else name for name in dict.fromkeys(names)]
    words = names if len(names) <= NAMED else [*names[:NAMED], f"{len(names) - NAMED} more"]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
