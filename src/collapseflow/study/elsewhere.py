"""Trainings that were made elsewhere: the epochs of checkpoints, by the numbers in their names."""

from collections.abc import Iterable

from collapseflow.running.errors import UserError
from collapseflow.running.numbered import find_numbered

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
        As :func:`collapseflow.running.numbered.find_numbered`, or if one is from before the first
        epoch.
    """
    found = find_numbered(pattern)
    first = min(found)
    if first < counted_from:
        raise UserError(
            f"{found[first]} is from before the first epoch; allowed: numbers from {counted_from}, "
            "or counted_from: 0 where the first epoch has the number 0"
        )
    return {number + 1 - counted_from: path for number, path in found.items()}


def missing_epochs(epochs: Iterable[int]) -> list[int]:
    """The epochs that a series lacks: its step is the least that two neighbours have."""
    epochs = sorted(epochs)
    step = min((b - a for a, b in zip(epochs, epochs[1:], strict=False)), default=1)
    return [n for n in range(epochs[0], epochs[-1], step) if n not in epochs]
