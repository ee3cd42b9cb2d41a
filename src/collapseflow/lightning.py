"""Every measure of collapse from a training with Lightning, which is imported here and nowhere else
in the package."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from collapseflow.features.known import PENULTIMATE
from collapseflow.images.datasets import SPLITS
from collapseflow.measures import Collapse
from collapseflow.measures.collapse import CollapsedError
from collapseflow.rows import write_rows, write_vectors


class CollapseCallback(Callback):
    """Measures the vectors that reach the last layer while Lightning validates.

    Lightning validates with fixed weights, without augmentation or dropout: so the training images
    are given once more, as a dataloader of the validation, whose place has the split ``train``::

        CollapseCallback("fc", 10, "rows.csv", ["train", "test"], dataset="mnist", backbone="mlp")
        trainer.fit(network, batches, [training_images, test_images])

    After each validation there are :attr:`values`, and rows in the file; the check before the
    first epoch is left out. Several processes are measured together, and the first one writes.
    With ``vectors`` those of each validation stand in a file that a study takes, with the head.

    Parameters
    ----------
    head
        Name of the last layer in the module: an ``nn.Linear``, whose input is measured and whose
        output is taken for the logits.
    n_classes
        Of the head.
    rows
        The file (:func:`collapseflow.rows.write_rows`).
    splits
        Of the validation's dataloaders, in their order: ``train``, ``test``. The nearest class mean
        on ``test`` is one of ``train``, where that comes too.
    labels
        Gives the labels (n,) of a batch.
    vectors
        None, or the file of an epoch's vectors (:func:`collapseflow.rows.write_vectors`), such as
        ``hidden_{epoch}.h5``. ``splits`` are ``train`` and ``test``, not shuffled.
    collapse
        More arguments of :class:`~collapseflow.measures.Collapse`, such as ``memory``; no
        ``definitions``, which rows have no words for.
    dataset, backbone, start, recipe, seed
        What the rows say of the training.

    Attributes
    ----------
    values : by split and name, the measures of the last validation

    Raises
    ------
    ValueError
        In one line, also while Lightning validates: if the head, the dataloaders or a batch are not
        as said here.
    """

    def __init__(
        self,
        head: str,
        n_classes: int,
        rows: str | Path,
        splits: Sequence[str] = ("test",),
        labels: Callable[[Any], Any] = lambda batch: batch[1],
        collapse: Mapping[str, Any] | None = None,
        vectors: str | Path | None = None,
        *,
        dataset: str,
        backbone: str,
        start: str = "",
        recipe: str = "",
        seed: int | None = None,
    ) -> None:
        if "definitions" in (collapse or {}):
            raise ValueError("collapse: rows have our definitions; leave out 'definitions'")
        if vectors is not None:
            if "{epoch}" not in Path(vectors).name or Path(vectors).suffix != ".h5":
                raise ValueError(f"vectors: {vectors}; a name with {{epoch}} that ends in .h5")
            if set(splits) != set(SPLITS):
                raise ValueError(f"vectors: of {', '.join(splits)}; a study takes train and test")
            if (collapse or {}).get("keep") == "moments":
                raise ValueError("vectors: keep='moments' keeps none; leave out 'keep'")
        self.head, self.rows, self.labels, self.vectors = head, rows, labels, vectors
        self.training = {
            "dataset": dataset,
            "backbone": backbone,
            "start": start,
            "recipe": recipe,
            "seed": seed,
        }
        self.values: dict[str, dict[str, float]] = {}
        self._collapses = {split: Collapse(n_classes, **(collapse or {})) for split in splits}
        self._seen: list[tuple[Any, Any]] = []
        self._hook = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what goes through the head from now on."""
        if trainer.sanity_checking:
            return
        for collapse in self._collapses.values():
            collapse.reset()
        named = dict(pl_module.named_modules())
        if self.head not in named:
            raise ValueError(f"head: the module has no layer {self.head!r}; name its last layer")
        self._hook = named[self.head].register_forward_hook(
            lambda layer, inputs, output: self._seen.append((inputs[0], output))
        )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the vectors of a batch."""
        if self._hook is None:
            return
        if len(self._seen) != 1:
            raise ValueError(
                f"head: {self.head!r} has run {len(self._seen)} times in a batch of the "
                "validation; once is needed"
            )
        if dataloader_idx >= len(self._collapses):
            raise ValueError(
                f"splits: {', '.join(self._collapses)}; the validation has more dataloaders"
            )
        (features, logits), self._seen = self._seen[0], []
        collapse = list(self._collapses.values())[dataloader_idx]
        collapse.update(features, self.labels(batch), logits)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, and write the rows."""
        if self._hook is None:
            return
        self._leave()
        head = pl_module.get_submodule(self.head)
        # While it fits, an epoch that is being trained counts when it has ended.
        epoch = trainer.current_epoch + (1 if trainer.state.fn == "fit" else 0)
        self.values = {}
        for split, collapse in self._collapses.items():
            training = self._collapses.get("train") if split == "test" else None
            try:
                self.values[split] = collapse.compute(head, training)
            except CollapsedError as error:
                # No reason to end a training.
                warnings.warn(f"no measures on {split} after epoch {epoch}: {error}", stacklevel=2)
                continue
            if trainer.is_global_zero:
                write_rows(
                    self.rows,
                    self.values[split],
                    collapse.n_samples,
                    epoch,
                    split,
                    layer=PENULTIMATE,
                    **self.training,
                )
        if self.vectors is not None:
            path = Path(self.vectors)
            name = path.name.replace("{epoch}", str(epoch))
            write_vectors(path.with_name(name), self._collapses, head)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the network as it was."""
        self._leave()

    def _leave(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook, self._seen = None, []
