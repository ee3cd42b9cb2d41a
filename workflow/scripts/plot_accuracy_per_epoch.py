"""Draw train and test accuracy per epoch."""

from collapseflow.figures.epochs import plot_accuracy
from collapseflow.jobs import job

with job(snakemake):
    plot_accuracy(
        snakemake.input.collapse, snakemake.params.labels, snakemake.params.style, snakemake.output
    )
