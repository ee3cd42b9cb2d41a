"""Look through the images of a data set."""

from collapseflow.images.audit import audit
from collapseflow.running.files import write_json
from collapseflow.running.jobs import job
from collapseflow.running.threads import blas_threads

with job(snakemake), blas_threads(snakemake.threads):
    write_json(snakemake.output.audit, audit(snakemake.input.dataset, snakemake.params.seed))
