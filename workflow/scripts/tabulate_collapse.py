"""Collect the statistics of all epochs in one tidy table."""

from collapseflow.presentation.tables import collapse_table
from collapseflow.running.jobs import job

with job(snakemake):
    collapse_table(snakemake.input.statistics, snakemake.params.starts, snakemake.output.csv)
