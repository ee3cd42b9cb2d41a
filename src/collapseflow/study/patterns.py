"""Patterns of the folders of a study: what Snakemake's wildcards may stand for."""

import re
from collections.abc import Iterable
from functools import cached_property

from collapseflow.running.words import epoch_name
from collapseflow.study.runs import Runs
from collapseflow.study.schema import WITHOUT_NETWORK, Study


def one_of(paths: Iterable[str]) -> str:
    """A pattern that matches some names or paths and nothing else.

    Folder by folder: thousands of paths one after another would take as many attempts a file.
    """
    below: dict[str, list[str]] = {}
    for path in paths:
        folder, separator, rest = path.partition("/")
        below.setdefault(folder + separator, []).append(rest)
    parts = [
        f"{re.escape(folder)}(?:{one_of(rest)})" if folder.endswith("/") else re.escape(folder)
        for folder, rest in below.items()
    ]
    return "|".join(parts) or "(?!)"


class Patterns:
    """Patterns that match folders of a study and nothing else."""

    def __init__(self, study: Study, runs: Runs):
        self._study = study
        self._runs = runs

    @property
    def run(self) -> str:
        """The folders of trainings."""
        return one_of(dict.fromkeys(run.path for run in self._runs.trainings))

    @property
    def trained(self) -> str:
        """The folders of the trainings that the study trains."""
        runs = [run for run in self._runs.trainings if not self._runs.is_made_elsewhere(run)]
        return one_of(dict.fromkeys(run.path for run in runs))

    @property
    def elsewhere(self) -> str:
        """The folders of those that were made elsewhere."""
        runs = filter(self._runs.is_made_elsewhere, self._runs.trainings)
        return one_of(dict.fromkeys(run.path for run in runs))

    @property
    def replicates(self) -> str:
        """The folders of trainings but for the seed."""
        names = [name for d in self._study.datasets for name in self._runs.replicates(d)]
        return one_of(dict.fromkeys(names))

    @property
    def state(self) -> str:
        """The folders of states that can be had."""
        return "|".join(self._states.values()) or one_of([])

    @property
    def features(self) -> str:
        """The folders of feature sets that can be had."""
        networks = [
            f"(?:{self._states[key]})/(?:{one_of(backbone.layers)})"
            for key, backbone in self._study.backbones.items()
        ]
        return "|".join([*WITHOUT_NETWORK, self.vectors, *networks])

    @property
    def vectors(self) -> str:
        """The names of vectors that were computed elsewhere."""
        return one_of(dict.fromkeys(self._vectors))

    @property
    def untrained(self) -> str:
        """The folders of features that no training has touched."""
        starts = (state.path for state in self._runs.starts)
        return one_of(dict.fromkeys([*WITHOUT_NETWORK, *self._vectors, *starts]))

    @property
    def _vectors(self) -> list[str]:
        return [name for names in self._study.vectors.values() for name in names]

    @cached_property
    def _states(self) -> dict[str, str]:
        """For each backbone its starts, and its runs at measured epochs."""
        starts: dict[str, list[str]] = {key: [] for key in self._study.backbones}
        for state in self._runs.starts:
            starts[state.backbone].append(state.path)
        epochs = {
            point: one_of(map(epoch_name, recipe.measured_epochs()))
            for point, recipe in self._study.courses.items()
        }
        runs: dict[str, dict[str, dict[str, None]]] = {key: {} for key in self._study.backbones}
        for run in self._runs.trainings:
            folders = runs[run.state.backbone].setdefault(epochs[run.recipe], {})
            folders[run.path] = None
        return {
            key: "|".join(
                [
                    one_of(paths),
                    *(f"(?:{one_of(at)})/(?:{epochs})" for epochs, at in runs[key].items()),
                ]
            )
            for key, paths in starts.items()
        }
