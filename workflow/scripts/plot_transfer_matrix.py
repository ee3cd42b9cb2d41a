"""Draw and tabulate transfer from each source to each target."""

from collapseflow.presentation.figures.transfer import plot_transfer_matrix
from collapseflow.running.jobs import job

with job(snakemake):
    plot_transfer_matrix(
        snakemake.input.measures,
        snakemake.params.starts,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        [snakemake.output.pdf, snakemake.output.png],
        snakemake.output.csv,
        snakemake.output.md,
        snakemake.output.tex,
    )
