"""Any classification data set of torchvision."""

import inspect
from pathlib import Path

import numpy as np
from PIL import Image

from collapseflow.datasets import Split, Splits, make_split
from collapseflow.errors import TemporaryError, UserError


def read(
    name: str, arguments: dict, size: int | None, class_names: list[str] | None, root: Path
) -> Splits:
    """Read a data set of torchvision, downloaded by torchvision where it has to be.

    Parameters
    ----------
    name
        Class in ``torchvision.datasets``, for example ``CIFAR10``.
    arguments
        Further arguments of that class.
    size
        Images are reduced or enlarged to ``size`` pixels on the shorter side and cut to a
        square. None leaves them as they are; then all must have one size.
    root
        Folder for torchvision's downloads.

    Raises
    ------
    UserError
        If there is no such data set, it has no two splits, or its images differ in size.
    """
    from torchvision import datasets

    cls = getattr(datasets, name, None)
    if not inspect.isclass(cls):
        raise UserError(f"name: torchvision.datasets has no {name!r}")
    accepted = inspect.signature(cls).parameters
    if "train" in accepted:
        choices = [{"train": True}, {"train": False}]
    elif "split" in accepted:
        choices = [{"split": "train"}, {"split": "test"}]
    else:
        raise UserError(f"name: torchvision.datasets.{name} has no training and test split")
    options = dict(arguments)
    if "root" in accepted:
        options.setdefault("root", str(root))
    if "download" in accepted:
        options.setdefault("download", True)
    try:
        parts = [cls(**options, **choice) for choice in choices]
    except (TypeError, ValueError) as error:
        raise UserError(f"torchvision.datasets.{name}: {error}") from None
    except (RuntimeError, OSError) as error:
        raise TemporaryError(f"torchvision.datasets.{name}: {error}") from None
    train, test = (_to_split(part, size, name) for part in parts)
    if class_names is None:
        n_classes = int(max(train.labels.max(), test.labels.max())) + 1
        class_names = list(getattr(parts[0], "classes", None) or map(str, range(n_classes)))
        # Some data sets list tuples of synonyms.
        class_names = [c if isinstance(c, str) else c[0] for c in class_names]
    return Splits(train, test, class_names, f"torchvision.datasets.{name}")


def _to_split(part, size: int | None, name: str) -> Split:
    images, labels = [], []
    for image, label in part:
        if not isinstance(image, Image.Image) or not np.isscalar(label):
            raise UserError(f"name: torchvision.datasets.{name} does not give images with a class")
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        images.append(np.asarray(image if size is None else _square(image, size)))
        labels.append(label)
    shapes = {image.shape for image in images}
    if len({shape[:2] for shape in shapes}) > 1:
        raise UserError(f"torchvision.datasets.{name}: images differ in size; set the key 'size'")
    if len(shapes) > 1:
        images = [np.dstack([i] * 3) if i.ndim == 2 else i for i in images]
    return make_split(np.stack(images), np.asarray(labels))


def _square(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + size, top + size)
    )
