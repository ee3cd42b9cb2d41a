"""What jobs on a card ask of a machine: main memory, time and cores.

Bounds that a modest card and host keep, assumed and not measured: too much makes a job wait in a
queue, too little ends it at a limit, and it is tried again with more. Imports no PyTorch: the
workflow asks for every job that it plans.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from collapseflow.images.datasets import read_info
from collapseflow.images.sources.known import SOURCES, n_used
from collapseflow.running.errors import UserError

#: MB of a process without images and weights: Python, PyTorch, CUDA's context, pinned batches.
PROCESS = 6000
#: MB of images whose number is not known before they are there.
UNKNOWN_IMAGES = 3000
#: MB of weights that are not there yet: VGG19's, of torchvision's widely used networks the largest.
UNKNOWN_WEIGHTS = 600
#: How often main memory holds the images: as they are read, and pinned.
COPIES_OF_IMAGES = 2
#: How often it holds the weights: in training with Adam's two moments, once to be read and twice to
#: be saved.
COPIES_TRAINED, COPIES_READ = 7, 2
#: Images a second at 224 px; of smaller ones more, as the area, but no more than these.
TRAINED, READ = 100, 300
MOST_TRAINED, MOST_READ = 2000, 6000
#: Minutes to start and to end, seconds to save an epoch.
AROUND, SAVING = 30, 10
#: A day: the first attempt asks for no more, and what it has finished is kept for the next.
LONGEST = 1440
#: Minutes of trainings, and of readings, of images whose number is not known.
UNKNOWN_TRAINING, UNKNOWN_READING = 480, 240
#: Cores of a job for each of its cards: the images lie on the card and are prepared there, one
#: thread queues the work, one writes what comes back.
CORES = 4


@dataclass(frozen=True)
class Images:
    """A data set's numbers of images, and the bytes of one."""

    train: int
    test: int
    bytes_each: int

    @property
    def megabytes(self) -> float:
        """All of them."""
        return (self.train + self.test) * self.bytes_each / 1e6


@cache
def _read(path: Path) -> Images:
    info = read_info(path)
    return Images(info.n["train"], info.n["test"], math.prod(info.image_shape))


def images_of(path: str | Path, entry: Mapping[str, Any], test_fraction: float) -> Images | None:
    """The images of a data set: of its file, if it is there, else as far as they are known.

    Parameters
    ----------
    entry
        The data set in the study file, with the keys ``source``, ``subset`` and ``size``.

    Returns
    -------
    None where the file is not there and the source does not say how many images it has.
    """
    if Path(path).exists():
        try:
            return _read(Path(path))
        except UserError:
            # The job that reads the images says it.
            return None
    n, known = n_used(entry, test_fraction), SOURCES.get(entry["source"])
    side = known.image_size if known else entry["size"]
    if len(n) < 2 or side is None:
        return None
    return Images(n["train"], n["test"], side**2 * (1 if known else 3))


def megabytes(
    images: Images | None, weights: str | Path, trained: bool = False, processes: int = 1
) -> int:
    """Main memory of a job on cards, in MB.

    Parameters
    ----------
    images
        None if their number is not known.
    weights
        The file of the weights that the job begins with, which may not be there yet.
    trained
        Whether weights are trained, and saved, or only read.
    processes
        Each has a card and all images.
    """
    of_images = images.megabytes if images else UNKNOWN_IMAGES
    path = Path(weights)
    of_weights = path.stat().st_size / 1e6 if path.is_file() else UNKNOWN_WEIGHTS
    copies = COPIES_TRAINED if trained else COPIES_READ
    each = PROCESS + COPIES_OF_IMAGES * of_images + copies * of_weights
    return math.ceil(processes * each)


def minutes_of_training(images: Images | None, size: int, epochs: int) -> int:
    """Time to train a network on one card for some epochs, in minutes.

    Parameters
    ----------
    size
        Pixels a side of what the network sees.
    """
    if images is None:
        return UNKNOWN_TRAINING
    return _minutes(epochs * (images.train / _rate(TRAINED, MOST_TRAINED, size) + SAVING))


def minutes_of_reading(images: Images | None, size: int, times: int = 1) -> int:
    """Time to read the features of all images on one card, in minutes.

    Parameters
    ----------
    times
        Each with the weights of another epoch.
    """
    if images is None:
        return UNKNOWN_READING
    return _minutes(times * (images.train + images.test) / _rate(READ, MOST_READ, size))


def _rate(at_224: int, most: int, size: int) -> float:
    return min(at_224 * (224 / size) ** 2, most)


def _minutes(seconds: float) -> int:
    return min(math.ceil(AROUND + seconds / 60), LONGEST)


def cores(threads: int, cards: int) -> int:
    """Cores of a job on some cards, of those that a job of the study may have."""
    return min(threads, CORES * cards)
