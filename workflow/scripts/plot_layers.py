"""Draw neural collapse from layer to layer."""

from collapseflow.presentation.figures.layers import plot_layers
from collapseflow.running.jobs import job

with job(snakemake):
    plot_layers(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.params.runs,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        snakemake.output,
    )
