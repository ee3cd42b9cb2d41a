"""Draw an image and some of its scattering coefficients."""

from collapseflow.features.scattering import first_order_paths
from collapseflow.images.datasets import read_split
from collapseflow.presentation.figures.images import plot_scattering
from collapseflow.running.jobs import job

with job(snakemake):
    image = read_split(snakemake.input.dataset, "train").images[0]
    plot_scattering(
        image,
        first_order_paths(image, **snakemake.params.scattering, n=6),
        snakemake.params.title,
        snakemake.params.ink,
        snakemake.params.style,
        snakemake.output,
    )
