"""What a table or figure is made of: the one object that each function that draws is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DescribedRun:
    """A run, as tables and figures name it.

    Attributes
    ----------
    dataset, backbone, start, recipe
        Its names in the study file.
    setting
        The swept keys of the recipe and their values.
    seed
        Its seed.
    series
        The same for all seeds and data sets: one curve of a figure.
    label, start_label
        Of the series and of the start, in words.
    last
        The last epoch.
    layers
        Those that are read, in order.
    published
        The names of published curves (data set, features), or None.
    """

    dataset: str
    backbone: str
    start: str
    recipe: str
    setting: Mapping[str, Any]
    seed: int
    series: str
    label: str
    start_label: str
    last: int
    layers: list[str]
    published: tuple[str, str] | None = None

    @property
    def layer(self) -> str:
        """The layer that figures over epochs show: the last one."""
        return self.layers[-1]


@dataclass(frozen=True)
class DescribedFeatures:
    """A feature set but for its seed, as tables and figures name it.

    A text that does not apply is empty: raw pixels have no start and no layer.

    Attributes
    ----------
    dataset
        Its data set.
    features
        Its folder, without a seed.
    backbone, start, recipe
        The names in the study file; of what no network made ``backbone`` is its own name, of
        vectors that are epochs that of their series.
    setting
        The swept keys of the recipe and their values.
    epoch
        None where there is no network, unless vectors are epochs.
    layer
        The layer that is read.
    label
        In words.
    seeds
        Empty if no seed touches it.
    published
        Report A's names of the data set and the features, or None.
    """

    dataset: str
    features: str
    backbone: str
    start: str
    recipe: str
    epoch: int | None
    layer: str
    label: str
    setting: Mapping[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    published: tuple[str, str] | None = None


Described = DescribedRun | DescribedFeatures
#: The files of a table or figure by their suffixes: ``pdf``, ``png``, ``svg``, ``txt``,
#: ``csv``, ``md``, ``tex``, ``json``.
Outputs = Mapping[str, str | Path]

#: What is told as JSON-like values, and is given as these.
CLASSES = {
    **dict.fromkeys(("runs", "layered_runs", "swept_runs", "runs_swept_twice"), DescribedRun),
    "columns": DescribedFeatures,
}


class Material:
    """What a table or figure is made of, by name: files that it reads and what it is told.

    It has what the entry of the product names in the study's list
    (:mod:`collapseflow.study.products`); what else is taken of it is refused. Files are paths:

    Attributes
    ----------
    measures, failures
        The two tables of :func:`collapseflow.presentation.rows.collect_measures`.
    training
        What :func:`collapseflow.presentation.tables.runs.training_table` wrote.
    variance
        What :func:`collapseflow.presentation.tables.variance.variance_table` wrote.
    images, variance_images
        The data set, and that of report B's comparison.
    audit
        The file of what :func:`collapseflow.images.audit.audit` gives of the data set.
    classification
        For each seed of each of ``columns`` the file of what
        :func:`collapseflow.measures.probes.evaluate_all` gives, or why there is nothing.
    embeddings
        For each of ``columns`` the file of a t-SNE of training and test images in one map
        (:func:`collapseflow.measures.embedding.embed`).
    variance_embeddings
        For each feature set of report B's comparison those of training images and of test images.
    similarity
        Of each series the file of what :func:`collapseflow.measures.similarity.compare_layers`
        gives of several layers, or ``failed``; of a data set of vectors the one file of what
        :func:`collapseflow.measures.similarity.compare_sets` gives.
    logs
        Of each run the file of what :func:`collapseflow.training.loop.finetune` logs, or
        :func:`collapseflow.presentation.logs.read_log` reads.
    statistics, variance_statistics
        What jobs make of statistics: a run's folder, or a file. ``states`` and
        ``variance_states`` are the files.
    benchmarks
        Snakemake's file of each of ``jobs``, with the wall time of its last run.
    runs, layered_runs, swept_runs, runs_swept_twice
        :class:`DescribedRun`: all runs; those of backbones that are read at several layers; those
        of recipes that are run with several values of a key; those with several values of two keys.
    columns
        :class:`DescribedFeatures`: the feature sets that are compared on the data set.
    column_labels
        Their labels alone.
    dataset, title
        Name and label of the data set.
    datasets, backbones, starts, classifiers
        Labels of all of the study by their names, in its order: they share out colours, markers
        and rows.
    backbone_names
        The names of the backbones alone.
    style, seed
        Of the study; the style as figures are told it
        (:attr:`collapseflow.study.schema.Style.drawn`).
    only_recipes, only_splits, only_measures
        What figures show of what they have
        (:func:`collapseflow.presentation.figures.curves.chosen`); empty where they show all.
    ink
        Whether grey images are printed as ink on paper: what is black in them is white.
    scattering
        The keys ``J``, ``L`` and ``order``.
    embedding_heading, run_heading, variance_heading
        What a figure is of, in words.
    neighbours
        Parameters of the classifiers that are nearest neighbours, by name.
    published_classifiers
        Report A's names of the classifiers that it has.
    confused, confused_label
        The classifier whose confusions are shown: its name and its label.
    series
        Labels of the series that are read at several layers.
    layer
        The last layer of the run's backbone.
    states
        Epochs of a run with their files of
        :func:`collapseflow.measures.statistics.write_statistics`.
    faithful
        Recipes with report A's validation, as in ``series`` of runs, each with the recipe that
        differs from it in nothing else.
    without_imagenet
        Backbones without ImageNet's normalisation, each with the one that differs from it in
        nothing else.
    variance_features, variance_titles
        Labels of the feature sets of report B's comparison by their folders, and of each with
        training and with test images.
    variance_identities
        Of each its data set, backbone, start, recipe, seed, epoch and layer.
    variance_published
        For those that report B has: its data set and its name of the features.
    variance_states
        The file with the statistics of each, and its layer.
    jobs
        Stage, data set and name of each job that computes, empty where there is none.
    job_logs
        Their log files.
    published_minutes
        What report B needed for the same, by stage, data set and name with slashes between.
    """

    def __init__(self, **given: Any):
        for name, value in given.items():
            described = CLASSES.get(name)
            if described:
                value = [one if isinstance(one, described) else described(**one) for one in value]
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{name}: is not named under reads or shows of this product in study/products.py"
        )
