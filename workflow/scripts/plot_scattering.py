"""Draw an image and some of its scattering coefficients."""

from collapseflow.datasets import read_split
from collapseflow.figures.images import plot_scattering
from collapseflow.jobs import job
from collapseflow.scattering import first_order_paths

with job(snakemake):
    image = read_split(snakemake.input.dataset, "train").images[0]
    plot_scattering(
        image,
        first_order_paths(image, **snakemake.params.scattering, n=6),
        snakemake.params.title,
        snakemake.params.style,
        snakemake.output,
    )
