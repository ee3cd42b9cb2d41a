"""Reduce stored features to their statistics."""

from collapseflow.measures.epochs import reduce_features
from collapseflow.running.jobs import job

with job(snakemake):
    reduce_features(
        snakemake.input.features,
        snakemake.params.layers,
        snakemake.output.statistics,
        snakemake.threads,
    )
