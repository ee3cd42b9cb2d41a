"""Draw loss, learning rate, gradient norm and speed per epoch."""

from collapseflow.presentation.figures.training import plot_training
from collapseflow.running.jobs import job

with job(snakemake):
    plot_training(
        snakemake.input.training,
        snakemake.input.failures,
        snakemake.params.runs,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        snakemake.output,
    )
