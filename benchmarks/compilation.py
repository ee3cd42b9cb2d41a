"""Whether torch.compile, and on a card CUDA graphs, pay for themselves at 224 px.

python benchmarks/compilation.py
"""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from collapseflow.running.cards import count_cards
from extraction import LAYERS
from harness import CORES, Row, Work, compare, device
from training import BATCH_SIZE, BATCHES, MODELS, prepare, read_images, recipe, similar_loss

#: What a study takes by itself on a card.
PRECISIONS = {"training": "bfloat16", "reading": "float32"}
#: The words of a side, and torch.compile's mode; None does not compile.
AS_IT_IS = "as it is"
MODES = {AS_IT_IS: None, "compiled": "default", "compiled, CUDA graphs": "reduce-overhead"}
#: Batches before the clock starts: the first compiles, and of CUDA graphs the second is recorded.
FIRST = 3
#: So many images' features are compared.
COMPARED = 16


def changed(called, mode: str | None):
    """A network as it is called."""
    import torch

    return called if mode is None else torch.compile(called, mode=mode)


def after_first(work: Callable[[int], dict], model: str) -> Work:
    """The work on all images, whose answer has the seconds of the first batches, which compile."""
    n = BATCHES[device().type][model] * BATCH_SIZE
    started = time.perf_counter()
    work(FIRST * BATCH_SIZE)
    first = time.perf_counter() - started
    return lambda: {"items": n, "first": first, **work(n)}


def training(folder: Path, model: str, mode: str | None) -> Work:
    """An epoch."""
    import torch

    from collapseflow.running.hardware import prepare_process
    from collapseflow.training.loop import train_one_epoch
    from collapseflow.training.optimisation import new_optimizer
    from training import starting_network

    prepare_process(CORES)
    plan = recipe(model, PRECISIONS["training"])
    network = starting_network(model).to(device(), memory_format=torch.channels_last)
    optimizer = new_optimizer(network, plan)
    called = changed(network, mode)

    def work(n: int) -> dict:
        images = read_images(folder, "train", n)
        record = train_one_epoch(called, optimizer, images, plan, 1, device(), BATCH_SIZE)
        return {"loss": record["loss"]}

    return after_first(work, model)


def reading(folder: Path, model: str, mode: str | None) -> Work:
    """Features of each image, on the host."""
    from collapseflow.features.pooling import Pooling
    from collapseflow.features.reading import FeatureExtractor, extract
    from collapseflow.running.hardware import prepare_process
    from training import starting_network

    prepare_process(CORES)
    extractor = FeatureExtractor(
        starting_network(model), {LAYERS[model]: Pooling("flatten")}, with_logits=False
    )
    extractor.body = changed(extractor.body, mode)
    how = (224, "imagenet", PRECISIONS["reading"], device(), BATCH_SIZE, model)

    def work(n: int) -> dict:
        images = read_images(folder, "train", n).images
        batches = (features[LAYERS[model]] for features, _ in extract(extractor, images, *how))
        first = next(batches)[:COMPARED].tolist()
        for _ in batches:
            pass
        return {"features": first}

    return after_first(work, model)


def first_batches(ours: dict, other: dict) -> str:
    """What they took."""
    return f"first {FIRST} batches {ours['first']:.0f} s and {other['first']:.0f} s"


def same_training(ours: dict, other: dict) -> tuple[bool, str]:
    """The same loss."""
    same, words = similar_loss(ours, other)
    return same, f"{words}; {first_batches(ours, other)}"


def same_features(ours: dict, other: dict) -> tuple[bool, str]:
    """The difference of features relative to their length."""
    differences = [
        math.dist(a, b) / math.hypot(*b)
        for a, b in zip(ours["features"], other["features"], strict=True)
    ]
    words = f"relative difference {max(differences):.1e}; {first_batches(ours, other)}"
    return max(differences) <= 1e-4, words


STAGES = {"training": (training, same_training), "reading": (reading, same_features)}


if __name__ == "__main__":
    # CUDA graphs are a card's.
    modes = MODES if count_cards() else {word: MODES[word] for word in (AS_IT_IS, "compiled")}
    compare(
        "torch.compile",
        "Fine-tuning as above in bfloat16, and features read in float32, as they are and compiled, "
        f"on a card also with CUDA graphs. The first {FIRST} batches, which compile, are not in "
        "the speed. The workflow does not compile: this shows why on a CPU, and says what it would "
        "bring on a card.",
        {
            f"{model}, {stage}, {words}": partial(side, model=model, mode=mode)
            for model in MODELS
            for stage, (side, _) in STAGES.items()
            for words, mode in modes.items()
        },
        [
            Row(f"{model}, {stage}, {AS_IT_IS}", f"{model}, {stage}, {words}", 1.0, agree)
            for model in MODELS
            for stage, (_, agree) in STAGES.items()
            for words in modes
            if words != AS_IT_IS
        ],
        prepare,
        rounds=3,
        per_second="images",
    )
