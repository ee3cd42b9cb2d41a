"""Make one table or figure, by the function that the study's list names."""

from importlib import import_module

from collapseflow.presentation.material import Material
from collapseflow.running.jobs import job

module, _, name = snakemake.params.draw.rpartition(".")
draw = getattr(import_module(module), name)

with job(snakemake):
    material = Material(**dict(snakemake.input.items()), **dict(snakemake.params.items()))
    draw(material, dict(snakemake.output.items()))
