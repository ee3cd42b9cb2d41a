"""What jobs on a card ask for: bounds that follow from images, weights, epochs and cards."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

from collapseflow.images.datasets import Split, Splits, write_dataset
from collapseflow.study import demands
from collapseflow.study.demands import Demands, Images
from collapseflow.study.plan import Plan
from collapseflow.study.schema import Dataset, load

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


# --- the jobs of a study ----------------------------------------------------------------------

START, RUN = "net/pretrain/s3/epoch000", "net/pretrain/plain/s3"
#: The three kinds of jobs that run a network, by the methods that say what they ask for.
JOBS = {
    "reading": {"dataset": "mnist", "state": START},
    "reducing": {"dataset": "mnist", "run": RUN},
    "finetuning": {"dataset": "mnist", "run": RUN},
    "pretraining": {"backbone": "net", "pretrained": "pretrain", "seed": "3"},
}


def demanded(on_cards=True, **keys):
    """Megabytes and minutes of each kind of job of a study of MNIST with ten epochs."""
    study = {
        "study": "toy",
        "datasets": {"mnist": {"source": "mnist"}},
        "backbones": {"net": {"model": "resnet18", "weights": ["pretrain"]}},
        "recipes": {"plain": {"epochs": 10, "batch_size": 64}},
        "pretrain": {"images": 10_000, "epochs": 2, "batch_size": 100},
        "seeds": [3],
        "threads": 6,
    }
    demands_of_study = Demands(Plan(load({**study, **keys})), lambda: on_cards)
    found = {}
    for kind, names in JOBS.items():
        minutes = getattr(demands_of_study, f"{kind}_minutes")
        needed = {key: names[key] for key in names if key in inspect.signature(minutes).parameters}
        megabytes = getattr(demands_of_study, f"{kind}_megabytes")(**names)
        found[kind] = megabytes, minutes(**needed)
    return found


def test_jobs_on_cards_ask_for_what_their_images_and_weights_take(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # 54.88 MB of images and 600 MB of weights that are not there; of letters, of which a fifth is
    # for testing, 7.84 MB. Each reading takes 234 s, each epoch 610 s, of letters 90 s.
    assert demanded() == {
        "reading": (6000 + 110 + 2 * 600, 30 + 4),
        "reducing": (6000 + 110 + 2 * 600, 30 + 39),
        "finetuning": (6000 + 110 + 7 * 600, 30 + 102),
        "pretraining": (6000 + 16 + 7 * 600, 30 + 3),
    }
    # Each card's process has all images.
    two = demanded(gpus=2)
    assert two["finetuning"] == (2 * 10_310, 132)
    assert two["reading"] == demanded()["reading"]


def test_weights_that_are_there_are_counted_as_large_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "results/toy/weights/net/pretrain/s3.safetensors"
    weights.parent.mkdir(parents=True)
    with weights.open("wb") as file:
        file.truncate(100_000_000)
    found = demanded()
    assert [found[kind][0] for kind in JOBS] == [6310, 6310, 6810, 6716]


def test_pretraining_on_a_data_set_is_of_its_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = {"study": "toy", "datasets": {"mnist": {"source": "mnist"}}}
    backbones = {"net": {"model": "resnet18", "weights": ["pretrain-mnist"]}}
    found = Demands(Plan(load({**study, "backbones": backbones})), lambda: True)
    # Three epochs, if the study does not say how many.
    assert found.pretraining_minutes("net", "pretrain-mnist") == 30 + 31
    assert found.pretraining_megabytes("net", "pretrain-mnist", "0") == 10_310


def test_jobs_without_cards_ask_for_their_batches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_cores = {
        "reading": 4000 + 256 * 60,
        "reducing": 4000 + 256 * 60,
        "finetuning": 4000 + 64 * 130,
        "pretraining": 4000 + 100 * 130,
    }
    here = demanded(on_cards=False)
    assert {kind: megabytes for kind, (megabytes, _) in here.items()} == on_cores
    # A study for CPUs asks for a time that does not follow from cards'.
    cpu = demanded(device="cpu")
    assert cpu == {
        "reading": (on_cores["reading"], 240),
        "reducing": (on_cores["reducing"], 240),
        "finetuning": (on_cores["finetuning"], 480),
        "pretraining": (on_cores["pretraining"], 240),
    }
    # A quarter of the pixels.
    small = {"net": {"model": "resnet18", "image_size": 112, "weights": ["pretrain"]}}
    small = demanded(on_cards=False, backbones=small)
    assert small["finetuning"][0] == 4000 + 64 * 130 // 4


def test_a_job_has_the_cores_of_its_cards_or_all_of_the_study():
    study = {"study": "toy", "datasets": {"digits": {"source": "digits"}}, "threads": 6}
    plan = Plan(load({**study, "gpus": 2}))
    on_cards, on_cores = Demands(plan, lambda: True), Demands(plan, lambda: False)
    assert (on_cards.cards, on_cards.training_cards) == (1, 2)
    assert [on_cards.cores(cards) for cards in (1, 2)] == [4, 6]
    assert [on_cores.cores(cards) for cards in (1, 2)] == [6, 6]
    cpu = Demands(Plan(load({**study, "device": "cpu"})), lambda: True)
    assert (cpu.cards, cpu.training_cards, cpu.cores(0)) == (0, 0, 6)
    assert cpu.decoding_threads("digits") == 1
