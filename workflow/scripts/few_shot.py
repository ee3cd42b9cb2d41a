"""Accuracy of the nearest class mean from few images a class."""

from collapseflow.measures.few_shot import few_shot
from collapseflow.measures.statistics import read_statistics
from collapseflow.running.files import failure, write_json
from collapseflow.running.jobs import job

with job(snakemake):
    reason = failure(snakemake.input.features)
    if reason is None:
        layers = read_statistics(snakemake.params.statistics).layers
        accuracies = few_shot(
            snakemake.params.store,
            layers[snakemake.params.layer]["test"],
            snakemake.params.seed,
            snakemake.threads,
        )
    else:
        accuracies = {"failed": reason}
    write_json(snakemake.output.accuracies, accuracies)
