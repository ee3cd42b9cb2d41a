"""What jobs on a card ask for: bounds that follow from images, weights, epochs and cards."""

import subprocess
import sys

import numpy as np
import pytest

from collapseflow.images.datasets import Split, Splits, write_dataset
from collapseflow.study import demands
from collapseflow.study.demands import Images
from collapseflow.study.schema import Dataset

SVHN = {"source": "torchvision", "name": "SVHN", "subset": {"train": 9, "test": 8}}
MNIST = Images(60_000, 10_000, 28 * 28)


def entry(**keys):
    return Dataset(**keys).model_dump()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"source": "mnist"}, MNIST),
        ({"source": "mnist", "subset": {"test": 50}}, Images(60_000, 50, 784)),
        # Undivided: a quarter of 5,000 is left out.
        ({"source": "mnist5k"}, Images(3_750, 1_250, 784)),
        # Not known before the images are there: their number, or their size.
        ({"source": "torchvision", "name": "Food101", "size": 224}, None),
        (SVHN, None),
        (
            {
                "source": "torchvision",
                "name": "SVHN",
                "size": 32,
                "subset": {"train": 9, "test": 8},
            },
            Images(9, 8, 32 * 32 * 3),
        ),
    ],
)
def test_images_that_are_not_there_yet_are_those_of_their_source(keys, expected, tmp_path):
    assert demands.images_of(tmp_path / "none.h5", entry(**keys), 0.25) == expected


def test_images_that_are_there_are_those_of_their_file(tmp_path):
    path = tmp_path / "food.h5"
    asked = (path, entry(source="torchvision", name="Food101"), 0.2)
    # A planned job that is asked again after the data set is there knows it.
    assert demands.images_of(*asked) is None
    splits = {
        name: Split(np.zeros((n, 5, 7, 3), np.uint8), np.arange(n) % 2, np.arange(n))
        for name, n in (("train", 4), ("test", 2))
    }
    write_dataset(path, Splits(**splits, class_names=["a", "b"], source="made up"))
    assert demands.images_of(*asked) == Images(4, 2, 5 * 7 * 3)


def test_a_damaged_file_is_left_to_the_job_that_reads_it(tmp_path):
    path = tmp_path / "damaged.h5"
    path.write_bytes(b"no HDF5")
    assert demands.images_of(path, entry(source="digits"), 0.2) is None


def test_memory_follows_from_images_weights_and_processes(tmp_path):
    absent, weights = tmp_path / "absent", tmp_path / "weights.safetensors"
    with weights.open("wb") as file:
        file.truncate(100_000_000)
    # 54.88 MB of images twice; 600 MB of weights that are not there.
    assert demands.megabytes(MNIST, absent) == 6000 + 110 + 2 * 600
    assert demands.megabytes(MNIST, absent, trained=True) == 6000 + 110 + 7 * 600
    assert demands.megabytes(MNIST, weights, trained=True) == 6000 + 110 + 7 * 100
    assert demands.megabytes(MNIST, weights, trained=True, processes=4) == 4 * 6810
    # 150,000 colour images at 224 px are 22.6 GB.
    large = Images(140_000, 10_000, 224 * 224 * 3)
    assert demands.megabytes(large, weights) == 6000 + 45_159 + 2 * 100
    assert demands.megabytes(None, absent, trained=True) == 6000 + 6000 + 7 * 600


def test_time_follows_from_images_their_size_and_epochs():
    # 60,000 images at 100 a second, and ten seconds to save, ten times; half an hour around.
    assert demands.minutes_of_training(MNIST, 224, 10) == 30 + 102
    # At 28 px no 6,400 a second are counted on, but 2,000.
    assert demands.minutes_of_training(MNIST, 28, 350) == 30 + 234
    assert demands.minutes_of_reading(MNIST, 224) == 30 + 4
    assert demands.minutes_of_reading(MNIST, 224, 10) == 30 + 39
    assert demands.minutes_of_training(None, 224, 10) == 480
    assert demands.minutes_of_reading(None, 224, 10) == 240
    # ImageNet takes more than a day, which is the most that a first attempt asks for.
    assert demands.minutes_of_training(Images(1_281_167, 50_000, 150_528), 224, 10) == 1440


@pytest.mark.parametrize(
    ("threads", "cards", "expected"), [(8, 1, 4), (8, 4, 8), (16, 2, 8), (1, 1, 1), (2, 4, 2)]
)
def test_a_card_s_job_leaves_cores_to_the_jobs_of_other_cards(threads, cards, expected):
    assert demands.cores(threads, cards) == expected


def test_what_is_asked_of_every_planned_job_imports_no_pytorch():
    code = "import sys, collapseflow.study.demands; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
