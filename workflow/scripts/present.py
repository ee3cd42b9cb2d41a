"""Make one table or figure, by the function that the study's list names."""

from importlib import import_module

import matplotlib

from collapseflow.presentation.captions import write_caption
from collapseflow.presentation.material import Material
from collapseflow.running.jobs import job

# A job has no window, whatever screen there is.
matplotlib.use("Agg")
module, _, name = snakemake.params.draw.rpartition(".")
draw = getattr(import_module(module), name)

with job(snakemake):
    material = Material(**dict(snakemake.input.items()), **dict(snakemake.params.items()))
    outputs = dict(snakemake.output.items())
    draw(material, outputs)
    write_caption(str(snakemake.params.caption), snakemake.params.splits, material, outputs)
