"""Fine-tune a network; its weights after each epoch."""

from collapseflow.hardware import pick_devices
from collapseflow.jobs import job
from collapseflow.training import Recipe, finetune

with job(snakemake):
    finetune(
        snakemake.input.dataset,
        Recipe(**snakemake.params.recipe),
        pick_devices(snakemake.params.device, snakemake.params.gpus),
        snakemake.params.head_gain,
        snakemake.input.weights,
        snakemake.params.start,
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.output.weights,
    )
