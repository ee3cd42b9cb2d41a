"""Store wavelet scattering coefficients."""

from functools import partial

from collapseflow.features.scattering import scattering
from collapseflow.features.stores import write_features
from collapseflow.running.hardware import pick_device
from collapseflow.running.jobs import job

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
