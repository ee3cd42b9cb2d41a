"""Store the features that a network computes at the layers that are read."""

from collapseflow.features.extraction import Reading, write_state_features
from collapseflow.running.hardware import pick_device
from collapseflow.running.jobs import job

with job(snakemake):
    write_state_features(
        snakemake.input.dataset,
        snakemake.input.weights,
        snakemake.params.epoch,
        Reading(**snakemake.params.reading),
        pick_device(snakemake.params.device),
        snakemake.output.features,
    )
