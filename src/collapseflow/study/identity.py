"""What all results of a study share: it may not change under the same name.

A seed divides the images, and a data set's name stands for its images. Under another seed, or with
other images under that name, a study would replace the results of another one, job by job. Images
that a user adds to a folder, or removes, are no other data set.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from collapseflow.images.sources.known import IDX_FILES
from collapseflow.images.sources.places import OWN
from collapseflow.running.errors import UserError
from collapseflow.running.files import read_json, readable, writable, write_json
from collapseflow.running.resume import digest
from collapseflow.study.analyses import ANALYSES
from collapseflow.study.schema import DECISIVE_CHANGES

#: Keys of the study file, and the file in the folder of results that keeps their values.
SHARED = ("seed", "test_fraction")
FILE = "identity.json"
#: Sources whose images stand where the user says.
LOCATED = (*OWN, "huggingface", "idx", "features")
#: What stands for keys that were not recorded when a study was made: then there was no choice.
BEFORE = {"fit": "crop", "columns": {}}
#: Arguments of torchvision's data sets that say where files are, not which.
WHERE = ("root", "download")
#: The folders of results that have one for each data set.
FOLDERS = (
    *("training", "features", "statistics", "similarity", "embeddings"),
    *(analysis.name for analysis in ANALYSES),
)


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
        With the key, its value, and the value behind the results; or if what is kept of them is
        damaged.
    """
    kept = _kept(results)
    for key in SHARED:
        if key in kept and kept[key] != study[key]:
            raise UserError(
                f"config key {key}: value {study[key]}, but {results} was made with {kept[key]}; "
                f"allowed: the same, another name (--config {key}={study[key]} "
                f"study={study['study']}-{key}{study[key]}), or delete {results}"
            )
    before = kept.get("datasets", {})
    for name, entry in study["datasets"].items():
        differences = _differences(entry, before[name]) if name in before else {}
        made = list(map(str, _results_of(Path(results), name))) if differences else []
        for key, (value, was) in differences.items() if made else ():
            raise UserError(
                f"config key datasets.{name}.{key}: value {_word(value)}, but {results} was made "
                f"with {_word(was)}; allowed: the same, another name for the study (--config "
                f"study={study['study']}-2) or for the data set, or delete what was made of it: "
                f"rm -r {' '.join(made)}"
            )


def record(study: Mapping[str, Any], results: str | Path) -> None:
    """Keep what the results of a study share, before its first job: also of data sets that it no
    longer has.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    path = Path(results) / FILE
    before = _kept(results).get("datasets", {})
    now = {name: _decisive(entry) for name, entry in study["datasets"].items()}
    for name, entry in study["datasets"].items():
        if entry["source"] in LOCATED and entry["location"]:
            now[name]["files"] = _listing(entry["location"])
    with writable():
        write_json(path, {**{key: study[key] for key in SHARED}, "datasets": {**before, **now}})


def _kept(results: str | Path) -> dict[str, Any]:
    """What is kept of earlier results; nothing where there are none."""
    path = Path(results) / FILE
    if not path.exists():
        return {}
    try:
        with readable(path):
            kept = read_json(path)
            # Of another type they have no such method.
            for entry in kept.get("datasets", {}).values():
                entry.items()
            return kept
    except UserError:
        raise UserError(
            f"{path}: damaged; it says of which seed and images {results} is, and nothing is made "
            "there without it; allowed: a copy of it, another name for the study, or to delete it "
            "if you know that neither has changed"
        ) from None


def _decisive(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a data set that decide which images it has, with their values."""
    arguments = {k: v for k, v in entry["arguments"].items() if k not in WHERE}
    values = {"source": entry["source"], "name": entry["name"], "arguments": arguments}
    values |= {key: entry[key] for key in ("size", *BEFORE)}
    values |= {f"subset.{split}": n for split, n in entry["subset"].items()}
    values |= {key: entry.get(key) for key in DECISIVE_CHANGES}
    if entry["source"] == "idx" and set(entry["sha256"]) == set(IDX_FILES):
        # Wherever the files are, these are their contents.
        return {**values, "sha256": entry["sha256"]}
    if entry["source"] in LOCATED and entry["location"]:
        values["location"] = list(map(_place, entry["location"]))
    # As it is read again.
    return json.loads(json.dumps(values, default=str))


def _differences(entry: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, tuple]:
    """The keys that decide a data set's images and differ from before: the values now and then."""
    now = _decisive(entry)
    # Results of before there were these keys are of data sets that are not changed.
    before = {**BEFORE, **dict.fromkeys(DECISIVE_CHANGES), **before}
    found = {key: (now[key], was) for key, was in before.items() if key in now and now[key] != was}
    # One place of several is enough; and a folder may have been moved.
    if "location" in found and (
        set(now["location"]) & set(before["location"])
        or before.get("files") is not None
        and before["files"] == _listing(entry["location"])
    ):
        del found["location"]
    return found


def _place(location: str) -> str:
    """A location by the one path that all its spellings have; an address on the web as it is."""
    path = _path(location)
    return location if path is None else str(path.resolve())


def _path(location: str) -> Path | None:
    parts = urlparse(location)
    if parts.scheme in ("http", "https"):
        return None
    path = url2pathname(parts.path) if parts.scheme == "file" else location
    return Path(os.path.expanduser(path))


def _listing(locations: list[str]) -> str | None:
    """A digest of the names and sizes of the files in the first folder that is there; of a file its
    size."""
    files = [path for path in map(_path, locations) if path is not None and path.is_file()]
    if files:
        return digest({"size": files[0].stat().st_size})
    folders = (path for path in map(_path, locations) if path is not None and path.is_dir())
    folder = next(folders, None)
    if folder is None:
        return None
    paths = [
        Path(above, name) for above, _, names in os.walk(folder, followlinks=True) for name in names
    ]
    # A link that leads nowhere is named when the images are read.
    sizes = {str(p.relative_to(folder)): p.stat().st_size for p in paths if p.exists()}
    return digest(sizes)


def _results_of(results: Path, dataset: str) -> Iterator[Path]:
    """What was made of a data set, and would be replaced."""
    paths = (results / "data" / f"{dataset}.h5", *(results / kind / dataset for kind in FOLDERS))
    return (path for path in paths if path.exists())


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False)
