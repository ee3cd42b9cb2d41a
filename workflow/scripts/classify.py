"""Fit and score one classifier on stored features."""

from collapseflow.classification import evaluate
from collapseflow.files import write_json
from collapseflow.jobs import job

with job(snakemake):
    cell = evaluate(
        snakemake.input.train,
        snakemake.input.test,
        **snakemake.params.classifier,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
    write_json(snakemake.output.cell, cell)
