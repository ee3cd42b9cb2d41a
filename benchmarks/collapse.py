"""NC1 and the parts of NC2 of neural collapse from a feature store, against the dense formula."""

import os
from itertools import combinations

import h5py
import numpy as np

from harness import CORES, Row, compare, copy_bandwidth, matrix_rate

N, D, C = 60_000, 4_096, 10
MEASURES = ("nc1", "nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle")


def prepare(folder):
    """Features around ten random means, written batch by batch."""
    from collapseflow.features.stores import PROVENANCE, write_store

    rng = np.random.default_rng(0)
    labels = rng.integers(0, C, N)
    means = rng.standard_normal((C, D), dtype=np.float32)

    def batches():
        for row in range(0, N, 256):
            mine = labels[row : row + 256]
            yield means[mine] + rng.standard_normal((len(mine), D), dtype=np.float32), None

    write_store(
        folder / "store.h5", batches(), labels, np.arange(N), dict.fromkeys(PROVENANCE, "synthetic")
    )


def ours(folder):
    from collapseflow.measures.collapse import measure_stores

    def work():
        answer = measure_stores({"train": str(folder / "store.h5")}, threads=CORES)["train"]
        return {name: answer[name] for name in MEASURES}

    return work


def dense(folder):
    """Equations 1 to 4 of report A with d x d covariances, as one writes them down."""
    import scipy.linalg

    def work():
        with h5py.File(folder / "store.h5") as file:
            features, labels = file["features"][:].astype(np.float64), file["labels"][:]
        overall = features.mean(axis=0)
        within = np.zeros((D, D))
        between = np.zeros((D, D))
        centred = []
        for c in np.unique(labels):
            mine = features[labels == c]
            mean = mine.mean(axis=0)
            deviations = mine - mean
            within += deviations.T @ deviations / N
            between += np.outer(mean - overall, mean - overall) / C
            centred.append(mean - overall)
        norms = np.array([np.linalg.norm(m) for m in centred])
        cosines = np.array(
            [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in combinations(centred, 2)]
        )
        inverse = scipy.linalg.pinv(between)
        return {
            "nc1": np.trace(within @ inverse) / C,
            "nc2_equinorm": norms.std() / norms.mean(),
            "nc2_equiangularity": cosines.std(),
            "nc2_maximal_angle": np.abs(cosines + 1 / (C - 1)).mean(),
        }

    return work


def reading_once(folder):
    def work():
        with h5py.File(folder / "store.h5") as file:
            return {"shape": file["features"][:].shape}

    return work


def streaming_once(folder):
    from collapseflow.features.stores import iterate

    def work():
        return {"rows": sum(len(labels) for _, labels in iterate(folder / "store.h5"))}

    return work


def same_measures(ours, dense):
    error = max(abs(ours[name] / dense[name] - 1) for name in MEASURES)
    return error < 1e-9, f"NC1 and NC2 agree to {error:.1g}"


def no_results(ours, reading):
    return True, "reading alone has none"


def floor(folder, runs):
    n_bytes = 2 * os.path.getsize(folder / "store.h5")
    # A copy from the page cache reads and writes each byte.
    bandwidth, rate = copy_bandwidth(), matrix_rate("float64")
    operations = N * D * (1 + 2 * (C - 1))
    seconds = min(run.seconds for run in runs["collapseflow"])
    reading, computing = 2 * n_bytes / bandwidth / CORES, operations / rate
    return (
        f"Both passes copy {n_bytes / 1e9:.2f} GB from the page cache, "
        f"at least {reading:.2f} s with {CORES} cores at {bandwidth / 1e9:.1f} GB/s each, and add "
        f"and multiply {operations / 1e9:.1f} x 10⁹ numbers in float64, at least {computing:.2f} s "
        f"at the {rate / 1e9:.0f} x 10⁹ operations a second of a large matrix product. We take "
        f"{seconds / (reading + computing):.1f} times as long as the two together: features "
        "become float64 before they are added or multiplied, and a product with nine columns "
        "is bound by the memory it reads."
    )


if __name__ == "__main__":
    compare(
        "Measures of neural collapse",
        f"NC1 and the three parts of NC2 of {N:,} x {D:,} features of {C} classes, from a feature "
        "store on the disk (in the page cache) to the numbers.",
        {
            "collapseflow": ours,
            "dense formula": dense,
            "h5py, reading once": reading_once,
            "collapseflow, reading once": streaming_once,
        },
        [
            Row("collapseflow", "dense formula", 100, same_measures),
            Row("collapseflow", "h5py, reading once", 2.5, no_results, at_most=True),
        ],
        prepare=prepare,
        floor=floor,
        rounds=9,
    )
