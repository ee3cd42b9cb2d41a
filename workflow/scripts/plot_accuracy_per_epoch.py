"""Draw train and test accuracy per epoch."""

from collapseflow.presentation.figures.epochs import plot_accuracy
from collapseflow.running.jobs import job

with job(snakemake):
    plot_accuracy(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.params.runs,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        snakemake.output,
    )
