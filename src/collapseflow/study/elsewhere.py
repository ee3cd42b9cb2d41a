"""Trainings that were made elsewhere: the epochs of checkpoints, by the numbers in their names."""

import glob
import re
from collections.abc import Iterable

from collapseflow.running.errors import UserError

#: Stands for the number of an epoch in a pattern, as ``*`` does for any text.
EPOCH = "{epoch}"
#: Stands for a seed of the study: each is a run.
SEED = "{seed}"


def find_checkpoints(pattern: str, counted_from: int) -> dict[int, str]:
    """The files that a pattern matches, by epoch, in order.

    Parameters
    ----------
    counted_from
        The number in the name of what is there after the first epoch.

    Raises
    ------
    UserError
        If the pattern has no or several ``{epoch}`` or matches no file, if two files are of one
        epoch, or one is from before the first.
    """
    parts = pattern.split(EPOCH)
    if len(parts) != 2:
        raise UserError(
            f"{pattern!r} has {EPOCH} {len(parts) - 1} times; allowed: once, where the number of "
            f"the epoch stands, as run7/epoch_{EPOCH}.ckpt"
        )
    words = [re.escape(part).replace(r"\*", "[^/]*") for part in parts]
    number = re.compile(r"(\d+)".join(words))
    found: dict[int, str] = {}
    for path in sorted(glob.glob("*".join(glob.escape(p).replace("[*]", "*") for p in parts))):
        match = number.fullmatch(path)
        if not match:
            continue
        epoch = int(match[1]) + 1 - counted_from
        if epoch < 1:
            raise UserError(
                f"{path} is from before the first epoch; allowed: numbers from {counted_from}, or "
                "counted_from: 0 where the first epoch has the number 0"
            )
        if epoch in found:
            raise UserError(
                f"{found[epoch]} and {path} are both of epoch {epoch}; allowed: one file for each, "
                "by a pattern that tells them apart"
            )
        found[epoch] = path
    if not found:
        raise UserError(f"{pattern!r} matches no file; allowed: where checkpoints are")
    return dict(sorted(found.items()))


def missing_epochs(epochs: Iterable[int]) -> list[int]:
    """The epochs that a series lacks: its step is the least that two neighbours have."""
    epochs = sorted(epochs)
    step = min((b - a for a, b in zip(epochs, epochs[1:], strict=False)), default=1)
    return [n for n in range(epochs[0], epochs[-1], step) if n not in epochs]
