"""Writing and reading feature stores, against NumPy's own files."""

import os
import statistics
from unittest import mock

import numpy as np

from harness import CORES, Row, compare, copy_bandwidth

N, D, BATCH = 60_000, 3_136, 256


def prepare(folder):
    """Seeded features as NumPy's file and as a store."""
    rng = np.random.default_rng(0)
    np.save(folder / "features.npy", rng.standard_normal((N, D), dtype=np.float32))
    writer(folder / "features.h5", np.load(folder / "features.npy"))()


def writer(path, features):
    """As an extraction writes: batch by batch."""
    from collapseflow.features.stores import PROVENANCE, write_store

    provenance = dict.fromkeys(PROVENANCE, "synthetic")
    numbers = np.arange(N)

    def write():
        batches = ((features[row : row + BATCH], None) for row in range(0, N, BATCH))
        write_store(path, batches, numbers % 10, numbers, provenance)
        return {"file": str(path)}

    return write


def load_and_clear(folder, output):
    """The features in memory, the output of the last round gone, the disk at rest."""
    features = np.load(folder / "features.npy")
    output.unlink(missing_ok=True)
    os.sync()
    return features


def ours_writing(folder):
    output = folder / "written.h5"
    return writer(output, load_and_clear(folder, output))


def ours_writing_without_waiting(folder):
    """To tell apart what waiting for the disk costs; the workflow always waits."""
    work = ours_writing(folder)

    def unsynced():
        with mock.patch("os.fsync"):
            return work()

    return unsynced


def numpy_writing(folder):
    output = folder / "written.npy"
    features = load_and_clear(folder, output)

    def work():
        np.save(output, features)
        return {"file": str(output)}

    return work


def numpy_writing_to_the_disk(folder):
    output = folder / "synced.npy"
    features = load_and_clear(folder, output)

    def work():
        with open(output, "wb") as file:
            np.save(file, features)
            file.flush()
            os.fsync(file.fileno())
        return {"file": str(output)}

    return work


def ours_streaming(folder):
    from collapseflow.features.stores import iterate

    path = folder / "features.h5"

    def work():
        rows = sum(len(labels) for _, labels, _ in iterate(path))
        return {"file": str(path), "rows": rows}

    return work


def ours_reading(folder):
    from collapseflow.features.stores import read_rows

    path = folder / "features.h5"

    def work():
        return {"file": str(path), "rows": len(read_rows(path, threads=CORES)[0])}

    return work


def numpy_reading(folder):
    path = folder / "features.npy"

    def work():
        return {"file": str(path), "rows": len(np.load(path))}

    return work


def same_files(ours, other):
    """Read both files, in both of our ways: comparing is not timed."""
    from collapseflow.features.stores import iterate, read_rows

    expected = np.load(other["file"])
    equal = np.array_equal(read_rows(ours["file"])[0], expected)
    row = 0
    for features, *_ in iterate(ours["file"]):
        equal &= np.array_equal(features, expected[row : row + len(features)])
        row += len(features)
    return bool(equal) and row == N, "equal bit by bit" if equal else "not equal"


def floor(folder, runs):
    n_bytes = 4 * N * D
    bandwidth = copy_bandwidth()

    def median(side):
        return statistics.median(run.seconds for run in runs[side])

    copying = 2 * n_bytes / bandwidth
    syncing = median("write_store") - median("write_store, no fsync")
    return (
        f"{n_bytes / 1e9:.2f} GB are copied once, from or to the page cache: at "
        f"{bandwidth / 1e9:.1f} GB/s of one core at least {copying:.3f} s; writing takes us "
        f"{median('write_store') / copying:.1f} times as long, streaming "
        f"{median('iterate') / copying:.1f} times, reading into fresh memory "
        f"{median('read_rows') / copying:.1f} times. A store is on the disk when it is written, "
        f"which np.save does not wait for: that alone takes {syncing:.2f} s here, and the row "
        "without it shows the rest."
    )


if __name__ == "__main__":
    compare(
        "Feature stores",
        f"{N:,} x {D:,} features are written in batches of {BATCH} to a file on the disk, with "
        "checksums, and read back from the page cache, checked.",
        {
            "write_store": ours_writing,
            "write_store, no fsync": ours_writing_without_waiting,
            "np.save": numpy_writing,
            "np.save, then fsync": numpy_writing_to_the_disk,
            "iterate": ours_streaming,
            "read_rows": ours_reading,
            "np.load": numpy_reading,
        },
        [
            Row("write_store", "np.save", 1.3, same_files, at_most=True),
            Row("write_store, no fsync", "np.save", 1.3, same_files, at_most=True),
            Row("write_store", "np.save, then fsync", 1.3, same_files, at_most=True),
            Row("iterate", "np.load", 1.3, same_files, at_most=True),
            Row("read_rows", "np.load", 1.3, same_files, at_most=True),
        ],
        prepare=prepare,
        floor=floor,
        rounds=9,
    )
