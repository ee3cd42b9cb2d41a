"""Draw the accuracy of nearest class means from few images a class."""

from collapseflow.presentation.figures.few_shot import plot_few_shot
from collapseflow.running.jobs import job

with job(snakemake):
    plot_few_shot(
        snakemake.input.measures,
        snakemake.params.columns,
        snakemake.params.dataset,
        snakemake.params.heading,
        snakemake.params.style,
        snakemake.output,
    )
