"""Report A's tables 1 and 2: classifiers on features."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from collapseflow import published
from collapseflow.measures.confusion import UNEQUAL, imbalance
from collapseflow.measures.paired import larger_than_chance, unpack
from collapseflow.presentation.material import DescribedFeatures, Material, Outputs
from collapseflow.presentation.rows import (
    balanced,
    failure_of_results,
    identity,
    over_seeds,
    read_results,
    seeds_in_words,
    swept_keys,
)
from collapseflow.presentation.tables.writing import (
    Bold,
    Cell,
    failed_in_words,
    range_in_words,
    seeds_note,
    spread,
    write_table,
)

#: The mark of a probe that a flag of :func:`collapseflow.measures.probes.evaluate` is about.
MARKS = {"guessing": "§", "penalty": "¶"}
#: By the marks that stand in a table, what they mean.
MEANINGS = {
    "†": "the solver stopped at its iteration limit before it converged",
    "§": "at the level of guessing: the 95 % interval of the accuracy does not lie above the share "
    "of the most frequent class of the test images",
    "¶": "held down by its penalty: on the training images the loss is 90 % or more of that of the "
    "best guess without features; the penalty does not suit the features' scale",
}
#: What the tidy table takes from a cell as it is.
KEPT = [
    *("n_train", "n_test", "n_features", "converged", "iterations"),
    *("fit_seconds", "predict_seconds", "implementation"),
]
#: Balanced accuracy and the ends of its interval.
BALANCED = ("balanced", "balanced_low", "balanced_high")
#: With more feature sets than these they are rows.
MOST_COLUMNS = 6
#: Of the resampled test images.
SEED = 0


def read_cells(
    features: Sequence[DescribedFeatures], cells: Sequence[str | Path]
) -> tuple[list[tuple[DescribedFeatures, int | None, dict]], list[str]]:
    """Feature set, seed and classifiers of what did not fail; and in words what did.

    There is a file for each seed of each feature set.
    """
    there, failed = [], []
    for one, seed, content in read_results(features, cells):
        reason = failure_of_results(content)
        if reason is None:
            there.append((one, seed, content))
        else:
            words = [one.label, *([] if seed is None else [f"seed {seed}"])]
            failed.append(f"{', '.join(words)}: {reason}")
    return there, failed


def right_answers(
    there: Sequence[tuple[DescribedFeatures, int | None, dict]], classifiers: Sequence[str]
) -> dict[tuple[str, str], np.ndarray]:
    """Of each column and classifier which test images are right, bool (seeds, n).

    Parameters
    ----------
    there
        What :func:`read_cells` gives.
    """
    answers: dict[tuple[str, str], list[np.ndarray]] = {}
    for one, _, content in there:
        for classifier in classifiers:
            cell = content[classifier]
            right = unpack(cell["correct"], cell["n_test"])
            answers.setdefault((one.features, classifier), []).append(right)
    return {name: np.stack(right) for name, right in answers.items()}


def groups_of_images(
    there: Sequence[tuple[DescribedFeatures, int | None, dict]],
) -> np.ndarray | None:
    """The groups (n,) of the test images that intervals are over; None where they are over images.

    Parameters
    ----------
    there
        What :func:`read_cells` gives.
    """
    cells = [cell for *_, content in there for cell in content.values()]
    # Results of earlier versions do not have them: their intervals are over images.
    if not cells or not all("groups" in cell for cell in cells):
        return None
    return np.array(cells[0]["groups"])


def note_on_groups(groups: np.ndarray) -> str:
    """That intervals are over groups, in words."""
    return (
        f"Test images come in {len(np.unique(groups))} groups, which are no independent draws each "
        "by itself: intervals and tests are over groups."
    )


def accuracy_table(material: Material, outputs: Outputs) -> None:
    """Report A's tables 1 and 2: test accuracy of classifiers (rows) on features (columns).

    More than :data:`MOST_COLUMNS` feature sets are rows, and the classifiers columns. Bold is the
    best feature set of a classifier. Where classes are unequal
    (:data:`collapseflow.measures.confusion.UNEQUAL`), second lines have the balanced accuracies.
    Report A's numbers stand beside those of the same features and classifier, where the number of
    features is the same, too.

    The CSV has a row for each feature set, seed and classifier that there is; shares of 1.
    ``balanced``, ``balanced_low`` and ``balanced_high`` are the balanced accuracy and its interval,
    where it is another than the accuracy. ``flags`` are joined by spaces; ``chosen`` and
    ``scaling`` are the penalty and the scaling of features that a tuned classifier chose.
    """
    features, classifiers, title = material.columns, material.classifiers, material.title
    known = published.accuracies()
    keys = swept_keys(features)
    there, failed = read_cells(features, material.classification)
    records = []
    for one, seed, content in there:
        for classifier in classifiers:
            cell = content[classifier]
            low, high = cell["accuracy_interval"]
            name = (
                *(one.published or ()),
                cell["n_features"],
                material.published_classifiers.get(classifier),
            )
            value = known.get(name)
            records.append(
                {
                    "column": one.features,
                    **identity(one, seed, keys),
                    "epoch": one.epoch,
                    "layer": one.layer,
                    "classifier": classifier,
                    "accuracy": cell["accuracy"],
                    "low": low,
                    "high": high,
                    "published": None if value is None else value / 100,
                    **dict(zip(BALANCED, balanced(cell) or [None] * 3, strict=True)),
                    **{key: cell[key] for key in KEPT},
                    "flags": " ".join(cell["flags"]),
                    "chosen": None if cell["chosen"] is None else cell["chosen"]["winner"],
                    "scaling": None if cell["chosen"] is None else cell["chosen"]["scaling"],
                }
            )
    columns = ["column", "seed", "epoch", "classifier", "accuracy", "low", "high", "published"]
    columns += [*BALANCED, *KEPT, "flags"]
    tidy = pd.DataFrame(records, columns=None if records else columns)
    tidy = tidy.astype({"seed": "Int64", "epoch": "Int64"})
    means = _means(tidy, "accuracy", "low", "high")
    unequal = any(
        imbalance(np.array(cell["confusion"])) >= UNEQUAL
        for *_, content in there
        for cell in content.values()
    )
    of_classes = _means(tidy.dropna(subset="balanced"), *BALANCED)
    of_images = groups_of_images(there)
    best = _best(means, right_answers(there, list(classifiers)), of_images)
    groups = dict(list(tidy.groupby(["column", "classifier"])))

    def accuracy_of(column: str, classifier: str) -> Cell:
        name = column, classifier
        if name not in groups:
            return ""
        text = spread("accuracy", *means.loc[name, ["mean", "sd", "half_width"]])
        value = groups[name]["published"].iloc[0]
        rest = _marks(groups[name]) + ("" if pd.isna(value) else f" ({100 * value:.2f})")
        return Bold(text, rest) if name in best else text + rest

    def balanced_of(column: str, classifier: str) -> Cell:
        if (column, classifier) not in of_classes.index:
            return ""
        return spread(
            "accuracy", *of_classes.loc[(column, classifier), ["mean", "sd", "half_width"]]
        )

    kinds = {"": accuracy_of, **({", balanced": balanced_of} if unequal else {})}
    sizes = tidy.drop_duplicates("column").set_index("column")["n_features"]
    size_of = {one.features: str(sizes.get(one.features, "")) for one in features}
    rows: list[list[Cell]] = []
    if len(features) > MOST_COLUMNS:
        header = [title, *classifiers.values(), "size"]
        for one, (kind, cell_of) in product(features, kinds.items()):
            cells_of_row = [cell_of(one.features, classifier) for classifier in classifiers]
            size = "" if kind else size_of[one.features]
            rows.append([one.label + kind, *cells_of_row, size])
    else:
        header = [title, *(one.label for one in features)]
        for (classifier, label), (kind, cell_of) in product(classifiers.items(), kinds.items()):
            cells_of_row = [cell_of(one.features, classifier) for one in features]
            rows.append([label + kind, *cells_of_row])
        rows.append(["size", *size_of.values()])
    notes = [f"{title}: test accuracy in %."]
    if len(tidy):
        notes = [
            f"{title}: test accuracy in %, classifiers fitted on {range_in_words(tidy['n_train'])} "
            f"training images and scored on {range_in_words(tidy['n_test'])} test images, with as "
            "many decimals as leave half of its 95 % interval one digit. Bold: the best features "
            "of a classifier, where they are better than all others by more than chance on the "
            "same test images (McNemar's test and the 95 % interval of a paired bootstrap)."
        ]
    if of_images is not None:
        notes.append(note_on_groups(of_images))
    if unequal:
        notes.append("Balanced: the mean over the classes, which have unequal numbers of images.")
    seeded = [one for one in features if len(one.seeds) > 1]
    if seeded:
        notes += [
            seeds_note(seeds_in_words(seeded), geometric=False),
            "What has no ± is touched by no seed, or has one.",
        ]
    elif len(tidy):
        widest = ((tidy["high"] - tidy["low"]) / 2).max()
        notes.append(f"95 % intervals of the accuracies are at most ± {100 * widest:.1f} points.")
    if tidy["published"].notna().any():
        # A recipe that corrects this stands beside the same numbers.
        tuned = any(column.recipe and column.published for column in features)
        flaw = ", whose fine-tuned networks had seen test images" if tuned else ""
        notes.append(f"In brackets: published in report A{flaw}.")
    marks = {mark for group in groups.values() for mark in _marks(group)}
    notes += [f"{mark}: {meaning}." for mark, meaning in MEANINGS.items() if mark in marks]
    notes += [_note_on_neighbours(classifiers[c], of) for c, of in material.neighbours.items()]
    for classifier, label in classifiers.items():
        chosen = [(one.label, content[classifier]["chosen"]) for one, _, content in there]
        if any(choice is not None for _, choice in chosen):
            notes.append(_note_on_chosen(label, chosen))
    tidy = tidy.drop(columns="column")
    write_table(outputs, tidy, header, rows, [*notes, *failed_in_words(failed)])


def _means(tidy: pd.DataFrame, value: str, low: str, high: str) -> pd.DataFrame:
    """Means over seeds of a value with its interval, by column and classifier."""
    rows = tidy.assign(quantity="accuracy", value=tidy[value], low=tidy[low], high=tidy[high])
    numbers = dict.fromkeys(("value", "low", "high"), "float64")
    means = over_seeds(rows.astype(numbers), ["column", "classifier"])
    return means.set_index(["column", "classifier"])


def _best(
    means: pd.DataFrame,
    answers: Mapping[tuple[str, str], np.ndarray],
    groups: np.ndarray | None,
) -> set:
    """Column and classifier of the column that is better than all others with this classifier, and
    not by chance."""
    best = set()
    for classifier, group in means.groupby("classifier"):
        columns = group.sort_values("mean", ascending=False).index.get_level_values("column")
        first, *others = [answers[column, classifier] for column in columns]
        if others and all(larger_than_chance(first, other, SEED, groups) for other in others):
            best.add((columns[0], classifier))
    return best


def _marks(group: pd.DataFrame) -> str:
    """What is to be known of a cell, of some seed at least."""
    flags = {flag for its_flags in group["flags"] for flag in its_flags.split()}
    stopped = any(converged is False for converged in group["converged"])
    return ("†" if stopped else "") + "".join(m for flag, m in MARKS.items() if flag in flags)


def _note_on_neighbours(label: str, parameters: Mapping[str, Any]) -> str:
    # scikit-learn takes longer to import than a table takes.
    from collapseflow.measures.neighbours import NearestNeighbors

    used = NearestNeighbors(**parameters)
    return (
        f"{label}: the {used.n_neighbors} nearest training images by cosine similarity s, of which "
        f"each votes with exp(s / {used.temperature:g})."
    )


def _note_on_chosen(label: str, chosen: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The grid of a tuned classifier, and on which columns each of its values won."""

    def won(key: str) -> dict[Any, str]:
        """The columns of each value that won, in words."""
        winners: dict[Any, dict[str, None]] = {}
        for column, choice in chosen:
            winners.setdefault(choice[key], {})[column] = None
        return {value: f"({'; '.join(winners[value])})" for value in sorted(winners)}

    penalties = ", ".join(f"{value:g} {columns}" for value, columns in won("winner").items())
    scalings = ", ".join(f"{value} {columns}" for value, columns in won("scaling").items())
    images = range_in_words(pd.Series([choice["n_validation"] for _, choice in chosen]))
    # Where weaker penalties no longer help, the rest of the grid is not tried.
    grids = [tried["grid"] for _, choice in chosen for tried in choice["tried"].values()]
    grid = max(grids, key=len)
    return (
        f"{label}: chosen on {images} of the training images among up to {len(grid)} strengths of "
        f"the penalty from {min(grid):g} to {max(grid):g}: {penalties}; and between features "
        f"standardised each and divided all by one scale: {scalings}."
    )
