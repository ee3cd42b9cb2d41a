"""Test accuracy after one epoch of fine-tuning: ours against a DataLoader in float32.

    python benchmarks/accuracy.py

ResNet18 at 224 px; vgg11_bn at 64 px, where 40 batches do not take an hour.
"""

from pathlib import Path

import data
from harness import Row, Work, compare, device
from training import BATCH_SIZE, LOADER, loader, ours, read_images, sides

IMAGE_SIZES = {"resnet18": 224, "vgg11_bn": 64}
N_TRAIN, N_TEST = 40 * BATCH_SIZE, 500


def side(folder: Path, model: str, precision: str | None) -> Work:
    """One epoch of 40 batches, then the share of right answers in evaluation mode."""
    import torch

    from collapseflow.features.preprocessing import preprocess

    size = IMAGE_SIZES[model]
    if precision:
        network, train = ours(folder, model, precision, N_TRAIN, size)
    else:
        network, train = loader(folder, model, N_TRAIN, size)
    test = read_images(folder, "test", N_TEST)

    def accuracy() -> float:
        network.eval()
        right = 0
        with torch.inference_mode():
            for start in range(0, N_TEST, 50):
                images = torch.from_numpy(test.images[start : start + 50]).to(device())
                classes = network(preprocess(images, size, "imagenet")).argmax(1).cpu().numpy()
                right += int((classes == test.labels[start : start + 50]).sum())
        return right / N_TEST

    def work() -> dict:
        loss = train(1)
        return {"items": N_TRAIN, "loss": loss, "accuracy": accuracy()}

    return work


def within_interval(ours: dict, other: dict) -> tuple[bool, str]:
    """Whether ours lies in the 95 % interval of the other's accuracy, or above it."""
    from collapseflow.measures.intervals import wilson_interval

    low, high = wilson_interval(other["accuracy"], N_TEST)
    words = (
        f"{100 * ours['accuracy']:.1f} % and {100 * other['accuracy']:.1f} % "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )
    return ours["accuracy"] >= low, words


if __name__ == "__main__":
    compare(
        "Accuracy after one epoch",
        f"{N_TRAIN} images of Fashion-MNIST, batches of {BATCH_SIZE}, then {N_TEST} test images; "
        "ResNet18 at 224 px, vgg11_bn at 64 px. One run of each side, to see that ours is no "
        "worse; the time includes the test images. The interval is that of the test images alone: "
        "how much a network after 40 batches differs between runs is not in it, so that "
        "accuracies above it say nothing for either side.",
        sides(side),
        [
            Row(f"{m}, {p}", f"{m}, {LOADER}", 1.0, within_interval)
            for m in IMAGE_SIZES
            for p in ("bfloat16", "float32")
        ],
        lambda folder: data.write_dataset(
            "fashion_mnist", folder / "fashion_mnist.h5", N_TRAIN, N_TEST
        ),
        rounds=1,
        per_second="images",
    )
