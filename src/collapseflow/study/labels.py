"""What the parts of a study are called in words: labels, headings."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from collapseflow.features.known import PACKAGES
from collapseflow.running.words import as_word
from collapseflow.study.columns import Column
from collapseflow.study.paths import State
from collapseflow.study.recipes import recipe_of, setting_of
from collapseflow.study.runs import Run
from collapseflow.study.schema import PRETRAINED_ON, Study, weight_state

DATASET_LABELS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "mnist5k": "MNIST subset",
    "digits": "Digits 8×8",
}


class Labels:
    """The words of a study."""

    def __init__(self, study: Study):
        self._study = study

    def dataset(self, dataset: str) -> str:
        """The name of a data set as figures print it; a subset is called one, and what is changed
        in its training images is told."""
        entry = self._study.datasets[dataset]
        label = entry.label or DATASET_LABELS.get(entry.source, entry.name or dataset)
        cut = entry.subset.train or entry.subset.test
        words = ["subset"] if cut and not label.endswith("subset") else []
        if entry.classes:
            words.append(f"{len(entry.classes)} classes")
        if entry.imbalance:
            kind = {"exponential": "long-tailed", "step": "step"}[entry.imbalance.kind]
            words.append(f"{kind} {as_word(entry.imbalance.ratio)}:1")
        if entry.label_noise:
            words.append(f"{as_word(100 * entry.label_noise)} % label noise")
        return f"{label} ({', '.join(words)})" if words else label

    def datasets(self) -> dict[str, str]:
        """The data sets as figures print them."""
        return {dataset: self.dataset(dataset) for dataset in self._study.datasets}

    def backbone(self, key: str) -> str:
        """The name of a backbone as figures print it."""
        return self._study.backbones[key].label or key

    def backbones(self) -> dict[str, str]:
        """The backbones as figures print them."""
        return {key: self.backbone(key) for key in self._study.backbones}

    def classifiers(self) -> dict[str, str]:
        """The classifiers as tables print them."""
        return {key: entry.label or key for key, entry in self._study.classifiers.items()}

    def recipe(self, recipe: str) -> str:
        """The name of a recipe with its swept values."""
        entry = self._study.courses[recipe]
        setting = setting_of(recipe, entry).items()
        words = [f"{key.replace('_', ' ')} {as_word(value)}" for key, value in setting]
        return ", ".join([entry.label or recipe_of(recipe), *words])

    def start(self, key: str, start: str) -> str:
        """What the first weights of a backbone are, in words."""
        words = {"imagenet": "ImageNet", "pretrain": "letters", "random": "random"}
        if start.startswith(PRETRAINED_ON):
            return self.dataset(start.removeprefix(PRETRAINED_ON))
        package = PACKAGES.get(self._study.backbones[key].model)
        if package:
            # torchvision's own are other weights of the same name.
            origin = f" ({package.name})" if "imagenet" in self._starts_of(key) else ""
            words["package"] = f"{package.trained_on}{origin}"
        if start == "file":
            return f"file {Path(self._study.weights_file(key)).stem}"
        # Others go by the names that their family has for them.
        return words.get(start, start)

    def starts(self) -> dict[str, str]:
        """The first weights of all backbones in words."""
        return {
            start: self.start(key, start)
            for key in self._study.backbones
            for start in self._starts_of(key)
        }

    def _starts_of(self, key: str) -> list[str]:
        return list(map(weight_state, self._study.backbones[key].weights))

    def column(self, column: Column) -> str:
        """The name of a feature set as figures print it; it always says which weights."""
        state = column.first.state
        if state is None:
            return {"raw": "raw pixels"}.get(column.key, column.key)
        label = f"{self.backbone(state.backbone)}, {self.start(state.backbone, state.start)}"
        if column.recipe:
            one = len(self._study.courses) == 1
            label += " + fine-tuned" if one else f" + {self.recipe(column.recipe)},"
            label += f" {state.epoch} ep."
        several = len(self._study.backbones[state.backbone].layers) > 1
        return f"{label}, {column.first.layer}" if several else label

    def run(self, run: Run) -> str:
        """What tells the curve of a run from the others of the study."""
        key = run.state.backbone
        words = [self.backbone(key)]
        several = len(self._trained_starts[key]) > 1
        words += [self.start(key, run.state.start)] if several else []
        words += [self.recipe(run.recipe)] if len(self._study.courses) > 1 else []
        return ", ".join(words)

    @cached_property
    def _trained_starts(self) -> dict[str, set[str]]:
        """The starts that each backbone is trained from."""
        starts: dict[str, set[str]] = {}
        for run in self._study.run_names:
            starts.setdefault(run.backbone, set()).add(run.start)
        return starts

    # --- headings -------------------------------------------------------------------------

    def run_heading(self, dataset: str, run: State) -> str:
        """What a page of one run is of."""
        words = [self.dataset(dataset), self.backbone(run.backbone)]
        words += [self.start(run.backbone, run.start), self.recipe(run.recipe)]
        return ", ".join([*words, f"seed {run.seed}"])

    def embedding_heading(self, dataset: str, columns: Sequence[Column]) -> str:
        """Whose t-SNE figures show: of several seeds the first."""
        heading = f"{self.dataset(dataset)}, test images among training images"
        return f"{heading}{_first_seeds(columns)}"

    def variance_heading(self, columns: Sequence[Column]) -> str:
        """The data set of report B's comparison as figures print it; of several seeds the first."""
        return f"{self.dataset(self._study.variance.dataset)}{_first_seeds(columns)}"


def _first_seeds(columns: Sequence[Column]) -> str:
    """What a heading adds where of several seeds the first is shown; nothing where there is one."""
    seeds = sorted({column.first.state.seed for column in columns if len(column.sets) > 1})
    plural = "s" if len(seeds) > 1 else ""
    return f"; seed{plural} {', '.join(map(str, seeds))}" if seeds else ""
