"""Store the features that a network computes at one layer."""

from collapseflow.extraction import Reading, write_network_features
from collapseflow.hardware import pick_device
from collapseflow.jobs import job

with job(snakemake):
    write_network_features(
        snakemake.input.dataset,
        snakemake.input.weights,
        Reading(**snakemake.params.reading),
        pick_device(snakemake.params.device),
        dict(snakemake.output.items()),
    )
