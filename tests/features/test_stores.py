"""Feature stores: what is written comes back, whatever is damaged is found and named."""

import errno
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash

from collapseflow.__main__ import main
from collapseflow.features import stores
from collapseflow.images.datasets import Splits, make_split, raw_pixels, read_info, write_dataset
from collapseflow.running.errors import UserError
from collapseflow.running.files import checksum_file

RNG = np.random.default_rng(0)
#: Rows of 2^18 bytes: four fit into a block of 1 MiB.
WIDE = RNG.normal(size=(11, 2**16)).astype(np.float32)
FEATURES = RNG.normal(size=(30, 6)).astype(np.float32)
LABELS = np.arange(30) % 4
IDS = np.arange(30) * 3 + 100


@pytest.fixture(params=[0, 400, 2**40], ids=["in threads", "mixed", "at once"], autouse=True)
def small_batch_bytes(request, monkeypatch):
    """All batches are written in threads, or those of at least 17 rows of FEATURES, or none."""
    monkeypatch.setattr(stores, "SMALL_BATCH_BYTES", request.param)


@pytest.fixture
def good(tmp_path, provenance):
    """A whole store with predictions, of which every third is wrong."""
    path = tmp_path / "good.h5"
    predictions = np.where(np.arange(30) % 3 == 0, LABELS + 1, LABELS)
    batches = [(FEATURES[:13], predictions[:13]), (FEATURES[13:], predictions[13:])]
    stores.write_store(path, batches, LABELS, IDS, provenance)
    return path


#: Where some of the labels were replaced.
TRUE_LABELS = np.where(np.arange(30) % 4 == 0, LABELS + 1, LABELS)


@pytest.fixture
def with_true_labels(tmp_path, provenance):
    path = tmp_path / "true.h5"
    batches = [(FEATURES, LABELS)]
    stores.write_store(path, batches, LABELS, IDS, provenance, true_labels=TRUE_LABELS)
    return path


#: Of a last layer that tells 5 classes.
WEIGHT = RNG.normal(size=(5, 6)).astype(np.float32)
BIAS = RNG.normal(size=5).astype(np.float32)


def write_with_head(path, provenance, head):
    """A store with predictions and the last layer that takes its features."""
    with stores.open_writer(path, LABELS, IDS, provenance, head) as writer:
        writer.add(FEATURES, (FEATURES @ WEIGHT.T + BIAS).argmax(axis=1))
    return path


@pytest.fixture
def with_head(tmp_path, provenance):
    return write_with_head(tmp_path / "head.h5", provenance, (WEIGHT, BIAS))


def test_everything_comes_back(good, provenance):
    features, labels = stores.read_rows(good)
    np.testing.assert_array_equal(features, FEATURES)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(stores.read_labels(good), LABELS)
    assert features.dtype == np.float32
    attributes = stores.read_attributes(good)
    assert provenance.items() <= attributes.items()
    assert attributes["shape"] == [6]
    assert (attributes["n"], attributes["n_features"]) == (30, 6)
    with h5py.File(good) as file:
        np.testing.assert_array_equal(file["ids"][:], IDS)


def test_the_last_layer_comes_back(with_head, good):
    weight, bias = stores.read_head(with_head)
    np.testing.assert_array_equal(weight, WEIGHT)
    np.testing.assert_array_equal(bias, BIAS)
    assert weight.dtype == bias.dtype == np.float32
    np.testing.assert_array_equal(stores.read_rows(with_head)[0], FEATURES)
    assert stores.verify(with_head)
    assert stores.read_head(good) is None


def test_a_whole_store_is_read_with_all_that_it_holds(good, with_head, provenance):
    whole = stores.read_store(good)
    np.testing.assert_array_equal(whole.features, FEATURES)
    np.testing.assert_array_equal(whole.labels, LABELS)
    np.testing.assert_array_equal(whole.ids, IDS)
    assert (whole.predictions == LABELS).sum() == 20
    assert whole.head is None
    assert {key: whole.attributes[key] for key in provenance} == provenance
    weight, bias = stores.read_store(with_head).head
    np.testing.assert_array_equal(weight, WEIGHT)
    np.testing.assert_array_equal(bias, BIAS)


def test_the_last_layer_is_kept_as_float32_rows(tmp_path, provenance, with_head):
    # As other code may hand it over: float64, and transposed in memory.
    other = np.asfortranarray(WEIGHT, np.float64), BIAS.astype(np.float64)
    path = write_with_head(tmp_path / "other.h5", provenance, other)
    digests = [stores.read_attributes(p)["digest"] for p in (with_head, path)]
    assert digests[0] == digests[1]


def test_the_digest_is_of_the_last_layer_too(tmp_path, provenance, with_head):
    digests = {stores.read_attributes(with_head)["digest"]}
    for number, head in enumerate([None, (WEIGHT + 1, BIAS), (WEIGHT, BIAS + 1)]):
        path = write_with_head(tmp_path / f"{number}.h5", provenance, head)
        digests.add(stores.read_attributes(path)["digest"])
    assert len(digests) == 4


def test_groups_come_back_and_are_part_of_the_digest(tmp_path, good, provenance):
    assert stores.read_groups(good) is None
    digests = {stores.read_attributes(good)["digest"]}
    for number in range(2):
        path, groups = tmp_path / f"{number}.h5", (np.arange(30) + number) // 4
        predictions = np.where(np.arange(30) % 3 == 0, LABELS + 1, LABELS)
        stores.write_store(path, [(FEATURES, predictions)], LABELS, IDS, provenance, groups)
        np.testing.assert_array_equal(stores.read_groups(path), groups)
        digests.add(stores.read_attributes(path)["digest"])
    assert len(digests) == 3


def test_the_features_of_a_data_set_have_its_groups(tmp_path):
    images, labels = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 0, 1])
    split = make_split(images, labels, groups=np.array([3, 3, 8, 9]))
    write_dataset(tmp_path / "images.h5", Splits(split, split, ["a", "b"], "made up"))
    path = tmp_path / "features.h5"
    stores.write_features(tmp_path / "images.h5", "train", path, raw_pixels, "raw", "none", "none")
    assert stores.read_groups(path).tolist() == [3, 3, 8, 9]


def expected_checksums(features, rows):
    """XXH3-64 of every so many rows, from the bytes."""
    content = features.astype("<f4").tobytes()
    size = rows * 4 * features.shape[1]
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return [xxhash.xxh3_64_intdigest(part) for part in parts]


def test_the_digest_is_over_shape_checksums_labels_ids_and_predictions(good):
    predictions = np.where(np.arange(30) % 3 == 0, LABELS + 1, LABELS)
    attributes = stores.read_attributes(good)
    rows = attributes["rows_per_block"]
    content = json.dumps([[6], rows]).encode()
    content += np.array(expected_checksums(FEATURES, rows), "<u8").tobytes()
    for column in (LABELS, IDS, predictions):
        content += column.astype("<i8").tobytes()
    assert attributes["digest"] == hashlib.sha256(content).hexdigest()


def test_other_tools_find_the_features_contiguous_and_unfiltered(good):
    with h5py.File(good) as file:
        features = file["features"]
        np.testing.assert_array_equal(features[:], FEATURES)
        assert features.dtype == np.float32
        assert features.chunks is None
        assert not features.fletcher32


def test_images_of_features_are_flattened_row_by_row(tmp_path, provenance):
    maps = RNG.normal(size=(6, 2, 3, 4)).astype(np.float32)
    path = tmp_path / "maps.h5"
    # A transposed view is not contiguous: its values count, not its memory.
    view = np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    stores.write_store(path, [(view, None)], LABELS[:6], IDS[:6], provenance)
    np.testing.assert_array_equal(stores.read_rows(path)[0], maps.reshape(6, 24))
    assert stores.read_attributes(path)["shape"] == [2, 3, 4]
    assert stores.verify(path)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of at most 1 MiB."""
    monkeypatch.setattr(stores, "BLOCK_BYTES", 2**20)


@pytest.mark.parametrize("sizes", [[11], [1] * 11, [4, 4, 3], [5, 6], [3, 7, 1]])
def test_the_batches_of_the_writer_do_not_matter(tmp_path, provenance, small_blocks, sizes):
    path = tmp_path / "wide.h5"
    ends = np.cumsum(sizes)
    batches = [(WIDE[end - size : end], None) for size, end in zip(sizes, ends, strict=True)]
    stores.write_store(path, batches, LABELS[:11], IDS[:11], provenance)
    np.testing.assert_array_equal(stores.read_rows(path)[0], WIDE)
    assert stores.read_attributes(path)["rows_per_block"] == 4
    with h5py.File(path) as file:
        assert file["checksums"][:].tolist() == expected_checksums(WIDE, 4)


@pytest.fixture
def wide(tmp_path, provenance, small_blocks):
    """A store of three blocks of 4, 4 and 3 rows."""
    path = tmp_path / "wide.h5"
    stores.write_store(path, [(WIDE, None)], LABELS[:11], IDS[:11], provenance)
    return path


@pytest.mark.parametrize("buffers", [1, 2, 5])
def test_streaming_equals_reading_the_whole(wide, buffers):
    parts = [(features.copy(), *others) for features, *others in stores.iterate(wide, buffers)]
    assert [len(labels) for _, labels, _ in parts] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([f for f, _, _ in parts]), WIDE)
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in parts]), LABELS[:11])
    assert all(predictions is None for _, _, predictions in parts)


def test_predictions_come_with_their_rows(tmp_path, provenance, small_blocks):
    path = tmp_path / "wide.h5"
    predictions = np.arange(11)[::-1]
    stores.write_store(path, [(WIDE, predictions)], LABELS[:11], IDS[:11], provenance)
    parts = [predicted for _, _, predicted in stores.iterate(path)]
    assert [part.tolist() for part in parts] == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1, 0]]


def test_so_many_blocks_of_a_stream_stay_as_they_are_as_there_are_buffers(wide):
    stream = stores.iterate(wide, buffers=2)
    first, *_ = next(stream)
    second, *_ = next(stream)
    np.testing.assert_array_equal(np.concatenate([first, second]), WIDE[:8])
    next(stream)
    np.testing.assert_array_equal(second, WIDE[4:8])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_read_rows_of_all_on_any_number_of_threads(wide, threads):
    features, labels = stores.read_rows(wide, threads=threads)
    np.testing.assert_array_equal(features, WIDE)
    np.testing.assert_array_equal(labels, LABELS[:11])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [[0], [10], [3, 4], [0, 5, 9, 10], range(11), []])
def test_read_rows_of_a_sample(wide, rows, threads):
    rows = np.array(rows, dtype=int)
    features, labels = stores.read_rows(wide, rows, threads)
    np.testing.assert_array_equal(features, WIDE[rows])
    np.testing.assert_array_equal(labels, LABELS[:11][rows])


@pytest.mark.parametrize("n", [1, 3])
def test_a_row_may_be_larger_than_a_block(tmp_path, provenance, small_blocks, n):
    features = RNG.normal(size=(n, 2**18 + 1)).astype(np.float32)
    path = tmp_path / "store.h5"
    stores.write_store(path, [(features, None)], LABELS[:n], IDS[:n], provenance)
    np.testing.assert_array_equal(stores.read_rows(path)[0], features)
    assert [len(labels) for _, labels, _ in stores.iterate(path)] == [1] * n
    assert stores.verify(path)


def test_a_store_of_one_row(make_store):
    path = make_store(FEATURES[:1], LABELS[:1])
    np.testing.assert_array_equal(stores.read_rows(path)[0], FEATURES[:1])
    assert stores.verify(path)


def test_predictions_come_with_their_labels_where_there_are_any(good, make_store):
    right = np.concatenate([labels == predicted for _, labels, predicted in stores.iterate(good)])
    assert right.mean() == pytest.approx(2 / 3)
    assert {predicted for *_, predicted in stores.iterate(make_store(FEATURES, LABELS))} == {None}


# --- refusals of the writer -------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_refused_with_the_image_s_file_or_row(
    tmp_path, provenance, value
):
    bad = FEATURES.copy()
    bad[17, 2] = value
    batches = [(bad[:10], None), (bad[10:], None)]
    with pytest.raises(UserError, match="the image b\\\\n/17.png are not finite") as caught:
        names = [f"b\n/{row}.png" for row in range(30)]
        stores.write_store(tmp_path / "a.h5", batches, LABELS, IDS, provenance, names=names)
    assert caught.type is stores.NotFiniteError and "\n" not in str(caught.value)
    row = f"the training image in row {IDS[17]} of its source are not finite"
    with pytest.raises(UserError, match=row) as caught:
        stores.write_store(tmp_path / "a.h5", batches, LABELS, IDS, provenance)
    assert str(caught.value).startswith(f"{tmp_path / 'a.h5'}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [29, 31])
def test_a_wrong_number_of_rows_is_refused(tmp_path, provenance, n):
    rows = np.zeros((n, 6), np.float32)
    with pytest.raises(ValueError, match="rows of features"):
        stores.write_store(tmp_path / "a.h5", [(rows, None)], LABELS, IDS, provenance)
    assert list(tmp_path.iterdir()) == []


def test_provenance_must_be_complete(tmp_path, provenance):
    del provenance["weights"]
    with pytest.raises(ValueError, match="weights"):
        stores.write_store(tmp_path / "a.h5", [(FEATURES, None)], LABELS, IDS, provenance)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", [(WEIGHT[:, :5], BIAS), (WEIGHT, BIAS[:4])], ids=["d", "classes"])
def test_a_last_layer_of_other_features_is_refused(tmp_path, provenance, head):
    with pytest.raises(ValueError, match=r"a head of shape \(5, \d\) for 6 features"):
        write_with_head(tmp_path / "a.h5", provenance, head)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing_new(tmp_path, provenance, good):
    def interrupted():
        yield FEATURES[:20], None
        raise KeyboardInterrupt

    before = good.read_bytes()
    for name in ("new.h5", good.name):
        with pytest.raises(KeyboardInterrupt):
            stores.write_store(tmp_path / name, interrupted(), LABELS, IDS, provenance)
    assert sorted(tmp_path.iterdir()) == [checksum_file(good), good]
    assert good.read_bytes() == before and stores.verify(good)


def test_no_batches_are_refused(tmp_path, provenance):
    with pytest.raises(ValueError, match="no features for 30 labels"):
        stores.write_store(tmp_path / "a.h5", [], LABELS, IDS, provenance)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_written_while_the_next_one_is_computed(tmp_path, provenance, monkeypatch):
    written = threading.Event()
    write = stores.StoreWriter._write

    def write_and_tell(writer, rows, flat):
        write(writer, rows, flat)
        written.set()

    def batches():
        yield FEATURES[:20], None
        assert written.wait(60)
        yield FEATURES[20:], None

    monkeypatch.setattr(stores.StoreWriter, "_write", write_and_tell)
    stores.write_store(tmp_path / "a.h5", batches(), LABELS, IDS, provenance)
    np.testing.assert_array_equal(stores.read_rows(tmp_path / "a.h5")[0], FEATURES)


def test_several_stores_are_written_side_by_side(tmp_path, provenance, good):
    predictions = np.where(np.arange(30) % 3 == 0, LABELS + 1, LABELS)
    names = ("a.h5", "b.h5")
    with (
        stores.open_writer(tmp_path / "a.h5", LABELS, IDS, provenance) as a,
        stores.open_writer(tmp_path / "b.h5", LABELS, IDS, provenance) as b,
    ):
        for rows in (np.s_[:13], np.s_[13:]):
            a.add(FEATURES[rows], predictions[rows])
            b.add(FEATURES[rows, ::-1], predictions[rows])
        assert not any((tmp_path / name).exists() for name in names)
    np.testing.assert_array_equal(stores.read_rows(tmp_path / "b.h5")[0], FEATURES[:, ::-1])
    digests = [stores.read_attributes(tmp_path / name)["digest"] for name in names]
    assert digests[0] == stores.read_attributes(good)["digest"] != digests[1]


def test_no_store_appears_if_one_of_several_cannot_be_written(tmp_path, provenance):
    bad = FEATURES.copy()
    bad[29] = np.inf
    with (
        pytest.raises(stores.NotFiniteError),
        stores.open_writer(tmp_path / "a.h5", LABELS, IDS, provenance) as a,
        stores.open_writer(tmp_path / "b.h5", LABELS, IDS, provenance) as b,
    ):
        a.add(FEATURES)
        b.add(bad)
    assert list(tmp_path.iterdir()) == []


def test_two_arrays_may_take_turns_as_batches(tmp_path, provenance):
    def batches():
        memory = np.empty((2, 2, 2**16), np.float32)
        for turn in range(5):
            memory[turn % 2] = WIDE[2 * turn : 2 * turn + 2]
            yield memory[turn % 2], None

    stores.write_store(tmp_path / "a.h5", batches(), LABELS[:10], IDS[:10], provenance)
    np.testing.assert_array_equal(stores.read_rows(tmp_path / "a.h5")[0], WIDE[:10])
    assert stores.verify(tmp_path / "a.h5")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_error_of_the_writer_ends_the_job(tmp_path, provenance, monkeypatch, number):
    error = OSError(errno.ENOSPC, "No space left on device")
    calls, asked = [], []
    write = stores.StoreWriter._write

    def fail(writer, rows, flat):
        calls.append(flat)
        if len(calls) == number:
            raise error
        write(writer, rows, flat)

    def batches():
        for row in range(0, 30, 10):
            asked.append(row)
            yield FEATURES[row : row + 10], None

    monkeypatch.setattr(stores.StoreWriter, "_write", fail)
    with pytest.raises(OSError) as caught:
        stores.write_store(tmp_path / "a.h5", batches(), LABELS, IDS, provenance)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "a.h5")
    # At most the next batch was computed in vain, and nothing was written behind the gap.
    assert len(asked) <= number + 1
    assert len(calls) == number
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import errno, sys
import numpy as np
from collapseflow.features import stores
from collapseflow.running.errors import UserError
path, n, provenance = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
if sys.argv[4:]:
    # As if another job took the room in the meantime.
    stores.require_space = lambda *_: None
asked = []
def batches():
    for row in range(n):
        asked.append(row)
        yield np.ones((1, 1024), np.float32), None
try:
    stores.write_store(path, batches(), np.zeros(n, int), np.arange(n), provenance)
except UserError as error:
    print(error, len(asked))
except OSError as error:
    print(error.errno == errno.ENOSPC, error.filename)
else:
    print("written")
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a small disk: util-linux's unshare")
@pytest.mark.parametrize("small_batch_bytes", [0], indirect=True)
@pytest.mark.parametrize("unforeseen", [False, True])
@pytest.mark.parametrize("n", [128, 253, 254, 255, 256, 1024])
def test_a_full_disk_is_told_in_a_line_and_leaves_nothing(tmp_path, provenance, n, unforeseen):
    """A disk of 1 MiB: features of half a MiB fit on it, of 4 MiB not, and of nearly 1 MiB alone,
    without the columns behind them."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*in_namespace, mount], capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk: unprivileged mounts are not allowed here")
    path = tmp_path / "a.h5"
    script = [sys.executable, "-c", FULL_DISK, str(path), str(n), repr(provenance)]
    script += ["unforeseen"] * unforeseen
    answer = subprocess.run(
        [*in_namespace, f'{mount} && "$@" && ls -A {tmp_path}', "sh", *script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    said, *files = answer.stdout.splitlines()
    if said == "written":
        assert n < 256 and files == [".a.h5.xxh3", "a.h5"]
        return
    assert n > 128 and files == []
    foreseen = f"{path}: 4.0 MiB are to be written, and 1.0 MiB are free; make room and start again"
    assert said == (f"{foreseen} 1" if n == 1024 and not unforeseen else f"True {path}")


def test_true_labels_come_back_and_are_read_on_request(good, with_true_labels):
    assert stores.read_true_labels(good) is None
    np.testing.assert_array_equal(stores.read_true_labels(with_true_labels), TRUE_LABELS)
    np.testing.assert_array_equal(stores.read_labels(with_true_labels), LABELS)
    for by, expected in {"labels": LABELS, "true_labels": TRUE_LABELS}.items():
        (block,) = stores.iterate(with_true_labels, by=by)
        np.testing.assert_array_equal(block[0], FEATURES)
        np.testing.assert_array_equal(block[1], expected)
        np.testing.assert_array_equal(block[2], LABELS)


def test_write_features_takes_true_labels_from_the_data_set(tmp_path):
    part = make_split(np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 1, 0]))
    noisy = replace(part, true_labels=np.array([0, 0, 1, 1]))
    write_dataset(tmp_path / "toy.h5", Splits(noisy, part, ["a", "b"], "x"))
    for split, expected in {"train": [0, 0, 1, 1], "test": None}.items():
        path = tmp_path / f"{split}.h5"
        stores.write_features(tmp_path / "toy.h5", split, path, raw_pixels, "raw", "none", "/255")
        found = stores.read_true_labels(path)
        assert found is None if expected is None else found.tolist() == expected


def test_write_features_takes_provenance_from_the_data_set(tmp_path):
    images = RNG.integers(0, 256, (8, 3, 3), dtype=np.uint8)
    part = make_split(images, np.arange(8) % 2, np.arange(8) + 50)
    write_dataset(tmp_path / "toy.h5", Splits(part, part.take(np.arange(4)), ["a", "b"], "x"))
    path = tmp_path / "store.h5"
    stores.write_features(tmp_path / "toy.h5", "test", path, raw_pixels, "raw", "none", "/255")
    features, labels = stores.read_rows(path)
    np.testing.assert_allclose(features, images[:4].reshape(4, 9) / 255, rtol=1e-6)
    assert labels.tolist() == [0, 1, 0, 1]
    attributes = stores.read_attributes(path)
    assert attributes["dataset"] == "toy"
    assert attributes["split"] == "test"
    assert attributes["dataset_sha256"] == read_info(tmp_path / "toy.h5").sha256
    with h5py.File(path) as file:
        assert file["ids"][:].tolist() == [50, 51, 52, 53]


# --- verify -----------------------------------------------------------------------------------


def test_verify_describes_a_whole_store(good):
    line = stores.verify(good)
    assert line.startswith(f"{good}: whole, 30 x 6 features")
    assert "\n" not in line


def assert_refused(path, message):
    with pytest.raises(UserError, match=message) as caught:
        stores.verify(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@contextmanager
def edited(path):
    """Write into a store as if it had been made so, by a version that wrote no checksums."""
    with h5py.File(path, "r+") as file:
        yield file
    checksum_file(path).unlink(missing_ok=True)


def flip_a_bit(path, name, position):
    """Flip a low bit of a mantissa or of a number, of a store that is read without checksums of the
    whole file: the value stays plausible."""
    with h5py.File(path) as file:
        start = file[name].id.get_offset()
    content = bytearray(path.read_bytes())
    content[start + position] ^= 1
    path.write_bytes(content)
    checksum_file(path).unlink(missing_ok=True)


def readers(path):
    """All that reads features, by name."""
    return {
        "iterate": lambda: list(stores.iterate(path)),
        "read_rows": lambda: stores.read_rows(path),
        "read_rows of a sample": lambda: stores.read_rows(path, np.arange(11)),
        "read_rows on two threads": lambda: stores.read_rows(path, threads=2),
        "read_store": lambda: stores.read_store(path),
        "verify": lambda: stores.verify(path),
    }


READERS = list(readers(Path()))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("row", "block"), [(0, "0 to 3"), (6, "4 to 7"), (10, "8 to 10")])
def test_whoever_reads_a_flipped_bit_of_the_features_finds_it(wide, reader, row, block):
    flip_a_bit(wide, "features", row * 2**18 + 4 * 777)
    with pytest.raises(UserError, match=f"rows {block} are damaged; delete it") as caught:
        readers(wide)[reader]()
    assert str(wide) in str(caught.value)


def test_blocks_that_are_not_read_are_not_checked(wide):
    flip_a_bit(wide, "features", 6 * 2**18)
    np.testing.assert_array_equal(stores.read_rows(wide, np.array([1, 9]))[0], WIDE[[1, 9]])
    stream = stores.iterate(wide)
    np.testing.assert_array_equal(next(stream)[0], WIDE[:4])


@pytest.mark.parametrize("reader", [*READERS, "read_labels"])
@pytest.mark.parametrize("column", ["checksums", "labels", "ids", "predictions", "true_labels"])
def test_whoever_reads_finds_a_flipped_bit_of_the_other_columns(
    good, with_true_labels, reader, column
):
    good = with_true_labels if column == "true_labels" else good
    flip_a_bit(good, column, 0)
    of_columns = {"read_labels": lambda: stores.read_labels(good)}
    with pytest.raises(UserError, match="damaged; delete it") as caught:
        (readers(good) | of_columns)[reader]()
    assert str(good) in str(caught.value)


@pytest.mark.parametrize("reader", [*READERS, "read_head"])
@pytest.mark.parametrize("part", ["head_weight", "head_bias"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_whoever_reads_finds_damage_of_the_last_layer(with_head, reader, part, damage):
    if damage == "flipped":
        flip_a_bit(with_head, part, 8)
    else:
        with edited(with_head) as file:
            del file[part]
    read = readers(with_head) | {"read_head": lambda: stores.read_head(with_head)}
    with pytest.raises(UserError, match="the head or checksums are damaged; delete it") as caught:
        read[reader]()
    assert str(with_head) in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "value"), [("rows_per_block", 7), ("shape", [2, 3]), ("digest", "0" * 64)]
)
def test_changed_attributes_are_found(good, attribute, value):
    with edited(good) as file:
        file.attrs[attribute] = value
    assert_refused(good, "damaged")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
def test_verify_finds_a_file_cut_off(good, share):
    content = good.read_bytes()
    good.write_bytes(content[: int(share * len(content))])
    assert_refused(good, f"has {int(share * len(content))} bytes of {len(content)}; delete it")
    checksum_file(good).unlink()
    assert_refused(good, "cannot be read .*; delete it")


@pytest.mark.parametrize("attribute", ["digest", "rows_per_block", "shape", "weights"])
def test_verify_finds_a_missing_attribute(good, attribute):
    with edited(good) as file:
        del file.attrs[attribute]
    assert_refused(good, f"lacks {attribute}")


@pytest.mark.parametrize("column", ["features", "labels", "ids", "checksums"])
def test_verify_finds_a_missing_column(good, column):
    with edited(good) as file:
        del file[column]
    assert_refused(good, f"lacks {column}")


def test_verify_finds_columns_of_different_length(good):
    with edited(good) as file:
        del file["labels"]
        file["labels"] = LABELS[:-1]
    assert_refused(good, "damaged")


@pytest.mark.parametrize("part", [np.s_[:, :5], np.s_[:29]], ids=["columns", "rows"])
def test_verify_finds_features_of_another_shape(good, part):
    with edited(good) as file:
        del file["features"]
        file["features"] = FEATURES[part]
    assert_refused(good, "damaged")


def test_verify_finds_swapped_rows(good):
    with edited(good) as file:
        file["features"][:] = FEATURES[::-1]
    assert_refused(good, "damaged")


def test_stores_of_the_chunked_layout_are_refused(tmp_path, provenance):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=FEATURES, chunks=(30, 6), fletcher32=True)
        file["labels"], file["ids"] = LABELS, IDS
        file.attrs.update(provenance | {"shape": (6,), "sha256": "0" * 64})
    for read in readers(path).values():
        with pytest.raises(UserError, match="old.h5: .*lacks checksums, digest.*start again"):
            read()


def test_verify_finds_a_damaged_table_of_contents(good):
    content = good.read_bytes()
    good.write_bytes(content.replace(b"TREE", b"BUSH"))
    assert_refused(good, f"damaged between its bytes 0 and {len(content)}; delete it")
    checksum_file(good).unlink()
    assert_refused(good, "cannot be read .*; delete it")


def test_verify_names_what_is_missing_or_no_store(tmp_path):
    assert_refused(tmp_path / "missing.h5", "no such file")
    (tmp_path / "text.h5").write_text("hello")
    assert_refused(tmp_path / "text.h5", "cannot be read")


# --- the command ------------------------------------------------------------------------------


def run_verify(*paths):
    command = [sys.executable, "-m", "collapseflow", "verify", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_one_line_and_succeeds(good):
    answer = run_verify(good)
    assert answer.returncode == 0
    assert answer.stdout == f"{stores.verify(good)}\n"
    assert answer.stderr == ""


def test_the_command_prints_one_line_and_fails(good):
    with edited(good) as file:
        file["features"][0, 0] = 5
    answer = run_verify(good)
    assert answer.returncode == 1
    assert len(answer.stdout.splitlines()) == 1
    assert str(good) in answer.stdout and "damaged" in answer.stdout
    assert answer.stderr == ""


def test_the_command_checks_several_files(good, tmp_path, capsys):
    assert main(["verify", str(good), str(good)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["verify", str(good), str(tmp_path / "missing.h5")]) == 1
    assert "missing.h5" in capsys.readouterr().out.splitlines()[-1]
