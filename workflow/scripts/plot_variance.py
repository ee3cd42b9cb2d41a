"""Draw variances within and between classes."""

from collapseflow.images.datasets import read_info
from collapseflow.presentation.figures.variance import plot_variance
from collapseflow.running.jobs import job

with job(snakemake):
    plot_variance(
        snakemake.input.variance,
        snakemake.params.features,
        snakemake.params.backbones,
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.heading,
        snakemake.params.style,
        snakemake.output,
    )
