"""What sources of single pictures share: how they are decoded, and brought to one size."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from collapseflow.running.jobs import progress

#: Formats that Pillow hands to other programs, or of which it knows the name alone.
NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
#: Formats that no first bytes tell, so that other bytes may be taken for one: they are read only
#: where the file's name ends so.
UNMARKED = ("IM", "IMT", "IPTC", "PCD", "SPIDER", "TGA")
#: Formats with several pictures in a file of which the first is the image: of a moving one the
#: first frame, of layers what they are together, of a camera's what stands before the preview.
FIRST_OF_SEVERAL = ("GIF", "MPO", "PSD")
#: Bits that cameras and scanners have.
DEPTHS = (8, 10, 12, 14, 16)

Fit = Literal["crop", "pad", "squash"]
#: Pixels a side, or height and width; None leaves pictures as they are.
Size = int | Sequence[int] | None


@cache
def formats() -> tuple[str, ...]:
    """Pillow's formats of pictures that it decodes itself."""
    # Pillow's readers are loaded here, before threads would do it at the same time.
    Image.init()
    return tuple(sorted(set(Image.OPEN) - set(NOT_DECODED)))


@cache
def formats_of(suffix: str) -> tuple[str, ...]:
    """Those that a file with some ending, in lower case, may have."""
    named = Image.registered_extensions().get(suffix)
    return tuple(name for name in formats() if name not in UNMARKED or name == named)


@cache
def suffixes() -> frozenset[str]:
    """Endings of the names of pictures in these formats, in lower case."""
    known = formats()
    # Of a camera's files with several pictures Pillow knows the ending, but reads them as JPEG.
    of_format = {suffix for suffix, name in Image.registered_extensions().items() if name in known}
    return frozenset({*of_format, ".mpo"})


class Picture(NamedTuple):
    """A decoded image.

    Attributes
    ----------
    levels : uint8 or uint16 array (H, W), or uint8 array (H, W, 3)
    largest : of a file with 16 bits the largest value, else None
    """

    levels: np.ndarray
    largest: int | None


@dataclass(frozen=True)
class Pictures:
    """What could be read of some pictures.

    Attributes
    ----------
    rows : their places among all that were to be read, in order
    images : uint8 arrays (H, W) or (H, W, 3), as many
    bad : what is wrong with each of the others, in words, by its place
    notes : what is to be said of those that were read
    """

    rows: list[int]
    images: list[np.ndarray]
    bad: dict[int, str]
    notes: list[str]


def read_pictures(
    load: Callable[[int], Path | BinaryIO], n: int, size: Size, fit: Fit, threads: int, what: str
) -> Pictures:
    """Decode ``n`` pictures on several threads, 16-bit levels divided by one number for all.

    Parameters
    ----------
    load
        Gives the file with a number from 0 on; is called by several threads.
    size, fit
        As :func:`fitted`.
    what
        Whose images they are, for the log.
    """
    pictures = decode(load, n, size, fit, threads, what)
    largest = [p.largest for p in pictures if isinstance(p, Picture) and p.largest is not None]
    depth = next((d for d in DEPTHS if max(largest) < 2**d), None) if largest else None
    rows, images, bad, n_sixteen = [], [], {}, 0
    for row in range(n):
        # One after another is let go, because 16-bit levels take twice the memory.
        picture = pictures.popleft()
        levels = to_eight_bits(picture, depth)
        if isinstance(levels, str):
            bad[row] = levels
        else:
            rows.append(row)
            images.append(levels)
            n_sixteen += picture.largest is not None
    notes = []
    if n_sixteen:
        notes.append(f"{n_sixteen} of 16 bits use {depth}, divided by {2 ** (depth - 8)}")
    return Pictures(rows, images, bad, notes)


def decode(
    load: Callable[[int], Path | BinaryIO], n: int, size: Size, fit: Fit, threads: int, what: str
) -> deque[Picture | str]:
    """Decode images on several threads (Pillow lets go of the interpreter while it decodes).

    Returns
    -------
    As :func:`decode_one`, for each number.
    """
    formats()
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda row: decode_one(load(row), size, fit), range(n))
        return deque(progress(found, n, f"images in {what}"))


def decode_one(file: Path | BinaryIO, size: Size, fit: Fit = "crop") -> Picture | str:
    """One image, upright, with white where it is transparent; or what is wrong with it, in words.

    Of 16-bit colours and of 16-bit levels with transparency, Pillow reads the upper 8 bits.
    """
    if isinstance(file, Path) and file.exists() and not file.is_file():
        return "no regular file"
    try:
        suffix = file.suffix.lower() if isinstance(file, Path) else ""
        with Image.open(file, formats=formats_of(suffix)) as image:
            kind = image.format
            if kind not in FIRST_OF_SEVERAL and getattr(image, "n_frames", 1) > 1:
                return f"holds {image.n_frames} images"
            # What the file holds, which the mode of a decoded colour image does not tell.
            sixteen = any(";16" in str(tile[3]) for tile in image.tile)
            image = ImageOps.exif_transpose(image)
            image.load()
    except UnidentifiedImageError:
        return "no image that Pillow reads"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    largest = None
    # Pillow has 16-bit levels of PGM files in 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):
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
        red, *others = image.split()
        # GIF has grey levels as colours alone.
        if kind == "GIF" and all(other.tobytes() == red.tobytes() for other in others):
            image = red
    if image.mode not in ("L", "RGB", "I;16"):
        return f"{image.mode} values; convert it to RGB or grey"
    return Picture(np.asarray(fitted(image, size, fit)), largest)


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


def fitted(image: Image.Image, size: Size, fit: Fit) -> Image.Image:
    """A picture brought to a height and width, bilinear, antialiased.

    Parameters
    ----------
    size
        A number is both height and width. None leaves the picture as it is.
    fit
        ``crop``: it is reduced or enlarged until it covers them, and the centre is cut out;
        ``pad``: until it lies within them, in the middle of black; ``squash``: height and width
        each on its own.
    """
    if size is None:
        return image
    height, width = (size, size) if isinstance(size, int) else size
    if fit == "squash":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    ratios = width / image.width, height / image.height
    if fit == "pad":
        scale = min(ratios)
        w, h = min(width, round(image.width * scale)), min(height, round(image.height * scale))
        w, h = max(1, w), max(1, h)
        whole = Image.new(image.mode, (width, height))
        part = image.resize((w, h), Image.Resampling.BILINEAR)
        whole.paste(part, ((width - w) // 2, (height - h) // 2))
        return whole
    scale = max(ratios)
    w, h = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    left, top = (w - width) // 2, (h - height) // 2
    return image.resize((w, h), Image.Resampling.BILINEAR).crop(
        (left, top, left + width, top + height)
    )


def unequal_sizes(images: Sequence[np.ndarray], names: Sequence[str]) -> str | None:
    """That pictures differ in size, with two of them; None where they are of one size."""
    sizes: dict[tuple[int, ...], str] = {}
    for image, name in zip(images, names, strict=True):
        sizes.setdefault(image.shape[1::-1], name)
    if len(sizes) < 2:
        return None
    two = ", ".join(
        f"{name}: {width} x {height}" for (width, height), name in list(sizes.items())[:2]
    )
    return f"images differ in size ({two}); set the key 'size'"


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
