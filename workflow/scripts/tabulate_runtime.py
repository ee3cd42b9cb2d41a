"""Tabulate what the jobs cost."""

from collapseflow.presentation.tables.runtime import runtime_table
from collapseflow.running.jobs import cost_file, job

with job(snakemake):
    runtime_table(
        snakemake.params.jobs,
        snakemake.input.benchmarks,
        [cost_file(log) for log in snakemake.params.logs],
        snakemake.params.published,
        **dict(snakemake.output.items()),
    )
