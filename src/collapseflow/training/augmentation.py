"""Augmentation: random changes of training images, drawn on the CPU and made on the device."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

#: The largest shift, in shares of the side: 4 of 32 pixels (He et al. 2016).
LARGEST_SHIFT = 1 / 8
#: The smallest share of the area that a crop has (Szegedy et al. 2015 take 0.08, of photographs).
SMALLEST_CROP = 0.25


def draw_augmentation(
    augmentation: str, n: int, image_size: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw for ``n`` images what :func:`augment` does with each; nothing for ``none``.

    Returns
    -------
    By kind, in the order of application: ``shift`` int64 (n, 2), pixels down and to the right;
    ``flip`` bool (n,); ``crop`` float32 (n, 3), side, upper and left edge in shares of the side.
    """

    def shift() -> np.ndarray:
        largest = int(LARGEST_SHIFT * image_size)
        return generator.integers(-largest, largest, (n, 2), endpoint=True)

    def flip() -> np.ndarray:
        return generator.random(n) < 0.5

    def crop() -> np.ndarray:
        side = np.sqrt(generator.uniform(SMALLEST_CROP, 1, n))[:, None]
        return np.hstack([side, (1 - side) * generator.random((n, 2))]).astype(np.float32)

    draws = {"shift": shift, "flip": flip, "crop": crop}
    kinds = () if augmentation == "none" else augmentation.split("+")
    return {kind: draws[kind]() for kind in kinds}


def augment(images: torch.Tensor, draws: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Change each image as it was drawn: shifts by whole pixels, black outside (He et al. 2016);
    mirror images; square crops, resized bilinearly to the whole image (Szegedy et al. 2015).

    Parameters
    ----------
    images : float32 (N, C, S, S)
    draws
        What :func:`draw_augmentation` has drawn for these images, on their device.

    Returns
    -------
    float32 (N, C, S, S)
    """
    kinds = {"shift": _shift, "flip": _flip, "crop": _crop}
    for kind, drawn in draws.items():
        images = kinds[kind](images, drawn)
    return images


def _shift(images: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    n, _, size, _ = images.shape
    border = int(LARGEST_SHIFT * size)
    padded = functional.pad(images, (border,) * 4)
    places = torch.arange(border, border + size, device=images.device)
    rows, columns = (places - by[:, dim, None] for dim in (0, 1))
    image = torch.arange(n, device=images.device)
    shifted = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def _flip(images: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


def _crop(images: torch.Tensor, crops: torch.Tensor) -> torch.Tensor:
    n, _, size, _ = images.shape
    centres = (torch.arange(size, device=images.device) + 0.5) / size
    side, top, left = crops[:, :, None].unbind(1)
    # grid_sample counts from -1 at one edge of the image to 1 at the other.
    rows, columns = (2 * (edge + side * centres) - 1 for edge in (top, left))
    grid = torch.stack(
        [columns[:, None, :].expand(n, size, size), rows[:, :, None].expand(n, size, size)], -1
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
