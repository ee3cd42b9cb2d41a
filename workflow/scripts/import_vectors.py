"""Store vectors that were computed elsewhere as the features of a data set."""

from collapseflow.features.vectors import write_vectors
from collapseflow.running.jobs import job

with job(snakemake):
    write_vectors(snakemake.input.dataset, snakemake.input.vectors, snakemake.output.features)
