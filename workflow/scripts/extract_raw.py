"""Store raw pixels as features."""

from collapseflow.datasets import raw_pixels
from collapseflow.jobs import job
from collapseflow.stores import write_features

with job(snakemake):
    for split, path in snakemake.output.items():
        write_features(
            snakemake.input.dataset, split, path, raw_pixels, "raw", "none", "pixels over 255"
        )
