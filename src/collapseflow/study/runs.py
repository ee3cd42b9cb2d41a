"""The runs of a study, what they start from, and which of them are one training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from collapseflow.running.words import epoch_name
from collapseflow.study.paths import FeatureSet, State
from collapseflow.study.schema import Study, is_seeded, weight_state


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
        """Backbone, start and recipe: one curve of a figure."""
        return f"{self.state.backbone}/{self.state.start}/{self.recipe}"

    @property
    def path(self) -> str:
        """Its folder."""
        return self.state.run


class Runs:
    """Every run that a study names, in the order of its keys."""

    def __init__(self, study: Study):
        self._study = study

    def __iter__(self) -> Iterator[Run]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    @cached_property
    def _named(self) -> list[Run]:
        return [
            Run(
                run.dataset,
                run.recipe,
                State(run.backbone, run.start, self.trained_as[run.recipe], run.seed),
            )
            for run in self._study.run_names
        ]

    @cached_property
    def trained_as(self) -> dict[str, str]:
        """For each point of a recipe the first one that trains and measures in the same way."""
        first: dict[str, str] = {}
        trained = {
            point: first.setdefault(str((recipe.training(), recipe.measured_epochs())), point)
            for point, recipe in self._study.recipes.items()
        }
        return {**trained, **{name: name for name in self._study.trainings}}

    @cached_property
    def trainings(self) -> list[Run]:
        """The runs whose files are made: one for each training."""
        first: dict[tuple[str, str], Run] = {}
        for run in self:
            first.setdefault((run.dataset, run.path), run)
        return list(first.values())

    def is_made_elsewhere(self, run: Run) -> bool:
        """Whether a run's epochs are checkpoints from elsewhere."""
        return run.recipe in self._study.trainings

    @cached_property
    def by_network(self) -> dict[tuple[str, str], list[Run]]:
        """The runs by data set and backbone."""
        runs: dict[tuple[str, str], list[Run]] = {}
        for run in self:
            runs.setdefault((run.dataset, run.state.backbone), []).append(run)
        return runs

    def last(self, run: Run) -> State:
        """A run after its last epoch."""
        return run.state.at(self._study.courses[run.recipe].epochs)

    # --- what runs start from -------------------------------------------------------------

    @cached_property
    def starts(self) -> list[State]:
        """The states that no epoch has touched.

        A seeded start has the seeds of the runs that start from it; all of the study where none
        does, or where the study names its features.
        """
        return [
            State(key, start, seed=seed)
            for key, backbone in self._study.backbones.items()
            for start in map(weight_state, backbone.weights)
            for seed in (self._seeds_of_start(key, start) if is_seeded(start) else [None])
        ]

    def _seeds_of_start(self, key: str, start: str) -> list[int]:
        variance = self._study.variance
        named = [*(self._study.features or []), *(variance.features if variance else [])]
        run = self._run_seeds.get((key, start))
        everyone = run is None or f"{key}-{start}" in named
        return [seed for seed in self._study.training_seeds() if everyone or seed in run]

    @cached_property
    def _run_seeds(self) -> dict[tuple[str, str], set[int]]:
        """The seeds of the runs from each start of each backbone."""
        seeds: dict[tuple[str, str], set[int]] = {}
        for run in self:
            state = run.state
            seeds.setdefault((state.backbone, state.start), set()).add(state.seed)
        return seeds

    # --- replicates -----------------------------------------------------------------------

    @cached_property
    def _replicates(self) -> dict[str, dict[str, list[Run]]]:
        found: dict[str, dict[str, dict[str, Run]]] = {d: {} for d in self._study.datasets}
        for run in self:
            name = replace(run.state, seed=None).run
            found[run.dataset].setdefault(name, {})[run.path] = run
        return {
            dataset: {name: list(runs.values()) for name, runs in by_name.items()}
            for dataset, by_name in found.items()
        }

    def replicates(self, dataset: str) -> dict[str, list[Run]]:
        """The trainings on a data set by their folder but for the seed: a run for each seed."""
        return self._replicates[dataset]

    def layered_replicates(self, dataset: str) -> dict[str, list[Run]]:
        """Of :meth:`replicates` those of backbones that are read at several layers."""
        return {
            name: runs
            for name, runs in self.replicates(dataset).items()
            if len(self._study.backbones[runs[0].state.backbone].layers) > 1
        }

    # --- what is in a folder --------------------------------------------------------------

    @cached_property
    def _by_folder(self) -> dict[str, State]:
        """The starts, and the trainings before any epoch, by their folders."""
        states = [*self.starts, *(run.state for run in self.trainings)]
        return {state.run: state for state in states}

    @cached_property
    def _epochs(self) -> dict[str, dict[str, int]]:
        """The epochs of each point of a recipe, and that of starts, by the names of folders."""
        measured = {point: r.measured_epochs() for point, r in self._study.courses.items()}
        return {
            point: {epoch_name(epoch): epoch for epoch in epochs}
            for point, epochs in {"": [0], **measured}.items()
        }

    def run(self, folder: str) -> State:
        """The training with a folder, before any epoch."""
        return self._by_folder[folder]

    def state(self, folder: str) -> State:
        """The state with a folder: a start, or a training at a measured epoch."""
        run, _, epoch = folder.rpartition("/")
        state = self._by_folder[run]
        return replace(state, epoch=self._epochs[state.recipe][epoch])

    def features(self, folder: str) -> FeatureSet:
        """The feature set with a folder."""
        if "/" not in folder:
            return FeatureSet(name=folder)
        state, _, layer = folder.rpartition("/")
        return FeatureSet(state=self.state(state), layer=layer)
