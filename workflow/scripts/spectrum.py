"""Measure the spectrum of stored features."""

from collapseflow.measures.spectrum import measure_spectrum
from collapseflow.running.files import failure, write_json
from collapseflow.running.jobs import job

with job(snakemake):
    reason = failure(snakemake.input.features)
    measures = (
        {"failed": reason}
        if reason
        else measure_spectrum(snakemake.params.stores, snakemake.params.seed, snakemake.threads)
    )
    write_json(snakemake.output.measures, measures)
