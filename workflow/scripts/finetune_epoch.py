"""Fine-tune a network for one epoch."""

from collapseflow.datasets import read_info, read_split
from collapseflow.jobs import job
from collapseflow.networks import pick_device
from collapseflow.training import Recipe, finetune_epoch

with job(snakemake):
    finetune_epoch(
        read_split(snakemake.input.dataset, "train"),
        len(read_info(snakemake.input.dataset).class_names),
        Recipe(**snakemake.params.recipe),
        int(snakemake.wildcards.epoch),
        pick_device(snakemake.params.device),
        snakemake.params.head_gain,
        previous_weights=snakemake.input.weights,
        previous_state=snakemake.input.optimizer or None,
        weights=snakemake.output.weights,
        state=snakemake.output.optimizer,
        start=snakemake.params.start,
    )
