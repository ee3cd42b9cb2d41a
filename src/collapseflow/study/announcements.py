"""What is said before the first job, by a dry run too, and after the last one.

A training goes on after its finished epochs (:mod:`collapseflow.training.loop`) if their weights
are there and nothing that they depend on has changed. Otherwise it trains them again, which may
take hours, and is said before.
"""

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from collapseflow.running.files import open_checked, read_json, readable
from collapseflow.running.resume import DEPENDENCIES, SET_ASIDE, read_kept
from collapseflow.running.words import epoch_name
from collapseflow.study.recipes import Recipe

#: Kept epochs do not name these keys of a recipe where another key makes them void
#: (training/recipes.py). Of the other keys they do not name those that have their default.
_VOID = ("epochs", "momentum", "nesterov", "steps", "step_factor", "label_smoothing")
#: So many names stand in a line.
_NAMED = 3


@dataclass(frozen=True)
class Training:
    """A training that is planned.

    Attributes
    ----------
    name
        Which one, for the user.
    progress
        The folder of its finished epochs, one for each digest of what they depend on.
    recipe
        How it is to be trained (:class:`collapseflow.training.recipes.NetworkRecipe`).
    kept
        The epochs whose weights are wanted.
    code
        The digest of the code that trains.
    log
        The log that an earlier training of this name has written, if there was one; None of a
        pretraining, which writes none.
    data
        The digest of its images; None where they are not there yet.
    made_again
        Which of its inputs other planned jobs make, in words.
    """

    name: str
    progress: str | Path
    recipe: Mapping[str, Any]
    kept: Sequence[int]
    code: str
    log: str | Path | None
    data: str | None = None
    made_again: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Before:
    """Epochs that stand in a folder, and what they depend on."""

    folder: Path
    depends_on: Mapping[str, Any]

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def finished(self) -> tuple[int, bool]:
        """How many epochs are finished, and whether the training then failed."""
        files, n = self.files, 0
        while f"{epoch_name(n + 1)}.json" in files:
            n += 1
        newest = read_kept(self.folder / f"{epoch_name(n)}.json") or {}
        return (n, False) if "log" in newest or not n else (n - 1, "failed" in newest)


def trained_again(
    trainings: Iterable[Training], recipes: Collection[Mapping[str, Any]] = ()
) -> list[str]:
    """Which finished epochs are trained again, and why: one line for trainings that have both in
    common.

    Parameters
    ----------
    recipes
        How all recipes of the study train. Epochs that one of them has finished count as its own,
        not as replaced by another one.
    """
    alike: dict[tuple[int, int, str], list[str]] = {}
    for training in trainings:
        found = _repeated(training, recipes)
        if found and found[0] <= found[1]:
            alike.setdefault(found, []).append(training.name)
    return [
        f"trained again: {_epochs(range(first, last + 1))} of {_some(sorted(names))}{reason}"
        for (first, last, reason), names in alike.items()
    ]


def finished_epochs(training: Training) -> int:
    """The epochs after which a planned training goes on, as far as is known before."""
    before = _own_epochs(training, _kept_before(training))
    if before is None:
        return 0
    repeated = _not_gone_on_with(training, before)
    return repeated[0] - 1 if repeated else min(before.finished()[0], training.recipe["epochs"])


def _kept_before(training: Training) -> list[_Before]:
    """The epochs that stand for a training's place, those of the newest attempt first."""
    paths = sorted(
        Path(training.progress).glob(f"*/{DEPENDENCIES}"), key=lambda path: -path.stat().st_mtime
    )
    kept = [_Before(path.parent, read_kept(path) or {}) for path in paths]
    return [before for before in kept if before.depends_on.get("recipe")]


def _own_epochs(training: Training, kept: Iterable[_Before]) -> _Before | None:
    """Those that depend on what the training depends on, as far as is known before."""
    for before in kept:
        if (
            not _differences(before.depends_on["recipe"], training.recipe)
            and before.depends_on.get("code") == training.code
            and training.data in (None, before.depends_on.get("dataset"))
        ):
            return before
    return None


def _repeated(
    training: Training, recipes: Collection[Mapping[str, Any]]
) -> tuple[int, int, str] | None:
    """The first and the last epoch that are finished and would be trained again, and why."""
    kept = _kept_before(training)
    last = training.recipe["epochs"]
    if own := _own_epochs(training, kept):
        return _not_gone_on_with(training, own)
    alike = [b for b in kept if not _differences(b.depends_on["recipe"], training.recipe)]
    if alike:
        same_code = alike[0].depends_on.get("code") == training.code
        what = "its images have changed" if same_code else "the code that trains has changed"
        return 1, min(alike[0].finished()[0], last), f": {what}"
    finished = read_kept(training.log) if training.log else None
    replaced = [
        (differences, before)
        for before in kept
        if all(_differences(before.depends_on["recipe"], {**training.recipe, **r}) for r in recipes)
        and (differences := _differences(before.depends_on["recipe"], training.recipe))
        # Without a result of this name it may have been any other recipe's.
        and (finished or set(differences) == {"epochs"})
    ]
    if replaced:
        differences, before = min(replaced, key=lambda found: len(found[0]))
        return 1, min(before.finished()[0], last), f": {_in_words(differences, training.recipe)}"
    return 1, min(len(finished or []), last), f": {training.progress} no longer holds them"


def _not_gone_on_with(training: Training, before: _Before) -> tuple[int, int, str] | None:
    """As :func:`_repeated`, of epochs that are the training's own."""
    n, failed = before.finished()
    last = min(n, training.recipe["epochs"])
    files = before.files
    lost = [e for e in training.kept if e <= last and f"{epoch_name(e)}.safetensors" not in files]
    after = min(lost, default=last + 1) - 1
    if lost or not (failed or n >= training.recipe["epochs"]):
        ends = (".safetensors", ".optimizer.safetensors")
        while after and not {f"{epoch_name(after)}{end}" for end in ends} <= files:
            after -= 1
    if lost:
        return after + 1, last, f": the weights of {_epochs(lost)} were not kept"
    if after < last:
        return after + 1, last, f": the weights or the optimiser's state of epoch {last} are gone"
    if training.made_again:
        what = " and ".join(training.made_again)
        verbs = (
            "come out the same when they are"
            if len(training.made_again) > 1
            else ("comes out the same when it is")
        )
        return 1, last, f", unless {what} {verbs} made again"
    return None


def _differences(kept: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The keys in which a recipe differs from that of kept epochs, with the values of these."""
    before = {
        key: kept[key] if key in kept else Recipe.model_fields[key].default
        for key in recipe
        if key in kept or key not in _VOID and key in Recipe.model_fields
    }
    return {key: value for key, value in before.items() if value != recipe[key]}


def _in_words(differences: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    words = ", ".join(f"{k} {recipe[k]!r} instead of {v!r}" for k, v in differences.items())
    if set(differences) == {"epochs"}:
        words += f"; with schedule {recipe['schedule']!r} the rate of every epoch depends on this"
    return words


def _epochs(epochs: Sequence[int]) -> str:
    """Some epochs in words: all in a row by the first and the last, others one by one."""
    if len(epochs) == 1:
        return f"epoch {epochs[0]}"
    if isinstance(epochs, range):
        return f"epochs {epochs[0]} to {epochs[-1]}"
    return f"epochs {_some(list(map(str, epochs)))}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def set_aside(results: str | Path) -> list[str]:
    """One line for what trainings of a study have set aside, if there is something."""
    progress = Path(results) / "progress"
    patterns = (f"finetune/*/*/*/*/*{SET_ASIDE}*", f"pretrain/*/*/*/*{SET_ASIDE}*")
    folders = sorted(str(path) for pattern in patterns for path in progress.glob(pattern))
    if not folders:
        return []
    return [
        "set aside, because no training could go on after them, are epochs that nothing reads; "
        f"to delete them: rm -r {' '.join(folders)}"
    ]


def finished(results: str | Path) -> list[str]:
    """What a finished study has found, in a line each, and where its pages are.

    Three kinds of findings, the first sentence of each.

    Raises
    ------
    UserError
        If ``findings.json`` is missing or damaged.
    """
    path = Path(results, "findings.json")
    with readable(path):
        findings = read_json(path)
        first = {finding["kind"]: finding["short"] for finding in reversed(findings)}
        kinds = dict.fromkeys(finding["kind"] for finding in findings)
    pages = (Path(results, name) for name in ("summary.md", "report.html"))
    return [
        *[first[kind] for kind in kinds][:_NAMED],
        *(f"The study is finished: {page}" for page in pages if page.exists()),
    ]


def failed_runs(failures: str | Path, n_runs: int) -> list[str]:
    """One line that says how many runs of a study failed, and other feature sets; none if all is
    there.

    Parameters
    ----------
    failures
        The study's ``failures.csv``.
    n_runs
        How many runs the study has.

    Raises
    ------
    UserError
        If the file is no such table, or damaged.
    """
    if not Path(failures).exists():
        return []
    where = ("epoch", "layer", "what", "reason")
    with open_checked(failures) as file:
        rows = csv.DictReader(TextIOWrapper(file, encoding="utf-8", newline=""))
        who = [(row["recipe"], tuple(v for k, v in row.items() if k not in where)) for row in rows]
        runs = {one for recipe, one in who if recipe}
        others = {one for recipe, one in who if not recipe}
    words = [f"{len(runs)} of {n_runs} runs"] if runs else []
    words += [f"{len(others)} other feature set{'s'[: len(others) - 1]}"] if others else []
    return [f"FAILED: {' and '.join(words)}; why: {failures}"] if words else []
