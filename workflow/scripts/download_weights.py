"""Download ImageNet weights through torchvision."""

from collapseflow.features.networks import download_imagenet
from collapseflow.running.jobs import job

with job(snakemake):
    download_imagenet(snakemake.wildcards.model, snakemake.output.weights)
