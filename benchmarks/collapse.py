"""The measures of neural collapse from a feature store, against the formulas with d x d matrices.

python benchmarks/collapse.py
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np

import data
from harness import CORES, Row, Run, Work, compare, copy_bandwidth, device, matrix_rate
from training import starting_network


@dataclass(frozen=True)
class Features:
    """Synthetic features around random class means, with a head that nearly is these means."""

    n: int
    d: int
    classes: int

    @property
    def name(self) -> str:
        return f"{self.d:,} features, {self.classes:,} classes"

    def store(self, folder: Path) -> Path:
        return folder / f"{self.d}-{self.classes}.h5"


CASES = (Features(60_000, 4_096, 10), Features(60_000, 512, 10), Features(60_000, 512, 1_000))
#: The measures that the accumulators have too.
SHARED = ("nc1", "nc1_quotient", "cdnv", "etf_distance", "etf_distance_duality", "nc4")
#: Vectors in a batch of a training loop, and what the loop may keep of them in memory.
BATCH, LOOP_BYTES = 128, 16 * 2**20
#: Of training and test images of Fashion-MNIST, and their size.
N_IMAGES, IMAGE_SIZE = (4_000, 1_000), 64
#: ResNet18's first convolution, both of each block, and the input of its last layer.
LAYERS = (
    "relu",
    *(f"layer{i}.{j}.{name}" for i in range(1, 5) for j in (0, 1) for name in ("relu", "relu_1")),
    "penultimate",
)
#: What the suite may add to its process, at the peak.
MEBIBYTES = 64
EVERY_LAYER, FORWARD = "ResNet18, statistics of 18 layers", "ResNet18, forward pass"


def prepare(folder: Path) -> None:
    """The stores, written batch by batch, and ResNet18's images and random weights."""
    from collapseflow.features.weights import save_state

    for case in CASES:
        write_features(case, case.store(folder))
    data.write_dataset("fashion_mnist", folder / "images.h5", *N_IMAGES)
    state = starting_network("resnet18").state_dict()
    save_state(folder / "resnet18.safetensors", state, {"weights": "random"})


def write_features(case: Features, path: Path) -> None:
    """Classes that overlap, so that not all are told apart; the network's predictions with them."""
    from collapseflow.features.stores import PROVENANCE, open_writer

    rng = np.random.default_rng(0)
    labels = rng.integers(0, case.classes, case.n)
    means = rng.standard_normal((case.classes, case.d), dtype=np.float32)
    means *= np.float32(3 / case.d**0.5)
    weight = means + 0.01 * rng.standard_normal(means.shape, dtype=np.float32)
    bias = 0.1 * rng.standard_normal(case.classes, dtype=np.float32)
    provenance = dict.fromkeys(PROVENANCE, "synthetic")
    with open_writer(path, labels, np.arange(case.n), provenance, (weight, bias)) as writer:
        for row in range(0, case.n, 256):
            mine = labels[row : row + 256]
            features = means[mine] + rng.standard_normal((len(mine), case.d), dtype=np.float32)
            writer.add(features, (features @ weight.T + bias).argmax(axis=1))


def suite(folder: Path, case: Features) -> Work:
    """All measures."""
    from collapseflow.measures.collapse import measure
    from collapseflow.measures.statistics import reduce_stores

    return lambda: measure(reduce_stores({"train": case.store(folder)}, CORES)["train"])


def shared(folder: Path, case: Features) -> Work:
    """The measures that the accumulators have too, with products in float32."""
    from collapseflow.features.stores import iterate, read_head
    from collapseflow.measures.collapse import MEASURES
    from collapseflow.measures.statistics import reduce_stream

    def work() -> dict:
        stream, head = partial(iterate, case.store(folder)), read_head(case.store(folder))
        statistics, _ = reduce_stream(
            stream, CORES, head=head, parts=("nearest",), products="float32"
        )
        return {name: MEASURES[name](statistics) for name in SHARED}

    return work


def loop(folder: Path, case: Features) -> Work:
    """The same from batches inside a loop, of which most are kept in a temporary file."""
    from collapseflow.measures import Collapse

    def work() -> dict:
        collapse = Collapse(case.classes, measures=SHARED, memory=LOOP_BYTES)
        # In place of the network's logits, of which the largest counts.
        logits = np.zeros((BATCH, case.classes), np.float32)
        with h5py.File(case.store(folder)) as file:
            head = file["head_weight"][:], file["head_bias"][:]
            features = file["features"]
            labels, predictions = (file[name][:] for name in ("labels", "predictions"))
            for row in range(0, case.n, BATCH):
                rows = slice(row, row + BATCH)
                of_batch = np.arange(len(labels[rows])), predictions[rows]
                logits[of_batch] = 1
                collapse.update(features[rows], labels[rows], logits[: len(labels[rows])])
                logits[of_batch] = 0
        return collapse.compute(head)

    return work


def reading(folder: Path, case: Features) -> Work:
    """What every checked reading of a store takes, on one thread."""
    from collapseflow.features.stores import iterate

    return lambda: {"rows": sum(len(labels) for _, labels, *_ in iterate(case.store(folder)))}


def dense(folder: Path, case: Features) -> Work:
    """The formulas of all measures with d x d covariances, in float64, as one writes them down."""

    def work() -> dict:
        with h5py.File(case.store(folder)) as file:
            return dense_measures(
                file["features"][:].astype(np.float64),
                file["labels"][:],
                file["predictions"][:],
                file["head_weight"][:].astype(np.float64),
            )

    return work


def dense_measures(
    features: np.ndarray, labels: np.ndarray, predictions: np.ndarray, weight: np.ndarray
) -> dict[str, float]:
    """From features (N, d), labels 0 to C - 1 and predictions (N,), and the head's W (C, d)."""
    from scipy.spatial.distance import cdist

    n, d = features.shape
    n_classes = len(weight)
    counts = np.bincount(labels)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(n_classes)])
    overall = features.mean(axis=0)
    centred, around_all = means - means.mean(axis=0), means - overall
    distances = cdist(means, means)
    within, balanced = np.zeros((2, d, d))
    variances = np.zeros(n_classes)
    directional = 0.0
    nearest = np.zeros(n, int)
    for c in range(n_classes):
        mine = features[labels == c]
        deviations = mine - means[c]
        covariance = deviations.T @ deviations / len(mine)
        within += counts[c] / n * covariance
        balanced += covariance / n_classes
        variances[c] = np.trace(covariance)
        others = np.arange(n_classes) != c
        directions = (means[others] - means[c]) / distances[c, others, None]
        along = ((directions @ covariance) * directions).sum(axis=1)
        directional += (along / distances[c, others] ** 2).sum()
        nearest[labels == c] = cdist(mine, means).argmin(axis=1)
    between = around_all.T @ around_all / n_classes
    values, vectors = np.linalg.eigh(between)
    along = ((vectors.T @ within) * vectors.T).sum(axis=1)
    relative = max(n_classes, d) * np.finfo(np.float64).eps
    kept, report_a = values > relative * values[-1], values > 1e-5

    def quotient(within: np.ndarray, between: np.ndarray) -> float:
        inverse = np.linalg.pinv(between, rcond=relative, hermitian=True)
        return np.trace(within @ inverse)

    pairs = list(combinations(range(n_classes), 2))
    rows, columns = np.array(pairs).T
    answer = {
        "nc1": (along[kept] / values[kept]).sum() / n_classes,
        "nc1_report_a": (along[report_a] / values[report_a]).sum() / n_classes,
        "nc1_quotient": np.trace(within) / np.trace(between),
        "nc1_balanced": quotient(balanced, centred.T @ centred / n_classes) / n_classes,
        "log_fuzziness": np.log(quotient(within, (around_all.T * counts) @ around_all / n)),
        "cdnv": np.mean(
            (variances[rows] + variances[columns]) / (2 * distances[rows, columns] ** 2)
        ),
        "directional_cdnv": directional / (n_classes * (n_classes - 1)),
        "etf_distance_duality": distance_to_simplex(weight @ centred.T),
        "nc3": np.linalg.norm(weight / np.linalg.norm(weight) - centred / np.linalg.norm(centred))
        ** 2,
        "nc3_cosine": np.mean(np.diag(normalised(weight) @ normalised(centred).T)),
        "nc4": np.mean(predictions == nearest),
        "accuracy_nearest_mean": np.mean(nearest == labels),
        "norm_features": np.mean(np.linalg.norm(features, axis=1)),
        "norm_means": np.mean(np.linalg.norm(centred, axis=1)),
        "norm_global_mean": np.linalg.norm(overall),
        "norm_head": np.linalg.norm(weight),
        "accuracy": np.mean(predictions == labels),
    }
    for suffix, vectors in (("", centred), ("_report_a", around_all), ("_head", weight)):
        norms = np.linalg.norm(vectors, axis=1)
        unit = normalised(vectors)
        cosines = (unit @ unit.T)[rows, columns]
        answer |= {
            f"nc2_equinorm{suffix}": norms.std() / norms.mean(),
            f"nc2_equiangularity{suffix}": cosines.std(),
            f"nc2_maximal_angle{suffix}": np.mean(np.abs(cosines + 1 / (n_classes - 1))),
        }
        if suffix == "_report_a":
            continue
        answer |= {
            f"etf_distance{suffix}": distance_to_simplex(vectors @ vectors.T),
            f"hyperspherical_uniformity{suffix}": np.mean(
                -np.log(cdist(unit, unit)[rows, columns])
            ),
        }
    return {name: float(value) for name, value in answer.items()}


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def distance_to_simplex(gram: np.ndarray) -> float:
    """Of a matrix of inner products (C, C), both of norm 1."""
    n_classes = len(gram)
    simplex = (np.eye(n_classes) - 1 / n_classes) / np.sqrt(n_classes - 1)
    return np.linalg.norm(gram / np.linalg.norm(gram) - simplex)


def accumulators(folder: Path, case: Features, batch: int = BATCH) -> Work:
    """The quantities of the package neural-collapse in its shapes: sums of batches in float32 by
    PyTorch, a d x d covariance, and its pseudo-inverse; no directional CDNV, no bias. Directions of
    class means are around their own mean, as ours."""
    import torch

    torch.set_num_threads(CORES)

    def work() -> dict:
        with h5py.File(case.store(folder)) as file:
            features, labels, weight = (
                torch.from_numpy(file[name][:]) for name in ("features", "labels", "head_weight")
            )
        batches = list(zip(features.split(batch), labels.split(batch), strict=True))
        sums = torch.zeros(case.classes, case.d)
        counts = torch.zeros(case.classes)
        for x, y in batches:
            members = torch.nn.functional.one_hot(y, case.classes).float()
            sums += members.T @ x
            counts += members.sum(0)
        means = sums / counts[:, None]
        centred = means - counts @ means / counts.sum()
        directions = means - means.mean(0)
        covariance = torch.zeros(case.d, case.d)
        squares = torch.zeros(case.classes)
        agreeing = 0
        for x, y in batches:
            deviations = x - means[y]
            covariance += deviations.T @ deviations / len(features)
            members = torch.nn.functional.one_hot(y, case.classes).float()
            squares += (members.T @ deviations**2).sum(1)
            distances = (means**2).sum(1) - 2 * x @ means.T
            agreeing += int(((x @ weight.T).argmax(1) == distances.argmin(1)).sum())
        between = centred.T @ centred / case.classes
        variances = squares / counts
        grid = (variances[:, None] + variances) / (2 * torch.cdist(means, means) ** 2)
        answer = {
            "nc1": torch.trace(torch.linalg.pinv(between) @ covariance) / case.classes,
            "nc1_quotient": torch.trace(covariance) / torch.trace(between),
            "cdnv": grid[tuple(torch.triu_indices(case.classes, case.classes, 1))].mean(),
            "etf_distance": distance_to_simplex((directions @ directions.T).double().numpy()),
            "etf_distance_duality": distance_to_simplex((weight @ directions.T).double().numpy()),
            "agreement without bias": agreeing / len(features),
        }
        return {name: float(value) for name, value in answer.items()}

    return work


def forward_pass(folder: Path) -> Work:
    """Every image through ResNet18 once; only the input of the last layer is looked at."""
    from collapseflow.features.loading import open_extractor
    from collapseflow.features.networks import own_name
    from collapseflow.features.reading import extract
    from collapseflow.images.datasets import SPLITS, read_split
    from collapseflow.running.hardware import prepare_process

    prepare_process(CORES)
    layer = own_name("resnet18", "penultimate")

    def work() -> dict:
        weights = folder / "resnet18.safetensors"
        extractor = open_extractor("resnet18", weights, [layer], "average", task="")
        norms = []
        for split in SPLITS:
            images = read_split(folder / "images.h5", split).images
            for features, _ in extract(
                extractor, images, IMAGE_SIZE, "imagenet", "float32", device(), 64, "ResNet18"
            ):
                norms += np.linalg.norm(features[layer], axis=1).tolist()
        return {"items": len(norms), "norm": float(np.mean(norms))}

    return work


def every_layer(folder: Path) -> Work:
    """One pass that stores the features of all layers, and the statistics of each."""
    from collapseflow.features.extraction import Reading, store, write_network_features
    from collapseflow.images.datasets import SPLITS
    from collapseflow.measures.statistics import reduce_stores
    from collapseflow.running.hardware import prepare_process

    prepare_process(CORES)
    reading = Reading(
        model="resnet18",
        layers=LAYERS,
        pool="average",
        image_size=IMAGE_SIZE,
        normalize="imagenet",
        precision="float32",
        batch_size=64,
    )

    def work() -> dict:
        dataset, weights = folder / "images.h5", folder / "resnet18.safetensors"
        write_network_features(dataset, weights, reading, device(), folder / "state")
        statistics = {
            layer: reduce_stores(
                {split: store(folder / "state", layer, split) for split in SPLITS}, CORES
            )
            for layer in LAYERS
        }
        # Beside them stand those of a sample of the training images.
        last = [statistics["penultimate"][split] for split in SPLITS]
        n = sum(of_split.n_samples for of_split in last)
        return {"items": n, "norm": float(sum(of_split.norms.sum() for of_split in last)) / n}

    return work


def same_measures(ours: dict, dense: dict) -> tuple[bool, str]:
    """All of them, in float64."""
    sizes = {"rank", "n_classes", "n_samples", "n_features", "fewest_images"}
    missing = sorted(set(dense) ^ (set(ours) - sizes))
    if missing:
        return False, f"only on one side: {', '.join(missing)}"
    error = max(abs(ours[name] - value) / max(abs(value), 1e-3) for name, value in dense.items())
    return error < 1e-9, f"{len(dense)} measures agree to {error:.1g}"


def similar_measures(ours: dict, other: dict) -> tuple[bool, str]:
    """Those that both have; the other side is in float32."""
    both = set(ours) & set(other)
    error = max(abs(ours[name] / other[name] - 1) for name in both)
    return error < 1e-2, f"{len(both)} measures agree to {error:.1g}"


def same_norm(ours: dict, other: dict) -> tuple[bool, str]:
    """The mean norm of the last features, of as many images."""
    error = abs(ours["norm"] / other["norm"] - 1)
    return error < 1e-4 and ours["items"] == other["items"], f"mean norms agree to {error:.1g}"


def no_results(ours: dict, reading: dict) -> tuple[bool, str]:
    return True, "reading alone has none"


def sides() -> dict:
    """By name; of each case the suite, a part of it, one reading and the two alternatives."""
    found = {}
    for case in CASES:
        found |= {
            f"all measures, {case.name}": partial(suite, case=case),
            f"shared measures, {case.name}": partial(shared, case=case),
            f"shared measures in a loop, {case.name}": partial(loop, case=case),
            f"one reading, {case.name}": partial(reading, case=case),
            f"d x d formulas, {case.name}": partial(dense, case=case),
            f"accumulators, {case.name}": partial(accumulators, case=case),
        }
    return found | {EVERY_LAYER: every_layer, FORWARD: forward_pass}


def rows() -> list[Row]:
    """The goals."""
    found = []
    for case in CASES:
        ours = f"all measures, {case.name}"
        found += [
            Row(ours, f"one reading, {case.name}", 3, no_results, at_most=True),
            Row(ours, f"d x d formulas, {case.name}", 100, same_measures),
            Row(ours, f"accumulators, {case.name}", 10, similar_measures),
            *(
                Row(f"{part}, {case.name}", f"accumulators, {case.name}", 3, similar_measures)
                for part in ("shared measures", "shared measures in a loop")
            ),
        ]
    return [*found, Row(EVERY_LAYER, FORWARD, 1.1, same_norm, at_most=True)]


def floor(folder: Path, runs: Mapping[str, list[Run]]) -> str:
    """Memory against its goal, and how near we are to what the hardware does in the time."""
    # A copy from the page cache reads and writes each byte.
    bandwidth, rate = copy_bandwidth(), matrix_rate("float64")
    words = [
        f"In large copies a core moves {bandwidth / 1e9:.1f} GB/s, and large matrix products of "
        f"float64 do {rate / 1e9:.0f} x 10⁹ operations a second."
    ]
    for case in CASES:
        measured = runs[f"all measures, {case.name}"]
        seconds = min(run.seconds for run in measured)
        peaks = {
            part: max(run.mebibytes for run in runs[f"{part}, {case.name}"])
            for part in ("all measures", "shared measures", "shared measures in a loop")
        }
        memory = ", ".join(
            f"{part} {peak:.0f} MiB{'' if peak <= MEBIBYTES else ' (missed)'}"
            for part, peak in peaks.items()
        )
        n_bytes = 2 * os.path.getsize(case.store(folder))
        rank = min(case.classes - 1, case.d)
        # The class sums; the projection, which means that span the whole space need not; along the
        # directions to all means; the scatter, of which half is enough.
        operations = case.n * (
            case.d + 2 * case.d * rank * (rank < case.d) + 2 * rank * case.classes + rank**2
        )
        moving, computing = 2 * n_bytes / bandwidth / CORES, operations / rate
        words.append(
            f"{case.name}: to the process add (goal: at most {MEBIBYTES}) {memory}; for all "
            f"measures, two passes copy {n_bytes / 1e9:.2f} GB, at least {moving:.2f} "
            f"s on {CORES} cores, and compute {operations / 1e9:.1f} x 10⁹ operations, at least "
            f"{computing:.2f} s: we take {seconds / (moving + computing):.1f} times as long as "
            "both together."
        )
    return " ".join(words)


if __name__ == "__main__":
    compare(
        "Measures of neural collapse",
        "All measures of neural collapse from feature stores of "
        + " and ".join(f"{case.n:,} images, {case.name}" for case in CASES)
        + ", on the disk (in the page cache), to the numbers; against one checked reading on one "
        "thread, against the formulas with d x d matrices in float64, and against the sums of "
        "batches with a d x d covariance of the package neural-collapse, in float32, which has a "
        "part of the measures: the shared ones are that part alone, with products of float32, from "
        f"the store, and in a loop in batches of {BATCH}, of which {LOOP_BYTES // 2**20} MiB are "
        "kept in memory and all else in a temporary file. And the statistics of 18 layers of "
        f"ResNet18 on {sum(N_IMAGES):,} images at {IMAGE_SIZE} px, with its forward pass, against "
        "that alone.",
        sides(),
        rows(),
        prepare=prepare,
        floor=floor,
    )
