"""Fit and score classifiers on stored features."""

from collapseflow.measures.probes import evaluate_all
from collapseflow.running.files import failure, write_json
from collapseflow.running.jobs import job

with job(snakemake):
    reason = failure(snakemake.input.features)
    if reason is None:
        cells = evaluate_all(
            snakemake.params.train,
            snakemake.params.test,
            snakemake.params.classifiers,
            snakemake.params.seed,
            snakemake.threads,
            snakemake.params.progress,
            snakemake.params.code,
        )
    else:
        cells = {name: {"failed": reason} for name in snakemake.params.classifiers}
    write_json(snakemake.output.cells, cells)
