"""A user's own images: one folder a class, with ``train/`` and ``test/`` above or undivided."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from collapseflow.images.datasets import Split, Splits, make_split, split_off_test
from collapseflow.images.sources.pictures import square, stack
from collapseflow.running.errors import UserError
from collapseflow.running.jobs import progress
from collapseflow.running.resume import digest

logger = logging.getLogger(__name__)

#: Endings of the names of images, in lower case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
#: Pillow's formats of them.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
#: What file managers leave among images; names with a dot in front, too.
LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")


def read(
    location: str | Path, size: int | None, test_fraction: float, seed: int, threads: int
) -> Splits:
    """Read a folder of images, decoded on several threads.

    Parameters
    ----------
    location
        Holds a folder for each class, or ``train`` and ``test`` with a folder for each class in
        both. Classes are in the alphabetical order of their names; images in folders inside a
        class are the class's, too.
    size
        Images are reduced or enlarged to ``size`` pixels on the shorter side and cut to a
        square. None leaves them as they are; then all must have one size.
    test_fraction
        The share of test images, class by class, where the images come undivided.

    Raises
    ------
    UserError
        Naming every folder or file that cannot be used.
    """
    root = Path(location).expanduser()
    parts, others = find(root)
    class_names = sorted(parts[0])
    files = [(path, c) for part in parts for c in class_names for path in part[c]]
    images = decode([path for path, _ in files], size, root, threads, others)
    labels = np.array([class_names.index(c) for _, c in files])
    if len(parts) == 2:
        n_train = sum(map(len, parts[0].values()))
        train = make_split(images[:n_train], labels[:n_train])
        test = make_split(images[n_train:], labels[n_train:])
    else:
        train, test = split_off_test(make_split(images, labels), test_fraction, seed)
        _require_every_class(train, test, class_names, root, test_fraction)
    return Splits(train, test, class_names, f"images in the folder {root.name}")


def content(location: str | Path) -> str:
    """A digest of a folder's files: their names, sizes and times of change, not their bytes."""
    root = Path(location).expanduser()
    listing = []
    for path in _below(root):
        # A link that leads nowhere is named when it is to be decoded.
        status = path.stat() if path.exists() else path.lstat()
        listing.append(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return digest({"files": listing})


def find(root: Path) -> tuple[list[dict[str, list[Path]]], list[str]]:
    """The images of each class, of the training and the test images or of all; and other files.

    Returns
    -------
    For each part a dictionary of the classes' images, and what is no image of a class, in words.

    Raises
    ------
    UserError
        If there are no two classes, or a class is empty.
    """
    folders = {path.name: path for path in _entries(root) if path.is_dir()}
    for split, other in (("train", "test"), ("test", "train")):
        above = split in folders and any(path.is_dir() for path in _entries(folders[split]))
        if above and other not in folders:
            raise UserError(
                f"{root}: has {split}/ with classes in it, but no {other}/; "
                "allowed: both, or a folder for each class"
            )
    divided = {"train", "test"} <= set(folders)
    tops = [folders["train"], folders["test"]] if divided else [root]
    beside = sorted(set(folders) - {"train", "test"}) if divided else []
    if beside:
        logger.warning("%s: beside train/ and test/, not read: %s", root, ", ".join(beside))
    classes = [[path.name for path in _entries(top) if path.is_dir()] for top in tops]
    names = sorted(set().union(*classes))
    if len(names) < 2:
        found = f"the one class {names[0]!r}" if names else "no folder of a class"
        raise UserError(f"{root}: holds {found}; allowed: a folder for each of two or more classes")
    found = [{name: list(_below(top / name)) for name in names} for top in tops]
    parts = [{n: [p for p in files if _is_image(p)] for n, files in f.items()} for f in found]
    empty = [
        f"{top.name}/{n}"
        for top, part in zip(tops, parts, strict=True)
        for n in names
        if not part[n]
    ]
    if empty:
        raise UserError(
            f"{root}: no image in {', '.join(empty)}; put some in, or remove the class "
            f"{'from both train/ and test/' if divided else 'folder'}"
        )
    loose = [path for top in tops for path in _entries(top) if _is_image(path)]
    wrong = [f"{path.relative_to(root)} (in no class's folder)" for path in loose]
    for path in (path for part in found for files in part.values() for path in files):
        if not _is_image(path):
            wrong.append(f"{path.relative_to(root)} (no {', '.join(SUFFIXES)})")
    return parts, wrong


def _require_every_class(
    train: Split, test: Split, class_names: Sequence[str], root: Path, test_fraction: float
) -> None:
    for what, split in (("training", train), ("test", test)):
        absent = [n for c, n in enumerate(class_names) if not np.any(split.labels == c)]
        if absent:
            raise UserError(
                f"{root}: test_fraction {test_fraction} leaves no {what} image of "
                f"{', '.join(absent)}; add images to them, or change test_fraction"
            )


def _entries(folder: Path) -> list[Path]:
    """What stands in a folder, in alphabetical order, without litter."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    return [path for path in paths if not path.name.startswith(".") and path.name not in LITTER]


def _below(folder: Path) -> Iterator[Path]:
    """The files in a folder and in those inside it, in alphabetical order; none if it is absent."""
    for path in _entries(folder) if folder.is_dir() else []:
        if path.is_dir():
            yield from _below(path)
        else:
            yield path


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def decode(
    paths: Sequence[Path], size: int | None, root: Path, threads: int, others: Sequence[str]
) -> np.ndarray:
    """Decode images on several threads (Pillow lets go of the interpreter while it decodes).

    ``others`` are files that are no images of a class, in words.

    Returns
    -------
    uint8 array (N, H, W), or (N, H, W, 3) if there is any colour

    Raises
    ------
    UserError
        Naming these and every image that cannot be read, or two images of different sizes.
    """
    images, problems = [], list(others)
    # Pillow's readers are loaded here, before threads would do it at the same time.
    Image.init()
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda path: decode_one(path, size), paths)
        for path, image in zip(
            paths, progress(found, len(paths), f"images in {root.name}"), strict=True
        ):
            if isinstance(image, str):
                problems.append(f"{path.relative_to(root)} ({image})")
            else:
                images.append(image)
    if problems:
        raise UserError(
            f"{root}: {len(problems)} of {len(paths) + len(others)} files cannot be read as images "
            "of a class; replace or remove "
            f"{'; '.join(problems)}"
        )
    shapes: dict[tuple[int, ...], Path] = {}
    for path, image in zip(paths, images, strict=True):
        shapes.setdefault(image.shape[:2], path)
    if len(shapes) > 1:
        (height, width), (other_height, other_width) = list(shapes)[:2]
        one, other = list(shapes.values())[:2]
        raise UserError(
            f"{root}: images differ in size ({one.relative_to(root)}: {width} x {height}, "
            f"{other.relative_to(root)}: {other_width} x {other_height}); set the key 'size'"
        )
    return stack(images)


def decode_one(path: Path, size: int | None) -> np.ndarray | str:
    """One image as uint8 (H, W) or (H, W, 3), upright; or what is wrong with it, in words.

    Transparent parts become white, 16-bit grey levels their upper 8 bits.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            # Cameras put a preview behind a JPEG, whose format is called MPO then.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                return f"holds {image.n_frames} images"
            image = ImageOps.exif_transpose(image)
            image.load()
    except UnidentifiedImageError:
        return "no JPEG, PNG, WebP or TIFF"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint16) >> 8
        image = Image.fromarray(levels.astype(np.uint8))
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        grey = image.mode in ("L", "LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("L" if grey else "RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB"):
        return f"{image.mode} values; convert it to RGB or grey"
    return np.asarray(image if size is None else square(image, size))
