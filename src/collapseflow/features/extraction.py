"""From a network's weights to feature stores."""

from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import torch

from collapseflow.features.inputs import NetworkKeys, own_statistics
from collapseflow.features.loading import describe_weights, open_extractor
from collapseflow.features.networks import layers_before_the_last, own_name
from collapseflow.features.preprocessing import describe
from collapseflow.features.reading import computed_in, extract
from collapseflow.features.stores import NotFiniteError, open_writer, provenance_of
from collapseflow.features.weights import weights_made_with
from collapseflow.images.datasets import SPLITS, read_info, read_split
from collapseflow.running.errors import UserError
from collapseflow.running.files import (
    atomic_folder,
    failure,
    remedy,
    require_space,
    write_failure,
)
from collapseflow.running.hardware import device_name
from collapseflow.running.words import epoch_name


class Reading(NetworkKeys):
    """How features are read from a network.

    Attributes
    ----------
    precision
        That of :meth:`~collapseflow.study.schema.Study.precision_of_reading`.
    layers
        Their names; ``penultimate`` is the input of the last layer.
    pool, batch_size
        As in a backbone of the study file.
    classes_told
        True says that the weights' last layer tells the data set's classes in their order, whatever
        the file says.
    """

    layers: Sequence[str]
    pool: str
    batch_size: int
    classes_told: bool | None = None

    def on(self, dataset: str | Path) -> "Reading":
        """How a data set is read, with its own mean and s.d. where ``normalize`` asks for them.

        Raises
        ------
        UserError
            If it has none.
        """
        own = own_statistics(self.normalize, dataset, read_info(dataset))
        return self.model_copy(update=own)

    def identity(self) -> dict[str, Any]:
        """What decides the features, JSON-like; keys that are not used are left out."""
        return self.model_dump(exclude_defaults=True)


def store(folder: str | Path, layer: str, split: str) -> Path:
    """Where the features of a layer stand in the folder of a state."""
    return Path(folder, layer, f"{split}.h5")


def weights_after(folder: str | Path, epoch: int) -> Path:
    """The file of an epoch's weights in the folder of a training: what the study has trained, or a
    link to a checkpoint from elsewhere, which may have another suffix."""
    ours = Path(folder, f"{epoch_name(epoch)}.safetensors")
    return ours if ours.exists() else next(Path(folder).glob(f"{epoch_name(epoch)}.*"), ours)


def epoch_failure(folder: str | Path, epoch: int) -> str | None:
    """Why the folder of a training lacks an epoch's weights; None if it has them.

    Raises
    ------
    UserError
        If they are missing although the training did not fail.
    """
    if weights_after(folder, epoch).exists():
        return None
    reason = failure(folder)
    if reason is None:
        there = sorted(path.stem for path in Path(folder).glob("epoch*.safetensors"))
        raise UserError(
            f"{folder}: has no weights of epoch {epoch}, only {', '.join(there) or 'none'}; "
            f"{remedy(weights_after(folder, epoch))}"
        )
    return reason


def write_state_features(
    dataset: str | Path,
    weights: str | Path,
    epoch: int,
    reading: Reading,
    device: torch.device,
    output: str | Path,
) -> None:
    """Make the folder of a state: its feature stores, or only why there are none.

    Parameters
    ----------
    weights
        A file, or the folder of a training, from which the epoch's file is taken.
    epoch
        After which the weights are; 0 are those of a start, which must give finite features.

    Raises
    ------
    UserError
        As :func:`epoch_failure` and :func:`write_network_features`.
    """
    reason = None
    if Path(weights).is_dir():
        reason = epoch_failure(weights, epoch)
        weights = weights_after(weights, epoch)
    if reason is None:
        try:
            with atomic_folder(output) as folder:
                write_network_features(dataset, weights, reading, device, folder)
            return
        except NotFiniteError as error:
            if epoch == 0:
                raise
            reason = f"the features of {error.image} after epoch {epoch} are not finite"
    with atomic_folder(output) as folder:
        write_failure(folder, reason)


def write_network_features(
    dataset: str | Path,
    weights: str | Path,
    reading: Reading,
    device: torch.device,
    folder: str | Path,
) -> None:
    """Store the features of a data set's splits at each layer in a folder (:func:`store`).

    The network sees each image once, however many layers are read. One whose last layer tells the
    data set's classes (:func:`~collapseflow.features.loading.rows_of_classes`) also predicts, and
    where that layer is linear, the stores of its input hold its weight and bias.

    Raises
    ------
    NotFiniteError
        Naming the weights, if a feature of any layer is not finite.
    TemporaryError
        With the first batch, if there is no room for all features.
    UserError
        If the weights cannot be read.
    """
    info = read_info(dataset)
    reading = reading.on(dataset)
    network = reading.architecture
    own_names = {layer: own_name(network, layer) for layer in reading.layers}
    classes = info.sha256, info.class_names, bool(reading.classes_told)
    extractor = open_extractor(network, weights, list(own_names.values()), reading.pool, *classes)
    last_inputs = layers_before_the_last(network)
    inputs = reading.inputs
    number = f"{computed_in(reading.precision, device)} on {device_name(device)}"
    description = describe_weights(network, weights, *classes)
    n_to_write = sum(info.n.values())
    try:
        for split in SPLITS:
            images = read_split(dataset, split)
            with ExitStack() as stack:
                writers = []
                for layer, name in own_names.items():
                    provenance = provenance_of(
                        dataset,
                        split,
                        f"{reading.model} {name} ({reading.pool})",
                        description,
                        f"{describe(inputs)}; computed in {number}",
                        weights_made_with(weights),
                    )
                    path = store(folder, layer, split)
                    head = extractor.head if name in last_inputs else None
                    writer = open_writer(
                        path,
                        images.labels,
                        images.ids,
                        provenance,
                        head,
                        true_labels=images.true_labels,
                        groups=images.groups,
                        names=images.names,
                    )
                    writers.append((name, stack.enter_context(writer)))
                for features, predictions in extract(
                    extractor,
                    images.images,
                    inputs.image_size,
                    inputs.normalize,
                    precision=reading.precision,
                    device=device,
                    batch_size=reading.batch_size,
                    what=f"{reading.model}, {split}",
                    resizing=inputs.resizing,
                ):
                    if n_to_write:
                        n_values = sum(prod(values.shape[1:]) for values in features.values())
                        require_space(folder, 4 * n_to_write * n_values)
                        n_to_write = 0
                    for name, writer in writers:
                        writer.add(features[name], predictions)
    except NotFiniteError as error:
        raise NotFiniteError(weights, error.image) from None
