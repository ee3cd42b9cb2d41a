"""Data sets of Hugging Face's library ``datasets``: saved on disk, or in its cache."""

import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Literal

import numpy as np

from collapseflow.images.datasets import Split, Splits, make_split
from collapseflow.images.sources.own import (
    NAMED,
    NAMED_IN_SOURCE,
    PARTS,
    VALIDATION,
    choose,
    classes_of,
    divide,
    first,
    groups_of,
    require_printable,
    require_trained_classes,
)
from collapseflow.images.sources.pictures import Fit, Size, read_pictures, stack, unequal_sizes
from collapseflow.running.errors import UserError
from collapseflow.running.resume import digest

logger = logging.getLogger(__name__)

#: What columns are usually called, in lower case, where their types do not say it.
USUAL = {
    "image": ("image", "img"),
    "label": ("label", "labels"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id", "video"),
}
#: The arguments of ``load_dataset`` that say which data set it is.
ARGUMENTS = ("name", "revision")


@dataclass(frozen=True)
class Found:
    """A data set without its images.

    Attributes
    ----------
    words : what it is called
    splits : what training and test images are called; one name, perhaps empty, of undivided ones
    parts : their rows, as many
    image : the column of images
    labels : int64 (N,), of each of the parts
    class_names : by number
    groups : int64 (N,), of each of the parts; or None
    notes : what is to be said of it
    """

    words: str
    splits: list[str]
    parts: list[Any]
    image: str
    labels: list[np.ndarray]
    class_names: list[str]
    groups: list[np.ndarray] | None
    notes: list[str]


def read(
    location: str | Path | None,
    name: str | None,
    arguments: Mapping[str, Any],
    columns: Mapping[str, str | None],
    size: Size,
    test_fraction: float,
    seed: int,
    threads: int,
    on_bad_image: Literal["stop", "skip"] = "stop",
    fit: Fit = "crop",
) -> Splits:
    """Read the images of a data set, decoded on several threads; nothing is fetched.

    Parameters
    ----------
    location, name, arguments, columns
        As :func:`look_into`.
    size, fit, test_fraction, seed, threads, on_bad_image
        As :mod:`collapseflow.images.sources` says.

    Raises
    ------
    UserError
        As :func:`look_into`, or naming what cannot be read.
    """
    found = look_into(location, name, arguments, columns)
    starts = np.cumsum([0, *map(len, found.parts)])

    def place(number: int) -> tuple[int, int]:
        """The number of the part that an image is of, and its row there."""
        of = int(np.searchsorted(starts, number, "right")) - 1
        return of, int(number - starts[of])

    def load(number: int) -> Path | BinaryIO:
        of, row = place(number)
        held = found.parts[of][row][found.image] or {"bytes": b""}
        return Path(held["path"]) if held["bytes"] is None else io.BytesIO(held["bytes"])

    def called(number: int) -> str:
        of, row = place(number)
        return f"row {row} of {found.splits[of]}" if found.splits[of] else f"row {row}"

    n = int(starts[-1])
    pictures = read_pictures(load, n, size, fit, threads, found.words)
    bad = [f"{called(number)} ({words})" for number, words in pictures.bad.items()]
    notes = [*found.notes, *pictures.notes]
    if bad and on_bad_image == "stop":
        raise UserError(
            f"{found.words}: {len(bad)} of {n} images cannot be read: {first(bad, NAMED)}; set the "
            "key 'on_bad_image' to 'skip' to leave them out"
        )
    if bad:
        notes.append(f"left out {len(bad)} of {n} images: {first(bad, NAMED_IN_SOURCE)}")
        logger.warning("%s: left out %d of %d: %s", found.words, len(bad), n, "; ".join(bad))
    if not pictures.rows:
        raise UserError(f"{found.words}: no image can be read")
    if unequal := unequal_sizes(pictures.images, list(map(called, pictures.rows))):
        raise UserError(f"{found.words}: {unequal}")
    # Together, because grey ones among colours get three channels.
    images, numbers = stack(pictures.images), np.array(pictures.rows)
    splits = []
    for of in range(len(found.parts)):
        mine = (numbers >= starts[of]) & (numbers < starts[of + 1])
        rows = numbers[mine] - starts[of]
        groups = None if found.groups is None else found.groups[of][rows]
        splits.append(make_split(images[mine], found.labels[of][rows], rows, groups))
    train, test = _divided(splits, found, test_fraction, seed)
    return Splits(train, test, found.class_names, "; ".join([found.words, *notes]))


def look_into(
    location: str | Path | None,
    name: str | None,
    arguments: Mapping[str, Any],
    columns: Mapping[str, str | None],
) -> Found:
    """What a data set holds beside its images.

    Parameters
    ----------
    location
        A folder that ``save_to_disk`` has made; or None.
    name, arguments
        Of a data set in the cache: what ``load_dataset`` is called with.
    columns
        By ``image``, ``label`` and ``group`` the names of columns, where their types and
        :data:`USUAL` do not say it; None where there is to be none.

    Raises
    ------
    UserError
        If the library is missing, or the data set is not there, or its columns, splits or labels
        are not those of labelled images.
    """
    datasets = _library()
    where = str(location) if location else str(name)
    data = _saved(datasets, location) if location else _cached(datasets, name, arguments)
    try:
        return _understood(datasets, data, columns, Path(where).name if location else where)
    except UserError as error:
        raise UserError(f"{'location' if location else 'name'}: {where}: {error}") from None


def content(
    location: str | Path | None, name: str | None, arguments: Mapping[str, Any]
) -> str | None:
    """A digest of the names, sizes and times of change of the files of a data set, saved or in the
    cache; None of what is not in the cache.

    In the cache each revision has a folder of its own, of which the library reads the newest: all
    count. The library is not imported, which takes seconds.

    Parameters
    ----------
    location, name, arguments
        As :func:`look_into`.
    """
    root = Path(os.path.expanduser(location)) if location else _cache()
    found = root.rglob("*") if location else _in_cache(root, str(name), arguments)
    files = sorted(path for path in found if path.is_file())
    if not files and not location:
        return None
    status = [(file.relative_to(root), file.stat()) for file in files]
    return digest({"files": [f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in status]})


def _cache() -> Path:
    """Where the library keeps data sets, as its documentation says."""
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"
    )
    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(home, "datasets")).expanduser()


def _in_cache(root: Path, name: str, arguments: Mapping[str, Any]) -> Iterator[Path]:
    """The files of a data set in the cache: ``OWNER___NAME/CONFIGURATION/VERSION/REVISION/*.arrow``
    in whose NAME ``CamelCase`` is written ``camel_case``. Results of the library's methods lie
    among them, called ``cache-*``."""

    def letters(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.casefold())

    kind = f"{escape(arguments.get('name', ''))}*"
    for folder in root.glob("*"):
        if letters(folder.name) == letters(name):
            files = folder.glob(f"{kind}/*/*/*.arrow")
            yield from (path for path in files if not path.name.startswith("cache-"))


def _library() -> ModuleType:
    """``datasets``, which is kept from asking any server."""
    # The libraries look at the variables when they are imported, and at the constants after that.
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    try:
        import datasets
        import huggingface_hub

        datasets.config.HF_HUB_OFFLINE = True
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.disable_progress_bars()
    # A folder of this name can be imported, too, and has nothing in it.
    except (ImportError, AttributeError):
        raise UserError(
            "source: 'huggingface' needs the package datasets: pip install datasets"
        ) from None
    return datasets


def _saved(datasets: ModuleType, location: str | Path) -> Any:
    path = Path(os.path.expanduser(location))
    try:
        return datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"location: {path}: cannot be read ({line}); allowed: a folder that save_to_disk has "
            "made"
        ) from None


def _cached(datasets: ModuleType, name: str, arguments: Mapping[str, Any]) -> Any:
    unknown = sorted(set(arguments) - set(ARGUMENTS))
    if unknown:
        raise UserError(
            f"arguments: {unknown[0]!r} is unknown; allowed: {', '.join(ARGUMENTS)}, as "
            "load_dataset takes them"
        )
    try:
        return datasets.load_dataset(name, **arguments)
    except (OSError, ValueError, RuntimeError) as error:
        logger.info("%s: %s", name, error)
        given = "".join(f", {key}={value!r}" for key, value in arguments.items())
        raise UserError(
            f"name: {name!r} is not in the cache of datasets, {datasets.config.HF_DATASETS_CACHE}; "
            'fetch it where there is a network, python -c "from datasets import load_dataset; '
            f'load_dataset({name!r}{given})"'
        ) from None


def _understood(
    datasets: ModuleType, data: Any, columns: Mapping[str, str | None], name: str
) -> Found:
    splits, parts, notes = _parts(data)
    features = parts[0].features
    of_type = {
        "image": [k for k, v in features.items() if isinstance(v, datasets.Image)],
        "label": [k for k, v in features.items() if isinstance(v, datasets.ClassLabel)],
    }
    chosen = {}
    for role, usual in USUAL.items():
        named = dict(columns)
        if role not in named and len(of_type.get(role, ())) == 1:
            named[role] = of_type[role][0]
        needed = role != "group"
        chosen[role] = choose(list(features), named, role, usual, needed)
    image, label, group = (chosen[role] for role in ("image", "label", "group"))
    if image not in of_type["image"]:
        raise UserError(f"columns.image: {image!r} has no images, but {features[image]}")
    undecoded = [part.cast_column(image, datasets.Image(decode=False)) for part in parts]
    labels, class_names = _labels(datasets, parts, label)
    groups = None
    if group is not None:
        values = [value for part in parts for value in part[group]]
        if missing := values.count(None):
            raise UserError(
                f"images without a group in {group!r}, {missing}; allowed: one for each"
            )
        members = list(map(str, values))
        sides = np.repeat(np.arange(len(parts)), list(map(len, parts)))
        numbers = groups_of(
            members,
            sides if len(parts) == 2 else None,
            "say that they are no groups (columns: {group: null})",
        )
        groups = np.split(numbers, [len(parts[0])])
        notes.append(f"{len(np.unique(numbers))} groups by {group}")
    return Found(
        f"{name} of the library datasets",
        splits,
        undecoded,
        image,
        labels,
        class_names,
        groups,
        notes,
    )


def _parts(data: Any) -> tuple[list[str], list[Any], list[str]]:
    """The names and the rows of training and of test images, or of all; and which splits are
    others."""
    if not isinstance(data, dict):
        return [""], [data], []
    if len(data) == 1:
        return list(data), list(data.values()), []
    names = {
        part: [name for name in data if name.casefold() in words] for part, words in PARTS.items()
    }
    validation = [name for name in data if name.casefold() in VALIDATION]
    if not names["train"]:
        raise UserError(f"has the splits {', '.join(data)}; allowed: a split train")
    notes = []
    if not names["test"] and validation:
        names["test"] = validation
        notes.append(f"the test images are those of {validation[0]}")
    used = [names["train"][0], *names["test"][:1]]
    others = [name for name in data if name not in used]
    notes += [f"not read: {', '.join(others)}"] if others else []
    return used, [data[name] for name in used], notes


def _labels(
    datasets: ModuleType, parts: list[Any], label: str
) -> tuple[list[np.ndarray], list[str]]:
    """Numbers of classes of each part, and their names by number."""
    feature = parts[0].features[label]
    values = [list(part[label]) for part in parts]
    named = isinstance(feature, datasets.ClassLabel)
    # -1 is what the library has for a class that is not known.
    missing = sum(value is None or (named and value == -1) for of in values for value in of)
    if missing:
        raise UserError(f"images without a label in {label!r}, {missing}; allowed: one for each")
    if named:
        require_printable(feature.names)
        return [np.array(of, np.int64) for of in values], list(feature.names)
    together, names = classes_of([str(value) for of in values for value in of])
    return np.split(together, [len(values[0])])[: len(parts)], names


def _divided(
    splits: list[Split], found: Found, test_fraction: float, seed: int
) -> tuple[Split, Split]:
    if len(splits) == 1:
        return divide(splits[0], test_fraction, seed, found.class_names, found.words)
    try:
        require_trained_classes(*splits, found.class_names)
    except UserError as error:
        raise UserError(f"{found.words}: {error}") from None
    return splits[0], splits[1]
