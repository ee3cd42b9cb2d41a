"""Draw NC1 and the three parts of NC2 of neural collapse per epoch."""

from collapseflow.figures.epochs import plot_collapse
from collapseflow.jobs import job

with job(snakemake):
    plot_collapse(
        snakemake.input.collapse, snakemake.params.labels, snakemake.params.style, snakemake.output
    )
