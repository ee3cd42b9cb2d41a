"""Fine-tuning at 224 px against a DataLoader with PIL transforms: as a user would write it, and
with all that makes ours fast beside the loader.

python benchmarks/training.py
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import data
from harness import Row, Run, Side, Work, compare, device, matrix_rate

MODELS = ("resnet18", "vgg11_bn")
BATCH_SIZE = 64
#: Batches that are timed, after one that is not.
BATCHES = {"cpu": {"resnet18": 10, "vgg11_bn": 2}, "cuda": {"resnet18": 800, "vgg11_bn": 400}}
LOADER = "DataLoader, PIL, float32"
#: Of a DataLoader: forked, as by itself before Python 3.14.
WORKERS = {"num_workers": 2, "multiprocessing_context": "fork"}
#: The same with our settings, in a number format.
TUNED = "DataLoader, PIL, channels last, fused Adam, our allocator, {precision}"
PRECISIONS = ("bfloat16", "float32")


def recipe(model: str, precision: str, image_size: int = 224):
    """Report A's, with batches of 64."""
    from collapseflow.training.recipes import NetworkRecipe

    return NetworkRecipe(
        model=model,
        image_size=image_size,
        normalize="imagenet",
        precision=precision,
        seed=0,
        epochs=1,
        batch_size=BATCH_SIZE,
        optimizer="adam",
        learning_rate=2e-4,
    )


def read_images(folder: Path, split: str, n: int | None = None):
    """The first ``n`` images of a sample of Fashion-MNIST."""
    import numpy as np

    from collapseflow.images.datasets import read_split

    images = read_split(folder / "fashion_mnist.h5", split)
    return images.take(np.arange(len(images.labels) if n is None else n))


def starting_network(model: str):
    """The same random weights on every side."""
    from collapseflow.features.networks import build
    from collapseflow.training.loop import seed_everything

    seed_everything(0, 0)
    return build(model, 10)


def ours(folder: Path, model: str, precision: str, n: int, image_size: int = 224):
    """Set up the project's training; gives the network and a function that trains an epoch."""
    import torch

    from collapseflow.running.hardware import prepare_process
    from collapseflow.training.loop import train_one_epoch
    from collapseflow.training.optimisation import new_optimizer
    from harness import CORES

    prepare_process(CORES)
    where, plan = device(), recipe(model, precision, image_size)
    images = read_images(folder, "train", n)
    network = starting_network(model).to(where, memory_format=torch.channels_last)
    optimizer = new_optimizer(network, plan)

    def train(epoch: int, some=images) -> float:
        return train_one_epoch(network, optimizer, some, plan, epoch, where, BATCH_SIZE)["loss"]

    return network, train


def loader(folder: Path, model: str, n: int, image_size: int = 224, tuned: str | None = None):
    """Set up what a user would write; as :func:`ours`, with the images in the same order.

    ``tuned`` is a number format: in it, and with channels last, fused Adam and the allocator's
    settings as ours.
    """
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from collapseflow.running.hardware import autocast, prepare_process
    from collapseflow.training.loop import seed_everything
    from harness import CORES

    if tuned:
        prepare_process(CORES)
    where, precision = device(), getattr(torch, tuned or "float32")
    images = read_images(folder, "train", n)
    layout = torch.channels_last if tuned else torch.contiguous_format
    network = starting_network(model).to(where, memory_format=layout).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, fused=True if tuned else None)
    criterion = torch.nn.CrossEntropyLoss()
    transform = transforms.Compose(
        [
            transforms.Resize((image_size, image_size)),
            transforms.Grayscale(3),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Images(Dataset):
        def __init__(self, split):
            self.split = split

        def __len__(self):
            return len(self.split.labels)

        def __getitem__(self, index):
            image = Image.fromarray(self.split.images[index])
            return transform(image), int(self.split.labels[index])

    def train(epoch: int, some=images) -> float:
        order = seed_everything(0, epoch).permutation(len(some.labels)).tolist()
        batches = DataLoader(
            Images(some), batch_size=BATCH_SIZE, sampler=order, drop_last=True, **WORKERS
        )
        total = 0.0
        for inputs, labels in batches:
            inputs, labels = inputs.to(where, memory_format=layout), labels.to(where)
            optimizer.zero_grad()
            with autocast(where, precision):
                loss = criterion(network(inputs), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(batches)

    return network, train


def side(folder: Path, model: str, precision: str | None, tuned: str | None = None) -> Work:
    """One epoch after a first batch that is not timed; ``precision`` None is the DataLoader."""
    n = BATCHES[device().type][model] * BATCH_SIZE
    if precision:
        _, train = ours(folder, model, precision, n)
    else:
        _, train = loader(folder, model, n, tuned=tuned)
    train(2, read_images(folder, "train", BATCH_SIZE))
    return lambda: {"items": n, "loss": train(1)}


def similar_loss(ours: dict, other: dict) -> tuple[bool, str]:
    """The mean loss of the epoch, which saw the same images in the same order. Rounding and other
    dropout masks count much in the first steps from random weights; `accuracy.py` is the test."""
    agree = math.isclose(ours["loss"], other["loss"], rel_tol=0.2)
    return agree, f"mean loss {ours['loss']:.3f} and {other['loss']:.3f}"


def operations(model: str, image_size: int = 224, backward: bool = True) -> float:
    """Arithmetic of convolutions and matrix products for one image, as PyTorch counts it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = starting_network(model)
    with FlopCounterMode(display=False) as counter:
        answer = network(torch.zeros(2, 3, image_size, image_size))
        if backward:
            answer.sum().backward()
    return counter.get_total_flops() / 2


def floor(folder: Path, runs: Mapping[str, list[Run]], backward: bool = True) -> str:
    """The share of the measured matrix rate that each of our sides reaches."""
    rates = {precision: matrix_rate(precision) for precision in PRECISIONS}
    words = [
        "Floor: large matrix products and convolutions of 3 x 3 reach "
        f"{rates['float32'] / 1e9:.0f} GFLOP/s in float32 and {rates['bfloat16'] / 1e9:.0f} "
        "GFLOP/s in bfloat16 here."
    ]
    for name, measured in runs.items():
        model, precision = name.split(", ", 1)
        if precision not in PRECISIONS:
            continue
        needed = operations(model, backward=backward) * measured[0].answer["items"]
        best = min(run.seconds for run in measured)
        words.append(
            f"{name} needs {needed / measured[0].answer['items'] / 1e9:.1f} GFLOP an image and "
            f"reaches {needed / best / rates[precision]:.0%} of that rate."
        )
    return " ".join(words)


def sides(one: Side) -> dict[str, Side]:
    """Ours in both number formats, and the DataLoader, for each network."""
    return {
        f"{model}, {words}": partial(one, model=model, precision=precision)
        for model in MODELS
        for words, precision in (
            ("bfloat16", "bfloat16"),
            ("float32", "float32"),
            (LOADER, None),
        )
    }


#: By our number format the alternatives, each with the speed that we want over it: with the same
#: settings, and in float32 also what a user would write.
ALTERNATIVES = {
    "bfloat16": {TUNED.format(precision="bfloat16"): 1.15},
    "float32": {TUNED.format(precision="float32"): 1.0, LOADER: 1.15},
}


def tuned_sides() -> dict[str, Side]:
    """The DataLoader with our settings in both number formats, for each network."""
    return {
        f"{model}, {TUNED.format(precision=precision)}": partial(
            side, model=model, precision=None, tuned=precision
        )
        for model in MODELS
        for precision in PRECISIONS
    }


def rows() -> list[Row]:
    """Ours against :data:`ALTERNATIVES`."""
    return [
        Row(f"{model}, {precision}", f"{model}, {other}", goal, similar_loss)
        for model in MODELS
        for precision, others in ALTERNATIVES.items()
        for other, goal in others.items()
    ]


def prepare(folder: Path) -> None:
    """Fashion-MNIST, as many images as are trained on."""
    n = max(BATCHES[device().type].values()) * BATCH_SIZE
    data.write_dataset("fashion_mnist", folder / "fashion_mnist.h5", n, 1000)


if __name__ == "__main__":
    compare(
        "Fine-tuning",
        "One epoch of Adam on images of Fashion-MNIST at 224 px, batches of 64, from the same "
        "random weights and in the same order. The alternatives: a DataLoader with 2 workers and "
        "PIL transforms, in the same number format and with the same memory layout, fused Adam and "
        "allocator's settings as ours; and in float32 without these settings.",
        sides(side) | tuned_sides(),
        rows(),
        prepare,
        floor,
        # A round of all these takes nine minutes on two cores.
        rounds=3,
        per_second="images",
    )
