"""What follows from a study file before anything is computed."""

from functools import cached_property

from collapseflow.study.analyses import Analysis, analyses_of, asks
from collapseflow.study.columns import Columns
from collapseflow.study.descriptions import Descriptions
from collapseflow.study.jobs import Jobs
from collapseflow.study.labels import Labels
from collapseflow.study.paths import Files
from collapseflow.study.patterns import Patterns
from collapseflow.study.runs import Runs
from collapseflow.study.schema import Study
from collapseflow.study.timed_jobs import TimedJob, timed_jobs


class Plan:
    """The one object that rules, targets, tables and figures ask.

    Attributes
    ----------
    study
        The checked study file.
    files
        Where everything lies.
    runs
        The runs, and what they start from.
    columns
        The feature sets.
    labels
        What all of it is called.
    described
        Runs and feature sets as tables and figures are told of them.
    jobs
        What jobs read and are told.
    patterns
        What Snakemake's wildcards may stand for.
    """

    def __init__(self, study: Study):
        self.study = study
        self.files = Files(study.study)
        self.runs = Runs(study)
        self.columns = Columns(study, self.runs)
        self.labels = Labels(study)
        self.described = Descriptions(study, self.runs, self.columns, self.labels)
        self.jobs = Jobs(study, self.files, self.runs, self.labels)
        self.patterns = Patterns(study, self.runs)

    # --- what the study makes -------------------------------------------------------------

    def asks(self, analysis: str) -> bool:
        """Whether the study asks for an analysis, and has what it is of."""
        return asks(self.study, analysis)

    def analyses(self) -> list[Analysis]:
        """What is computed on the analysed feature sets."""
        return analyses_of(self.study)

    def results(self, analysis: Analysis) -> list[str]:
        """The files of an analysis: one for each seed of each column of all data sets."""
        return [
            self.files.result(analysis.name, dataset, features.path)
            for dataset, features in self.columns.sets_everywhere(self.columns.analysed)
        ]

    def untrained_statistics(self) -> list[str]:
        """The statistics of each seed of each untrained column of all data sets."""
        return [
            self.files.statistics(dataset, features.folder)
            for dataset, features in self.columns.sets_everywhere(self.columns.untrained)
        ]

    @cached_property
    def timed_jobs(self) -> list[TimedJob]:
        """The rows of the table of run times."""
        return timed_jobs(self.study, self.runs, self.columns)

    def geometry_runs(self, dataset: str) -> list[str]:
        """The runs whose geometry has a page: the first seed of those that differ by seed only."""
        return [runs[0].path for runs in self.runs.replicates(dataset).values()]

    def confusion_classifier(self) -> str:
        """The classifier whose confusions are drawn: the linear probe, or the first."""
        probes = [
            key
            for key, entry in self.study.classifiers.items()
            if entry.estimator == "collapseflow.LinearProbe"
        ]
        return [*probes, *self.study.classifiers][0]

    def faithful(self) -> list[tuple[str, str]]:
        """Recipes with report A's flaw, each with the recipe that differs from it in nothing
        else."""
        trained = dict.fromkeys(run.recipe for run in self.study.trained_names)
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
            key: backbone.model_dump(
                exclude={"label", "weights", "classes_of_weights", "batch_size"}
            )
            for key, backbone in self.study.backbones.items()
        }
        return [
            (without, normalised)
            for without, entry in entries.items()
            for normalised in entries
            if entry["normalize"] == "none"
            and entries[normalised] == {**entry, "normalize": "imagenet"}
        ]
