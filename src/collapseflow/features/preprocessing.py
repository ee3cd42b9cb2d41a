"""From uint8 images to what a network takes, on the device, a batch at a time."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def describe(image_size: int, normalize: str) -> str:
    """One line for the attributes of a store."""
    statistics = "ImageNet mean and s.d." if normalize == "imagenet" else "no normalisation"
    return f"bilinear (antialiased) to {image_size} px, 3 channels, [0, 1], {statistics}"


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize to ``size`` x ``size`` as PIL's bilinear filter does, without its rounding.

    Parameters
    ----------
    images : uint8 tensor (N, H, W) or (N, H, W, 3)

    Returns
    -------
    float32 tensor (N, 1 or 3, size, size) of grey levels in [0, 255]; within one grey level of
    PIL, which rounds after each of its two passes.
    """
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    images = images.to(torch.float32)
    if images.shape[-2:] == (size, size):
        return images
    return functional.interpolate(
        images, (size, size), mode="bilinear", align_corners=False, antialias=True
    )


def preprocess(
    images: torch.Tensor,
    image_size: int,
    normalize: Literal["imagenet", "none"],
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    layout: torch.memory_format = torch.channels_last,
) -> torch.Tensor:
    """Resize, scale to [0, 1], make three channels, subtract ImageNet's mean, divide by its s.d.

    Parameters
    ----------
    images : uint8 tensor (N, H, W) or (N, H, W, 3), on any device
    augment
        What is done with the resized images before the mean is subtracted: float32 tensors
        (N, 1 or 3, image_size, image_size) in [0, 1], black is 0.
    layout
        The order of the result's values in memory.

    Returns
    -------
    float32 tensor (N, 3, image_size, image_size)
    """
    values = resize(images, image_size).div_(255)
    if augment is not None:
        values = augment(values)
    if normalize == "imagenet":
        mean, std = _imagenet_statistics(values.device)
        values = (values - mean).div_(std)
    return values.expand(-1, 3, -1, -1).contiguous(memory_format=layout)


@cache
def _imagenet_statistics(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and s.d., float32 (1, 3, 1, 1). Kept on the device: to send them there anew for each
    batch would make the host wait for the card."""
    with torch.inference_mode(False):
        return tuple(
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
