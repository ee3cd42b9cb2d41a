"""Measure accuracy and neural collapse of one epoch's features."""

from collapseflow.collapse import measure_stores
from collapseflow.files import write_json
from collapseflow.jobs import job

with job(snakemake):
    measures = measure_stores(dict(snakemake.input.items()))
    write_json(snakemake.output.statistics, measures)
