"""Measure accuracy and neural collapse after every epoch of a fine-tuning."""

from collapseflow.epochs import measure_epochs
from collapseflow.extraction import Reading
from collapseflow.files import write_json
from collapseflow.hardware import pick_device
from collapseflow.jobs import job

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
