"""What rounding does to NC1: one network read in three precisions, and deeper in collapse.

    python benchmarks/rounding.py

No times: this is about the results. ResNet18 is trained from random weights on 100 images of MNIST
with SGD (momentum 0.9 and weight decay 0.0005, as Papyan, Han and Donoho 2020) beyond the first
epoch without an error. Deeper states than minutes of training reach are made of its last features,
whose deviations from the class means are made smaller before they are rounded.
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
PRECISIONS = ("float64", "float32", "bfloat16")


def read_features(network, images, precision: str):
    """Features float64 (N, 512) of the penultimate layer, and predicted classes (N,)."""
    import torch

    from collapseflow.features.networks import FeatureExtractor
    from collapseflow.features.preprocessing import preprocess
    from collapseflow.running.hardware import autocast

    number, cpu = getattr(torch, precision), torch.device("cpu")
    # The weights stay float32 under autocast; only in float64 they are converted.
    of_weights = torch.float64 if precision == "float64" else torch.float32
    extractor = FeatureExtractor(copy.deepcopy(network), {"flatten": ()}, True).to(of_weights)
    features, classes = [], []
    with torch.inference_mode(), autocast(cpu, number):
        for batch in torch.from_numpy(images).split(BATCH_SIZE):
            inputs = preprocess(batch, IMAGE_SIZE, "imagenet").to(of_weights)
            batch_features, logits = extractor(inputs)
            features.append(batch_features["flatten"].double())
            classes.append(logits.argmax(1))
    return torch.cat(features).numpy(), torch.cat(classes).numpy()


def nc1(features, labels) -> float:
    """NC1 of features (N, d) of any type, computed in float64."""
    from collapseflow.measures import collapse
    from collapseflow.measures.statistics import reduce_stream

    return collapse.nc1(reduce_stream(lambda _: [(features, labels, None)])[0])


def drawn_together(features, labels, factor: float):
    """The features with ``factor`` times their deviations from the class means."""
    import numpy as np

    means = np.stack([features[labels == c].mean(axis=0) for c in range(10)])[labels]
    return means + factor * (features - means)


def main() -> None:
    """Train, measure after some epochs and beyond the last, print the section."""
    import torch

    from collapseflow.features.networks import build
    from collapseflow.images.datasets import read_split
    from collapseflow.images.sources.prepare import prepare_dataset
    from collapseflow.running.hardware import prepare_process
    from collapseflow.training.loop import seed_everything, train_one_epoch
    from collapseflow.training.recipes import Recipe

    prepare_process(CORES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mnist5k.h5"
        subset = {"train": N_IMAGES, "test": None}
        entry = {"source": "mnist5k", "class_names": None, "subset": subset}
        prepare_dataset(entry, 0.2, 0, Path(folder), path)
        data = read_split(path, "train")
    plan = Recipe(
        "resnet18", IMAGE_SIZE, "imagenet", "float32", 0, EPOCHS, BATCH_SIZE, "sgd", LEARNING_RATE
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
            read = [read_features(network, data.images, precision) for precision in PRECISIONS]
            errors = int((read[0][1] != data.labels).sum())
            cells = [f"{nc1(features, data.labels):.3g}" for features, _ in read]
            trained.append(f"| {epoch} | {errors} | {' | '.join(cells)} |")
    exact, shrunk = read[0][0], []
    for factor in SHRUNK:
        features = torch.from_numpy(drawn_together(exact, data.labels, factor))
        rounded = [features.to(getattr(torch, p)).double().numpy() for p in PRECISIONS]
        cells = [f"{nc1(array, data.labels):.3g}" for array in rounded]
        shrunk.append(f"| {factor:g} | {' | '.join(cells)} |")
    print(
        "## Rounding under NC1\n\n"
        f"ResNet18 on {len(data.labels)} images of MNIST at {IMAGE_SIZE} px, trained in float32; "
        "NC1 of the same weights on the same training images, read in three precisions (bfloat16 "
        "as autocast does it).\n\n"
        "| epoch | training errors | NC1, float64 | NC1, float32 | NC1, bfloat16 |\n"
        "| ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(trained) + "\n\n"
        "Deeper in collapse than this training comes: the last features in float64, their "
        "deviations from the class means multiplied by a factor, then rounded.\n\n"
        "| factor | NC1, float64 | NC1, float32 | NC1, bfloat16 |\n"
        "| ---: | ---: | ---: | ---: |\n" + "\n".join(shrunk)
    )


if __name__ == "__main__":
    main()
