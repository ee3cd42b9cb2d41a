"""Accuracy and neural collapse after every epoch of a fine-tuning."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from collapseflow.features.extraction import Reading, write_network_features
from collapseflow.features.networks import weights_digest
from collapseflow.features.stores import read_made_with
from collapseflow.images.datasets import read_info
from collapseflow.measures.collapse import measure_stores
from collapseflow.running.files import MADE_WITH, made_with, remove_partial
from collapseflow.running.resume import kept_result

logger = logging.getLogger(__name__)


def measure_epochs(
    dataset: str | Path,
    first: Mapping[str, str | Path],
    weights: Sequence[str | Path],
    last: Mapping[str, str | Path],
    reading: Reading,
    device: torch.device,
    progress_folder: str | Path,
    code: str,
    threads: int = 1,
) -> list[dict]:
    """Measure the features before fine-tuning, after each epoch between, and after the last.

    The features of the epochs between serve nothing else: they are stored while they are
    measured, and deleted.

    Parameters
    ----------
    first, last
        Feature stores by split: before fine-tuning and after its last epoch.
    weights
        The weights after the epochs between.
    progress_folder, code
        Where finished measures are kept, and a digest of the code that makes them: an epoch's
        measures are taken from there as long as data, weights, reading and code are the same.

    Returns
    -------
    One dictionary an epoch, from 0: ``epoch``, ``made_with``, and what
    :func:`~collapseflow.measures.collapse.measure_stores` says of ``train`` and ``test``.
    """
    folder = Path(progress_folder)
    data = read_info(dataset).sha256

    def measured(stores: Mapping[str, str | Path]) -> dict[str, Any]:
        of_stores = map(read_made_with, stores.values())
        return {**measure_stores(stores, threads), MADE_WITH: made_with(*of_stores)}

    def measure_weights(path: str | Path) -> dict[str, Any]:
        stores = {split: folder / f"{split}.h5" for split in first}
        try:
            write_network_features(dataset, path, reading, device, stores)
            return measured(stores)
        finally:
            for store in stores.values():
                store.unlink(missing_ok=True)

    for split in first:
        remove_partial(folder / f"{split}.h5")

    measures = []

    def add(of_epoch: dict[str, Any]) -> None:
        logger.info("epoch %d of %d is measured", len(measures), len(weights) + 1)
        measures.append(of_epoch)

    add(measured(first))
    for epoch, path in enumerate(weights, start=1):
        depends_on = {
            "dataset": data,
            "weights": weights_digest(path),
            "reading": asdict(reading),
            "code": code,
        }
        part = folder / f"epoch{epoch:03d}.json"
        add(kept_result(part, depends_on, lambda path=path: measure_weights(path)))
    add(measured(last))
    return [{"epoch": epoch, **of_epoch} for epoch, of_epoch in enumerate(measures)]
