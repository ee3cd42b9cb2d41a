"""What tables and figures can be made of: the files that they read, and what they are told.

By the names under which :class:`collapseflow.presentation.material.Material` has it; an entry of
:mod:`collapseflow.study.products` names what its function uses.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from collapseflow import published
from collapseflow.study.paths import FeatureSet, State
from collapseflow.study.plan import Plan


class Wildcards(Protocol):
    """Which one of a product is made: Snakemake's wildcards, as far as the product has them."""

    dataset: str
    run: str


# --- what a product reads ---------------------------------------------------------------------


def _columns(make: Callable[[Plan, str, FeatureSet], str]) -> Callable[[Plan, Wildcards], list]:
    """A file for each seed of each column of a data set."""
    return lambda plan, w: [
        make(plan, w.dataset, features)
        for column in plan.columns(w.dataset)
        for features in column.sets
    ]


def _states(plan: Plan, w: Wildcards) -> list[State]:
    """The states that the page of a run shows: its start, its first measured epoch, its last."""
    run = State.of_run(w.run)
    epochs = plan.study.recipes[run.recipe].measured_epochs()
    return [run.at(epoch) for epoch in dict.fromkeys((0, epochs[0], epochs[-1]))]


def _statistics_jobs(plan: Plan, dataset: str, sets: Iterable[FeatureSet]) -> list[str]:
    """What jobs make of the statistics of some feature sets."""
    return list(dict.fromkeys(plan.statistics_job(dataset, features) for features in sets))


def _of_jobs(folder: str, suffix: str) -> Callable[[Plan, Wildcards], list[str]]:
    """One file of each job that computes: its log, or Snakemake's benchmark of it."""
    return lambda plan, w: [
        f"{plan.files.results}/{folder}/{'/'.join(filter(None, job))}.{suffix}"
        for job in plan.computing_jobs()
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
    "variance_images": lambda plan, w: plan.files.dataset(plan.study.variance.dataset),
    "logs": lambda plan, w: [plan.files.log(run.dataset, run.path) for run in plan.runs],
    "cells": _columns(lambda plan, dataset, features: plan.files.cells(dataset, features.path)),
    "embeddings": lambda plan, w: [
        plan.files.embedding(*embedding) for embedding in plan.embeddings(w.dataset)
    ],
    "variance_embeddings": lambda plan, w: [
        plan.files.embedding(*embedding) for embedding in plan.variance_embeddings()
    ],
    "similarity": lambda plan, w: [
        plan.files.similarity(w.dataset, name) for name in plan.layered_series(w.dataset)
    ],
    "statistics": lambda plan, w: _statistics_jobs(
        plan, w.dataset, [FeatureSet(state=state) for state in _states(plan, w)]
    ),
    "variance_statistics": lambda plan, w: _statistics_jobs(
        plan, plan.study.variance.dataset, [column.first for column in plan.variance_columns()]
    ),
    "benchmarks": _of_jobs("benchmarks", "tsv"),
}
#: Of these what computing jobs made, which says what it was made with.
COMPUTED = ("cells", "embeddings", "variance_embeddings", "similarity")


# --- what a job is told -----------------------------------------------------------------------


def _variance_labels(plan: Plan, w: Wildcards) -> dict[str, str]:
    return {column.first.path: column.label for column in plan.variance_columns()}


def _variance_titles(plan: Plan, w: Wildcards) -> list[str]:
    words = ("training images", "test images")
    return [f"{label}, {split}" for label in _variance_labels(plan, w).values() for split in words]


def _variance_published(plan: Plan, w: Wildcards) -> dict[str, tuple[str, str]]:
    dataset = plan.study.variance.dataset
    found = {
        column.first.path: plan.published(published.REPORT_B, dataset, column.first)
        for column in plan.variance_columns()
    }
    return {features: name for features, name in found.items() if name}


def _variance_states(plan: Plan, w: Wildcards) -> list[tuple[str, str]]:
    sets = [column.first for column in plan.variance_columns()]
    return [(plan.statistics(plan.study.variance.dataset, one), one.layer) for one in sets]


#: JSON-like values. A job is told what its entry names and nothing else: what changes makes again
#: the tables and figures that print it.
SHOWS: dict[str, Callable[[Plan, Wildcards], Any]] = {
    "style": lambda plan, w: plan.study.style.model_dump(),
    "seed": lambda plan, w: plan.study.seed,
    "runs": lambda plan, w: [vars(run) for run in plan.described_runs],
    "layered_runs": lambda plan, w: [vars(run) for run in plan.layered_runs()],
    "swept_runs": lambda plan, w: [vars(run) for run in plan.swept_runs()],
    "columns": lambda plan, w: [vars(column) for column in plan.describe_columns(w.dataset)],
    "column_labels": lambda plan, w: [column.label for column in plan.columns(w.dataset)],
    "dataset": lambda plan, w: w.dataset,
    "title": lambda plan, w: plan.dataset_label(w.dataset),
    "datasets": lambda plan, w: plan.dataset_labels(),
    "backbones": lambda plan, w: plan.backbone_labels(),
    "backbone_names": lambda plan, w: list(plan.study.backbones),
    "starts": lambda plan, w: plan.start_labels(),
    "classifiers": lambda plan, w: plan.classifier_labels(),
    "neighbours": lambda plan, w: {
        name: classifier.parameters
        for name, classifier in plan.study.classifiers.items()
        if classifier.estimator == "collapseflow.NearestNeighbors"
    },
    "published_classifiers": lambda plan, w: plan.published_classifiers(),
    "confused": lambda plan, w: plan.confusion_classifier(),
    "confused_label": lambda plan, w: plan.classifier_labels()[plan.confusion_classifier()],
    "ink": lambda plan, w: plan.study.datasets[w.dataset].is_ink,
    "scattering": lambda plan, w: plan.study.scattering_of(w.dataset).model_dump(),
    "embedding_heading": lambda plan, w: plan.embedding_heading(w.dataset),
    "series": lambda plan, w: [
        plan.series_label(runs[0]) for runs in plan.layered_series(w.dataset).values()
    ],
    "layer": lambda plan, w: plan.study.backbones[State.of_run(w.run).backbone].layers[-1],
    "run_heading": lambda plan, w: plan.run_heading(w.dataset, State.of_run(w.run)),
    "states": lambda plan, w: [
        (state.epoch, plan.files.statistics(w.dataset, state.path)) for state in _states(plan, w)
    ],
    "faithful": lambda plan, w: plan.faithful(),
    "without_imagenet": lambda plan, w: plan.without_imagenet(),
    "variance_features": _variance_labels,
    "variance_titles": _variance_titles,
    "variance_heading": lambda plan, w: plan.variance_heading(),
    "variance_identities": lambda plan, w: plan.variance_identities(),
    "variance_published": _variance_published,
    "variance_states": _variance_states,
    "jobs": lambda plan, w: plan.computing_jobs(),
    "job_logs": _of_jobs("logs", "log"),
    "published_minutes": lambda plan, w: plan.published_minutes(),
}
