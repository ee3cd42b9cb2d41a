"""Train a network on letters from random weights."""

from collapseflow.hardware import pick_devices
from collapseflow.jobs import job
from collapseflow.training import Recipe, pretrain

with job(snakemake):
    pretrain(
        snakemake.input.dataset,
        Recipe(**snakemake.params.recipe),
        snakemake.params.epochs,
        pick_devices(snakemake.params.device, snakemake.params.gpus),
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.output.weights,
    )
