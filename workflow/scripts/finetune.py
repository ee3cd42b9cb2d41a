"""Fine-tune a network; its weights after each epoch."""

from collapseflow.running.hardware import pick_devices
from collapseflow.running.jobs import job
from collapseflow.training.loop import Recipe, finetune

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
