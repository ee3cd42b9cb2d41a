"""Draw sample images of each class."""

from collapseflow.images.datasets import read_info, read_split
from collapseflow.presentation.figures.images import plot_samples
from collapseflow.running.jobs import job

with job(snakemake):
    plot_samples(
        read_split(snakemake.input.dataset, "train"),
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.title,
        snakemake.params.ink,
        snakemake.params.seed,
        snakemake.params.style,
        snakemake.output,
    )
