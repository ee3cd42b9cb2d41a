"""Tabulate the test accuracies on one data set."""

from collapseflow.presentation.tables.accuracy import accuracy_table
from collapseflow.running.jobs import job

with job(snakemake):
    accuracy_table(
        snakemake.params.dataset,
        snakemake.params.title,
        snakemake.params.columns,
        snakemake.input.cells,
        snakemake.params.classifiers,
        snakemake.params.neighbours,
        snakemake.params.published_classifiers,
        **dict(snakemake.output.items()),
    )
