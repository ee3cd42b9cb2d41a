"""Train a network on letters from random weights."""

from collapseflow.datasets import read_info, read_split
from collapseflow.jobs import job
from collapseflow.networks import pick_device
from collapseflow.training import Recipe, pretrain

with job(snakemake):
    pretrain(
        read_split(snakemake.input.dataset, "train"),
        len(read_info(snakemake.input.dataset).class_names),
        Recipe(**snakemake.params.recipe),
        snakemake.params.epochs,
        pick_device(snakemake.params.device),
        snakemake.output.weights,
    )
