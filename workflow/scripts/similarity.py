"""Compare the layers of a network before and after training, and across seeds."""

from collapseflow.features.extraction import store
from collapseflow.measures.similarity import compare_layers
from collapseflow.running.files import failure, write_json
from collapseflow.running.jobs import job

with job(snakemake):
    reason = next(filter(None, map(failure, snakemake.input.features)), None)
    stores = [
        {layer: store(folder, layer, "train") for layer in snakemake.params.layers}
        for folder in snakemake.input.features
    ]
    similarity = (
        {"failed": reason}
        if reason
        else compare_layers(
            stores[0],
            dict(zip(snakemake.params.seeds, stores[1:], strict=True)),
            snakemake.params.seed,
            snakemake.threads,
        )
    )
    write_json(snakemake.output.similarity, similarity)
