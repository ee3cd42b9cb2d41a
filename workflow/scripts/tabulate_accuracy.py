"""Tabulate the test accuracies on one data set."""

from collapseflow.jobs import job
from collapseflow.tables import accuracy_table

with job(snakemake):
    accuracy_table(
        snakemake.input.cells,
        snakemake.params.title,
        snakemake.params.features,
        snakemake.params.classifiers,
        snakemake.params.published,
        snakemake.params.published_classifiers,
        **dict(snakemake.output.items()),
    )
