"""Draw t-SNE embeddings side by side."""

from collapseflow.datasets import read_info
from collapseflow.figures.embedding import plot_embeddings
from collapseflow.jobs import job

with job(snakemake):
    plot_embeddings(
        snakemake.input.embeddings,
        snakemake.params.titles,
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.heading,
        snakemake.params.style,
        snakemake.output,
    )
