"""Draw what a classifier takes for what, on each feature set of one data set."""

from collapseflow.images.datasets import read_info
from collapseflow.presentation.figures.confusion import plot_confusion
from collapseflow.running.jobs import job

with job(snakemake):
    plot_confusion(
        snakemake.params.dataset,
        snakemake.params.title,
        snakemake.params.columns,
        snakemake.input.cells,
        snakemake.params.classifier,
        snakemake.params.label,
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.style,
        [snakemake.output.pdf, snakemake.output.png],
        snakemake.output.csv,
    )
