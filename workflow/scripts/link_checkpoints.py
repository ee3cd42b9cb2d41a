"""Make the checkpoints of a training that was made elsewhere the epochs of a run."""

from collapseflow.features.checkpoints import link_checkpoints
from collapseflow.running.jobs import job

with job(snakemake):
    link_checkpoints(
        dict(zip(snakemake.params.epochs, snakemake.input.checkpoints, strict=True)),
        snakemake.output.weights,
    )
