"""Store wavelet scattering coefficients."""

from functools import partial

from collapseflow.features.scattering import scattering
from collapseflow.features.stores import write_features
from collapseflow.images.datasets import SPLITS
from collapseflow.running.files import atomic_folder
from collapseflow.running.hardware import pick_device
from collapseflow.running.jobs import job

with job(snakemake), atomic_folder(snakemake.output.features) as folder:
    parameters = snakemake.params.scattering
    device = pick_device(snakemake.params.device)
    for split in SPLITS:
        write_features(
            snakemake.input.dataset,
            split,
            folder / f"{split}.h5",
            partial(scattering, **parameters, device=device, what=f"scattering, {split}"),
            "scattering J={J}, L={L}, order {order}".format(**parameters),
            "none",
            "pixels over 255",
        )
