"""What holds on a card: numbers, goings-on, memory, locks, and two cards where there are two."""

import json
import math
import os
import time
from pathlib import Path

import pytest

BATCH = 32
EPOCHS = 5


def relative(a, b, to=None):
    """The length of a difference over that of ``b``, or of what ``b`` is away from ``to``."""
    import numpy as np

    names = [name for name in b if np.issubdtype(b[name].dtype, np.floating)]
    assert a.keys() == b.keys()

    def length(one, other):
        squares = (np.square(one[n] - other[n], dtype=np.float64).sum() for n in names)
        return math.sqrt(sum(squares))

    zero = {name: np.zeros_like(b[name]) for name in names}
    return length(a, b) / length(b, to or zero)


def weights(folder, epoch=EPOCHS):
    from safetensors.numpy import load_file

    return load_file(Path(folder, "weights", f"epoch{epoch:03d}.safetensors"))


def features(folder):
    import h5py

    arrays = {}
    for path in sorted(Path(folder).rglob("*.h5")):
        with h5py.File(path) as file:
            arrays[str(path.relative_to(folder))] = file["features"][:]
    assert arrays
    return arrays


def in_words(difference):
    return "equal bit for bit" if difference == 0 else f"differs by {difference:.1e}"


def records(folder):
    """When each finished epoch's record was written, by its name."""
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).rglob("epoch???.json")}


# --- numbers ----------------------------------------------------------------------------------


def test_float32_is_float32(job, says):
    answer = job("precision", size=1024)
    for name in ("float32", "bfloat16", "tf32"):
        if answer[name]:
            product, convolution = answer[name]
            says(f"{name}: product {product:.0e}, convolution {convolution:.0e}")
    says(f"auto trains in {answer['auto']}")
    # TensorFloat-32 rounds factors to 10 bits, which makes about 3e-4.
    assert max(answer["float32"]) < 5e-5
    assert max(answer["bfloat16"] or [0]) < 2e-2


def test_features_in_float32_are_those_of_the_processor(job, says, data, tmp_path):
    for name, device in {"here": None, "cpu": "cpu"}.items():
        (tmp_path / name).mkdir()
        which = {"device": device} if device else {}
        job("read", folder=str(tmp_path / name), data=data, **which)
    difference = relative(features(tmp_path / "here"), features(tmp_path / "cpu"))
    says(in_words(difference))
    assert difference < 1e-5


@pytest.mark.parametrize(("number", "most"), [("tf32", 5e-3), ("bfloat16", 5e-2)])
def test_features_are_near_those_in_float32(job, says, data, tmp_path, number, most):
    for name in (number, "float32"):
        (tmp_path / name).mkdir()
        answer = job("read", folder=str(tmp_path / name), data=data, precision=name)
        if "refused" in answer:
            says(answer["refused"])
            assert number in answer["refused"]
            return
    difference = relative(features(tmp_path / number), features(tmp_path / "float32"))
    says(in_words(difference))
    assert 0 < difference < most


def test_scattering_is_that_of_the_processor(job, says, data, tmp_path):
    for name, device in {"here": None, "cpu": "cpu"}.items():
        (tmp_path / name).mkdir()
        which = {"device": device} if device else {}
        job("scatter", folder=str(tmp_path / name), data=data, **which)
    difference = relative(features(tmp_path / "here"), features(tmp_path / "cpu"))
    says(in_words(difference))
    assert difference < 1e-5


# --- resume -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_training_goes_on(job, start_job, says, data, tmp_path, on_cpu, precision):
    # A network that trains well even from random weights; where all is equal, a small one.
    model = "shufflenet_v2_x0_5" if on_cpu else "resnet18"
    plan = {"data": data, "model": model, "precision": precision}
    folders = {name: str(tmp_path / name) for name in ("one", "other", "killed")}
    answer = job("train", folder=folders["one"], **plan)
    if "refused" in answer:
        says(answer["refused"])
        assert "bfloat16" in answer["refused"]
        return
    job("train", folder=folders["other"], **plan)
    started = start_job("train", folder=folders["killed"], **plan)
    while len(records(folders["killed"])) < 2 and started.poll() is None:
        time.sleep(0.005)
    started.kill()
    started.wait()
    before = records(folders["killed"])
    if len(before) == EPOCHS:
        pytest.skip("the training ended before it was killed")
    again = job("train", folder=folders["killed"], **plan)
    after = records(folders["killed"])
    assert len(after) == EPOCHS and before.items() <= after.items()
    one, other, resumed = (weights(folder) for folder in folders.values())
    way = weights(folders["one"], 1)
    between, difference = relative(other, one, way), relative(resumed, one, way)
    says(f"killed after epoch {len(before)} of {EPOCHS}: {in_words(difference)}")
    says(f"two uninterrupted ones: {in_words(between)} (of the way that training goes)")
    if on_cpu:
        assert between == difference == 0
        assert again["losses"] == answer["losses"]
    # A lost momentum or another order would make it another way.
    assert difference <= max(0.05, 10 * between)


@pytest.mark.cards_only
def test_a_training_begun_on_a_card_goes_on_on_a_processor(job, says, data, tmp_path):
    plan = {"data": data, "folder": str(tmp_path)}
    job("train", epochs=1, **plan)
    before = records(tmp_path)
    answer = job("train", epochs=2, device="cpu", **plan)
    assert len(before) == 1 and before.items() <= records(tmp_path).items()
    says(next((line for line in answer["log"] if "going on" in line), "goes on"))


# --- memory -----------------------------------------------------------------------------------


@pytest.fixture
def demand(on_cpu):
    """What does not fit: a size of images, a batch, and the memory in MiB that is left."""
    return (96, 128, 450) if on_cpu else (224, 128, 1500)


@pytest.mark.parametrize("how", ["limit", pytest.param("full card", marks=pytest.mark.cards_only)])
def test_training_halves_what_does_not_fit(job, says, data, tmp_path, demand, how):
    size, batch, left = demand
    plan = {"model": "resnet18", "image_size": size, "batch_size": batch, "epochs": 1}
    answer = job("train", folder=str(tmp_path), data=data, memory=[left, how], **plan)
    assert "refused" not in answer, answer["refused"]
    taken = int(answer["metadata"]["micro_batch"])
    says(f"{batch} images at {size} px in {left} MiB: {taken} at a time")
    assert taken < batch
    assert math.isfinite(answer["losses"][0])


@pytest.mark.parametrize("how", ["limit", pytest.param("full card", marks=pytest.mark.cards_only)])
def test_reading_halves_what_does_not_fit(job, says, tmp_path, demand, how):
    size, batch, left = demand
    data = str(tmp_path / "data")
    job("prepare", folder=data, size=32, channels=1, n_train=4 * batch)
    plan = {"data": data, "image_size": size, "batch_size": 4 * batch}
    for name, memory in {"halved": [left, how], "whole": None}.items():
        (tmp_path / name).mkdir()
        answer = job("read", folder=str(tmp_path / name), memory=memory, **plan)
        if memory:
            lines = [line for line in answer["log"] if "out of memory" in line]
            says(lines[-1] if lines else "everything fitted")
            assert lines
    difference = relative(features(tmp_path / "halved"), features(tmp_path / "whole"))
    says(in_words(difference))
    assert difference < 1e-5


@pytest.mark.cards_only
def test_a_data_set_above_half_of_the_free_memory_stays_on_the_host(job, says, tmp_path):
    data = str(tmp_path / "data")
    n_bytes = job("prepare", folder=data, size=224, channels=3, n_train=4000)["bytes"]
    left = int(1.8 * n_bytes / 2**20)
    plan = {"data": data, "batch_size": 64, "epochs": 1}
    free = job("train", folder=str(tmp_path / "free"), **plan)
    full = job("train", folder=str(tmp_path / "full"), memory=[left, "full card"], **plan)
    says(f"{n_bytes / 2**20:.0f} MiB of images, {left} MiB left")
    peaks = [f"{answer['peak'] / 2**20:.0f}" for answer in (full, free)]
    says(f"on the card at the peak {peaks[0]} MiB, without need {peaks[1]}")
    says(f"loss {full['losses'][0]:.6f} and {free['losses'][0]:.6f}")
    assert full["peak"] < n_bytes <= free["peak"]
    assert full["losses"][0] == pytest.approx(free["losses"][0], rel=1e-3)


@pytest.mark.cards_only
def test_no_batch_of_training_waits_for_the_card(job, says, data, tmp_path):
    waits = [
        job(
            "train",
            folder=str(tmp_path / str(batch)),
            data=data,
            batch_size=batch,
            epochs=1,
            count_waits=True,
        )["waits"]
        for batch in (32, 4)
    ]
    says(f"the host waits {waits[0]} times in 4 batches and {waits[1]} times in 32")
    assert waits[1] - waits[0] < 28


# --- locks ------------------------------------------------------------------------------------


@pytest.mark.cards_only
def test_a_job_waits_for_a_card_that_another_has_and_a_kill_frees_it(start_job, says):
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    one_card = {"env": {"CUDA_VISIBLE_DEVICES": visible}}
    first = start_job("hold", one_card)
    card = json.loads(first.stdout.readline())["card"]
    second = start_job("hold", one_card)
    line = next((line for line in second.stderr if "waiting" in line or "device:" in line), "")
    says(line.strip())
    assert "waiting" in line
    first.kill()
    assert json.loads(second.stdout.readline())["card"] == card


@pytest.mark.cards_only
@pytest.mark.two_cards
def test_two_jobs_take_two_cards(start_job, says):
    jobs = [start_job("hold"), start_job("hold")]
    cards = [json.loads(job.stdout.readline())["card"] for job in jobs]
    says(" and ".join(cards))
    assert cards[0] != cards[1]


# --- several cards, a study -------------------------------------------------------------------


@pytest.mark.two_cards
def test_two_cards_train_what_one_trains(job, says, data, tmp_path):
    folders = {count: str(tmp_path / str(count)) for count in (1, 2)}
    # From random weights rounding grows with every batch, the faster the larger the steps are.
    plan = {"model": "resnet18", "epochs": 2, "learning_rate": 1e-4}
    answers = {
        count: job("train", folder=folder, data=data, count=count, **plan)
        for count, folder in folders.items()
    }
    one, two = (weights(folder, 2) for folder in folders.values())
    difference = relative(two, one, weights(folders[1], 1))
    says(f"{in_words(difference)} (of the way that training goes)")
    assert answers[2]["metadata"]["processes"] == "2"
    # Its memory would be another job's.
    assert not answers[2]["opened"], "the parent has opened a card"
    assert answers[2]["losses"] == pytest.approx(answers[1]["losses"], rel=1e-3)
    assert difference < 0.05


def test_a_study_from_images_to_measures(job, says, tmp_path):
    answer = job("study", folder=str(tmp_path))
    says(f"{answer['rows']} rows")
    assert answer["rows"] > 0 and answer["failures"] == []
