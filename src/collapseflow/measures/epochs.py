"""The statistics of features at every layer: after the epochs of a training, or of a folder."""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from collapseflow.features.extraction import (
    Reading,
    epoch_failure,
    store,
    weights_after,
    write_state_features,
)
from collapseflow.features.stores import read_made_with
from collapseflow.features.weights import weights_digest
from collapseflow.images.datasets import SPLITS, read_info
from collapseflow.measures.statistics import (
    read_statistics,
    reduce_stores,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.running.errors import UserError
from collapseflow.running.files import atomic_folder, failure, remove_partial
from collapseflow.running.resume import kept_result, publish
from collapseflow.running.words import epoch_name

logger = logging.getLogger(__name__)


def reduce_features(
    folder: str | Path, layers: Iterable[str], output: str | Path, threads: int = 1
) -> None:
    """Write the statistics of a folder of feature stores, or why it has none.

    Parameters
    ----------
    folder
        What :func:`~collapseflow.features.extraction.write_state_features` makes of a state, or
        the folder of raw pixels or scattering coefficients.
    layers
        The state's; ``""`` alone where the stores stand in the folder itself.
    output
        As :func:`~collapseflow.measures.statistics.write_statistics`.

    Raises
    ------
    UserError
        If a store is missing or damaged.
    """
    reason = failure(folder)
    if reason is not None:
        write_failed_statistics(output, reason)
        return
    stores = {layer: {split: store(folder, layer, split) for split in SPLITS} for layer in layers}
    versions = {
        version
        for of_layer in stores.values()
        for path in of_layer.values()
        for version in read_made_with(path)
    }
    statistics = {layer: reduce_stores(of_layer, threads) for layer, of_layer in stores.items()}
    write_statistics(output, statistics, versions)


def reduce_epochs(
    dataset: str | Path,
    weights: str | Path,
    last: str | Path,
    epochs: Iterable[int],
    reading: Reading,
    device: torch.device,
    progress_folder: str | Path,
    code: str,
    output: str | Path,
    threads: int = 1,
) -> None:
    """Write the statistics of a run's states at each layer that is read, a file an epoch.

    The features of all epochs but the last serve nothing else: they are stored while they are
    reduced, and deleted.

    Parameters
    ----------
    weights
        Folder with the weights after each of ``epochs``, of which the largest is the last; one
        of a training that failed lacks some.
    last
        Folder with the features after the last epoch.
    progress_folder, code
        Where finished statistics are kept, and a digest of the code that makes them: an epoch's
        are taken from there as long as data, weights, reading and code are the same.
    output
        Folder for ``epochNNN.npz`` of each epoch (:func:`reduce_features`), which say why there
        are no statistics where a state has failed. It appears whole.

    Raises
    ------
    UserError
        As :func:`~collapseflow.features.extraction.epoch_failure`,
        :func:`~collapseflow.features.extraction.write_network_features` and
        :func:`reduce_features`.
    """
    progress_folder = Path(progress_folder)
    features = progress_folder / "features"
    data = read_info(dataset).sha256
    reading = reading.on(dataset)
    *between, end = sorted(epochs)

    def keep_statistics(epoch: int) -> Path:
        """The kept statistics of an epoch, made unless they are there and whole."""
        path = weights_after(weights, epoch)
        depends_on = {
            "dataset": data,
            "weights": weights_digest(path),
            "reading": reading.identity(),
            "code": code,
        }
        record = progress_folder / f"{epoch_name(epoch)}.json"
        part = record.with_suffix(".npz")

        def make() -> None:
            # While the part is neither the old one nor whole, no record vouches for it.
            record.unlink(missing_ok=True)
            remove_partial(part)
            try:
                write_state_features(dataset, path, epoch, reading, device, features)
                reduce_features(features, reading.layers, part, threads)
            finally:
                shutil.rmtree(features, ignore_errors=True)

        if not _is_whole(part):
            record.unlink(missing_ok=True)
        kept_result(record, depends_on, make)
        return part

    remove_partial(features)
    shutil.rmtree(features, ignore_errors=True)
    with atomic_folder(output) as folder:
        for epoch in [*between, end]:
            path = folder / f"{epoch_name(epoch)}.npz"
            if epoch == end:
                reduce_features(last, reading.layers, path, threads)
            elif reason := epoch_failure(weights, epoch):
                write_failed_statistics(path, reason)
            else:
                publish(keep_statistics(epoch), path)
            logger.info("epoch %d of %d is measured", epoch, end)


def _is_whole(part: Path) -> bool:
    try:
        read_statistics(part)
    except UserError:
        return False
    return True
