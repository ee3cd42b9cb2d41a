"""Train a network on letters from random weights."""

from collapseflow.jobs import job
from collapseflow.networks import pick_device
from collapseflow.training import Recipe, pretrain

with job(snakemake):
    pretrain(
        snakemake.input.dataset,
        Recipe(**snakemake.params.recipe),
        snakemake.params.epochs,
        pick_device(snakemake.params.device),
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.output.weights,
    )
