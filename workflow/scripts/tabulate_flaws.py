"""Tabulate what each flaw of the two reports is worth."""

from collapseflow.presentation.tables.flaws import flaws_table
from collapseflow.running.jobs import job

with job(snakemake):
    flaws_table(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.input.training,
        next(iter(snakemake.input.variance), None),
        snakemake.params.runs,
        snakemake.params.faithful,
        snakemake.params.without_imagenet,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.starts,
        snakemake.params.features,
        **dict(snakemake.output.items()),
    )
