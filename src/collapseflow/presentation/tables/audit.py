"""What a data set is like: classes, constant images, duplicates."""

import pandas as pd

from collapseflow.images.datasets import SPLITS
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.tables.writing import write_table
from collapseflow.running.files import read_json

#: The rows, with what they count.
WORDS = {
    "images": "images",
    "classes": "classes with images",
    "largest class": "images of the largest class",
    "smallest class": "images of the smallest class that has some",
    "constant": "constant images",
    "exact": "images with an exact duplicate among them",
    "near": "images with a near duplicate among them",
    "exact across": "images equal to a training image",
    "exact across, other class": "of these, to one of another class",
    "near across": "images with a near duplicate among the training images",
    "near across, other class": "of these, with one of another class",
}


def audit_table(material: Material, outputs: Outputs) -> None:
    """What :func:`collapseflow.images.audit.audit` found, a row each, by split."""
    found = read_json(material.audit)
    counts = {split: [n for n in found["classes"][split] if n] for split in SPLITS}
    values = {
        "images": found["n"],
        "classes": {split: len(of) for split, of in counts.items()},
        "largest class": {split: max(of) for split, of in counts.items()},
        "smallest class": {split: min(of) for split, of in counts.items()},
        "constant": found["constant"],
    }
    for name, kind in (("exact", "exact"), ("near", "near_duplicates")):
        values[name] = {split: found[kind][split]["images"] for split in SPLITS}
        across = found[kind]["across"]
        values[f"{name} across"] = {"test": across["images"]}
        values[f"{name} across, other class"] = {"test": across["other_label"]}
    records = [
        {"what": what, "split": split, "n": n}
        for what in WORDS
        for split, n in values[what].items()
    ]
    rows = [
        [words, *(f"{values[what][s]:,}" if s in values[what] else "" for s in SPLITS)]
        for what, words in WORDS.items()
    ]
    height, width, *channels = found["shape"]
    colour = "in colour" if channels else "grey"
    notes = [
        f"{material.title}: images of {height} × {width} pixels, {colour}. Exact duplicates have "
        "the same pixels. Near duplicates do not, and their grey thumbnails of 16 × 16 pixels have "
        f"a correlation of {found['near']:g} or more: look at the closest pairs before images are "
        "called the same."
    ]
    total = sum(found["n"].values())
    if found["compared"] < total:
        notes.append(
            f"Near duplicates are looked for in a sample of {found['compared']:,} of the {total:,} "
            "images."
        )
    write_table(outputs, pd.DataFrame(records), [material.title, "training", "test"], rows, notes)
