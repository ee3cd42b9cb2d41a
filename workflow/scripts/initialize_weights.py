"""Write a network's random initial weights."""

from collapseflow.jobs import job
from collapseflow.training import initialize

with job(snakemake):
    initialize(snakemake.params.model, snakemake.params.seed, snakemake.output.weights)
