"""From a data set's entry in the study file to its HDF5 file."""

from dataclasses import replace
from pathlib import Path

from collapseflow.images.datasets import Splits, content_digest, take_subset, write_dataset
from collapseflow.images.sources import embedded, folder, idx, letters
from collapseflow.images.sources.known import LETTERS
from collapseflow.running.errors import UserError


def read_source(
    entry: dict, test_fraction: float, seed: int, cache: Path, threads: int = 1
) -> Splits:
    """Read a data set from where its entry says, whole, and check its digest if one is given."""
    source = entry["source"]
    if source in idx.KNOWN:
        known = idx.KNOWN[source]
        locations = entry["location"] or known["location"]
        return idx.read(locations, known["sha256"], known["class_names"], cache)
    if source == "idx":
        return idx.read(entry["location"], entry["sha256"], entry["class_names"], cache)
    if source == "mnist5k":
        return embedded.mnist5k(test_fraction, seed)
    if source == "digits":
        return embedded.digits(test_fraction, seed)
    if source == "letters":
        return letters.letters(LETTERS, test_fraction, seed, "data set")
    if source == "folder":
        return folder.read(entry["location"][0], entry["size"], test_fraction, seed, threads)
    # torchvision takes seconds to import; only its own data sets wait for it.
    from collapseflow.images.sources import torchvision

    root = cache / "torchvision"
    splits = torchvision.read(
        entry["name"], entry["arguments"], entry["size"], entry["class_names"], root
    )
    for split, expected in entry["sha256"].items():
        part = getattr(splits, split)
        found = content_digest(part.images, part.labels)
        if found != expected:
            raise UserError(f"sha256.{split}: the content has {found}, expected {expected}")
    return splits


def prepare_dataset(
    entry: dict,
    test_fraction: float,
    seed: int,
    cache: Path,
    output: str | Path,
    threads: int = 1,
) -> None:
    """Read a data set, take the asked-for sample, rename its classes, write it as HDF5."""
    splits = read_source(entry, test_fraction, seed, cache, threads)
    if entry["class_names"]:
        splits = replace(splits, class_names=entry["class_names"])
    full = {"train": len(splits.train.labels), "test": len(splits.test.labels)}
    subset = {k: n for k, n in entry["subset"].items() if n is not None}
    splits = take_subset(splits, subset.get("train"), subset.get("test"), seed)
    if subset:
        sizes = ", ".join(f"{n} of {full[split]} {split}" for split, n in subset.items())
        splits = replace(splits, source=f"{splits.source}; a stratified sample of {sizes} images")
    write_dataset(output, splits)
