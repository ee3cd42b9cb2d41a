"""Store wavelet scattering coefficients."""

from functools import partial

from collapseflow.hardware import pick_device
from collapseflow.jobs import job
from collapseflow.scattering import scattering
from collapseflow.stores import write_features

with job(snakemake):
    parameters = snakemake.params.scattering
    device = pick_device(snakemake.params.device)
    for split, path in snakemake.output.items():
        write_features(
            snakemake.input.dataset,
            split,
            path,
            partial(scattering, **parameters, device=device, what=f"scattering, {split}"),
            "scattering J={J}, L={L}, order {order}".format(**parameters),
            "none",
            "pixels over 255",
        )
