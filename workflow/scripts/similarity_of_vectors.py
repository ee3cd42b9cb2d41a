"""Compare the files of vectors of a data set with each other."""

from collapseflow.measures.similarity import compare_sets
from collapseflow.running.files import write_json
from collapseflow.running.jobs import job

with job(snakemake):
    write_json(
        snakemake.output.similarity,
        compare_sets(snakemake.params.stores, snakemake.params.seed, snakemake.threads),
    )
