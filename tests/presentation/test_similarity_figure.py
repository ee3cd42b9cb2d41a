"""The figure of similar layers: which values are drawn where, and what it says of the rest."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_up import heat_maps_of, words_of

from collapseflow.presentation.figures import similarity
from collapseflow.presentation.material import Material
from collapseflow.study.schema import Style

STYLE = Style().drawn
TRAINED = "a layer before and after training"
SEEDS = "a layer after training, in two seeds (mean over pairs)"


def content_of(n_layers, n_seeds=1, n_images=5000, names=None, seed=0):
    """Made-up results of a series, every value another; seeds of a layer symmetric."""
    random = np.random.default_rng(seed)
    names = names or [f"layer{n}" for n in range(1, n_layers + 1)]
    maps = random.uniform(0, 1, (3, n_layers, n_layers)).tolist()
    across = random.uniform(0, 1, (n_layers, n_seeds, n_seeds))
    across = (across + across.transpose(0, 2, 1)) / 2
    return {
        "n_images": n_images,
        "layers": names,
        "seeds": list(range(n_seeds)),
        **dict(zip(("first", "last", "first_last"), maps, strict=True)),
        "across_seeds": dict(zip(names, across.tolist(), strict=True)),
        "made_with": ["torch 1"],
    }


@pytest.fixture
def draw(write, figures):
    """A function that draws the contents of some series, by label, and gives the figure."""

    def draw_figure(contents):
        files = write("similarity", list(contents.values()))
        told = {"series": list(contents), "title": "Digits 8×8", "style": STYLE}
        similarity.plot_similarity(Material(similarity=files, **told), {})
        return figures[-1]

    return draw_figure


def maps_of(figure):
    return [axis for axis in figure.axes if heat_maps_of(axis)]


def line_panels(figure):
    return [axis for axis in figure.axes if axis.get_ylabel() == "CKA"]


def ticks_of(axis, which="x"):
    labels = axis.get_xticklabels() if which == "x" else axis.get_yticklabels()
    return [label.get_text() for label in labels]


def mean_over_pairs(content):
    """By hand: the mean of what is above the diagonal."""
    n = len(content["seeds"])
    pairs = [(i, j) for i, j in product(range(n), repeat=2) if i < j]
    return [
        sum(content["across_seeds"][layer][i][j] for i, j in pairs) / len(pairs)
        for layer in content["layers"]
    ]


def own_layer(content):
    return [content["first_last"][n][n] for n in range(len(content["layers"]))]


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_row_of_heat_maps_and_lines_for_each_series(draw, n_seeds):
    contents = {
        "ResNet18, random": content_of(4, n_seeds),
        "ResNet18, ImageNet": content_of(3, n_seeds, seed=1),
    }
    figure = draw(contents)
    maps, panels = maps_of(figure), line_panels(figure)
    assert len(maps) == 6 and len(panels) == 2
    for number, content in enumerate(contents.values()):
        of_row = maps[3 * number : 3 * number + 3]
        titles = [axis.get_title().strip() for axis in of_row]
        assert titles == ["before training", "after training", "before and after"]
        for axis, key in zip(of_row, ("first", "last", "first_last"), strict=True):
            np.testing.assert_array_equal(heat_maps_of(axis)[0].get_array(), content[key])
        assert (of_row[2].get_ylabel(), of_row[2].get_xlabel()) == ("layer, before", "layer, after")
        assert ticks_of(of_row[0], "y") == ticks_of(of_row[0]) == content["layers"]
        trained, seeds = panels[number].lines
        assert trained.get_ydata().tolist() == own_layer(content)
        if n_seeds == 1:
            assert np.isnan(seeds.get_ydata()).all()
        else:
            assert seeds.get_ydata().tolist() == pytest.approx(mean_over_pairs(content))
        assert ticks_of(panels[number]) == content["layers"]
    assert [axis.texts[0].get_text() for axis in maps[::3]] == list(contents)
    assert words_of(figure)[0] == ([TRAINED] if n_seeds == 1 else [TRAINED, SEEDS])


def test_all_maps_share_one_scale_from_zero_to_one(draw):
    figure = draw({"one": content_of(3), "other": content_of(3, seed=1)})
    for axis in maps_of(figure):
        assert heat_maps_of(axis)[0].get_clim() == (0, 1)
        assert heat_maps_of(axis)[0].get_cmap().name == "viridis"
    bars = [axis for axis in figure.axes if axis.get_xlabel().startswith("linear CKA")]
    assert [axis.get_xlim() for axis in bars] == [(0, 1)]


def test_says_of_what_data_how_many_images_and_which_seed(draw):
    figure = draw({"one": content_of(2, 2, n_images=1234), "other": content_of(2, n_images=5000)})
    assert figure.get_suptitle() == "Digits 8×8: similarity of layers"
    assert words_of(figure)[1] == "On 1,234 to 5,000 training images."
    assert "linear CKA (unbiased), first seed" in [axis.get_xlabel() for axis in figure.axes]
    assert words_of(draw({"one": content_of(2)}))[1] == "On 5,000 training images."


def test_many_layers_are_numbered_and_named_below(draw):
    names = [f"layer{n}.0.conv" for n in range(1, 19)]
    figure = draw({"one": content_of(18, names=names), "other": content_of(18, names=names)})
    assert ticks_of(maps_of(figure)[0]) == ["1", "4", "7", "10", "13", "16"]
    assert ticks_of(line_panels(figure)[0]) == ["1", "4", "7", "10", "13", "16"]
    notes = words_of(figure)[1].replace("\u00a0", " ").replace("\n", " ")
    listed = ", ".join(f"{n} {name}" for n, name in enumerate(names, 1))
    assert notes.count(f"Layers: {listed}.") == 1


def test_what_is_not_defined_is_grey(draw):
    content = content_of(3)
    content["first_last"][1][1] = content["first"][0][2] = None
    figure = draw({"one": content})
    assert np.isnan(heat_maps_of(maps_of(figure)[0])[0].get_array().filled(np.nan)[0, 2])
    trained = line_panels(figure)[0].lines[0].get_ydata()
    assert np.isnan(trained).tolist() == [False, True, False]
    assert "Grey: not defined" in words_of(figure)[1]
    assert "Grey" not in words_of(draw({"one": content_of(3)}))[1]


def test_values_below_zero_are_seen(draw):
    content = content_of(3)
    content["first_last"][1][1] = -0.2
    assert line_panels(draw({"one": content}))[0].get_ylim()[0] < -0.2


def test_the_row_of_a_series_that_failed_says_why(draw):
    contents = {
        "ResNet18": content_of(3),
        "VGG11": {"failed": "the loss is not finite in epoch 3"},
        "ResNet34": content_of(2),
    }
    figure = draw(contents)
    assert len(maps_of(figure)) == 6 and len(line_panels(figure)) == 2
    (empty, *_) = [axis for axis in figure.axes if not axis.axison]
    (text,) = empty.texts
    assert text.get_text() == "VGG11 failed: the loss is not finite in epoch 3"


def test_all_may_fail(draw):
    figure = draw({"ResNet18": {"failed": "word " * 40}})
    assert not maps_of(figure)
    (text,) = figure.axes[0].texts
    assert " ".join(text.get_text().split()) == "ResNet18 failed: " + " ".join(["word"] * 40)
    assert max(map(len, text.get_text().splitlines())) < 120
    assert words_of(figure)[1] == ""


def test_writes_the_files_it_is_asked_for(write, tmp_path):
    files = write("similarity", [content_of(3, 2), content_of(2), {"failed": "no room"}])
    outputs = {suffix: tmp_path / f"figure.{suffix}" for suffix in ("pdf", "png")}
    told = {"series": ["one", "two", "three"], "title": "Digits", "style": STYLE}
    similarity.plot_similarity(Material(similarity=files, **told), outputs)
    assert all(path.stat().st_size for path in outputs.values())


@pytest.mark.parametrize("n", [3, 70])
def test_vectors_have_one_heat_map_and_a_table_of_pairs(write, figures, out, n):
    values = np.random.default_rng(0).uniform(0, 1, (n, n))
    values = (values + values.T) / 2
    names = [f"hidden_{number}" for number in range(n)]
    cells = [
        [None if 1 in pair else values[pair] for pair in product([i], range(n))] for i in range(n)
    ]
    files = write("vectors", [{"n_images": 5000, "sets": names, "cka": cells}])
    told = {"title": "sentences", "style": STYLE}
    similarity.plot_similarity_of_vectors(Material(similarity=files, **told), vars(out))
    [axis] = maps_of(figures[0])
    [drawn] = heat_maps_of(axis)
    shown = np.ma.filled(drawn.get_array(), np.nan)
    np.testing.assert_array_equal(shown, np.array(cells, dtype=float))
    step = {3: 1, 70: 3}[n]
    for which in "xy":
        assert ticks_of(axis, which) == names[::step]
    assert "on 5,000 training vectors" in figures[0].get_suptitle()
    table = pd.read_csv(out.csv, index_col=["vectors", "others"])["cka"]
    assert len(table) == n * (n - 1) / 2 and table.isna().sum() == n - 1
    assert table["hidden_0", "hidden_2"] == pytest.approx(values[0, 2], rel=1e-15)
