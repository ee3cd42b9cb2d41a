"""Draw collapse of the features of first weights against what they are worth."""

from collapseflow.presentation.figures.transfer import plot_transfer
from collapseflow.running.jobs import job

with job(snakemake):
    plot_transfer(
        snakemake.input.measures,
        snakemake.params.runs,
        snakemake.params.starts,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        [snakemake.output.pdf, snakemake.output.png],
        snakemake.output.csv,
    )
