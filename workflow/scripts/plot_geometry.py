"""Draw the geometry of the class means of one run at some of its epochs."""

from collapseflow.images.datasets import read_info
from collapseflow.presentation.figures.geometry import plot_geometry
from collapseflow.running.jobs import job

with job(snakemake):
    plot_geometry(
        snakemake.params.statistics,
        snakemake.params.epochs,
        snakemake.params.layer,
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.heading,
        snakemake.params.style,
        snakemake.output,
    )
