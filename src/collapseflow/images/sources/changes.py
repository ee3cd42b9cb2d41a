"""What is done to a data set after it was read: its classes, their sizes, their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from collapseflow.images.datasets import Split, Splits
from collapseflow.images.sources.known import positions_of
from collapseflow.running.errors import UserError

#: A class needs so many training images: of one image there is no variance.
FEWEST = 2
#: Numbers of so many pixels are counted at a time.
COUNTED = 2**20
#: What seeds the draws beside the study's seed: they are not those of another purpose.
IMBALANCE, NOISE = 1, 2


def take_classes(
    splits: Splits, classes: Sequence[str | int] | None, numbers: np.ndarray
) -> Splits:
    """The images of some classes, whose labels then count these classes in the given order.

    Parameters
    ----------
    classes : as :func:`collapseflow.images.sources.known.positions_of`; None keeps all
    numbers : the number of each class in the source, int (C,)

    Raises
    ------
    UserError
        If there is no such class.
    """
    if classes is None:
        return splits
    positions = positions_of(classes, splits.class_names, numbers.tolist())
    new_labels = np.full(len(numbers), -1)
    new_labels[positions] = np.arange(len(positions))

    def of_these(split: Split) -> Split:
        taken = split.take(np.flatnonzero(np.isin(split.labels, positions)))
        return replace(taken, labels=new_labels[taken.labels])

    names = [splits.class_names[position] for position in positions]
    return replace(
        splits,
        train=of_these(splits.train),
        test=of_these(splits.test),
        class_names=names,
        source=f"{splits.source}; {len(names)} of {len(numbers)} classes",
    )


def class_sizes(
    available: np.ndarray, kind: Literal["exponential", "step"], ratio: float
) -> np.ndarray:
    """Numbers of training images that fall from the first class to the last, int64 (C,).

    With i from 0 to C - 1, ``exponential`` is n_i = n_0 ratio^(-i / (C - 1)), rounded down, and
    ``step`` n_i = n_0 for the first half of the classes (of an odd number the larger one) and
    n_0 / ratio for the others: Cao et al. 2019 (arXiv:1906.07413), section 4. n_0 is the largest
    for which every class has its images: all of the first class where classes are of one size.

    Parameters
    ----------
    available : int (C,), the images of each class
    """
    C = len(available)
    if kind == "exponential":
        divisors = np.float64(ratio) ** (np.arange(C) / (C - 1))
    else:
        divisors = np.where(np.arange(C) < (C + 1) // 2, 1.0, ratio)
    # What is whole but for rounding is whole.
    largest = np.floor((available * divisors).min() + 1e-9)
    return np.floor(largest / divisors + 1e-9).astype(np.int64)


def with_imbalance(
    splits: Splits, kind: Literal["exponential", "step"], ratio: float, seed: int
) -> Splits:
    """A seeded sample of the training images with :func:`class_sizes`; the test images stay.

    Where classes are of one size, the sample of a larger ratio is a part of that of a smaller one.

    Raises
    ------
    UserError
        If a class has no training image, or is left with one.
    """
    labels = splits.train.labels
    available = np.bincount(labels, minlength=len(splits.class_names))
    sizes = class_sizes(available, kind, ratio)
    if sizes.min() < FEWEST:
        position = int(sizes.argmin())
        raise UserError(
            f"imbalance.ratio: {ratio:g} leaves {sizes[position]} of the {available[position]} "
            f"training images of the class {splits.class_names[position]!r}; allowed: a ratio that "
            f"leaves {FEWEST} or more of each class"
        )
    rows = [
        np.random.default_rng([seed, label, IMBALANCE]).permutation(np.flatnonzero(labels == label))
        for label in range(len(sizes))
    ]
    taken = np.sort(np.concatenate([r[:n] for r, n in zip(rows, sizes, strict=True)]))
    words = f"{kind} imbalance {ratio:g}: {len(taken)} of {len(labels)} training images, "
    words += f"{sizes.max()} to {sizes.min()} of a class"
    return replace(splits, train=splits.train.take(taken), source=f"{splits.source}; {words}")


def with_label_noise(splits: Splits, share: float, seed: int) -> Splits:
    """A seeded share of the training images, drawn from all of them alike, gets the label of
    another class, each of the others with equal chance. The true labels are kept.

    Raises
    ------
    UserError
        If the share is not one image.
    """
    train = splits.train
    n = round(share * len(train.labels))
    if n == 0:
        raise UserError(
            f"label_noise: {share:g} of {len(train.labels)} training images is none; allowed: a "
            "share with at least one image"
        )
    random = np.random.default_rng([seed, NOISE])
    rows = random.choice(len(train.labels), n, replace=False)
    classes, numbers = np.unique(train.labels, return_inverse=True)
    others = numbers[rows] + random.integers(1, len(classes), n)
    labels = train.labels.copy()
    labels[rows] = classes[others % len(classes)]
    return replace(
        splits,
        train=replace(train, labels=labels, true_labels=train.labels),
        source=f"{splits.source}; {n} of {len(labels)} training labels are replaced",
    )


def measured(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (of all pixels, ddof = 0) of each channel, in float64; 255 is 1.

    Parameters
    ----------
    images : uint8 array (N, H, W) or (N, H, W, 3)
    """
    channels = images.shape[3] if images.ndim == 4 else 1
    counts = np.zeros((channels, 256), np.int64)
    step = max(1, COUNTED // images[0].size)
    for start in range(0, len(images), step):
        pixels = images[start : start + step].reshape(-1, channels)
        counts += [np.bincount(pixels[:, c], minlength=256) for c in range(channels)]
    levels = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = shares @ levels
    variances = (shares * (levels - means[:, None]) ** 2).sum(axis=1)
    return means.tolist(), np.sqrt(variances).tolist()


def with_normalization(
    splits: Splits,
    mean: Sequence[float] | Literal["measured"],
    std: Sequence[float] | Literal["measured"],
) -> Splits:
    """The data set with a mean and a standard deviation for each channel.

    Raises
    ------
    UserError
        If there are more or fewer numbers than channels, or the measured standard deviation of a
        channel is 0.
    """
    images = splits.train.images
    channels = images.shape[3] if images.ndim == 4 else 1
    of_images = measured(images) if "measured" in (mean, std) else ([], [])
    given = {"mean": mean, "std": std}
    found = {
        key: own if value == "measured" else list(value)
        for (key, value), own in zip(given.items(), of_images, strict=True)
    }
    for key, values in found.items():
        if len(values) != channels:
            raise UserError(
                f"{key}: {len(values)} numbers for images of {channels} "
                f"channel{'s' if channels > 1 else ''}; allowed: a number for each"
            )
    if min(found["std"]) == 0:
        raise UserError(
            "std: all pixels of the training images are alike in a channel, whose standard "
            "deviation is 0; allowed: numbers above 0"
        )
    return replace(splits, **{key: tuple(values) for key, values in found.items()})


def changed(splits: Splits, entry: Mapping[str, Any], seed: int) -> Splits:
    """What an entry of the study file asks for once classes and sample are taken.

    Parameters
    ----------
    entry
        As :meth:`collapseflow.study.schema.Dataset.entry`, in which a key that is not used may be
        absent.
    """
    if imbalance := entry.get("imbalance"):
        splits = with_imbalance(splits, **imbalance, seed=seed)
    if share := entry.get("label_noise"):
        splits = with_label_noise(splits, share, seed)
    if entry.get("mean"):
        splits = with_normalization(splits, entry["mean"], entry["std"])
    return splits
