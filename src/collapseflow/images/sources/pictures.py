"""What sources of single pictures share."""

from collections.abc import Sequence

import numpy as np
from PIL import Image


def square(image: Image.Image, size: int) -> Image.Image:
    """Reduce or enlarge to ``size`` pixels on the shorter side and cut the centre to a square.

    Bilinear, antialiased.
    """
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + size, top + size)
    )


def stack(images: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height and width as one array; grey ones among colours get three channels.

    Parameters
    ----------
    images : uint8 arrays (H, W) or (H, W, 3)

    Returns
    -------
    uint8 array (N, H, W), or (N, H, W, 3) if there is any colour
    """
    if len({image.ndim for image in images}) > 1:
        images = [np.dstack([image] * 3) if image.ndim == 2 else image for image in images]
    return np.stack(images)
