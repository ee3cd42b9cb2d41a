"""Labelled vectors that were computed elsewhere: files of NumPy, HDF5, Parquet and safetensors.

A file has vectors (N, d), and beside them what is known of each: its label, its split, a name, a
prediction. Further files have other vectors of the same N things. Vectors are read a block at a
time where the format allows it: all but compressed ``.npz`` and columns of lists do.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from collapseflow.images.datasets import Splits, make_split, split_off_test
from collapseflow.images.sources import hdf5
from collapseflow.images.sources.own import MOST_NUMBERS, not_read, parts_of, texts
from collapseflow.running.errors import UserError
from collapseflow.running.numbered import EPOCH, find_numbered

#: What arrays are called: the first of these names that a file has.
VECTORS = ("vectors", "features", "embeddings", "hidden_states", "X", "x")
LABELS = ("labels", "label", "targets", "target", "y")
SPLIT = ("split", "splits")
CLASS_NAMES = ("class_names", "classes")
PREDICTIONS = ("predictions", "predicted")
WEIGHT = ("weight", "W", "head_weight")
BIAS = ("bias", "b", "head_bias")
#: The kinds of files, by their endings.
SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".parquet", ".safetensors")
#: Values that are read at a time.
BLOCK_VALUES = 2**22
#: At most so many rows are named in a message.
NAMED = 5


class Array(Protocol):
    """What is asked of an array, also of one that stays on the disk."""

    shape: tuple[int, ...]
    dtype: Any

    def __getitem__(self, rows: slice) -> Any: ...


class Vectors:
    """An open file of vectors (:func:`open_vectors`).

    Attributes
    ----------
    n, d : numbers of rows and of values of each
    """

    def __init__(self, path: Path, arrays: Mapping[str, Array]) -> None:
        self.path, self._arrays = path, arrays
        found = self._find(VECTORS)
        if found is None:
            raise UserError(
                f"{path}: has no array {' or '.join(VECTORS)}, only "
                f"{', '.join(arrays) or 'none'}; name one so"
            )
        if len(found.shape) != 2 or 0 in found.shape or not _is_number(found.dtype):
            raise UserError(
                f"{path}: vectors are {found.dtype} of shape {tuple(found.shape)}; allowed: "
                "numbers of shape (N, d)"
            )
        self._vectors = found
        self.n, self.d = map(int, found.shape)

    def _find(self, names: Sequence[str]) -> Array | None:
        return next((self._arrays[name] for name in names if name in self._arrays), None)

    def _read(self, array: Array, rows: slice = slice(None)) -> Any:
        """Rows of an array that may have stayed on the disk."""
        try:
            return array[rows]
        except Exception as error:
            raise _unreadable(self.path, error) from None

    def column(self, names: Sequence[str]) -> np.ndarray | None:
        """What is known of each row, numbers or texts (N,); None if the file does not have it."""
        found = self._find(names)
        if found is None:
            return None
        if tuple(found.shape) != (self.n,):
            raise UserError(
                f"{self.path}: {names[0]} of shape {tuple(found.shape)} for {self.n} vectors; "
                f"allowed: ({self.n},)"
            )
        return self._numbers_or_texts(found, names[0])

    def _numbers_or_texts(self, array: Array, name: str) -> np.ndarray:
        values = np.asarray(self._read(array))
        if values.dtype.kind in "OSU":
            return np.array(texts(values))
        if values.dtype.kind not in "biuf":
            raise UserError(f"{self.path}: {name} are {values.dtype}; allowed: numbers or text")
        return values

    def class_names(self) -> list[str] | None:
        """The names of the classes by number, if the file has them."""
        found = self._find(CLASS_NAMES)
        if found is None:
            return None
        if len(found.shape) != 1:
            raise UserError(
                f"{self.path}: {CLASS_NAMES[0]} of shape {tuple(found.shape)}; allowed: (K,) for K "
                "classes"
            )
        return texts(self._numbers_or_texts(found, CLASS_NAMES[0]))

    def head(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Weight float32 (K, d) and bias float32 (K,) of the last layer that takes the vectors; a
        bias that is not there is zero. None where there is no weight.

        Raises
        ------
        UserError
            If they are of other shapes, or no finite numbers.
        """
        weight, bias = self._find(WEIGHT), self._find(BIAS)
        if weight is None:
            return None
        shape, of_bias = tuple(weight.shape), None if bias is None else tuple(bias.shape)
        if len(shape) != 2 or shape[1] != self.d or of_bias not in (None, shape[:1]):
            words = "" if of_bias is None else f" and bias of shape {of_bias}"
            raise UserError(
                f"{self.path}: weight of shape {shape}{words} for vectors of {self.d} values; "
                f"allowed: (K, {self.d}) and (K,) for K classes"
            )
        return (
            self._parameters(weight, WEIGHT[0]),
            np.zeros(shape[0], np.float32) if bias is None else self._parameters(bias, BIAS[0]),
        )

    def _parameters(self, array: Array, name: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            values = as_float32(self._read(array)) if _is_number(array.dtype) else None
        if values is None or not np.isfinite(values).all():
            raise UserError(
                f"{self.path}: {name} are {array.dtype}, not all finite numbers of 32 bits; "
                "leave them out, with the bias, or mend them"
            )
        return values

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The vectors block by block: which rows, and float32 (n, d).

        Raises
        ------
        UserError
            If values are not finite, or too large for float32: how many rows, and the first.
        """
        size = max(1, BLOCK_VALUES // self.d)
        for start in range(0, self.n, size):
            rows = slice(start, min(start + size, self.n))
            with np.errstate(over="ignore"):
                block = as_float32(self._read(self._vectors, rows))
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if len(bad):
                named = ", ".join(str(start + row) for row in bad[:NAMED])
                more = ", ..." if len(bad) > NAMED else ""
                raise UserError(
                    f"{self.path}: {len(bad)} of the rows {start} to {rows.stop - 1} have values "
                    f"that are no finite numbers of 32 bits (rows {named}{more}); leave them out"
                )
            yield rows, block


def _is_number(dtype: Any) -> bool:
    # PyTorch's types, among them bfloat16, which NumPy does not have.
    return str(dtype).startswith("torch.") or np.dtype(dtype).kind in "fiu"


def as_float32(block: Any) -> np.ndarray:
    """A block of an array of NumPy, HDF5 or PyTorch as float32."""
    if str(block.dtype).startswith("torch."):
        return block.float().numpy()
    return np.ascontiguousarray(block, np.float32)


@contextmanager
def open_vectors(path: str | Path) -> Iterator[Vectors]:
    """Open a file of vectors.

    Raises
    ------
    UserError
        Naming the file, if it is missing, cannot be read, or has no vectors.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: is none of {', '.join(SUFFIXES)}")
    with ExitStack() as stack:
        try:
            arrays = _OPEN[path.suffix.lower()](path, stack)
        except UserError:
            raise
        except Exception as error:
            raise _unreadable(path, error) from None
        yield Vectors(path, arrays)


def _unreadable(path: Path, error: Exception) -> UserError:
    """What is said of a file that cannot be read, of which each library has its own exceptions."""
    line = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path}: cannot be read ({line}); replace it")


def _npz(path: Path, stack: ExitStack) -> Mapping[str, Array]:
    file = stack.enter_context(np.load(path, allow_pickle=False))
    return {name: file[name] for name in file.files}


def _npy(path: Path, stack: ExitStack) -> Mapping[str, Array]:
    """The vectors, and what stands beside them as ``NAME.labels.npy`` and so on."""
    beside = {
        other.name.removeprefix(f"{path.stem}.").removesuffix(".npy"): other
        for other in sorted(path.parent.glob(f"{escape(path.stem)}.*.npy"))
    }
    columns = {name: np.load(other, allow_pickle=False) for name, other in beside.items()}
    return {**columns, VECTORS[0]: np.load(path, mmap_mode="r", allow_pickle=False)}


def _hdf5(path: Path, stack: ExitStack) -> Mapping[str, Array]:
    file = stack.enter_context(hdf5.open_foreign(path))
    return {name: of for name, of in file.items() if isinstance(of, h5py.Dataset)}


def _parquet(path: Path, stack: ExitStack) -> Mapping[str, Array]:
    """Columns of numbers or text, and of lists of one length."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: needs the package pyarrow: pip install pyarrow") from None
    table = parquet.read_table(path)
    arrays = {}
    for name in table.column_names:
        values = table[name].to_numpy()
        if values.dtype == object and len(values) and isinstance(values[0], np.ndarray):
            values = np.stack(values)
        arrays[name] = values
    return arrays


def _safetensors(path: Path, stack: ExitStack) -> Mapping[str, Array]:
    import torch
    from safetensors import safe_open

    file = stack.enter_context(safe_open(path, "pt"))
    names = list(file.keys())
    # Vectors stay on the disk until a slice is asked for.
    large = {name for name in names if name in VECTORS}
    arrays: dict[str, Array] = {name: _Slices(file.get_slice(name), torch) for name in large}
    return arrays | {name: file.get_tensor(name).numpy() for name in names if name not in large}


class _Slices:
    """A tensor of a safetensors file, read slice by slice."""

    def __init__(self, of: Any, torch: Any) -> None:
        self._of = of
        self.shape = tuple(of.get_shape())
        self.dtype = of[: min(1, self.shape[0])].dtype if self.shape else torch.float32

    def __getitem__(self, rows: slice) -> Any:
        return self._of[rows]


_OPEN = {
    ".npz": _npz,
    ".npy": _npy,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
}


# --- the files of a data set ------------------------------------------------------------------


def named_files(location: Sequence[str]) -> dict[str, str]:
    """The files of vectors by their names: that of the file without its ending, each other
    character than letters, digits, ``_``, ``.`` and ``-`` as ``_``.

    Parameters
    ----------
    location
        Paths, of which ``*`` stands for any text, and ``{epoch}`` for the number of an epoch; what
        they stand for is in the order of the numbers in the names.

    Raises
    ------
    UserError
        If a path is no file, a pattern matches none, or two files have one name or are of one
        epoch.
    """
    files: dict[str, str] = {}
    for place in location:
        path = str(Path(place).expanduser())
        if EPOCH in path:
            found = list(find_numbered(path).values())
        else:
            found = sorted(glob(path), key=_by_numbers) if has_magic(path) else [path]
        found = [one for one in found if not _is_beside(Path(one))]
        if not found or not all(Path(one).is_file() for one in found):
            kind = "matches no file" if has_magic(path) else "is no file here"
            raise UserError(f"{place} {kind}; allowed: files of {', '.join(SUFFIXES)}")
        for one in found:
            name = _name(Path(one).stem)
            if name in files:
                raise UserError(f"{one} and {files[name]} are both called {name!r}; rename one")
            files[name] = one
    return files


def epochs(location: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Of the files of :func:`named_files` that are epochs the series and the epoch, by their
    names: a series is called as its files without the number."""
    return {
        _name(Path(path).stem): (_name(Path(place).stem.replace(EPOCH, "").strip("_.-=")), epoch)
        for place in location
        if EPOCH in place
        for epoch, path in find_numbered(str(Path(place).expanduser())).items()
    }


def _name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", stem)


def _is_beside(path: Path) -> bool:
    """Whether a file is what stands beside vectors, such as ``NAME.labels.npy``."""
    stem, _, kind = path.stem.rpartition(".")
    known = (*LABELS, *SPLIT, *CLASS_NAMES, *PREDICTIONS, *WEIGHT, *BIAS)
    return path.suffix == ".npy" and kind in known and bool(stem)


def _by_numbers(path: str) -> list[tuple[int, str]]:
    return [
        (int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path)
    ]


def read(location: Sequence[str], test_fraction: float, seed: int) -> Splits:
    """The data set behind files of vectors: labels and split are those of the first file; its
    images have no pixels.

    Parameters
    ----------
    test_fraction
        The share of test rows, class by class, where the file does not divide them.

    Raises
    ------
    UserError
        If the first file has no labels, or labels or split are not those of each row.
    """
    path = next(iter(named_files(location).values()))
    with open_vectors(path) as vectors:
        labels, parts = vectors.column(LABELS), _parts(vectors)
        class_names = vectors.class_names()
    if labels is None:
        raise UserError(f"{path}: has no array {' or '.join(LABELS)}; name the labels so")
    numbers, names = numbered(path, labels, class_names)
    whole = make_split(np.zeros((len(numbers), 0, 0), np.uint8), numbers)
    source = [f"vectors in {Path(path).name}"]
    if parts is None:
        train, test = split_off_test(whole, test_fraction, seed)
        for what, part in (("training", train), ("test", test)):
            if len(part.labels) == 0:
                raise UserError(
                    f"{path}: test_fraction {test_fraction} leaves no {what} row of "
                    f"{len(numbers)}; add rows or a split, or change test_fraction"
                )
    else:
        train, test = (whole.take(np.flatnonzero(parts == part)) for part in (0, 1))
        source += not_read(parts, "rows")
    return Splits(train, test, names, "; ".join(source))


def content(location: Sequence[str]) -> str:
    """Size and time of change of the file that has the labels."""
    status = Path(next(iter(named_files(location).values()))).stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def numbered(
    path: str | Path, labels: np.ndarray, class_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """Class numbers from 0, and the names of the classes by number."""
    if labels.dtype.kind == "U":
        names, numbers = np.unique(labels, return_inverse=True)
        return numbers, [str(name) for name in names]
    with np.errstate(invalid="ignore"):
        whole = np.asarray(labels).astype(np.int64)
    if not (whole == labels).all() or whole.min() < 0 or whole.max() >= MOST_NUMBERS:
        raise UserError(
            f"{path}: labels are no class numbers; allowed: text, or numbers from 0 to "
            f"{MOST_NUMBERS - 1}"
        )
    if class_names is None:
        return whole, [str(number) for number in range(int(whole.max()) + 1)]
    if whole.max() >= len(class_names):
        raise UserError(f"{path}: label {whole.max()} is beyond its {len(class_names)} class names")
    return whole, list(class_names)


def _parts(vectors: Vectors) -> np.ndarray | None:
    """As :func:`collapseflow.images.sources.own.parts_of`; None where the file does not divide its
    rows."""
    split = vectors.column(SPLIT)
    try:
        return None if split is None else parts_of(texts(split), undivided="")
    except UserError as error:
        raise UserError(f"{vectors.path}: {error}") from None


def check(location: Sequence[str]) -> None:
    """Refuse files that do not fit each other, without a look at their values.

    Raises
    ------
    UserError
        With the key and the file.
    """
    try:
        _check(location)
    except UserError as error:
        raise UserError(f"location: {error}") from None


def _check(location: Sequence[str]) -> None:
    first: tuple[str, int] | None = None
    paths = list(named_files(location).values())
    hdf5.require_harmless([path for path in paths if Path(path).suffix.lower() in hdf5.SUFFIXES])
    for path in paths:
        with open_vectors(path) as vectors:
            vectors.head()
            if first is None:
                _parts(vectors)
                if vectors.column(LABELS) is None:
                    raise UserError(
                        f"{path}: has no array {' or '.join(LABELS)}; name the labels so"
                    )
            if first and vectors.n != first[1]:
                raise UserError(
                    f"{path}: {vectors.n} vectors, but {first[0]} has {first[1]}; allowed: as "
                    "many, of the same things in the same order"
                )
            first = first or (path, vectors.n)
