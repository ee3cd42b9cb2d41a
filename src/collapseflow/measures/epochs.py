"""Accuracy and neural collapse at every layer after the epochs of a training."""

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from collapseflow.features.extraction import (
    Reading,
    epoch_failure,
    store,
    weights_after,
    write_state_features,
)
from collapseflow.features.networks import weights_digest
from collapseflow.features.stores import read_made_with
from collapseflow.images.datasets import SPLITS, read_info
from collapseflow.measures.collapse import measure_stores
from collapseflow.running.files import MADE_WITH, failure, made_with, remove_partial
from collapseflow.running.resume import kept_result
from collapseflow.running.words import epoch_name

logger = logging.getLogger(__name__)


def states_of_run(
    first: str | Path, weights: str | Path, last: str | Path, epochs: Iterable[int]
) -> dict[int, Path]:
    """What :func:`measure_epochs` takes, of a run whose features at both ends are stored.

    Parameters
    ----------
    first, last
        Folders with the features of the start and after the last epoch.
    weights
        Folder with the weights after each of ``epochs``, of which the largest is the last; one
        of a training that failed lacks some.

    Raises
    ------
    UserError
        As :func:`~collapseflow.features.extraction.epoch_failure`.
    """
    *between, end = sorted(epochs)
    files = {
        epoch: weights_after(weights, epoch)
        for epoch in between
        if epoch_failure(weights, epoch) is None
    }
    return {0: Path(first), **files, end: Path(last)}


def measure_epochs(
    dataset: str | Path,
    states: Mapping[int, str | Path],
    reading: Reading,
    device: torch.device,
    progress_folder: str | Path,
    code: str,
    threads: int = 1,
) -> list[dict]:
    """Measure the features of a run's states at each layer that is read.

    Features of weights serve nothing else: they are stored while they are measured, and deleted.

    Parameters
    ----------
    states
        By epoch: the folder of feature stores that
        :func:`~collapseflow.features.extraction.write_state_features` makes, or a file of weights.
    progress_folder, code
        Where finished measures of weights are kept, and a digest of the code that makes them: an
        epoch's measures are taken from there as long as data, weights, reading and code are the
        same.

    Returns
    -------
    One dictionary an epoch: ``epoch``, ``made_with``, and ``layers``: for each layer what
    :func:`~collapseflow.measures.collapse.measure_stores` says of ``train`` and ``test``. Where
    the state has failed, each is ``{"failed": reason}``.
    """
    progress_folder = Path(progress_folder)
    features = progress_folder / "features"
    data = read_info(dataset).sha256

    def measure_folder(folder: str | Path) -> dict[str, Any]:
        reason = failure(folder)
        if reason is not None:
            of_layer = {split: {"failed": reason} for split in SPLITS}
            return {MADE_WITH: made_with(), "layers": dict.fromkeys(reading.layers, of_layer)}
        stores = {
            layer: {split: store(folder, layer, split) for split in SPLITS}
            for layer in reading.layers
        }
        of_stores = (
            read_made_with(path) for by_split in stores.values() for path in by_split.values()
        )
        layers = {layer: measure_stores(of_layer, threads) for layer, of_layer in stores.items()}
        return {MADE_WITH: made_with(*of_stores), "layers": layers}

    def measure_weights(path: str | Path, epoch: int) -> dict[str, Any]:
        try:
            write_state_features(dataset, path, epoch, reading, device, features)
            return measure_folder(features)
        finally:
            shutil.rmtree(features, ignore_errors=True)

    def measure(path: str | Path, epoch: int) -> dict[str, Any]:
        if Path(path).is_dir():
            return measure_folder(path)
        depends_on = {
            "dataset": data,
            "weights": weights_digest(path),
            "reading": asdict(reading),
            "code": code,
        }
        part = progress_folder / f"{epoch_name(epoch)}.json"
        return kept_result(part, depends_on, lambda: measure_weights(path, epoch))

    remove_partial(features)
    shutil.rmtree(features, ignore_errors=True)
    measures = []
    for epoch, path in sorted(states.items()):
        measures.append({"epoch": epoch, **measure(path, epoch)})
        logger.info("epoch %d of %d is measured", epoch, max(states))
    return measures
