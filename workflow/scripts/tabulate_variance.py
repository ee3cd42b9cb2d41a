"""Tabulate variances within and between classes, on features and on t-SNE coordinates."""

from collapseflow.images.datasets import read_info
from collapseflow.measures.variance import compare_variances
from collapseflow.presentation.tables.variance import variance_table
from collapseflow.running.jobs import job

with job(snakemake):
    features = snakemake.params.features
    variance_table(
        compare_variances(list(features), snakemake.params.statistics, snakemake.input.embeddings),
        features,
        snakemake.params.identities,
        read_info(snakemake.input.dataset).class_names,
        snakemake.params.published,
        **dict(snakemake.output.items()),
    )
