"""From a network's weights to feature stores."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from collapseflow.features.networks import (
    describe_weights,
    extract,
    open_extractor,
    weights_made_with,
)
from collapseflow.features.preprocessing import describe
from collapseflow.features.stores import write_features
from collapseflow.images.datasets import read_info
from collapseflow.running.hardware import precision_name


@dataclass(frozen=True)
class Reading:
    """How features are read from a network: the keys of a backbone in the study file, and the
    precision of :meth:`~collapseflow.study.schema.Study.reading_precision`."""

    model: str
    layer: str | None
    pool: Literal["average", "flatten"]
    image_size: int
    normalize: Literal["imagenet", "none"]
    precision: Literal["float32", "bfloat16"]
    batch_size: int


def write_network_features(
    dataset: str | Path,
    weights: str | Path,
    reading: Reading,
    device: torch.device,
    outputs: Mapping[str, str | Path],
) -> None:
    """Store the features of a data set's splits; ``outputs`` are the stores by split."""
    task = read_info(dataset).sha256
    extractor = open_extractor(reading.model, weights, reading.layer, reading.pool, task)
    preprocessing = {"image_size": reading.image_size, "normalize": reading.normalize}
    computed_in = precision_name(reading.precision, device)
    for split, path in outputs.items():
        write_features(
            dataset,
            split,
            path,
            partial(
                extract,
                extractor,
                **preprocessing,
                precision=reading.precision,
                device=device,
                batch_size=reading.batch_size,
                what=f"{reading.model}, {split}",
            ),
            f"{reading.model} {extractor.layer} ({reading.pool})",
            describe_weights(weights),
            f"{describe(**preprocessing)}; computed in {computed_in}",
            weights_made_with(weights),
        )
