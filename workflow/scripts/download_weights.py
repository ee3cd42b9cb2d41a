"""Take weights that a family of networks distributes, or download them."""

from collapseflow.features.families import download
from collapseflow.running.jobs import job

with job(snakemake):
    download(snakemake.wildcards.model, snakemake.wildcards.named, snakemake.output.weights)
