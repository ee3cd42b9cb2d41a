"""Measure accuracy and neural collapse after every epoch of a fine-tuning."""

from collapseflow.features.extraction import Reading
from collapseflow.measures.epochs import measure_epochs
from collapseflow.running.files import write_json
from collapseflow.running.hardware import pick_device
from collapseflow.running.jobs import job

with job(snakemake):
    measures = measure_epochs(
        snakemake.input.dataset,
        dict(zip(("train", "test"), snakemake.input.first, strict=True)),
        snakemake.input.weights[:-1],
        dict(zip(("train", "test"), snakemake.input.last, strict=True)),
        Reading(**snakemake.params.reading),
        pick_device(snakemake.params.device),
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.threads,
    )
    write_json(snakemake.output.statistics, measures)
