"""Download ImageNet weights through torchvision."""

from collapseflow.jobs import job
from collapseflow.networks import download_imagenet

with job(snakemake):
    download_imagenet(snakemake.wildcards.model, snakemake.output.weights)
