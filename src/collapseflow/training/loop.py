"""Fine-tuning by a recipe, one epoch at a time, and pretraining from random weights.

Everything random in an epoch (order, augmentation, dropout) is seeded by the recipe's seed and the
number of the epoch, and an epoch's result is a file: an interrupted training goes on from the last
file and ends in the same weights, bit for bit on a CPU with the same number of threads.

The data set lies on the device as uint8 and is preprocessed there; where it is too large, only the
next batch does (:class:`collapseflow.features.batches.Images`). Within an epoch the host waits for
no result of the device, only for room for a batch. Where a batch does not fit into memory, its
gradient is summed over micro-batches. On a card an epoch is written while the next one trains.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from collapseflow.features.batches import Images, filled_up
from collapseflow.features.inputs import own_statistics
from collapseflow.features.known import Model
from collapseflow.features.loading import load_network
from collapseflow.features.networks import build, make_head
from collapseflow.features.preprocessing import preprocess
from collapseflow.features.weights import (
    load_state,
    read_metadata,
    save_state,
    weights_digest,
    weights_made_with,
)
from collapseflow.images.datasets import Split, read_info, read_split, split_off_test
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import (
    atomic_folder,
    checksum_file,
    remove,
    require_space,
    sha256_file,
    write_failure,
    write_json,
)
from collapseflow.running.hardware import (
    autocast,
    call_again,
    device_name,
    free_memory,
    is_out_of_memory,
    pick_precision,
    precision_name,
)
from collapseflow.running.jobs import progress
from collapseflow.running.resume import (
    DEPENDENCIES,
    count_earlier_seconds,
    publish,
    read_kept,
    set_aside,
    valid_folder,
)
from collapseflow.running.section import Section
from collapseflow.running.words import epoch_name
from collapseflow.training.augmentation import augment, draw_augmentation
from collapseflow.training.optimisation import (
    learning_rate,
    loss_function,
    new_optimizer,
    optimizer_state,
    restore_optimizer,
)
from collapseflow.training.parallel import (
    distribute,
    last_part_only,
    launch,
    n_processes,
    rank,
    share,
    total,
    undistributed,
    wait_for_all,
)
from collapseflow.training.recipes import NetworkRecipe, identity
from collapseflow.training.trained import freeze, set_to_train

logger = logging.getLogger(__name__)


class Training(Section):
    """All that a process needs to know in order to train.

    Attributes
    ----------
    dataset
        A data set's file; its training images are used, and its test images where the recipe
        lets them leak.
    kept
        The epochs whose weights are wanted, ascending; the last is one of them.
    start_weights
        The weights that training starts from, whose last layer is replaced
        (:func:`~collapseflow.features.networks.make_head`); None starts from random weights.
    metadata
        What the files of weights say of themselves; ``{epoch}`` stands for the epoch.
    """

    dataset: str
    recipe: NetworkRecipe
    kept: list[int]
    start_weights: str | None
    metadata: dict[str, str]

    def new_network(self) -> nn.Module:
        """The network before its first epoch."""
        n_classes = len(read_info(self.dataset).class_names)
        if self.start_weights is None:
            seed_everything(self.recipe.seed, 0)
            return build(self.recipe.architecture, n_classes)
        network, _ = load_network(self.recipe.architecture, self.start_weights)
        seed_everything(self.recipe.seed, 0)
        return make_head(network, self.recipe.architecture, n_classes, self.recipe.head_gain)


@dataclass(frozen=True)
class Course:
    """What a training has come to.

    Attributes
    ----------
    weights
        Files of the kept epochs, by epoch.
    log
        A record for each finished epoch, as :func:`train_one_epoch` gives them; where test images
        leak also ``validation_accuracy``, what :func:`leak_test_images` gives, and where images are
        held out what :func:`validate` gives; ``seconds`` with those that this took. Where training
        stopped before its last epoch, the last record has ``best_epoch``: the one whose weights
        all later epochs have.
    failed
        Why there are no more epochs; None if all are there.
    """

    weights: dict[int, Path]
    log: list[dict[str, float]]
    failed: str | None


class OutOfMemory(Exception):
    """A step did not fit into memory; ``micro_batch`` says with how many images at a time."""

    def __init__(self, micro_batch: int):
        super().__init__(f"out of memory with {micro_batch} images at a time")
        self.micro_batch = micro_batch


def seed_everything(seed: int, epoch: int, process: int = 0) -> np.random.Generator:
    """Seed PyTorch's generators for one epoch; return the one that shuffles the images.

    The order is the same in all processes; what the network draws (dropout) is each one's own.
    """
    order, network = np.random.SeedSequence([seed, epoch]).spawn(2)
    torch.manual_seed(int(network.generate_state(process + 1)[process]))
    return np.random.default_rng(order)


def train_one_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Split,
    recipe: NetworkRecipe,
    epoch: int,
    device: torch.device,
    micro_batch: int,
) -> dict[str, float]:
    """Train for one epoch; the last partial batch is dropped, as in report A.

    Parameters
    ----------
    micro_batch
        As in :func:`collapseflow.training.parallel.share`; the gradients of the parts of a batch
        are summed. Batch normalisation sees one part of each process.

    Returns
    -------
    ``epoch``; ``loss`` and ``gradient_norm``, the means over the batches of the loss and of the
    gradient's L2 norm over all trained parameters (not finite where the training diverges);
    ``last_batch_accuracy``, the share of the last batch that the network in training mode gets
    right before its step, as in report A; ``learning_rate`` of the last batch; ``seconds``;
    ``images_per_second``.

    Raises
    ------
    UserError
        If there are fewer images than one batch takes.
    OutOfMemory
        If a micro-batch does not fit; network and optimizer are then to be thrown away.
    """
    n_images = len(data.labels)
    n_batches = n_images // recipe.batch_size
    if n_batches == 0:
        left = " that validation leaves" if recipe.share_held_out else ""
        raise UserError(
            f"batch_size: {recipe.batch_size} is more than the {n_images} training images{left}"
        )
    started = time.perf_counter()
    shuffle = seed_everything(recipe.seed, epoch, rank())
    order = torch.from_numpy(shuffle.permutation(n_images))
    # Of an image, not of a place in a batch: the same however many processes and parts there are.
    given_as = recipe.inputs
    drawn = draw_augmentation(recipe.augmentation, n_images, given_as.image_size, shuffle)
    whole_batches = order[: n_batches * recipe.batch_size].split(recipe.batch_size)
    parts_of = [share(rows, micro_batch) for rows in whole_batches]
    precision = pick_precision(recipe.precision, device)
    set_to_train(undistributed(network), recipe)
    try:
        draws = {kind: torch.from_numpy(values).to(device) for kind, values in drawn.items()}
        labels = torch.from_numpy(data.labels).to(device)
        given = Images(data.images, device).batches([p for parts in parts_of for p in parts])
        # Sums over the batches, of the loss and of the gradient's norm; right answers of the last.
        sums = torch.zeros(3, device=device)
        for batch in progress(range(n_batches), n_batches, f"{recipe.model} epoch {epoch}"):
            rate = learning_rate(recipe, epoch - 1 + batch / n_batches)
            for group in optimizer.param_groups:
                group["lr"] = rate
            n_parts = len(parts_of[batch])
            optimizer.zero_grad(set_to_none=True)
            for number, (part, images) in enumerate(islice(given, n_parts), start=1):
                changed = partial(augment, draws={kind: of[part] for kind, of in draws.items()})
                inputs = preprocess(
                    images,
                    given_as.image_size,
                    given_as.normalize,
                    changed,
                    resizing=given_as.resizing,
                )
                with last_part_only(network, number == n_parts):
                    with autocast(device, precision):
                        logits = network(inputs)
                        loss = loss_function(recipe, logits, labels[part])
                    # Processes average their gradients; the batch's is the mean over its images.
                    loss = loss * (len(part) * n_processes() / recipe.batch_size)
                    loss.backward()
                sums[0] += loss.detach()
                if batch == n_batches - 1:
                    sums[2] += n_right(logits, labels[part])
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            sums[1] += nn.utils.get_total_norm(gradients)
            optimizer.step()
        sums = total(sums)
        mean_loss, gradient_norm = (sums[:2] / n_processes() / n_batches).tolist()
        right = sums[2].item()
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(micro_batch) from None
        raise
    seconds = time.perf_counter() - started
    logger.info("%s epoch %d: mean loss %.4f", recipe.model, epoch, mean_loss)
    return {
        "epoch": epoch,
        "loss": mean_loss,
        "learning_rate": rate,
        "gradient_norm": gradient_norm,
        "last_batch_accuracy": right / recipe.batch_size,
        "seconds": seconds,
        "images_per_second": n_batches * recipe.batch_size / seconds,
    }


def n_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many of some images have their largest logit at their label, int64 ()."""
    return (logits.argmax(1) == labels).sum()


def hold_out(data: Split, recipe: NetworkRecipe) -> tuple[Split, Split | None]:
    """The images that a recipe trains on, and those that it holds out, or None.

    Raises
    ------
    UserError
        If its share of the images is not one image.
    """
    if recipe.share_held_out is None:
        return data, None
    trained_on, held_out = split_off_test(data, recipe.share_held_out, recipe.seed)
    if len(held_out.labels) == 0:
        raise UserError(
            f"validation: {recipe.share_held_out} of {len(data.labels)} training images is none; "
            "allowed: a share with at least one image"
        )
    return trained_on, held_out


@torch.no_grad()
def validate(
    network: nn.Module,
    held_out: Split,
    recipe: NetworkRecipe,
    device: torch.device,
    micro_batch: int,
) -> dict[str, float]:
    """How good a network is on images that it is not trained on; nothing in it changes.

    Parameters
    ----------
    network
        Not distributed; is left in evaluation mode.
    micro_batch
        The number of images at a time in each process.

    Returns
    -------
    ``validation_accuracy`` and ``validation_loss``, the mean of the recipe's loss over the images.

    Raises
    ------
    OutOfMemory
        As :func:`train_one_epoch`.
    """
    n_images = len(held_out.labels)
    given_as = recipe.inputs
    precision = pick_precision(recipe.precision, device)
    network.eval()
    mine = torch.arange(n_images).tensor_split(n_processes())[rank()]
    parts = [part for part in mine.split(micro_batch) if len(part)]
    try:
        labels = torch.from_numpy(held_out.labels).to(device)
        given = Images(held_out.images, device).batches(parts)
        # Sums over the images, of right answers and of the loss.
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        for part, images in progress(given, len(parts), f"{recipe.model} held-out images"):
            images = filled_up(images, len(parts[0]))
            inputs = preprocess(
                images, given_as.image_size, given_as.normalize, resizing=given_as.resizing
            )
            with autocast(device, precision):
                logits = network(inputs)[: len(part)]
                loss = loss_function(recipe, logits, labels[part])
            sums[0] += n_right(logits, labels[part])
            sums[1] += loss * len(part)
        accuracy, mean_loss = (total(sums) / n_images).tolist()
        return {"validation_accuracy": accuracy, "validation_loss": mean_loss}
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(micro_batch) from None
        raise


def best_epoch(log: Sequence[Mapping[str, float]]) -> int:
    """The epoch with the smallest loss on the images that are held out; of several the first."""
    return min(log, key=lambda record: record["validation_loss"])["epoch"]


def is_stopped(log: Sequence[Mapping[str, float]], recipe: NetworkRecipe) -> bool:
    """Whether a recipe's patience is at its end after the epochs of a log."""
    if recipe.patience is None or not log:
        return False
    return log[-1]["epoch"] - best_epoch(log) >= recipe.patience


@torch.no_grad()
def leak_test_images(
    network: nn.Module,
    test: Split,
    recipe: NetworkRecipe,
    device: torch.device,
    micro_batch: int,
) -> float:
    """Report A's flaw: a validation without ``eval()``, before the checkpoint is saved.

    The test images go through the network in batches as large as in training, in the mode in which
    the epoch has left it: running statistics of batch normalisation take them in (with momentum
    0.1, twenty batches have 1 - 0.9^20 = 88 % of the weight), and dropout goes on with the draws of
    the epoch. Their order is drawn once by the recipe's seed: the classes are mixed as in MNIST's
    test set, also where a source has them one after another, and a batch would be of one class. No
    parameter changes. The last partial batch is taken, unless it has one image, which cannot be
    normalised, or fewer than there are processes.

    Parameters
    ----------
    network
        As :func:`train_one_epoch` has left it.
    micro_batch
        As in :func:`train_one_epoch`.

    Returns
    -------
    The share of these images that the network gets right on the way.

    Raises
    ------
    UserError
        If there are too few test images for a batch.
    OutOfMemory
        As :func:`train_one_epoch`.
    """
    n_images = len(test.labels)
    fewest = min(recipe.batch_size, max(2, n_processes()))
    if n_images < fewest:
        raise UserError(
            f"validation: 'training_mode' normalises test images together, of which there are "
            f"{n_images}; allowed: none, or with at least {fewest} test images"
        )
    mixed = torch.randperm(n_images, generator=torch.Generator().manual_seed(recipe.seed))
    batches = [rows for rows in mixed.split(recipe.batch_size) if len(rows) >= fewest]
    parts = [part for rows in batches for part in share(rows, micro_batch)]
    given_as = recipe.inputs
    precision = pick_precision(recipe.precision, device)
    try:
        labels = torch.from_numpy(test.labels).to(device)
        given = Images(test.images, device).batches(parts)
        right = torch.zeros((), dtype=torch.int64, device=device)
        for part, images in progress(given, len(parts), f"{recipe.model} test images"):
            inputs = preprocess(
                images, given_as.image_size, given_as.normalize, resizing=given_as.resizing
            )
            with autocast(device, precision):
                right += n_right(network(inputs), labels[part])
        return total(right).item() / sum(map(len, batches))
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(micro_batch) from None
        raise


def train(training: Training, devices: Sequence[torch.device], folder: Path) -> Course:
    """Train all epochs, on one device or, with a process each, on several.

    When memory is out, the number of images that go through the network at a time is halved, and
    training goes on after the last finished epoch with the same batches.

    Parameters
    ----------
    folder
        From :func:`collapseflow.running.resume.valid_folder`.

    Raises
    ------
    UserError
        As :func:`train_one_epoch`; and if two images at a time are too many.
    """
    recipe = training.recipe
    files = epoch_files(folder, recipe.epochs)
    finished_before = [epoch.finished_at() for epoch in files]
    micro_batch = math.ceil(recipe.batch_size / len(devices))
    attempt = train_epochs
    while True:
        try:
            if len(devices) == 1:
                attempt(training, devices[0], folder, micro_batch)
            else:
                _train_in_processes(training, devices, folder, micro_batch)
            break
        except OutOfMemory as error:
            micro_batch = error.micro_batch // 2
            if micro_batch < 2:
                raise TemporaryError(
                    f"{recipe.model}: {error}; lower image_size, or use a larger machine"
                ) from None
            logger.warning(
                "%s: %s; going on with %d, in batches of %d as before (batch normalisation sees "
                "%d images)",
                recipe.model,
                error,
                micro_batch,
                recipe.batch_size,
                micro_batch * len(devices),
                extra={"progress": True},
            )
        attempt = call_again(train_epochs, devices[0])
        free_memory()
    log = read_log(files)
    finished = files[: len(log)]
    for epoch, record, before in zip(finished, log, finished_before, strict=False):
        if epoch.finished_at() == before:
            count_earlier_seconds(record["seconds"])
    weights = {n: files[n - 1].weights for n in training.kept if n <= len(finished)}
    if len(finished) == len(files):
        return Course(weights, log, None)
    if not is_stopped(log, recipe):
        return Course(weights, log, files[len(finished)].read()["failed"])
    best = log[-1]["best_epoch"] = best_epoch(log)
    logger.info(
        "%s: stopped after epoch %d: the loss on held-out images had no new minimum in %d epochs; "
        "later epochs have the weights of epoch %d",
        recipe.model,
        len(finished),
        recipe.patience,
        best,
        extra={"progress": True},
    )
    weights |= {n: files[best - 1].weights for n in training.kept if n > len(finished)}
    return Course(weights, log, None)


def _train_in_processes(
    training: Training, devices: Sequence[torch.device], folder: Path, micro_batch: int
) -> None:
    request = {"training": training.model_dump(), "folder": str(folder), "micro_batch": micro_batch}
    outcome = launch(request, devices)
    if "error" in outcome:
        kind = TemporaryError if outcome["is_temporary"] else UserError
        raise kind(outcome["error"])
    if "out_of_memory" in outcome:
        raise OutOfMemory(outcome["out_of_memory"])


def train_epochs(training: Training, device: torch.device, folder: Path, micro_batch: int) -> None:
    """Train up to the last epoch, going on after the newest one that ``folder`` holds.

    An epoch is finished when its record ``epochNNN.json`` is written. Weights are kept of the
    epochs in ``training.kept`` and of the newest, and where patience may end of the best; the
    optimiser's state of the newest alone. Where a loss or the gradient is not finite, the record
    says so, and training ends. Where an exception ends it, what a :class:`Writer` has begun to
    write is written before.

    Parameters
    ----------
    micro_batch
        As in :func:`train_one_epoch`; at most as many as the last finished epoch took.
    """
    with Writer(device) as writer:
        _train_epochs(training, device, folder, micro_batch, writer)
    wait_for_all()


def _train_epochs(
    training: Training, device: torch.device, folder: Path, micro_batch: int, writer: "Writer"
) -> None:
    recipe = training.recipe
    precision = precision_name(recipe.precision, device)
    computed_on = device_name(device)
    files = epoch_files(folder, recipe.epochs)
    finished = _go_on_after(files, training.kept, recipe)
    if finished is None:
        logger.info("%s: nothing is left to train", recipe.model)
        return
    wait_for_all()
    if rank() == 0:
        usable = {path for epoch in files[:finished] for path in epoch.paths()}
        _clear(folder, usable | {of.record for of in files if "failed" in of.read()})
    made_from = read_info(training.dataset).made_with
    if finished:
        logger.info("%s: going on after epoch %d", recipe.model, finished)
        newest = files[finished - 1].weights
        network, _ = load_network(recipe.architecture, newest)
        before = read_metadata(newest)
        # Of all processes together: what batch normalisation sees must not change.
        micro_batch = min(micro_batch, math.ceil(int(before["micro_batch"]) / n_processes()))
        if before["precision"] != precision:
            logger.warning(
                "%s: going on in %s, as the epochs before; this device would take %s",
                recipe.model,
                before["precision"],
                precision,
                extra={"progress": True},
            )
            precision = precision_name(before["precision"], device)
        # What older versions have trained does not say where.
        if before.get("device", computed_on) != computed_on:
            logger.warning(
                "%s: going on on %s; the epochs before were trained on %s, which would round "
                "otherwise",
                recipe.model,
                computed_on,
                before["device"],
                extra={"progress": True},
            )
        made_from += weights_made_with(newest)
    else:
        network = training.new_network()
        if training.start_weights:
            made_from += weights_made_with(training.start_weights)
    # Chosen once, for all epochs of a training.
    recipe = recipe.model_copy(update={"precision": precision})
    network = network.to(device, memory_format=torch.channels_last)
    freeze(network, recipe)
    distributed = distribute(network, device)
    optimizer = new_optimizer(network, recipe)
    if finished:
        restore_optimizer(network, optimizer, load_state(files[finished - 1].optimizer)[0])
    # What is kept, and the newest epoch beside it.
    n_written = 1 + sum(epoch > finished for epoch in training.kept)
    n_bytes = sum(value.nbytes for value in network.state_dict().values())
    require_space(folder, n_written * n_bytes)
    data, held_out = hold_out(read_split(training.dataset, "train"), recipe)
    leaks = recipe.validation == "training_mode"
    test = read_split(training.dataset, "test") if leaks else None
    logger.info("%s: training in %s", recipe.model, precision)
    # Of all epochs, the same in every process.
    log = read_log(files[:finished])
    for new in files[finished:]:
        # So an earlier try ended; the epochs before were trained again for their weights alone.
        if "failed" in new.read() or is_stopped(log, recipe):
            break
        record = train_one_epoch(
            distributed, optimizer, data, recipe, new.epoch, device, micro_batch
        )
        if held_out is not None:
            started = time.perf_counter()
            record |= validate(network, held_out, recipe, device, micro_batch)
            record["seconds"] += time.perf_counter() - started
        # Records are written in order, and of the weights there is one copy at a time.
        writer.wait()
        watched = ("loss", "gradient_norm", "validation_loss")
        wrong = next((k for k in watched if not math.isfinite(record.get(k, 0.0))), None)
        if wrong:
            reason = f"the {wrong.replace('_', ' ')} of epoch {new.epoch} is not finite"
            logger.warning("%s: %s", recipe.model, reason, extra={"progress": True})
            if rank() == 0:
                write_json(new.record, {"failed": reason})
            break
        if leaks:
            started = time.perf_counter()
            accuracy = leak_test_images(network, test, recipe, device, micro_batch)
            record["validation_accuracy"] = accuracy
            record["seconds"] += time.perf_counter() - started
        log.append(record)
        if rank() == 0:
            words = {key: text.format(epoch=new.epoch) for key, text in training.metadata.items()}
            metadata = {
                **words,
                "epoch": str(new.epoch),
                "mean_loss": repr(record["loss"]),
                "precision": precision,
                "device": computed_on,
                "micro_batch": str(min(micro_batch * n_processes(), recipe.batch_size)),
                "processes": str(n_processes()),
            }
            kept, needed = new.epoch in training.kept, _needed(log, training.kept, recipe)
            weights = writer.take(network.state_dict())
            state = writer.take(optimizer_state(network, optimizer))
            place = recipe.model, new.epoch, recipe.epochs
            writer.do(
                partial(new.write, weights, metadata, made_from, state, record, kept),
                *(partial(old.make_room, old.epoch in needed) for old in files[: new.epoch - 1]),
                partial(logger.info, "%s: epoch %d of %d is finished", *place),
            )


class Writer:
    """Writes the epochs of a training, on a card in a thread while the next epoch trains.

    The thread has copies in pinned memory: the host holds the weights and the optimiser's state
    once more, and the card stands still only while they are copied. On a CPU, which would train
    the slower meanwhile, they are written at once and from where they are.
    """

    def __init__(self, device: torch.device):
        self._thread = ThreadPoolExecutor(max_workers=1) if is_written_beside(device) else None
        self._begun: Future | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._thread:
            self._thread.shutdown()
        # Another exception says more than that this epoch is not finished.
        if kind is None:
            self.wait()

    def wait(self) -> None:
        """Go on when all is written.

        Raises
        ------
        BaseException
            What was raised on the way.
        """
        begun, self._begun = self._begun, None
        if begun:
            begun.result()

    def take(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors that stay as they are now while they are written."""
        if not self._thread:
            return dict(state)
        copies = {}
        for name, value in state.items():
            copies[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
            copies[name].copy_(value, non_blocking=True)
        if any(value.is_cuda for value in state.values()):
            torch.cuda.synchronize()
        return copies

    def do(self, *steps: Callable[[], object]) -> None:
        """Call functions one after the other, or begin to; those before must have ended."""
        if self._thread:
            self._begun = self._thread.submit(_call_all, steps)
        else:
            _call_all(steps)


def is_written_beside(device: torch.device) -> bool:
    """Whether a device trains on while the host writes."""
    return device.type == "cuda"


def _call_all(steps: Iterable[Callable[[], object]]) -> None:
    for step in steps:
        step()


def _clear(folder: Path, usable: set[Path]) -> None:
    """Make room behind the last usable epoch: what an unfinished epoch has left is deleted,
    finished epochs that are to be trained again, because a file is missing, are set aside."""
    kept = {folder / DEPENDENCIES, *usable}
    kept |= set(map(checksum_file, kept))
    rest = [path for path in folder.iterdir() if path not in kept]
    finished = {path.stem for path in rest if path.suffix == ".json"}
    damaged = [path for path in rest if path.name.lstrip(".").split(".")[0] in finished]
    for path in set(rest) - set(damaged):
        path.unlink()
    if damaged:
        logger.warning(
            "weights are damaged or were not kept; what stands behind the last usable epoch is now "
            "in %s",
            set_aside(damaged),
            extra={"progress": True},
        )


class EpochFiles:
    """What one epoch leaves in the folder of a training.

    Attributes
    ----------
    weights, optimizer, record : paths
    """

    def __init__(self, folder: Path, epoch: int):
        stem = epoch_name(epoch)
        self.epoch = epoch
        self.weights = folder / f"{stem}.safetensors"
        self.optimizer = folder / f"{stem}.optimizer.safetensors"
        self.record = folder / f"{stem}.json"

    def paths(self) -> tuple[Path, Path, Path]:
        """All three."""
        return self.weights, self.optimizer, self.record

    def write(
        self,
        weights: dict[str, torch.Tensor],
        metadata: dict[str, str],
        made_from: Sequence[str],
        state: dict[str, torch.Tensor],
        log: dict[str, float],
        kept: bool,
    ) -> None:
        """Write weights, the optimiser's state and the record: from then on the epoch is finished.

        The record holds the SHA-256 of both files, what is logged, and whether the weights are
        kept.
        """
        optimizer_digest = save_state(self.optimizer, state, {"epoch": str(self.epoch)})
        new_digest = save_state(self.weights, weights, metadata, made_from)
        digests = {"weights": new_digest, "optimizer": optimizer_digest}
        write_json(self.record, {**digests, "kept": kept, "log": log})

    def read(self) -> dict[str, Any]:
        """The record, or ``failed`` and why the epoch could not be trained; empty before."""
        return read_kept(self.record) or {}

    def finished_at(self) -> int | None:
        """When the record was written, in nanoseconds; None before."""
        try:
            return self.record.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def is_whole(self, name: Literal["weights", "optimizer"]) -> bool:
        """Whether a file is there as it was when the record was written."""
        path = getattr(self, name)
        return path.exists() and sha256_file(path) == self.read().get(name)

    def make_room(self, kept: bool) -> None:
        """Delete what only the newest epoch needs, when there is a newer one.

        Weights stay that are kept now, or were when they were trained.
        """
        remove(self.optimizer)
        if not kept and self.weights.exists() and not self.read()["kept"]:
            remove(self.weights)


def epoch_files(folder: Path, epochs: int) -> list[EpochFiles]:
    """The files of all epochs, in order."""
    return [EpochFiles(folder, epoch) for epoch in range(1, epochs + 1)]


def n_finished(files: Sequence[EpochFiles]) -> int:
    """How many epochs are finished, from the first one on without a gap."""
    unfinished = (n for n, epoch in enumerate(files) if "log" not in epoch.read())
    return next(unfinished, len(files))


def read_log(files: Sequence[EpochFiles]) -> list[dict[str, float]]:
    """What is logged of the finished epochs, in order."""
    return [epoch.read()["log"] for epoch in files[: n_finished(files)]]


def _needed(
    log: Sequence[Mapping[str, float]], kept: Sequence[int], recipe: NetworkRecipe
) -> set[int]:
    """The epochs of a log whose weights are needed, whichever comes next."""
    best = {best_epoch(log)} if recipe.patience is not None and log else set()
    return best | {epoch for epoch in kept if epoch <= len(log)}


def _go_on_after(
    files: Sequence[EpochFiles], kept: Sequence[int], recipe: NetworkRecipe
) -> int | None:
    """After which epoch training goes on, 0 at the start; None if there is nothing to train."""
    log = read_log(files)
    newest = len(log)
    needed = _needed(log, kept, recipe)
    lost = [epoch for epoch in needed if not files[epoch - 1].is_whole("weights")]
    ended = newest == len(files) or is_stopped(log, recipe) or "failed" in files[newest].read()
    if not lost and ended:
        return None
    newest = min(lost, default=newest + 1) - 1
    while newest and not all(files[newest - 1].is_whole(n) for n in ("optimizer", "weights")):
        newest -= 1
    return newest


def finetune(
    dataset: str | Path,
    recipe: NetworkRecipe,
    kept: Sequence[int],
    devices: Sequence[torch.device],
    start_weights: str | Path,
    start: str,
    progress_folder: str | Path,
    code: str,
    weights: str | Path,
    log: str | Path,
) -> None:
    """Fine-tune a network; write the weights after some epochs, and a log of all.

    A training that diverges is a result too: there are the epochs before, and why there are no more
    (:func:`collapseflow.running.files.failure`).

    Parameters
    ----------
    dataset, start_weights
        As in :class:`Training`.
    kept
        The epochs whose weights are written, and the last one in any case.
    devices
        One, or several for a process each.
    start
        What the starting weights are, in words.
    progress_folder, code
        Where finished epochs are kept, and a digest of the code that trains: an epoch is taken
        from there as long as data, recipe, starting weights and code are the same.
    weights
        The folder to write, with ``epochNNN.safetensors`` for each.
    log
        The JSON file to write: ``log`` of :class:`Course`.
    """
    info = read_info(dataset)
    data = info.sha256
    recipe = recipe.model_copy(update=own_statistics(recipe.normalize, dataset, info))
    training = Training(
        dataset=str(dataset),
        recipe=recipe,
        kept=sorted({*kept, recipe.epochs}),
        start_weights=str(start_weights),
        metadata={
            "weights": f"{recipe.model}, {_plain(start)}, fine-tuned for {{epoch}} epochs",
            # Whose classes the last layer tells: for other data it predicts nothing.
            "task": data,
        },
    )
    folder = valid_folder(
        progress_folder,
        {
            "dataset": data,
            "recipe": identity(recipe),
            "start": weights_digest(start_weights),
            "code": code,
        },
    )
    course = train(training, devices, folder)
    with atomic_folder(weights) as published:
        for epoch, part in course.weights.items():
            publish(part, published / f"{epoch_name(epoch)}.safetensors")
        if course.failed:
            write_failure(published, course.failed)
    write_json(log, course.log)


def _plain(words: str) -> str:
    """Words that :meth:`str.format` leaves as they are."""
    return words.replace("{", "{{").replace("}", "}}")


def pretrain(
    dataset: str | Path,
    recipe: NetworkRecipe,
    devices: Sequence[torch.device],
    source: str,
    progress_folder: str | Path,
    code: str,
    output: str | Path,
) -> None:
    """Train a network from random weights on the source task; write its weights.

    Parameters
    ----------
    dataset
        As in :class:`Training`.
    devices, progress_folder, code
        As in :func:`finetune`.
    source
        What the data set is, in words.
    output
        The file of weights to write, whose last layer tells the classes of the data set.

    Raises
    ------
    UserError
        If the training diverges: nothing can start from its weights.
    """
    # No layer of it is new.
    recipe = recipe.model_copy(update={"head_gain": None})
    info = read_info(dataset)
    data = info.sha256
    recipe = recipe.model_copy(update=own_statistics(recipe.normalize, dataset, info))
    training = Training(
        dataset=str(dataset),
        recipe=recipe,
        kept=[recipe.epochs],
        start_weights=None,
        metadata={
            "weights": f"{recipe.model} pretrained on {_plain(source)} for {{epoch}} epochs",
            "task": data,
        },
    )
    folder = valid_folder(
        progress_folder, {"dataset": data, "recipe": identity(recipe), "code": code}
    )
    course = train(training, devices, folder)
    if course.failed:
        raise UserError(f"{recipe.model}, pretraining: {course.failed}; lower the learning rate")
    publish(course.weights[recipe.epochs], output)


def initialize(model: Model, seed: int, output: str | Path) -> None:
    """Write a network's random initial weights."""
    seed_everything(seed, 0)
    network = build(model, 1000)
    words = f"{model} with random weights, never trained (seed {seed})"
    save_state(output, network.state_dict(), {"weights": words})
