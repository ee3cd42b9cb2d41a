"""A user's own images: one folder a class, with ``train/`` and ``test/`` above or undivided."""

import logging
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from collapseflow.images.datasets import Split, Splits, make_split, split_off_test
from collapseflow.images.sources.pictures import square, stack
from collapseflow.running.errors import UserError
from collapseflow.running.jobs import progress
from collapseflow.running.resume import digest
from collapseflow.running.words import CONTROL

logger = logging.getLogger(__name__)

#: What no name of a class has: bytes that are no text are lone surrogates to Python.
_NO_NAME = re.compile(f"[\ud800-\udfff{CONTROL}]")
#: Endings of the names of images, in lower case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
#: Pillow's formats of them.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
#: What file managers leave among images; names with a dot in front, too.
LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")
#: What the folders of training and of test images may be called, in lower case.
PARTS = {"train": ("train", "training"), "test": ("test", "testing")}
#: What a third part is often called, in lower case.
VALIDATION = ("val", "valid", "validation", "dev")
#: How files are read, in words: other words have all folders read anew, and no other source.
READING = "divided by the names in PARTS; 16-bit levels by the bits that they need"
#: Bits that cameras and scanners have.
DEPTHS = (8, 10, 12, 14, 16)
#: At most so many files are named in a message, and in what a data set says of its source.
NAMED, NAMED_IN_SOURCE = 10, 3


@dataclass(frozen=True)
class Folder:
    """How a folder of images is divided.

    Attributes
    ----------
    root : the folder
    parts : what holds the folders of the classes: those of training and of test images, or ``root``
    class_names : in alphabetical order
    beside : the other folders beside those of training and test images
    """

    root: Path
    parts: list[Path]
    class_names: list[str]
    beside: list[Path]


class File(NamedTuple):
    """An image of a class: the numbers of its part and of its class, its position in the part."""

    path: Path
    part: int
    label: int
    position: int


class Picture(NamedTuple):
    """A decoded image.

    Attributes
    ----------
    levels : uint8 or uint16 array (H, W), or uint8 array (H, W, 3)
    largest : of a file with 16 bits the largest value, else None
    """

    levels: np.ndarray
    largest: int | None


def read(
    location: str | Path,
    size: int | None,
    test_fraction: float,
    seed: int,
    threads: int,
    on_bad_image: Literal["stop", "skip"] = "stop",
) -> Splits:
    """Read a folder of images, decoded on several threads.

    Parameters
    ----------
    location
        Holds a folder for each class, or one for training and one for test images (:data:`PARTS`,
        in capitals or not) with a folder for each class in both. Classes are in the alphabetical
        order of their names; images in folders inside a class are the class's, too.
    size
        Images are reduced or enlarged to ``size`` pixels on the shorter side and cut to a
        square. None leaves them as they are; then all must have one size.
    test_fraction
        The share of test images, class by class, where the images come undivided.
    on_bad_image
        Whether a file that cannot be used ends the reading, or is left out; the source then says
        how many were, and names the first.

    Raises
    ------
    UserError
        Naming what cannot be used, all of it in one message.
    """
    folder = look_into(location)
    files, bad = list_files(folder)
    n_files = len(files) + len(bad)
    pictures = decode([file.path for file in files], size, threads, folder.root.name)
    largest = [p.largest for p in pictures if isinstance(p, Picture) and p.largest is not None]
    depth = next((d for d in DEPTHS if max(largest) < 2**d), None) if largest else None
    used, images, n_sixteen = [], [], 0
    for file in files:
        # One after another is let go, because 16-bit levels take twice the memory.
        picture = pictures.popleft()
        levels = to_eight_bits(picture, depth)
        if isinstance(levels, str):
            bad.append(f"{_name(file.path, folder.root)} ({levels})")
        else:
            used.append(file)
            images.append(levels)
            n_sixteen += picture.largest is not None
    _require_usable(folder, used, images, [] if on_bad_image == "skip" else bad, n_files)
    images = stack(images)
    source = [f"images in the folder {folder.root.name}", *_not_read(folder)]
    if n_sixteen:
        source.append(f"{n_sixteen} of 16 bits use {depth}, divided by {2 ** (depth - 8)}")
    if bad:
        source.append(f"left out {len(bad)} of {n_files} files: {_first(bad, NAMED_IN_SOURCE)}")
        logger.warning(
            "%s: left out %d of %d files: %s", folder.root, len(bad), n_files, "; ".join(bad)
        )
    labels = np.array([file.label for file in used])
    ids = np.array([file.position for file in used])
    names = [_name(file.path, folder.root) for file in used]
    # Training images stand first.
    n = sum(file.part == 0 for file in used)
    train = make_split(images[:n], labels[:n], ids[:n], names=names[:n])
    if len(folder.parts) == 2:
        test = make_split(images[n:], labels[n:], ids[n:], names=names[n:])
    else:
        train, test = split_off_test(train, test_fraction, seed)
        _require_every_class(train, test, folder.class_names, folder.root, test_fraction)
    return Splits(train, test, folder.class_names, "; ".join(source))


def content(location: str | Path) -> str:
    """A digest of a folder's files: their names, sizes and times of change, not their bytes; and of
    how they are read (:data:`READING`)."""
    root = Path(os.path.expanduser(location))
    listing = []
    for path in _below(root):
        # A link that leads nowhere is named when it is to be decoded.
        status = path.stat() if path.exists() else path.lstat()
        listing.append(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return digest({"files": listing, "reading": READING})


def look_into(location: str | Path) -> Folder:
    """How a folder is divided, without a look at its files.

    Raises
    ------
    UserError
        If there are no two classes, only one of training and test images, or a class whose name
        cannot be printed.
    """
    root = Path(os.path.expanduser(location))
    folders = _folders(root)
    found = {part: [f for f in folders if f.name.lower() in names] for part, names in PARTS.items()}
    for part, other in (("train", "test"), ("test", "train")):
        above = next(filter(_folders, found[part]), None)
        if above and not found[other]:
            hints = [
                f"; rename {folder.name}/ if its images are to be the {other} images"
                for folder in folders
                if folder.name.lower() in VALIDATION
            ]
            raise UserError(
                f"{root}: has {above.name}/ with classes in it, but no {other}/; "
                f"allowed: both, or a folder for each class{''.join(hints[:1])}"
            )
    divided = all(found.values())
    for same in found.values():
        if divided and len(same) > 1:
            one, other = (path.name for path in same[:2])
            raise UserError(f"{root}: has {one}/ and {other}/; allowed: one of them")
    parts = [same[0] for same in found.values()] if divided else [root]
    names = sorted({folder.name for part in parts for folder in _folders(part)})
    if len(names) < 2:
        what = f"the one class {names[0]!r}" if names else "no folder of a class"
        raise UserError(f"{root}: holds {what}; allowed: a folder for each of two or more classes")
    unprintable = [name for name in names if _NO_NAME.search(name)]
    if unprintable:
        # As bytes they are shown as they are.
        raise UserError(
            f"{root}: the class {os.fsencode(unprintable[0])} has a name that is no text in UTF-8, "
            "or has control characters; rename its folder"
        )
    return Folder(root, parts, names, [f for f in folders if f not in parts] if divided else [])


def list_files(folder: Folder) -> tuple[list[File], list[str]]:
    """The images of the classes, a part and a class after another; and other files, in words.

    Only regular files are images, each once, by whatever links it is found.
    """
    files, others = [], []
    found: dict[str, str] = {}
    for number, part in enumerate(folder.parts):
        start = len(files)
        for path in filter(_is_image, _entries(part)):
            others.append(f"{_name(path, folder.root)} (in no class's folder)")
        for label, name in enumerate(folder.class_names):
            for path in _below(part / name):
                words = _name(path, folder.root)
                if not _is_image(path):
                    others.append(f"{words} (no {', '.join(SUFFIXES)})")
                elif path.exists() and not path.is_file():
                    others.append(f"{words} (no regular file)")
                elif (same := found.setdefault(os.path.realpath(path), words)) != words:
                    others.append(f"{words} (by a link the same file as {same})")
                else:
                    files.append(File(path, number, label, len(files) - start))
    return files, others


def _not_read(folder: Folder) -> Iterator[str]:
    """What stands beside training and test images, in words: folders, and the images in them."""
    for path in folder.beside:
        n = sum(map(_is_image, _below(path)))
        words = f"not read: {path.name}/ with {n} images"
        logger.warning("%s: %s", folder.root, words)
        if n:
            yield words


def _require_usable(
    folder: Folder,
    used: Sequence[File],
    images: Sequence[np.ndarray],
    bad: Sequence[str],
    n_files: int,
) -> None:
    """Name classes without images, files that cannot be used and unequal sizes in one message."""
    complaints = []
    held = {(file.part, file.label) for file in used}
    empty = [
        f"{part.name}/{name}"
        for number, part in enumerate(folder.parts)
        for label, name in enumerate(folder.class_names)
        if (number, label) not in held
    ]
    if empty:
        complaints.append(
            f"no image that can be read in {_first(empty, NAMED, ', ')}; put some in, or remove "
            f"the class {'from both parts' if len(folder.parts) == 2 else 'folder'}"
        )
    if bad:
        complaints.append(
            f"{len(bad)} of {n_files} files cannot be read as images of a class; replace or remove "
            f"{_first(bad, NAMED)}, or set the key 'on_bad_image' to 'skip'"
        )
    sizes: dict[tuple[int, ...], Path] = {}
    for file, image in zip(used, images, strict=True):
        sizes.setdefault(image.shape[1::-1], file.path)
    if len(sizes) > 1:
        two = ", ".join(
            f"{_name(path, folder.root)}: {width} x {height}"
            for (width, height), path in list(sizes.items())[:2]
        )
        complaints.append(f"images differ in size ({two}); set the key 'size'")
    if complaints:
        raise UserError(f"{folder.root}: {'; '.join(complaints)}")


def _first(words: Sequence[str], most: int, between: str = "; ") -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return between.join(words[:most]) + more


def _name(path: Path, root: Path) -> str:
    """A file's name as text, also where its bytes are none."""
    return os.fsencode(path.relative_to(root)).decode(errors="replace")


def _require_every_class(
    train: Split, test: Split, class_names: Sequence[str], root: Path, test_fraction: float
) -> None:
    for what, split in (("training", train), ("test", test)):
        absent = [n for c, n in enumerate(class_names) if not np.any(split.labels == c)]
        if absent:
            raise UserError(
                f"{root}: test_fraction {test_fraction} leaves no {what} image of "
                f"{_first(absent, NAMED, ', ')}; add images to them, or change test_fraction"
            )


def _entries(folder: Path) -> list[Path]:
    """What stands in a folder, in alphabetical order, without litter."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    return [path for path in paths if not path.name.startswith(".") and path.name not in LITTER]


def _below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The files in a folder and in those inside it, in alphabetical order; none if it is absent."""
    real = os.path.realpath(folder)
    if real in above:
        raise UserError(f"{folder}: is a link to a folder that it lies in; remove the link")
    for path in _entries(folder) if folder.is_dir() else []:
        if path.is_dir():
            yield from _below(path, (*above, real))
        else:
            yield path


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def decode(
    paths: Sequence[Path], size: int | None, threads: int, name: str
) -> deque[Picture | str]:
    """Decode images on several threads (Pillow lets go of the interpreter while it decodes).

    Returns
    -------
    As :func:`decode_one`, for each path.
    """
    # Pillow's readers are loaded here, before threads would do it at the same time.
    Image.init()
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda path: decode_one(path, size), paths)
        return deque(progress(found, len(paths), f"images in {name}"))


def decode_one(path: Path, size: int | None) -> Picture | str:
    """One image, upright, with white where it is transparent; or what is wrong with it, in words.

    Of 16-bit colours and of 16-bit levels with transparency, Pillow reads the upper 8 bits.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            # Cameras put a preview behind a JPEG, whose format is called MPO then.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                return f"holds {image.n_frames} images"
            # What the file holds, which the mode of a decoded colour image does not tell.
            sixteen = any(";16" in str(tile[3]) for tile in image.tile)
            image = ImageOps.exif_transpose(image)
            image.load()
    except UnidentifiedImageError:
        return "no JPEG, PNG, WebP or TIFF"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    largest = None
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint16)
        largest = int(levels.max())
        image = Image.fromarray(levels)
    elif sixteen and image.mode in ("LA", "RGB", "RGBA"):
        largest = 256 * max(high for _, high in image.convert("RGB").getextrema()) + 255
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("LA", "PA", "RGBA") or (
        "transparency" in image.info and image.mode != "I;16"
    ):
        grey = image.mode in ("L", "LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("L" if grey else "RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB", "I;16"):
        return f"{image.mode} values; convert it to RGB or grey"
    return Picture(np.asarray(image if size is None else square(image, size)), largest)


def to_eight_bits(picture: Picture | str, depth: int | None) -> np.ndarray | str:
    """A picture's levels as uint8, where 16-bit values use ``depth`` bits in the whole data set.

    Words, which say what is wrong with a picture, stay; colours are added of which fewer than 8
    bits were read.
    """
    if isinstance(picture, str):
        return picture
    if picture.levels.dtype == np.uint16:
        return (picture.levels >> (depth - 8)).astype(np.uint8)
    if picture.largest is not None and depth < 16:
        return f"16-bit colours that use {depth} bits; convert it to 8 bits"
    return picture.levels
