"""What happens in the terminal phase of training."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from collapseflow.presentation.findings.claims import Claim, in_every_seed, pooled
from collapseflow.presentation.findings.results import (
    CANNOT_BE_TOLD,
    FOUND,
    NC1_DIFFERS,
    NOT_FOUND,
    Finding,
    Results,
    in_each,
)
from collapseflow.presentation.findings.words import percentage, smaller, spread
from collapseflow.presentation.material import DescribedRun

#: The terminal phase is not reached, or with the last epoch; or NC1 goes on falling in it, or not.
NOT_REACHED, AT_THE_END, FALLS, STAYS, RISES = range(5)
MIXED = "mixed"
_BEGIN = "From the first epoch on at which every training image is right, NC1 of these images "
#: Verdict and words.
WORDS = {
    NOT_REACHED: (
        NOT_FOUND,
        "The terminal phase, in which every training image is right, is not reached",
        "terminal phase not reached",
    ),
    AT_THE_END: (
        CANNOT_BE_TOLD,
        "Every training image is right after the last epoch only: what NC1 does in the terminal "
        "phase cannot be told",
        "every training image right after the last epoch only",
    ),
    FALLS: (FOUND, f"{_BEGIN}goes on falling", "NC1 falls on in the terminal phase"),
    STAYS: (
        NOT_FOUND,
        f"{_BEGIN}does not clearly fall (asked for: by a factor above {NC1_DIFFERS}, and above "
        "that of any rise between measured epochs)",
        "NC1 does not clearly fall in the terminal phase",
    ),
    RISES: (NOT_FOUND, f"{_BEGIN}rises", "NC1 rises in the terminal phase"),
    MIXED: (
        CANNOT_BE_TOLD,
        "Seeds differ in what NC1 does in the terminal phase, in which every training image is "
        "right, or in whether it is reached",
        "terminal phase differs between seeds",
    ),
}


class Course(NamedTuple):
    """What NC1 of all training images does in the terminal phase of a run.

    ``first`` is the first measured epoch at which every training image is right, or the last one;
    ``right`` the share of training images that are right after the ``last`` epoch; ``fall`` the
    factor by which NC1 has fallen from the first to the last.
    """

    what: int
    first: int
    last: int
    right: float
    fall: float


def course_of(results: Results, run: DescribedRun) -> Course | None:
    """The course of a run; None where it has failed."""
    values = results.values
    end = values.get(run, run.last, "train", "accuracy")
    if end is None:
        return None
    epochs = [epoch for epoch in values.epochs(run) if epoch > 0]
    right = [epoch for epoch in epochs if (found := values.get(run, epoch, "train", "accuracy"))
             and found.value == 1]  # fmt: skip
    if not right:
        return Course(NOT_REACHED, run.last, run.last, end.value, 1.0)
    first = right[0]
    fall = values.nc1_ratio(run, (first, "train"), (run.last, "train"))
    if first == run.last or fall is None:
        return Course(AT_THE_END, first, run.last, end.value, 1.0)
    within = pairwise(epoch for epoch in epochs if epoch >= first)
    rises = [values.nc1_ratio(run, (b, "train"), (a, "train")) for a, b in within]
    what = STAYS
    if fall > max([NC1_DIFFERS, *filter(None, rises)]):
        what = FALLS
    elif fall < 1 / NC1_DIFFERS:
        what = RISES
    return Course(what, first, run.last, end.value, fall)


def terminal_phase(results: Results) -> list[Finding]:
    """Whether every training image was right after some measured epoch, and what NC1 of the
    training images does from there on.

    It goes on falling where it has fallen after the last epoch by more than a factor of
    :data:`NC1_DIFFERS`, and by more than it rises from any measured epoch to the next.
    """
    claims = []
    for replicates in results.replicates():
        courses = [(run, course) for run in replicates if (course := course_of(results, run))]
        if courses:
            claims.append(Claim(in_every_seed((c.what for _, c in courses), MIXED), courses))
    findings = []
    for what, datasets, words, courses in pooled(claims, results, _in_words):
        verdict, text, short = WORDS[what]
        short = f"{results.in_short(datasets)}: {short}; {_in_words(courses, '–')}"
        shown_in = ("plot_accuracy_per_epoch", ""), *in_each("plot_collapse", datasets)
        findings.append(Finding("terminal phase", f"{text}: {words}.", short, verdict, shown_in))
    return findings


def _in_words(courses: Sequence[Course], joint: str = " to ") -> str:
    """The courses of some runs."""
    words = []
    missed = [course for course in courses if course.what == NOT_REACHED]
    if missed:
        shares = spread([course.right for course in missed], percentage, joint)
        last = spread([course.last for course in missed], str, joint)
        words.append(f"{shares} % of the training images right after epoch {last}")
    late = [course.first for course in courses if course.what == AT_THE_END]
    if late:
        words.append(f"first right after epoch {spread(late, str, joint)}")
    there = [course for course in courses if course.what in (FALLS, STAYS, RISES)]
    if there:
        first, last = (
            spread([getattr(course, end) for course in there], str, joint)
            for end in ("first", "last")
        )
        falls = smaller([course.fall for course in there], joint)
        words.append(f"NC1 {falls} after epoch {last} than after epoch {first}")
    return ", ".join(words)
