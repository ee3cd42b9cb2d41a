"""Tabulate variances within and between classes, on features and on t-SNE coordinates."""

from collapseflow.datasets import read_info
from collapseflow.jobs import job
from collapseflow.tables import variance_table
from collapseflow.variance import compare_variances

with job(snakemake):
    features = snakemake.params.features
    variance_table(
        compare_variances(list(features), snakemake.input.stores, snakemake.input.embeddings),
        features,
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.published,
        **dict(snakemake.output.items()),
    )
