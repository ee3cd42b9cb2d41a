"""Runs and feature sets as tables and figures are told of them."""

from functools import cached_property
from typing import Any

from collapseflow import published
from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.study.columns import Column, Columns, DatasetColumns
from collapseflow.study.labels import Labels
from collapseflow.study.paths import FeatureSet
from collapseflow.study.publications import published_curves, published_features
from collapseflow.study.recipes import recipe_of, setting_of
from collapseflow.study.runs import Run, Runs
from collapseflow.study.schema import Study


class Descriptions:
    """A study in the words and values that its tables and figures show."""

    def __init__(self, study: Study, runs: Runs, columns: Columns, labels: Labels):
        self._study = study
        self._runs = runs
        self._columns = columns
        self._labels = labels

    @cached_property
    def runs(self) -> list[DescribedRun]:
        """The runs, in their order."""
        return [self._describe_run(run) for run in self._runs]

    def _describe_run(self, run: Run) -> DescribedRun:
        layers = self._study.backbones[run.state.backbone].layers
        last = self._runs.last(run)
        return DescribedRun(
            dataset=run.dataset,
            backbone=run.state.backbone,
            start=run.state.start,
            recipe=recipe_of(run.recipe),
            setting=setting_of(run.recipe, self._study.courses[run.recipe]),
            seed=run.state.seed,
            series=run.series,
            label=self._labels.run(run),
            start_label=self._labels.start(run.state.backbone, run.state.start),
            last=last.epoch,
            layers=layers,
            published=published_curves(
                self._study, run.dataset, FeatureSet(state=last, layer=layers[-1])
            ),
        )

    def layered_runs(self) -> list[DescribedRun]:
        """The runs of backbones that are read at several layers."""
        return [run for run in self.runs if len(run.layers) > 1]

    def swept_runs(self) -> list[DescribedRun]:
        """The runs of recipes that are run with several values of a key."""
        points: dict[str, set[str]] = {}
        for run in self.runs:
            points.setdefault(run.recipe, set()).add(str(run.setting))
        return [run for run in self.runs if len(points[run.recipe]) > 1]

    def runs_swept_twice(self) -> list[DescribedRun]:
        """The runs of recipes that are run with several values of two keys or more."""
        values: dict[str, dict[str, set[str]]] = {}
        for run in self.runs:
            for key, value in run.setting.items():
                values.setdefault(run.recipe, {}).setdefault(key, set()).add(str(value))
        several = {
            recipe: [key for key, of_key in by_key.items() if len(of_key) > 1]
            for recipe, by_key in values.items()
        }
        return [run for run in self.runs if len(several.get(run.recipe, ())) > 1]

    def columns(self, dataset: str) -> list[DescribedFeatures]:
        """The columns that are compared on a data set."""
        return [self._describe_column(dataset, c) for c in self._columns.compared(dataset)]

    def everywhere(self, columns: DatasetColumns) -> list[DescribedFeatures]:
        """Columns of all data sets."""
        return [self._describe_column(*pair) for pair in self._columns.everywhere(columns)]

    def _describe_column(self, dataset: str, column: Column) -> DescribedFeatures:
        state = column.first.state
        recipe = self._study.courses.get(column.recipe)
        own = self._study.epochs_of_vectors[dataset]
        series, epoch = own.get(column.key, (column.first.name, None))
        return DescribedFeatures(
            dataset=dataset,
            features=column.key,
            backbone=state.backbone if state else series,
            start=state.start if state else "",
            recipe=recipe_of(column.recipe),
            setting=setting_of(column.recipe, recipe) if recipe else {},
            epoch=state.epoch if state else epoch,
            layer=column.first.layer,
            label=self._labels.column(column),
            seeds=[s.state.seed for s in column.sets if s.state and s.state.seed is not None],
            published=published_features(self._study, published.REPORT_A, dataset, column.first),
        )

    def variance_identities(self) -> dict[str, dict[str, Any]]:
        """What the feature sets of report B's comparison are, by their folders."""
        keys = ("backbone", "start", "recipe", "epoch", "layer")
        identities = {}
        for column in self._columns.variance:
            described = self._describe_column(self._study.variance.dataset, column)
            identities[column.first.path] = {
                "dataset": described.dataset,
                **{key: getattr(described, key) for key in keys},
                "seed": next(iter(described.seeds), None),
            }
        return identities

    def study(self) -> dict[str, Any]:
        """What the summary says of the study as a whole."""
        return {
            "study": self._study.study,
            "precision": self._study.precision,
            "precision_of_reading": self._study.precision_of_reading(),
            "seeds": self._study.training_seeds() if self._runs else [],
            "recipes": {
                point: self._study.recipes[point].changed()
                if point in self._study.recipes
                else {"checkpoints": self._study.trainings[point].checkpoints}
                for point in dict.fromkeys(run.recipe for run in self._runs)
            },
        }
