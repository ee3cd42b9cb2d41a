"""One's own training in files that a study knows.

Measures become rows of a file like a study's measures.csv: what reads that reads this one,
``python -m collapseflow compare``, the figures of the library, pandas. Vectors become a file that a
data set with ``source: features`` takes.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from collapseflow.features.stores import Block
from collapseflow.images.datasets import SPLITS
from collapseflow.measures.online import Collapse, is_first, layer
from collapseflow.measures.statistics import MEASURED_SPLITS
from collapseflow.presentation.rows import (
    COLUMNS,
    IDENTITY,
    frame,
    read_csv,
    rows_of_states,
    write_csv,
)
from collapseflow.running.errors import instead
from collapseflow.running.files import atomic_path


def write_rows(
    path: str | Path,
    values: Mapping[str, float],
    n: int,
    epoch: int | None,
    split: str,
    layer: str,
    dataset: str,
    backbone: str,
    start: str = "",
    recipe: str = "",
    seed: int | None = None,
) -> None:
    """Write the measures of one layer after one epoch, a row each, beside the rows that are there.

    Rows of the same training, epoch, layer and split are replaced, so that a training may be
    repeated. The file is written anew and is whole at any moment; one process writes it.

    Parameters
    ----------
    path
        The file; it need not exist.
    values, n
        What :meth:`collapseflow.measures.Collapse.compute` gives, without definitions of others,
        and how many vectors it was of (``Collapse.n_samples``).
    epoch
        How many epochs the network has been trained: 0 before the first.
    split
        ``train``, ``test`` or ``train_matched``. An accuracy on test images has its 95 % interval.
    layer
        Whose vectors they are. ``accuracy`` is the network's, and has none.
    dataset, backbone, start, recipe, seed
        The training: texts, and a whole number.

    Raises
    ------
    ValueError
        If there is no such split.
    UserError
        If the file is there and is no such table.
    """
    if split not in MEASURED_SPLITS:
        raise ValueError(f"split: {split!r} is unknown; {instead(split, MEASURED_SPLITS)}")
    who = dict(zip(IDENTITY, (dataset, backbone, start, recipe, seed), strict=True))
    state = {"epoch": epoch, "layers": {layer: {split: {**values, "n_samples": n}}}}
    rows = frame([{**who, **row} for row in rows_of_states([state])], COLUMNS)
    if Path(path).exists():
        rows = pd.concat([_without(read_csv(path), rows), rows], ignore_index=True)
    write_csv(path, rows)


def _without(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The old rows that are not of a training, epoch, layer and split of the new ones."""
    keys = [*IDENTITY, "epoch", "layer", "split"]
    of_new = new[keys].drop_duplicates()
    found = old[keys].merge(of_new, how="left", on=keys, indicator=True)["_merge"]
    return old[(found == "left_only").to_numpy()]


def write_vectors(path: str | Path, collapses: Mapping[str, Collapse], head: Any = None) -> None:
    """Write vectors, labels and, where there are logits, predictions as a file that a study takes.

    It is HDF5 with vectors float32, and is written as a whole or not at all. Files of several
    epochs need the same images in the same order. Where several processes of ``torch.distributed``
    have vectors, all of them call this, and the first one writes those of all.

    Parameters
    ----------
    path
        The file, ``.h5``; one that is there is replaced.
    collapses
        Of ``train`` and of ``test``, which keep features.
    head
        The last layer, as of :meth:`collapseflow.measures.Collapse.compute`; None leaves it out.

    Raises
    ------
    ValueError
        If there are other splits, no vectors of one, moments in place of vectors, vectors of
        different lengths, logits of one split alone, or a head of other vectors or classes.
    OSError
        If the file cannot be written.
    """
    if Path(path).suffix != ".h5":
        raise ValueError(f"path: {path}; a name that ends in .h5 is needed")
    if set(collapses) != set(SPLITS):
        raise ValueError(f"collapses: {', '.join(collapses)}; a study takes train and test")
    blocks = ((split, block) for split in SPLITS for block in collapses[split].vectors())
    if not is_first():
        deque(blocks, maxlen=0)
        return
    n_classes = max(collapse.n_classes for collapse in collapses.values())
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        _write_blocks(file, blocks)
        file["class_names"] = [str(label) for label in range(n_classes)]
        if head is not None:
            d = file["vectors"].shape[1]
            file["weight"], file["bias"] = (
                part.astype(np.float32) for part in layer(head, n_classes, d)
            )


def _write_blocks(file: h5py.File, blocks: Iterator[tuple[str, Block]]) -> None:
    splits, with_logits = set(), set()
    for split, (features, labels, predictions) in blocks:
        splits.add(split)
        with_logits.add(predictions is not None)
        columns = {
            "vectors": features.astype(np.float32, copy=False),
            "labels": labels,
            "split": np.full(len(labels), split, "S5"),
        }
        if predictions is not None:
            columns["predictions"] = predictions
        for name, values in columns.items():
            _append(file, name, values)
    for split in SPLITS:
        if split not in splits:
            raise ValueError(f"collapses: there are no vectors of {split} yet")
    if len(with_logits) > 1:
        raise ValueError("collapses: logits came with train or test alone: with both or with none")


def _append(file: h5py.File, name: str, values: np.ndarray) -> None:
    """Put values (n, ...) at the end of a data set."""
    if name not in file:
        file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]))
        return
    column = file[name]
    if column.shape[1:] != values.shape[1:]:
        raise ValueError(
            f"collapses: vectors of {values.shape[1]} values after vectors of {column.shape[1]}"
        )
    start = len(column)
    column.resize(start + len(values), axis=0)
    column[start:] = values
