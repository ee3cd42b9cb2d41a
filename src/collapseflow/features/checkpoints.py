"""Checkpoints of a training that was made elsewhere, as the epochs of a run."""

from collections.abc import Mapping
from pathlib import Path

from collapseflow.running.files import atomic_folder
from collapseflow.running.words import epoch_name


def link_checkpoints(files: Mapping[int, str | Path], weights: str | Path) -> None:
    """Write the folder of a training with a link to the file of each epoch: nothing is copied.

    Parameters
    ----------
    files
        Checkpoints by epoch.
    weights
        The folder to write, with ``epochNNN`` and the file's own suffix for each.
    """
    with atomic_folder(weights) as folder:
        for epoch, path in files.items():
            Path(folder, epoch_name(epoch)).with_suffix(Path(path).suffix).symlink_to(
                Path(path).absolute()
            )
