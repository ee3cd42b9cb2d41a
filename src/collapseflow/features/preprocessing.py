"""From uint8 images to what a network takes, on the device, a batch at a time."""

from collections.abc import Callable
from functools import cache

import torch
from torch.nn import functional

from collapseflow.features.inputs import Inputs, Normalization, Resizing

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD, "ImageNet mean and s.d.")


def describe(inputs: Inputs) -> str:
    """One line for the attributes of a store."""
    words = {"imagenet": "ImageNet mean and s.d.", "none": "no normalisation"}
    own = inputs.normalize
    statistics = (
        f"{own.words} {own.mean}, {own.std}" if isinstance(own, Normalization) else words[own]
    )
    how, size = inputs.resizing, f"{inputs.image_size} px"
    resized = (
        f"{how.interpolation} (antialiased), shorter side to {how.shorter_side} px, middle {size}"
        if how
        else f"bilinear (antialiased) to {size}"
    )
    return f"{resized}, 3 channels, [0, 1], {statistics}"


def resize(images: torch.Tensor, size: int, resizing: Resizing | None = None) -> torch.Tensor:
    """Resize to ``size`` x ``size`` as PIL's filters do, without their rounding.

    Parameters
    ----------
    images : uint8 tensor (N, H, W) or (N, H, W, 3)
    resizing
        None resizes the whole image, bilinear.

    Returns
    -------
    float32 tensor (N, 1 or 3, size, size) of grey levels in [0, 255]; within one grey level of
    PIL, which rounds after each of its two passes.
    """
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    images = images.to(torch.float32)
    if resizing is not None:
        return _middle(images, size, resizing)
    if images.shape[-2:] == (size, size):
        return images
    return functional.interpolate(
        images, (size, size), mode="bilinear", align_corners=False, antialias=True
    )


def _middle(images: torch.Tensor, size: int, resizing: Resizing) -> torch.Tensor:
    """The square in the middle of images whose shorter side is resized, as torchvision's ``Resize``
    and ``CenterCrop`` have it."""
    height, width = images.shape[-2:]
    shorter = min(height, width)
    shape = [int(resizing.shorter_side * side / shorter) for side in (height, width)]
    if [height, width] != shape:
        images = functional.interpolate(
            images, shape, mode=resizing.interpolation, align_corners=False, antialias=True
        )
        # Bicubic weights are negative, too: what PIL leaves in [0, 255].
        images = images.clamp_(0, 255)
    top, left = (round((side - size) / 2) for side in shape)
    return images[..., top : top + size, left : left + size]


def preprocess(
    images: torch.Tensor,
    image_size: int,
    normalize: str | Normalization,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    layout: torch.memory_format = torch.channels_last,
    resizing: Resizing | None = None,
) -> torch.Tensor:
    """Resize, scale to [0, 1], make three channels, subtract the mean, divide by the s.d.

    Parameters
    ----------
    images : uint8 tensor (N, H, W) or (N, H, W, 3), on any device
    augment
        What is done with the resized images before the mean is subtracted: float32 tensors
        (N, 1 or 3, image_size, image_size) in [0, 1], black is 0.
    normalize
        ``imagenet``, ``none``, or mean and s.d.
    layout
        The order of the result's values in memory.
    resizing
        As in :class:`~collapseflow.features.inputs.Inputs`.

    Returns
    -------
    float32 tensor (N, 3, image_size, image_size)
    """
    values = resize(images, image_size, resizing).div_(255)
    if augment is not None:
        values = augment(values)
    if normalize != "none":
        mean, std = _statistics(normalize, values.device)
        values = (values - mean).div_(std)
    return values.expand(-1, 3, -1, -1).contiguous(memory_format=layout)


@cache
def _statistics(
    normalize: str | Normalization, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and s.d., float32 (1, 3, 1, 1). Kept on the device: to send them there anew for each
    batch would make the host wait for the card."""
    of = IMAGENET if normalize == "imagenet" else normalize
    with torch.inference_mode(False):
        return tuple(
            torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (of.mean, of.std)
        )
