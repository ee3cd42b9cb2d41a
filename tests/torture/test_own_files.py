"""A user's own files, damaged or with anything in them: they are read, or one line says why not;
nothing crashes or hangs. Nobody has a checksum of them, so that other values cannot be seen."""

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from attacked import CASES, DAMAGES, EFFORT, SEED, in_a_child
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as strange
from PIL import Image
from safetensors.numpy import save_file

from collapseflow.features.loading import read_weights
from collapseflow.features.networks import build
from collapseflow.features.vectors import write_vectors
from collapseflow.images.datasets import write_dataset
from collapseflow.images.sources import arrays, table, vectors
from collapseflow.presentation.logs import read_log
from collapseflow.running.errors import UserError

NETWORK = "squeezenet1_1"
#: Images and vectors in a file.
N = 24
IMAGES = {
    "images": np.random.default_rng(0).integers(0, 256, (N, 5, 4), np.uint8),
    "labels": np.arange(N) % 3,
    "split": np.array(["train", "test"] * (N // 2)),
    "group": np.arange(N),
}
VECTORS = {
    "vectors": np.random.default_rng(1).normal(size=(N, 6)).astype(np.float32),
    "labels": np.arange(N) % 3,
    "split": np.arange(N) // 3 % 2,
    "predictions": np.arange(N) // 2 % 3,
    "weight": np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32),
    "bias": np.ones(3, np.float32),
}


# --- how they are written ---------------------------------------------------------------------


def _npz(path: Path, content: dict[str, np.ndarray]) -> None:
    np.savez(path, **content)


def _hdf5(path: Path, content: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values.astype(object) if values.dtype.kind == "U" else values


def _compressed_hdf5(path: Path, content: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for name, values in content.items():
            kind = h5py.string_dtype() if values.dtype.kind == "U" else values.dtype
            chunks = (3, *values.shape[1:])
            file.create_dataset(name, data=values, dtype=kind, chunks=chunks, compression="gzip")


def _table(path: Path) -> None:
    lines = ["path,label,split"]
    for n, levels in enumerate(IMAGES["images"]):
        Image.fromarray(levels).save(path.parent / f"{n}.png")
        lines.append(f"{n}.png,{'cat' if n % 3 else 'dog'},{IMAGES['split'][n]}")
    path.write_text("\n".join(lines) + "\n")


def _checkpoint(path: Path) -> None:
    torch.save({"model": build(NETWORK, 3).state_dict(), "classes": ["a", "b", "c"]}, path)


def _old_checkpoint(path: Path) -> None:
    state = build(NETWORK, 3).state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _safetensors(path: Path) -> None:
    save_file({name: t.numpy() for name, t in build(NETWORK, 3).state_dict().items()}, path)


def _log(path: Path) -> None:
    rows = [f"{n},{2.0 / (n + 1)},{0.5 + 0.01 * n}" for n in range(N)]
    path.write_text("\n".join(["epoch,loss,accuracy_train", *rows]) + "\n")


# --- how jobs and the check of a study read them ------------------------------------------------


def _read_arrays(path: Path) -> None:
    arrays.look_into(path, {})
    write_dataset(path.parent / "made" / "images.h5", arrays.read(path, {}, None, 0.5, 0))


def _read_table(path: Path) -> None:
    splits = table.read(path, {}, None, 0.5, 0, 1)
    write_dataset(path.parent / "made" / "images.h5", splits)


def _read_vectors(path: Path) -> None:
    vectors.check([str(path)])
    made = path.parent / "made"
    write_dataset(made / "vectors.h5", vectors.read([str(path)], 0.5, 0))
    write_vectors(made / "vectors.h5", path, made / "stores")


def _read_weights(path: Path) -> None:
    read_weights(NETWORK, path)


def _read_log(path: Path) -> None:
    read_log(path, {}, 0)


FILES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "images.npz": (lambda path: _npz(path, IMAGES), _read_arrays),
    "images.h5": (lambda path: _hdf5(path, IMAGES), _read_arrays),
    "table.csv": (_table, _read_table),
    "vectors.npz": (lambda path: _npz(path, VECTORS), _read_vectors),
    "vectors.npy": (lambda path: np.save(path, VECTORS["vectors"]), _read_vectors),
    "vectors.hdf5": (lambda path: _compressed_hdf5(path, VECTORS), _read_vectors),
    "vectors.safetensors": (lambda path: save_file(VECTORS, path), _read_vectors),
    "weights.pt": (_checkpoint, _read_weights),
    "weights.pth": (_old_checkpoint, _read_weights),
    "weights.safetensors": (_safetensors, _read_weights),
    "log.csv": (_log, _read_log),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_user_is_read_or_refused(name, rng, tmp_path):
    write, read = FILES[name]
    path, other = tmp_path / name, tmp_path / "other"
    write(path)
    if name == "vectors.npy":
        np.save(tmp_path / "vectors.labels.npy", VECTORS["labels"])
    whole = path.read_bytes()
    assert in_a_child(read, path) == "read"
    other.write_bytes(rng.randbytes(3000))
    outcomes, wrong = Counter(), []
    for _ in range(CASES):
        path.write_bytes(whole)
        damage, number = rng.choice(DAMAGES), rng.random()
        damage(path, [other], random.Random(number))
        words = in_a_child(read, path)
        outcomes[words if words in ("refused", "read") else "wrong"] += 1
        if words not in ("refused", "read"):
            wrong.append(f"{damage.__name__}, seed {number}: {words}")
    print(name, dict(outcomes))
    assert not wrong, "\n".join(wrong[:5])
    assert outcomes["refused"] > 0


# --- anything in them -------------------------------------------------------------------------


def _is_read_or_refused(read: Callable[[Path], None], path: Path) -> None:
    try:
        read(path)
    except UserError as error:
        assert path.name in str(error)


@seed(SEED)
@settings(max_examples=60 * EFFORT, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_table_of_images_is_read_or_refused(data):
    names = st.sampled_from(["path", "label", "split", "group", "Path", "file", "", "x"])
    head = data.draw(st.just(["path", "label"]) | st.lists(names, min_size=1, max_size=4))
    images = st.sampled_from([f"{n}.png" for n in range(6)] * 3 + [".", "..", "/", "/dev/zero"])
    words = st.sampled_from(["train", "test", "val", "cat", "dog", "0", "1", "70000", "-1"])
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    cells = [images | words | text if name != "path" else images | text for name in head]
    rows = data.draw(st.lists(st.tuples(*cells), max_size=8))
    between = data.draw(st.sampled_from(",;\t"))
    quoted = data.draw(st.booleans())

    def line(row: tuple[str, ...]) -> str:
        told = ('"' + cell.replace('"', '""') + '"' if quoted else cell for cell in row)
        return between.join(told)

    with tempfile.TemporaryDirectory() as place:
        for n in range(6):
            Image.fromarray(IMAGES["images"][n]).save(Path(place) / f"{n}.png")
        path = Path(place) / "table.csv"
        content = "\n".join(map(line, [tuple(head), *rows])).encode("utf-8")
        path.write_bytes(content + data.draw(st.just(b"") | st.binary(max_size=5)))
        _is_read_or_refused(_read_table, path)


#: Arrays of all that NumPy's files can hold.
_ANY = strange.arrays(
    st.one_of(
        strange.scalar_dtypes(),
        strange.unicode_string_dtypes(max_len=4),
        strange.byte_string_dtypes(max_len=4),
    ),
    strange.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


def _of_rows(values: st.SearchStrategy, kinds: st.SearchStrategy, n: int) -> st.SearchStrategy:
    """One value for each of n rows."""
    return kinds.flatmap(lambda kind: strange.arrays(kind, n, elements=values))


def _columns(n: int) -> st.SearchStrategy:
    numbers = _of_rows(st.integers(0, 2), st.sampled_from([np.uint8, np.int64, np.float64]), n)
    large = strange.arrays(st.sampled_from([np.int64, np.uint64, np.float64]), n)
    words = st.lists(st.sampled_from(["train", "test", "val", "a", "\n"]), min_size=n, max_size=n)
    return st.one_of(numbers, numbers, large, words.map(np.array), _ANY)


@pytest.mark.parametrize("what", ["images", "vectors"])
@seed(SEED)
@settings(max_examples=60 * EFFORT, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
@pytest.mark.filterwarnings("error")
def test_any_arrays_are_read_or_refused(what, data):
    n = data.draw(st.integers(1, 8))
    shape = st.sampled_from([(n, 3, 2), (n, 3, 2, 3), (n, 1, 3, 2)])
    whole = {
        "images": strange.arrays(np.uint8, shape),
        "vectors": strange.arrays(
            st.sampled_from([np.float32, np.float64, np.int8, np.float16]), (n, 3)
        ),
    }
    names = {"images": ["split", "group"], "vectors": ["split", "predictions", "class_names"]}
    content = {
        what: data.draw(st.one_of(whole[what], whole[what], _ANY)),
        "labels": data.draw(_columns(n)),
    }
    for name in data.draw(st.sets(st.sampled_from([*names[what], "weight", "bias"]))):
        content[name] = data.draw(_columns(n))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "own.npz"
        _npz(path, content)
        _is_read_or_refused(_read_arrays if what == "images" else _read_vectors, path)
