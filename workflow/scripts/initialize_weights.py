"""Write a network's random initial weights."""

from collapseflow.running.jobs import job
from collapseflow.training.loop import initialize

with job(snakemake):
    initialize(snakemake.params.model, snakemake.params.seed, snakemake.output.weights)
