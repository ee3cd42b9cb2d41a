"""Wavelet scattering (Mallat 2012; Bruna and Mallat 2013) with kymatio."""

from collections.abc import Iterator

import numpy as np
import torch
from kymatio.torch import Scattering2D

from collapseflow.features.batches import in_batches
from collapseflow.running.errors import UserError


def _transform(shape: tuple[int, int], J: int, L: int, order: int, **options) -> Scattering2D:
    if min(shape) < 2**J:
        raise UserError(
            f"scattering.J: {J} needs images of at least {2**J} pixels a side; "
            f"these have {shape[0]} x {shape[1]}: use a smaller J"
        )
    return Scattering2D(J=J, L=L, shape=shape, max_order=order, **options)


def scattering(
    images: np.ndarray,
    J: int,
    L: int,
    order: int,
    device: torch.device,
    what: str,
    batch_size: int = 256,
) -> Iterator[tuple[np.ndarray, None]]:
    """Scattering coefficients of images scaled to [0, 1].

    A batch that does not fit into memory is halved.

    Parameters
    ----------
    images : uint8 array (N, H, W) or (N, H, W, 3); colours are transformed one by one

    Yields
    ------
    float32 array (n, K, H / 2^J, W / 2^J), K = 1 + JL, and at order 2 L^2 J(J-1)/2 more
    ((n, 3, K, ...) for colours), and None
    """
    transform = _transform(images.shape[1:3], J, L, order).to(device)

    def forward(batch: torch.Tensor, n: int) -> np.ndarray:
        with torch.inference_mode():
            values = batch.float() / 255
            if values.ndim == 4:
                values = values.permute(0, 3, 1, 2)
            return transform(values.contiguous())[:n].cpu().numpy()

    for coefficients in in_batches(forward, images, device, batch_size, what):
        yield coefficients, None


def stroke_angle(theta: int, L: int) -> float:
    """Degrees, from the index that kymatio's filter bank gives a wavelet's angle."""
    return 180.0 * (int(L - L / 2 - 1) - theta) / L % 180.0


def first_order_paths(
    image: np.ndarray, J: int, L: int, order: int, n: int
) -> list[tuple[int, float, np.ndarray]]:
    """First-order coefficients of one image: ``n``, spread evenly over scales, then angles, or all
    where there are no more.

    Returns
    -------
    list of (scale j, direction of the strokes it answers to, in degrees counter-clockwise from
    horizontal, float32 array (H / 2^J, W / 2^J))
    """
    grey = image if image.ndim == 2 else image.mean(axis=2)
    transform = _transform(grey.shape, J, L, order, out_type="list")
    paths = [p for p in transform(torch.from_numpy(grey).float()[None] / 255) if len(p["j"]) == 1]
    maps = [(p["j"][0], stroke_angle(p["theta"][0], L), p["coef"][0].numpy()) for p in paths]
    maps.sort(key=lambda entry: entry[:2])
    places = np.linspace(0, len(maps), min(n, len(maps)), endpoint=False)
    return [maps[place] for place in places.astype(int)]
