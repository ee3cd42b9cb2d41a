"""Store raw pixels as features."""

from collapseflow.features.stores import write_features
from collapseflow.images.datasets import raw_pixels
from collapseflow.running.jobs import job

with job(snakemake):
    for split, path in snakemake.output.items():
        write_features(
            snakemake.input.dataset, split, path, raw_pixels, "raw", "none", "pixels over 255"
        )
