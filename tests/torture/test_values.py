"""Features, data sets and folders with anything in them: what was written comes back, or one line
says why not; and each measure of strange features is a number, or is left out."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from attacked import EFFORT, SEED
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from collapseflow.features import stores
from collapseflow.images.datasets import Split, Splits, read_info, read_split, write_dataset
from collapseflow.images.sources import folder
from collapseflow.measures.collapse import measure_states
from collapseflow.measures.statistics import reduce_stores, write_statistics
from collapseflow.running.errors import UserError

#: Any finite float32, from 1e-45 to 3e38 in size.
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
PROVENANCE = dict.fromkeys(stores.PROVENANCE, "made up")


def _features(n: st.SearchStrategy, values: st.SearchStrategy) -> st.SearchStrategy:
    """Rows of features, float32 (n, d): all of one value, some twice, or anything."""
    shapes = st.tuples(n, st.integers(1, 12))
    anything = arrays.arrays(np.float32, shapes, elements=values)
    constant = st.builds(np.full, shapes, values, st.just(np.float32))
    twice = anything.flatmap(
        lambda rows: st.lists(
            st.integers(0, len(rows) - 1), min_size=len(rows), max_size=len(rows)
        ).map(lambda chosen: rows[chosen])
    )
    return st.one_of(anything, twice, constant)


def _labels(n: int) -> st.SearchStrategy:
    """Of one class, of classes of one image, or of any."""
    some = arrays.arrays(np.int64, n, elements=st.integers(0, 3))
    return st.one_of(some, st.just(np.zeros(n, np.int64)), st.just(np.arange(n)))


@seed(SEED)
@settings(max_examples=60 * EFFORT, deadline=None)
@given(st.data())
def test_any_features_come_back_or_are_refused(data):
    values = data.draw(st.sampled_from([FINITE, st.floats(width=32)]))
    features = data.draw(_features(st.integers(1, 12), values))
    n = len(features)
    labels = data.draw(_labels(n))
    ids = data.draw(st.permutations(range(n)).map(np.array))
    cuts = sorted(data.draw(st.sets(st.integers(1, n))) | {n})
    batches = [(part, None) for part in np.split(features, cuts)[:-1]]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as place:
        patch.setattr(stores, "BLOCK_BYTES", data.draw(st.integers(4, 200)))
        patch.setattr(stores, "SMALL_BATCH_BYTES", data.draw(st.sampled_from([0, 2**20])))
        path = Path(place) / "store.h5"
        try:
            stores.write_store(path, batches, labels, ids, PROVENANCE)
        except UserError as error:
            bad = ids[~np.isfinite(features).all(axis=1)]
            assert str(path) in str(error) and f"image in row {bad[0]} of " in str(error)
            assert len(str(error).splitlines()) == 1
            assert not list(Path(place).iterdir())
            return
        assert np.isfinite(features).all()
        read, found = stores.read_rows(path)
        assert read.tobytes() == features.tobytes() and found.tolist() == labels.tolist()
        blocks = [(block.copy(), part) for block, part, _ in stores.iterate(path)]
        assert np.concatenate([block for block, _ in blocks]).tobytes() == features.tobytes()
        assert np.concatenate([part for _, part in blocks]).tolist() == labels.tolist()


@seed(SEED)
@settings(max_examples=60 * EFFORT, deadline=None)
@given(st.data())
def test_any_data_set_comes_back(data):
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    shape += data.draw(st.sampled_from([(), (3,)]))
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
    names = data.draw(st.lists(text, min_size=1, max_size=4))
    parts = []
    for _ in range(2):
        n = data.draw(st.integers(1, 6))
        images = data.draw(arrays.arrays(np.uint8, (n, *shape)))
        labels = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, len(names) - 1)))
        ids = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 2**63 - 1)))
        parts.append(Split(images, labels, ids))
    splits = Splits(*parts, names, data.draw(text))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "images.h5"
        write_dataset(path, splits)
        info = read_info(path)
        assert (info.class_names, info.source) == (names, splits.source)
        assert info.n == {"train": len(parts[0].labels), "test": len(parts[1].labels)}
        for name, part in zip(("train", "test"), parts, strict=True):
            read = read_split(path, name)
            assert read.images.shape == part.images.shape
            for attribute in ("images", "labels", "ids"):
                mine, other = getattr(read, attribute), getattr(part, attribute)
                assert mine.dtype == other.dtype and mine.tobytes() == other.tobytes()


#: Names that file systems allow, text or not.
_NAMES = st.lists(
    st.integers(1, 255).filter(lambda byte: byte != ord("/")), min_size=1, max_size=12
).map(bytes)


def _png(levels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(levels).save(content, "PNG")
    return content.getvalue()


@st.composite
def _contents(draw) -> tuple[bytes, np.ndarray | None]:
    """A file's bytes, and the picture in it; None where it is none."""
    levels = draw(arrays.arrays(np.uint8, (3, 3)))
    whole = _png(levels)
    kind = draw(st.sampled_from(["whole"] * 9 + ["empty", "cut off", "bytes"]))
    if kind == "whole":
        return whole, levels
    if kind == "cut off":
        # Without fewer bytes than 23 at its end, Pillow may still read all pixels.
        return whole[: draw(st.integers(1, len(whole) - 24))], None
    return draw(st.binary(max_size=50)) if kind == "bytes" else b"", None


@pytest.mark.parametrize("on_bad_image", ["stop", "skip"])
@seed(SEED)
@settings(max_examples=60 * EFFORT, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_folder_is_read_or_refused(on_bad_image, data):
    odd = data.draw(st.sets(_NAMES, max_size=1)) - {b".", b".."}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "pictures"
        pictures = []
        for name in sorted({b"cat", b"dog", *odd}):
            here = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
            here.mkdir(parents=True)
            for file in data.draw(st.lists(_NAMES, min_size=2, max_size=4, unique=True)):
                content, levels = data.draw(_contents())
                Path(here, os.fsdecode(file + b".png")).write_bytes(content)
                # What file managers leave is not looked at.
                if not name.startswith(b".") and not file.startswith(b"."):
                    pictures.append(levels)
        whole = [levels.tobytes() for levels in pictures if levels is not None]
        try:
            splits = folder.read(root, None, 0.5, 0, 1, on_bad_image)
        except UserError as error:
            # The job's log writes what ends lines, in names of files, as in Python.
            assert str(error).startswith(str(root))
            return
        read = [*splits.train.images, *splits.test.images]
        assert sorted(image.tobytes() for image in read) == sorted(whole)
        assert on_bad_image == "skip" or len(whole) == len(pictures)
        write_dataset(Path(place) / "images.h5", splits)
        assert read_info(Path(place) / "images.h5").source == splits.source


@seed(SEED)
@settings(max_examples=60 * EFFORT, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("error")
def test_each_measure_of_strange_features_is_a_number_or_left_out(data):
    """From stores to the measures of a layer, as jobs go."""
    values = data.draw(st.sampled_from([FINITE, st.sampled_from([0.0, 1.0, 1e30, -1e30, 1e-30])]))
    n_train, n_test = data.draw(st.integers(2, 9)), data.draw(st.integers(2, 5))
    n = n_train + n_test
    features = data.draw(_features(st.just(n), values))
    d = features.shape[1]
    # Two classes at least in both splits, of one image or of more.
    more = arrays.arrays(np.int64, n - 4, elements=st.integers(0, data.draw(st.integers(1, 3))))
    labels = np.insert(data.draw(more), [0, 0, n_train - 2, n_train - 2], [0, 1, 0, 1])
    predictions = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    noise = rng.normal(size=(n, d)) * data.draw(st.sampled_from([0, 1e-30, 1, 1e30]))
    features += noise.astype(np.float32)
    # By chance, and so never at right angles to all class means.
    weight = rng.normal(size=(4, d)) * data.draw(st.sampled_from([1e-30, 1, 1e30]))
    head = weight.astype(np.float32), np.zeros(4, np.float32)
    with tempfile.TemporaryDirectory() as place:
        paths = {}
        for split, part in (("train", slice(n_train)), ("test", slice(n_train, None))):
            paths[split] = Path(place) / f"{split}.h5"
            ids = np.arange(len(labels[part]))
            with stores.open_writer(paths[split], labels[part], ids, PROVENANCE, head) as writer:
                writer.add(features[part], predictions[part])
        file = Path(place) / "statistics.npz"
        write_statistics(file, {"layer": reduce_stores(paths)}, [])
        (state,) = measure_states({1: file}, ["layer"])
    for split, measured in state["layers"]["layer"].items():
        if "failed" in measured:
            assert measured == {"failed": "all class means coincide"}
            continue
        assert all(np.isfinite(value) for value in measured.values()), (split, measured)
        assert 1 <= measured["rank"] <= min(measured["n_classes"] - 1, d)
        shares = [measured[name] for name in ("accuracy", "accuracy_nearest_mean", "nc4")]
        assert all(0 <= share <= 1 for share in shares)
    of_train = state["layers"]["layer"]["train"]
    if "failed" not in of_train:
        lengths = np.linalg.norm(features[:n_train].astype(np.float64), axis=1)
        assert of_train["norm_features"] == pytest.approx(lengths.mean(), rel=1e-12)
        assert of_train["accuracy"] == np.mean(predictions[:n_train] == labels[:n_train])
