"""Whether torch.compile pays for itself in fine-tuning at 224 px.

python benchmarks/compilation.py
"""

import time
from functools import partial
from pathlib import Path

from harness import Row, Work, compare
from training import BATCH_SIZE, BATCHES, MODELS, device, prepare, read_images, recipe, similar_loss

PRECISION = "bfloat16"


def side(folder: Path, model: str, compiled: bool) -> Work:
    """One epoch after a first batch, whose seconds are part of the answer."""
    import torch

    from collapseflow.running.hardware import prepare_process
    from collapseflow.training.loop import train_one_epoch
    from collapseflow.training.recipes import new_optimizer
    from harness import CORES
    from training import starting_network

    prepare_process(CORES)
    n = BATCHES[device().type][model] * BATCH_SIZE
    plan, images = recipe(model, PRECISION), read_images(folder, "train", n)
    network = starting_network(model).to(device(), memory_format=torch.channels_last)
    optimizer = new_optimizer(network, plan)
    called = torch.compile(network) if compiled else network

    def train(epoch: int, some) -> float:
        record = train_one_epoch(called, optimizer, some, plan, epoch, device(), BATCH_SIZE)
        return record["loss"]

    started = time.perf_counter()
    train(2, read_images(folder, "train", BATCH_SIZE))
    first = time.perf_counter() - started
    return lambda: {"items": n, "loss": train(1, images), "first": first}


def agree(ours: dict, other: dict) -> tuple[bool, str]:
    """The same loss; and what the first batch took."""
    same, words = similar_loss(ours, other)
    return same, f"{words}; first batch {ours['first']:.0f} s and {other['first']:.0f} s"


if __name__ == "__main__":
    compare(
        "torch.compile",
        f"Fine-tuning as above in {PRECISION}, as it is and compiled. The first batch, which "
        "compiles, is not in the speed. The workflow does not compile: this shows why on a CPU, "
        "and says what it would bring on a card.",
        {
            f"{model}, {words}": partial(side, model=model, compiled=words == "compiled")
            for model in MODELS
            for words in ("as it is", "compiled")
        },
        [Row(f"{model}, as it is", f"{model}, compiled", 1.0, agree) for model in MODELS],
        prepare,
        rounds=3,
        per_second="images",
    )
