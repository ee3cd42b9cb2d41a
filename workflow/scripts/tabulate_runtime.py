"""Tabulate what the jobs cost."""

from collapseflow.jobs import cost_file, job
from collapseflow.tables import runtime_table

with job(snakemake):
    runtime_table(
        snakemake.params.jobs,
        snakemake.input.benchmarks,
        [cost_file(log) for log in snakemake.params.logs],
        snakemake.params.published,
        **dict(snakemake.output.items()),
    )
