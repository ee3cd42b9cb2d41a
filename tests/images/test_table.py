"""Tables that name images: by hand, and against what csv and Pillow say."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from collapseflow.images.datasets import read_split
from collapseflow.images.sources import table
from collapseflow.images.sources.prepare import prepare_dataset
from collapseflow.running.errors import UserError
from collapseflow.study.schema import Dataset, load

HEAD = ("path", "label", "split", "patient_id")


def write_table(path, rows, head=HEAD, delimiter=",", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([head, *rows])
    return path


def write_image(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6), level, np.uint8)).save(path)


def read(path, columns=None, test_fraction=0.25, on_bad_image="stop", size=None):
    return table.read(path, columns or {}, size, test_fraction, 0, 2, on_bad_image)


def refused(path, **options):
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.fixture
def pictures(tmp_path):
    """32 pictures of two classes, four of each patient; a picture's level is its number."""
    rows = []
    for number in range(32):
        name = f"scans/{number:02}.png"
        write_image(tmp_path / name, number)
        rows.append((name, ("ill", "well")[number // 4 % 2], f"patient {number // 4}"))
    return tmp_path, rows


def test_images_labels_and_names_are_those_of_the_rows(pictures):
    folder, rows = pictures
    splits = read(write_table(folder / "t.csv", rows, ("file", "class", "note")))
    assert splits.class_names == ["ill", "well"]
    assert len(splits.train.labels) == 24 and len(splits.test.labels) == 8
    for part in (splits.train, splits.test):
        assert part.groups is None
        for image, label, row, name in zip(
            part.images, part.labels, part.ids, part.names, strict=True
        ):
            assert (name, splits.class_names[label]) == rows[row][:2]
            assert (image == row).all()
    assert splits.source == "images of the table t.csv"


def test_no_group_is_on_both_sides_of_the_division(pictures):
    folder, rows = pictures
    splits = read(write_table(folder / "t.csv", rows, ("path", "label", "patient")))
    patients = [{rows[i][2] for i in part.ids} for part in (splits.train, splits.test)]
    assert not patients[0] & patients[1] and len(patients[1]) == 2
    assert np.bincount(splits.test.labels).tolist() == [4, 4]
    assert "8 groups by patient" in splits.source


def test_the_table_s_own_split_is_taken_and_validation_images_are_not(pictures):
    folder, rows = pictures
    words = ["Train"] * 8 + ["TESTING"] * 8 + ["val"] * 8 + ["training "] * 8
    rows = [(*row[:2], word) for row, word in zip(rows, words, strict=True)]
    splits = read(write_table(folder / "t.csv", rows, ("path", "label", "Split")))
    assert splits.train.ids.tolist() == [*range(8), *range(24, 32)]
    assert splits.test.ids.tolist() == list(range(8, 16))
    assert splits.test.images[:, 0, 0].tolist() == list(range(8, 16))
    assert "not read: 8 validation images" in splits.source


def test_a_group_on_both_sides_of_the_table_s_own_split_is_refused(pictures):
    folder, rows = pictures
    rows = [(*row[:2], "test" if k % 4 == 0 else "train", row[2]) for k, row in enumerate(rows)]
    path = write_table(folder / "t.csv", rows)
    five = "patient 0, patient 1, patient 2, patient 3, patient 4 and 3 more"
    assert f"groups with training and test images, 8: {five}; put each" in refused(path)
    # Without the split the groups are divided.
    splits = read(path, columns={"split": None})
    assert not set(splits.train.groups) & set(splits.test.groups)


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")]
)
def test_csv_as_people_save_it(pictures, delimiter, encoding):
    folder, rows = pictures
    rows = [(row[0], "ö, x" if row[1] == "ill" else row[1]) for row in rows]
    path = write_table(folder / "t.tsv", rows, ("path", "label"), delimiter, encoding)
    assert read(path).class_names == ["well", "ö, x"]


def test_absolute_paths_and_columns_of_any_name(pictures, tmp_path_factory):
    folder, rows = pictures
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    rows = [(str(folder / row[0]), row[1], row[1], "x") for row in rows]
    path = write_table(elsewhere / "t.csv", rows, ("where", "label", "class", "split"))
    columns = {"path": "where", "label": "class", "split": None}
    splits = read(path, columns=columns)
    assert splits.train.names[0] == rows[splits.train.ids[0]][0]


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (("2", "10"), [str(n) for n in range(11)], [2, 10]),
        (("-1", "1"), ["-1", "1"], [0, 1]),
        (("b", "A"), ["A", "b"], [1, 0]),
        (("70000", "9"), ["70000", "9"], [0, 1]),
    ],
)
def test_labels_are_texts_or_numbers(pictures, labels, names, numbers):
    folder, rows = pictures
    rows = [(row[0], labels[k % 2]) for k, row in enumerate(rows)]
    splits = read(write_table(folder / "t.csv", rows, ("path", "label")))
    assert splits.class_names == names
    assert [numbers[row % 2] for row in splits.train.ids] == splits.train.labels.tolist()


def test_numbers_of_which_no_image_is_are_no_classes(pictures, tmp_path):
    folder, rows = pictures
    rows = [(row[0], ("3", "7")[k % 2]) for k, row in enumerate(rows)]
    path = write_table(folder / "t.csv", rows, ("path", "label"))
    entry = Dataset(source="table", location=[str(path)], class_names=["three", "seven"]).entry()
    prepare_dataset(entry, 0.25, 0, tmp_path, tmp_path / "t.h5")
    test = read_split(tmp_path / "t.h5", "test")
    assert [row % 2 for row in test.ids] == test.labels.tolist()
    assert test.names.tolist() == [rows[row][0] for row in test.ids]


def test_what_cannot_be_read_is_named_or_left_out(pictures):
    folder, rows = pictures
    (folder / rows[3][0]).write_text("no image")
    path = write_table(folder / "t.csv", rows, ("path", "label", "group"))
    message = refused(path)
    assert "1 of 32 files cannot be read as images" in message
    assert "scans/03.png (no image that Pillow reads)" in message
    splits = read(path, on_bad_image="skip")
    assert len(splits.train.ids) + len(splits.test.ids) == 31
    assert "left out 1 of 32 files: scans/03.png" in splits.source
    assert 3 not in [*splits.train.ids, *splits.test.ids]


def test_images_of_other_sizes_need_the_key_size(pictures):
    folder, rows = pictures
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(folder / rows[5][0])
    path = write_table(folder / "t.csv", rows, ("path", "label", "note"))
    assert "images differ in size (scans/00.png: 6 x 6, scans/05.png: 9 x 6)" in refused(path)
    assert read(path, size=[4, 3]).train.images.shape == (24, 4, 3)


TWO = [("a", "x", "train", "1"), ("b", "y", "test", "2")]


@pytest.mark.parametrize(
    ("rows", "head", "columns", "words"),
    [
        (TWO, ("x", "label", "a", "b"), {}, "has no path, called path or file or"),
        (TWO, ("path", "x", "a", "b"), {}, "has no label, called label or labels or"),
        (TWO, ("path", "label", "label", "b"), {}, "has two columns 'label'"),
        (TWO, ("path", "label", "class", "b"), {}, "'label' and 'class' may both be the label"),
        (TWO, HEAD, {"group": "patientid"}, "columns.group: 'patientid' is not there; did you"),
        (TWO, HEAD, {"label": None}, "columns.label: null; allowed: path, label"),
        ([], HEAD, {}, "has no rows"),
        ([("a", "x", "train", "1"), ("b", "x", "test", "2")], HEAD, {}, "all labels are 'x'"),
        (
            [("a", "x", "train", "1"), ("b", "", "test", "2")],
            HEAD,
            {},
            "rows without a value in the",
        ),
        ([("a", "x", "train", "1"), ("b", "y", "hold", "2")], HEAD, {}, "split 'hold' is unknown"),
        ([("a", "x", "train", "1"), ("b", "y", "val", "2")], HEAD, {}, "is of the split 'test'"),
        (
            [("a", "x", "train", "1"), ("./a", "y", "test", "2")],
            HEAD,
            {},
            "files in more than one row",
        ),
        ([("a", "x", "train", "1"), ("b", "y")], HEAD, {}, "line 3 has 2 values, the first line 4"),
        ([("a", "x", "train", "1"), ("b", "y\u202ez", "test", "2")], HEAD, {}, "the label 'y"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(tmp_path, rows, head, columns, words):
    assert words in refused(write_table(tmp_path / "t.csv", rows, head), columns=columns)


def test_what_is_no_table_is_said_in_one_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("")
    assert "is empty" in refused(path)
    path.write_bytes("path,label\nä,x\n".encode("latin-1"))
    assert "is no text in UTF-8" in refused(path)
    path.write_text('path,label\n"a,x\n')
    assert "line 2: " in refused(path)
    assert "No such file" in refused(tmp_path / "none.csv")
    (tmp_path / "t.parquet").write_text("path,label\n")
    assert "Parquet" in refused(tmp_path / "t.parquet")


def test_missing_files_are_counted_and_the_first_named_before_the_first_job(pictures):
    folder, rows = pictures
    path = write_table(folder / "t.csv", rows, ("path", "label", "note"))
    before = table.content(path, {}, "stop")
    for number in range(4, 12):
        (folder / rows[number][0]).unlink()
    with pytest.raises(UserError) as caught:
        table.content(path, {}, "stop")
    named = "; ".join(f"scans/{number:02}.png" for number in range(4, 9))
    words = f"8 of 32 files are missing: {named} and 3 more; paths are relative to {folder}"
    assert words in str(caught.value)
    assert table.content(path, {}, "skip") != before
    assert "left out 8 of 32 files" in read(path, on_bad_image="skip").source


def test_the_content_changes_with_the_table_and_its_files(pictures):
    folder, rows = pictures
    head = ("path", "label", "note")
    path = write_table(folder / "t.csv", rows, head)
    contents = [table.content(path, {}, "stop"), table.content(path, {}, "stop")]
    os.utime(folder / rows[0][0], ns=(1, 1))
    contents.append(table.content(path, {}, "stop"))
    write_table(path, [(rows[0][0], "well", "x"), *rows[1:]], head)
    contents.append(table.content(path, {}, "stop"))
    assert contents[0] == contents[1] and len(set(contents)) == 3


def test_a_class_with_test_images_alone_is_refused(pictures):
    folder, rows = pictures
    rows = [
        (row[0], "new" if k > 29 else row[1], "test" if k > 27 else "train", k)
        for k, row in enumerate(rows)
    ]
    message = refused(write_table(folder / "t.csv", rows))
    assert "no training image of new, only test images" in message


def study(location, **keys):
    entry = {"source": "table", "location": str(location), **keys}
    return {"study": "mine", "datasets": {"mine": entry}}


@pytest.fixture
def told(pictures):
    folder, rows = pictures
    return write_table(folder / "t.csv", rows, ("path", "label", "patient"))


def test_keys_of_the_study_file_are_part_of_a_data_set_where_they_are_used(told):
    entry = load(study(told)).datasets["mine"].entry()
    assert not {"columns", "fit", "on_bad_image"} & set(entry)
    given = load(study(told, columns={"group": None}, size=[8, 6], fit="pad"))
    entry = given.datasets["mine"].entry()
    assert (entry["columns"], entry["size"], entry["fit"]) == ({"group": None}, [8, 6], "pad")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"columns": {"label": "x"}}, "datasets.mine.location: {path}: columns.label: 'x' is not"),
        ({"columns": {"images": "x"}}, "datasets.mine.columns: 'images' is unknown; allowed: path"),
        ({"class_names": ["a", "b", "c"]}, "mine.class_names: 3 names for the 2 classes of {path}"),
        ({"fit": "pad"}, "datasets.mine.fit: needs the key 'size'"),
        ({"size": [8]}, "datasets.mine.size: value [8] is refused; allowed: 1 to 10000 pixels a"),
        ({"size": [8, 0]}, "allowed: 1 to 10000 pixels a side, or [height, width]"),
        ({"size": "8"}, "allowed: 1 to 10000 pixels a side, or [height, width]"),
        ({"size": [2, 64]}, "size: [2, 64] is less than the 2^2 pixels that scattering.J"),
    ],
    ids=str,
)
def test_the_study_file_is_checked_against_the_table(told, keys, words):
    with pytest.raises(UserError) as caught:
        load(study(told, **keys))
    assert words.format(path=told) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_table(told):
    with pytest.raises(UserError, match="datasets.mine.location: .* is no file here"):
        load(study(told.parent))


def test_only_regular_files_are_images(pictures):
    folder, rows = pictures
    for number, make in ((2, os.mkdir), (9, os.mkfifo)):
        (folder / rows[number][0]).unlink()
        make(folder / rows[number][0])
    path = write_table(folder / "t.csv", rows, ("path", "label", "note"))
    with pytest.raises(UserError, match="2 of 32 files are missing: scans/02.png; scans/09.png;"):
        table.content(path, {}, "stop")
    assert (
        "left out 2 of 32 files: scans/02.png (no regular file)"
        in read(path, on_bad_image="skip").source
    )
