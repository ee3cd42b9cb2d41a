"""What all figures share: titles of files, cells that stay sharp, points as bitmaps."""

import re
import shutil
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D

from collapseflow.presentation.figures import appearance, curves, embedding
from collapseflow.presentation.material import Material
from collapseflow.study.schema import Style

STYLE = Style().drawn


def images_in(pdf):
    """Resolutions, in points an inch, of the bitmaps of a PDF."""
    if shutil.which("pdfimages") is None:
        pytest.skip("needs pdfimages of poppler-utils")
    listed = subprocess.run(["pdfimages", "-list", pdf], capture_output=True, text=True, check=True)
    return [int(line.split()[12]) for line in listed.stdout.splitlines()[2:]]


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("results/mine/figures/collapse_digits.pdf", "collapse_digits, study mine"),
        ("results/mine/figures/geometry/digits/net/s0.pdf", "geometry/digits/net/s0, study mine"),
        ("figure.pdf", "figure"),
    ],
)
def test_a_pdf_has_the_title_of_its_figure_and_no_date(tmp_path, path, title):
    figure, _ = plt.subplots()
    # The same also below a folder that is called figures.
    path = tmp_path / path
    appearance.save(figure, {"pdf": path})
    content = path.read_bytes()
    assert re.search(rb"/Title \((.*?)\)", content)[1].decode() == title
    assert b"/CreationDate" not in content


@pytest.mark.parametrize(
    ("width", "expected"), [(7, (7, 0)), (3.3, (3.3, 0)), ("column", (3.3, 6)), ("full", (6.7, 7))]
)
def test_a_width_has_inches_and_one_of_print_a_least_size_of_words(width, expected):
    told = Style(width=width, font_size=6.5).drawn
    assert (told["width"], told["smallest"]) == expected
    assert appearance.points(told, 3) == max(3.5, expected[1])


def test_an_svg_has_words_as_text_and_the_same_bytes_each_time(tmp_path):
    contents = []
    for name in ("figure.svg", "again/figure.svg"):
        appearance.apply(STYLE)
        figure, axis = plt.subplots()
        axis.plot([0, 1], [0, 1], marker="o")
        axis.set_title("collapse of digits")
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        appearance.save(figure, {"svg": path})
        contents.append(path.read_text())
    assert contents[0] == contents[1]
    assert ">collapse of digits</text>" in contents[0] and "<dc:date>" not in contents[0]


def test_a_heat_map_is_drawn_as_areas_with_the_first_row_at_the_top(tmp_path):
    figure, axis = plt.subplots()
    values = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]])
    cells = appearance.heat_map(axis, values, cmap="viridis")
    assert isinstance(cells, QuadMesh) and not axis.images
    assert cells.get_array().tolist() == [[1.0, None, 3.0], [4.0, 5.0, 6.0]]
    assert axis.get_xlim() == (-0.5, 2.5) and axis.get_ylim() == (1.5, -0.5)
    corners = cells.get_coordinates()
    np.testing.assert_array_equal(corners[1:, 1:].mean(axis=-1).shape, (2, 3))
    np.testing.assert_array_equal((corners[0, 0] + corners[1, 1]) / 2, (0, 0))
    path = tmp_path / "cells.pdf"
    appearance.save(figure, {"pdf": path})
    assert images_in(path) == []


def test_clouds_of_points_are_bitmaps_of_300_dpi_in_a_pdf(tmp_path, write_images):
    rng = np.random.default_rng(0)
    values = {"n_total": [50], "perplexity": 5.0, "recall": 0.5, "splits": ["train"]}
    path = tmp_path / "there.npz"
    points = {"coordinates": rng.normal(size=(50, 2)), "labels": np.repeat([0, 1], 25)}
    np.savez(path, split=np.zeros(50, int), **points, **values)
    pdf = tmp_path / "figure.pdf"
    told = {"column_labels": ["raw"], "embedding_heading": "mine", "style": {**STYLE, "dpi": 80}}
    material = Material(embeddings=[path], images=write_images("ab"), **told)
    embedding.plot_embeddings(material, {"pdf": pdf, "png": tmp_path / "figure.png"})
    found = images_in(pdf)
    assert found and set(found) == {300}


def test_a_value_stays_in_the_line_of_its_key_in_a_legend(figures):
    style = Style(width="column").drawn
    figure, _ = plt.subplots(figsize=(style["width"], 2))
    labels = [f"ResNet18, decay, learning rate 0.0003, weight decay {v}" for v in ("0", "5e-4")]
    keys = [[Line2D([], [], color=c, label=label)] for c, label in zip("rb", labels, strict=True)]
    curves.save_with_legend(figure, keys, [], style, {})
    for text, label in zip(figure.legends[0].get_texts(), labels, strict=True):
        lines = text.get_text().split("\n")
        assert len(lines) > 1 and " ".join(lines) == label
        assert not any(line[0].isdigit() for line in lines)
