"""Store the features that a network computes at one layer."""

from collapseflow.features.extraction import Reading, write_network_features
from collapseflow.running.hardware import pick_device
from collapseflow.running.jobs import job

with job(snakemake):
    write_network_features(
        snakemake.input.dataset,
        snakemake.input.weights,
        Reading(**snakemake.params.reading),
        pick_device(snakemake.params.device),
        dict(snakemake.output.items()),
    )
