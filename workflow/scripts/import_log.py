"""Take over what the log of a training that was made elsewhere tells of its epochs."""

from collapseflow.presentation.logs import read_log
from collapseflow.running.files import write_json
from collapseflow.running.jobs import job

with job(snakemake):
    columns, counted_from = snakemake.params.columns, snakemake.params.counted_from
    logs = [read_log(path, columns, counted_from) for path in snakemake.input.csv]
    write_json(snakemake.output.log, sum(logs, []))
