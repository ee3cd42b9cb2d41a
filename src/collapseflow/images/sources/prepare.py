"""From a data set's entry in the study file to its HDF5 file."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from collapseflow.images.datasets import (
    Splits,
    content_digest,
    names_of,
    take_subset,
    with_names,
    write_dataset,
)
from collapseflow.images.sources import (
    arrays,
    embedded,
    folder,
    huggingface,
    idx,
    letters,
    table,
    vectors,
)
from collapseflow.images.sources.changes import changed, take_classes
from collapseflow.images.sources.known import LETTERS
from collapseflow.running.errors import UserError
from collapseflow.running.words import CONTROL, printable

#: What is downloaded, below the folder that a study is run in; torchvision's files inside it.
DOWNLOADS = Path("resources/downloads")
TORCHVISION_FILES = "torchvision"


def read_source(
    entry: dict, test_fraction: float, seed: int, cache: Path, threads: int = 1
) -> Splits:
    """Read a data set from where its entry says, whole, and check its digest if one is given.

    Classes are those that occur, by the names that the entry gives them, or those among them that
    it takes.
    """
    read = _read(entry, test_fraction, seed, cache, threads)
    splits = with_names(read, entry["class_names"])
    for name in splits.class_names:
        if re.search(f"[{CONTROL}]", name):
            raise UserError(
                f"class_names: the class '{printable(name)}' of {splits.source} has a name that "
                "ends a line or turns the text; name the classes with the key 'class_names'"
            )
    # Only torchvision's are of what was read; those of IDX files are of the files.
    digests = entry["sha256"] if entry["source"] == "torchvision" else {}
    for split, expected in digests.items():
        part = getattr(splits, split)
        found = content_digest(part.images, part.labels)
        if found != expected:
            raise UserError(f"sha256.{split}: the content has {found}, expected {expected}")
    numbers = np.unique(np.concatenate([read.train.labels, read.test.labels]))
    return take_classes(splits, entry.get("classes"), numbers)


def _read(entry: dict, test_fraction: float, seed: int, cache: Path, threads: int) -> Splits:
    source = entry["source"]
    if source in idx.KNOWN:
        known = idx.KNOWN[source]
        locations = entry["location"] or known["location"]
        return idx.read(locations, known["sha256"], known["class_names"], cache)
    if source == "idx":
        return idx.read(entry["location"], entry["sha256"], None, cache)
    if source == "mnist5k":
        return embedded.mnist5k(test_fraction, seed)
    if source == "digits":
        return embedded.digits(test_fraction, seed)
    if source == "letters":
        return letters.letters(LETTERS, test_fraction, seed, "data set")
    if source == "features":
        return vectors.read(entry["location"], test_fraction, seed)
    # A data set of before there was a choice has no such key.
    fit, choice = entry.get("fit", "crop"), entry.get("on_bad_image", "stop")
    if source == "folder":
        location, size = entry["location"][0], entry["size"]
        return folder.read(location, size, test_fraction, seed, threads, choice, fit)
    if source == "table":
        location, columns = entry["location"][0], entry.get("columns", {})
        how = (entry["size"], test_fraction, seed, threads, choice, fit)
        return table.read(location, columns, *how)
    if source == "arrays":
        columns, size = entry.get("columns", {}), entry["size"]
        return arrays.read(entry["location"][0], columns, size, test_fraction, seed, fit)
    if source == "huggingface":
        where = (entry["location"] or [None])[0], entry["name"], entry["arguments"]
        how = (entry["size"], test_fraction, seed, threads, choice, fit)
        return huggingface.read(*where, entry.get("columns", {}), *how)
    # torchvision takes seconds to import; only its own data sets wait for it.
    from collapseflow.images.sources import torchvision

    root = cache / TORCHVISION_FILES
    name, arguments, size = entry["name"], entry["arguments"], entry["size"]
    return torchvision.read(name, arguments, size, root, test_fraction, seed, fit)


def check_class_names(entry: dict, cache: Path) -> None:
    """Refuse names of another number than the classes that are on this machine already.

    ``entry`` has the source ``idx`` or ``torchvision``.

    Raises
    ------
    UserError
        As :func:`collapseflow.images.datasets.names_of`.
    """
    if entry["source"] == "idx":
        labels = idx.labels_on_disk(entry["location"])
    else:
        from collapseflow.images.sources import torchvision

        root = cache / TORCHVISION_FILES
        labels = torchvision.labels_on_disk(entry["name"], entry["arguments"], root)
    if labels is not None:
        names_of(labels, entry["class_names"], entry["class_names"])


def prepare_dataset(
    entry: dict,
    test_fraction: float,
    seed: int,
    cache: Path,
    output: str | Path,
    threads: int = 1,
) -> None:
    """Read a data set, take the asked-for sample, change it as asked for, write it as HDF5."""
    splits = read_source(entry, test_fraction, seed, cache, threads)
    full = {"train": len(splits.train.labels), "test": len(splits.test.labels)}
    subset = {k: n for k, n in entry["subset"].items() if n is not None}
    splits = take_subset(splits, subset.get("train"), subset.get("test"), seed)
    if len(np.unique(splits.train.labels)) < 2:
        raise UserError(
            "all training images are of one class; allowed: two classes or more, also where the "
            "key 'subset' takes some of the images"
        )
    if subset:
        sizes = ", ".join(f"{n} of {full[split]} {split}" for split, n in subset.items())
        splits = replace(splits, source=f"{splits.source}; a stratified sample of {sizes} images")
    write_dataset(output, changed(splits, entry, seed))
