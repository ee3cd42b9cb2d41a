"""What a study has found, in sentences that follow from its rows.

Each kind of finding is a function. Where the numbers allow a statement its verdict is "found" or
"not found"; where as much could come of chance, of one seed or of few images, it is "cannot be
told", and the sentence says so. Data sets share a sentence only where the same holds for each.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from collapseflow.presentation.findings.features import best_features
from collapseflow.presentation.findings.limits import LIMITS, limits
from collapseflow.presentation.findings.results import Finding, Results
from collapseflow.presentation.findings.seeds import recipes_beyond_seeds, starts_beyond_seeds
from collapseflow.presentation.findings.terminal import terminal_phase
from collapseflow.presentation.findings.training import effect_of_training, train_and_test

#: The kinds of findings, in the order in which they are read.
KINDS: dict[str, Callable[[Results], list[Finding]]] = {
    "features": best_features,
    "training": effect_of_training,
    "terminal phase": terminal_phase,
    "train and test": train_and_test,
    "recipes": recipes_beyond_seeds,
    "starts": starts_beyond_seeds,
    LIMITS: limits,
}


def find(results: Results) -> list[Finding]:
    """All findings of a study, kind by kind."""
    return [finding for kind in KINDS.values() for finding in kind(results)]


def as_records(findings: Iterable[Finding], contents: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Findings as JSON-like values.

    Parameters
    ----------
    contents
        The tables and figures that the study has (:func:`collapseflow.study.products.contents`).

    Returns
    -------
    Of each ``kind``, ``text``, ``short``, ``verdict``, and ``links``: the paths of the tables and
    figures that show its numbers.
    """
    there = {(one["rule"], one["dataset"]): one["files"] for one in contents}
    found = {place: files.get("png") or files["md"] for place, files in there.items()}
    return [
        {
            **{key: getattr(finding, key) for key in ("kind", "text", "short", "verdict")},
            "links": [found[place] for place in finding.shown_in if place in found],
        }
        for finding in findings
    ]
