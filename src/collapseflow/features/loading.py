"""From a file of weights to a network: what fits which architecture, and how it is opened."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from collapseflow.features.families import family_of
from collapseflow.features.known import Model
from collapseflow.features.networks import (
    as_built,
    build,
    ends_in_head,
    head_layer,
    head_parameters,
    poolings,
    skeleton,
)
from collapseflow.features.reading import FeatureExtractor
from collapseflow.features.weights import class_names, digest_of, first_of, load_state
from collapseflow.running.errors import UserError

logger = logging.getLogger(__name__)

#: What PyTorch puts into the names of a module that it has compiled, sharded or checkpointed.
WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
#: Weights saved by PyTorch before 0.4.1 do not count the batches that BatchNorm saw.
NOT_NEEDED = ".num_batches_tracked"


@dataclass(frozen=True)
class NetworkWeights:
    """A file of weights under the names of the network that they are for.

    Attributes
    ----------
    path
        The file.
    tensors, metadata
        As the file has them (:func:`~collapseflow.features.weights.load_state`).
    state
        The tensors by the network's names.
    changes
        How the state follows from the file, in words; empty where it is all that is there.
    absent
        The parameters of the last layer that the file lacks.
    n_classes
        The number of classes of the network to build for it.
    """

    path: str | Path
    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str]
    state: Mapping[str, torch.Tensor]
    changes: str
    absent: Sequence[str]
    n_classes: int

    @property
    def task(self) -> str | None:
        """The digest of the data set whose classes its last layer was trained to tell; None if
        there is no last layer or the file does not say it."""
        return None if self.absent else self.metadata.get("task")

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes that its last layer tells, by number; None if there is no last
        layer or the file does not say them."""
        return None if self.absent else class_names(self.metadata)


def prefix_of(names: Iterable[str], needed: Iterable[str]) -> str:
    """The prefix under which names have what a network needs: none if all stands without one, else
    the only one under which all stands, else the one under which most does.

    Raises
    ------
    UserError
        If all stands under several prefixes.
    """
    needed = set(needed)
    found = Counter(
        name[:start]
        for name in names
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name)))
        if name[start:] in needed
    )
    whole = sorted(prefix for prefix, n in found.items() if n == len(needed))
    if "" not in whole and len(whole) > 1:
        raise UserError(
            f"holds {len(whole)} networks, under the prefixes {', '.join(map(repr, whole))}; "
            "allowed: the state dict of one of them alone"
        )
    return min(found, key=lambda prefix: (-found[prefix], len(prefix), prefix), default="")


def without_prefix(
    model: Model, state: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """A state dict without what stands before a model's names, and what was changed, in words.

    Raises
    ------
    UserError
        As :func:`prefix_of`.
    """
    state = {WRAPPERS.sub("", name).lstrip("."): value for name, value in state.items()}
    head = head_parameters(model)
    own = [name for name in skeleton(model, 7).state_dict() if name not in head]
    prefix = prefix_of(state, (name for name in own if not name.endswith(NOT_NEEDED)))
    words = []
    if prefix:
        others = [name for name in state if not name.startswith(prefix)]
        words.append(f"names without {prefix!r}")
        if others:
            plural = "s" if len(others) > 1 else ""
            words.append(f"{len(others)} tensor{plural} beside it left out ({first_of(others)})")
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }, words


def last_layer_of(model: Model, state: Mapping[str, torch.Tensor]) -> tuple[list[str], int]:
    """The parameters of a model's last layer that a state dict lacks, and the number of classes of
    the network to build for it."""
    head = head_parameters(model)
    absent = [name for name in head if name not in state]
    shape = () if absent else state[head[0]].shape
    return absent, shape[0] if shape else 1000


def differences(
    own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], absent: Sequence[str]
) -> str:
    """What of a state dict does not fit a network, in words; nothing if it fits.

    Parameters
    ----------
    own
        The network's own state dict.
    absent
        As :func:`last_layer_of`.
    """
    missing = [
        name
        for name in own
        if name not in state and name not in absent and not name.endswith(NOT_NEEDED)
    ]
    unknown = [name for name in state if name not in own]
    shapes = [
        f"{name} {_shape(state[name])} instead of {_shape(own[name])}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    words = ("missing", "unknown to it", "of another shape")
    return "; ".join(
        f"{len(names)} tensor{'s are' if len(names) > 1 else ' is'} {what} ({first_of(names)})"
        for what, names in zip(words, (missing, unknown, shapes), strict=True)
        if names
    )


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "()"


def variant_of(model: Model, state: Mapping[str, torch.Tensor]) -> str | None:
    """The model that a state dict fits among those whose names differ from a model's in numbers
    only, such as ``resnet34`` and ``resnet18``; None if it fits none."""

    def words(name: str) -> str:
        return re.sub(r"\d+", "", name)

    known = family_of(str(model)).models()
    for other in known if str(model) in known else ():
        # RegNet's builder needs values, gigabytes of them for some of its variants; so do others.
        with suppress(RuntimeError):
            if other != str(model) and words(other) == words(str(model)):
                absent, n_classes = last_layer_of(model, state)
                with torch.device("meta"):
                    own = build(other, n_classes).state_dict()
                if not differences(own, state, absent):
                    return other
    return None


def read_weights(model: Model, weights: str | Path) -> NetworkWeights:
    """Read a file of weights for a model.

    Raises
    ------
    UserError
        Naming the file, if it has no weights of this model: what is missing or too much.
    """
    tensors, metadata = load_state(weights)
    try:
        state, words = without_prefix(model, tensors)
    except UserError as error:
        raise UserError(f"{weights}: {error}") from None
    # Auxiliary heads are not built.
    state = {n: value for n, value in state.items() if not n.lower().startswith("aux")}
    absent, n_classes = last_layer_of(model, state)
    own = skeleton(model, n_classes).state_dict()
    state = as_built(model, state, own)
    if wrong := differences(own, state, absent):
        under = f" ({', '.join(words)})" if words else ""
        variant = variant_of(model, state)
        hint = f"; they fit model: {variant}" if variant else ""
        raise UserError(f"{weights}: not the weights of {model}{under}: {wrong}{hint}")
    if "entry" in metadata:
        words = [f"the entry {metadata['entry']}", *words]
    changes = ", ".join(words)
    return NetworkWeights(weights, tensors, metadata, state, changes, absent, n_classes)


def rows_of_classes(
    read: NetworkWeights, task: str, names: Sequence[str], told: bool
) -> tuple[list[int] | None, str]:
    """The rows of a last layer in the order of a data set's classes, and what to say of them.

    Parameters
    ----------
    task, names
        Digest of the data set, and the names of its classes.
    told
        Whether the study says that the last layer tells the data set's classes in their order.

    Returns
    -------
    None as rows, if the last layer is not known to tell these classes: equal numbers of classes
    are no equal order.

    Raises
    ------
    UserError
        If the study says so, and the last layer is missing or tells another number of classes.
    """
    in_order = list(range(read.n_classes))
    if not read.absent and read.task == task:
        return in_order, ""
    theirs = read.class_names
    if theirs and len(set(theirs)) == read.n_classes and sorted(theirs) == sorted(names):
        rows = [theirs.index(name) for name in names]
        order = "" if rows == in_order else ", put into the data set's order by their names"
        return rows, f"its last layer tells the data set's classes{order}"
    if told:
        check_number_of_classes(read, len(names))
        return in_order, "its last layer tells the data set's classes, as the study file says"
    if theirs:
        return None, f"its last layer is not used: it tells other classes ({first_of(theirs)})"
    return None, ""


def check_number_of_classes(read: NetworkWeights, n_classes: int) -> None:
    """Refuse a last layer that cannot tell as many classes as the study says that it tells."""
    if read.absent:
        raise UserError(
            f"{read.path}: lacks {first_of(read.absent)}, its last layer, which as the study says "
            "tells the classes; allowed: a file with it"
        )
    if read.n_classes != n_classes:
        raise UserError(
            f"{read.path}: its last layer tells {read.n_classes} classes, and the data set whose "
            f"classes the study says that it tells has {n_classes}; allowed: equal numbers"
        )


def check_weights(
    model: Model,
    weights: str | Path,
    told: bool = False,
    n_classes: int | None = None,
    key: str = "weights",
) -> None:
    """Refuse a file that :func:`open_extractor` would refuse, without building the network, and log
    how another one is taken.

    Parameters
    ----------
    told
        As in :func:`rows_of_classes`.
    n_classes
        Of the data set, where that is known.
    key
        Of the study file, which names the file.

    Raises
    ------
    UserError
        With the key, the file, what is wrong with it and what is allowed.
    """
    try:
        read = read_weights(model, weights)
        if told:
            check_number_of_classes(read, read.n_classes if n_classes is None else n_classes)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    classes = "no last layer" if read.absent else f"a last layer of {read.n_classes} classes"
    if read.class_names:
        classes += f" ({first_of(read.class_names)})"
    logger.info("%s: %s", weights, "; ".join(filter(None, [read.changes, classes])))


def built(model: Model, read: NetworkWeights) -> nn.Module:
    """The network with some weights."""
    network = build(model, read.n_classes)
    own = network.state_dict()
    # Into the network's own state dict, which carries the versions that some models ask for.
    own.update(read.state)
    network.load_state_dict(own)
    return network


def load_network(model: Model, weights: str | Path) -> tuple[nn.Module, str | None]:
    """Build a model and load a file of weights into it.

    Returns
    -------
    network, and the digest of the data set whose classes its last layer was trained to tell, None
    if nothing is known of one.

    Raises
    ------
    UserError
        If the file is not one of this model.
    """
    read = read_weights(model, weights)
    if read.changes:
        logger.info("%s: %s", weights, read.changes)
    return built(model, read), read.task


def open_extractor(
    model: Model,
    weights: str | Path,
    layers: Sequence[str],
    pool: str,
    task: str,
    names: Sequence[str] = (),
    told: bool = False,
) -> FeatureExtractor:
    """Load a network for reading features; one whose last layer tells the classes also predicts.

    Parameters
    ----------
    layers
        The layers' own names (:func:`own_name`).
    task, names, told
        As in :func:`rows_of_classes`, of the data set whose features are read.

    Raises
    ------
    UserError
        As :func:`load_network` and :func:`rows_of_classes`.
    """
    read = read_weights(model, weights)
    rows, words = rows_of_classes(read, task, names, told)
    for line in filter(None, [read.changes, words]):
        logger.info("%s: %s", weights, line)
    if rows is not None and rows != sorted(rows):
        of_head = {name: read.state[name][rows] for name in head_parameters(model)}
        read = replace(read, state={**read.state, **of_head})
    pools = poolings(model, layers, pool)
    with_logits = rows is not None
    return FeatureExtractor(
        built(model, read), pools, with_logits, head_layer(model), ends_in_head(model)
    )


def describe_weights(
    model: Model, weights: str | Path, task: str, names: Sequence[str], told: bool
) -> str:
    """What weights :func:`open_extractor` takes from a file, in words, and the digest of the file's
    tensors."""
    read = read_weights(model, weights)
    _, words = rows_of_classes(read, task, names, told)
    called = read.metadata.get("weights") or f"file {Path(weights).name}"
    digest = f"SHA-256 of the tensors {digest_of(read.tensors)}"
    return "; ".join(filter(None, [called, read.changes, words, digest]))
