"""The feature sets of a study: which are compared, analysed, and untrained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from collapseflow.study.paths import FeatureSet, State
from collapseflow.study.runs import Runs
from collapseflow.study.schema import WITHOUT_NETWORK, Study


@dataclass(frozen=True)
class Column:
    """A feature set but for its seed: a column of a table, a panel of a figure.

    ``sets`` has one feature set for each seed, or the only one; ``recipe`` is the study's name.
    """

    key: str
    sets: tuple[FeatureSet, ...]
    recipe: str = ""

    @property
    def first(self) -> FeatureSet:
        """The one of the first seed."""
        return self.sets[0]


#: Columns of one data set.
DatasetColumns = Callable[[str], list[Column]]


class Columns:
    """The columns of each data set of a study, in the order of its keys."""

    def __init__(self, study: Study, runs: Runs):
        self._study = study
        self._runs = runs

    def compared(self, dataset: str) -> list[Column]:
        """The columns that tables and t-SNE figures compare on a data set."""
        return self._compared[dataset]

    @cached_property
    def _compared(self) -> dict[str, list[Column]]:
        columns = {}
        for dataset in self._study.datasets:
            names = own = self._study.feature_names([dataset])
            if self._study.features is not None:
                names = [name for name in self._study.features if name in own]
            columns[dataset] = [c for name in names for c in self.named(dataset, name)]
        return columns

    def named(self, dataset: str, name: str) -> list[Column]:
        """The columns behind one name of the key ``features``: all layers, starts and recipes."""
        if name in (*WITHOUT_NETWORK, *self._study.vectors[dataset]):
            return [Column(name, (FeatureSet(name=name),))]
        key, start = name.split("-", 1)
        if start != "finetuned":
            return self._start_columns[key, start]
        states: dict[tuple[State, str], list[State]] = {}
        for run in self._runs.by_network.get((dataset, key), []):
            last = self._runs.last(run)
            without_seed = State(key, last.start, run.recipe, None, last.epoch)
            states.setdefault((without_seed, run.recipe), []).append(last)
        return [
            column
            for (without_seed, recipe), states_of_seeds in states.items()
            for column in self._at_all_layers(without_seed, recipe, states_of_seeds)
        ]

    def _at_all_layers(
        self, without_seed: State, recipe: str, states_of_seeds: Sequence[State]
    ) -> list[Column]:
        return [
            Column(
                f"{without_seed.path}/{layer}",
                tuple(FeatureSet(state=state, layer=layer) for state in states_of_seeds),
                recipe,
            )
            for layer in self._study.backbones[without_seed.backbone].layers
        ]

    def analysed(self, dataset: str) -> list[Column]:
        """The columns that classifiers and the analyses of features are run on: those that are
        compared, and all starts of the study where transfer is asked for."""
        return self._analysed[dataset]

    @cached_property
    def _analysed(self) -> dict[str, list[Column]]:
        analysed = {}
        for dataset in self._study.datasets:
            columns = list(self.compared(dataset))
            if "transfer" in self._study.analyses and dataset in self._study.with_images:
                columns += self._all_start_columns()
            analysed[dataset] = list({column.key: column for column in columns}.values())
        return analysed

    @cached_property
    def _start_columns(self) -> dict[tuple[str, str], list[Column]]:
        """The columns of each start of each backbone, which are the same on all data sets."""
        states: dict[tuple[str, str], list[State]] = {}
        for state in self._runs.starts:
            states.setdefault((state.backbone, state.start), []).append(state)
        return {
            (key, start): self._at_all_layers(State(key, start), "", states_of_seeds)
            for (key, start), states_of_seeds in states.items()
        }

    def _all_start_columns(self) -> list[Column]:
        return [column for columns in self._start_columns.values() for column in columns]

    def untrained(self, dataset: str) -> list[Column]:
        """The columns that no training on the data set has touched, of which something is shown:
        starts, and where the study asks for them raw pixels and scattering."""
        return self._untrained[dataset]

    @cached_property
    def _untrained(self) -> dict[str, list[Column]]:
        shown_on: dict[str, set[str]] = {dataset: set() for dataset in self._study.datasets}
        for dataset, features in self.shown:
            shown_on[dataset].add(features.folder)
        baselines = WITHOUT_NETWORK if "baselines" in self._study.analyses else ()
        for run in self._runs:
            shown_on[run.dataset].update([run.state.at(0).path, *baselines])
        untrained = {}
        for dataset, shown in shown_on.items():
            names = self._study.vectors[dataset] or WITHOUT_NETWORK
            columns = [c for name in names for c in self.named(dataset, name)]
            columns += self._all_start_columns()
            shown_sets = [tuple(s for s in c.sets if s.folder in shown) for c in columns]
            untrained[dataset] = [
                replace(column, sets=sets)
                for column, sets in zip(columns, shown_sets, strict=True)
                if sets
            ]
        return untrained

    @cached_property
    def variance(self) -> list[Column]:
        """The columns of report B's comparison."""
        asked = self._study.variance
        names = asked.features if asked else []
        return [column for name in names for column in self.named(asked.dataset, name)]

    @cached_property
    def shown(self) -> list[tuple[str, FeatureSet]]:
        """Every data set and feature set that a table or a figure shows."""
        pairs = self.sets_everywhere(self.analysed)
        if self._study.variance:
            pairs += [(self._study.variance.dataset, column.first) for column in self.variance]
        return list(dict.fromkeys(pairs))

    def everywhere(self, columns: DatasetColumns) -> list[tuple[str, Column]]:
        """Every data set with each of its columns."""
        return [(dataset, c) for dataset in self._study.datasets for c in columns(dataset)]

    def sets_everywhere(self, columns: DatasetColumns) -> list[tuple[str, FeatureSet]]:
        """Every data set with each seed of each of its columns, in the order of
        :meth:`everywhere`."""
        return [(dataset, one) for dataset, c in self.everywhere(columns) for one in c.sets]

    # --- t-SNE ----------------------------------------------------------------------------

    def embeddings(self, dataset: str) -> list[tuple[str, str, str, str]]:
        """The t-SNE of a data set's columns: data set, features, what is embedded, method."""
        return [(dataset, c.first.path, "both", "opentsne") for c in self.compared(dataset)]

    def variance_embeddings(self) -> list[tuple[str, str, str, str]]:
        """As :meth:`embeddings`, those of report B's comparison."""
        return [
            (self._study.variance.dataset, column.first.path, split, "sklearn")
            for column in self.variance
            for split in ("train", "test")
        ]
