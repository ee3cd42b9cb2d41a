"""Collect what training said of every epoch as tidy rows."""

from collapseflow.presentation.tables.runs import training_table
from collapseflow.running.jobs import job

with job(snakemake):
    training_table(snakemake.params.runs, snakemake.input.logs, snakemake.output.csv)
