"""Read a data set from its source and write it as one HDF5 file."""

from collapseflow.images.sources.prepare import DOWNLOADS, prepare_dataset
from collapseflow.running.jobs import job

with job(snakemake):
    prepare_dataset(
        snakemake.params.entry,
        snakemake.params.test_fraction,
        snakemake.params.seed,
        cache=DOWNLOADS,
        output=snakemake.output.dataset,
        threads=snakemake.threads,
    )
