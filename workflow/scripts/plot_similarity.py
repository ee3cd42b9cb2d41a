"""Draw the similarity of the layers of networks before and after training."""

from collapseflow.presentation.figures.similarity import plot_similarity
from collapseflow.running.jobs import job

with job(snakemake):
    plot_similarity(
        snakemake.input.similarity,
        snakemake.params.labels,
        snakemake.params.heading,
        snakemake.params.style,
        snakemake.output,
    )
