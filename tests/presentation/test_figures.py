"""What figures draw: who has which colour, line and marker, on which axes, with which intervals."""

from itertools import combinations, product

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from collapseflow import published
from collapseflow.measures.intervals import wilson_interval
from collapseflow.presentation.figures import embedding, epochs, variance
from collapseflow.presentation.figures import style as look
from collapseflow.study.schema import Style

STYLE = Style().model_dump()
DATASETS = {"mnist5k": "MNIST subset", "digits": "Digits 8×8", "fashion": "Fashion-MNIST"}
BACKBONES = {"resnet18": "ResNet18", "resnet34": "ResNet34", "vgg11": "VGG11"}
N_TEST = {"mnist5k": 1000, "digits": 359, "fashion": 10_000}
N_EPOCHS = 4


@pytest.fixture
def figures(monkeypatch):
    """The figures that functions save, which stay open until the test ends."""
    kept = []
    monkeypatch.setattr(look, "save", lambda figure, paths: kept.append(figure))
    yield kept
    plt.close("all")


def labels(datasets=DATASETS, backbones=BACKBONES, all_backbones=None, of_report=None):
    return {
        "datasets": datasets,
        "backbones": backbones,
        "all_backbones": list(all_backbones or backbones),
        "published": of_report or {},
    }


@pytest.fixture
def collapse(tmp_path):
    """Measures of three backbones on three data sets, each with a value of its own."""
    rows = []
    for (d, dataset), (b, backbone) in product(enumerate(DATASETS), enumerate(BACKBONES)):
        for epoch, split in product(range(N_EPOCHS + 1), ("train", "test")):
            values = dict.fromkeys(epochs.MEASURES, (1 + d + 3 * b) / (2 + epoch))
            values["n_samples"] = N_TEST[dataset]
            if epoch:
                values["accuracy"] = 0.95 - 0.1 * d - 0.02 * b - 0.1 / epoch
            for measure, value in values.items():
                low = high = None
                if measure == "accuracy" and split == "test":
                    low, high = wilson_interval(value, N_TEST[dataset])
                rows.append((dataset, backbone, epoch, split, measure, value, low, high))
    path = tmp_path / "collapse.csv"
    columns = ["dataset", "backbone", "epoch", "split", "measure", "value", "low", "high"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def curves_of(axis):
    """The lines of a panel that have markers, as drawn: colour, line and marker."""
    return [
        (matplotlib.colors.to_hex(line.get_color()), line.get_linestyle(), line.get_marker())
        for line in axis.lines
        if line.get_marker() not in ("None", "", None)
    ]


# --- one assignment for a study ---------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 30])
def test_no_two_backbones_have_one_colour(n):
    colours = look.backbone_colours([f"net{i}" for i in range(n)])
    assert len(set(colours.values())) == n == len(colours)
    assert look.NEUTRAL not in colours.values()
    # Each can be seen on white: contrast of at least 1.5 as WCAG 2 defines it.
    for colour in colours.values():
        red, green, blue = (
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
            for c in matplotlib.colors.to_rgb(colour)
        )
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert 1.05 / (luminance + 0.05) > 1.5


@pytest.mark.parametrize("n", [1, 10, 11, 30, 80, 200])
def test_no_two_classes_have_one_colour_and_marker(n):
    looks = look.class_looks(n)
    assert len(looks) == len(set(looks)) == n
    assert len({marker for _, marker in looks[:10]}) == 1


@pytest.mark.parametrize("n", [30, 61])
def test_thirty_classes_are_numbered_and_named_and_sixty_one_only_coloured(tmp_path, figures, n):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n), 5)
    path = tmp_path / "embedding.npz"
    coordinates = rng.normal(size=(len(labels), 2)).astype(np.float32)
    values = {"n_total": len(labels), "perplexity": 5.0, "recall": 0.5}
    np.savez(path, coordinates=coordinates, labels=labels, **values)
    names = [f"class number {c}" for c in range(n)]
    embedding.plot_embeddings(
        [path], ["raw pixels"], names, "mine", STYLE, [tmp_path / "figure.png"]
    )
    axis, *_ = figures[0].axes
    points = sum(len(collection.get_offsets()) for collection in axis.collections)
    assert points == len(labels)
    legends = [text.get_text() for found in figures[0].legends for text in found.get_texts()]
    numbers = [text.get_text() for text in axis.texts]
    if n == 30:
        assert legends == [f"{c}  {name}" for c, name in enumerate(names)]
        assert numbers == [str(c) for c in range(n)]
        centre = np.median(coordinates[labels == 7], axis=0)
        assert axis.texts[7].get_position() == pytest.approx(tuple(centre))
    else:
        assert legends == numbers == []


@pytest.mark.parametrize("n", [1, 3, 8, 9, 60, 200])
def test_no_two_data_sets_have_one_line_and_marker(n):
    lines = look.dataset_lines([f"set{i}" for i in range(n)])
    assert len({(str(d["linestyle"]), d["marker"]) for d in lines.values()}) == n
    # Markers alone tell them apart, too: few epochs leave little of a line to be seen.
    assert len({d["marker"] for d in lines.values()}) == n


def test_a_backbone_keeps_its_colour_whatever_else_a_figure_shows():
    study = ["resnet18", "resnet34", "vgg11"]
    everywhere = look.backbone_colours(study)
    assert look.backbone_colours(study[:2]) == {b: everywhere[b] for b in study[:2]}


def test_all_figures_draw_a_backbone_in_one_colour_and_a_data_set_with_one_line(
    collapse, tmp_path, figures
):
    shown = {name: BACKBONES[name] for name in ("resnet34", "vgg11")}
    named = labels(backbones=shown, all_backbones=BACKBONES)
    epochs.plot_accuracy(collapse, named, STYLE, [])
    epochs.plot_collapse(collapse, named, STYLE, [])
    accuracy, measures = figures
    colours = {b: c.lower() for b, c in look.backbone_colours(list(BACKBONES)).items()}
    lines = look.dataset_lines(list(DATASETS))
    expected = {(colours[b], lines[d]["marker"]) for b, d in product(shown, DATASETS)}
    for panel in measures.axes:
        assert {(colour, marker) for colour, _, marker in curves_of(panel)} == expected
        assert len(curves_of(panel)) == len(expected)
    for panel, dataset in zip(accuracy.axes, DATASETS, strict=False):
        drawn = {(colour, marker) for colour, _, marker in curves_of(panel)}
        assert drawn == {(colours[b], lines[dataset]["marker"]) for b in shown}

    values = pd.DataFrame(
        [
            (f"{b}-pretrain" if b != "raw" else b, split, "features", quantity, 0, other, 1.0)
            for b in ("resnet34", "raw")
            for split in ("train", "test")
            for quantity, other in (("intra_class", None), ("mean_distance", 1))
        ],
        columns=["features", "split", "space", "quantity", "class_a", "class_b", "value"],
    )
    values.to_csv(tmp_path / "variance.csv", index=False)
    features = {"resnet34-pretrain": "ResNet34, letters", "raw": "raw pixels"}
    path = tmp_path / "variance.csv"
    variance.plot_variance(path, features, list(BACKBONES), ["a", "b"], "data", STYLE, [])
    rows = [axis for axis in figures[2].axes if axis.patches]
    drawn = [{matplotlib.colors.to_hex(p.get_edgecolor()) for p in row.patches} for row in rows]
    assert drawn == [{colours["resnet34"]}, {look.NEUTRAL}]


def test_the_names_of_thirty_classes_do_not_lie_on_each_other(tmp_path, figures):
    n = 30
    rows = [
        ("raw", split, "intra_class", c, None, 1.0) for split in ("train", "test") for c in range(n)
    ]
    rows += [("raw", "train", "mean_distance", a, b, 1.0) for a, b in combinations(range(n), 2)]
    columns = ["features", "split", "quantity", "class_a", "class_b", "value"]
    path = tmp_path / "variance.csv"
    pd.DataFrame(rows, columns=columns).assign(space="features").to_csv(path, index=False)
    names = [f"class number {c}" for c in range(n)]
    variance.plot_variance(path, {"raw": "raw pixels"}, [], names, "data", STYLE, [])
    heat, bars = figures[0].axes[:2]
    figures[0].canvas.draw()
    for axis in (heat, bars):
        shown = [text for text in axis.get_yticklabels() if text.get_text()]
        assert [text.get_text() for text in shown] == names
        middles = [
            text.get_window_extent().y0 + text.get_window_extent().height / 2 for text in shown
        ]
        apart = np.abs(np.diff(middles)).min()
        # What letters take of the height of their line, in pixels.
        assert apart > 0.7 * shown[0].get_fontsize() * figures[0].dpi / 72
    assert not [text for text in heat.get_xticklabels() if text.get_text()]


def test_every_line_of_a_crowded_figure_is_of_a_kind_of_its_own(tmp_path, figures):
    datasets = {f"set{i}": f"set {i}" for i in range(10)}
    backbones = {f"net{i}": f"net {i}" for i in range(10)}
    rows = [
        (dataset, backbone, 0, "train", measure, 1.0, None, None)
        for dataset, backbone, measure in product(datasets, backbones, epochs.MEASURES)
    ]
    columns = ["dataset", "backbone", "epoch", "split", "measure", "value", "low", "high"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "collapse.csv", index=False)
    named = labels(datasets, backbones)
    epochs.plot_collapse(tmp_path / "collapse.csv", named, STYLE, [])
    for panel in figures[0].axes:
        drawn = curves_of(panel)
        assert len(drawn) == len(set(drawn)) == 100


def test_the_legend_names_every_backbone_data_set_and_split(collapse, figures):
    epochs.plot_accuracy(collapse, labels(), STYLE, [])
    epochs.plot_collapse(collapse, labels(), STYLE, [])
    accuracy, measures = (
        {text.get_text().strip() for text in figure.legends[0].get_texts()} - {""}
        for figure in figures
    )
    splits = {"training images", "test images, 95 % interval"}
    assert accuracy == {*BACKBONES.values(), *splits}
    assert measures == {*BACKBONES.values(), *DATASETS.values()}


# --- axes and intervals -----------------------------------------------------------------------


def test_panels_that_are_compared_have_the_same_axes(collapse, figures):
    epochs.plot_accuracy(collapse, labels(), STYLE, [])
    panels = figures[0].axes[: len(DATASETS)]
    assert len({panel.get_ylim() for panel in panels}) == 1
    assert len({panel.get_xlim() for panel in panels}) == 1
    low, high = panels[0].get_ylim()
    accuracies = pd.read_csv(collapse).query("measure == 'accuracy'")
    assert low < 100 * accuracies["low"].min() and 100 * accuracies["high"].max() < high
    # Whoever has no panel below has the numbers of the epochs.
    assert [panel.get_xlabel() for panel in panels] == ["", "epoch", "epoch"]


def test_the_panels_of_collapse_share_their_epochs_and_keep_their_scales(collapse, figures):
    epochs.plot_collapse(collapse, labels(), STYLE, [])
    panels = figures[0].axes
    assert len({panel.get_xlim() for panel in panels}) == 1
    assert [panel.get_yscale() for panel in panels] == ["log", "linear", "linear", "linear"]
    assert [panel.get_title()[4:7] for panel in panels] == ["NC1", "NC2", "NC2", "NC2"]
    assert all(panel.get_ylabel() and panel.yaxis.get_tick_params()["labelleft"] is not False
               for panel in panels)  # fmt: skip


def test_accuracies_on_test_images_have_their_intervals(collapse, figures):
    epochs.plot_accuracy(collapse, labels(), STYLE, [])
    panel = figures[0].axes[list(DATASETS).index("digits")]
    assert "359 test images" in panel.get_title()
    bars = [bar for container in panel.containers for bar in container[2]]
    assert len(bars) == len(BACKBONES)  # test images only
    for b, bar in enumerate(bars):
        for epoch, ((x, low), (same, high)) in enumerate(bar.get_segments(), start=1):
            assert x == same and abs(x - epoch) < 0.2
            # A made-up accuracy is no whole number of images: SciPy gets the nearest.
            share = 0.95 - 0.1 - 0.02 * b - 0.1 / epoch
            interval = binomtest(round(359 * share), 359).proportion_ci(method="wilson")
            assert (low, high) == pytest.approx((100 * interval.low, 100 * interval.high), abs=0.2)


def test_training_and_test_images_are_told_apart(collapse, figures):
    epochs.plot_accuracy(collapse, labels(backbones={"vgg11": "VGG11"}), STYLE, [])
    markers = [line for line in figures[0].axes[0].lines if line.get_marker() == "o"]
    faces = [matplotlib.colors.to_hex(line.get_markerfacecolor()) for line in markers]
    assert faces == [look.backbone_colours(["vgg11"])["vgg11"].lower(), "#ffffff"]


# --- published curves -------------------------------------------------------------------------


def faint(panel):
    """The lines of a panel that have no marker and no interval."""
    return [line for line in panel.lines if line.get_marker() in ("None", "") and line.get_alpha()]


def test_published_curves_lie_behind_those_of_the_same_experiment_only(collapse, figures):
    named = labels(of_report={"digits/resnet34": ["fashion_mnist", "vgg11_bn_finetuned"]})
    epochs.plot_accuracy(collapse, named, STYLE, [])
    epochs.plot_collapse(collapse, named, STYLE, [])
    accuracy, measures = figures
    assert [len(faint(panel)) for panel in accuracy.axes[:3]] == [0, 2, 0]
    assert [len(faint(panel)) for panel in measures.axes] == [1, 1, 1, 1]
    curves = published.curves().query(
        "dataset == 'fashion_mnist' and features == 'vgg11_bn_finetuned' and epoch <= @N_EPOCHS"
    )
    drawn = faint(measures.axes[1])[0]
    expected = curves[curves["measure"] == "nc2_equinorm"]
    np.testing.assert_array_equal(drawn.get_xdata(), expected["epoch"])
    np.testing.assert_array_equal(drawn.get_ydata(), expected["value"])
    colour = look.backbone_colours(list(BACKBONES))["resnet34"]
    assert drawn.get_color() == colour
