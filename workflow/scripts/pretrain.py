"""Train a network from random weights on letters, or on a data set of the study."""

from collapseflow.running.hardware import pick_devices
from collapseflow.running.jobs import job
from collapseflow.training.loop import pretrain
from collapseflow.training.recipes import NetworkRecipe

with job(snakemake):
    pretrain(
        snakemake.input.dataset,
        NetworkRecipe(**snakemake.params.recipe),
        pick_devices(snakemake.params.device, snakemake.params.gpus),
        snakemake.params.source,
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.output.weights,
    )
