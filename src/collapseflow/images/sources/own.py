"""What sources of a user's own images share: classes, groups and divisions, by their words."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from collapseflow.images.datasets import Split, split_off_test
from collapseflow.running.errors import UserError, instead
from collapseflow.running.words import CONTROL

#: What training and test images may be called, in lower case.
PARTS = {"train": ("train", "training"), "test": ("test", "testing")}
#: What a third part is often called, in lower case; it is not read.
VALIDATION = ("val", "valid", "validation", "dev")
#: Of what a column of splits may have beside these words: the numbers of the parts.
NUMBERS = {"0": 0, "1": 1}
#: Of rows that are not read.
NOT_READ = -1
#: At most so many things are named in a message, and in what a data set says of its source.
NAMED, NAMED_IN_SOURCE = 10, 3
#: And so many of files that are missing, and of groups.
FIRST = 5
#: Whole numbers below this are numbers of classes; larger ones are names.
MOST_NUMBERS = 65_536

#: What no name of a class has: bytes that are no text are lone surrogates to Python.
NO_NAME = re.compile(f"[\ud800-\udfff{CONTROL}]")


def first(words: Sequence[str], most: int, between: str = "; ") -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return between.join(words[:most]) + more


def choose(
    there: Sequence[str],
    named: Mapping[str, str | None],
    role: str,
    usual: Sequence[str],
    needed: bool = False,
) -> str | None:
    """The column, or array, that has a role.

    Parameters
    ----------
    there
        The names of all.
    named
        The study file's key ``columns``: by role a name, or None where there is to be none.
    usual
        What it is usually called, in lower case; looked for where ``named`` does not say.
    needed
        Whether there must be one.

    Raises
    ------
    UserError
        If there is none of the name, or none or several where one is looked for.
    """
    if role in named:
        name = named[role]
        if name is not None and name not in there:
            raise UserError(f"columns.{role}: {name!r} is not there; {instead(name, there)}")
        if name is None and needed:
            raise UserError(f"columns.{role}: null; allowed: {', '.join(there)}")
        return name
    found = [name for name in there if name.strip().casefold() in usual]
    if len(found) > 1:
        raise UserError(
            f"{' and '.join(map(repr, found))} may both be the {role}; say which under the key "
            f"'columns', as {{{role}: {found[0]}}}"
        )
    if needed and not found:
        raise UserError(
            f"has no {role}, called {' or '.join(usual)}; say which of {', '.join(there)} it is "
            f"under the key 'columns', as {{{role}: NAME}}"
        )
    return found[0] if found else None


def classes_of(values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Numbers of classes int64 (N,), and the classes' names by number, of labels as texts.

    Whole numbers from 0 are the numbers themselves; other texts are numbered in alphabetical order.

    Raises
    ------
    UserError
        If a name cannot be printed, or there is one class alone.
    """
    names = sorted(set(values))
    if len(names) < 2:
        raise UserError(f"all labels are {names[0]!r}; allowed: two classes or more")
    require_printable(names)
    if all(name.isascii() and name.isdecimal() and int(name) < MOST_NUMBERS for name in names):
        numbers = np.array(list(map(int, values)), np.int64)
        return numbers, [str(number) for number in range(numbers.max() + 1)]
    places = {name: number for number, name in enumerate(names)}
    return np.array([places[value] for value in values], np.int64), names


def require_printable(names: Sequence[str]) -> None:
    """Refuse names of classes that cannot be printed."""
    for name in names:
        if NO_NAME.search(name):
            raise UserError(
                f"the label {name!r} has control characters, or is no text; give it another name"
            )


def parts_of(values: Sequence[str], undivided: str = " (columns: {split: null})") -> np.ndarray:
    """0 of training, 1 of test and :data:`NOT_READ` of validation rows, int64 (N,).

    Parameters
    ----------
    values
        Words of :data:`PARTS` and of :data:`VALIDATION`, in capitals or not, or :data:`NUMBERS`.
    undivided
        How the study file says that there is to be no split.

    Raises
    ------
    UserError
        If words are none of them, or there are no training or no test rows.
    """
    numbers = {word: place for place, words in enumerate(PARTS.values()) for word in words}
    numbers |= NUMBERS | dict.fromkeys(VALIDATION, NOT_READ)
    words = [value.strip().casefold() for value in values]
    unknown = dict.fromkeys(v for v, word in zip(values, words, strict=True) if word not in numbers)
    if unknown:
        raise UserError(
            f"split {first(list(map(repr, unknown)), FIRST, ', ')} is unknown; allowed: train, "
            "test, and validation, which is not read"
        )
    parts = np.array([numbers[word] for word in words], np.int64)
    for place, name in enumerate(PARTS):
        if not np.any(parts == place):
            there = first(sorted(set(words)), FIRST, ", ")
            raise UserError(
                f"no row is of the split {name!r}, only of {there}; "
                f"allowed: train and test, or no split{undivided}, so that test_fraction divides"
            )
    return parts


def not_read(parts: np.ndarray, what: str = "images") -> list[str]:
    """In words, how many of the rows are of validation; nothing where none is.

    Parameters
    ----------
    parts
        As :func:`parts_of`.
    """
    left = int(np.sum(parts == NOT_READ))
    return [f"not read: {left} validation {what}"] if left else []


def texts(values: np.ndarray) -> list[str]:
    """The values of an array (N,) as texts; bytes that are none have replacement characters."""
    return [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]


def groups_of(
    values: Sequence[str],
    parts: np.ndarray | None,
    otherwise: str = "leave the division to test_fraction (columns: {split: null})",
) -> np.ndarray:
    """Numbers of groups int64 (N,), of their names.

    Parameters
    ----------
    parts
        As :func:`parts_of`; None where the division is to come.
    otherwise
        What else can be done about a group with training and test images.

    Raises
    ------
    UserError
        If a group has training and test images.
    """
    names, groups = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
    if parts is not None:
        both = np.intersect1d(groups[parts == 0], groups[parts == 1])
        if len(both):
            raise UserError(
                f"groups with training and test images, {len(both)}: "
                f"{first(list(names[both]), FIRST, ', ')}; put each on one side, or {otherwise}"
            )
    return groups.astype(np.int64)


def divide(
    everything: Split, test_fraction: float, seed: int, class_names: Sequence[str], where: object
) -> tuple[Split, Split]:
    """Training and test images of undivided ones.

    Raises
    ------
    UserError
        If a class has none of either, or there is one group alone.
    """
    try:
        train, test = split_off_test(everything, test_fraction, seed)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    present = np.unique(everything.labels)
    whole = " (groups stay whole)" if everything.groups is not None else ""
    for what, split in (("training", train), ("test", test)):
        absent = [class_names[c] for c in np.setdiff1d(present, split.labels)]
        if absent:
            raise UserError(
                f"{where}: test_fraction {test_fraction} leaves no {what} image of "
                f"{first(absent, NAMED, ', ')}{whole}; add images to them, or change test_fraction"
            )
    return train, test


def require_trained_classes(train: Split, test: Split, class_names: Sequence[str]) -> None:
    """Refuse a class that has test images alone."""
    absent = [class_names[c] for c in np.setdiff1d(test.labels, train.labels)]
    if absent:
        raise UserError(
            f"no training image of {first(absent, NAMED, ', ')}, only test images; allowed: "
            "classes with training images"
        )
