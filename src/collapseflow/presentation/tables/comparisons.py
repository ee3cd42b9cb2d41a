"""Which feature sets differ: pairs of an accuracy table's columns on the same test images."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from collapseflow.measures.paired import LEVEL, mcnemar, paired_interval
from collapseflow.presentation.material import DescribedFeatures, Material, Outputs
from collapseflow.presentation.rows import identity, swept_keys
from collapseflow.presentation.tables.accuracy import (
    SEED,
    groups_of_images,
    note_on_groups,
    read_cells,
    right_answers,
)
from collapseflow.presentation.tables.writing import (
    decimals,
    failed_in_words,
    signed,
    write_table,
)

#: With more columns than these only pairs with the best are shown to readers.
MOST_COLUMNS = 8


def comparison_table(material: Material, outputs: Outputs) -> None:
    """Pairs of feature sets (rows): by how much classifiers (columns) are better on one of them.

    Markdown and LaTeX show the second feature set of a pair against the first, of more than
    :data:`MOST_COLUMNS` only the best against the others.

    The CSV has a row for each pair and classifier: what the two feature sets ``a`` and ``b`` are,
    their numbers of seeds, ``difference`` (accuracy on b minus that on a; shares of 1) with its
    95 % interval ``low``, ``high`` (:func:`collapseflow.measures.paired.paired_interval`), ``p``
    (:func:`collapseflow.measures.paired.mcnemar`), whether it is ``larger_than_chance`` (p below
    0.05, and zero outside of the interval), and the number ``n`` of test images.
    """
    features, classifiers, title = material.columns, material.classifiers, material.title
    there, failed = read_cells(features, material.classification)
    answers, groups = right_answers(there, list(classifiers)), groups_of_images(there)
    known = {one.features for one, _, _ in there}
    shown = [one for one in features if one.features in known]
    keys = swept_keys(features)
    records, compared = [], {}
    for a, b in combinations(shown, 2):
        who = {
            f"{key}_{side}": value
            for side, one in (("a", a), ("b", b))
            for key, value in _described(one, keys).items()
        }
        for classifier in classifiers:
            pair = a.features, b.features, classifier
            right_a, right_b = (answers[one.features, classifier] for one in (a, b))
            compared[pair] = _compare(right_b, right_a, groups)
            n_seeds = {"n_seeds_a": len(right_a), "n_seeds_b": len(right_b)}
            records.append(
                {"dataset": a.dataset, **who, **n_seeds, "classifier": classifier, **compared[pair]}
            )
    few = len(shown) <= MOST_COLUMNS
    best = None if few else _best_column(answers)
    rows = []
    for a, b in combinations(shown, 2):
        forward = best != a.features
        if not few and best not in (a.features, b.features):
            continue
        first, second = (b, a) if forward else (a, b)
        differences = [compared[a.features, b.features, c] for c in classifiers]
        words = [_in_words(difference, 1 if forward else -1) for difference in differences]
        rows.append([f"{first.label} − {second.label}", *words])
    notes = [
        f"{title}: difference of the test accuracies on two feature sets in points, with its 95 % "
        "interval (paired bootstrap: the same test images, resampled), and as many decimals as "
        "leave half of it two digits. ≈: not larger than chance "
        "(p of McNemar's test not below 0.05, or zero within the interval). Nothing is adjusted "
        "for the number of pairs: of 20 that do not differ, one is expected without ≈."
    ]
    if groups is not None:
        notes.append(note_on_groups(groups))
    if any(len(one.seeds) > 1 for one in shown):
        notes.append(
            "Several seeds: the difference of their mean accuracies. Only the images are taken as "
            "chance, not the seeds."
        )
    if not few:
        notes.append(
            f"Of {len(shown)} feature sets only pairs with the one that has the highest accuracy; "
            "all pairs are in the CSV."
        )
    if len(shown) < 2:
        notes.append("Fewer than two feature sets are there: nothing to compare.")
    columns = ["dataset", "classifier", "difference", "low", "high", "p", "larger_than_chance", "n"]
    tidy = pd.DataFrame(records, columns=None if records else columns)
    whole = {column: "Int64" for column in ("epoch_a", "epoch_b") if column in tidy}
    header = [title, *classifiers.values()]
    notes += failed_in_words(failed)
    write_table(outputs, tidy.astype(whole), header, rows, notes)


def _described(one: DescribedFeatures, keys: Sequence[str]) -> dict[str, Any]:
    """What a feature set is."""
    names = identity(one, None, keys)
    names = {key: value for key, value in names.items() if key not in ("dataset", "seed")}
    return {**names, "epoch": one.epoch, "layer": one.layer}


def _compare(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    difference, low, high = paired_interval(a, b, SEED, groups)
    p = mcnemar(a, b, groups)
    return {
        "difference": difference,
        "low": low,
        "high": high,
        "p": p,
        "larger_than_chance": p < LEVEL and not low <= 0 <= high,
        "n": a.shape[1],
    }


def _best_column(answers: Mapping[tuple[str, str], np.ndarray]) -> str:
    column, _ = max(answers, key=lambda name: answers[name].mean())
    return column


def _in_words(difference: Mapping[str, Any], sign: int) -> str:
    ends = sorted(sign * difference[end] for end in ("low", "high"))
    # One more than a value has: the ends are compared with zero.
    places = 1 + decimals((ends[1] - ends[0]) / 2)
    words = [signed(value, places) for value in (sign * difference["difference"], *ends)]
    text = f"{words[0]} [{', '.join(words[1:])}]"
    return text if difference["larger_than_chance"] else f"≈ {text}"
