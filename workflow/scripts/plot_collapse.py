"""Draw NC1 and the three parts of NC2 of neural collapse per epoch."""

from collapseflow.presentation.figures.epochs import plot_collapse
from collapseflow.running.jobs import job

with job(snakemake):
    plot_collapse(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.params.runs,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        snakemake.output,
    )
