"""What may be asked for on the command line, and the one line for what a study does not have."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from collapseflow.running.errors import UserError, did_you_mean
from collapseflow.study.plan import Plan

NO_SECOND = "this study has one data set only, and this target is of the second"
NO_TRAINING = (
    "this study trains no network; it takes backbones, and where the key `runs` is given, a "
    "selection there"
)
NO_FEATURES = "this study compares no features there; it takes names under the key `features`"
ONE_FEATURE_SET = "this study has one feature set only there, and nothing to compare it with"
NO_VARIANCE = "this study has no comparison of variances; it takes the key `variance`"
NO_SWEEP = "no recipe of this study is run with several values of a list"
NO_LAYERS = "no trained backbone of this study is read at several layers"
NO_ANALYSIS = "this study does not ask for it; it takes {} under the key `analyses`"
NO_FLAWS = (
    "this study has nothing with and without a flaw of the reports; it takes the recipes report_a "
    "and report_a_faithful, or a backbone with and without ImageNet's normalisation"
)
REASONS = {
    "fig2": NO_FEATURES,
    "fig3": NO_SECOND,
    "fig4": NO_TRAINING,
    "fig5": NO_TRAINING,
    "fig_training": NO_TRAINING,
    "fig_probes": NO_TRAINING,
    "fig_geometry": NO_TRAINING,
    "fig_few_shot": NO_ANALYSIS.format("few_shot"),
    "fig_similarity": NO_ANALYSIS.format("similarity"),
    "fig_transfer": NO_ANALYSIS.format("transfer"),
    "fig_confusion": NO_FEATURES,
    "table_comparison": NO_FEATURES,
    "table_flaws": NO_FLAWS,
    "fig_layers": NO_LAYERS,
    "fig_sweep": NO_SWEEP,
    "table_sweep": NO_SWEEP,
    "table_collapse": NO_TRAINING,
    "table1": NO_FEATURES,
    "table2": NO_SECOND,
    "fig_embedding_b": NO_VARIANCE,
    "fig_variance": NO_VARIANCE,
    "table_variance": NO_VARIANCE,
}


def absent(target: str, plan: Plan) -> str:
    """Why a study has nothing under the name of a target, in one line."""
    reason = REASONS[target]
    if reason == NO_SECOND and len(plan.study.datasets) > 1:
        reason = NO_FEATURES
    if target == "table_comparison" and any(map(plan.columns, plan.study.datasets)):
        reason = ONE_FEATURE_SET
    if target == "fig_similarity" and "similarity" in plan.study.analyses:
        reason = NO_LAYERS
    return f"{target}: {reason}"


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
        folders = f"raw|scattering|{plan.state_pattern()}"
        if features and not re.fullmatch(folders, features[1]):
            return False
        return is_made(word) or os.path.exists(path) or is_made(path)

    given = [w for w in words if not re.match(r"-|\w+=|\d+$", w)]
    if all(map(is_target, given)):
        return
    # Takes a third of a second.
    from snakemake.cli import get_argument_parser

    for target in get_argument_parser().parse_known_args(words)[0].targets:
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
        *plan.everything(),
        f"{results}/summary.md",
        *map(plan.files.dataset, plan.study.datasets),
    ]
    for dataset, features in plan.compared():
        files.append(plan.files.features(dataset, features.folder))
        files.append(plan.files.cells(dataset, features.path))
        files.append(plan.files.embedding(dataset, features.path, "both", "opentsne"))
    files += [plan.files.training(run.dataset, run.path) for run in plan.trainings]
    files += [plan.files.statistics_of_run(run.dataset, run.path) for run in plan.trainings]
    return (
        f"{target}: is not made by the study {study}; {did_you_mean(target, [*names, *files])}"
        f"allowed: {', '.join(names)}, and files below {results}/"
    )
