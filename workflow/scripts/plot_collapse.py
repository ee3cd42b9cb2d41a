"""Draw the measures of neural collapse on one data set per epoch."""

from collapseflow.presentation.figures.epochs import plot_collapse
from collapseflow.running.jobs import job

with job(snakemake):
    plot_collapse(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.params.runs,
        snakemake.params.dataset,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        snakemake.output,
    )
