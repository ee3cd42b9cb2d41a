"""The IDX format of MNIST and its kin, from folders and mirrors, checked by content.

Format: http://yann.lecun.com/exdb/mnist (two zero bytes, a type code, the number of
dimensions, each dimension as a big-endian 32-bit number, then the values).

pooch fetches a file from one address and checks it as it came. Here several mirrors are tried, one
after another, and their files may be compressed differently: the digest is of the content.
"""

import gzip
import hashlib
import http.client
import logging
import os
import struct
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np

from collapseflow.images.datasets import Splits, make_split
from collapseflow.images.sources.known import IDX_FILES as FILES
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import atomic_path
from collapseflow.running.stop import pause

logger = logging.getLogger(__name__)

#: The data sets known by name: class names, places tried in order, SHA-256 of each file's
#: uncompressed content (which holds however a mirror compressed it).
KNOWN = {
    "mnist": {
        "class_names": [str(digit) for digit in range(10)],
        "location": [
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ],
        "sha256": {
            FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    },
    "fashion_mnist": {
        "class_names": [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
        "location": [
            "/usr/share/datasets/fashion-mnist",  # Debian's package dataset-fashion-mnist
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ],
        "sha256": {
            FILES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            FILES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            FILES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            FILES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    },
}

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse(content: bytes) -> np.ndarray:
    """Decode the uncompressed content of an IDX file.

    Raises
    ------
    UserError
        If the header or the length is not that of an IDX file.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise UserError("not the content of an IDX file")
    n_dimensions = content[3]
    start = 4 + 4 * n_dimensions
    if len(content) < start:
        raise UserError("an IDX file cut off in its header")
    shape = struct.unpack(f">{n_dimensions}I", content[4:start])
    dtype = np.dtype(TYPES[content[2]])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(content) - start != size:
        raise UserError(f"an IDX file with {len(content) - start} bytes of data instead of {size}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def read(
    locations: Sequence[str],
    sha256: dict[str, str],
    class_names: list[str] | None,
    cache: Path,
    retries: int = 2,
) -> Splits:
    """Read the four files of an IDX data set from the first place that has each of them whole.

    Parameters
    ----------
    locations
        Folders, ``file://`` or web addresses, tried in order. The files may be compressed
        (``.gz``) or not.
    sha256
        Digests of the uncompressed contents; a file that is not named here is not checked.
    class_names
        Names of the classes by number; by default the numbers.
    cache
        Folder for what came over the web, one folder for each digest; content found there is
        checked again and not fetched twice. Files without a known digest are never kept.

    Raises
    ------
    UserError
        With what went wrong at each place.
    """
    unknown = set(sha256) - set(FILES)
    if unknown:
        raise UserError(f"sha256: unknown file {min(unknown)}; allowed: {', '.join(FILES)}")
    contents, places = [], []
    for name in FILES:
        content, place = _first_good(name, locations, sha256.get(name), cache, retries)
        contents.append(content)
        places.append(place)
    train_images, train_labels, test_images, test_labels = contents
    if class_names is None:
        n_classes = int(max(train_labels.max(), test_labels.max())) + 1
        class_names = [str(c) for c in range(n_classes)]
    source = f"IDX files from {', '.join(dict.fromkeys(places))}"
    unchecked = [
        name
        for name, place in zip(FILES, places, strict=True)
        if _is_web(place) and name not in sha256
    ]
    if unchecked:
        words = f"downloaded without a digest (sha256): {', '.join(unchecked)}"
        logger.warning("%s", words)
        source = f"{source}; {words}"
    return Splits(
        make_split(train_images, train_labels),
        make_split(test_images, test_labels),
        class_names,
        source,
    )


def labels_on_disk(locations: Sequence[str]) -> np.ndarray | None:
    """The labels of all images, where the first of the places is a folder; nothing is fetched.

    None where they are known only when they are read.
    """
    if _is_web(locations[0]):
        return None
    folders = [location for location in locations if not _is_web(location)]
    found = []
    for name in FILES[1::2]:
        for location, file_name in product(folders, (name + ".gz", name)):
            with suppress(*UNUSABLE):
                found.append(parse(_content(location, file_name, retries=0)))
                break
        else:
            return None
    return np.concatenate(found)


#: What a file that is absent, cut off or another one raises.
UNUSABLE = (OSError, EOFError, zlib.error, ValueError, http.client.HTTPException, UserError)


def _first_good(
    name: str, locations: Sequence[str], digest: str | None, cache: Path, retries: int
) -> tuple[np.ndarray, str]:
    kept = cache / digest / name if digest else None
    if kept and kept.is_file():
        content = kept.read_bytes()
        if hashlib.sha256(content).hexdigest() == digest:
            return parse(content), _origin(kept)
        logger.warning("%s: the kept copy is damaged; fetching it again", kept)
    failures = []
    for location in locations:
        for file_name in (name + ".gz", name):
            try:
                content = _content(location, file_name, retries)
                found = hashlib.sha256(content).hexdigest()
                if digest and found != digest:
                    raise ValueError(f"SHA-256 of the content is {found}, expected {digest}")
                values = parse(content)
            except UNUSABLE as error:
                reason = f"{location} {file_name}: {type(error).__name__}: {error}"
                logger.warning("%s", reason)
                failures.append(reason)
                continue
            logger.info("%s/%s: %d bytes, SHA-256 %s", location, file_name, len(content), found)
            if kept and _is_web(location):
                with atomic_path(kept) as temporary:
                    temporary.write_bytes(content)
                with atomic_path(kept.with_name(f"{name}.origin.txt")) as temporary:
                    temporary.write_text(location, encoding="utf-8")
            return values, location
    raise TemporaryError(
        f"{name}: found nowhere whole; set datasets.<name>.location to a folder or mirror that "
        f"has it. Tried: {'; '.join(failures)}"
    )


def _origin(kept: Path) -> str:
    origin = kept.with_name(f"{kept.name}.origin.txt")
    return origin.read_text(encoding="utf-8") if origin.exists() else str(kept.parent)


def _is_web(location: str) -> bool:
    return urllib.parse.urlparse(location).scheme in ("http", "https")


def _content(location: str, name: str, retries: int) -> bytes:
    """The uncompressed content of one file."""
    content = _fetch(location, name, retries)
    return gzip.decompress(content) if name.endswith(".gz") else content


def _fetch(location: str, name: str, retries: int) -> bytes:
    """The bytes of one file; a web address is tried again where a retry can help."""
    scheme = urllib.parse.urlparse(location).scheme
    if scheme not in ("http", "https", "file"):
        path = Path(os.path.expanduser(location)) / name
        if path.exists() and not path.is_file():
            raise OSError("no regular file")
        return path.read_bytes()
    address = location.rstrip("/") + "/" + name
    for attempt in range(retries + 1):
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                content = answer.read()
                expected = answer.headers.get("Content-Length")
                if expected is not None and len(content) != int(expected):
                    raise http.client.IncompleteRead(content, int(expected) - len(content))
                return content
        except urllib.error.HTTPError as error:
            # What a server refuses, it refuses again; only its own faults are worth a retry.
            if error.code < 500 or attempt == retries:
                raise
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError):
            if attempt == retries or scheme == "file":
                raise
        logger.info("%s: attempt %d failed, trying again", address, attempt + 1)
        pause(2**attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")
