"""Draw variances within and between classes."""

from collapseflow.datasets import read_info
from collapseflow.figures.variance import plot_variance
from collapseflow.jobs import job

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
