"""Store the features that a network computes at one layer."""

from functools import partial

from collapseflow.jobs import job
from collapseflow.networks import describe_weights, extract, open_extractor, pick_device
from collapseflow.preprocessing import describe
from collapseflow.stores import write_features

with job(snakemake):
    reading = snakemake.params.reading
    extractor = open_extractor(
        reading["model"], snakemake.input.weights, reading["layer"], reading["pool"]
    )
    preprocessing = {key: reading[key] for key in ("image_size", "normalize")}
    for split, path in snakemake.output.items():
        write_features(
            snakemake.input.dataset,
            split,
            path,
            partial(
                extract,
                extractor,
                **preprocessing,
                device=pick_device(snakemake.params.device),
                batch_size=reading["batch_size"],
                what=f"{reading['model']}, {split}",
            ),
            f"{reading['model']} {extractor.layer} ({reading['pool']})",
            describe_weights(snakemake.input.weights),
            describe(**preprocessing),
        )
