"""What is known of data sets before their images are read.

Imports no library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collapseflow.running.errors import UserError, instead

#: The four files of an IDX data set.
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
#: Letters that are rendered where they are a data set of a study.
LETTERS = 20_000


@dataclass(frozen=True)
class Source:
    """A source whose images are always the same.

    Attributes
    ----------
    images : numbers of training and test images, or of all where they come undivided
    classes : their number
    image_size : pixels a side
    """

    images: tuple[int, int] | int
    classes: int
    image_size: int


SOURCES = {
    "mnist": Source((60_000, 10_000), 10, 28),
    "fashion_mnist": Source((60_000, 10_000), 10, 28),
    "mnist5k": Source(5_000, 10, 28),
    "digits": Source(1_797, 10, 8),
    "letters": Source(LETTERS, 26, 28),
}


#: torchvision's data sets of images with a class, divided into training and test images; and those
#: that come undivided.
TORCHVISION = (
    *("CIFAR10", "CIFAR100", "CLEVRClassification", "Country211", "DTD", "EMNIST", "FER2013"),
    *("FGVCAircraft", "FashionMNIST", "Flowers102", "Food101", "GTSRB", "ImageNet", "Imagenette"),
    *("KMNIST", "MNIST", "OxfordIIITPet", "PCAM", "Places365", "QMNIST", "RenderedSST2", "STL10"),
    *("SVHN", "StanfordCars", "USPS"),
)
TORCHVISION_UNDIVIDED = ("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397")
#: Sources of encoded images, each of which takes a while to be decoded.
DECODED = ("folder", "table", "huggingface")
#: What the key ``columns`` may name, by source.
COLUMNS = {
    "table": ("path", "label", "split", "group"),
    "arrays": (
        *("images", "labels", "split", "group"),
        *("train_images", "train_labels", "test_images", "test_labels"),
    ),
    "huggingface": ("image", "label", "group"),
}
#: Light strokes or clothes on black, which their papers print as ink on paper: sources, and
#: names in torchvision.
INK = (
    *("mnist", "fashion_mnist", "mnist5k", "digits", "letters"),
    *("MNIST", "FashionMNIST", "EMNIST", "KMNIST", "QMNIST", "USPS"),
)


def torchvision_name(word: str) -> str | None:
    """The data set of torchvision that a word names, whatever its case, hyphens and underscores."""
    folded = {name.casefold(): name for name in (*TORCHVISION, *TORCHVISION_UNDIVIDED)}
    return folded.get(word.casefold().replace("-", "").replace("_", ""))


def divided(images: int, test_fraction: float) -> dict[str, int]:
    """Numbers of images by split after a share of ``test_fraction`` is taken for tests."""
    n_test = round(images * test_fraction)
    return {"train": images - n_test, "test": n_test}


def n_images(source: str, test_fraction: float) -> dict[str, int] | None:
    """Numbers of images of a source by split; None where they are known only when it is read."""
    if source not in SOURCES:
        return None
    images = SOURCES[source].images
    if isinstance(images, int):
        return divided(images, test_fraction)
    return dict(zip(("train", "test"), images, strict=True))


def n_used(entry: Mapping[str, Any], test_fraction: float) -> dict[str, int]:
    """Numbers of images by split that a data set of a study has, as far as they are known.

    ``entry`` has the keys ``source`` and ``subset`` of the study file, and may have ``classes`` and
    ``imbalance``.
    """
    whole = n_images(entry["source"], test_fraction) or {}
    if entry.get("classes"):
        whole = {}
    found = whole | {split: n for split, n in entry["subset"].items() if n is not None}
    if entry.get("imbalance"):
        found.pop("train", None)
    return found


def positions_of(
    classes: Sequence[str | int], names: Sequence[str], numbers: Sequence[int]
) -> list[int]:
    """Where the classes that a user names stand among those of a source.

    Parameters
    ----------
    classes
        All by their names, or all by their numbers in the source; none twice.
    names, numbers
        Of all classes, in order.

    Raises
    ------
    UserError
        If there is no such class.
    """
    words = list(map(str, classes))
    known = {name: position for position, name in enumerate(names)}
    if not set(words) <= set(known) and all(isinstance(one, int) for one in classes):
        known = {str(number): position for position, number in enumerate(numbers)}
    if unknown := [word for word in words if word not in known]:
        raise UserError(f"classes: {unknown[0]!r} is unknown; {instead(unknown[0], known)}")
    return [known[word] for word in words]
