"""Embed stored features in the plane with t-SNE."""

from collapseflow.measures.embedding import embed, write_failed_embedding
from collapseflow.running.files import failure
from collapseflow.running.jobs import job

with job(snakemake):
    reason = failure(snakemake.input.features)
    if reason is None:
        embed(
            snakemake.params.stores,
            snakemake.wildcards.method,
            seed=snakemake.params.seed,
            threads=snakemake.threads,
            output=snakemake.output.embedding,
            **snakemake.params.options,
        )
    else:
        write_failed_embedding(snakemake.output.embedding, reason)
