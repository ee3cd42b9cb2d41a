"""What there is to know of a data set before anything is trained on it: how many images its classes
have, which images are constant, and which are the same or nearly so."""

import heapq
import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from collapseflow.images.datasets import SPLITS, open_hdf5

#: Side of the thumbnails that are compared.
SIDE = 16
#: Two images whose thumbnails correlate so much are near duplicates.
NEAR = 0.98
#: Of so many pairs of each kind it is said which they are.
CLOSEST = 8
#: Of more images the near duplicates are looked for in a sample of so many.
MOST_COMPARED = 100_000
#: Bytes of images that are read at once, and thumbnails that are compared with others at once.
BLOCK_BYTES = 2**25
BLOCK = 2048
#: Kinds of pairs: both images in one split, or one in each.
KINDS = ("train", "test", "across")


def audit(path: str | Path, seed: int) -> dict[str, Any]:
    """Look through the images of a data set's file.

    Exact duplicates have the same pixels. Near duplicates do not, and the Pearson correlation of
    their thumbnails is :data:`NEAR` or more: grey (the mean of the channels), :data:`SIDE` pixels a
    side, each the mean of its part of the image. The brightness and contrast of an image do not
    count. Images are read in blocks; of more than :data:`MOST_COMPARED` a seeded sample is searched
    for near duplicates, and all for exact ones.

    Returns
    -------
    dict
        ``shape``, of an image; ``n``, images by split; ``classes``, images of each class by split;
        ``constant``, images of one value by split; ``compared``, images among which near duplicates
        are looked for, and ``near``, the correlation.

        ``exact`` and ``near_duplicates``, by kind (:data:`KINDS`): ``images`` that have one, which
        across the splits are the test images that have one among the training images, and those of
        them that have one of ``other_label``. Within a split the first of several equal images
        counts, too.

        ``closest``, by kind: up to :data:`CLOSEST` pairs, equal ones first, each its ``rows`` in
        the file, its ``labels`` and its ``correlation``.

    Raises
    ------
    UserError
        Naming the file, if it is damaged.
    """
    with open_hdf5(path) as file:
        labels = file["labels"][:]
        is_test = (file["split"][:] == SPLITS.index("test")).astype(bool)
        n_classes = len(json.loads(file.attrs["class_names"]))
        shape = file["images"].shape[1:]
        rows = np.arange(len(labels))
        if len(rows) > MOST_COMPARED:
            chosen = np.random.default_rng(seed).choice(len(rows), MOST_COMPARED, replace=False)
            rows = np.sort(chosen)
        digests, constant, thumbnails = _read(file["images"], rows)
    _, groups = np.unique(digests, return_inverse=True)
    near, closest = _near(thumbnails, rows, groups, labels, is_test)
    return {
        "shape": list(shape),
        "n": {split: int((is_test == place).sum()) for place, split in enumerate(SPLITS)},
        "classes": {
            split: np.bincount(labels[is_test == place], minlength=n_classes).tolist()
            for place, split in enumerate(SPLITS)
        },
        "constant": {
            split: int(constant[is_test == place].sum()) for place, split in enumerate(SPLITS)
        },
        "compared": len(rows),
        "near": NEAR,
        "exact": _exact(groups, labels, is_test),
        "near_duplicates": near,
        "closest": closest,
    }


def _read(images: h5py.Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digests of all images, whether they are constant, and the thumbnails of some, of mean 0 and
    norm 1; of what has no contrast they are 0."""
    digests = np.empty(len(images), "S16")
    constant = np.empty(len(images), bool)
    thumbnails = []
    step = max(1, BLOCK_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(images), step):
        block = images[start : start + step]
        flat = block.reshape(len(block), -1)
        digests[start : start + len(block)] = [
            blake2b(image, digest_size=15).digest() + b"." for image in flat
        ]
        constant[start : start + len(block)] = flat.min(axis=1) == flat.max(axis=1)
        wanted = rows[(rows >= start) & (rows < start + len(block))] - start
        thumbnails.append(thumbnails_of(block[wanted]))
    return digests, constant, np.concatenate(thumbnails)


def thumbnails_of(images: np.ndarray) -> np.ndarray:
    """Grey thumbnails of images (N, H, W) or (N, H, W, 3), less their mean, of norm 1 or 0:
    float32 (N, D), D at most :data:`SIDE` squared."""
    grey = images.astype(np.float32) if images.ndim == 3 else images.mean(3, dtype=np.float32)
    for axis in (1, 2):
        size = grey.shape[axis]
        edges = np.arange(min(SIDE, size)) * size // min(SIDE, size)
        widths = np.diff([*edges, size]).astype(np.float32)
        sums = np.add.reduceat(grey, edges, axis=axis)
        grey = sums / (widths[:, None] if axis == 1 else widths)
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    # Rounding leaves a little of what has no contrast.
    return np.where(norms > 1e-3, flat / np.maximum(norms, 1e-3), 0)


def _exact(groups: np.ndarray, labels: np.ndarray, is_test: np.ndarray) -> dict[str, dict]:
    """Of images with the same group, which are equal."""
    found = {}
    for kind in KINDS:
        ours = ~is_test if kind == "train" else is_test
        theirs = is_test if kind == "test" else ~is_test
        least = 1 if kind == "across" else 2
        sizes = np.bincount(groups[theirs], minlength=len(groups))
        _, pairs = np.unique(np.column_stack([groups, labels]), axis=0, return_inverse=True)
        same = np.bincount(pairs[theirs], minlength=len(groups))
        found[kind] = {
            "images": int((sizes[groups[ours]] >= least).sum()),
            "other_label": int((sizes[groups[ours]] > same[pairs[ours]]).sum()),
        }
    return found


def _near(
    thumbnails: np.ndarray,
    rows: np.ndarray,
    groups: np.ndarray,
    labels: np.ndarray,
    is_test: np.ndarray,
) -> tuple[dict[str, dict], dict[str, list[dict]]]:
    """Near duplicates and the closest pairs among the images at ``rows``, by kind."""
    train, test = (np.flatnonzero(is_test[rows] == place) for place in (False, True))
    near, closest = {}, {}
    for kind, ours, theirs in (
        ("train", train, train),
        ("test", test, test),
        ("across", test, train),
    ):
        with_one, with_other = (np.zeros(len(labels), bool) for _ in range(2))
        heap: list[tuple[float, int, int]] = []
        for mine, others in _pairs_of_blocks(ours, theirs, one_split=kind != "across"):
            found = thumbnails[mine] @ thumbnails[others].T
            if mine is others:
                found[np.tril_indices(len(mine))] = -2
            largest = found.max(initial=-2)
            if len(heap) < CLOSEST or largest > heap[0][0]:
                # Some of the block may be among the closest.
                n = min(CLOSEST, found.size)
                for place in np.argpartition(found, -n, axis=None)[-n:].tolist():
                    i, j = divmod(place, found.shape[1])
                    a, b = int(rows[mine[i]]), int(rows[others[j]])
                    if found[i, j] > -2:
                        # Two is more than any correlation: equal images come first.
                        value = 2.0 if groups[a] == groups[b] else float(found[i, j])
                        push = heapq.heappush if len(heap) < CLOSEST else heapq.heappushpop
                        push(heap, (value, a, b))
            if largest >= NEAR:
                i, j = np.nonzero(found >= NEAR)
                a, b = rows[mine[i]], rows[others[j]]
                there = groups[a] != groups[b]
                a, b = a[there], b[there]
                differ = labels[a] != labels[b]
                for flags, chosen in ((with_one, slice(None)), (with_other, differ)):
                    flags[a[chosen]] = True
                    if kind != "across":
                        flags[b[chosen]] = True
        near[kind] = {"images": int(with_one.sum()), "other_label": int(with_other.sum())}
        closest[kind] = [
            {"rows": [a, b], "labels": labels[[a, b]].tolist(), "correlation": min(value, 1.0)}
            for value, a, b in sorted(heap, key=lambda pair: (-pair[0], *pair[1:]))
        ]
    return near, closest


def _pairs_of_blocks(
    ours: np.ndarray, theirs: np.ndarray, one_split: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of what is compared with what; within ``one_split`` each pair of blocks once, and a
    block with itself as the same object."""
    parts = [theirs[start : start + BLOCK] for start in range(0, len(theirs), BLOCK)]
    if one_split:
        for number, part in enumerate(parts):
            yield from ((part, other) for other in parts[number:])
        return
    for start in range(0, len(ours), BLOCK):
        yield from ((ours[start : start + BLOCK], other) for other in parts)
