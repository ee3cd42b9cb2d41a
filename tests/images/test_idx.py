"""The IDX reader against bytes made by hand, folders, a local web server and the real data."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from collapseflow.images.sources import idx
from collapseflow.images.sources.prepare import check_class_names, read_source
from collapseflow.running.errors import UserError
from collapseflow.study.schema import Dataset

#: Folders mnist and fashion-mnist; COLLAPSEFLOW_DATA may point elsewhere.
REAL_DATA = Path(
    os.environ.get("COLLAPSEFLOW_DATA") or Path(__file__).parents[3] / "shared" / "data"
)

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def encode(array):
    """IDX bytes of a uint8 array, from the format's description."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.tobytes()


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: rng.integers(0, 256, (20, 6, 5), dtype=np.uint8),
        TRAIN_LABELS: (np.arange(20) % 4).astype(np.uint8),
        TEST_IMAGES: rng.integers(0, 256, (8, 6, 5), dtype=np.uint8),
        TEST_LABELS: (np.arange(8) % 4).astype(np.uint8),
    }


@pytest.fixture(scope="module")
def contents(arrays):
    return {name: encode(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def digests(contents):
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def assert_equals(splits, arrays):
    np.testing.assert_array_equal(splits.train.images, arrays[TRAIN_IMAGES])
    np.testing.assert_array_equal(splits.train.labels, arrays[TRAIN_LABELS])
    np.testing.assert_array_equal(splits.test.images, arrays[TEST_IMAGES])
    np.testing.assert_array_equal(splits.test.labels, arrays[TEST_LABELS])


def put(server, folder, contents, compress=True):
    """Serve the four files in one folder of the web server; return its address."""
    for name, content in contents.items():
        if compress:
            server.files[f"/{folder}/{name}.gz"] = gzip.compress(content)
        else:
            server.files[f"/{folder}/{name}"] = content
    return f"{server.address}/{folder}"


# --- the format -----------------------------------------------------------------------------


def test_parse_bytes_by_hand():
    content = b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes([1, 2, 3, 250, 251, 252])
    parsed = idx.parse(content)
    assert parsed.dtype == np.uint8
    assert parsed.tolist() == [[1, 2, 3], [250, 251, 252]]


@pytest.mark.parametrize(
    ("code", "character", "values"),
    [
        (0x09, "b", [-128, 0, 127]),
        (0x0B, "h", [-300, 0, 32767]),
        (0x0C, "i", [-70000, 0, 2**31 - 1]),
        (0x0D, "f", [-1.5, 0.0, 3.25]),
        (0x0E, "d", [-1.1, 0.0, 1e300]),
    ],
)
def test_parse_every_type_in_big_endian_order(code, character, values):
    content = struct.pack(f">BBBBI3{character}", 0, 0, code, 1, 3, *values)
    assert idx.parse(content).tolist() == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not the content"),
        (b"\0\0\x08", "not the content"),
        (b"<html>not found</html>", "not the content"),
        (b"\0\0\x07\x01\0\0\0\x01\x05", "not the content"),
        (b"\0\0\x08\x03\0\0\0\x01\0\0", "header"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", "4 bytes of data instead of 5"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", "4 bytes of data instead of 3"),
        (b"\0\0\x0c\x01\0\0\0\x02abcd", "4 bytes of data instead of 8"),
    ],
)
def test_parse_refuses_what_is_not_whole(content, message):
    with pytest.raises(UserError, match=message):
        idx.parse(content)


# --- folders --------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("as_address", [True, False], ids=["file address", "folder"])
def test_read_a_folder(tmp_path, cache, arrays, contents, digests, compress, as_address):
    folder = tmp_path / "my data"
    folder.mkdir()
    for name, content in contents.items():
        path = folder / (name + ".gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    location = folder.as_uri() if as_address else str(folder)
    splits = idx.read([location], digests, None, cache)
    assert_equals(splits, arrays)
    assert splits.class_names == ["0", "1", "2", "3"]
    assert location in splits.source
    # What lies on this machine already is not copied.
    assert not cache.exists()


def test_class_names_are_those_given(tmp_path, cache, contents):
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert idx.read([str(tmp_path)], {}, list("abcd"), cache).class_names == list("abcd")


@pytest.fixture
def from_one(tmp_path, arrays):
    """A folder of IDX files whose labels are 1, 2 and 4, the last among the test images alone."""
    train = (np.arange(20) % 2 + 1).astype(np.uint8)
    test = np.array([1, 2, 4, 4, 1, 2, 4, 1], np.uint8)
    for name, array in {**arrays, TRAIN_LABELS: train, TEST_LABELS: test}.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(encode(array)))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ["1", "2", "4"]),
        (["a", "b", "d"], ["a", "b", "d"]),
        (["none", "a", "b", "c", "d"], ["a", "b", "d"]),
    ],
)
def test_classes_are_the_numbers_that_occur(from_one, cache, given, expected):
    entry = Dataset(source="idx", location=str(from_one), class_names=given).entry()
    if given:
        check_class_names(entry, cache)
    splits = read_source(entry, test_fraction=0.2, seed=0, cache=cache)
    assert splits.class_names == expected
    assert splits.train.labels.tolist() == [0, 1] * 10
    assert splits.test.labels.tolist() == [0, 1, 2, 2, 0, 1, 2, 0]


def test_another_number_of_names_is_refused_before_and_when_images_are_read(from_one, cache):
    entry = Dataset(source="idx", location=str(from_one), class_names=list("abcd")).entry()
    line = "class_names: 4 names for 3 classes; allowed: 3 names, or 5, one for each number from 0"
    for ask in (lambda: check_class_names(entry, cache), lambda: read_source(entry, 0.2, 0, cache)):
        with pytest.raises(UserError) as caught:
            ask()
        assert str(caught.value) == line


def test_what_is_not_on_disk_is_not_asked_for_its_classes(from_one, web_server, cache, tmp_path):
    for places in ([web_server.address, str(from_one)], [str(tmp_path / "cache")]):
        entry = Dataset(source="idx", location=str(from_one), class_names=["a"]).entry()
        check_class_names({**entry, "location": places}, cache)
    assert web_server.requests == []


def test_files_may_lie_in_different_places(tmp_path, cache, arrays, contents, digests):
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, (name, content) in enumerate(contents.items()):
        folders[number % 2].mkdir(exist_ok=True)
        (folders[number % 2] / name).write_bytes(content)
    splits = idx.read([str(f) for f in folders], digests, None, cache)
    assert_equals(splits, arrays)
    assert all(str(f) in splits.source for f in folders)


def test_a_digest_of_an_unknown_file_is_refused(cache):
    with pytest.raises(UserError, match="train-images.gz.*allowed.*train-images-idx3-ubyte"):
        idx.read([], {"train-images.gz": "0" * 64}, None, cache)


# --- web addresses --------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_read_from_the_web_and_keep_it(web_server, cache, arrays, contents, digests, compress):
    location = put(web_server, "good", contents, compress)
    splits = idx.read([location, f"{web_server.address}/spare"], digests, None, cache)
    assert_equals(splits, arrays)
    assert not any("spare" in path for path in web_server.requests)
    kept = {p.read_bytes() for p in cache.rglob("*ubyte")}
    assert kept == set(contents.values())


def test_a_second_read_asks_nobody(web_server, cache, arrays, contents, digests):
    location = put(web_server, "good", contents)
    first = idx.read([location], digests, None, cache)
    web_server.requests.clear()
    second = idx.read([location], digests, None, cache)
    assert web_server.requests == []
    assert_equals(second, arrays)
    assert second.source == first.source


def test_a_damaged_kept_file_is_fetched_again(web_server, cache, arrays, contents, digests):
    location = put(web_server, "good", contents)
    idx.read([location], digests, None, cache)
    web_server.requests.clear()
    (kept,) = cache.rglob(TEST_IMAGES)
    kept.write_bytes(contents[TEST_IMAGES][:-1] + b"\0\0")
    assert_equals(idx.read([location], digests, None, cache), arrays)
    assert web_server.requests == [f"/good/{TEST_IMAGES}.gz"]
    assert kept.read_bytes() == contents[TEST_IMAGES]


def test_without_a_digest_nothing_is_kept(web_server, cache, arrays, contents):
    location = put(web_server, "good", contents)
    for _ in range(2):
        assert_equals(idx.read([location], {}, None, cache), arrays)
    assert len(web_server.requests) == 8
    assert not cache.exists()


def test_a_download_without_a_digest_is_told(web_server, tmp_path, cache, contents, digests):
    location = put(web_server, "good", contents)
    some = {name: digests[name] for name in digests if name != TEST_IMAGES}
    assert idx.read([location], some, None, cache).source == (
        f"IDX files from {location}; downloaded without a digest (sha256): {TEST_IMAGES}"
    )
    assert idx.read([location], digests, None, cache).source == f"IDX files from {location}"


def damage(server, name, content, how):
    """Make the copy of one file in the folder ``bad`` unusable."""
    path = f"/bad/{name}.gz"
    if how == "wrong digest":
        server.files[path] = gzip.compress(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "cut off on the way":
        server.cut.add(path)
    elif how == "cut off on the server":
        server.files[path] = server.files[path][:-9]
    elif how == "not compressed":
        server.files[path] = b"<html>please log in</html>"
    elif how == "404":
        del server.files[path]
    elif how == "500":
        server.failures[path] = [500] * 10


DAMAGES = (
    "wrong digest",
    "cut off on the way",
    "cut off on the server",
    "not compressed",
    "404",
    "500",
)


@pytest.mark.parametrize("how", DAMAGES)
def test_the_next_mirror_steps_in(web_server, cache, arrays, contents, digests, how):
    bad = put(web_server, "bad", contents)
    good = put(web_server, "good", contents)
    damage(web_server, TRAIN_LABELS, contents[TRAIN_LABELS], how)
    splits = idx.read([bad, good], digests, None, cache, retries=0)
    assert_equals(splits, arrays)
    from_good = [path for path in web_server.requests if path.startswith("/good")]
    assert from_good == [f"/good/{TRAIN_LABELS}.gz"]
    assert bad in splits.source and good in splits.source


@pytest.mark.parametrize("how", DAMAGES)
def test_nowhere_whole_names_the_file_and_each_place(
    web_server, cache, tmp_path, contents, digests, how
):
    bad = put(web_server, "bad", contents)
    damage(web_server, TEST_LABELS, contents[TEST_LABELS], how)
    places = [bad, f"{web_server.address}/empty", str(tmp_path / "no-folder")]
    with pytest.raises(UserError) as caught:
        idx.read(places, digests, None, cache, retries=0)
    text = str(caught.value)
    if how == "wrong digest":
        assert digests[TEST_LABELS] in text
    # Only the damaged file is missing everywhere: the others came from the first place.
    assert text.startswith(f"{TEST_LABELS}:")
    assert all(place in text for place in places)
    assert "\n" not in text
    assert not list(cache.rglob(TEST_LABELS))


def test_a_page_instead_of_the_file_is_passed_over_even_without_a_digest(
    web_server, cache, arrays, contents
):
    bad = put(web_server, "bad", contents, compress=False)
    web_server.files[f"/bad/{TRAIN_IMAGES}"] = b"<html>moved</html>"
    good = put(web_server, "good", contents)
    assert_equals(idx.read([bad, good], {}, None, cache, retries=0), arrays)
    with pytest.raises(UserError, match=TRAIN_IMAGES):
        idx.read([bad], {}, None, cache, retries=0)


def test_a_busy_server_is_asked_again(web_server, cache, arrays, contents, digests, monkeypatch):
    monkeypatch.setattr(idx, "pause", lambda seconds: None)
    location = put(web_server, "good", contents)
    web_server.failures[f"/good/{TRAIN_IMAGES}.gz"] = [503, 502]
    assert_equals(idx.read([location], digests, None, cache, retries=2), arrays)
    assert web_server.requests.count(f"/good/{TRAIN_IMAGES}.gz") == 3


def test_what_a_server_refuses_is_asked_once(web_server, cache, contents, digests):
    location = put(web_server, "good", contents, compress=False)
    idx.read([location], digests, None, cache, retries=2)
    assert web_server.requests.count(f"/good/{TRAIN_IMAGES}.gz") == 1


# --- the real data --------------------------------------------------------------------------

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
#: As the README of Fashion-MNIST lists them.
CLOTHES = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]


@pytest.mark.parametrize(
    ("source", "folder", "train_counts", "test_counts", "first_labels", "class_names"),
    [
        ("mnist", "mnist", MNIST_TRAIN, MNIST_TEST, [5, 0, 4, 1, 9], list("0123456789")),
        ("fashion_mnist", "fashion-mnist", [6000] * 10, [1000] * 10, [9, 0, 0, 3, 0], CLOTHES),
    ],
    ids=["mnist", "fashion_mnist"],
)
def test_the_real_data_have_the_published_digests(
    cache, source, folder, train_counts, test_counts, first_labels, class_names
):
    if not (REAL_DATA / folder).is_dir():
        pytest.skip(
            f"no folder {folder} in shared/data beside the project; "
            "COLLAPSEFLOW_DATA may point elsewhere"
        )
    entry = Dataset(source=source, location=[str(REAL_DATA / folder)]).model_dump()
    splits = read_source(entry, test_fraction=0.2, seed=0, cache=cache)
    assert splits.train.images.shape == (60_000, 28, 28)
    assert splits.test.images.shape == (10_000, 28, 28)
    assert np.bincount(splits.train.labels).tolist() == train_counts
    assert np.bincount(splits.test.labels).tolist() == test_counts
    assert splits.train.labels[:5].tolist() == first_labels
    assert splits.class_names == class_names


def test_the_digests_of_known_data_sets_refuse_other_data(tmp_path, cache, contents):
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    entry = Dataset(source="mnist", location=[str(tmp_path)]).model_dump()
    with pytest.raises(UserError, match="SHA-256"):
        read_source(entry, test_fraction=0.2, seed=0, cache=cache)
