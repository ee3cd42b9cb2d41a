"""Tabulate which feature sets of one data set differ."""

from collapseflow.presentation.tables.comparisons import comparison_table
from collapseflow.running.jobs import job

with job(snakemake):
    comparison_table(
        snakemake.params.dataset,
        snakemake.params.title,
        snakemake.params.columns,
        snakemake.input.cells,
        snakemake.params.classifiers,
        **dict(snakemake.output.items()),
    )
