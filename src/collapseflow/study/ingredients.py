"""What tables and figures can be made of: the files that they read, and what they are told.

By the names under which :class:`collapseflow.presentation.material.Material` has it; an entry of
:mod:`collapseflow.study.products` names what its function uses.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from collapseflow import published
from collapseflow.study.paths import FeatureSet, State
from collapseflow.study.plan import Plan
from collapseflow.study.publications import (
    published_classifiers,
    published_features,
    published_minutes,
)


class Wildcards(Protocol):
    """Which one of a product is made: Snakemake's wildcards, as far as the product has them."""

    dataset: str
    run: str


# --- what a product reads ---------------------------------------------------------------------


def _classification(plan: Plan, w: Wildcards) -> list[str]:
    """A file for each seed of each column of a data set."""
    return [
        plan.files.result("classification", w.dataset, features.path)
        for column in plan.columns.compared(w.dataset)
        for features in column.sets
    ]


def _states(plan: Plan, w: Wildcards) -> list[State]:
    """The states that the page of a run shows: its start, its first measured epoch, its last."""
    run, epochs = plan.runs.run(w.run), plan.jobs.measured_epochs(w.run)
    return [run.at(epoch) for epoch in dict.fromkeys((0, epochs[0], epochs[-1]))]


def _statistics_jobs(plan: Plan, dataset: str, sets: Iterable[FeatureSet]) -> list[str]:
    """What jobs make of the statistics of some feature sets."""
    return list(dict.fromkeys(plan.files.statistics_made(dataset, features) for features in sets))


def _of_jobs(folder: str, suffix: str) -> Callable[[Plan, Wildcards], list[str]]:
    """One file of each job that computes: its log, or Snakemake's benchmark of it."""
    return lambda plan, w: [
        f"{plan.files.results}/{folder}/{'/'.join(filter(None, job))}.{suffix}"
        for job in plan.timed_jobs
    ]


#: Files.
READS: dict[str, Callable[[Plan, Wildcards], str | list[str]]] = {
    "measures": lambda plan, w: f"{plan.files.results}/measures.csv",
    "failures": lambda plan, w: f"{plan.files.results}/failures.csv",
    "training": lambda plan, w: f"{plan.files.results}/tables/training.csv",
    "variance": lambda plan, w: (
        [f"{plan.files.results}/tables/variance.csv"] if plan.study.variance else []
    ),
    "images": lambda plan, w: plan.files.dataset(w.dataset),
    "audit": lambda plan, w: plan.files.audit(w.dataset),
    "variance_images": lambda plan, w: plan.files.dataset(plan.study.variance.dataset),
    "logs": lambda plan, w: [plan.files.log(run.dataset, run.path) for run in plan.runs],
    "classification": _classification,
    "embeddings": lambda plan, w: [
        plan.files.embedding(*embedding) for embedding in plan.columns.embeddings(w.dataset)
    ],
    "variance_embeddings": lambda plan, w: [
        plan.files.embedding(*embedding) for embedding in plan.columns.variance_embeddings()
    ],
    "similarity": lambda plan, w: [
        plan.files.similarity(w.dataset, name)
        for name in plan.runs.layered_replicates(w.dataset) or ["vectors"]
    ],
    "statistics": lambda plan, w: _statistics_jobs(
        plan, w.dataset, [FeatureSet(state=state) for state in _states(plan, w)]
    ),
    "variance_statistics": lambda plan, w: _statistics_jobs(
        plan, plan.study.variance.dataset, [column.first for column in plan.columns.variance]
    ),
    "benchmarks": _of_jobs("benchmarks", "tsv"),
}
#: Of these what computing jobs made, which says what it was made with.
COMPUTED = ("classification", "embeddings", "variance_embeddings", "similarity")


# --- what a job is told -----------------------------------------------------------------------


def _variance_labels(plan: Plan, w: Wildcards) -> dict[str, str]:
    return {column.first.path: plan.labels.column(column) for column in plan.columns.variance}


def _variance_titles(plan: Plan, w: Wildcards) -> list[str]:
    words = ("training images", "test images")
    return [f"{label}, {split}" for label in _variance_labels(plan, w).values() for split in words]


def _variance_published(plan: Plan, w: Wildcards) -> dict[str, tuple[str, str]]:
    study = plan.study
    found = {
        column.first.path: published_features(
            study, published.REPORT_B, study.variance.dataset, column.first
        )
        for column in plan.columns.variance
    }
    return {features: name for features, name in found.items() if name}


def _variance_states(plan: Plan, w: Wildcards) -> list[tuple[str, str]]:
    sets = [column.first for column in plan.columns.variance]
    return [
        (plan.files.statistics(plan.study.variance.dataset, one.folder), one.layer) for one in sets
    ]


#: JSON-like values. A job is told what its entry names and nothing else: what changes makes again
#: the tables and figures that print it.
SHOWS: dict[str, Callable[[Plan, Wildcards], Any]] = {
    "style": lambda plan, w: plan.study.style.drawn,
    "only_recipes": lambda plan, w: plan.study.style.only.recipes,
    "only_splits": lambda plan, w: plan.study.style.only.splits,
    "only_measures": lambda plan, w: plan.study.style.only.measures,
    "seed": lambda plan, w: plan.study.seed,
    "runs": lambda plan, w: [vars(run) for run in plan.described.runs],
    "layered_runs": lambda plan, w: [vars(run) for run in plan.described.layered_runs()],
    "swept_runs": lambda plan, w: [vars(run) for run in plan.described.swept_runs()],
    "runs_swept_twice": lambda plan, w: [vars(run) for run in plan.described.runs_swept_twice()],
    "columns": lambda plan, w: [vars(column) for column in plan.described.columns(w.dataset)],
    "column_labels": lambda plan, w: [
        plan.labels.column(column) for column in plan.columns.compared(w.dataset)
    ],
    "dataset": lambda plan, w: w.dataset,
    "title": lambda plan, w: plan.labels.dataset(w.dataset),
    "datasets": lambda plan, w: plan.labels.datasets(),
    "backbones": lambda plan, w: plan.labels.backbones(),
    "backbone_names": lambda plan, w: list(plan.study.backbones),
    "starts": lambda plan, w: plan.labels.starts(),
    "classifiers": lambda plan, w: plan.labels.classifiers(),
    "neighbours": lambda plan, w: {
        name: classifier.parameters
        for name, classifier in plan.study.classifiers.items()
        if classifier.estimator == "collapseflow.NearestNeighbors"
    },
    "published_classifiers": lambda plan, w: published_classifiers(plan.study),
    "confused": lambda plan, w: plan.confusion_classifier(),
    "confused_label": lambda plan, w: plan.labels.classifiers()[plan.confusion_classifier()],
    "ink": lambda plan, w: plan.study.datasets[w.dataset].is_ink,
    "scattering": lambda plan, w: plan.study.scattering_of(w.dataset).model_dump(),
    "embedding_heading": lambda plan, w: plan.labels.embedding_heading(
        w.dataset, plan.columns.compared(w.dataset)
    ),
    "series": lambda plan, w: [
        plan.labels.run(runs[0]) for runs in plan.runs.layered_replicates(w.dataset).values()
    ],
    "layer": lambda plan, w: plan.study.backbones[plan.runs.run(w.run).backbone].layers[-1],
    "run_heading": lambda plan, w: plan.labels.run_heading(w.dataset, plan.runs.run(w.run)),
    "states": lambda plan, w: [
        (state.epoch, plan.files.statistics(w.dataset, state.path)) for state in _states(plan, w)
    ],
    "faithful": lambda plan, w: plan.faithful(),
    "without_imagenet": lambda plan, w: plan.without_imagenet(),
    "variance_features": _variance_labels,
    "variance_titles": _variance_titles,
    "variance_heading": lambda plan, w: plan.labels.variance_heading(plan.columns.variance),
    "variance_identities": lambda plan, w: plan.described.variance_identities(),
    "variance_published": _variance_published,
    "variance_states": _variance_states,
    "jobs": lambda plan, w: plan.timed_jobs,
    "job_logs": _of_jobs("logs", "log"),
    "published_minutes": lambda plan, w: published_minutes(plan.study, plan.columns.shown),
}
