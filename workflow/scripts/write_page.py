"""Write the one file that can be sent."""

from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.presentation.page.writing import Sources, write_page
from collapseflow.running.jobs import job

with job(snakemake):
    told = ("contents", "geometry", "study", "datasets", "backbones", "classifiers", "seed")
    sources = Sources(
        **dict(snakemake.input.items()),
        **{name: snakemake.params[name] for name in told},
        runs=[DescribedRun(**run) for run in snakemake.params.runs],
        columns=[DescribedFeatures(**column) for column in snakemake.params.columns],
        command=str(snakemake.params.command),
    )
    write_page(sources, snakemake.output.html)
