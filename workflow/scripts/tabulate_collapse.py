"""Collect the statistics of all epochs in one tidy table."""

from collapseflow.jobs import job
from collapseflow.tables import collapse_table

with job(snakemake):
    collapse_table(snakemake.input.statistics, snakemake.params.starts, snakemake.output.csv)
