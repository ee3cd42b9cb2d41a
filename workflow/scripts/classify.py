"""Fit and score classifiers on stored features."""

from collapseflow.measures.probes import evaluate_all
from collapseflow.running.files import write_json
from collapseflow.running.jobs import job

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
