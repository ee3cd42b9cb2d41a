"""Draw the accuracy of networks and probes beside neural collapse, per epoch and per layer."""

from collapseflow.presentation.figures.probes import plot_probes
from collapseflow.running.jobs import job

with job(snakemake):
    plot_probes(
        snakemake.input.measures,
        snakemake.input.failures,
        snakemake.params.runs,
        snakemake.params.datasets,
        snakemake.params.backbones,
        snakemake.params.style,
        snakemake.output,
    )
