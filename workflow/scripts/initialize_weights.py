"""Write a network's random initial weights."""

from collapseflow.features.inputs import untrained
from collapseflow.running.jobs import job
from collapseflow.training.loop import initialize

with job(snakemake):
    network = untrained(snakemake.params.model)
    initialize(network, snakemake.params.seed, snakemake.output.weights)
