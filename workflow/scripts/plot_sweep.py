"""Draw accuracy and neural collapse against the swept values of recipes."""

from collapseflow.presentation.figures.sweep import plot_sweep
from collapseflow.running.jobs import job

with job(snakemake):
    plot_sweep(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.input.training,
        snakemake.params.runs,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        snakemake.output,
    )
