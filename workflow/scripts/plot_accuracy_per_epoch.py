"""Draw train and test accuracy per epoch."""

from collapseflow.presentation.figures.epochs import plot_accuracy
from collapseflow.running.jobs import job

with job(snakemake):
    plot_accuracy(
        snakemake.input.collapse, snakemake.params.labels, snakemake.params.style, snakemake.output
    )
