"""What is computed on each feature set that is analysed: one entry for each kind of results.

An analysis more is a function that measures features, a rule that calls it, a function that makes
rows of measures.csv of its results, and an entry here.
"""

from dataclasses import dataclass

from collapseflow.study.schema import Study


@dataclass(frozen=True)
class Analysis:
    """One kind of results: a JSON file for each data set and feature set.

    Attributes
    ----------
    name
        Of its folder below the results of a study, and of these files among the inputs of rules.
    rule
        The rule that makes them.
    rows
        The function that makes rows of measures.csv of the content of a file, as a text: reading
        this list imports nothing that computes.
    asked_by
        The words under the key ``analyses`` that ask for it; without any, every study has it.
    """

    name: str
    rule: str
    rows: str
    asked_by: tuple[str, ...] = ()


_ROWS = "collapseflow.presentation.rows"
ANALYSES = (
    Analysis("classification", "classify", f"{_ROWS}.classification_rows"),
    Analysis("spectrum", "spectrum", f"{_ROWS}.spectrum_rows", ("spectrum", "transfer")),
    Analysis("few_shot", "few_shot", f"{_ROWS}.few_shot_rows", ("few_shot",)),
)


def asks(study: Study, word: str) -> bool:
    """Whether a study asks for an analysis by a word, and has what it is of: networks, where it is
    about transfer."""
    return word in study.analyses and (word != "transfer" or bool(study.backbones))


def analyses_of(study: Study) -> list[Analysis]:
    """What is computed on the feature sets of a study."""
    return [
        analysis
        for analysis in ANALYSES
        if not analysis.asked_by or any(asks(study, word) for word in analysis.asked_by)
    ]
