"""Fine-tune a network; its weights after some epochs, and a log of all."""

from collapseflow.running.hardware import pick_devices
from collapseflow.running.jobs import job
from collapseflow.training.loop import finetune
from collapseflow.training.recipes import NetworkRecipe

with job(snakemake):
    finetune(
        snakemake.input.dataset,
        NetworkRecipe(**snakemake.params.recipe),
        snakemake.params.kept,
        pick_devices(snakemake.params.device, snakemake.params.gpus),
        snakemake.input.weights,
        snakemake.params.start,
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.output.weights,
        snakemake.output.log,
    )
