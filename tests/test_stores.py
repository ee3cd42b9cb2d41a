"""Feature stores: what is written comes back, whatever is damaged is found and named."""

import hashlib
import subprocess
import sys

import h5py
import numpy as np
import pytest

from collapseflow import stores
from collapseflow.__main__ import main
from collapseflow.datasets import Splits, make_split, raw_pixels, read_info, write_dataset
from collapseflow.errors import UserError

RNG = np.random.default_rng(0)
#: Rows of 2^18 bytes: four fit into one chunk of 1 MiB.
WIDE = RNG.normal(size=(11, 2**16)).astype(np.float32)
FEATURES = RNG.normal(size=(30, 6)).astype(np.float32)
LABELS = np.arange(30) % 4
IDS = np.arange(30) * 3 + 100


@pytest.fixture
def good(tmp_path, provenance):
    """A whole store with predictions, of which every third is wrong."""
    path = tmp_path / "good.h5"
    predictions = np.where(np.arange(30) % 3 == 0, LABELS + 1, LABELS)
    batches = [(FEATURES[:13], predictions[:13]), (FEATURES[13:], predictions[13:])]
    stores.write_store(path, batches, LABELS, IDS, provenance)
    return path


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


def test_the_digest_is_over_features_labels_ids_and_predictions(good):
    predictions = np.where(np.arange(30) % 3 == 0, LABELS + 1, LABELS)
    content = FEATURES.tobytes()
    for column in (LABELS, IDS, predictions):
        content += column.astype("<i8").tobytes()
    assert stores.read_attributes(good)["sha256"] == hashlib.sha256(content).hexdigest()


def test_images_of_features_are_flattened_row_by_row(tmp_path, provenance):
    maps = RNG.normal(size=(6, 2, 3, 4)).astype(np.float32)
    path = tmp_path / "maps.h5"
    # A transposed view is not contiguous: its values count, not its memory.
    view = np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    stores.write_store(path, [(view, None)], LABELS[:6], IDS[:6], provenance)
    np.testing.assert_array_equal(stores.read_rows(path)[0], maps.reshape(6, 24))
    assert stores.read_attributes(path)["shape"] == [2, 3, 4]
    assert stores.verify(path)


@pytest.mark.parametrize("sizes", [[11], [1] * 11, [4, 4, 3], [5, 6]])
def test_the_batches_of_the_writer_do_not_matter(tmp_path, provenance, sizes):
    path = tmp_path / "wide.h5"
    ends = np.cumsum(sizes)
    batches = [(WIDE[end - size : end], None) for size, end in zip(sizes, ends, strict=True)]
    stores.write_store(path, batches, LABELS[:11], IDS[:11], provenance)
    np.testing.assert_array_equal(stores.read_rows(path)[0], WIDE)
    content = WIDE.tobytes() + LABELS[:11].tobytes() + IDS[:11].tobytes()
    assert stores.read_attributes(path)["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.fixture
def wide(tmp_path, provenance, monkeypatch):
    """A store that takes several reads."""
    monkeypatch.setattr(stores, "READ_BYTES", 2**20)
    path = tmp_path / "wide.h5"
    stores.write_store(path, [(WIDE, None)], LABELS[:11], IDS[:11], provenance)
    return path


def test_streaming_equals_reading_the_whole(wide):
    parts = list(stores.iterate(wide))
    assert [len(labels) for _, labels in parts] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([f for f, _ in parts]), WIDE)
    np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), LABELS[:11])


@pytest.mark.parametrize("rows", [[0], [10], [3, 4], [0, 5, 9, 10], range(11), []])
def test_read_rows_of_a_sample(wide, rows):
    rows = np.array(rows, dtype=int)
    features, labels = stores.read_rows(wide, rows)
    np.testing.assert_array_equal(features, WIDE[rows])
    np.testing.assert_array_equal(labels, LABELS[:11][rows])


def test_chunks_are_whole_rows_of_at_most_a_mebibyte(wide):
    with h5py.File(wide) as file:
        rows, width = file["features"].chunks
    assert width == 2**16
    assert rows * width * 4 <= 2**20
    assert stores.rows_per_chunk(10**7) == 1


def test_accuracy_is_the_share_of_right_predictions(good, make_store):
    assert stores.accuracy(good) == pytest.approx(2 / 3)
    assert stores.accuracy(make_store(FEATURES, LABELS)) is None


# --- refusals of the writer -------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_refused_with_the_image_s_id(tmp_path, provenance, value):
    bad = FEATURES.copy()
    bad[17, 2] = value
    with pytest.raises(UserError, match=f"image {IDS[17]} are not finite"):
        stores.write_store(
            tmp_path / "a.h5", [(bad[:10], None), (bad[10:], None)], LABELS, IDS, provenance
        )
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


def test_an_interrupted_write_leaves_nothing_new(tmp_path, provenance, good):
    def interrupted():
        yield FEATURES[:20], None
        raise KeyboardInterrupt

    before = good.read_bytes()
    for name in ("new.h5", good.name):
        with pytest.raises(KeyboardInterrupt):
            stores.write_store(tmp_path / name, interrupted(), LABELS, IDS, provenance)
    assert list(tmp_path.iterdir()) == [good]
    assert good.read_bytes() == before


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


@pytest.mark.parametrize("column", ["features", "labels", "ids", "predictions"])
def test_verify_finds_one_flipped_bit(good, column):
    with h5py.File(good) as file:
        data = file[column]
        whole = data.chunks is None
        position = data.id.get_offset() if whole else data.id.get_chunk_info(0).byte_offset
    content = bytearray(good.read_bytes())
    # A low bit of a mantissa or of a number: the value stays plausible.
    content[position + 8] ^= 1
    good.write_bytes(content)
    assert_refused(good, "SHA-256|damaged|checksum|HDF5")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
def test_verify_finds_a_file_cut_off(good, share):
    content = good.read_bytes()
    good.write_bytes(content[: int(share * len(content))])
    assert_refused(good, "not a whole HDF5 file")


@pytest.mark.parametrize("attribute", ["sha256", "shape", "weights", "dataset_sha256"])
def test_verify_finds_a_missing_attribute(good, attribute):
    with h5py.File(good, "r+") as file:
        del file.attrs[attribute]
    assert_refused(good, f"lacks {attribute}")


@pytest.mark.parametrize("column", ["features", "labels", "ids"])
def test_verify_finds_a_missing_column(good, column):
    with h5py.File(good, "r+") as file:
        del file[column]
    assert_refused(good, f"lacks {column}")


def test_verify_finds_columns_of_different_length(good):
    with h5py.File(good, "r+") as file:
        del file["labels"]
        file["labels"] = LABELS[:-1]
    assert_refused(good, "differ in length")


def test_verify_finds_features_that_are_not_finite(good):
    with h5py.File(good, "r+") as file:
        file["features"][4, 4] = np.nan
    assert_refused(good, "not finite")


def test_verify_finds_swapped_rows(good):
    with h5py.File(good, "r+") as file:
        file["features"][:] = FEATURES[::-1]
    assert_refused(good, "SHA-256")


def test_verify_finds_a_damaged_table_of_contents(good):
    content = good.read_bytes()
    good.write_bytes(content.replace(b"TREE", b"BUSH"))
    assert_refused(good, "HDF5")


def test_verify_names_what_is_missing_or_no_store(tmp_path):
    assert_refused(tmp_path / "missing.h5", "no such file")
    (tmp_path / "text.h5").write_text("hello")
    assert_refused(tmp_path / "text.h5", "HDF5")


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
    with h5py.File(good, "r+") as file:
        file["features"][0, 0] = 5
    answer = run_verify(good)
    assert answer.returncode == 1
    assert len(answer.stdout.splitlines()) == 1
    assert str(good) in answer.stdout and "SHA-256" in answer.stdout
    assert answer.stderr == ""


def test_the_command_checks_several_files(good, tmp_path, capsys):
    assert main(["verify", str(good), str(good)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["verify", str(good), str(tmp_path / "missing.h5")]) == 1
    assert "missing.h5" in capsys.readouterr().out.splitlines()[-1]
