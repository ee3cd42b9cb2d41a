"""What the explorer of the page is made of: maps of images, what they are taken for, thumbnails."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from collapseflow.images.datasets import SPLITS, Split, read_info, read_split, stratified_rows
from collapseflow.measures.paired import unpack
from collapseflow.presentation.figures.appearance import shortened
from collapseflow.presentation.material import DescribedFeatures
from collapseflow.presentation.rows import failure_of_results, read_results
from collapseflow.running.errors import UserError
from collapseflow.running.files import read_arrays

#: Thumbnails in a row and in a column of a sheet.
PER_SIDE = 50
#: Sides of thumbnails in pixels, the largest first: smaller ones make a smaller page.
SIDES = (28, 20, 14)
#: Of WebP, from 0 to 100.
QUALITY = 20
#: Letters of a class name in a map and in a plane of class means.
LETTERS = 14
#: Coordinates are whole numbers up to this one.
FINEST = 2**16 - 1
#: Images of a class in section 1, and classes there.
IN_STRIP = 10
MOST_STRIPS = 20


@dataclass(frozen=True)
class Images:
    """The images of one data set that the explorer shows, in the order of its maps.

    Attributes
    ----------
    images
        Their :func:`thumbnails`.
    labels
        int (n,).
    split
        uint8 (n,): 0 of training images, 1 of test images.
    rows
        int (n,), the place of each image in its split.
    ids
        int (n,), its place in the source.
    names
        object (n,) of str, its file; None where images are no files.
    """

    images: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    rows: np.ndarray
    ids: np.ndarray
    names: np.ndarray | None


def read_maps(paths: Iterable[str | Path], columns: Sequence[DescribedFeatures]) -> list[dict]:
    """The maps that there are: ``place`` and ``label`` of the feature set, and of
    :func:`collapseflow.measures.embedding.embed` ``coordinates``, ``labels``, ``split``,
    ``perplexity`` and ``recall``."""
    maps = []
    for place, (path, one) in enumerate(zip(paths, columns, strict=True)):
        arrays = read_arrays(path)
        if "failed" in arrays:
            continue
        names = ("coordinates", "labels", "splits", "split", "perplexity", "recall")
        content = {name: arrays[name] for name in names}
        if content.pop("splits").tolist() == list(SPLITS):
            maps.append({"place": place, "label": one.label, **content})
    return maps


def mapped_images(dataset: str | Path, a_map: Mapping[str, np.ndarray], seed: int) -> Images:
    """The images behind a map of training and test images: of each split all, or the sample that
    :func:`collapseflow.measures.embedding.embed` draws.

    Raises
    ------
    UserError
        If the map is not of this data set.
    """
    parts, names = [], []
    for place, name in enumerate(SPLITS):
        split = read_split(dataset, name)
        n = int(np.count_nonzero(a_map["split"] == place))
        whole = n == len(split.labels)
        rows = np.arange(n) if whole else stratified_rows(split.labels, n, seed)
        # Small at once: of large images a whole split is all that memory has to hold.
        small = [thumbnails(split.images[rows[i : i + 1000]]) for i in range(0, n, 1000)]
        of_split = np.concatenate(small), split.labels[rows], split.ids[rows]
        parts.append((*of_split, np.full(n, place, np.uint8), rows))
        names.append(None if split.names is None else split.names[rows])
    images, labels, ids, places, rows = map(np.concatenate, zip(*parts, strict=True))
    if not np.array_equal(labels, a_map["labels"]):
        raise UserError(f"{dataset}: a t-SNE is not of these images; run the study again")
    named = all(part is not None for part in names)
    return Images(images, labels, places, rows, ids, np.concatenate(names) if named else None)


@dataclass(frozen=True)
class Answers:
    """What a classifier says of the test images of a map: bool (n,) of which it is ``wrong``, and
    of these the classes that it takes them for, int; None where its results do not say it."""

    wrong: np.ndarray
    taken: np.ndarray | None


def read_answers(
    columns: Sequence[DescribedFeatures], files: Sequence[str | Path], images: Images
) -> dict[int, dict[str, Answers]]:
    """The answers on each feature set, by its place, of each classifier: of several seeds those of
    the first, whose map is drawn, too."""
    rows = images.rows[images.split == 1]
    found: dict[int, dict[str, Answers]] = {}
    for one, _, content in read_results(columns, files):
        place = next(i for i, column in enumerate(columns) if column is one)
        if place in found or failure_of_results(content) is not None:
            continue
        found[place] = {name: _answers(cell, rows) for name, cell in content.items()}
    return found


def _answers(cell: Mapping[str, Any], rows: np.ndarray) -> Answers:
    """Of a result of :func:`collapseflow.measures.probes.evaluate` some test images."""
    wrong = ~unpack(cell["correct"], cell["n_test"])
    # Results of earlier versions do not have it.
    if "mistaken_for" not in cell:
        return Answers(wrong[rows], None)
    taken = np.zeros(len(wrong), np.int64)
    taken[wrong] = cell["mistaken_for"]
    return Answers(wrong[rows], taken[rows][wrong[rows]])


def describe(
    dataset: str | Path,
    maps: Sequence[Mapping[str, Any]],
    columns: Sequence[DescribedFeatures],
    classification: Sequence[str | Path],
    classifiers: Mapping[str, str],
    seed: int,
) -> tuple[dict[str, Any], np.ndarray]:
    """What the page's script is told of a data set with a map or more, and the images of its
    points.

    Returns
    -------
    ``classes``, and their ``short`` names; ``n`` points, of which the first ``n_train`` are
    training images; ``labels``, ``rows`` and ``ids`` (uint32), and the x and y of each of ``maps``
    (uint16), base64; the ``names`` of the points, or None; of each map by classifier which test
    images are ``wrong`` (a bit each), and, where that is known, the classes that these are
    ``taken`` for (uint16), base64; and the :func:`thumbnails`.
    """
    images = mapped_images(dataset, maps[0], seed)
    answers = read_answers(columns, classification, images)
    described = []
    for one in maps:
        of_map = answers.get(one["place"], {})
        described.append(
            {
                "label": one["label"],
                "points": _base64(_whole_numbers(one["coordinates"]).astype("<u2")),
                "perplexity": round(float(one["perplexity"])),
                "recall": round(float(one["recall"]), 2),
                "wrong": {
                    name: _base64(np.packbits(told.wrong, bitorder="little"))
                    for name, told in of_map.items()
                },
                "taken": {
                    name: _base64(told.taken.astype("<u2"))
                    for name, told in of_map.items()
                    if told.taken is not None
                },
            }
        )
    named = {name for one in described for name in one["wrong"]}
    classes = read_info(dataset).class_names
    told = {
        "classes": classes,
        "short": shortened(classes, LETTERS),
        "classifiers": {name: label for name, label in classifiers.items() if name in named},
        "n": len(images.labels),
        "n_train": int(np.count_nonzero(images.split == 0)),
        "labels": _base64(images.labels.astype("<u4")),
        "rows": _base64(images.rows.astype("<u4")),
        "ids": _base64(images.ids.astype("<u4")),
        "names": None if images.names is None else images.names.tolist(),
        "maps": described,
    }
    return told, images.images


def _whole_numbers(coordinates: np.ndarray) -> np.ndarray:
    """Coordinates (n, 2) as whole numbers from 0 to :data:`FINEST`, on one scale for both; y goes
    down, as on a screen."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2 or 1.0
    shares = (coordinates - middle) / half * [0.5, -0.5] + 0.5
    return np.rint(shares * FINEST)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


# --- thumbnails -------------------------------------------------------------------------------


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Images as squares of the largest of :data:`SIDES`, black where they are none.

    Parameters
    ----------
    images
        uint8 (n, H, W) or (n, H, W, 3).

    Returns
    -------
    uint8 (n, side, side) or (n, side, side, 3)
    """
    side = SIDES[0]
    small = np.zeros((len(images), side, side, *images.shape[3:]), np.uint8)
    if not images.size:
        # Vectors have no picture.
        return small
    scale = side / max(images.shape[1:3])
    height, width = (max(1, round(length * scale)) for length in images.shape[1:3])
    top, left = (side - height) // 2, (side - width) // 2
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    for image, square in zip(images, small, strict=True):
        resized = Image.fromarray(image).resize((width, height), way)
        square[top : top + height, left : left + width] = resized
    return small


def sheets(small: np.ndarray, side: int) -> list[str]:
    """Thumbnails as WebP, base64: sheets of :data:`PER_SIDE` x :data:`PER_SIDE`, row by row.

    Parameters
    ----------
    small
        Those of :func:`thumbnails`.
    side
        Of a thumbnail, in pixels.
    """
    per_sheet = PER_SIDE**2
    parts = [small[i : i + per_sheet] for i in range(0, len(small), per_sheet)]
    return [_webp(_tiled(part, PER_SIDE), side / SIDES[0]) for part in parts]


def fitting_sheets(sets: Sequence[np.ndarray], n_bytes: int) -> tuple[int, list[list[str]]]:
    """The side of the largest thumbnails that take up to ``n_bytes`` as base64 for all data sets
    together, and the sheets of each; those of the smallest side are taken whatever they need."""
    for side in SIDES:
        made = [sheets(small, side) for small in sets]
        if sum(len(sheet) for of_set in made for sheet in of_set) <= n_bytes:
            break
    return side, made


def strips(split: Split, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """The first images of each class, up to :data:`MOST_STRIPS` classes: names, and pictures as
    base64."""
    found = []
    if not split.images.size:
        return found
    for label, name in list(enumerate(class_names))[:MOST_STRIPS]:
        rows = np.flatnonzero(split.labels == label)[:IN_STRIP]
        if len(rows):
            strip = _tiled(thumbnails(split.images[rows]), len(rows))
            found.append((name, _webp(strip, quality=60)))
    return found


def _tiled(small: np.ndarray, per_row: int) -> np.ndarray:
    """Squares (n, side, side[, 3]) beside each other, as many rows as they need."""
    n, side = small.shape[:2]
    rows = -(-n // per_row)
    filled = np.zeros((rows * per_row, *small.shape[1:]), np.uint8)
    filled[:n] = small
    grid = filled.reshape(rows, per_row, *small.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * side, per_row * side, *small.shape[3:])


def _webp(pixels: np.ndarray, scale: float = 1, quality: int = QUALITY) -> str:
    picture = Image.fromarray(pixels)
    size = [round(scale * length) for length in picture.size]
    content = io.BytesIO()
    picture.resize(size, Image.Resampling.BOX).save(content, "WEBP", quality=quality, method=4)
    return base64.b64encode(content.getvalue()).decode()
