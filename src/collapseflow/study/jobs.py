"""What jobs read and are told, by the names that Snakemake's wildcards have: folders and keys."""

from collections.abc import Mapping
from typing import Any

from collapseflow.features.families import family_of
from collapseflow.features.inputs import NetworkKeys
from collapseflow.images.datasets import SPLITS
from collapseflow.images.sources import places
from collapseflow.study.labels import Labels
from collapseflow.study.paths import Files, State
from collapseflow.study.runs import Run, Runs
from collapseflow.study.schema import PRETRAINED_ON, Study, Training, is_distributed


class Jobs:
    """The inputs and parameters of a study's jobs.

    Arguments are called as wildcards: ``run``, ``state``, ``features``, ``untrained`` and
    ``replicates`` are folders, ``dataset`` and ``backbone`` keys of the study file.
    """

    def __init__(self, study: Study, files: Files, runs: Runs, labels: Labels):
        self._study = study
        self._files = files
        self._runs = runs
        self._labels = labels

    # --- images ---------------------------------------------------------------------------

    def images_of_a_user(self, dataset: str) -> str | None:
        """What changes when an image is added to a user's own, changed or removed, or the file that
        has the labels of vectors; None for other sources.

        Raises
        ------
        UserError
            If they cannot be read.
        """
        return places.content(self._study.datasets[dataset].model_dump())

    def vectors(self, dataset: str, vectors: str) -> str:
        """The file that vectors of a data set are read from."""
        return self._study.vectors[dataset][vectors]

    # --- weights --------------------------------------------------------------------------

    def weights_of(self, dataset: str, state: State) -> str:
        """The weights of a state: a file, or the folder of the run that has it."""
        if state.epoch:
            return self._files.training(dataset, state.run)
        if is_distributed(state.start):
            model = self._study.backbones[state.backbone].model
            return f"resources/weights/{model}-{state.start}.safetensors"
        if state.start == "file":
            return self._study.weights_file(state.backbone)
        return f"{self._files.results}/weights/{state.run}.safetensors"

    def weights(self, dataset: str, state: str) -> str:
        """The weights that features are read from."""
        return self.weights_of(dataset, self._runs.state(state))

    def starting_weights(self, dataset: str, run: str) -> str:
        """The weights that a run starts from."""
        return self.weights_of(dataset, self._runs.run(run).at(0))

    def starting_label(self, run: str) -> str:
        """What they are, in words."""
        state = self._runs.run(run)
        return self._labels.start(state.backbone, state.start)

    def pretraining_dataset(self, pretrained: str) -> str:
        """The data set of the study that weights are pretrained on; empty where it is letters."""
        starts = {f"{PRETRAINED_ON}{name}": name for name in self._study.with_images}
        return starts.get(pretrained, "")

    def pretraining_images(self, pretrained: str) -> str:
        """The images that weights are pretrained on."""
        dataset = self.pretraining_dataset(pretrained)
        letters = f"{self._files.results}/pretraining/letters.h5"
        return self._files.dataset(dataset) if dataset else letters

    def pretraining_label(self, backbone: str, pretrained: str) -> str:
        """What weights are pretrained on, in words."""
        return self._labels.start(backbone, pretrained)

    # --- how networks are trained and read ------------------------------------------------

    def finetuning(self, run: str) -> dict[str, Any]:
        """How a run is trained."""
        state = self._runs.run(run)
        training = self._study.recipes[state.recipe].training()
        return self._recipe(state.backbone, state.start, state.seed, training)

    def pretraining(self, backbone: str, pretrained: str, seed: str) -> dict[str, Any]:
        """How a backbone is trained from random weights: Adam on all weights, a constant rate."""
        keys = {"epochs", "batch_size", "learning_rate"}
        training = self._study.pretrain.model_dump(include=keys)
        return self._recipe(backbone, pretrained, int(seed), {"optimizer": "adam", **training})

    def _recipe(
        self, backbone: str, start: str, seed: int, training: Mapping[str, Any]
    ) -> dict[str, Any]:
        """How a backbone is trained (:class:`collapseflow.training.recipes.NetworkRecipe`)."""
        entry = self._network(backbone, start)
        return {**entry, "precision": self._study.precision, "seed": seed, **training}

    def _network(self, backbone: str, start: str) -> dict[str, Any]:
        """What decides a network and its images; what is not used is left out."""
        entry = self._study.backbones[backbone]
        told = entry.entry(NetworkKeys.model_fields)
        if entry.asks_the_weights and is_distributed(start):
            told["described_by"] = start
        if code := family_of(entry.model).code_of(entry.model):
            told["model_code"] = code
        return told

    def untrained_network(self, backbone: str) -> str | dict[str, Any]:
        """What random weights are drawn for: a model by its name, where nothing else decides
        them."""
        entry = self._study.backbones[backbone]
        family = family_of(entry.model)
        told = {"model": entry.model}
        if family.is_built_for_a_size(entry.model) and entry.image_size != 224:
            told["image_size"] = entry.image_size
        if code := family.code_of(entry.model):
            told["model_code"] = code
        return told if len(told) > 1 else entry.model

    def training_progress(self, dataset: str, run: str) -> str:
        """Where a run's finished epochs are kept: whatever its recipe is called, a folder for each
        digest of what decides them."""
        state = self._runs.run(run)
        network = f"{state.backbone}/{state.start}/s{state.seed}"
        return f"{self._files.results}/progress/finetune/{dataset}/{network}"

    def checkpoints(self, elsewhere: str) -> list[str]:
        """The checkpoints of a run that was made elsewhere, of each measured epoch."""
        state = self._runs.run(elsewhere)
        return list(self._study.checkpoints[state.recipe][state.seed].values())

    def made_elsewhere(self, elsewhere: str) -> Training:
        """What the study file says of a run that was made elsewhere."""
        return self._study.trainings[self._runs.run(elsewhere).recipe]

    def log_made(self, elsewhere: str) -> list[str]:
        """The log of a run that was made elsewhere; none where the study file has none."""
        return self.made_elsewhere(elsewhere).logs(self._runs.run(elsewhere).seed)

    def measured_epochs(self, run: str) -> list[int]:
        """The epochs of a run whose weights are kept and measured."""
        return self._study.courses[self._runs.run(run).recipe].measured_epochs()

    def epoch(self, state: str) -> int:
        """The epoch of a state."""
        return self._runs.state(state).epoch

    def reading(self, dataset: str, state: str) -> dict[str, Any]:
        """How the features of a state are read on a data set."""
        found = self._runs.state(state)
        if found.epoch:
            told = found.recipe in self._study.trainings
        else:
            told = found.start == "file"
            told = told and self._study.backbones[found.backbone].classes_of_weights == dataset
        return self._told_reading(found, told)

    def _told_reading(self, state: State, told: bool) -> dict[str, Any]:
        # Of other states no parameter says it: what was read before there was a choice stays valid.
        return {**self._reading(state), **({"classes_told": True} if told else {})}

    def reading_of_run(self, run: str) -> dict[str, Any]:
        """How the features of a run's epochs are read."""
        state = self._runs.run(run)
        return self._told_reading(state, state.recipe in self._study.trainings)

    def _reading(self, state: State) -> dict[str, Any]:
        """How features are read from a network
        (:class:`collapseflow.features.extraction.Reading`)."""
        backbone = self._study.backbones[state.backbone]
        return {
            **self._network(state.backbone, state.start),
            **backbone.entry({"layers", "batch_size"}),
            "pool": backbone.pool_of_job,
            "precision": self._study.precision_of_reading(),
        }

    # --- features and their statistics ----------------------------------------------------

    def features(self, dataset: str, features: str) -> str:
        """The folder with the stores of a feature set, which one job makes."""
        return self._files.features(dataset, self._runs.features(features).folder)

    def last_features(self, dataset: str, run: str) -> str:
        """The folder with the features after a run's last epoch."""
        last = self._runs.run(run).at(self.measured_epochs(run)[-1])
        return self._files.features(dataset, last.path)

    def stores(self, dataset: str, features: str) -> dict[str, str]:
        """The stores of a feature set by split."""
        return {split: self._files.store(dataset, features, split) for split in SPLITS}

    def train_store(self, dataset: str, features: str) -> str:
        """The store of the training images."""
        return self._files.store(dataset, features, "train")

    def test_store(self, dataset: str, features: str) -> str:
        """The store of the test images."""
        return self._files.store(dataset, features, "test")

    def layer(self, features: str) -> str:
        """The layer of a feature set."""
        return self._runs.features(features).layer

    def layers(self, untrained: str) -> list[str]:
        """The layers of a folder of features; what no network of the study gives is a nameless
        one."""
        if "/" not in untrained:
            return [""]
        return self._study.backbones[self._runs.state(untrained).backbone].layers

    def statistics(self, dataset: str, features: str) -> str:
        """The file with the statistics of a feature set."""
        return self._files.statistics(dataset, self._runs.features(features).folder)

    def statistics_made(self, dataset: str, features: str) -> str:
        """What a job makes of it: of a run all measured epochs at once."""
        return self._files.statistics_made(dataset, self._runs.features(features))

    # --- t-SNE ----------------------------------------------------------------------------

    def embedded_stores(self, dataset: str, features: str, embedded: str) -> dict[str, str]:
        """The stores of what is embedded in one map, by split: both, or one."""
        stores = self.stores(dataset, features)
        return stores if embedded == "both" else {embedded: stores[embedded]}

    def embedding_options(self, method: str) -> dict[str, Any]:
        """Parameters of a t-SNE: the study's, or report B's on all images."""
        if method == "opentsne":
            return self._study.embedding.model_dump()
        return {"n_samples": None, "perplexity": 30.0}

    # --- similarity of layers -------------------------------------------------------------

    def _replicates(self, dataset: str, replicates: str) -> list[Run]:
        return self._runs.replicates(dataset)[replicates]

    def replicates_features(self, dataset: str, replicates: str) -> list[str]:
        """The features before and after trainings that differ by seed only: the first seed's start,
        and each seed's last epoch."""
        runs = self._replicates(dataset, replicates)
        states = [runs[0].state.at(0), *map(self._runs.last, runs)]
        return [self._files.features(dataset, state.path) for state in states]

    def replicates_layers(self, dataset: str, replicates: str) -> list[str]:
        """Their layers."""
        backbone = self._replicates(dataset, replicates)[0].state.backbone
        return self._study.backbones[backbone].layers

    def replicates_seeds(self, dataset: str, replicates: str) -> list[int]:
        """Their seeds."""
        return [run.state.seed for run in self._replicates(dataset, replicates)]

    # --- similarity of vectors ------------------------------------------------------------

    def vectors_features(self, dataset: str) -> list[str]:
        """The folders with the stores of a data set's files of vectors."""
        return [self._files.features(dataset, name) for name in self._study.vectors[dataset]]

    def vectors_stores(self, dataset: str) -> dict[str, str]:
        """Their stores of training vectors, by their names."""
        return {name: self.train_store(dataset, name) for name in self._study.vectors[dataset]}
