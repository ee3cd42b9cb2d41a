"""What jobs on a card ask of a machine: main memory, time and cores.

Bounds that a modest card and host keep, assumed and not measured: too much makes a job wait in a
queue, too little ends it at a limit, and it is tried again with more. Imports no PyTorch: the
workflow asks for every job that it plans.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from collapseflow.images.datasets import read_info
from collapseflow.images.sources.known import DECODED, SOURCES, divided, n_used
from collapseflow.running.errors import UserError
from collapseflow.study.paths import State
from collapseflow.study.plan import Plan

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
    size = known.image_size if known else entry["size"]
    if len(n) < 2 or size is None:
        return None
    pixels = size**2 if isinstance(size, int) else math.prod(size)
    return Images(n["train"], n["test"], pixels * (1 if known else 3))


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
    image_megabytes = images.megabytes if images else UNKNOWN_IMAGES
    path = Path(weights)
    weight_megabytes = path.stat().st_size / 1e6 if path.is_file() else UNKNOWN_WEIGHTS
    copies = COPIES_TRAINED if trained else COPIES_READ
    each = PROCESS + COPIES_OF_IMAGES * image_megabytes + copies * weight_megabytes
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


# --- the jobs of a study ----------------------------------------------------------------------

#: MB of a process that runs a network without a card, and of each image at 224 px of its batches:
#: trained, and read.
PROCESS_ON_CORES = 4000
TRAINED_EACH, READ_EACH = 130, 60
#: Minutes without a card: of trainings, pretraining, readings.
TRAINING_ON_CORES, PRETRAINING_ON_CORES, READING_ON_CORES = 480, 240, 240


class Demands:
    """What the jobs of a study that run a network ask for.

    Arguments of methods are called as wildcards, as in :class:`collapseflow.study.jobs.Jobs`.

    Parameters
    ----------
    on_cards
        Tells whether jobs that ask for a card have one; asked once, when it is needed.
    """

    def __init__(self, plan: Plan, on_cards: Callable[[], bool]):
        self._study = plan.study
        self._files = plan.files
        self._runs = plan.runs
        self._jobs = plan.jobs
        self._are_there = on_cards
        #: Cards of a job on the study's device, unless the study is for CPUs; and of a training.
        self.cards = 0 if plan.study.device == "cpu" else 1
        self.training_cards = plan.study.gpus * self.cards

    @cached_property
    def _on_cards(self) -> bool:
        return bool(self.cards) and self._are_there()

    def cores(self, cards: int) -> int:
        """Cores of a job that asks for so many cards: all that a job of the study may have where
        there are none."""
        return cores(self._study.threads, cards) if self._on_cards else self._study.threads

    def decoding_threads(self, dataset: str) -> int:
        """Cores of a data set's preparation: files of images are decoded in parallel."""
        return self._study.threads if self._study.datasets[dataset].source in DECODED else 1

    # --- reading --------------------------------------------------------------------------

    def reading_megabytes(self, dataset: str, state: str) -> int:
        """Main memory of a job that reads features from a network, in MB."""
        return self._reading_megabytes(dataset, self._runs.state(state))

    def reading_minutes(self, dataset: str, state: str) -> int:
        """Its time, in minutes."""
        return self._reading_minutes(dataset, self._runs.state(state), 1)

    def reducing_megabytes(self, dataset: str, run: str) -> int:
        """Main memory of a job that reads the features of a run epoch by epoch, in MB."""
        return self._reading_megabytes(dataset, self._runs.run(run))

    def reducing_minutes(self, dataset: str, run: str) -> int:
        """Its time, in minutes."""
        times = len(self._jobs.measured_epochs(run))
        return self._reading_minutes(dataset, self._runs.run(run), times)

    def _reading_megabytes(self, dataset: str, state: State) -> int:
        if not self._on_cards:
            images = self._study.backbones[state.backbone].batch_size
            return self._megabytes_on_cores(state.backbone, images, READ_EACH)
        weights = self._jobs.weights_of(dataset, state.at(0))
        return megabytes(self._images(dataset), weights)

    def _reading_minutes(self, dataset: str, state: State, times: int) -> int:
        if not self.cards:
            return READING_ON_CORES
        size = self._study.backbones[state.backbone].pixels
        return minutes_of_reading(self._images(dataset), size, times)

    # --- training -------------------------------------------------------------------------

    def finetuning_megabytes(self, dataset: str, run: str) -> int:
        """Main memory of a run, in MB."""
        state = self._runs.run(run)
        batch = self._study.recipes[state.recipe].batch_size
        if not self._on_cards:
            return self._megabytes_on_cores(state.backbone, batch, TRAINED_EACH)
        weights = self._jobs.starting_weights(dataset, run)
        return megabytes(self._images(dataset), weights, True, self._study.gpus)

    def finetuning_minutes(self, dataset: str, run: str) -> int:
        """Its time, in minutes."""
        if not self.cards:
            return TRAINING_ON_CORES
        state = self._runs.run(run)
        size = self._study.backbones[state.backbone].pixels
        epochs = self._study.recipes[state.recipe].epochs
        return minutes_of_training(self._images(dataset), size, epochs)

    def pretraining_megabytes(self, backbone: str, pretrained: str, seed: str) -> int:
        """Main memory of a training of weights that runs start from, in MB."""
        if not self._on_cards:
            batch = self._study.pretrain.batch_size
            return self._megabytes_on_cores(backbone, batch, TRAINED_EACH)
        # As large as those that it makes.
        weights = self._jobs.weights_of("", State(backbone, pretrained, seed=int(seed)))
        images = self._pretraining_images(pretrained)
        return megabytes(images, weights, True, self._study.gpus)

    def pretraining_minutes(self, backbone: str, pretrained: str) -> int:
        """Its time, in minutes."""
        if not self.cards:
            return PRETRAINING_ON_CORES
        size = self._study.backbones[backbone].pixels
        images = self._pretraining_images(pretrained)
        return minutes_of_training(images, size, self._study.pretrain.epochs)

    # --- of both --------------------------------------------------------------------------

    def _megabytes_on_cores(self, backbone: str, images: int, each: int) -> int:
        """Where there is no card: so much an image at 224 px, less for smaller ones."""
        size = self._study.backbones[backbone].pixels
        return int(PROCESS_ON_CORES + images * each * (size / 224) ** 2)

    def _images(self, dataset: str) -> Images | None:
        """What is known of the images of a data set."""
        entry = self._study.datasets[dataset].model_dump()
        return images_of(self._files.dataset(dataset), entry, self._study.test_fraction)

    def _pretraining_images(self, pretrained: str) -> Images | None:
        """What is known of the images that weights are pretrained on."""
        dataset = self._jobs.pretraining_dataset(pretrained)
        if dataset:
            return self._images(dataset)
        subset = divided(self._study.pretrain.images, self._study.test_fraction)
        entry = {"source": "letters", "subset": subset}
        path = self._jobs.pretraining_images(pretrained)
        return images_of(path, entry, self._study.test_fraction)
