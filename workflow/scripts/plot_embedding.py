"""Draw t-SNE embeddings side by side."""

from collapseflow.images.datasets import read_info
from collapseflow.presentation.figures.embedding import plot_embeddings
from collapseflow.running.jobs import job

with job(snakemake):
    plot_embeddings(
        snakemake.input.embeddings,
        snakemake.params.titles,
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.heading,
        snakemake.params.style,
        snakemake.output,
    )
