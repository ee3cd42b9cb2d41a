"""A folder of one's own images, against Pillow and hand-made pictures."""

import os

import numpy as np
import pytest
from PIL import Image

from collapseflow.images.sources import folder
from collapseflow.running.errors import UserError


def write(path, levels, mode=None, **options):
    """Write an array as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(levels))
    (image.convert(mode) if mode else image).save(path, **options)


def grey(level, height=6, width=6):
    return np.full((height, width), level, np.uint8)


def colour(rgb, height=6, width=6):
    return np.full((height, width, 3), rgb, np.uint8)


def read(root, size=None, test_fraction=0.5, threads=2):
    return folder.read(root, size, test_fraction, seed=0, threads=threads)


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
        return np.asarray(folder.decode_one(tmp_path / name, None))[0, 0].tolist()

    assert level("bits.png", Image.new("1", (3, 3), 1)) == 255
    assert level("palette.png", Image.new("RGB", (3, 3), (10, 200, 30)).quantize()) == [10, 200, 30]
    sixteen = Image.fromarray(np.full((3, 3), 0x4F21, np.uint16))
    assert level("sixteen.png", sixteen) == 0x4F
    assert level("sixteen.tif", sixteen) == 0x4F
    assert level("clear.png", Image.new("RGBA", (3, 3), (0, 0, 0, 0))) == [255, 255, 255]
    assert level("opaque.png", Image.new("RGBA", (3, 3), (5, 6, 7, 255))) == [5, 6, 7]
    assert level("grey_clear.png", Image.new("LA", (3, 3), (9, 0))) == 255


def test_a_camera_s_note_turns_the_picture_upright(tmp_path):
    levels = np.zeros((4, 8), np.uint8)
    levels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise: left becomes top.
    Image.fromarray(levels).save(tmp_path / "phone.png", exif=exif)
    upright = folder.decode_one(tmp_path / "phone.png", None)
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
    assert f"cat{os.sep}text.png (no JPEG, PNG, WebP or TIFF)" in message
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
    assert f"dog{os.sep}broken.png (no JPEG" in message
    assert "loose.png (in no class's folder)" in message
    assert f"cat{os.sep}notes.txt" in message


def test_an_empty_class_is_named(two_classes):
    (two_classes / "bird").mkdir()
    (two_classes / "bird" / "notes.txt").write_text("x")
    assert f"no image in {two_classes.name}/bird" in refused(two_classes)


def test_a_class_must_be_in_both_parts(tmp_path):
    for split, names in (("train", "abc"), ("test", "ab")):
        for name in names:
            write(tmp_path / split / name / "x.png", grey(1))
    assert "no image in test/c" in refused(tmp_path)


@pytest.mark.parametrize(("names", "found"), [("a", "the one class 'a'"), ("", "no folder")])
def test_one_class_is_none(tmp_path, names, found):
    for name in names:
        write(tmp_path / name / "x.png", grey(1))
    assert found in refused(tmp_path)


def test_train_without_test_is_refused(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            write(tmp_path / split / name / "x.png", grey(1))
    assert "has train/ with classes in it, but no test/" in refused(tmp_path)


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
