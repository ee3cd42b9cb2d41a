"""A folder of one's own images, against Pillow and hand-made pictures."""

import hashlib
import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from collapseflow.images.datasets import read_info
from collapseflow.images.sources import folder
from collapseflow.images.sources.pictures import decode_one
from collapseflow.images.sources.prepare import prepare_dataset
from collapseflow.running.errors import UserError
from collapseflow.study.schema import Dataset, load


def write(path, levels, mode=None, **options):
    """Write an array as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(levels))
    (image.convert(mode) if mode else image).save(path, **options)


def grey(level, height=6, width=6):
    return np.full((height, width), level, np.uint8)


def colour(rgb, height=6, width=6):
    return np.full((height, width, 3), rgb, np.uint8)


def read(root, size=None, test_fraction=0.5, threads=2, on_bad_image="stop", fit="crop"):
    return folder.read(root, size, test_fraction, 0, threads, on_bad_image, fit)


def levels_of(splits):
    """The images of an undivided folder in the order of their files."""
    images = np.concatenate([splits.train.images, splits.test.images])
    return images[np.argsort(np.concatenate([splits.train.ids, splits.test.ids]))]


def refused(root, **options):
    """The one line in which a folder is refused."""
    with pytest.raises(UserError) as caught:
        read(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def two_classes(tmp_path):
    """Two grey classes of four pictures each, undivided."""
    for name, start in (("cat", 10), ("dog", 100)):
        for k in range(4):
            write(tmp_path / name / f"{k}.png", grey(start + k))
    return tmp_path


def test_an_undivided_folder_is_divided_class_by_class(two_classes):
    splits = read(two_classes, test_fraction=0.25)
    assert splits.class_names == ["cat", "dog"]
    assert np.bincount(splits.train.labels).tolist() == [3, 3]
    assert np.bincount(splits.test.labels).tolist() == [1, 1]
    levels = np.concatenate([splits.train.images[:, 0, 0], splits.test.images[:, 0, 0]])
    assert sorted(levels) == [10, 11, 12, 13, 100, 101, 102, 103]
    for part in (splits.train, splits.test):
        np.testing.assert_array_equal(part.labels, part.images[:, 0, 0] >= 100)
        assert part.images.shape[1:] == (6, 6)


def test_train_and_test_above_the_classes(tmp_path):
    for split, level in (("train", 1), ("test", 2)):
        for name, add in (("b", 10), ("a", 20)):
            write(tmp_path / split / name / "deeper" / "x.PNG", grey(level + add))
    splits = read(tmp_path)
    assert splits.class_names == ["a", "b"]
    assert splits.train.images[:, 0, 0].tolist() == [21, 11]
    assert splits.test.images[:, 0, 0].tolist() == [22, 12]
    assert splits.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "webp", "tif", "tiff"])
def test_every_format_is_what_pillow_reads(tmp_path, suffix):
    rng = np.random.default_rng(0)
    paths = [tmp_path / c / f"{k}.{suffix}" for c in "ab" for k in range(2)]
    for path in paths:
        write(path, rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    splits = read(tmp_path)
    found = np.empty((4, 8, 8, 3), np.uint8)
    for part in (splits.train, splits.test):
        found[part.ids] = part.images
    expected = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    np.testing.assert_array_equal(found, expected)


def test_the_shorter_side_is_resized_and_the_centre_cut(tmp_path):
    # Left third dark, middle grey, right third bright: the centre square is the middle.
    wide = np.repeat([0, 120, 255], 30)[None].repeat(30, 0).astype(np.uint8)
    write(tmp_path / "a" / "wide.png", wide)
    write(tmp_path / "a" / "tall.png", wide.T)
    write(tmp_path / "b" / "one.png", grey(7, 5, 40))
    write(tmp_path / "b" / "two.png", grey(7, 40, 5))
    splits = read(tmp_path, size=10)
    images = np.concatenate([splits.train.images, splits.test.images])
    assert images.shape == (4, 10, 10)
    assert sorted(images.mean(axis=(1, 2)).round()) == [7, 7, 120, 120]


def test_unequal_sizes_need_the_key_size(two_classes):
    write(two_classes / "cat" / "wide.png", grey(0, 6, 9))
    message = refused(two_classes)
    assert "0.png: 6 x 6" in message
    assert "wide.png: 9 x 6" in message
    assert message.endswith("set the key 'size'")


def test_grey_among_colours_gets_three_channels(two_classes):
    write(two_classes / "dog" / "4.png", colour((255, 0, 9)))
    splits = read(two_classes, test_fraction=0.3)
    images = np.concatenate([splits.train.images, splits.test.images])
    assert images.shape == (9, 6, 6, 3)
    assert sorted(map(tuple, images[:, 0, 0]))[:2] == [(10, 10, 10), (11, 11, 11)]
    assert (255, 0, 9) in map(tuple, images[:, 0, 0])


def test_modes_by_hand(tmp_path):
    def level(name, image, **options):
        image.save(tmp_path / name, **options)
        return decode_one(tmp_path / name, None).levels[0, 0].tolist()

    assert level("bits.png", Image.new("1", (3, 3), 1)) == 255
    assert level("palette.png", Image.new("RGB", (3, 3), (10, 200, 30)).quantize()) == [10, 200, 30]
    sixteen = Image.fromarray(np.full((3, 3), 0x4F21, np.uint16))
    assert level("sixteen.png", sixteen) == 0x4F21
    assert level("sixteen.tif", sixteen) == 0x4F21
    assert level("clear.png", Image.new("RGBA", (3, 3), (0, 0, 0, 0))) == [255, 255, 255]
    assert level("opaque.png", Image.new("RGBA", (3, 3), (5, 6, 7, 255))) == [5, 6, 7]
    assert level("grey_clear.png", Image.new("LA", (3, 3), (9, 0))) == 255


def test_a_camera_s_note_turns_the_picture_upright(tmp_path):
    levels = np.zeros((4, 8), np.uint8)
    levels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise: left becomes top.
    Image.fromarray(levels).save(tmp_path / "phone.png", exif=exif)
    upright = decode_one(tmp_path / "phone.png", None).levels
    assert upright.shape == (8, 4)
    assert upright[:4].min() == 255
    assert upright[4:].max() == 0


def test_all_that_cannot_be_read_is_named_in_one_line(two_classes):
    write(two_classes / "cat" / "print.jpg", colour((1, 2, 3)), mode="CMYK")
    (two_classes / "cat" / "text.png").write_text("no picture")
    whole = (two_classes / "dog" / "0.png").read_bytes()
    (two_classes / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    frames = [Image.fromarray(grey(k)) for k in range(3)]
    frames[0].save(two_classes / "dog" / "pages.tif", save_all=True, append_images=frames[1:])
    message = refused(two_classes)
    assert "4 of 12 files cannot be read" in message
    assert f"cat{os.sep}print.jpg (CMYK values; convert it to RGB or grey)" in message
    assert f"cat{os.sep}text.png (no image that Pillow reads)" in message
    assert f"dog{os.sep}cut.png (" in message
    assert f"dog{os.sep}pages.tif (holds 3 images)" in message


def test_a_link_that_leads_nowhere_is_named(two_classes):
    (two_classes / "cat" / "lost.png").symlink_to(two_classes / "gone.png")
    assert len(folder.content(two_classes)) > 0
    message = refused(two_classes)
    assert "1 of 9 files cannot be read" in message
    assert f"cat{os.sep}lost.png ([Errno 2] No such file or directory" in message


def test_files_that_are_no_images_are_named_with_those_that_cannot_be_read(two_classes):
    (two_classes / "cat" / "notes.txt").write_text("x")
    (two_classes / "dog" / "broken.png").write_text("x")
    write(two_classes / "loose.png", grey(1))
    (two_classes / "README.txt").write_text("not among the classes")
    (two_classes / "cat" / ".DS_Store").write_bytes(b"")
    (two_classes / "cat" / "Thumbs.db").write_bytes(b"")
    message = refused(two_classes)
    assert "3 of 11 files cannot be read as images of a class" in message
    assert f"dog{os.sep}broken.png (no image that Pillow reads)" in message
    assert "loose.png (in no class's folder)" in message
    assert f"cat{os.sep}notes.txt" in message


def test_an_empty_class_is_named(two_classes):
    (two_classes / "bird").mkdir()
    (two_classes / "bird" / "notes.txt").write_text("x")
    assert f"no image that can be read in {two_classes.name}/bird" in refused(two_classes)


def test_a_class_must_be_in_both_parts(tmp_path):
    for split, names in (("train", "abc"), ("test", "ab")):
        for name in names:
            write(tmp_path / split / name / "x.png", grey(1))
    assert "no image that can be read in test/c" in refused(tmp_path)


@pytest.mark.parametrize(("names", "found"), [("a", "the one class 'a'"), ("", "no folder")])
def test_one_class_is_none(tmp_path, names, found):
    for name in names:
        write(tmp_path / name / "x.png", grey(1))
    assert found in refused(tmp_path)


def test_train_without_test_is_refused(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            write(tmp_path / split / name / "x.png", grey(1))
    message = refused(tmp_path)
    assert "has train/ with classes in it, but no test/" in message
    assert message.endswith("rename val/ if its images are to be the test images")


def test_a_class_too_small_to_be_divided_is_named(two_classes):
    write(two_classes / "bird" / "only.png", grey(3))
    message = refused(two_classes, test_fraction=0.2)
    assert "leaves no test image of bird" in message


def test_the_number_of_threads_changes_nothing(two_classes):
    one, four = (read(two_classes, threads=threads) for threads in (1, 4))
    np.testing.assert_array_equal(one.train.images, four.train.images)
    np.testing.assert_array_equal(one.test.ids, four.test.ids)


def test_the_content_changes_with_the_files(two_classes):
    before = folder.content(two_classes)
    assert folder.content(two_classes) == before
    write(two_classes / "cat" / "new.png", grey(1))
    added = folder.content(two_classes)
    assert added != before
    (two_classes / "cat" / "new.png").unlink()
    assert folder.content(two_classes) == before
    os.utime(two_classes / "dog" / "0.png", ns=(1, 1))
    assert folder.content(two_classes) != before


# --- folders of training and test images ------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("TRAIN", "test"), ("Training", "Testing")]
)
def test_training_and_test_images_in_whatever_case(tmp_path, train, test):
    for part, level in ((train, 1), (test, 2)):
        for name, add in (("a", 10), ("b", 20)):
            write(tmp_path / part / name / "x.png", grey(level + add))
    splits = read(tmp_path)
    assert splits.class_names == ["a", "b"]
    assert splits.train.images[:, 0, 0].tolist() == [11, 21]
    assert splits.test.images[:, 0, 0].tolist() == [12, 22]


def test_two_folders_of_training_images_are_refused(tmp_path):
    for part in ("Train", "train", "test"):
        for name in "ab":
            write(tmp_path / part / name / "x.png", grey(1))
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system takes Train and train for one name")
    assert "has Train/ and train/; allowed: one of them" in refused(tmp_path)


def test_what_stands_beside_is_left_out_and_said(tmp_path, caplog):
    for part in ("train", "test", "val"):
        for name in "ab":
            write(tmp_path / part / name / "x.png", grey(1))
    (tmp_path / "notes").mkdir()
    splits = read(tmp_path)
    assert len(splits.train.labels) == len(splits.test.labels) == 2
    assert splits.source == f"images in the folder {tmp_path.name}; not read: val/ with 2 images"
    assert "not read: val/ with 2 images" in caplog.text
    assert "not read: notes/ with 0 images" in caplog.text


# --- 16-bit files -------------------------------------------------------------------------------


def write_png(path, levels):
    """A PNG with 16 bits for each value, grey or colour, which Pillow does not write."""

    def chunk(kind, data):
        content = kind + data
        return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))

    levels = np.asarray(levels, np.uint16)
    height, width = levels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if levels.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize(
    ("largest", "bits", "divisor"),
    [(255, 8, 1), (256, 10, 4), (4095, 12, 16), (4096, 14, 64), (16384, 16, 256), (65535, 16, 256)],
)
def test_16_bit_levels_are_divided_by_one_number_for_all(tmp_path, largest, bits, divisor):
    levels = {"a": [0, 100, 200], "b": [77, 150, largest]}
    for name, values in levels.items():
        for k, value in enumerate(values):
            write(tmp_path / name / f"{k}.png", np.full((6, 6), value, np.uint16))
    splits = read(tmp_path, test_fraction=0.34)
    expected = [value // divisor for name in "ab" for value in levels[name]]
    assert levels_of(splits)[:, 0, 0].tolist() == expected
    assert splits.source.endswith(f"; 6 of 16 bits use {bits}, divided by {divisor}")


def test_8_bit_files_among_16_bit_ones_stay_as_they_are(two_classes):
    write(two_classes / "cat" / "9.tif", np.full((6, 6), 0x0FF0, np.uint16))
    splits = read(two_classes, test_fraction=0.3)
    levels = levels_of(splits)[:, 0, 0].tolist()
    assert levels == [10, 11, 12, 13, 0xFF, 100, 101, 102, 103]
    assert "1 of 16 bits use 12, divided by 16" in splits.source
    only_eight = read(two_classes, test_fraction=0.3, on_bad_image="skip").source
    (two_classes / "cat" / "9.tif").unlink()
    assert "16 bits" in only_eight and "bits" not in read(two_classes).source


def test_16_bit_levels_are_resized_before_they_are_divided(tmp_path):
    # Every second column is 4080, the others 16: their mean is 2048, 128 of 255.
    stripes = np.tile(np.array([4080, 16], np.uint16), (40, 20))
    for name in "ab":
        for k in range(2):
            write(tmp_path / name / f"{k}.png", stripes)
    images = levels_of(read(tmp_path, size=4))
    assert images.dtype == np.uint8
    np.testing.assert_allclose(images[:, 1:3, 1:3], 128, atol=1)


def test_16_bit_colours_are_read_where_they_use_16_bits(tmp_path):
    for name in "ab":
        for k in range(2):
            write_png(tmp_path / name / f"{k}.png", np.full((6, 6, 3), (0xFF00, 0x1234, 0), int))
    splits = read(tmp_path)
    assert levels_of(splits)[:, 0, 0].tolist() == [[0xFF, 0x12, 0]] * 4
    assert "4 of 16 bits use 16, divided by 256" in splits.source


def test_16_bit_colours_of_fewer_bits_are_refused_and_not_black(two_classes):
    write_png(two_classes / "cat" / "dark.png", np.full((6, 6, 3), 0x0FFF, int))
    message = refused(two_classes)
    assert f"cat{os.sep}dark.png (16-bit colours that use 12 bits; convert it to 8 bits)" in message
    left_out = read(two_classes, on_bad_image="skip").source
    assert "left out 1 of 9 files: cat" in left_out and "divided" not in left_out


# --- files that cannot be used ------------------------------------------------------------------


@pytest.fixture
def littered(two_classes):
    """Two classes with 13 files that are no images, two damaged ones, and another size."""
    for k in range(13):
        (two_classes / "cat" / f"note{k:02}.txt").write_text("x")
    for name in ("broken.png", "cut.jpg"):
        (two_classes / "dog" / name).write_text("x")
    return two_classes


def test_everything_that_is_wrong_is_said_at_once_and_shortened(littered):
    (littered / "bird").mkdir()
    write(littered / "dog" / "wide.png", grey(1, 6, 9))
    message = refused(littered)
    assert f"no image that can be read in {littered.name}/bird" in message
    assert "15 of 24 files cannot be read as images of a class" in message
    assert f"cat{os.sep}note09.txt" in message and "note10" not in message
    assert " and 5 more, or set the key 'on_bad_image' to 'skip'" in message
    assert "images differ in size" in message and message.endswith("set the key 'size'")


def test_what_is_skipped_is_counted_and_named(littered, caplog):
    splits = read(littered, on_bad_image="skip")
    assert levels_of(splits)[:, 0, 0].tolist() == [10, 11, 12, 13, 100, 101, 102, 103]
    note = "(no ending of a picture that Pillow reads)"
    named = "; ".join(f"cat{os.sep}note{k:02}.txt {note}" for k in range(3))
    assert splits.source.endswith(f"; left out 15 of 23 files: {named} and 12 more")
    assert f"note12.txt {note}" in caplog.text
    assert f"dog{os.sep}broken.png (no image that Pillow reads)" in caplog.text


def test_an_image_keeps_its_number_when_another_is_skipped(two_classes):
    whole = read(two_classes)
    (two_classes / "cat" / "1.png").write_text("x")
    skipped = read(two_classes, on_bad_image="skip")
    for splits in (whole, skipped):
        for part in (splits.train, splits.test):
            expected = np.array([10, 11, 12, 13, 100, 101, 102, 103])[part.ids]
            assert part.images[:, 0, 0].tolist() == expected.tolist()


def test_a_class_of_which_nothing_is_left_is_named_also_where_files_are_skipped(two_classes):
    (two_classes / "bird").mkdir()
    (two_classes / "bird" / "0.png").write_text("x")
    message = refused(two_classes, on_bad_image="skip")
    assert f"no image that can be read in {two_classes.name}/bird" in message


def test_the_file_of_a_data_set_says_what_was_skipped(littered, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "d.h5"
    entry = Dataset(source="folder", location=str(littered), on_bad_image="skip").entry()
    prepare_dataset(entry, 0.5, 0, path.parent, path)
    assert "left out 15 of 23 files" in read_info(path).source
    with pytest.raises(UserError, match="15 of 23 files cannot be read"):
        entry = Dataset(source="folder", location=str(littered)).entry()
        prepare_dataset(entry, 0.5, 0, path.parent, path)


def test_a_file_s_name_that_is_no_text_is_told(two_classes):
    try:
        (two_classes / "cat" / os.fsdecode(b"\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    assert "\N{REPLACEMENT CHARACTER}.txt" in read(two_classes, on_bad_image="skip").source
    assert "\N{REPLACEMENT CHARACTER}.txt" in refused(two_classes)


def test_what_is_no_regular_file_is_named_and_not_waited_for(two_classes):
    os.mkfifo(two_classes / "cat" / "pipe.png")
    assert "1 of 9 files cannot be read as images of a class; replace or remove cat/pipe.png (no " \
        "regular file)" in refused(two_classes)  # fmt: skip
    source = read(two_classes, on_bad_image="skip").source
    assert source.endswith("left out 1 of 9 files: cat/pipe.png (no regular file)")


def test_a_class_that_is_a_link_to_another_is_not_read_twice(two_classes):
    (two_classes / "lion").symlink_to(two_classes / "cat")
    line = refused(two_classes)
    assert "no image that can be read in " in line and "/lion" in line
    assert "lion/0.png (by a link the same file as cat/0.png)" in line


def test_a_test_image_that_is_a_link_to_a_training_image_is_refused(tmp_path):
    for split, level in (("train", 1), ("test", 2)):
        for name, add in (("b", 10), ("a", 20)):
            write(tmp_path / split / name / "x.png", grey(level + add))
    (tmp_path / "test" / "a" / "y.png").symlink_to("../../train/a/x.png")
    assert "test/a/y.png (by a link the same file as train/a/x.png)" in refused(tmp_path)
    splits = read(tmp_path, on_bad_image="skip")
    assert splits.test.images[:, 0, 0].tolist() == [22, 12]


def test_links_to_files_elsewhere_are_images(two_classes, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "7.png"
    write(elsewhere, grey(17))
    (two_classes / "cat" / "7.png").symlink_to(elsewhere)
    assert 17 in levels_of(read(two_classes))


def test_a_link_to_a_folder_above_is_refused(two_classes):
    (two_classes / "cat" / "all").symlink_to(two_classes)
    for reading in (read, folder.content):
        with pytest.raises(UserError, match="is a link to a folder that it lies in; remove the li"):
            reading(two_classes)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", "turned\u202e".encode()])
def test_a_class_whose_name_cannot_be_printed_is_refused_before_its_images_are_read(
    two_classes, name
):
    try:
        (two_classes / "dog").rename(two_classes / os.fsdecode(name))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    with pytest.raises(UserError) as caught:
        load({"study": "x", "datasets": {"a": {"source": "folder", "location": str(two_classes)}}})
    assert str(caught.value) == (
        f"config key datasets.a.location: {two_classes}: the class {name} has a name that is no "
        "text in UTF-8, or has control characters; rename its folder"
    )


def test_a_sample_of_one_class_is_refused(two_classes, tmp_path):
    for k in range(4, 40):
        write(two_classes / "cat" / f"{k}.png", grey(k))
    entry = Dataset(source="folder", location=str(two_classes), subset={"train": 2}).entry()
    with pytest.raises(UserError, match="^all training images are of one class; allowed: "):
        prepare_dataset(entry, 0.5, 0, tmp_path, tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


# --- what a study's check says ------------------------------------------------------------------


def test_a_study_s_check_counts_the_classes_of_a_folder(two_classes):
    dataset = {"source": "folder", "location": str(two_classes)}
    names = {"study": "x", "datasets": {"pets": {**dataset, "class_names": ["a", "b", "c"]}}}
    with pytest.raises(UserError) as caught:
        load(names)
    assert str(caught.value) == (
        f"config key datasets.pets.class_names: 3 names for the 2 classes of {two_classes}; "
        "allowed: 2 names"
    )
    (two_classes / "dog").rename(two_classes / "train")
    write(two_classes / "train" / "a" / "0.png", grey(1))
    with pytest.raises(UserError, match="config key datasets.pets.location: .* but no test/"):
        load({"study": "x", "datasets": {"pets": dataset}})


def test_the_home_folder_may_be_written_as_a_tilde(two_classes, monkeypatch):
    monkeypatch.setenv("HOME", str(two_classes.parent))
    location = f"~/{two_classes.name}"
    entry = Dataset(source="folder", location=location).entry()
    assert len(read(entry["location"][0]).train.labels) == 4
    assert folder.content(location) == folder.content(two_classes)


def test_a_data_set_of_before_there_was_a_choice_keeps_its_entry(two_classes):
    dataset = {"source": "folder", "location": str(two_classes)}
    assert "on_bad_image" not in Dataset(**dataset).entry()
    assert Dataset(**dataset, on_bad_image="skip").entry()["on_bad_image"] == "skip"


# --- formats, sizes and fits ------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix", ["bmp", "dib", "ppm", "pcx", "tga", "sgi", "jp2", "ico", "msp", "xbm", "qoi"]
)
def test_whatever_pillow_reads_is_an_image(tmp_path, suffix):
    # Only some have more than two levels, and only some lose nothing.
    mode = "1" if suffix in ("msp", "xbm") else "RGB"
    levels = np.zeros((16, 16, 3), np.uint8)
    levels[4:12, 4:12] = 255
    for name in "ab":
        for k in range(2):
            write(tmp_path / name / f"{k}.{suffix.upper()}", levels, mode, format=FORMATS[suffix])
    found = levels_of(read(tmp_path))
    expected = np.asarray(Image.open(tmp_path / "a" / f"0.{suffix.upper()}").convert("RGB"))
    assert found.shape[:3] == (4, 16, 16)
    np.testing.assert_array_equal(found.reshape(4, 16, 16, -1)[1, ..., 0], expected[..., 0])


Image.init()
FORMATS = {suffix[1:]: name for suffix, name in Image.registered_extensions().items()}


def test_of_a_moving_picture_the_first_frame_is_the_image(tmp_path):
    for name in "ab":
        for k in range(2):
            frames = [Image.fromarray(colour((10 * k + 1, 9, f))) for f in (200, 100)]
            path = tmp_path / name / f"{k}.gif"
            path.parent.mkdir(exist_ok=True)
            frames[0].save(path, save_all=True, append_images=frames[1:])
    found = levels_of(read(tmp_path))[:, 0, 0].tolist()
    assert found == [[1, 9, 200], [11, 9, 200]] * 2


def test_gifs_of_grey_levels_are_grey(tmp_path):
    for name in "ab":
        for k in range(2):
            write(tmp_path / name / f"{k}.gif", np.arange(100, 136, dtype=np.uint8).reshape(6, 6))
    found = levels_of(read(tmp_path))
    np.testing.assert_array_equal(found, [np.arange(100, 136).reshape(6, 6)] * 4)


def test_16_bits_of_pgm_files_are_levels(tmp_path):
    for name in "ab":
        for k in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            content = np.full((4, 4), 0x1200 * (k + 1), ">u2").tobytes()
            (tmp_path / name / f"{k}.pgm").write_bytes(b"P5 4 4 65535\n" + content)
    splits = read(tmp_path)
    assert levels_of(splits)[:, 0, 0].tolist() == [0x48, 0x90] * 2
    assert "4 of 16 bits use 14, divided by 64" in splits.source


def test_what_other_programs_would_decode_is_no_image(two_classes):
    # Pillow hands EPS to Ghostscript.
    (two_classes / "cat" / "x.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )
    (two_classes / "cat" / "y.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )
    message = refused(two_classes)
    assert f"cat{os.sep}x.eps (no ending of a picture that Pillow reads)" in message
    assert f"cat{os.sep}y.png (no image that Pillow reads)" in message


def test_a_format_that_no_first_bytes_tell_needs_its_ending(tmp_path):
    write(tmp_path / "a.tga", colour((1, 2, 3)))
    content = (tmp_path / "a.tga").read_bytes()
    assert decode_one(tmp_path / "a.tga", None).levels[0, 0].tolist() == [1, 2, 3]
    (tmp_path / "a.png").write_bytes(content)
    for file in (tmp_path / "a.png", io.BytesIO(content)):
        assert decode_one(file, None) == "no image that Pillow reads"
    write(tmp_path / "b.bmp", colour((1, 2, 3)))
    (tmp_path / "b.png").write_bytes((tmp_path / "b.bmp").read_bytes())
    assert decode_one(tmp_path / "b.png", None).levels[0, 0].tolist() == [1, 2, 3]


def halves(height, width):
    """Dark on the left, bright on the right."""
    levels = np.full((height, width), 40, np.uint8)
    levels[:, width // 2 :] = 240
    return levels


@pytest.fixture
def wide(tmp_path):
    """Pictures of 20 x 40 pixels, and of 40 x 20 on their side."""
    for name in "ab":
        for k in range(2):
            write(tmp_path / name / f"{k}.png", halves(20, 40) if k else halves(20, 40).T)
    return tmp_path


def test_a_height_and_a_width_are_filled_and_the_rest_cut(wide):
    standing, lying, *_ = levels_of(read(wide, size=[10, 20]))
    # 20 x 40 is halved; of 40 x 20 the middle stays, which is half dark and half bright.
    np.testing.assert_array_equal(lying[:, [0, -1]], [[40, 240]] * 10)
    np.testing.assert_array_equal(standing[[0, -1]], [[40] * 20, [240] * 20])
    assert standing.shape == lying.shape == (10, 20)


def test_padding_keeps_the_whole_picture_on_black(wide):
    standing, lying, *_ = levels_of(read(wide, size=16, fit="pad"))
    np.testing.assert_array_equal(lying[:4], 0)
    np.testing.assert_array_equal(lying[12:], 0)
    np.testing.assert_array_equal(lying[4:12, [0, -1]], [[40, 240]] * 8)
    np.testing.assert_array_equal(standing, lying.T)
    lying = levels_of(read(wide, size=[16, 64], fit="pad"))[1]
    np.testing.assert_array_equal((lying > 0).any(axis=0), np.abs(np.arange(64) - 31.5) < 16)


def test_squashing_changes_the_proportions_as_pillow_does(wide):
    for k, found in enumerate(levels_of(read(wide, size=[12, 12], fit="squash"))[:2]):
        with Image.open(wide / "a" / f"{k}.png") as image:
            expected = image.resize((12, 12), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found, expected)


def test_16_bit_levels_and_thin_pictures_are_padded_too(tmp_path):
    for name in "ab":
        write(tmp_path / name / "0.png", np.full((3, 300), 0xFFFF, np.uint16))
        write(tmp_path / name / "1.png", np.full((300, 3), 0xFFFF, np.uint16))
    found = levels_of(read(tmp_path, size=8, fit="pad"))
    assert (found == 255).sum(axis=(1, 2)).tolist() == [8] * 4


def test_a_number_is_a_square(wide):
    for fit in ("crop", "pad", "squash"):
        one, two = (levels_of(read(wide, size=size, fit=fit)) for size in (12, [12, 12]))
        np.testing.assert_array_equal(one, two)


def test_folders_that_were_read_before_keep_their_content(two_classes):
    # What Snakemake compares, made by hand; another value would have all folders read anew.
    listing = []
    for path in sorted(two_classes.glob("*/*.png")):
        status = path.stat()
        name = path.relative_to(two_classes)
        listing.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    reading = "divided by the names in PARTS; 16-bit levels by the bits that they need"
    content = json.dumps({"files": listing, "reading": reading}, sort_keys=True)
    assert folder.content(two_classes) == hashlib.sha256(content.encode()).hexdigest()[:16]
    entry = Dataset(source="folder", location=[str(two_classes)], size=8).entry()
    assert not {"fit", "columns", "on_bad_image"} & set(entry)


def test_images_are_called_by_their_files(tmp_path):
    for split, level in (("train", 1), ("test", 2)):
        for name, add in (("b", 10), ("ä", 20)):
            write(tmp_path / split / name / "deeper" / "x y.png", grey(level + add))
    splits = read(tmp_path)
    for part, image in (("train", 11), ("test", 12)):
        split = getattr(splits, part)
        names = [os.path.join(part, name, "deeper", "x y.png") for name in ("b", "ä")]
        assert split.names.tolist() == names
        assert split.images[:, 0, 0].tolist() == [image, image + 10]
