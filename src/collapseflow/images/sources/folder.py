"""A user's own images: one folder a class, with ``train/`` and ``test/`` above or undivided."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from collapseflow.images.datasets import Splits, make_split
from collapseflow.images.sources.own import (
    NAMED,
    NAMED_IN_SOURCE,
    NO_NAME,
    PARTS,
    VALIDATION,
    divide,
    first,
)
from collapseflow.images.sources.pictures import (
    Fit,
    Size,
    read_pictures,
    stack,
    suffixes,
    unequal_sizes,
)
from collapseflow.running.errors import UserError
from collapseflow.running.resume import digest

logger = logging.getLogger(__name__)

#: What file managers leave among images; names with a dot in front, too.
LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")
#: How files are read, in words: other words have all folders read anew, and no other source.
READING = "divided by the names in PARTS; 16-bit levels by the bits that they need"


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


def read(
    location: str | Path,
    size: Size,
    test_fraction: float,
    seed: int,
    threads: int,
    on_bad_image: Literal["stop", "skip"] = "stop",
    fit: Fit = "crop",
) -> Splits:
    """Read a folder of images, decoded on several threads.

    Parameters
    ----------
    location
        Holds a folder for each class, or one for training and one for test images (:data:`PARTS`,
        in capitals or not) with a folder for each class in both. Classes are in the alphabetical
        order of their names; images in folders inside a class are the class's, too.
    size, fit, test_fraction, seed, threads, on_bad_image
        As :mod:`collapseflow.images.sources` says.

    Raises
    ------
    UserError
        Naming what cannot be used, all of it in one message.
    """
    folder = look_into(location)
    files, bad = list_files(folder)
    n_files = len(files) + len(bad)
    found = read_pictures(
        lambda row: files[row].path, len(files), size, fit, threads, folder.root.name
    )
    bad += [f"{_name(files[row].path, folder.root)} ({words})" for row, words in found.bad.items()]
    used = [files[row] for row in found.rows]
    names = [_name(file.path, folder.root) for file in used]
    complaints = _complaints(folder, used, [] if on_bad_image == "skip" else bad, n_files)
    if unequal := unequal_sizes(found.images, names):
        complaints.append(unequal)
    if complaints:
        raise UserError(f"{folder.root}: {'; '.join(complaints)}")
    images = stack(found.images)
    source = [f"images in the folder {folder.root.name}", *_not_read(folder), *found.notes]
    if bad:
        source.append(f"left out {len(bad)} of {n_files} files: {first(bad, NAMED_IN_SOURCE)}")
        logger.warning(
            "%s: left out %d of %d files: %s", folder.root, len(bad), n_files, "; ".join(bad)
        )
    labels = np.array([file.label for file in used])
    ids = np.array([file.position for file in used])
    # Training images stand first.
    n = sum(file.part == 0 for file in used)
    train = make_split(images[:n], labels[:n], ids[:n], names=names[:n])
    if len(folder.parts) == 2:
        test = make_split(images[n:], labels[n:], ids[n:], names=names[n:])
    else:
        train, test = divide(train, test_fraction, seed, folder.class_names, folder.root)
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
    unprintable = [name for name in names if NO_NAME.search(name)]
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
                    others.append(f"{words} (no ending of a picture that Pillow reads)")
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


def _complaints(
    folder: Folder, used: Sequence[File], bad: Sequence[str], n_files: int
) -> list[str]:
    """Classes without images and files that cannot be used, in words."""
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
            f"no image that can be read in {first(empty, NAMED, ', ')}; put some in, or remove "
            f"the class {'from both parts' if len(folder.parts) == 2 else 'folder'}"
        )
    if bad:
        complaints.append(
            f"{len(bad)} of {n_files} files cannot be read as images of a class; replace or remove "
            f"{first(bad, NAMED)}, or set the key 'on_bad_image' to 'skip'"
        )
    return complaints


def _name(path: Path, root: Path) -> str:
    """A file's name as text, also where its bytes are none."""
    return os.fsencode(path.relative_to(root)).decode(errors="replace")


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
    return path.suffix.lower() in suffixes() and not path.is_dir()
