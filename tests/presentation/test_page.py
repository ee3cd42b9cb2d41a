"""The page: its numbers by hand, its words as text, its images those of the data set."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import page_of_study
import pandas as pd
import pytest
from made_up import describe_run
from page_of_study import CLASSES, N_TEST, N_TRAIN, RAW, TUNED, WRONG, grey_of
from PIL import Image

from collapseflow.images.datasets import read_split
from collapseflow.measures import embedding
from collapseflow.measures.paired import pack
from collapseflow.presentation.page import explorer, geometry, numbers, writing
from collapseflow.presentation.rows import read_csv
from collapseflow.presentation.tables.writing import Bold, write_table
from collapseflow.running.code import read_module
from collapseflow.running.errors import UserError


class Page(HTMLParser):
    """What a page asks for, its texts, its scripts by id, and the ids of its elements."""

    def __init__(self, text):
        super().__init__()
        self.asked, self.texts, self.scripts, self.ids = [], [], {}, []
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.asked += [attributes[name] for name in ("src", "href") if name in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.inside = attributes.get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, text):
        if self.inside is None:
            self.texts.append(text.strip())
        else:
            self.scripts[self.inside] = text


@pytest.fixture
def page(tmp_path):
    return Page(page_of_study.write(tmp_path).read_text(encoding="utf-8"))


# --- the whole --------------------------------------------------------------------------------


def test_the_page_needs_no_other_file_but_links_to_the_pdf(page):
    outside = [a for a in page.asked if not a.startswith(("data:", "#"))]
    assert outside == ["figures/probes.pdf"]


def test_what_the_list_has_is_there_whatever_its_category(page):
    headings = {"Digits: which differ", "Collapse and probes", "Something new"}
    assert headings <= set(page.texts)
    assert "Collapse and <probes>." in page.texts
    assert {f"#{'tables-comparison_digits'}"} <= set(page.asked)
    assert "tables-comparison_digits" in page.ids


def test_names_are_text_wherever_they_stand(page):
    assert "<script>boom()</script>" in page.texts and "שלום" in page.texts
    assert "ResNet18 <b>tuned</b>" in page.texts
    assert "Networks are better <than> pixels." in page.texts
    told = page.scripts["explored-0"]
    assert "<" not in told and "\u2028" not in told
    assert json.loads(told)["classes"] == CLASSES


def test_limits_are_no_findings(page):
    assert page.texts.index("Limits") < page.texts.index("Two seeds.")
    # One sentence is a finding, with one verdict.
    assert page.texts.count("found") == 1 and "cannot be told" not in page.texts


def test_what_shares_its_heading_is_told_apart(tmp_path):
    digits, probes, _ = page_of_study.contents()
    geometry = {**probes, "dataset": "digits", "heading": "Training: geometry"}
    sweep = {"dataset": "", "heading": "Sweeps", "label": "values"}
    shown = [
        digits,
        {**probes, **sweep},
        {**digits, **sweep},
        {**geometry, "label": "seed 0"},
        {**geometry, "label": "seed 1"},
    ]
    page = Page(page_of_study.write(tmp_path, contents=shown).read_text(encoding="utf-8"))
    assert page.texts.count("Sweeps") == 2
    assert {"values, figure", "values, table"} <= set(page.texts)
    assert page.texts.count("Digits, training: geometry") == 2
    assert {"seed 0", "seed 1"} <= set(page.texts)
    # What has a heading of its own needs no more.
    assert "pairs" not in page.texts


def test_csv_files_are_within_the_page(page, tmp_path):
    links = [a for a in page.asked if a.startswith("data:text/csv;base64,")]
    found = {base64.b64decode(link.partition(",")[2]) for link in links}
    paths = ("tables/comparison_digits.csv", "measures.csv")
    assert found == {(tmp_path / path).read_bytes() for path in paths}


def test_a_study_without_networks_features_and_findings_has_a_page(tmp_path):
    none = dict.fromkeys(
        ("runs", "columns", "classification", "embeddings", "contents", "geometry"), []
    )
    (tmp_path / "none.json").write_text("[]")
    path = page_of_study.write(tmp_path, **none, findings=tmp_path / "none.json")
    page = Page(path.read_text(encoding="utf-8"))
    assert "No network is trained." in page.texts
    assert not {"findings", "key", "features", "explore", "collapse"} & set(page.ids)


def test_a_study_of_pixels_alone_has_its_features_and_maps(tmp_path):
    path = page_of_study.write(tmp_path, **page_of_study.without_a_network())
    page = Page(path.read_text(encoding="utf-8"))
    assert "Features are read in float32." in page.texts
    assert not [words for words in page.texts if "trained in" in words or "Recipes" in words]
    assert "No network is trained." in page.texts
    assert {"features", "explore"} <= set(page.ids) and "key" not in page.ids
    assert not [words for words in page.texts if "A run is" in words]


def test_a_run_that_failed_is_named_and_has_no_result(tmp_path):
    path = page_of_study.write(tmp_path, **page_of_study.with_a_failed_run(tmp_path))
    page = Page(path.read_text(encoding="utf-8"))
    assert "VGG11 on Digits, seeds 0, 1, epoch 2: the loss is <nan>" in page.texts
    assert "It is left out of all that follows." in page.texts
    # Neither an accuracy nor NC1; the other network has both.
    assert page.texts.count("no result") == 2
    curves = json.loads(page.scripts["curves"])
    assert {line["network"] for line in curves["lines"]} == {"ResNet18"}


def test_a_run_without_values_before_training_has_those_after_it(tmp_path):
    rows = page_of_study.rows()
    path = page_of_study.write(tmp_path, measures=rows[rows["epoch"].fillna(1) > 0])
    page = Page(path.read_text(encoding="utf-8"))
    assert "test – → 91.00 ± 1.41" in page.texts and "no result" not in page.texts


def test_of_many_classes_the_first_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(page_of_study, "CLASSES", [f"class {i}" for i in range(120)])
    page = Page(page_of_study.write(tmp_path).read_text(encoding="utf-8"))
    words = "2,400 training and 1,440 test images of 120 classes, of which the first 20 are shown."
    assert words in page.texts
    assert len(json.loads(page.scripts["explored-0"])["classes"]) == 120
    assert "class 19" in page.texts and "class 20" not in page.texts


def test_long_names_that_begin_alike_differ_in_maps_and_planes(tmp_path, monkeypatch):
    classes = [f"a species of finches, {letter}" for letter in "ab"] + ["short"]
    monkeypatch.setattr(page_of_study, "CLASSES", classes)
    page = Page(page_of_study.write(tmp_path).read_text(encoding="utf-8"))
    short = ["a speci…hes, a", "a speci…hes, b", "short"]
    assert json.loads(page.scripts["explored-0"])["short"] == short
    assert json.loads(page.scripts["moving"])["short"] == {"digits": short}


def test_a_changed_template_style_or_script_writes_the_page_again():
    parts = read_module(Path(writing.__file__)).parts("*")
    names = {path.name for part in parts for path, _ in part.uses}
    folder = Path(writing.__file__).parent
    assert {
        path.name for path in folder.iterdir() if path.suffix in (".html", ".css", ".js")
    } <= names


# --- tables -----------------------------------------------------------------------------------


class Cells(HTMLParser):
    """The cells of a table: whether to the right, and texts, with stars around what is bold."""

    def __init__(self, text):
        super().__init__()
        self.cells = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("th", "td"):
            self.cells.append([dict(attributes).get("class") == "right", ""])
        elif tag == "b":
            self.cells[-1][1] += "**"

    def handle_endtag(self, tag):
        if tag == "b":
            self.cells[-1][1] += "**"

    def handle_data(self, text):
        if self.cells:
            self.cells[-1][1] += text.strip()


def test_a_table_says_what_was_written(tmp_path):
    words = ["a | b", "*not bold* `x` $1$ ~2~", "1 < 2 & 3", r"back\slash", "[x](y) _z_", "1. one"]
    header = ["the | first", *("second" for _ in words)]
    rows = [["x", *words], ["y", *([""] * 5), Bold("7.0", "† (6.9)")]]
    note = "A note: 1 < 2, 5 × [x](y), _z_."
    outputs = {end: f"mine/new.{end}" for end in page_of_study.ENDS}
    places = {end: tmp_path / path for end, path in outputs.items()}
    write_table(places, pd.DataFrame({"tidy": [1]}), header, rows, [note], n_left=2)
    table = {**page_of_study.contents()[0], "rule": "tabulate_new", "files": outputs}
    text = page_of_study.write(tmp_path, contents=[table]).read_text(encoding="utf-8")
    figure = text.partition('<figure id="mine-new">')[2].partition("</table>")[0]
    cells = Cells(figure).cells
    shown = [header, ["x", *words], ["y", *([""] * 5), "**7.0**† (6.9)"]]
    assert [words for _, words in cells] == [words for row in shown for words in row]
    # Two columns are words, the others numbers.
    assert [right for right, _ in cells[:7]] == [False, False, *([True] * 5)]
    assert note in Page(text).texts


# --- numbers ----------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path):
    page_of_study.rows().to_csv(tmp_path / "rows.csv", index=False)
    return read_csv(tmp_path / "rows.csv")


RUNS = [describe_run(seed=seed, layers=["conv", "flatten"]) for seed in (0, 1)]
LABELS = {"digits": "Digits"}


def test_a_place_on_an_axis_is_a_share_of_it():
    axis = numbers.Axis(0.5, 1.0, logarithmic=False)
    assert [axis.place(v) for v in (0.5, 0.6, 1.0, 2.0)] == [0, 20, 100, 100]
    axis = numbers.Axis(0.01, 100.0, logarithmic=True)
    assert [axis.place(v) for v in (0.01, 0.1, 1.0, 0.0)] == [0, 25, 50, 0]
    assert (50, "1") in axis.ticks()


def test_networks_have_the_means_of_their_last_layer_before_and_after(rows):
    found = numbers.before_and_after(rows, RUNS, LABELS)
    (network,) = found["networks"]
    # NC1 of seeds 0.04 and 0.01: exp of the mean and of the standard deviation of the logarithms.
    factor = math.exp(math.sqrt(2) * math.log(2))
    mark = network["nc1"]["test after"]
    assert mark.words == f"0.0200 ×÷ {factor:.3g}"
    axis = found["axes"]["nc1"]
    assert mark.low == axis.place(0.02 / factor) and mark.high == axis.place(0.02 * factor)
    # Not that of the other layer, which is 8.
    assert network["nc1"]["training before"].words == "2.00 ×÷ 1.00"
    assert network["accuracy"]["test after"].words.startswith("91.00 ± 1.4")
    # (0.75 + 0.85) / 2.
    assert network["network"].startswith("80.00 ± 7")


def test_accuracies_on_training_images_have_the_digits_of_those_on_as_many_test_images(rows):
    of_test = (rows["quantity"] == numbers.OF_FEATURES) & (rows["split"] == "test")
    of_training = rows[of_test].assign(split="train_matched", value=0.61234)
    rows.loc[of_test, "low"] = rows.loc[of_test, "value"] - 0.05
    rows.loc[of_test, "high"] = rows.loc[of_test, "value"] + 0.05
    rows = pd.concat([rows[(rows["quantity"] != numbers.OF_FEATURES) | of_test], of_training])
    (network,) = numbers.before_and_after(rows[rows["seed"] == 0], RUNS[:1], LABELS)["networks"]
    words = {name: mark.words for name, mark in network["accuracy"].items()}
    assert words["training after"] == "61"
    assert all(len(word) == 2 for word in words.values())


def test_features_have_their_accuracies_with_intervals(rows):
    found = numbers.compared_features(rows, [RAW, TUNED], page_of_study.CLASSIFIERS)
    assert found["classifiers"] == ["LDA", "random <i>forest</i>"]
    raw, tuned = found["features"]
    assert raw["cells"][0]["value"] == pytest.approx(33 / 36)
    # Half of the interval from -0.1 to +0.02 is 0.06, around the value.
    axis, mark = found["axis"], raw["cells"][0]["mark"]
    assert mark.low == axis.place(33 / 36 - 0.06) and mark.high == axis.place(33 / 36 + 0.06)
    assert tuned["cells"][1]["mark"].words == "100.00 ± 0.00"
    assert numbers.compared_features(rows, [], page_of_study.CLASSIFIERS) is None


def test_pairs_have_their_differences_in_words(tmp_path):
    (path,) = page_of_study.write_tables(tmp_path)
    found = numbers.differences(path, [RAW, TUNED], page_of_study.CLASSIFIERS)
    line = "LDA: +5.56 points [−1.00, +12.00], not larger than chance"
    assert found == {"0-1": [line]}


def test_curves_have_every_layer_and_split(rows):
    found = numbers.curves(rows, RUNS, LABELS, {"resnet18": "ResNet18"})
    lines = {(line["layer"], line["split"], line["quantity"]): line for line in found["lines"]}
    assert lines["conv", "train", "nc1"]["mean"] == [8, 8, 8]
    line = lines["flatten", "test", "nc1"]
    assert line["epochs"] == [0, 1, 4] and line["mean"] == [2, 0.02, 0.02]
    # Shares are in percent.
    assert lines["", "test", "accuracy"]["mean"] == [80, 80]
    assert found["quantities"]["accuracy"]["title"].endswith(", %")
    assert found["layers"] == ["conv", "flatten"]
    assert "within-class" in found["quantities"]["nc1"]["title"]
    assert "lda" not in " ".join(found["quantities"])


def test_two_swept_keys_have_a_map(tmp_path):
    runs, rows = page_of_study.swept()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    table = read_csv(tmp_path / "rows.csv")
    (sweep,) = numbers.curves(table, runs, LABELS, {"resnet18": "ResNet18"})["sweeps"]
    assert (sweep["heading"], sweep["layer"]) == ("ResNet18, decay", "flatten")
    assert sweep["across"] == ("weight decay", ["0", "0.1"])
    assert sweep["down"] == ("batch size", ["8", "64"])
    words = "ResNet18, weight decay {}, batch size {}"
    assert sweep["cells"] == [
        [(words.format(decay, size), 4) for decay in ("0.0", "0.1")] for size in (8, 64)
    ]
    one_key = [describe_run(setting={"weight_decay": decay}) for decay in (0.0, 0.1)]
    assert numbers.curves(table, one_key, LABELS, {"resnet18": "ResNet18"})["sweeps"] == []


# --- class means over the epochs --------------------------------------------------------------


def read_floats(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def class_means(epoch, number, n_classes=3):
    features, labels = page_of_study.features_of(epoch, number, n_classes)
    return np.stack([features[labels == label].mean(axis=0) for label in range(n_classes)])


def test_class_means_move_in_their_planes(page):
    told = json.loads(page.scripts["moving"])
    assert told["classes"] == {"digits": CLASSES}
    (run,) = told["runs"]
    # The epoch that failed is left out.
    assert [state["epoch"] for state in run["states"]] == [0, 1, 4] and run["measured"] == 4
    assert run["simplex"] == -0.5 and run["order"] == [0, 1, 2]
    for state in run["states"]:
        train, test = (class_means(state["epoch"], number) for number in (0, 1))
        centre = train.mean(axis=0)
        unit = np.linalg.norm(train - centre, axis=1).mean()
        basis = np.linalg.svd(train - centre)[2][:2]
        # Of three classes the plane has all; it may be turned, which leaves all products.
        own, others = read_floats(state["means"], np.float32).reshape(2, 3, 2)
        expected = np.concatenate([train - centre, (test - centre)]) @ basis.T / unit
        drawn = np.concatenate([own, others])
        np.testing.assert_allclose(drawn @ drawn.T, expected @ expected.T, atol=1e-5)
        assert state["share"] == 1
        # Lengths of the ellipse's axes.
        features, labels = page_of_study.features_of(state["epoch"], 0, 3)
        within = (features - train[labels]) @ basis.T / unit
        xx, xy, yy = state["ellipse"]
        lengths = np.linalg.eigvalsh(within.T @ within / len(within))
        np.testing.assert_allclose(np.linalg.eigvalsh([[xx, xy], [xy, yy]]), lengths, rtol=1e-3)
        cosines = read_floats(state["cosines"], np.int8).reshape(2, 3) / 127
        for found, means in zip(cosines, (train, test), strict=True):
            centred = means - means.mean(axis=0)
            unit_means = centred / np.linalg.norm(centred, axis=1, keepdims=True)
            wanted = (unit_means @ unit_means.T)[np.triu_indices(3, 1)]
            np.testing.assert_allclose(found, wanted, atol=0.5 / 127 + 1e-6)


def test_planes_are_turned_to_be_like_the_next(page):
    (run,) = json.loads(page.scripts["moving"])["runs"]
    means = [read_floats(s["means"], np.float32).reshape(2, 3, 2)[0] for s in run["states"]]
    for earlier, later in zip(means, means[1:], strict=False):
        # No rotation or reflection, of two hundred, would bring them nearer.
        apart = np.linalg.norm(earlier - later)
        for angle in np.linspace(0, 2 * np.pi, 100):
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            for other in (turn, turn * [1, -1]):
                assert np.linalg.norm(earlier @ other - later) > apart - 1e-3


def test_class_means_take_the_room_that_they_have(tmp_path, monkeypatch):
    monkeypatch.setattr(page_of_study, "CLASSES", [f"class {i}" for i in range(120)])
    page_of_study.write_images(tmp_path / "images.h5")
    (run,) = page_of_study.write_states(tmp_path)
    many = {**run, "states": [run["states"][0]] + 40 * [run["states"][1]] + [run["states"][3]]}
    images = {"digits": tmp_path / "images.h5"}

    def made(n_bytes):
        (found,) = geometry.moving([many], images, n_bytes)["runs"]
        return found

    found = made(2_000_000)
    assert len(found["states"]) <= 24 and found["measured"] == 42
    assert [found["states"][place]["epoch"] for place in (0, -1)] == [0, 4]
    # Similar classes stand beside each other: by their number, which one feature is.
    assert sorted(found["order"]) == list(range(120)) != found["order"]
    few, none = made(100_000), made(20_000)
    assert 3 <= len(few["states"]) < len(found["states"]) and "cosines" in few["states"][0]
    assert "cosines" not in none["states"][0]
    for n_bytes, of in ((2_000_000, found), (100_000, few), (20_000, none)):
        assert len(json.dumps(of["states"])) < 1.1 * n_bytes


def test_a_run_without_a_state_does_not_move(tmp_path):
    page_of_study.write_images(tmp_path / "images.h5")
    (run,) = page_of_study.write_states(tmp_path)
    lost = {**run, "states": [run["states"][2]]}
    assert geometry.moving([lost], {"digits": tmp_path / "images.h5"})["runs"] == []


# --- the explorer -----------------------------------------------------------------------------


def test_images_are_those_that_a_map_was_made_of(tmp_path, make_store, monkeypatch):
    page_of_study.write_images(tmp_path / "images.h5")
    stores = {}
    for name, n in (("train", 3 * N_TRAIN), ("test", 3 * N_TEST)):
        rows = np.column_stack([np.arange(n), np.zeros(n)]).astype(np.float32)
        stores[name] = make_store(rows, np.arange(n) % 3, name=f"{name}.h5")
    # A map that puts each image where its row says.
    monkeypatch.setattr(embedding, "embed_sklearn", lambda features, *rest: features)
    embedding.embed(stores, "sklearn", 31, 5.0, 7, 1, tmp_path / "map.npz")
    (one,) = explorer.read_maps([tmp_path / "map.npz"], [RAW])
    images = explorer.mapped_images(tmp_path / "images.h5", one, seed=7)
    assert len(images.rows) == 62 and images.rows.tolist() == one["coordinates"][:, 0].tolist()
    greys = [
        grey_of(("train", "test")[s], r) for s, r in zip(images.split, images.rows, strict=True)
    ]
    assert images.images[:, 5, 5].tolist() == greys
    assert images.ids.tolist() == (1000 + images.rows).tolist()


def test_a_map_of_other_images_is_refused(tmp_path):
    page_of_study.write_images(tmp_path / "images.h5")
    paths = page_of_study.write_maps(tmp_path, classes=2)
    (one,) = explorer.read_maps(paths[:1], [RAW])
    with pytest.raises(UserError, match="is not of these images"):
        explorer.mapped_images(tmp_path / "images.h5", one, seed=0)


def test_the_script_is_told_which_test_images_are_wrong_and_what_they_are_taken_for(page):
    told = json.loads(page.scripts["explored-0"])
    assert (told["n"], told["n_train"]) == (96, 60)
    for of_map, features in zip(told["maps"], ("raw", TUNED.features), strict=True):
        for name, wrong in WRONG[features].items():
            packed = np.frombuffer(base64.b64decode(of_map["wrong"][name]), np.uint8)
            bits = np.unpackbits(packed, bitorder="little")[:36]
            assert np.flatnonzero(bits).tolist() == wrong
            if (features, name) == page_of_study.OLD:
                assert name not in of_map["taken"]
            else:
                taken = np.frombuffer(base64.b64decode(of_map["taken"][name]), np.uint16)
                assert taken.tolist() == [(row + 1) % 3 for row in wrong]


def test_answers_are_those_of_the_images_of_the_map():
    # Of seven test images, of which the odd ones are wrong, a map has three.
    cell = {"correct": pack(np.arange(7) % 2 == 0), "n_test": 7, "mistaken_for": [40, 50, 60]}
    found = explorer._answers(cell, np.array([1, 4, 5]))
    assert found.wrong.tolist() == [True, False, True]
    assert found.taken.tolist() == [40, 60]


def test_images_have_their_names_where_the_data_set_has_them(tmp_path, monkeypatch):
    page_of_study.write_images(tmp_path / "images.h5")
    (one,) = explorer.read_maps(page_of_study.write_maps(tmp_path)[:1], [RAW])
    assert explorer.mapped_images(tmp_path / "images.h5", one, seed=0).names is None

    def read_named(path, name):
        split = read_split(path, name)
        names = [f"{name}/{row}.png" for row in range(len(split.labels))]
        return replace(split, names=np.array(names, object))

    monkeypatch.setattr(explorer, "read_split", read_named)
    names = explorer.mapped_images(tmp_path / "images.h5", one, seed=0).names
    assert len(names) == 96 and names[:2].tolist() == ["train/0.png", "train/1.png"]
    assert names[60:62].tolist() == ["test/0.png", "test/1.png"]


def test_features_whose_classifiers_failed_have_a_map(tmp_path):
    page_of_study.write_images(tmp_path / "images.h5")
    failed, *others = page_of_study.write_classification(tmp_path)
    failed.write_text(json.dumps({"lda": {"failed": "lost"}}))
    columns = [RAW, TUNED]
    maps = explorer.read_maps(page_of_study.write_maps(tmp_path), columns)
    labels = page_of_study.CLASSIFIERS
    told, _ = explorer.describe(tmp_path / "images.h5", maps, columns, [failed, *others], labels, 0)
    assert told["classifiers"] == labels
    assert [list(one["wrong"]) for one in told["maps"]] == [[], ["lda", "rf"]]


def test_features_that_failed_have_no_map(tmp_path):
    embedding.write_failed_embedding(tmp_path / "failed.npz", "lost")
    paths = [tmp_path / "failed.npz", page_of_study.write_maps(tmp_path)[1]]
    (one,) = explorer.read_maps(paths, [RAW, TUNED])
    assert (one["place"], one["label"]) == (1, TUNED.label)


def test_coordinates_keep_their_shape_and_go_down():
    found = explorer._whole_numbers(np.array([[0.0, 0.0], [10.0, 5.0]]))
    # Half as high as wide, in the middle; what is above has the smaller number.
    assert found.tolist() == [[0, 49151], [65535, 16384]]


@pytest.mark.parametrize("colour", [False, True])
def test_thumbnails_stand_in_the_order_of_the_points(colour):
    levels = np.arange(2600) % 250
    images = np.repeat(levels, 16 * 16).reshape(-1, 16, 16).astype(np.uint8)
    if colour:
        images = np.stack([images] * 3, axis=-1)
    first, second = explorer.sheets(explorer.thumbnails(images), 14)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(first))).convert("L"))
    assert sheet.shape == (700, 700)
    for place in (0, 49, 50, 2499):
        row, column = divmod(place, 50)
        assert abs(int(sheet[14 * row + 7, 14 * column + 7]) - levels[place]) < 25
    with Image.open(io.BytesIO(base64.b64decode(second))) as picture:
        assert picture.size == (700, 28)


def test_a_thumbnail_keeps_the_shape_of_an_image():
    wide = np.zeros((1, 20, 40, 3), np.uint8)
    wide[0, :, :20], wide[0, :, 20:] = (250, 0, 0), (0, 0, 250)
    (small,) = explorer.thumbnails(wide)
    assert small.shape == (28, 28, 3)
    # Half as high as wide, in the middle of a black square.
    assert not small[:7].any() and not small[21:].any()
    assert (small[7:21, :14] == [250, 0, 0]).all() and (small[7:21, 14:] == [0, 0, 250]).all()


def test_thumbnails_are_made_small_until_they_fit():
    random = np.random.default_rng(0).integers(0, 256, (500, 28, 28)).astype(np.uint8)
    assert np.array_equal(explorer.thumbnails(random), random)
    sizes = {side: len(explorer.sheets(random, side)[0]) for side in explorer.SIDES}
    for side in explorer.SIDES:
        assert explorer.fitting_sheets([random], sizes[side])[0] == side
    assert explorer.fitting_sheets([random], 0)[0] == explorer.SIDES[-1]


def test_the_page_says_that_thumbnails_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr("collapseflow.presentation.page.writing.MOST_BYTES", 0)
    text = page_of_study.write(tmp_path).read_text(encoding="utf-8")
    assert re.search("thumbnails are 14 pixels wide, not 28", text)
