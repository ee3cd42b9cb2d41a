"""What may be asked for on the command line."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from collapseflow.running.errors import UserError, did_you_mean
from collapseflow.study.plan import Plan
from collapseflow.study.products import everything


def refuse_unknown(
    words: Sequence[str],
    plan: Plan,
    names: Sequence[str],
    is_made: Callable[[str], bool],
) -> None:
    """Refuse targets of a command line that a study does not have.

    Parameters
    ----------
    words
        The command line, without the program.
    names
        The targets that are names.
    is_made
        Whether a rule has this name, or may make this file.

    Raises
    ------
    UserError
        In one line, with what comes nearest.
    """

    def is_target(word: str) -> bool:
        path = os.path.normpath(word)
        features = re.match(f"{re.escape(plan.files.results)}/features/[^/]+/(.+)", path)
        folders = f"raw|scattering|{plan.patterns.state}"
        if features and not re.fullmatch(folders, features[1]):
            return False
        return is_made(word) or os.path.exists(path) or is_made(path)

    given = [w for w in words if not re.match(r"-|\w+=|\d+$", w)]
    if all(map(is_target, given)):
        return
    # The library can be used without Snakemake.
    from collapseflow.running.engine import targets_among

    for target in targets_among(words):
        if not is_target(target):
            raise UserError(_line(target, plan, names))


def _line(target: str, plan: Plan, names: Sequence[str]) -> str:
    study, results = plan.study.study, plan.files.results
    parts = Path(target).parts
    if parts[0] == "results" and parts[1:2] != (study,):
        return (
            f"{target}: is not of the study {study}, whose files are below {results}/; "
            "another study's file goes behind --configfile"
        )
    files = [
        *everything(plan),
        f"{results}/summary.md",
        f"{results}/report.html",
        *map(plan.files.dataset, plan.study.datasets),
    ]
    for dataset, features in plan.columns.shown:
        files.append(plan.files.features(dataset, features.folder))
        files.append(plan.files.result("classification", dataset, features.path))
        files.append(plan.files.embedding(dataset, features.path, "both", "opentsne"))
    files += [plan.files.training(run.dataset, run.path) for run in plan.runs.trainings]
    files += [plan.files.statistics_of_run(run.dataset, run.path) for run in plan.runs.trainings]
    return (
        f"{target}: is not made by the study {study}; {did_you_mean(target, [*names, *files])}"
        f"allowed: {', '.join(names)}, and files below {results}/"
    )
