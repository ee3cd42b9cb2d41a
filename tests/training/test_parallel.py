"""A training in two processes: the same as in one, and its failures told."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from collapseflow.images.datasets import Splits, make_split, write_dataset
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.training import loop as training
from collapseflow.training import parallel, worker
from collapseflow.training.loop import OutOfMemory, Training, train, train_epochs
from collapseflow.training.recipes import NetworkRecipe


def changed(recipe, **keys):
    return recipe.model_copy(update=keys)


CPU = torch.device("cpu")
#: Batch norm, no dropout: two processes must give what one gives.
RECIPE = NetworkRecipe(
    model="resnet18",
    image_size=32,
    normalize="imagenet",
    precision="float32",
    seed=5,
    epochs=2,
    batch_size=10,
    optimizer="adam",
    # Adam divides a gradient by its size: where it is nothing but rounding, its sign counts. With
    # small steps that stays small.
    learning_rate=1e-6,
)


@pytest.fixture(scope="module")
def dataset(small_digits, tmp_path_factory):
    """43 real digits: four batches of 10, and 3 images that are left over."""
    from sklearn.datasets import load_digits

    data = make_split(small_digits[:43], load_digits().target[:43])
    path = tmp_path_factory.mktemp("data") / "digits.h5"
    names = [str(n) for n in range(10)]
    write_dataset(path, Splits(data, data.take(np.arange(5)), names, "digits"))
    return path


def plan(dataset, epochs=2, recipe=RECIPE):
    return Training(
        dataset=str(dataset),
        recipe=changed(recipe, epochs=epochs),
        kept=list(range(1, epochs + 1)),
        start_weights=None,
        metadata={"weights": "after {epoch}"},
    )


def weights_of(training, devices, folder):
    """Train; the weights after each epoch."""
    return list(train(training, devices, folder).weights.values())


def states(paths):
    return [safetensors.torch.load_file(path) for path in paths]


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


# --- gradients and statistics -----------------------------------------------------------------

GRADIENTS = """
    import sys, torch
    import torch.distributed as dist
    from torch.utils._python_dispatch import TorchDispatchMode
    from collapseflow.training import parallel
    from collapseflow.training.parallel import distribute, last_part_only, n_processes, rank, share

    class Unwaiting(TorchDispatchMode):
        # Operations whose result's size or value the host must know before it goes on.
        waits = ("nonzero", "index.Tensor", "masked_select", "local_scalar", "item")

        def __torch_dispatch__(self, operation, types, arguments=(), options=None):
            assert not any(name in str(operation) for name in self.waits), operation
            return operation(*arguments, **options or {})

    # PyTorch's kernels for cards, in formulas.
    def shaped(values, x):
        return values.view(1, -1, *[1] * (x.ndim - 2))

    def sums(x):
        return x.transpose(0, 1).flatten(1).sum(1)

    def stats(x, eps):
        values = x.transpose(0, 1).flatten(1)
        return values.mean(1), 1 / (values.var(1, correction=0) + eps).sqrt()

    def gather(x, means, invstds, running_mean, running_var, momentum, eps, counts):
        shares, n = (counts / counts.sum())[:, None], counts.sum()
        mean = (means * shares).sum(0)
        variance = ((1 / invstds**2 - eps + means**2) * shares).sum(0) - mean**2
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * n / (n - 1), momentum)
        return mean, 1 / (variance + eps).sqrt()

    def normalised(x, weight, bias, mean, invstd, eps):
        return (x - shaped(mean, x)) * shaped(invstd * weight, x) + shaped(bias, x)

    def reduced(grad, x, mean, invstd, weight, *which):
        both = sums(grad * (x - shaped(mean, x)))
        return sums(grad), both, both * invstd, sums(grad)

    def gradient(grad, x, mean, invstd, weight, sum_dy, sum_dy_xmu, counts):
        assert counts.dtype == torch.int32
        centred = (x - shaped(mean, x)) * shaped(invstd**2 * sum_dy_xmu / counts.sum(), x)
        return (grad - shaped(sum_dy / counts.sum(), x) - centred) * shaped(invstd * weight, x)

    if sys.argv[4] == "cards":
        kernels = {"stats": stats, "gather_stats_with_counts": gather, "elemt": normalised,
                   "backward_reduce": reduced, "backward_elemt": gradient}
        for name, kernel in kernels.items():
            setattr(torch, f"batch_norm_{name}", kernel)
        parallel.WholeBatchNorm = parallel.WholeBatchNormOnCards

    images, labels = torch.load(sys.argv[1])
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(4 * 36, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 5),
    )
    called = distribute(network, torch.device("cpu"))
    parts = share(torch.arange(len(images)), int(sys.argv[3]))
    for part in parts:
        inputs, answers = images[part], labels[part]
        with last_part_only(called, part is parts[-1]), Unwaiting():
            loss = torch.nn.functional.cross_entropy(called(inputs), answers)
            (loss * (len(part) * n_processes() / len(images))).backward()
    if rank() == 0:
        gradients = {name: p.grad for name, p in network.named_parameters()}
        torch.save((gradients, dict(network.named_buffers())), sys.argv[2])
    dist.destroy_process_group()
"""


def in_two_processes(folder, script, *arguments):
    """Run a script under PyTorch's launcher."""
    (folder / "script.py").write_text(textwrap.dedent(script))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += [str(folder / "script.py"), *map(str, arguments)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(words, check=True, env=environment, timeout=300)


@pytest.mark.parametrize(
    ("n", "micro_batch", "together", "rtol", "of"),
    [
        (7, 4, [range(7)], 1e-4, "CPUs"),
        (7, 4, [range(7)], 1e-4, "cards"),
        # What is normalised over two or three rows rounds more.
        # The first process has rows 0 to 4 in three parts, the second 5 to 8, in three as well.
        (9, 2, [[0, 1, 5, 6], [2, 3, 7], [4, 8]], 1e-3, "CPUs"),
        # One row at a time: as many parts as the smaller share has rows.
        (5, 1, [[0, 1, 3], [2, 4]], 1e-3, "CPUs"),
    ],
)
def test_gradients_and_running_statistics_are_those_of_the_whole_batch(
    tmp_path, n, micro_batch, together, rtol, of
):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 8, 8, generator=generator) * 3 + 5
    labels = torch.arange(n) % 5
    torch.save((images, labels), tmp_path / "in.pt")
    paths = tmp_path / "in.pt", tmp_path / "out.pt"
    in_two_processes(tmp_path, GRADIENTS, *paths, micro_batch, of)
    gradients, buffers = torch.load(tmp_path / "out.pt")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()),
        *(torch.nn.Linear(4 * 36, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 5)),
    )
    for rows in map(list, together):
        loss = torch.nn.functional.cross_entropy(network(images[rows]), labels[rows])
        (loss * len(rows) / n).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=rtol, atol=rtol / 100)
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_every_process_has_as_many_parts_and_none_is_empty(monkeypatch, processes):
    monkeypatch.setattr(parallel, "n_processes", lambda: processes)
    for n in range(processes, 40):
        for micro_batch in range(1, 12):
            shares = []
            for rank in range(processes):
                monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
                shares.append(parallel.share(torch.arange(n), micro_batch))
            assert len({len(parts) for parts in shares}) == 1
            sizes = [len(part) for parts in shares for part in parts]
            assert min(sizes) >= 1 and max(sizes) <= max(micro_batch, 2)
            assert torch.equal(torch.cat([torch.cat(parts) for parts in shares]), torch.arange(n))


DROPOUT = """
    import sys, torch
    import torch.distributed as dist
    from pathlib import Path
    from collapseflow.images.datasets import read_split
    from collapseflow.training.parallel import rank
    from collapseflow.training.loop import train_one_epoch
    from collapseflow.training.optimisation import new_optimizer
    from collapseflow.training.recipes import NetworkRecipe

    dist.init_process_group("gloo")
    masks = []

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout, self.last = torch.nn.Dropout(0.5), torch.nn.Linear(3 * 32 * 32, 10)

        def forward(self, images):
            masks.append(self.dropout(torch.ones(images.shape)) > 0)
            return self.last(images.flatten(1))

    size = {"image_size": 32, "epochs": 1, "batch_size": 10}
    keys = {"model": "net", "normalize": "none", "precision": "float32", "seed": 5}
    recipe = NetworkRecipe(**size, **keys, optimizer="adam", learning_rate=1e-3)
    network, data = Network(), read_split(sys.argv[1], "train")
    arguments = (new_optimizer(network, recipe), data, recipe, 1, torch.device("cpu"), 5)
    train_one_epoch(network, *arguments)
    torch.save(torch.cat(masks), Path(sys.argv[2], f"{rank()}.pt"))
    dist.destroy_process_group()
"""


def test_each_process_draws_masks_of_its_own(dataset, tmp_path):
    in_two_processes(tmp_path, DROPOUT, dataset, tmp_path)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    # Independent masks agree in half of the places: 20 images of 3,072 values are 61,440 coins.
    assert one.shape == two.shape == (20, 3, 32, 32)
    assert 0.48 < (one == two).float().mean() < 0.52
    # The first process draws what a single one would.
    training.seed_everything(5, 1)
    alone = torch.nn.functional.dropout(torch.ones(5, 3, 32, 32), 0.5) > 0
    assert torch.equal(one[:5], alone)


# --- a whole training -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    return weights_of(plan(dataset), [CPU], tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def together(dataset, tmp_path_factory):
    return weights_of(plan(dataset), [CPU, CPU], tmp_path_factory.mktemp("together"))


def test_two_processes_train_what_one_trains(alone, together):
    for epoch, (one, two) in enumerate(zip(alone, together, strict=True), start=1):
        said, expected = metadata(two), metadata(one)
        assert (said["processes"], expected["processes"]) == ("2", "1")
        assert said["weights"] == f"after {epoch}"
        loss = float(expected["mean_loss"])
        assert float(said["mean_loss"]) == pytest.approx(loss, rel=1e-4)
    one, two = states([alone[0], together[0]])
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    assert one["bn1.num_batches_tracked"] == two["bn1.num_batches_tracked"] == 4


def test_two_processes_train_some_layers_on_changed_images_as_one_does(dataset, tmp_path):
    recipe = changed(
        RECIPE,
        optimizer="sgd",
        momentum=0.9,
        learning_rate=1e-2,
        trained="layer4",
        augmentation="shift+flip+crop",
    )
    courses = []
    for devices in ([CPU], [CPU, CPU]):
        folder = tmp_path / str(len(devices))
        folder.mkdir()
        courses.append(train(plan(dataset, 1, recipe), devices, folder))
    one, two = states(course.weights[1] for course in courses)
    before = plan(dataset, 1, recipe).new_network().state_dict()
    for name in one:
        frozen = not name.startswith(("layer4", "fc"))
        assert torch.equal(one[name], before[name]) is frozen, name
        assert torch.equal(two[name], before[name]) is frozen, name
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    for key in ("loss", "gradient_norm"):
        expected = courses[0].log[0][key]
        assert courses[1].log[0][key] == pytest.approx(expected, rel=1e-4)


def test_two_processes_share_the_test_images_that_leak(dataset, tmp_path):
    courses = []
    recipe = changed(RECIPE, validation="training_mode")
    for devices in ([CPU], [CPU, CPU]):
        folder = tmp_path / str(len(devices))
        folder.mkdir()
        courses.append(train(plan(dataset, 1, recipe), devices, folder))
    one, two = states(course.weights[1] for course in courses)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    # Four training batches and one of the five test images.
    assert one["bn1.num_batches_tracked"] == two["bn1.num_batches_tracked"] == 5
    for key in ("last_batch_accuracy", "validation_accuracy"):
        # Untrained logits are nearly equal, and rounding may turn one.
        assert courses[1].log[0][key] == pytest.approx(courses[0].log[0][key], abs=0.21)


def test_two_processes_share_the_images_that_are_held_out(dataset, tmp_path):
    courses = []
    # 9 of 43: five in one process, four in the other.
    recipe = changed(RECIPE, validation=0.2, patience=1, batch_size=8)
    for devices in ([CPU], [CPU, CPU]):
        folder = tmp_path / str(len(devices))
        folder.mkdir()
        courses.append(train(plan(dataset, 2, recipe), devices, folder))
    one, two = (course.log for course in courses)
    assert len(one) == len(two) == 2
    for first, second in zip(one, two, strict=True):
        assert second["validation_loss"] == pytest.approx(first["validation_loss"], rel=1e-3)
        # Untrained logits are nearly equal, and rounding may turn one.
        assert abs(second["validation_accuracy"] - first["validation_accuracy"]) < 0.12
        assert round(9 * second["validation_accuracy"], 9) in range(10)


def test_it_goes_on_after_the_last_epoch_whoever_trained_it(dataset, together, tmp_path):
    weights = weights_of(plan(dataset, 1), [CPU, CPU], tmp_path)
    first = weights[0].stat().st_mtime_ns
    weights = weights_of(plan(dataset, 2), [CPU], tmp_path)
    assert weights[0].stat().st_mtime_ns == first
    assert [metadata(path)["processes"] for path in weights] == ["2", "1"]
    loss = float(metadata(together[1])["mean_loss"])
    assert float(metadata(weights[1])["mean_loss"]) == pytest.approx(loss, rel=1e-4)


def test_a_training_that_diverges_ends_in_every_process(dataset, tmp_path):
    wild = plan(dataset, 2, changed(RECIPE, learning_rate=1e30))
    course = train(wild, [CPU, CPU], tmp_path)
    assert course.failed == "the loss of epoch 1 is not finite"
    assert course.weights == {} and course.log == []
    assert {path.name for path in tmp_path.iterdir()} == {"epoch001.json", ".epoch001.json.xxh3"}


def test_a_user_s_mistake_is_one_line(dataset, tmp_path):
    large = plan(dataset, 1, changed(RECIPE, batch_size=44))
    with pytest.raises(UserError, match="batch_size: 44 is more than the 43 training images"):
        train(large, [CPU, CPU], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_no_one_expected_is_shown(dataset, tmp_path):
    broken = plan(dataset, 1, changed(RECIPE, model="no such model"))
    with pytest.raises(RuntimeError, match="Unknown model no such model"):
        train(broken, [CPU, CPU], tmp_path)


# --- cards ------------------------------------------------------------------------------------


def test_each_process_sees_one_card_alone(dataset, tmp_path, monkeypatch):
    """Cards that no machine has: the first process that looks for its own says which that is."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-made-up-0,GPU-made-up-1")
    cards = [torch.device("cuda", number) for number in range(2)]
    with pytest.raises(TemporaryError, match=r"there is a card \(GPU-made-up-[01]\), but PyTorch"):
        train(plan(dataset, 1), cards, tmp_path)
    assert not torch.cuda.is_initialized()


def test_a_process_says_which_card_is_its_own_before_it_meets_the_others(tmp_path, monkeypatch):
    done = []
    request = {"threads": 1, "device": "cuda:0", "folder": str(tmp_path), "micro_batch": 5}
    request["training"] = plan("digits.h5", 1).model_dump()
    (tmp_path / "request.json").write_text(json.dumps(request))
    monkeypatch.setattr(worker, "prepare_process", lambda threads: None)
    monkeypatch.setattr(worker, "use_card", lambda card: done.append(card))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *kind, **given: done.append((kind, given))
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(worker, "train_epochs", lambda plan, device, *rest: done.append(device))
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    worker.main(tmp_path)
    card = torch.device("cuda:0")
    assert done == [card, (("nccl",), {"device_id": card}), card]
    assert json.loads((tmp_path / "outcome.json").read_text()) == {}


def test_weights_say_where_they_were_trained_and_going_on_elsewhere_is_said(
    dataset, tmp_path, monkeypatch, caplog
):
    name = "CPU (of the first epochs)"
    monkeypatch.setattr(training, "device_name", lambda device: name)
    train(plan(dataset, 1), [CPU], tmp_path)
    train(plan(dataset, 2), [CPU], tmp_path)
    assert caplog.messages == []
    name = "NVIDIA A100"
    weights = weights_of(plan(dataset, 3), [CPU], tmp_path)
    assert [metadata(path)["device"] for path in weights] == [
        *["CPU (of the first epochs)"] * 2,
        "NVIDIA A100",
    ]
    (said,) = caplog.messages
    assert said == (
        "resnet18: going on on NVIDIA A100; the epochs before were trained on CPU (of the first "
        "epochs), which would round otherwise"
    )
    assert caplog.records[0].progress


def test_a_training_in_bfloat16_does_not_go_on_on_a_card_without_it(dataset, tmp_path, monkeypatch):
    train(plan(dataset, 1, changed(RECIPE, precision="bfloat16")), [CPU], tmp_path)
    # Its device is a card from before compute capability 8.0.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for precision in ("auto", "bfloat16"):
        recipe = changed(RECIPE, precision=precision)
        with pytest.raises(UserError, match="value 'bfloat16', but Tesla T4 does not compute in"):
            train_epochs(plan(dataset, 2, recipe), torch.device("cuda:0"), tmp_path, 10)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_job_that_is_ended_takes_its_processes_with_it(dataset, tmp_path, number, status):
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, sys, torch
            from pathlib import Path
            from collapseflow.running.stop import listen
            from collapseflow.training.loop import Training, train
            listen()
            request = json.loads(Path(sys.argv[1]).read_text())
            print("ready", flush=True)
            train(Training(**request), [torch.device("cpu")] * 2, Path(sys.argv[2]))
            """
        )
    )
    (tmp_path / "plan.json").write_text(json.dumps(plan(dataset, 500).model_dump()))
    (tmp_path / "folder").mkdir()
    words = [sys.executable, *map(str, (script, tmp_path / "plan.json", tmp_path / "folder"))]
    job = subprocess.Popen(words)
    try:
        until = time.monotonic() + 120
        while not list((tmp_path / "folder").glob("epoch*.json")):
            assert time.monotonic() < until and job.poll() is None
            time.sleep(0.2)
        below = psutil.Process(job.pid).children(recursive=True)
        assert len(below) >= 3
        job.send_signal(number)
        gone, alive = psutil.wait_procs(below, timeout=60)
        assert not alive
        assert job.wait(timeout=60) == status
    finally:
        job.kill()


# --- too little memory ------------------------------------------------------------------------


def out_of_memory_above(monkeypatch, images):
    """Let PyTorch say that memory is out when more images go through a network; their numbers."""
    seen = []
    preprocess = training.preprocess

    def check(batch, *arguments, **named):
        seen.append(len(batch))
        if len(batch) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return preprocess(batch, *arguments, **named)

    monkeypatch.setattr(training, "preprocess", check)
    return seen


def test_a_batch_that_does_not_fit_is_halved_and_its_gradient_summed(
    dataset, tmp_path, monkeypatch, caplog
):
    seen = out_of_memory_above(monkeypatch, 3)
    # Without batch norm the parts' gradients add up to the batch's.
    recipe = changed(RECIPE, model="squeezenet1_1")
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    (halved,) = weights_of(plan(dataset, 1, recipe), [CPU], tmp_path)
    assert seen == [10, 5] + [2] * 20
    assert "10 images at a time; going on with 5, in batches of 10 as before" in caplog.text
    assert "5 images at a time; going on with 2, in batches of 10 as before" in caplog.text
    assert metadata(halved)["micro_batch"] == "2"
    monkeypatch.undo()
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    (tmp_path / "whole").mkdir()
    (whole,) = weights_of(plan(dataset, 1, recipe), [CPU], tmp_path / "whole")
    assert metadata(whole)["micro_batch"] == "10"
    loss = float(metadata(whole)["mean_loss"])
    assert float(metadata(halved)["mean_loss"]) == pytest.approx(loss, rel=1e-4)
    one, two = states([whole, halved])
    for name in one:
        assert (two[name] - one[name]).abs().mean() < RECIPE.learning_rate / 10, name


def test_where_test_images_do_not_fit_the_epoch_starts_again_with_less(
    dataset, tmp_path, monkeypatch
):
    seen = []
    preprocess = training.preprocess

    def check(batch, *arguments, **named):
        seen.append(len(batch))
        if len(batch) > 3 and not torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return preprocess(batch, *arguments, **named)

    monkeypatch.setattr(training, "preprocess", check)
    recipe = changed(RECIPE, model="squeezenet1_1", validation="training_mode")
    course = train(plan(dataset, 1, recipe), [CPU], tmp_path)
    assert seen == [10] * 4 + [5] + [5] * 8 + [5] + [2] * 20 + [2, 2, 1]
    assert metadata(course.weights[1])["micro_batch"] == "2"
    assert course.log[0]["validation_accuracy"] in (0, 0.2, 0.4, 0.6, 0.8, 1)


def test_a_training_goes_on_with_the_micro_batch_it_had(dataset, tmp_path, monkeypatch):
    seen = out_of_memory_above(monkeypatch, 5)
    train(plan(dataset, 1), [CPU], tmp_path)
    monkeypatch.undo()
    seen = out_of_memory_above(monkeypatch, 100)
    weights = weights_of(plan(dataset, 2), [CPU], tmp_path)
    assert seen == [5] * 8
    assert [metadata(path)["micro_batch"] for path in weights] == ["5", "5"]


def test_one_line_where_two_images_are_too_many(dataset, tmp_path, monkeypatch):
    out_of_memory_above(monkeypatch, 1)
    with pytest.raises(UserError, match="resnet18: out of memory with 2 images at a time; lower"):
        train(plan(dataset, 1), [CPU], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_not_taken_for_too_little_memory(dataset, tmp_path, monkeypatch):
    def fail(*arguments, **named):
        raise RuntimeError("expected scalar type Float but found Double")

    monkeypatch.setattr(training, "preprocess", fail)
    with pytest.raises(RuntimeError, match="expected scalar type"):
        train_epochs(plan(dataset, 1), CPU, tmp_path, 10)


# Of nine images one process has five and the other four: three parts and two of two images.
@pytest.mark.parametrize("batch_size", [10, 9])
def test_processes_that_run_out_of_memory_start_again_with_less(
    dataset, tmp_path, monkeypatch, caplog, batch_size
):
    caplog.set_level(logging.INFO)
    requests = []
    launch = training.launch

    def first_fails(request, devices):
        requests.append(request["micro_batch"])
        return {"out_of_memory": 5} if len(requests) == 1 else launch(request, devices)

    monkeypatch.setattr(training, "launch", first_fails)
    recipe = changed(RECIPE, batch_size=batch_size)
    (weights,) = weights_of(plan(dataset, 1, recipe), [CPU, CPU], tmp_path)
    assert requests == [5, 2]
    assert metadata(weights)["micro_batch"] == "4"
    # What the first process logs is in the log, once.
    finished = [message for message in caplog.messages if "is finished" in message]
    assert finished == ["resnet18: epoch 1 of 1 is finished"]


#: A training that may take so many bytes more than the process has before.
SHORT_OF_MEMORY = """
    import json, logging, sys, torch
    from pathlib import Path
    from collapseflow.running.hardware import limit_memory, prepare_process
    from collapseflow.training.loop import Training, train
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
    prepare_process(1)
    torch.nn.functional.conv2d(torch.ones(8, 3, 8, 8), torch.ones(4, 3, 3, 3)) @ torch.ones(6, 2)
    limit_memory(int(sys.argv[3]))
    request = json.loads(Path(sys.argv[1]).read_text())
    train(Training(**request), [torch.device("cpu")], Path(sys.argv[2]))
    print("trained")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_on_a_cpu_too_little_memory_halves_the_batch_too(dataset, tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(SHORT_OF_MEMORY))
    recipe = changed(RECIPE, image_size=224, batch_size=40)
    (tmp_path / "plan.json").write_text(json.dumps(plan(dataset, 1, recipe).model_dump()))
    words = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "plan.json")]
    micro_batches = []
    for number, mebibytes in enumerate((100_000, 900)):
        folder = tmp_path / str(number)
        folder.mkdir()
        limited = [*words, str(folder), str(mebibytes * 2**20)]
        answer = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        assert ("out of memory with 40 images" in answer.stdout) is (mebibytes == 900)
        micro_batches.append(int(metadata(folder / "epoch001.safetensors")["micro_batch"]))
    assert micro_batches[0] == 40
    assert 2 <= micro_batches[1] < 40


#: Memory is out while oneDNN generates code, once in a training and once while features are read.
NO_MEMORY_FOR_CODE = """
    import json, sys, torch
    from pathlib import Path
    from torch.nn.functional import conv2d
    from collapseflow.features import reading
    from collapseflow.features.loading import open_extractor
    from collapseflow.training import loop as training
    from collapseflow.images.datasets import read_split
    from collapseflow.running.hardware import limit_memory

    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    conv2d(torch.ones(2, 3, 33, 33), torch.ones(8, 3, 3, 3))

    def let_one_fail(module):
        preprocess, size = module.preprocess, iter((41,))

        def fail_once(*arguments, **named):
            inputs = preprocess(*arguments, **named)
            for n in size:
                images, weights = torch.ones(2, 3, n, n), torch.ones(8, 3, 3, 3)
                limit_memory(50 * 2**10)
                conv2d(images, weights)
            limit_memory(2**32)
            return inputs

        module.preprocess = fail_once

    plan = training.Training(**json.loads(Path(sys.argv[1]).read_text()))
    let_one_fail(training)
    weights = training.train(plan, [cpu], Path(sys.argv[2])).weights[1]
    let_one_fail(reading)
    extractor = open_extractor("resnet18", weights, ["flatten"], "average", "")
    images = read_split(plan.dataset, "train").images
    parts = list(reading.extract(extractor, images, 32, "none", "float32", cpu, 20, "features"))
    print([len(features["flatten"]) for features, _ in parts])
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64",
    reason="oneDNN's generator for x86-64 and Linux' limits of memory",
)
def test_a_job_goes_on_after_memory_was_out_for_generated_code(dataset, tmp_path):
    # The generator stays broken in the thread in which that happened.
    (tmp_path / "script.py").write_text(textwrap.dedent(NO_MEMORY_FOR_CODE))
    (tmp_path / "plan.json").write_text(json.dumps(plan(dataset, 1).model_dump()))
    (tmp_path / "folder").mkdir()
    words = [sys.executable, *(str(tmp_path / n) for n in ("script.py", "plan.json", "folder"))]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "[10, 10, 10, 10, 3]\n"
    assert "out of memory with 10 images at a time; going on with 5" in answer.stderr
    assert "features: out of memory; 10 images at a time now" in answer.stderr
    assert metadata(tmp_path / "folder" / "epoch001.safetensors")["micro_batch"] == "5"


def test_out_of_memory_is_told_from_other_errors():
    from collapseflow.running.hardware import is_out_of_memory

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    # What oneDNN cannot compute it reports as it reports that memory is out.
    with pytest.raises(RuntimeError, match="could not create a") as caught:
        torch.mkldnn_max_pool2d(torch.ones(1, 3, 4, 4).to_mkldnn(), (9, 9))
    assert not is_out_of_memory(caught.value)
    assert OutOfMemory(8).micro_batch == 8
    assert parallel.n_processes() == 1 and parallel.rank() == 0
