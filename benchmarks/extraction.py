"""Features at 224 px to HDF5 against a DataLoader with PIL transforms in float32.

python benchmarks/extraction.py
"""

from functools import partial
from pathlib import Path

import data
from harness import Row, Work, compare, device
from training import LOADER, MODELS, WORKERS, floor, sides, starting_network

N_IMAGES = {
    "cpu": {"resnet18": 512, "vgg11_bn": 128},
    "cuda": {"resnet18": 60_000, "vgg11_bn": 60_000},
}
LAYERS = {"resnet18": "flatten", "vgg11_bn": "classifier.3"}
#: So many images' features are compared.
COMPARED = 16


def side(folder: Path, model: str, precision: str | None) -> Work:
    """From a data set's file to a store of features; ``precision`` None is the DataLoader."""
    n = N_IMAGES[device().type][model]
    work = _ours(folder, model, precision, n) if precision else _loader(folder, model, n)

    def answer() -> dict:
        import h5py

        work()
        with h5py.File(written) as file:
            features = file["features"][:COMPARED].tolist()
        return {"items": n, "features": features, "unrounded": unrounded}

    written = folder / (f"{LAYERS[model]}/train.h5" if precision else "features.h5")
    unrounded = None if precision else _plain_features(folder, model)
    return answer


def _plain_features(folder: Path, model: str) -> list:
    """Features of the compared images by the plain network in float32, from images that are
    resized without PIL's rounding to whole grey levels, as ours are."""
    import torch

    from collapseflow.features.preprocessing import preprocess
    from collapseflow.images.datasets import read_split

    images = torch.from_numpy(read_split(folder / f"{model}.h5", "train").images[:COMPARED])
    with torch.no_grad():
        return _headless(folder, model)(preprocess(images, 224, "imagenet")).tolist()


def _headless(folder: Path, model: str):
    import safetensors.torch
    import torch
    from torchvision import models

    network = models.get_model(model, num_classes=10)
    network.load_state_dict(safetensors.torch.load_file(folder / f"{model}.safetensors"))
    if model == "resnet18":
        network.fc = torch.nn.Identity()
    else:
        network.classifier = network.classifier[:4]
    return network.eval()


def _ours(folder: Path, model: str, precision: str, n: int):
    from collapseflow.features.extraction import Reading, write_network_features
    from collapseflow.running.hardware import prepare_process
    from harness import CORES

    prepare_process(CORES)
    reading = Reading(
        model=model,
        layers=[LAYERS[model]],
        pool="average",
        image_size=224,
        normalize="imagenet",
        precision=precision,
        batch_size=64,
    )
    dataset, weights = folder / f"{model}.h5", folder / f"{model}.safetensors"
    return lambda: write_network_features(dataset, weights, reading, device(), folder)


def _loader(folder: Path, model: str, n: int):
    import h5py
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from collapseflow.images.datasets import read_split

    transform = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.Grayscale(3),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Images(Dataset):
        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return transform(Image.fromarray(self.images[index]))

    def work() -> None:
        network = _headless(folder, model).to(device())
        images = read_split(folder / f"{model}.h5", "train").images
        parts = []
        with torch.no_grad():
            for batch in DataLoader(Images(images), batch_size=64, **WORKERS):
                parts.append(network(batch.to(device())).cpu().numpy())
        with h5py.File(folder / "features.h5", "w") as file:
            file.create_dataset("features", data=np.concatenate(parts))

    return work


def prepare(folder: Path) -> None:
    """For each network, images of Fashion-MNIST and random weights."""
    from collapseflow.features.weights import save_state

    for model, n in N_IMAGES[device().type].items():
        data.write_dataset("fashion_mnist", folder / f"{model}.h5", n, 10)
        state = starting_network(model).state_dict()
        save_state(folder / f"{model}.safetensors", state, {"weights": "random"})


def same_direction(ours: dict, other: dict) -> tuple[bool, str]:
    """The smallest cosine between the two sides' features of an image."""
    import numpy as np

    a, b = np.array(ours["features"]), np.array(other["features"])
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return bool(cosines.min() >= 0.999), f"cosine at least {cosines.min():.5f}"


def same_values(ours: dict, other: dict) -> tuple[bool, str]:
    """The difference of features relative to their length, on the same input: the alternative's
    images are rounded to whole grey levels by PIL; what that makes is told."""
    import numpy as np

    found, plain, rounded = (
        np.array(values) for values in (ours["features"], other["unrounded"], other["features"])
    )

    def difference(a, b) -> float:
        return (np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max()

    error = difference(found, plain)
    words = (
        f"relative difference {error:.1e}; PIL's rounding makes {difference(rounded, plain):.1e}"
    )
    return bool(error <= 1e-4), words


if __name__ == "__main__":
    compare(
        "Feature extraction",
        "From images of Fashion-MNIST to features in HDF5, at 224 px: ResNet18's 512 pooled values "
        "and vgg11_bn's 4,096 before the last ReLU. The alternative: a DataLoader with 2 workers, "
        "PIL transforms, float32, `torch.no_grad`, a list of arrays and one write. Rows in float32 "
        "are like for like; where ours is bfloat16, the processor's faster arithmetic is part of "
        "the ratio.",
        sides(side),
        [
            Row(f"{m}, {p}", f"{m}, {LOADER}", goal, agree)
            for m in MODELS
            for p, goal, agree in (("float32", 1.3, same_values), ("bfloat16", 2.3, same_direction))
        ],
        prepare,
        partial(floor, backward=False),
        per_second="images",
    )
