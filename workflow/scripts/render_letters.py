"""Render the source task of pretraining."""

from collapseflow.images.datasets import write_dataset
from collapseflow.images.sources.letters import letters
from collapseflow.running.jobs import job

with job(snakemake):
    rendered = letters(
        snakemake.params.images,
        snakemake.params.test_fraction,
        snakemake.params.seed,
        "pretraining",
    )
    write_dataset(snakemake.output.dataset, rendered)
