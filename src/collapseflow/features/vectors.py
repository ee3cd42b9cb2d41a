"""From files of vectors that were computed elsewhere to feature stores."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from collapseflow.features.stores import Head, open_writer, provenance_of
from collapseflow.images.datasets import SPLITS, Split, read_split
from collapseflow.images.sources.vectors import (
    CLASS_NAMES,
    LABELS,
    PREDICTIONS,
    Vectors,
    numbered,
    open_vectors,
)
from collapseflow.running.errors import UserError
from collapseflow.running.files import atomic_folder


def write_vectors(dataset: str | Path, path: str | Path, output: str | Path) -> None:
    """Write the vectors of a file into the stores of a data set's splits, ``train.h5`` and
    ``test.h5``, as float32, in memory that does not grow with their number.

    Predictions and the last layer's weight and bias come along where the file has them; a file with
    a last layer and without predictions is given the layer's.

    Parameters
    ----------
    dataset
        The data set's file, whose ids are rows of the file.
    path
        As :func:`collapseflow.images.sources.vectors.open_vectors`.
    output
        The folder of the stores; appears whole.

    Raises
    ------
    UserError
        Naming the file, if its rows are not those of the data set, or values are not finite.
    """
    splits = {split: read_split(dataset, split) for split in SPLITS}
    with ExitStack() as stack:
        folder = stack.enter_context(atomic_folder(output))
        vectors = stack.enter_context(open_vectors(path))
        last = max(int(part.ids.max()) for part in splits.values())
        if last >= vectors.n:
            raise UserError(
                f"{path}: {vectors.n} vectors, but the data set has the row {last}; allowed: as "
                "many vectors as labels"
            )
        places = _places(vectors, splits)
        head = _in_order(vectors, places)
        predictions = vectors.column(PREDICTIONS)
        if predictions is not None:
            # What is none of the data set's classes is wrong, whatever it is.
            found, _ = numbered(path, predictions, vectors.class_names())
            predictions = np.array([places.get(int(c), -1) for c in found])
        writers = {
            split: stack.enter_context(
                open_writer(
                    folder / f"{split}.h5",
                    part.labels,
                    part.ids,
                    provenance_of(dataset, split, f"vectors {Path(path).name}", "none", "none"),
                    head,
                )
            )
            for split, part in splits.items()
        }
        for rows, block in vectors.blocks():
            answers = None if predictions is None else predictions[rows]
            if answers is None and head is not None:
                answers = (block @ head[0].T + head[1]).argmax(axis=1)
            for split, part in splits.items():
                start, end = np.searchsorted(part.ids, (rows.start, rows.stop))
                mine = part.ids[start:end] - rows.start
                if len(mine):
                    writers[split].add(block[mine], None if answers is None else answers[mine])


def _places(vectors: Vectors, splits: dict[str, Split]) -> dict[int, int]:
    """The data set's number of each class of a file, by the file's number; the numbers themselves
    where the file has no labels.

    Raises
    ------
    UserError
        If the file's labels are those of other rows.
    """
    given = vectors.column(LABELS)
    if given is None:
        numbers = range(1 + max(int(part.labels.max()) for part in splits.values()))
        return {number: number for number in numbers}
    own, _ = numbered(vectors.path, given, vectors.class_names())
    pairs = {
        pair
        for part in splits.values()
        for pair in zip(own[part.ids].tolist(), part.labels.tolist(), strict=True)
    }
    places = dict(pairs)
    if len(places) < len(pairs) or len(set(places.values())) < len(places):
        raise UserError(
            f"{vectors.path}: its {LABELS[0]} are not those of the data set's first file; allowed: "
            "vectors of the same things in the same order"
        )
    return places


def _in_order(vectors: Vectors, places: dict[int, int]) -> Head | None:
    """The last layer of a file, its rows in the order of the data set's classes."""
    head = vectors.head()
    if head is None:
        return None
    weight, bias = head
    own = sorted(places, key=places.__getitem__)
    if len(weight) <= max(own):
        raise UserError(
            f"{vectors.path}: a weight of {len(weight)} rows for the class {max(own)}; allowed: a "
            f"row for each class from 0 ({CLASS_NAMES[0]} says which they are)"
        )
    return weight[own], bias[own]
