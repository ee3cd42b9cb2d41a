"""Tabulate accuracy and neural collapse at every point of the swept recipes."""

from collapseflow.presentation.tables.runs import sweep_table
from collapseflow.running.jobs import job

with job(snakemake):
    sweep_table(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.input.training,
        snakemake.params.runs,
        snakemake.params.datasets,
        snakemake.params.backbones,
        **dict(snakemake.output.items()),
    )
