"""What all results of a study share: it may not change under the same name.

A seed divides the images. Under another seed, the same name would replace one study by another, job
by job.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collapseflow.running.errors import UserError
from collapseflow.running.files import write_json
from collapseflow.running.resume import read_kept

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
