"""Any classification data set of torchvision."""

import inspect
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from collapseflow.images.datasets import Split, Splits, make_split, split_off_test
from collapseflow.images.sources.pictures import Fit, Size, fitted, stack
from collapseflow.running.errors import TemporaryError, UserError, did_you_mean, instead


def read(
    name: str,
    arguments: dict,
    size: Size,
    root: Path,
    test_fraction: float,
    seed: int,
    fit: Fit = "crop",
) -> Splits:
    """Read a data set of torchvision, downloaded by torchvision where it has to be.

    Parameters
    ----------
    name
        Class in ``torchvision.datasets``, for example ``CIFAR10``.
    arguments
        Further arguments of that class.
    size, fit
        As :mod:`collapseflow.images.sources` says.
    root
        Folder for torchvision's downloads.
    test_fraction, seed
        As there, where torchvision has no argument ``train`` or ``split``.

    Raises
    ------
    UserError
        If there is no such data set, or its images differ in size.
    """
    cls, choices = _class_of(name), _choices(name, arguments)
    accepted = _parameters(cls)
    options = {"root": str(root), "download": True} | arguments
    options = {k: v for k, v in options.items() if k in accepted}
    try:
        parts = [cls(**options, **choice) for choice in choices]
    except (TypeError, ValueError) as error:
        raise UserError(f"torchvision.datasets.{name}: {error}") from None
    except (RuntimeError, OSError) as error:
        where = f"; its files belong into {options['root']}" if "root" in options else ""
        line = " ".join(str(error).split())
        raise TemporaryError(f"torchvision.datasets.{name}: {line}{where}") from None
    splits = [_to_split(part, size, fit, name) for part in parts]
    n_classes = max(split.labels.max() for split in splits) + 1
    named = (getattr(parts[0], key, None) for key in ("classes", "categories"))
    class_names = next(filter(None, named), map(str, range(n_classes)))
    # Some data sets list tuples of synonyms.
    class_names = [c if isinstance(c, str) else c[0] for c in class_names]
    if len(splits) == 1:
        splits = split_off_test(splits[0], test_fraction, seed)
    return Splits(*splits, class_names, f"torchvision.datasets.{name}")


def labels_on_disk(name: str, arguments: dict, root: Path) -> np.ndarray | None:
    """The labels of all images, where they are there without a download and a look at the images.

    None where they are known only when they are read.
    """
    cls = _class_of(name)
    accepted = _parameters(cls)
    options = {"root": str(root)} | arguments | {"download": False}
    options = {k: v for k, v in options.items() if k in accepted}
    found = []
    for choice in _choices(name, arguments):
        try:
            part = cls(**options, **choice)
        except Exception:
            # Whatever it is about the files, it is told by what reads them.
            return None
        labels = (getattr(part, key, None) for key in ("targets", "labels", "_labels", "y"))
        found.append(next((x for x in labels if x is not None), None))
    if any(labels is None for labels in found):
        return None
    return np.concatenate([np.asarray(labels) for labels in found])


def check_arguments(name: str, arguments: dict) -> None:
    """Refuse a data set that torchvision does not have or that cannot be read with ``arguments``.

    torchvision itself is asked: it looks at the arguments before it looks for files, and is shown
    an empty folder. What depends on the files is not found here.

    Raises
    ------
    UserError
        With the key, the value and what is allowed.
    """
    cls, choices = _class_of(name), _choices(name, arguments)
    accepted = _parameters(cls)
    with TemporaryDirectory() as empty:
        options = {**arguments, "root": empty, "download": False}
        options = {k: v for k, v in options.items() if k in accepted}
        for choice in choices:
            try:
                cls(**options, **choice)
            except (TypeError, ValueError) as error:
                line = str(error).splitlines()[0]
                raise UserError(f"arguments: torchvision.datasets.{name}: {line}") from None
            except (RuntimeError, OSError, ImportError):
                # The files are not there yet, or a package is needed to read them.
                pass


#: Training and test images where torchvision does not call them "train" and "test".
SPLITS = {
    "OxfordIIITPet": ("trainval", "test"),
    "FGVCAircraft": ("trainval", "test"),
    "ImageNet": ("train", "val"),
    "Imagenette": ("train", "val"),
    "CLEVRClassification": ("train", "val"),
    "Places365": ("train-standard", "val"),
}


def _class_of(name: str) -> type:
    from torchvision import datasets

    if name in ("ImageFolder", "DatasetFolder"):
        raise UserError(f"name: {name!r} is of a folder; write source: folder, location: FOLDER")
    cls = getattr(datasets, name, None)
    if not inspect.isclass(cls):
        hint = did_you_mean(name, datasets.__all__).rstrip()
        raise UserError(f"name: torchvision.datasets has no {name!r}; {hint}".rstrip("; "))
    return cls


def _choices(name: str, arguments: dict) -> list[dict]:
    """The arguments that choose the training images and the test images; none, once, where they
    come undivided."""
    accepted = _parameters(_class_of(name))
    if "train" in accepted:
        key, values = "train", (True, False)
    elif "split" in accepted:
        key, values = "split", SPLITS.get(name, ("train", "test"))
    else:
        key, values = None, ()
    unknown = sorted(set(arguments) - set(accepted))
    if unknown:
        known = sorted(set(accepted) - {key})
        raise UserError(
            f"arguments: torchvision.datasets.{name} has no {unknown[0]!r}; "
            f"{instead(unknown[0], known)}"
        )
    if key in arguments:
        raise UserError(
            f"arguments: {key!r} cannot be given, both {values[0]!r} and {values[1]!r} are read"
        )
    needed = [k for k, p in accepted.items() if p.default is p.empty]
    missing = sorted(set(needed) - {*arguments, key, "root"})
    if missing:
        values = getattr(_class_of(name), f"{missing[0]}s", None)
        allowed = f"; allowed: {', '.join(map(str, values))}" if values else ""
        raise UserError(f"arguments: torchvision.datasets.{name} needs {missing[0]!r}{allowed}")
    return [{key: value} for value in values] or [{}]


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """What a class takes, also what it hands on to the classes that it derives from."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = list(inspect.signature(base.__init__).parameters.values())[1:]
        named = [p for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        found = {p.name: p for p in named} | found
        if all(p.kind != p.VAR_KEYWORD for p in own):
            break
    return found


def _to_split(part, size: Size, fit: Fit, name: str) -> Split:
    images, labels = [], []
    for image, label in part:
        if not isinstance(image, Image.Image) or not np.isscalar(label):
            raise UserError(f"name: torchvision.datasets.{name} does not give images with a class")
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        images.append(np.asarray(fitted(image, size, fit)))
        labels.append(label)
    if len({image.shape[:2] for image in images}) > 1:
        raise UserError(f"torchvision.datasets.{name}: images differ in size; set the key 'size'")
    return make_split(stack(images), np.asarray(labels))
