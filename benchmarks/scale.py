"""How the time, the memory and the disk of each stage grow with images, features and classes.

    python benchmarks/scale.py

Images and features are made up: what a stage takes hardly depends on what is in them.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import CORES, Run, Work, device, memory, parse, run_apart
from training import BATCH_SIZE, recipe, starting_network

#: Images, features and classes where others grow; pixels a side; features of `vectors`.
N, D, C, PIXELS, VECTOR = 20_000, 512, 10, 28, 64
J, L = 2, 4
PROVENANCE = dict.fromkeys(
    ("dataset", "dataset_sha256", "split", "features", "weights", "preprocessing"), "made up"
)


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow, measured at some sizes.

    Attributes
    ----------
    grows
        ``N``, ``d`` or ``C``.
    side
        Takes a folder and a size.
    prepare
        Writes what the side reads and no stage before it has written.
    """

    name: str
    grows: str
    sizes: tuple[int, ...]
    side: Callable[[Path, int], Work]
    prepare: Callable[[Path, int], None] | None = None


# --- what the stages read -----------------------------------------------------------------------


def images(folder: Path, n: int) -> None:
    """A data set of ``n`` grey images for training."""
    import numpy as np

    from collapseflow.images.datasets import Splits, make_split, write_dataset

    random = np.random.default_rng(0)
    train, test = (
        make_split(random.integers(0, 256, (k, PIXELS, PIXELS), np.uint8), np.arange(k) % C)
        for k in (n, C)
    )
    splits = Splits(train, test, [str(label) for label in range(C)], "made up")
    write_dataset(folder / "images.h5", splits)


def vectors(folder: Path, n: int) -> None:
    """Stores of short features around a mean for each class: training and test."""
    import numpy as np

    from collapseflow.features.stores import write_store

    random = np.random.default_rng(0)
    means = random.normal(size=(C, VECTOR))
    for split, k in {"train": n, "test": 1000}.items():
        labels = np.arange(k) % C
        features = (means[labels] + 2 * random.normal(size=(k, VECTOR))).astype(np.float32)
        path = folder / f"vectors-{split}.h5"
        write_store(path, [(features, None)], labels, np.arange(k), PROVENANCE)


def elsewhere(folder: Path, n: int) -> None:
    """A file of vectors, with the labels beside it, and its data set."""
    import numpy as np

    from collapseflow.images.sources.prepare import prepare_dataset

    random = np.random.default_rng(0)
    labels = np.arange(n) % C
    means = random.normal(size=(C, VECTOR)).astype(np.float32)
    path = folder / "elsewhere.npy"
    file = np.lib.format.open_memmap(path, "w+", np.float32, (n, VECTOR))
    for start in range(0, n, 100_000):
        rows = slice(start, start + 100_000)
        file[rows] = means[labels[rows]] + random.standard_normal(file[rows].shape, np.float32)
    np.save(path.with_suffix(".labels.npy"), labels)
    entry = {"source": "features", "location": [str(path)], "class_names": None}
    entry["subset"] = {"train": None, "test": None}
    prepare_dataset(entry, 0.2, 0, folder, folder / "elsewhere.h5")


# --- the stages ---------------------------------------------------------------------------------


def write(folder: Path, size: int, grows: str) -> Work:
    """Features that are there already, to a store. Its rows repeat after two thousand."""
    import numpy as np

    from collapseflow.features.stores import write_store

    d, n_classes = (size, C) if grows == "d" else (D, size)
    random = np.random.default_rng(0)
    labels = np.arange(N) % n_classes
    block = random.standard_normal((2000, d), np.float32)
    block += random.standard_normal((n_classes, d), np.float32)[labels[:2000]]

    def work() -> dict:
        batches = ((block, None) for _ in range(N // 2000))
        write_store(folder / "features.h5", batches, labels, np.arange(N), PROVENANCE)
        return on_disk(folder / "features.h5")

    return work


def on_disk(path: Path) -> dict:
    """The answer of a stage that writes a file."""
    return {"bytes": path.stat().st_size}


def raw(folder: Path, size: int) -> Work:
    """Raw pixels to a store."""
    from collapseflow.features.stores import write_features
    from collapseflow.images.datasets import raw_pixels

    def work() -> dict:
        path = folder / "features.h5"
        write_features(folder / "images.h5", "train", path, raw_pixels, "", "", "")
        return on_disk(path)

    return work


def read(folder: Path, size: int) -> Work:
    """Every block of a store."""
    from collapseflow.features.stores import iterate

    return lambda: {"n": sum(len(labels) for _, labels, _ in iterate(folder / "features.h5"))}


def collapse(folder: Path, size: int) -> Work:
    """All measures."""
    from collapseflow.measures.collapse import measure
    from collapseflow.measures.statistics import reduce_stores

    return lambda: measure(reduce_stores({"train": folder / "features.h5"}, CORES)["train"])


def from_elsewhere(folder: Path, size: int) -> Work:
    """A file of vectors to its stores, and all measures of both splits."""
    from collapseflow.features.vectors import write_vectors
    from collapseflow.measures.collapse import measure
    from collapseflow.measures.statistics import reduce_stores

    def work() -> dict:
        stores = folder / "stores"
        write_vectors(folder / "elsewhere.h5", folder / "elsewhere.npy", stores)
        paths = {split: stores / f"{split}.h5" for split in ("train", "test")}
        nc1 = measure(reduce_stores(paths, CORES)["train"])["nc1"]
        return {"nc1": nc1, "bytes": sum(path.stat().st_size for path in paths.values())}

    return work


def scattering(folder: Path, size: int) -> Work:
    """First-order coefficients to a store."""
    from collapseflow.features.scattering import scattering
    from collapseflow.features.stores import write_features
    from collapseflow.running.hardware import prepare_process

    prepare_process(CORES)
    transform = partial(scattering, J=J, L=L, order=1, device=device(), what="scattering")

    def work() -> dict:
        path = folder / "scattering.h5"
        write_features(folder / "images.h5", "train", path, transform, "", "", "")
        return on_disk(path)

    return work


def network(folder: Path, size: int) -> Work:
    """ResNet18's 512 pooled values at 32 px to a store."""
    from collapseflow.features.extraction import Reading, store, write_network_features
    from collapseflow.features.weights import save_state
    from collapseflow.running.hardware import prepare_process

    prepare_process(CORES)
    weights = folder / "weights.safetensors"
    save_state(weights, starting_network("resnet18").state_dict(), {"weights": "random"})
    reading = Reading(
        model="resnet18",
        layers=["flatten"],
        pool="average",
        image_size=32,
        normalize="imagenet",
        precision="auto",
        batch_size=256,
    )

    def work() -> dict:
        write_network_features(folder / "images.h5", weights, reading, device(), folder)
        return on_disk(store(folder, "flatten", "train"))

    return work


def epoch(folder: Path, size: int) -> Work:
    """An epoch of ResNet18 at 32 px."""
    import torch

    from collapseflow.images.datasets import read_split
    from collapseflow.running.hardware import prepare_process
    from collapseflow.training.loop import train_one_epoch
    from collapseflow.training.optimisation import new_optimizer

    prepare_process(CORES)
    plan, data = recipe("resnet18", "auto", 32), read_split(folder / "images.h5", "train")
    net = starting_network("resnet18").to(device(), memory_format=torch.channels_last)
    optimizer = new_optimizer(net, plan)

    def work() -> dict:
        record = train_one_epoch(net, optimizer, data, plan, 1, device(), BATCH_SIZE)
        return {"loss": record["loss"]}

    return work


def classifier(folder: Path, size: int, name: str) -> Work:
    """Fit and score one of the preset ``default``."""
    from collapseflow.measures.probes import evaluate
    from collapseflow.study.schema import PRESETS, Classifier

    entry = Classifier(**PRESETS["default"][name]).model_dump(exclude={"label"})
    stores = (folder / "vectors-train.h5", folder / "vectors-test.h5")
    return lambda: evaluate(*stores, **entry, seed=0, threads=CORES)


def tsne(folder: Path, size: int) -> Work:
    """openTSNE with the defaults of a study."""
    from collapseflow.measures.embedding import embed
    from collapseflow.study.schema import Embedding

    options = Embedding().model_dump()

    def work() -> dict:
        path = folder / "embedding.npz"
        stores = {"train": folder / "vectors-train.h5"}
        embed(stores, "opentsne", seed=0, threads=CORES, output=path, **options)
        return on_disk(path)

    return work


PIXEL_SIZES = (10_000, 100_000, 1_000_000)
IMAGE_SIZES = (10_000, 30_000, 100_000)
VECTOR_SIZES = (1_000, 10_000, 100_000)
FEATURES = (512, 4_096, 25_088)
CLASSES = (10, 100, 1_000)
STAGES = (
    Stage("raw pixels to a store", "N", PIXEL_SIZES, raw, images),
    Stage("reading a store", "N", PIXEL_SIZES, read),
    Stage("collapse measures", "N", PIXEL_SIZES, collapse),
    Stage("vectors of a file", "N", (20_000, 200_000, 2_000_000), from_elsewhere, elsewhere),
    Stage("scattering", "N", IMAGE_SIZES, scattering, images),
    Stage("network features", "N", IMAGE_SIZES, network, images),
    Stage("epoch of fine-tuning", "N", (1_000, 3_000, 10_000), epoch, images),
    Stage("LDA", "N", VECTOR_SIZES, partial(classifier, name="lda"), vectors),
    Stage("random forest", "N", VECTOR_SIZES, partial(classifier, name="rf"), vectors),
    Stage("t-SNE", "N", (2_000, 6_000, 18_000), tsne, vectors),
    Stage("writing a store", "d", FEATURES, partial(write, grows="d")),
    Stage("reading a store", "d", FEATURES, read),
    Stage("collapse measures", "d", FEATURES, collapse),
    Stage("writing a store", "C", CLASSES, partial(write, grows="C")),
    Stage("collapse measures", "C", CLASSES, collapse),
)


def side_name(stage: Stage, size: int) -> str:
    """The name of one measurement."""
    return f"{stage.name}, {stage.grows} = {size:,}"


def prepared(folder: Path, stage: Stage, size: int) -> Work:
    """A side that only writes what the stage reads."""
    if stage.prepare:
        stage.prepare(folder, size)
    return dict


def exponent(sizes: tuple[int, ...], runs: list[Run]) -> float:
    """The slope of log time over log size between the two largest sizes."""
    return math.log(runs[-1].seconds / runs[-2].seconds) / math.log(sizes[-1] / sizes[-2])


def row(stage: Stage, runs: list[Run]) -> str:
    """A line of the table."""

    def joined(values: Iterator[str]) -> str:
        return " / ".join(values)

    megabytes = [run.answer["bytes"] / 2**20 for run in runs if "bytes" in run.answer]
    cells = (
        stage.name,
        stage.grows,
        joined(f"{size:,}" for size in stage.sizes),
        joined(f"{run.seconds:.2g}" for run in runs),
        joined(memory([run]) for run in runs),
        joined(f"{size:,.0f}" for size in megabytes),
        f"{exponent(stage.sizes, runs):.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sides = {}
    for stage in STAGES:
        for size in stage.sizes:
            sides[side_name(stage, size)] = partial(stage.side, size=size)
            sides[f"prepare {side_name(stage, size)}"] = partial(prepared, stage=stage, size=size)
    parse(parser, sides)
    runs: dict[Stage, list[Run]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory() as name:
        for stage in STAGES:
            for size in stage.sizes:
                folder = Path(name) / f"{stage.grows}{size}"
                folder.mkdir(exist_ok=True)
                run_apart(f"prepare {side_name(stage, size)}", folder)
                runs[stage].append(run_apart(side_name(stage, size), folder))
                seconds = runs[stage][-1].seconds
                print(f"  {side_name(stage, size)}: {seconds:.2f} s", file=sys.stderr, flush=True)
    print("## How the stages grow\n")
    print(
        f"One stage at a time, each point in a process of its own, on made-up data: {PIXELS} x "
        f"{PIXELS} pixels, {C} classes; {PIXELS**2} raw pixels, {VECTOR} features for classifiers "
        f"and t-SNE; where d grows, {N:,} images; where C grows, {N:,} images of {D} features. "
        f"Scattering with J = {J}, L = {L}, order 1; ResNet18 at 32 px. Stores were read from the "
        "page cache. MiB is what the stage adds to its process at the peak. The exponent is the "
        "slope of log time over log size between the two largest sizes: 1 is linear.\n"
    )
    print("| stage | grows | sizes | seconds | MiB | MiB on disk | exponent |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for stage, measured in runs.items():
        print(row(stage, measured))
    print(
        "\nStores are read and written block by block. A data set's images are in memory as the "
        "uint8 that they are, N H W bytes, while features are computed. Classifiers and t-SNE take "
        "all features in one array, because scikit-learn and openTSNE do: N images (for t-SNE at "
        "most `embedding.n_samples` of training and as many of test images) of d features need N d "
        "/ 2^28 GiB, and what the library adds. "
        "Writing is as fast as memory until the disk's cache is full, then as fast as the disk.\n",
        flush=True,
    )


if __name__ == "__main__":
    main()
