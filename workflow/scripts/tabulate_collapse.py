"""Tabulate accuracy and neural collapse at the start and the end of all runs."""

from collapseflow.presentation.tables.runs import collapse_table
from collapseflow.running.jobs import job

with job(snakemake):
    collapse_table(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.params.runs,
        snakemake.params.datasets,
        **dict(snakemake.output.items()),
    )
