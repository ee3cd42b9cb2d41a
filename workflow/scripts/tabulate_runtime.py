"""Tabulate what the jobs cost."""

from collapseflow.jobs import job
from collapseflow.tables import runtime_table

with job(snakemake):
    runtime_table(
        snakemake.input.benchmarks, snakemake.params.folder, **dict(snakemake.output.items())
    )
