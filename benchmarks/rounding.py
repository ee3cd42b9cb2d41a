"""What rounding does to NC1: one network read in four precisions, and deeper in collapse.

    python benchmarks/rounding.py

No times: this is about the results. ResNet18 is trained from random weights on 100 images of MNIST
with SGD (momentum 0.9 and weight decay 0.0005, as Papyan, Han and Donoho 2020) beyond the first
epoch without an error. Deeper states than minutes of training reach are made of its images, whose
deviations from the means of their classes are made smaller before they are read.

No processor has TensorFloat-32. What a card's tensor cores multiply in it is rounded here to the
same 10 bits before float32 convolutions and matrix products.
"""

import copy
import tempfile
from pathlib import Path

from harness import CORES

# One batch is all images: what batch normalisation saw in training is what it has learned.
N_IMAGES = BATCH_SIZE = 100
EPOCHS, LEARNING_RATE, IMAGE_SIZE = 200, 0.05, 16
MEASURED = (1, 10, 50, 100, 200)
SHRUNK = (1, 0.1, 0.01, 0.001, 0.0001)
PRECISIONS = ("float64", "float32", "tf32", "bfloat16")


def as_tensor_float32(values):
    """Float32 values rounded to 10 bits behind the point: to the nearest, halves away from zero,
    as PTX's cvt.rna.tf32.f32."""
    import torch

    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def round_factors(module) -> None:
    """Let a convolution or a linear layer multiply what :func:`as_tensor_float32` gives."""
    module.weight.copy_(as_tensor_float32(module.weight))
    module.register_forward_pre_hook(
        lambda _, inputs: tuple(as_tensor_float32(values) for values in inputs)
    )


def read_features(network, data, precision: str, factor: float = 1):
    """Features float64 (N, 512) of the penultimate layer, and predicted classes (N,).

    Of images with ``factor`` times their deviations from the means of their classes.
    """
    import torch

    from collapseflow.features.pooling import Pooling
    from collapseflow.features.preprocessing import preprocess
    from collapseflow.features.reading import FeatureExtractor
    from collapseflow.running.hardware import autocast

    number = torch.float32 if precision == "tf32" else getattr(torch, precision)
    cpu = torch.device("cpu")
    # The weights stay float32 under autocast; only in float64 they are converted.
    of_weights = torch.float64 if precision == "float64" else torch.float32
    extractor = FeatureExtractor(copy.deepcopy(network), {"flatten": Pooling("flatten")}, True).to(
        of_weights
    )
    inputs = preprocess(torch.from_numpy(data.images), IMAGE_SIZE, "imagenet").double()
    inputs = torch.from_numpy(drawn_together(inputs.numpy(), data.labels, factor)).to(of_weights)
    with torch.inference_mode(), autocast(cpu, number):
        for module in extractor.modules() if precision == "tf32" else ():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                round_factors(module)
        features, logits = extractor(inputs.contiguous(memory_format=torch.channels_last))
    return features["flatten"].double().numpy(), logits.argmax(1).numpy()


def nc1(features, labels) -> float:
    """NC1 of features (N, d) of any type, computed in float64."""
    from collapseflow.measures import collapse
    from collapseflow.measures.statistics import reduce_stream

    return collapse.nc1(reduce_stream(lambda _: [(features, labels, None)])[0])


def drawn_together(values, labels, factor: float):
    """Values (N, ...) with ``factor`` times their deviations from the class means."""
    import numpy as np

    means = np.stack([values[labels == c].mean(axis=0) for c in range(10)])[labels]
    return means + factor * (values - means)


def main() -> None:
    """Train, measure after some epochs and beyond the last, print the section."""
    import torch

    from collapseflow.features.networks import build
    from collapseflow.images.datasets import read_split
    from collapseflow.images.sources.prepare import prepare_dataset
    from collapseflow.running.hardware import prepare_process
    from collapseflow.training.loop import seed_everything, train_one_epoch
    from collapseflow.training.recipes import NetworkRecipe

    prepare_process(CORES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mnist5k.h5"
        subset = {"train": N_IMAGES, "test": None}
        entry = {"source": "mnist5k", "class_names": None, "subset": subset}
        prepare_dataset(entry, 0.2, 0, Path(folder), path)
        data = read_split(path, "train")
    plan = NetworkRecipe(
        model="resnet18",
        image_size=IMAGE_SIZE,
        normalize="imagenet",
        precision="float32",
        seed=0,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        optimizer="sgd",
        learning_rate=LEARNING_RATE,
    )
    seed_everything(0, 0)
    network = build(plan.model, 10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4
    )
    trained = []
    for epoch in range(1, EPOCHS + 1):
        train_one_epoch(network, optimizer, data, plan, epoch, torch.device("cpu"), BATCH_SIZE)
        if epoch in MEASURED:
            read = [read_features(network, data, precision) for precision in PRECISIONS]
            errors = int((read[0][1] != data.labels).sum())
            cells = [f"{nc1(features, data.labels):.3g}" for features, _ in read]
            trained.append(f"| {epoch} | {errors} | {' | '.join(cells)} |")
    shrunk = []
    for factor in SHRUNK:
        read = [read_features(network, data, precision, factor) for precision in PRECISIONS]
        cells = [f"{nc1(features, data.labels):.3g}" for features, _ in read]
        shrunk.append(f"| {factor:g} | {' | '.join(cells)} |")
    columns = " | ".join(["NC1, float64", "NC1, float32", "NC1, TensorFloat-32", "NC1, bfloat16"])
    right = " | ".join(["---:"] * 4)
    print(
        "## Rounding under NC1\n\n"
        f"ResNet18 on {len(data.labels)} images of MNIST at {IMAGE_SIZE} px, trained in float32; "
        "NC1 of the same weights on the same training images, read in four precisions (bfloat16 "
        "as autocast does it; TensorFloat-32 as float32 whose factors are rounded to its 10 bits, "
        "on the processor).\n\n"
        f"| epoch | training errors | {columns} |\n"
        f"| ---: | ---: | {right} |\n" + "\n".join(trained) + "\n\n"
        "Deeper in collapse than this training comes: the last network reads the images with their "
        "deviations from the means of their classes multiplied by a factor.\n\n"
        f"| factor | {columns} |\n"
        f"| ---: | {right} |\n" + "\n".join(shrunk)
    )


if __name__ == "__main__":
    main()
