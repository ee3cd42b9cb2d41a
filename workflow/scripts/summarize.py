"""Write the page with what was found, and links to every figure and table."""

from collapseflow.presentation.summary import write_summary
from collapseflow.running.jobs import job

with job(snakemake):
    write_summary(
        snakemake.params.study,
        dict(zip(snakemake.params.labels, snakemake.input.datasets, strict=True)),
        snakemake.input.failures,
        snakemake.input.findings,
        snakemake.params.contents,
        snakemake.input.results,
        snakemake.output.summary,
    )
