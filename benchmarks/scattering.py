"""Wavelet scattering of 60,000 images to HDF5 against kymatio by itself.

python benchmarks/scattering.py
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import data
from harness import CORES, Row, Run, Work, compare, copy_bandwidth, device, matrix_rate

J, L, ORDER = 2, 9, 1
#: kymatio's best of 32 to 1,024 on two cores.
BEST_BATCH_SIZE = 128
#: So many images' coefficients are compared.
COMPARED = 50


def ours(folder: Path) -> Work:
    """As the rule extract_scattering does it: from a data set's file to a store."""
    from collapseflow.features.scattering import scattering
    from collapseflow.features.stores import read_rows, write_features
    from collapseflow.running.hardware import prepare_process

    prepare_process(CORES)
    transform = partial(scattering, J=J, L=L, order=ORDER, device=device(), what="scattering")
    words = ("scattering", "none", "pixels over 255")

    def work():
        write_features(folder / "mnist.h5", "train", folder / "store.h5", transform, *words)
        return lambda: {
            "items": 60_000,
            "coefficients": read_rows(folder / "store.h5")[0][:COMPARED].tolist(),
        }

    return work


def kymatio(folder: Path, batch_size: int, n: int) -> Work:
    """Nothing but kymatio on the first ``n`` images, in memory as float32."""
    import torch
    from kymatio.torch import Scattering2D

    from collapseflow.images.datasets import read_split

    torch.set_num_threads(CORES)
    images = torch.from_numpy(read_split(folder / "mnist.h5", "train").images).float() / 255
    images = images[:n].to(device())
    transform = Scattering2D(J=J, L=L, shape=(28, 28), max_order=ORDER).to(device())

    def work():
        parts = [transform(batch).cpu() for batch in images.split(batch_size)]
        return lambda: {
            "items": 60_000,
            "share": n / 60_000,
            "coefficients": torch.cat(parts)[:COMPARED].flatten(1).tolist(),
        }

    return work


def same(ours: dict, other: dict) -> tuple[bool, str]:
    """The largest difference of coefficients."""
    import numpy as np

    a, b = np.array(ours["coefficients"]), np.array(other["coefficients"])
    error = np.abs(a - b).max()
    return bool(error <= 1e-5), f"largest difference {error:.1e}"


def floor(folder: Path, runs: Mapping[str, list[Run]]) -> str:
    """Bytes of the result over the bandwidth, and the arithmetic of the transforms."""
    import math

    # Padded to 36 x 36: one transform of the image, one inverse for each of 1 + JL filters at
    # their resolutions; 5 n log2 n operations each.
    sides = [36] * (1 + L) + [18] * L + [9]
    flop = 60_000 * sum(5 * n * n * math.log2(n * n) for n in sides)
    n_bytes = 60_000 * (1 + J * L) * 49 * 4
    best = min(run.seconds for run in runs["ours, to a store"])
    rate = matrix_rate("float32")
    return (
        f"Floor: {flop / 1e9:.0f} GFLOP of Fourier transforms are {flop / rate:.1f} s at the rate "
        f"of large products in float32 ({rate / 1e9:.0f} GFLOP/s), and {n_bytes / 1e6:.0f} MB of "
        f"coefficients {n_bytes / copy_bandwidth():.2f} s at the memory's bandwidth; we end at "
        f"{best:.1f} s, {best / (flop / rate):.0f} times the arithmetic. What is between is "
        "kymatio's: small transforms do not reach the rate of a large product."
    )


if __name__ == "__main__":
    compare(
        "Scattering",
        f"60,000 images of MNIST, J = {J}, L = {L}, order {ORDER}: 931 coefficients each. Ours "
        "reads the data set's file and writes a store. The alternatives only compute: image by "
        f"image (2,000 of them, scaled up), and in batches of {BEST_BATCH_SIZE}, kymatio's best.",
        {
            "ours, to a store": ours,
            "kymatio, image by image": partial(kymatio, batch_size=1, n=2_000),
            "kymatio, bare": partial(kymatio, batch_size=BEST_BATCH_SIZE, n=60_000),
        },
        [
            Row("ours, to a store", "kymatio, image by image", 5, same),
            Row("ours, to a store", "kymatio, bare", 1.1, same, at_most=True),
        ],
        lambda folder: data.write_dataset("mnist", folder / "mnist.h5"),
        floor,
        per_second="images",
    )
