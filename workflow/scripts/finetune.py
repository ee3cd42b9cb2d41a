"""Fine-tune a network; its weights after each epoch."""

from collapseflow.jobs import job
from collapseflow.networks import pick_device
from collapseflow.training import Recipe, finetune

with job(snakemake):
    finetune(
        snakemake.input.dataset,
        Recipe(**snakemake.params.recipe),
        pick_device(snakemake.params.device),
        snakemake.params.head_gain,
        snakemake.input.weights,
        snakemake.params.start,
        snakemake.params.progress,
        snakemake.params.code,
        snakemake.output.weights,
    )
