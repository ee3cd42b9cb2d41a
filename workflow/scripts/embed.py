"""Embed stored features in the plane with t-SNE."""

from collapseflow.measures.embedding import embed
from collapseflow.running.jobs import job

with job(snakemake):
    embed(
        snakemake.input.store,
        snakemake.wildcards.method,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
        output=snakemake.output.embedding,
        **snakemake.params.options,
    )
