"""Render the source task of pretraining."""

from collapseflow.datasets import write_dataset
from collapseflow.jobs import job
from collapseflow.sources.letters import letters

with job(snakemake):
    rendered = letters(
        snakemake.params.images,
        snakemake.params.test_fraction,
        snakemake.params.seed,
        "pretraining",
    )
    write_dataset(snakemake.output.dataset, rendered)
