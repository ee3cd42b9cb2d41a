"""Collect the measures of all runs and classifiers as tidy rows."""

from collapseflow.presentation.rows import collect_measures
from collapseflow.running.jobs import job

with job(snakemake):
    collect_measures(
        snakemake.params.runs,
        snakemake.input.measures,
        snakemake.params.columns,
        snakemake.input.cells,
        snakemake.params.datasets,
        snakemake.output.csv,
        snakemake.output.failures,
    )
