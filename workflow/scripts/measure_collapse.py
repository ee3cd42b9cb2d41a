"""Measure accuracy and neural collapse at every layer after the epochs of a training."""

from collapseflow.features.extraction import Reading
from collapseflow.measures.epochs import measure_epochs, states_of_run
from collapseflow.running.files import write_json
from collapseflow.running.hardware import pick_device
from collapseflow.running.jobs import job

with job(snakemake):
    states = states_of_run(
        snakemake.input.first,
        snakemake.input.weights,
        snakemake.input.last,
        snakemake.params.kept,
    )
    measures = measure_epochs(
        snakemake.input.dataset,
        states,
        Reading(**snakemake.params.reading),
        pick_device(snakemake.params.device),
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.threads,
    )
    write_json(snakemake.output.statistics, measures)
