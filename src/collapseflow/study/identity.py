"""What all results of a study share: it may not change under the same name.

A seed divides the images. Under another seed, the same name would replace one study by another, job
by job.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from collapseflow.running.errors import UserError
from collapseflow.running.files import write_json
from collapseflow.running.resume import DEPENDENCIES, read_kept

#: Keys of the study file, and the file in the folder of results that keeps their values.
SHARED = ("seed", "test_fraction")
FILE = "identity.json"


def refuse_another(study: Mapping[str, Any], results: str | Path) -> None:
    """Refuse a study whose name stands for results of another one.

    Parameters
    ----------
    study
        The checked content of the study file.
    results
        The study's folder of results, which need not exist.

    Raises
    ------
    UserError
        With the key, its value, and the value behind the results.
    """
    kept = read_kept(Path(results) / FILE) or {}
    for key in SHARED:
        if key in kept and kept[key] != study[key]:
            raise UserError(
                f"config key {key}: value {study[key]}, but {results} was made with {kept[key]}; "
                f"allowed: the same, another name (--config {key}={study[key]} "
                f"study={study['study']}-{key}{study[key]}), or delete {results}"
            )


def record(study: Mapping[str, Any], results: str | Path) -> None:
    """Keep what the results of a study share, before its first job."""
    write_json(Path(results) / FILE, {key: study[key] for key in SHARED})


def trained_anew(
    progress: str | Path, recipe: Mapping[str, Any], asked_for: Collection[int] = ()
) -> list[str]:
    """What to say before a run is trained from its start again because its last epoch has changed.

    Parameters
    ----------
    progress
        The folder of the run's kept epochs (:mod:`collapseflow.training.loop`).
    recipe
        How it is to be trained, by the names of :class:`collapseflow.training.recipes.Recipe`.
    asked_for
        The numbers of epochs of all recipes of the study: what was kept for one of them is
        replaced by no other.

    Returns
    -------
    One line, or none: where the rate's course does not depend on the number of epochs, the run
    goes on after its last one.
    """
    before = set()
    for path in sorted(Path(progress).glob(f"*/{DEPENDENCIES}")):
        kept = (read_kept(path) or {}).get("recipe", {})
        # Epochs are kept only where the rate depends on them (training/recipes.py).
        same = all(recipe.get(key) == value for key, value in kept.items() if key != "epochs")
        if same and "epochs" in kept:
            before.add(kept["epochs"])
    replaced = before - set(asked_for)
    if not replaced or recipe["epochs"] in before:
        return []
    return [
        f"{progress}: {recipe['epochs']} epochs instead of {max(replaced)}: the course of the "
        f"learning rate (schedule {recipe['schedule']!r}) depends on their number, so that this "
        "run is trained from its start"
    ]
