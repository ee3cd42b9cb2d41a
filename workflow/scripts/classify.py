"""Fit and score classifiers on stored features."""

from collapseflow.classification import evaluate_all
from collapseflow.files import write_json
from collapseflow.jobs import job

with job(snakemake):
    cells = evaluate_all(
        snakemake.input.train,
        snakemake.input.test,
        snakemake.params.classifiers,
        snakemake.params.seed,
        snakemake.threads,
        snakemake.params.progress,
        snakemake.params.code,
    )
    write_json(snakemake.output.cells, cells)
