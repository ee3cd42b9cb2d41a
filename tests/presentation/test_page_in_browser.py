"""The page in a real browser, from a file: what moves does what it says, and nothing is asked of a
network."""

import io
import math
import shutil
from functools import partial
from itertools import pairwise

import numpy as np
import page_of_study
import pytest
from made_up import describe_run
from page_of_study import N_TRAIN, TUNED, grey_of
from PIL import Image

from collapseflow.presentation.page import geometry

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return page_of_study.write(tmp_path_factory.mktemp("study")).as_uri()


@pytest.fixture
def open_page(browser, address):
    """A function that opens the page; whatever it then does, nothing may go wrong on it."""
    contexts, wrong, opened = [], [], []

    def open_it(width=1200, address=address, **settings):
        opened.append(address)
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.goto(address)
        return page

    yield open_it
    for context in contexts:
        context.close()
    asked = [words for words in wrong if not words.startswith(("data:", "blob:"))]
    assert asked == opened


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture
def explorer(page):
    page.click("#open-explorer")
    page.wait_for_selector("#explorer canvas")
    return page


def texts(page, selector):
    return [text.strip() for text in page.locator(selector).all_text_contents()]


SECTIONS = ["asked", "findings", "key", "features", "explore", "collapse", "fold"]


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_every_section_shows_and_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page(width)
    page.click("#open-explorer")
    for name in SECTIONS:
        assert page.locator(f"#{name} h2").is_visible(), name
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What training does is seen without scrolling to the side.
    assert page.locator("#key .wide").evaluate("table => table.scrollWidth <= table.clientWidth")
    for details in page.locator("details").all():
        details.evaluate("details => { details.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_is_read_without_a_script(open_page):
    page = open_page(java_script_enabled=False)
    for name in SECTIONS:
        assert page.locator(f"#{name} h2").is_visible(), name
    page.click("text=Collapse and probes")
    assert page.locator("#figures-probes img").first.is_visible()
    assert not page.locator("#open-explorer").is_visible()


@pytest.mark.parametrize("kind", ["a failed run", "no network", "120 classes"])
def test_an_unusual_study_is_read_at_any_width_and_printed(open_page, tmp_path, monkeypatch, kind):
    told, missing = {}, set()
    if kind == "a failed run":
        told = page_of_study.with_a_failed_run(tmp_path)
    elif kind == "no network":
        told, missing = page_of_study.without_a_network(), {"key"}
    else:
        monkeypatch.setattr(page_of_study, "CLASSES", [f"class {i}" for i in range(120)])
    page = open_page(address=page_of_study.write(tmp_path, **told).as_uri())
    page.click("#open-explorer")
    page.locator("#explorer canvas").press("ArrowRight")
    for details in page.locator("details").all():
        details.evaluate("details => { details.open = true }")
    for width in (360, 800, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        for name in SECTIONS:
            assert page.locator(f"#{name} h2").count() == (name not in missing), (name, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The parts of the explorer stand beside or below each other, never on each other.
    boxes = [page.locator(f"#explorer {part}").bounding_box() for part in ("canvas", ".near")]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.emulate_media(media="print")
    assert page.locator("#asked").is_visible() and not page.locator("#explorer").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_what_is_folded_is_printed(page):
    picture = page.locator("#tables-comparison_digits table")
    assert not picture.is_visible()
    page.emulate_media(media="print")
    assert picture.is_visible()
    assert not page.locator("nav").is_visible()
    # Which are as many as epochs times lines.
    assert page.locator("#chooser .definition").is_visible()
    assert not page.locator("#chooser .values").is_visible()
    assert page.locator("#geometry .plane").is_visible()
    # Nothing that is asked of who has a mouse; the head of a table stays above its rows.
    assert not page.locator(".difference").is_visible()
    assert not page.locator("#geometry [role=status]").is_visible()
    assert page.locator("#explore .on-paper").is_visible()
    head, first = (picture.locator(f"t{part} tr").first for part in ("head", "body"))
    assert head.bounding_box()["y"] < first.bounding_box()["y"]
    assert picture.locator("th").first.evaluate("th => getComputedStyle(th).position") == "static"
    assert not page.locator("#geometry input").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_finding_leads_to_its_table(page):
    page.click("#findings a")
    assert page.locator("#tables-comparison_digits table").is_visible()


def test_a_table_is_sorted_by_a_click_and_the_other_way_by_a_second(page):
    names = ".compared tbody th"
    page.click(".compared thead button >> text=LDA")
    first = texts(page, names)[0]
    assert first.startswith("ResNet18 <b>tuned</b>")
    assert page.locator(".compared [aria-sort=descending]").count() == 1
    page.click(".compared thead button >> text=LDA")
    assert texts(page, names)[0].startswith("raw pixels")
    assert page.locator(".compared [aria-sort=ascending]").count() == 1


def test_what_a_row_is_of_stays_when_a_wide_table_is_moved(open_page):
    page = open_page(240)
    table = page.locator(".product", has_text="which differ").first
    table.locator("summary").click()
    name, number = (table.locator(f"tbody td:nth-child({n})").first for n in (1, 2))
    before = [cell.bounding_box()["x"] for cell in (name, number)]
    wide = table.locator(".wide")
    moved = wide.evaluate("wide => { wide.scrollLeft = 20; return wide.scrollLeft }")
    after = [cell.bounding_box()["x"] for cell in (name, number)]
    assert moved > 0
    assert after == [before[0], before[1] - moved]


def test_a_pair_gives_its_difference(page):
    buttons = page.locator(".pick")
    buttons.nth(1).click()
    assert "Choose two" in page.inner_text(".difference")
    buttons.nth(0).press("Enter")
    words = page.inner_text(".difference")
    assert words.startswith("ResNet18 <b>tuned</b> minus raw pixels")
    assert "LDA: +5.56 points [−1.00, +12.00], not larger than chance" in words
    assert [b.get_attribute("aria-pressed") for b in buttons.all()] == ["true", "true"]


# --- curves -----------------------------------------------------------------------------------


def values(page):
    page.locator("#chooser details").nth(1).evaluate("details => { details.open = true }")
    rows = page.locator("#chooser tbody tr").all()
    return [[cell.strip() for cell in row.locator("td").all_text_contents()] for row in rows]


def test_a_curve_is_of_what_is_chosen(page):
    chooser = page.locator("#chooser")
    chooser.get_by_label("measure", exact=True).select_option("nc1")
    chooser.get_by_label("training images, as many").uncheck()
    # A factor of exp(sqrt(2) ln 2) = 2.665 around 0.02.
    found = [row[2:] for row in values(page)]
    assert found == [["epoch 0", "2"], *([e, "0.02 (0.007504 to 0.0533)"] for e in EPOCHS)]
    assert chooser.locator("svg.plot .point").count() == 3
    chooser.get_by_label("layer", exact=True).select_option("conv")
    assert [row[3] for row in values(page)] == ["8", "8", "8"]
    chooser.get_by_label("across", exact=True).select_option("layers")
    assert [row[2] for row in values(page)] == ["conv", "flatten"]
    chooser.get_by_label("epoch", exact=True).select_option("0")
    assert [row[3] for row in values(page)] == ["8", "2"]


EPOCHS = ["epoch 1", "epoch 4"]


def test_only_what_the_curves_depend_on_is_asked(page):
    across = page.locator("#chooser").get_by_label("across", exact=True)
    for chosen, shown in (("epochs", "layer"), ("layers", "epoch")):
        across.select_option(chosen)
        for name in ("layer", "epoch"):
            field = page.locator("#chooser").get_by_label(name, exact=True)
            assert field.is_visible() == (name == shown)


def test_the_legend_has_networks_and_images_once(page):
    assert texts(page, "#chooser .legend li") == [
        "ResNet18",
        "test images (hollow)",
        "training images, as many of each class as test images",
    ]


LAYERS = [f"blocks.{number}.attention.projection" for number in range(40)]


@pytest.fixture(scope="module")
def long_training(tmp_path_factory):
    runs = [describe_run(layers=LAYERS, last=300)]
    rows = page_of_study.long_rows((0, 1, 10, 300), LAYERS)
    folder = tmp_path_factory.mktemp("long")
    return page_of_study.write(folder, measures=rows, runs=runs).as_uri()


def test_a_long_training_is_seen_from_its_first_epochs_on(open_page, long_training):
    page = open_page(address=long_training)
    assert texts(page, "#chooser .mark") == ["0", "1", "3", "10", "30", "100", "300"]
    x = [box["x"] for box in (at.bounding_box() for at in page.locator("#chooser .point").all())]
    # As far apart as log(1 + epoch).
    shares = [(place - x[0]) / (x[-1] - x[0]) for place in x]
    wanted = [math.log(1 + epoch) / math.log(301) for epoch in (0, 1, 10, 300)]
    assert shares == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("width", [360, 1200])
def test_many_long_names_of_layers_do_not_overlap(open_page, long_training, width):
    page = open_page(width, address=long_training)
    page.locator("#chooser").get_by_label("across", exact=True).select_option("layers")
    boxes = [mark.bounding_box() for mark in page.locator("#chooser .mark").all()]
    assert all(a["x"] + a["width"] <= b["x"] + 2 for a, b in pairwise(boxes))
    assert texts(page, "#chooser .mark")[-1] == "…ttention.projection"
    picture = page.locator("#chooser .plot").bounding_box()
    assert all(b["y"] + b["height"] <= picture["y"] + picture["height"] for b in boxes)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_measure_says_what_it_is(page):
    page.locator("#chooser").get_by_label("measure", exact=True).select_option("nc1")
    page.click("text=What this measure is")
    assert "ariance within the classes" in page.inner_text(".definition")


def test_two_swept_keys_have_their_values_in_a_map(open_page, tmp_path):
    runs, rows = page_of_study.swept()
    # No more than three digits are shown.
    rows["value"] *= 1.0004
    page = open_page(address=page_of_study.write(tmp_path, measures=rows, runs=runs).as_uri())

    def cells():
        found = page.locator("#sweeps tr").all()
        return [
            [text.strip() for text in row.locator("th, td").all_text_contents()] for row in found
        ]

    head = ["batch size ↓, weight decay →", "0", "0.1"]
    # What has not reached its last epoch has no value.
    assert cells() == [head, ["8", "–", "10.8"], ["64", "6.4", "16.4"]]
    page.locator("#sweeps").get_by_label("measure", exact=True).select_option("nc1")
    assert cells() == [head, ["8", "–", "1.08"], ["64", "0.64", "1.64"]]
    colours = page.locator("#sweeps td").evaluate_all(
        "cells => cells.map((c) => c.style.background)"
    )
    # The smallest is white, the largest dark; between them by the logarithm.
    share = math.log(1.08 / 0.64) / math.log(1.64 / 0.64)
    between = [round(255 - share * (255 - dark)) for dark in (0, 68, 119)]
    assert colours[1:] == [
        "rgb({}, {}, {})".format(*between),
        "rgb(255, 255, 255)",
        "rgb(0, 68, 119)",
    ]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


# --- class means over the epochs --------------------------------------------------------------


def means(page):
    """The numbers of the picture: of each class the places of its means, and nearest classes."""
    page.locator("#geometry .values").evaluate("details => { details.open = true }")
    return [
        row.locator("td").all_text_contents() for row in page.locator("#geometry tbody tr").all()
    ]


def cosines_of(epoch, split):
    features, labels = page_of_study.features_of(epoch, split, 3)
    centred = np.stack([features[labels == label].mean(axis=0) for label in range(3)])
    centred -= centred.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return unit @ unit.T


def test_class_means_move_with_the_slider(page):
    slider = page.locator("#geometry").get_by_label("epoch", exact=True)
    words = page.locator("#geometry output")
    assert words.inner_text().startswith("epoch 4: NC1 ")
    after = means(page)
    slider.fill("0")
    assert words.inner_text().startswith("epoch 0, before training: NC1 ")
    assert slider.get_attribute("aria-valuetext") == words.inner_text()
    assert means(page) != after
    # Left of it there is nothing, right of it the epoch after.
    slider.press("ArrowRight")
    assert words.inner_text().startswith("epoch 1: ")
    # Of three classes three ellipses, and a sign for each mean of each split.
    assert page.locator("#geometry .plane ellipse").count() == 3
    assert page.locator("#geometry .plane path title").count() == 6
    found = means(page)
    for split, column in ((0, 3), (1, 4)):
        values = cosines_of(1, split) - 2 * np.eye(3)
        for label, row in enumerate(found):
            nearest = values[label].argmax()
            name, _, cosine = row[column].rpartition(" (")
            assert name == page_of_study.CLASSES[nearest]
            assert float(cosine.strip(")").replace("−", "-")) == pytest.approx(
                values[label, nearest], abs=0.01
            )


def test_pointing_at_a_cosine_reads_it(page):
    canvas = page.locator("#geometry canvas").nth(1)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    # The first class and the last, of test images.
    canvas.hover(position={"x": 0.9 * box["width"], "y": 0.1 * box["height"]})
    words = page.locator("#geometry [role=status]").inner_text()
    first, _, last = page_of_study.CLASSES
    assert words.startswith(f"test images: {first} and {last} ")
    value = float(words.rpartition(" ")[2].replace("−", "-"))
    assert value == pytest.approx(cosines_of(4, 1)[0, 2], abs=0.01)


def test_of_too_many_classes_for_cosines_no_column_is_empty(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(geometry, "moving", partial(geometry.moving, most_bytes=200))
    page = open_page(address=page_of_study.write(tmp_path).as_uri())
    assert {len(row) for row in means(page)} == {3}
    assert texts(page, "#geometry th:visible") == ["class", "x, y, training", "x, y, test"]
    assert "their cosines stand in the figure only" in page.inner_text("#geometry")


# --- the explorer -----------------------------------------------------------------------------


def place_of(page, row, flipped=False):
    """Where the test image ``row`` lies on the screen, in a map with 59 as its largest x and 30 as
    its largest y: in the middle of the canvas but for a margin of three per cent."""
    box = page.locator("#explorer canvas").bounding_box()
    share = 1.6 * row / 59
    x, y = (1 - share if flipped else share), 0.5 - 30 / 59 / 2
    return tuple(box[k] + box["width"] * (0.5 + (v - 0.5) * 0.94) for k, v in (("x", x), ("y", y)))


def shown_grey(page):
    picture = Image.open(io.BytesIO(page.locator(".hovered .thumbnail").screenshot()))
    return np.asarray(picture.convert("L"))[40:60, 40:60].mean()


@pytest.mark.parametrize("row", [0, 17, 35])
def test_pointing_at_an_image_shows_it(explorer, row):
    explorer.locator("#explorer canvas").scroll_into_view_if_needed()
    explorer.mouse.move(*place_of(explorer, row))
    words = explorer.inner_text(".hovered")
    assert f"test image {row}\nrow {1000 + row} of its source" in words
    assert page_of_study.CLASSES[row % 3].split()[0] in words
    assert ("LDA: wrong" in words) == (row in page_of_study.WRONG["raw"]["lda"])
    assert abs(shown_grey(explorer) - grey_of("test", row)) < 5


def test_an_image_stays_chosen_when_the_features_change(explorer):
    explorer.locator("#explorer canvas").scroll_into_view_if_needed()
    explorer.mouse.click(*place_of(explorer, 7))
    assert "LDA: wrong" in explorer.inner_text(".hovered")
    explorer.get_by_label("features", exact=True).select_option(label=TUNED.label)
    assert "test image 7\n" in explorer.inner_text(".hovered")
    assert "LDA: right" in explorer.inner_text(".hovered")
    explorer.mouse.move(*place_of(explorer, 30, flipped=True))
    assert "test image 30\n" in explorer.inner_text(".hovered")


def test_another_data_set_has_its_own_images(open_page, tmp_path, monkeypatch):
    told = page_of_study.with_a_smaller_data_set(tmp_path, monkeypatch)
    page = open_page(address=page_of_study.write(tmp_path, **told).as_uri())
    page.click("#open-explorer")
    for key in ("ArrowRight", "ArrowLeft"):
        page.locator("#explorer canvas").press(key)
    assert "test image 35\n" in page.inner_text(".hovered")
    data_set = page.locator("#explorer").get_by_label("data set", exact=True)
    data_set.select_option(label="More")
    assert "24 of 64 images shown" in page.inner_text("#explorer .status")
    assert "Point at an image" in page.inner_text(".hovered") and not page.inner_text(".near")
    page.get_by_label("mistakes only").check()
    assert listed(page) == ["test image 3"] and column(page, "class") == ["two"]
    data_set.select_option(label="Digits")
    assert "3 of 96 images shown" in page.inner_text("#explorer .status")


def listed(page):
    page.locator("#explorer .list").evaluate("details => { details.open = true }")
    page.wait_for_selector("#explorer .list tbody tr")
    return column(page, "place")


def column(page, name):
    """What a column of the list says, under its head."""
    place = texts(page, "#explorer .list thead th").index(name) + 1
    return texts(page, f"#explorer .list tbody td:nth-child({place})")


def test_mistakes_alone_are_a_list(explorer):
    explorer.get_by_label("mistakes only").check()
    assert listed(explorer) == ["test image 0", "test image 7", "test image 30"]
    assert "3 of 96 images shown" in explorer.inner_text("#explorer .status")
    explorer.get_by_label("right or wrong by").select_option("rf")
    assert listed(explorer) == ["test image 1"]


def test_the_list_of_mistakes_says_what_they_are_taken_for_and_is_sorted(explorer):
    explorer.get_by_label("mistakes only").check()
    assert listed(explorer) == ["test image 0", "test image 7", "test image 30"]
    first, second, third = page_of_study.CLASSES
    # Each is taken for the class after its own.
    assert column(explorer, "class") == [first, second.replace("\u2028", "").strip(), first]
    assert [words.split()[0] for words in column(explorer, "taken for")] == ["a", third, "a"]
    assert column(explorer, "classifier") == ["LDA: wrong"] * 3
    explorer.locator("#explorer .list thead button >> text=taken for").click()
    assert column(explorer, "place") == ["test image 0", "test image 30", "test image 7"]
    assert explorer.locator("#explorer .list [aria-sort=ascending]").inner_text() == "taken for"
    explorer.locator("#explorer .list thead button >> text=place").click()
    explorer.locator("#explorer .list thead button >> text=place").click()
    assert column(explorer, "place") == ["test image 30", "test image 7", "test image 0"]
    # Without names of images there is no column for them.
    assert not explorer.locator("#explorer .list th >> text=file").is_visible()


def test_images_are_filtered_by_what_they_are_taken_for(explorer):
    taken = explorer.locator("#explorer").get_by_label("taken for", exact=True)
    taken.select_option("2")
    # Of twelve test images of the class all are right, and one of another class is taken for it.
    assert "13 of 96 images shown" in explorer.inner_text("#explorer .status")
    explorer.get_by_label("mistakes only").check()
    assert listed(explorer) == ["test image 7"]
    # Results of an earlier version do not say it.
    explorer.get_by_label("right or wrong by").select_option("rf")
    assert not taken.is_visible() and listed(explorer) == ["test image 1"]
    assert not explorer.locator("#explorer .list th >> text=taken for").is_visible()


def test_pointing_at_an_image_says_what_it_is_taken_for_and_shows_its_neighbours(explorer):
    explorer.locator("#explorer canvas").scroll_into_view_if_needed()
    explorer.mouse.move(*place_of(explorer, 30))
    assert 'LDA: wrong, takes it for a "quote" &' in explorer.inner_text(".hovered")
    # On a line the nearest are those with the next numbers; every third is of its class.
    assert "2 of 8 of its class" in explorer.inner_text(".near")
    names = [b.get_attribute("aria-label") for b in explorer.locator(".near button").all()]
    found = {int(name.rpartition("test image ")[2]) for name in names}
    assert found == {26, 27, 28, 29, 31, 32, 33, 34}
    assert explorer.locator(".near button.alike").count() == 2
    explorer.locator(".near button[aria-label$='test image 31']").click()
    assert "test image 31\n" in explorer.inner_text(".hovered")
    explorer.get_by_label("right or wrong by").select_option("rf")
    assert "random <i>forest</i>: right" in explorer.inner_text(".hovered")


def test_images_that_are_files_are_called_by_them(open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(page_of_study, "NAMED", True)
    page = open_page(address=page_of_study.write(tmp_path).as_uri())
    page.click("#open-explorer")
    page.locator("#explorer canvas").scroll_into_view_if_needed()
    page.mouse.move(*place_of(page, 17))
    assert "test image 17\ntest/17 ü.jpg\n" in page.inner_text(".hovered")
    page.get_by_label("mistakes only").check()
    listed(page)
    found = texts(page, "#explorer .list tbody td:nth-child(6)")
    assert found == ["test/0 ü.jpg", "test/7 ü.jpg", "test/30 ü.jpg"]


def test_classes_and_splits_are_filtered(explorer):
    explorer.get_by_role("button", name="none").click()
    assert "0 of 96 images shown" in explorer.inner_text("#explorer .status")
    explorer.get_by_label("שלום").check()
    assert "12 of 96 images shown" in explorer.inner_text("#explorer .status")
    explorer.get_by_label("training images (faint)").check()
    assert f"{12 + N_TRAIN} of 96 images shown" in explorer.inner_text("#explorer .status")


def test_a_map_of_many_classes_says_that_signs_repeat(explorer, open_page, tmp_path, monkeypatch):
    assert not explorer.locator("#explorer .many").is_visible()
    monkeypatch.setattr(page_of_study, "CLASSES", [f"class {i}" for i in range(120)])
    page = open_page(address=page_of_study.write(tmp_path).as_uri())
    page.click("#open-explorer")
    # Ten colours in four shapes.
    words = "Of 120 classes some share a sign, for there are 40"
    assert page.inner_text("#explorer .many").startswith(words)
    page.get_by_role("button", name="none").click()
    page.get_by_label("class 119", exact=True).check()
    assert "12 of 3,840 images shown" in page.inner_text("#explorer .status")


def test_keys_go_from_image_to_image(explorer):
    canvas = explorer.locator("#explorer canvas")
    canvas.press("ArrowRight")
    assert "test image 0\n" in explorer.inner_text(".hovered")
    canvas.press("ArrowRight")
    assert "test image 1\n" in explorer.inner_text(".hovered")
    canvas.press("ArrowLeft")
    canvas.press("ArrowLeft")
    assert "test image 35\n" in explorer.inner_text(".hovered")


def test_colours_are_those_of_the_classes(explorer):
    explorer.locator("#explorer canvas").scroll_into_view_if_needed()
    picture = Image.open(io.BytesIO(explorer.screenshot())).convert("RGB")
    for row, colour in ((3, "#332288"), (4, "#88CCEE"), (5, "#44AA99")):
        x, y = place_of(explorer, row)
        found = "#{:02X}{:02X}{:02X}".format(*picture.getpixel((round(x), round(y))))
        assert found == colour.upper()
