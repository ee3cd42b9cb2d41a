"""Store raw pixels as features."""

from collapseflow.features.stores import write_features
from collapseflow.images.datasets import SPLITS, raw_pixels
from collapseflow.running.files import atomic_folder
from collapseflow.running.jobs import job

with job(snakemake), atomic_folder(snakemake.output.features) as folder:
    for split in SPLITS:
        write_features(
            snakemake.input.dataset,
            split,
            folder / f"{split}.h5",
            raw_pixels,
            "raw",
            "none",
            "pixels over 255",
        )
