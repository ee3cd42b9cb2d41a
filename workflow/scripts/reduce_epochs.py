"""Reduce the features at every layer after the epochs of a training to their statistics."""

from collapseflow.features.extraction import Reading
from collapseflow.measures.epochs import reduce_epochs
from collapseflow.running.hardware import pick_device
from collapseflow.running.jobs import job

with job(snakemake):
    reduce_epochs(
        snakemake.input.dataset,
        snakemake.input.weights,
        snakemake.input.last,
        snakemake.params.kept,
        Reading(**snakemake.params.reading),
        pick_device(snakemake.params.device),
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.output.statistics,
        snakemake.threads,
    )
