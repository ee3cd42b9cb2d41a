"""What figures draw: who has which colour, line and marker, on which axes, with which intervals."""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import combinations, product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import BACKBONES, DATASETS, EVERYTHING, describe_run, describe_runs, glyphs_of
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.transforms import Bbox
from scipy.stats import binomtest, gmean

from collapseflow import published
from collapseflow.measures.embedding import write_failed_embedding
from collapseflow.measures.intervals import wilson_interval
from collapseflow.measures.quantities import panels_of
from collapseflow.presentation.figures import (
    appearance,
    curves,
    embedding,
    epochs,
    layers,
    probes,
    similarity,
    sweep,
    training,
    variance,
)
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import COLUMNS, IDENTITY, read_csv
from collapseflow.presentation.tables.runs import training_table
from collapseflow.running.words import as_word
from collapseflow.study.schema import Style

STYLE = Style().drawn
N_TEST = {"mnist5k": 1000, "digits": 400, "fashion": 10_000}
N_EPOCHS = 4
#: What measures are on all training images beyond those on some.
ON_ALL = 50
QUANTITIES = (*panels_of("epochs"), "log_fuzziness", "accuracy_nearest_mean")


def value_of(run, epoch, layer, split, quantity):
    """A value that each data set, backbone, seed and layer has of its own."""
    who = 1 + list(DATASETS).index(run.dataset) + 3 * list(BACKBONES).index(run.backbone)
    return (who + run.seed / 4 + run.layers.index(layer) / 2) / (2 + epoch)


def share_of(run, epoch, split):
    """An accuracy that is a whole number of images."""
    who = list(DATASETS).index(run.dataset) / 10 + list(BACKBONES).index(run.backbone) / 50
    return None if epoch == 0 else round(0.9 - who - 0.05 * (split == "test") - 0.1 / epoch, 2)


def write_tables_to(folder, runs, value, share, measured_epochs=None, more=(), labels=DATASETS):
    """Write measures.csv and failures.csv of some runs.

    ``value(run, epoch, layer, split, quantity)`` and ``share(run, epoch, split)`` say the numbers;
    a text is the reason of a failure, None no accuracy. ``more`` are rows of what is no run.
    Measures on the training images are those of as many as there are test images; on all of them
    they are other ones, which nothing draws but report A's.
    """
    rows, failed = list(more), []
    swept = list(dict.fromkeys(key for run in runs for key in run.setting))
    for run in runs:
        who = {key: getattr(run, key) for key in IDENTITY}
        who |= {key: as_word(run.setting[key]) for key in run.setting}
        for epoch in measured_epochs or range(run.last + 1):
            reason = value(run, epoch, run.layer, "train", "nc1")
            if isinstance(reason, str):
                what = f"{labels[run.dataset]}, {run.label}"
                failed.append({**who, "epoch": epoch, "what": what, "reason": reason})
                break
            for split in ("train", "test"):
                where = {**who, "epoch": epoch, "split": split}
                for layer, quantity in product(run.layers, QUANTITIES):
                    number = value(run, epoch, layer, split, quantity)
                    row = {**where, "layer": layer, "quantity": quantity, "value": number}
                    rows.append(row)
                    if split == "train" and not quantity.startswith("accuracy"):
                        of_all = {**row, "value": ON_ALL + number}
                        row["split"] = "train_matched"
                        as_published = {**of_all, "quantity": f"{quantity}_report_a"}
                        rows += [of_all, as_published]
                accuracy = share(run, epoch, split)
                if accuracy is None:
                    continue
                n = 1000 if split == "train" else N_TEST.get(run.dataset, 100)
                row = {**where, "quantity": "accuracy", "value": accuracy, "n": n}
                if split == "test":
                    row["low"], row["high"] = wilson_interval(accuracy, n)
                rows.append(row)
    paths = folder / "measures.csv", folder / "failures.csv"
    columns = [*COLUMNS, *swept], [*IDENTITY, "epoch", "layer", "what", "reason", *swept]
    for path, of_path, names in zip(paths, (rows, failed), columns, strict=True):
        pd.DataFrame(of_path, columns=names).to_csv(path, index=False)
    return paths


@pytest.fixture
def write_tables(tmp_path):
    """:func:`write_tables_to` a folder of the test's own."""
    return partial(write_tables_to, tmp_path)


@pytest.fixture
def arguments(write_tables):
    """A function that gives what the figures take, of some runs with made-up results."""

    def make(runs, value=value_of, share=share_of, measured_epochs=None, more=()):
        paths = write_tables(runs, value, share, measured_epochs, more)
        return given_of(paths, runs)

    return make


def given_of(tables, runs, datasets=DATASETS, backbones=BACKBONES, **more):
    """What the figures take, of runs with measures.csv and failures.csv."""
    layered = [run for run in runs if len(run.layers) > 1]
    told = {"runs": runs, "layered_runs": layered, "swept_runs": runs, "dataset": "digits"}
    told |= EVERYTHING
    labels = {"datasets": datasets, "backbones": backbones, "style": STYLE}
    return Material(measures=tables[0], failures=tables[1], **{**told, **labels, **more})


def plot_collapse(given):
    """Draw the collapse of one data set."""
    epochs.plot_collapse(given, {})


def plot_sweep(given, training):
    """Draw a sweep, of what the other figures take and of what training logged."""
    given.training = training
    sweep.plot_sweep(given, {})


def draw_embeddings(embeddings, labels, images):
    """Draw t-SNE of some feature sets."""
    told = {"column_labels": labels, "embedding_heading": "mine", "style": STYLE}
    embedding.plot_embeddings(Material(embeddings=embeddings, images=images, **told), {})


def draw_variance(path, features, backbones, images):
    """Draw the variances of some feature sets."""
    told = {"variance_features": features, "variance_heading": "data", "style": STYLE}
    read = {"variance": [path], "variance_images": images}
    variance.plot_variance(Material(backbone_names=backbones, **read, **told), {})


@pytest.fixture
def crowd(arguments):
    """What the figures take, of three backbones on three data sets."""
    return arguments(describe_runs(DATASETS, BACKBONES))


def curves_of(axis):
    """The lines of a panel that have markers, as drawn: colour, line and marker."""
    return [
        (to_hex(line.get_color()), line.get_linestyle(), line.get_marker())
        for line in axis.lines
        if line.get_marker() not in ("None", "", None)
    ]


def marked(axis):
    """The lines of a panel that have markers."""
    return [line for line in axis.lines if line.get_marker() not in ("None", "", None)]


def words_of(figure):
    """What stands below a figure: the words of the legend, and above them the notes."""
    legend = figure.legends[0]
    words = {text.get_text().strip() for text in legend.get_texts()} - {""}
    return words, legend.get_title().get_text()


def band_of(axis, number=0):
    """Lowest and highest edge of a band of a panel, by its places on the axis."""
    places, edges = axis.collections[number].get_paths()[0].vertices.T
    return {x: (edges[places == x].min(), edges[places == x].max()) for x in np.unique(places)}


# --- one assignment for a study ---------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 30])
def test_no_two_backbones_have_one_colour(n):
    colours = appearance.backbone_colours([f"net{i}" for i in range(n)])
    assert len(set(colours.values())) == n == len(colours)
    assert appearance.NEUTRAL not in colours.values()
    # Each can be seen on white: contrast of at least 1.5 as WCAG 2 defines it.
    for colour in colours.values():
        red, green, blue = (
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        )
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert 1.05 / (luminance + 0.05) > 1.5


@pytest.mark.parametrize("n", [1, 10, 11, 30, 80, 200])
def test_no_two_classes_have_one_colour_and_marker(n):
    looks = appearance.class_appearances(n)
    assert len(looks) == len(set(looks)) == n
    assert len({marker for _, marker in looks[:10]}) == 1


@pytest.mark.parametrize("n", [30, 61])
def test_thirty_classes_are_numbered_and_named_and_of_sixty_one_the_largest(
    tmp_path, write_images, figures, n
):
    rng = np.random.default_rng(0)
    # Of more than sixty those with the most test images: the last twenty.
    sizes = np.where(np.arange(n) < n - 20, 5, 10)
    labels = np.repeat(np.arange(n), sizes)
    path = tmp_path / "embedding.npz"
    coordinates = rng.normal(size=(len(labels), 2)).astype(np.float32)
    # No other class is there.
    coordinates[labels == 7] += 9
    split = np.tile([0, 0, 0, 1, 1], len(labels) // 5)
    n_train, n_test = np.bincount(split).tolist()
    splits = {"splits": ["train", "test"], "split": split, "n_total": [n_train, 2000]}
    values = {**splits, "perplexity": 5.0, "recall": 0.5}
    np.savez(path, coordinates=coordinates, labels=labels, **values)
    names = [f"class {c}" for c in range(n)]
    draw_embeddings([path], ["raw pixels"], write_images(names))
    axis, *_ = figures[0].axes
    points = sum(len(collection.get_offsets()) for collection in axis.collections)
    assert points == len(labels)
    # The test images lie over the training images, which are faint.
    opacities = [collection.get_alpha() for collection in axis.collections]
    assert opacities == sorted(opacities) and set(opacities) == {embedding.BEHIND, 1}
    for opacity, place in ((embedding.BEHIND, 0), (1, 1)):
        of_split = [c.get_offsets() for c in axis.collections if c.get_alpha() == opacity]
        drawn = sorted(map(tuple, np.concatenate(of_split).tolist()))
        assert drawn == sorted(map(tuple, coordinates[split == place].tolist()))
    under = axis.get_xlabel().replace("\n", " ")
    assert under.startswith(f"all {n_train} training and {n_test} of 2,000 test images, stratified")
    legends = [text for text, _ in glyphs_of(figures[0])]
    assert {"training", "test"} <= set(legends)
    legends = sorted(set(legends) - {"training", "test"})
    others = "the other 41 classes"
    numbers = [text.get_text() for text in axis.texts]
    if n == 30:
        assert legends == sorted(f"{c}  {name}" for c, name in enumerate(names))
        assert numbers == [str(c) for c in range(n)]
        # Where the images in front are.
        centre = np.median(coordinates[(labels == 7) & (split == 1)], axis=0)
        assert axis.texts[7].get_position() == pytest.approx(tuple(centre))
    else:
        assert numbers == [str(c) for c in range(41, 61)]
        assert legends == sorted([*(f"{c}  class {c}" for c in range(41, 61)), others])
        grey = [c for c in axis.collections if to_hex(c.get_facecolor()[0]) == "#bbbbbb"]
        drawn = np.concatenate([c.get_offsets() for c in grey]).tolist()
        assert sorted(map(tuple, drawn)) == sorted(map(tuple, coordinates[labels < 41].tolist()))


def test_numbers_of_classes_that_are_in_one_place_stand_beside_each_other(
    tmp_path, write_images, figures
):
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(30), 12)
    # Two crowds of classes.
    centres = np.where(np.arange(30)[:, None] < 15, [0, 0], [40, 10])
    coordinates = centres[labels] + rng.normal(size=(len(labels), 2))
    both = {"splits": ["train", "test"], "split": np.arange(len(labels)) % 2, "n_total": [180, 180]}
    path = tmp_path / "embedding.npz"
    np.savez(path, coordinates=coordinates, labels=labels, **both, perplexity=5.0, recall=0.5)
    draw_embeddings([path], ["raw pixels"], write_images([f"class {c}" for c in range(30)]))
    axis = figures[0].axes[0]
    figures[0].canvas.draw()
    boxes = [text.get_window_extent() for text in axis.texts]
    lying = [(a, b) for a, b in combinations(boxes, 2) if Bbox.intersection(a, b) is not None]
    areas = [Bbox.intersection(a, b).width * Bbox.intersection(a, b).height for a, b in lying]
    # The boxes have room above and below the digits.
    assert max(areas, default=0) < 0.25 * min(box.width * box.height for box in boxes)
    # They stay in their crowd.
    found = np.array([text.get_position() for text in axis.texts])
    assert np.linalg.norm(found - centres, axis=1).max() < 15


def test_a_class_without_test_images_has_its_number_at_its_training_images(
    tmp_path, write_images, figures
):
    path = tmp_path / "embedding.npz"
    points = {"coordinates": np.array([[0.0, 0], [2, 2], [9, 9]]), "labels": np.array([0, 0, 1])}
    both = {"splits": ["train", "test"], "split": np.array([0, 1, 0]), "n_total": [2, 1]}
    np.savez(path, **points, **both, perplexity=5.0, recall=0.5)
    draw_embeddings([path], ["raw pixels"], write_images("ab"))
    places = {text.get_text(): text.get_position() for text in figures[0].axes[0].texts}
    assert places == {"0": (2, 2), "1": (9, 9)}


@pytest.mark.parametrize("n", [1, 3, 8, 9, 60, 200])
def test_no_two_data_sets_have_one_marker(n):
    markers = appearance.dataset_markers([f"set{i}" for i in range(n)])
    assert len(set(markers.values())) == len(markers) == n


def test_a_backbone_keeps_its_colour_whatever_else_a_figure_shows():
    study = ["resnet18", "resnet34", "vgg11"]
    everywhere = appearance.backbone_colours(study)
    assert appearance.backbone_colours(study[:2]) == {b: everywhere[b] for b in study[:2]}


def test_every_series_has_a_colour_of_its_own_where_a_backbone_has_several():
    study = ["resnet18", "vgg11"]
    alone = appearance.line_colours({"tuned": "vgg11"}, study)
    assert alone == {"tuned": appearance.backbone_colours(study)["vgg11"]}
    several = appearance.line_colours({"a": "vgg11", "b": "vgg11", "c": "resnet18"}, study)
    assert len(set(several.values())) == 3


def test_all_figures_draw_a_backbone_in_one_colour(arguments, tmp_path, write_images, figures):
    shown = ("resnet34", "vgg11")
    given = arguments(describe_runs(DATASETS, shown))
    epochs.plot_accuracy(given, {})
    plot_collapse(given)
    accuracy, measures = figures
    colours = {b: c.lower() for b, c in appearance.backbone_colours(list(BACKBONES)).items()}
    for panel in measures.axes:
        # Training and test images.
        assert [c for c, _, _ in curves_of(panel)] == [colours[b] for b in shown for _ in range(2)]
    for panel in accuracy.axes[: len(DATASETS)]:
        assert {colour for colour, _, _ in curves_of(panel)} == {colours[b] for b in shown}

    values = pd.DataFrame(
        [
            (f"{b}/pretrain" if b != "raw" else b, split, "features", quantity, 0, other, 1.0)
            for b in ("resnet34", "raw")
            for split in ("train", "test")
            for quantity, other in (("intra_class", None), ("mean_distance", 1))
        ],
        columns=["features", "split", "space", "quantity", "class_a", "class_b", "value"],
    )
    values.to_csv(tmp_path / "variance.csv", index=False)
    features = {"resnet34/pretrain": "ResNet34, letters", "raw": "raw pixels"}
    draw_variance(tmp_path / "variance.csv", features, list(BACKBONES), write_images("ab"))
    rows = [axis for axis in figures[2].axes if axis.patches]
    drawn = [{to_hex(p.get_edgecolor()) for p in row.patches} for row in rows]
    assert drawn == [{colours["resnet34"]}, {appearance.NEUTRAL}]


def test_the_names_of_thirty_classes_do_not_lie_on_each_other(tmp_path, write_images, figures):
    n = 30
    rows = [
        ("raw", split, "intra_class", c, None, 1.0) for split in ("train", "test") for c in range(n)
    ]
    # Classes are points of a line, in mixed order; each has its own variance.
    places = np.random.default_rng(0).permutation(n)
    rows = [(*row[:-1], 1.0 + places[row[3]]) for row in rows]
    rows += [
        ("raw", "train", "mean_distance", a, b, float((places[a] - places[b]) ** 2))
        for a, b in combinations(range(n), 2)
    ]
    columns = ["features", "split", "quantity", "class_a", "class_b", "value"]
    path = tmp_path / "variance.csv"
    pd.DataFrame(rows, columns=columns).assign(space="features").to_csv(path, index=False)
    names = [f"class number {c}" for c in range(n)]
    draw_variance(path, {"raw": "raw pixels"}, [], write_images(names))
    heat, bars = figures[0].axes[:2]
    figures[0].canvas.draw()
    # Beside each other stand similar classes, which have their own bars.
    order = np.argsort(places)
    first = heat.get_yticklabels()[0].get_text()
    order = order if first == names[order[0]] else order[::-1]
    heights = {round(bar.get_y() + 0.4): bar.get_width() for bar in bars.patches}
    assert [heights[place] for place in range(n)] == (1 + places[order]).tolist()
    for axis in (heat, bars):
        shown = [text for text in axis.get_yticklabels() if text.get_text()]
        assert [text.get_text() for text in shown] == [names[c] for c in order]
        middles = [
            text.get_window_extent().y0 + text.get_window_extent().height / 2 for text in shown
        ]
        apart = np.abs(np.diff(middles)).min()
        # What letters take of the height of their line, in pixels.
        assert apart > 0.7 * shown[0].get_fontsize() * figures[0].dpi / 72
    assert not [text for text in heat.get_xticklabels() if text.get_text()]


def test_every_line_of_a_crowded_figure_is_of_a_kind_of_its_own(write_tables, figures):
    datasets = {f"set{i}": f"set {i}" for i in range(10)}
    backbones = {f"net{i}": f"net {i}" for i in range(10)}
    runs = describe_runs(datasets, backbones, last=1)
    tables = write_tables(runs, lambda *_: 1.0, lambda *_: 0.5, labels=datasets)
    plot_collapse(given_of(tables, runs, datasets, backbones, dataset="set3"))
    for panel in figures[0].axes:
        drawn = curves_of(panel)
        assert len(drawn) == len(set(drawn)) == 20


def test_the_legend_names_every_series_and_split(crowd, figures):
    epochs.plot_accuracy(crowd, {})
    plot_collapse(crowd)
    accuracy, measures = map(words_of, figures)
    splits = {"training images", "test images, 95 % interval"}
    assert accuracy == ({*BACKBONES.values(), *splits}, "")
    splits = {"training images, as many as test images", "test images"}
    assert measures == ({*BACKBONES.values(), *splits}, "")


# --- one encoding -----------------------------------------------------------------------------


#: What each value is in the figures below, by split, also of the accuracies.
LEVEL = {"train": 0.3, "test": 0.6}


def level(run, epoch, layer, split, quantity):
    """A value that says its split; a little of it is the layer's, so that log D has a slope."""
    return LEVEL[split] + (0.01 + 0.001 * run.seed) * run.layers.index(layer)


def draw_every_figure(folder):
    """Figures of runs, of runs that have everything a figure can show, by their names.

    Two points of a recipe start from the same weights on two data sets, in two seeds; the second
    backbone is trained in one way. Training images are fitted in the end.
    """
    names = ["conv1", "layer2", "flatten"]
    settings = [{"weight_decay": value} for value in (0.1, 0.2)]
    runs = describe_runs(["digits", "fashion"], ["vgg11"], (0, 1), settings, layers=names)
    runs += describe_runs(["digits", "fashion"], ["resnet18"], (0, 1), recipe="plain")
    runs = [
        replace(run, published=("fashion_mnist", "vgg11_bn_finetuned"))
        if (run.dataset, run.backbone) == ("digits", "resnet18")
        else run
        for run in runs
    ]
    more = [
        {**fitted(run, epoch, layer, quantity, LEVEL["test"]), "weight_decay": decay}
        for run in runs
        for epoch in (0, run.last)
        for layer in run.layers
        for quantity in ("accuracy_linear", "accuracy_knn")
        for decay in [as_word(run.setting.get("weight_decay", "")) if epoch else ""]
    ]
    untouched = {"layer": "", "split": "train_matched", "quantity": "nc1", "value": LEVEL["train"]}
    more += [{"dataset": "digits", "backbone": b, **untouched} for b in ("raw", "scattering")]

    def share(run, epoch, split):
        fits = split == "train" and epoch == run.last
        return 1.0 if fits else LEVEL[split]

    tables = write_tables_to(folder, runs, level, share, more=more)
    log = [
        {
            **dict.fromkeys(("loss", "learning_rate", "gradient_norm", "seconds"), LEVEL["train"]),
            "images_per_second": LEVEL["train"],
            "epoch": epoch,
        }
        for epoch in range(1, 5)
    ]
    (folder / "log.json").write_text(json.dumps(log))
    logs = Material(runs=runs, logs=[folder / "log.json"] * len(runs))
    training_table(logs, {"csv": folder / "training.csv"})
    layer_names = {"layers": names, "seeds": [0, 1], "n_images": 10}
    maps = dict.fromkeys(("first", "last", "first_last"), np.full((3, 3), LEVEL["train"]).tolist())
    across = {name: np.full((2, 2), LEVEL["train"]).tolist() for name in names}
    content = {**layer_names, **maps, "across_seeds": across, "made_with": []}
    (folder / "similarity.json").write_text(json.dumps(content))
    given = given_of(
        tables,
        runs,
        swept_runs=[run for run in runs if run.setting],
        training=folder / "training.csv",
        similarity=[folder / "similarity.json"],
        series=["VGG11"],
        title="digits",
    )
    drawings = {
        "accuracy": epochs.plot_accuracy,
        "collapse": epochs.plot_collapse,
        "layers": layers.plot_layers,
        "probes": probes.plot_probes,
        "sweep": sweep.plot_sweep,
        "training": training.plot_training,
        "similarity": similarity.plot_similarity,
    }
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appearance, "save", lambda figure, outputs: kept.append(figure))
        for draw in drawings.values():
            draw(given, {})
    return dict(zip(drawings, kept, strict=True))


@pytest.fixture(scope="module")
def every_figure(tmp_path_factory):
    """:func:`draw_every_figure`, for all tests."""
    yield draw_every_figure(tmp_path_factory.mktemp("every"))
    plt.close("all")


def seen(line):
    """Whether a line is of data: not a thin line to read by, nor upright as an onset, nor what was
    published, which keeps its values."""
    x = np.asarray(line.get_xdata(), dtype=float)
    published = line.get_alpha() == epochs.FAINT["alpha"]
    upright = len(x) == 2 and x[0] == x[1]
    return line.get_alpha() != 0 and not upright and not published


def test_solid_lines_are_training_images_and_dashed_lines_test_images_in_all_figures(every_figure):
    for name, figure in every_figure.items():
        drawn = set()
        for axis in figure.axes:
            for line in filter(seen, axis.lines):
                values = np.asarray(line.get_ydata(), dtype=float)
                values = values[np.isfinite(values)]
                # Of panels in a row the first alone has words at its axis.
                percent = name == "accuracy" or "%" in axis.get_ylabel()
                percent |= "nearest class mean" in " ".join(axis.get_title().split())
                values = values / 100 if percent else values
                if "1 − NC4" in axis.get_ylabel():
                    values = 1 - values
                of_test = np.isclose(values, LEVEL["test"], atol=0.05)
                # On all training images measures are others, and what is fitted is 1.
                beyond = values > 0.9
                of_train = np.isclose(values, LEVEL["train"], atol=0.05) | beyond
                assert of_test.all() or of_train.all(), (name, axis.get_title(), values)
                split = "test" if of_test.all() else "train"
                marker = line.get_marker() not in ("", "None", "x", "+", None)
                hollow = to_hex(line.get_markerfacecolor()) == "#ffffff"
                if line.get_linestyle() != "None":
                    assert (line.get_linestyle() == "-") == (split == "train"), (name, values)
                if marker:
                    assert hollow == (split == "test"), (name, axis.get_title(), values)
                drawn.add(split)
        expected = {"train"} if name in ("training", "similarity") else {"train", "test"}
        assert drawn == expected, name


def test_no_two_entries_of_a_legend_look_the_same_in_any_figure(every_figure):
    for name, figure in every_figure.items():
        glyphs = glyphs_of(figure)
        assert glyphs, name
        assert len({glyph for _, glyph in glyphs}) == len(glyphs), (name, glyphs)
        # Whoever names training and test images, does it with the same lines.
        for words, glyph in glyphs:
            if words.startswith(("training images", "test images")):
                solid = glyph[1] == "(0, None)"
                assert solid == words.startswith("training"), (name, words, glyph)


def test_the_colour_of_a_line_is_in_the_legend_of_all_figures(every_figure):
    for name, figure in every_figure.items():
        colours = {
            to_hex(glyph[1] if glyph[0] == "patch" else glyph[0]) for _, glyph in glyphs_of(figure)
        }
        for axis in figure.axes:
            shown = {to_hex(line.get_color()) for line in filter(seen, axis.lines)}
            assert shown <= colours, (name, shown - colours)
        bands = {
            to_hex(band.get_facecolor()[0])
            for axis in figure.axes
            for band in axis.collections
            if isinstance(band, PolyCollection)
        }
        assert bands <= colours, name


def test_what_several_series_start_from_is_drawn_once(every_figure):
    for name in ("collapse", "probes"):
        words = [words for words, _ in glyphs_of(every_figure[name])]
        assert "VGG11: common start" in words
        axis = every_figure[name].axes[name == "probes"]
        # In panels of one data set the third line has a marker of its own.
        its_marker = "^" if name == "collapse" else "o"
        at_start = [
            (to_hex(line.get_color()), line.get_marker())
            for line in marked(axis)
            if 0 in line.get_xdata() and line.get_marker() in ("o", its_marker)
        ]
        # The start that two lines have in common, and that of ResNet18, on two splits each.
        own = appearance.line_colours({s: s for s in "abc"}, list("abc"))["c"].lower()
        assert sorted(at_start) == sorted([(appearance.NEUTRAL, "o"), (own, its_marker)] * 2)
        # Bands of what has a common start begin after it, those of ResNet18 at epoch 0.
        begins = {
            (to_hex(band.get_facecolor()[0]), band.get_paths()[0].vertices[:, 0].min())
            for band in axis.collections
            if isinstance(band, PolyCollection)
        }
        assert {x for colour, x in begins if colour == own} == {0}
        assert {x for colour, x in begins if colour != own} == {1}
    axis = every_figure["layers"].axes[1]
    faint = [to_hex(line.get_color()) for line in marked(axis) if line.get_alpha() < 1]
    # Two splits; one line for both points of the recipe.
    assert faint == [appearance.NEUTRAL] * 2
    assert "VGG11: common start" in [words for words, _ in glyphs_of(every_figure["layers"])]


# --- axes and intervals -----------------------------------------------------------------------


def test_lines_in_panels_of_one_data_set_have_markers_of_their_own(crowd, figures):
    epochs.plot_collapse(crowd, {})
    epochs.plot_accuracy(crowd, {})
    for figure in figures:
        seen = {}
        for line in marked(figure.axes[0]):
            seen.setdefault(to_hex(line.get_color()), set()).add(line.get_marker())
        assert sorted(map(min, seen.values())) == ["^", "o", "s"]
        glyphs = dict(glyphs_of(figure))
        # The legend has both.
        assert {glyphs[BACKBONES[name]][2] for name in BACKBONES} == {"o", "s", "^"}


def test_panels_that_are_compared_have_the_same_axes(crowd, figures):
    epochs.plot_accuracy(crowd, {})
    panels = figures[0].axes[: len(DATASETS)]
    assert len({panel.get_ylim() for panel in panels}) == 1
    assert len({panel.get_xlim() for panel in panels}) == 1
    low, high = panels[0].get_ylim()
    accuracies = read_csv(crowd.measures).query("quantity == 'accuracy'")
    assert low < 100 * accuracies["low"].min() and 100 * accuracies["value"].max() < high
    # Whoever has no panel below has the numbers of the epochs.
    assert [panel.get_xlabel() for panel in panels] == ["", "epoch", "epoch"]


@pytest.mark.parametrize("low", [1e-6, 1e-3, 0.13, 0.99, 1.0, 3.1, 7.2, 41.0, 2e5])
@pytest.mark.parametrize("ratio", [1, 1 + 1e-9, 1.001, 1.1, 1.3, 2, 4, 9, 12, 90, 1e3, 1e9, 1e14])
def test_a_logarithmic_axis_has_from_two_to_eight_labels_that_differ(low, ratio):
    figure, axis = plt.subplots(figsize=(1, 1))
    axis.plot([0, 1], [low, low * ratio])
    curves.value_axis(axis, logarithmic=True)
    figure.canvas.draw()
    bottom, top = axis.get_ylim()
    labels = [
        text.get_text()
        for text in axis.get_yticklabels(which="both")
        if text.get_text() and bottom <= text.get_position()[1] <= top
    ]
    plt.close(figure)
    assert 2 <= len(labels) == len(set(labels)) <= 8
    # They say where they stand.
    assert all(bottom * 0.999 <= float(label) <= top * 1.001 for label in labels)


def test_measures_on_few_images_a_class_are_flagged(arguments, log, figures):
    run = describe_run("digits", "vgg11", layers=["conv1", "flatten"])
    more = [
        {
            **{key: getattr(run, key) for key in IDENTITY},
            "epoch": 0,
            "layer": "flatten",
            "quantity": "fewest_images",
            "split": split,
            "value": value,
        }
        for split, value in (("train", 3), ("train_matched", 4), ("test", 5))
    ]
    for few in (more, []):
        given = arguments([run], more=few)
        plot_collapse(given)
        layers.plot_layers(given, {})
        probes.plot_probes(given, {})
        swept = describe_runs(["digits"], settings=[{"batch_size": n} for n in (8, 16)])
        rows = [
            {**row, "recipe": "decay", "batch_size": "8", "backbone": "resnet18"} for row in few
        ]
        plot_sweep(arguments(swept, more=rows), log(swept))
    for figure in figures[:4]:
        _, note = words_of(figure)
        # All training images are not among those that are compared.
        words = note.replace("\n", " ")
        assert "4 matched training images" in words and "5 test images" in words
        assert "3 training" not in words
    assert [words_of(figure)[1] for figure in figures[4:]] == [""] * 4


def test_the_panels_of_collapse_share_their_epochs_and_keep_their_scales(crowd, figures):
    plot_collapse(crowd)
    assert figures[0].get_suptitle() == DATASETS["digits"]
    panels = figures[0].axes
    assert len(panels) == 9
    assert len({panel.get_xlim() for panel in panels}) == 1
    assert [panel.get_yscale() for panel in panels[:4]] == ["log", "log", "log", "linear"]
    assert [panel.get_title()[:3] for panel in panels] == [f"({letter})" for letter in "abcdefghi"]
    assert [panel.get_title()[4:7] for panel in panels[3:6]] == ["NC2"] * 3
    assert all(panel.get_ylabel() and panel.yaxis.get_tick_params()["labelleft"] is not False
               for panel in panels)  # fmt: skip
    assert [panel.get_xlabel() for panel in panels] == [""] * 6 + ["epoch"] * 3


def test_training_images_are_solid_and_test_images_dashed_and_mismatch_goes_to_zero(
    arguments, figures
):
    (run,) = runs = describe_runs(["digits"], ["vgg11"])

    def value(run, epoch, layer, split, quantity):
        return 0.9 - 0.1 * epoch + 0.05 * (split == "test")

    plot_collapse(arguments(runs, value))
    for panel, quantity in zip(figures[0].axes, panels_of("epochs"), strict=True):
        for line, split in zip(marked(panel), ("train", "test"), strict=True):
            values = np.array([value(run, epoch, "", split, quantity) for epoch in range(5)])
            expected = 100 * (1 - values) if quantity == "nc4" else values
            assert line.get_ydata() == pytest.approx(expected)
            assert (line.get_linestyle() == "-") == (split == "train")


def test_raw_pixels_and_scattering_are_lines_where_they_have_a_value(arguments, figures):
    more = [
        {
            "dataset": dataset,
            "backbone": backbone,
            "layer": "",
            "split": split,
            "quantity": quantity,
            "value": value,
        }
        for dataset, backbone, split, quantity, value in [
            ("digits", "raw", "train", "nc1", 6.0),
            ("digits", "raw", "train_matched", "nc1", 7.0),
            ("digits", "raw", "test", "nc1", 8.0),
            ("digits", "raw", "train_matched", "cdnv", 0.4),
            ("digits", "scattering", "train_matched", "nc1", 3.0),
            ("fashion", "raw", "train_matched", "nc1", 9.0),
            ("fashion", "scattering", "train_matched", "nc3", 9.0),
        ]
    ]
    plot_collapse(arguments(describe_runs(["digits", "fashion"]), more=more))
    found = [
        [line.get_ydata()[0] for line in panel.lines if line.get_color() == appearance.NEUTRAL]
        for panel in figures[0].axes
    ]
    assert found == [[7, 3], [0.4], *[[]] * 7]
    assert len({line.get_marker() for line in figures[0].axes[0].lines[:2]}) == 2
    assert {"raw pixels", "scattering coefficients"} < words_of(figures[0])[0]


def test_panels_of_the_last_layer_are_left_out_where_no_network_tells_the_classes(
    arguments, figures
):
    given = arguments(describe_runs(["digits"]))
    table = pd.read_csv(given.measures)
    table[~table["quantity"].isin(["nc3", "nc4"])].to_csv(given.measures, index=False)
    plot_collapse(given)
    panels = [panel for panel in figures[0].axes if panel.axison]
    assert len(panels) == 7 and panels[-1].get_title().startswith("(g)")
    # Whoever has no panel below has the numbers of the epochs.
    assert [panel.get_xlabel() for panel in panels] == [""] * 4 + ["epoch"] * 3


def test_accuracies_on_test_images_have_their_intervals(crowd, figures):
    epochs.plot_accuracy(crowd, {})
    panel = figures[0].axes[list(DATASETS).index("digits")]
    assert "400 test images" in panel.get_title()
    bars = [bar for container in panel.containers for bar in container[2]]
    assert len(bars) == len(BACKBONES)  # test images only
    for backbone, bar in zip(BACKBONES, bars, strict=True):
        for epoch, ((x, low), (same, high)) in enumerate(bar.get_segments(), start=1):
            assert x == same and abs(x - epoch) < 0.2
            share = share_of(describe_run("digits", backbone), epoch, "test")
            interval = binomtest(round(400 * share), 400).proportion_ci(method="wilson")
            assert (low, high) == pytest.approx((100 * interval.low, 100 * interval.high))


def test_training_and_test_images_are_told_apart(arguments, figures):
    epochs.plot_accuracy(arguments(describe_runs(["mnist5k"], ["vgg11"])), {})
    faces = [to_hex(m.get_markerfacecolor()) for m in marked(figures[0].axes[0])]
    assert faces == [appearance.backbone_colours(list(BACKBONES))["vgg11"].lower(), "#ffffff"]


# --- seeds ------------------------------------------------------------------------------------


def test_seeds_are_a_mean_and_a_band_of_one_standard_deviation(arguments, figures):
    runs = describe_runs(["digits"], ["vgg11"], seeds=(0, 1, 3))

    def share(run, epoch, split):
        return share_of(run, epoch, split) and (0.9, 0.92, None, 0.97)[run.seed]

    given = arguments(runs, share=share)
    epochs.plot_accuracy(given, {})
    plot_collapse(given)
    accuracy, collapse = figures
    panel = accuracy.axes[0]
    assert not panel.containers
    on_train, _ = marked(panel)
    assert on_train.get_ydata() == pytest.approx([93] * N_EPOCHS)
    # Of 90, 92, 97: deviations -3, -1, 4, squares 26, over 2.
    sd = math.sqrt(13)
    assert band_of(panel) == {
        epoch: pytest.approx((93 - sd, 93 + sd)) for epoch in range(1, N_EPOCHS + 1)
    }
    assert "mean and s.d. over seeds 0, 1, 3" in words_of(accuracy)[0]
    assert "mean and s.d. over seeds 0, 1, 3 (log axes: geometric)" in words_of(collapse)[0]
    for panel, measure in zip(collapse.axes[:8], panels_of("epochs")[:8], strict=True):
        line, _ = marked(panel)
        for epoch, middle in zip(line.get_xdata(), line.get_ydata(), strict=True):
            values = np.array([value_of(run, epoch, "flatten", "train", measure) for run in runs])
            if panel.get_yscale() == "log":
                assert middle == pytest.approx(gmean(values))
                factor = np.exp(np.std(np.log(values), ddof=1))
                expected = middle / factor, middle * factor
            else:
                assert middle == pytest.approx(values.mean())
                expected = middle - values.std(ddof=1), middle + values.std(ddof=1)
            assert band_of(panel)[epoch] == pytest.approx(expected)


def test_the_onset_of_the_terminal_phase_is_the_mean_over_the_seeds_that_reach_it(
    arguments, figures
):
    runs = describe_runs(["digits", "mnist5k"], ["resnet18", "vgg11"], seeds=(0, 1, 2))

    def share(run, epoch, split):
        # Seed 0 from epoch 2 and seed 1 from epoch 3; seed 2 and the other runs never.
        reached = run.backbone == "vgg11" and run.dataset == "digits"
        reached = reached and split == "train" and run.seed < 2 and epoch >= 2 + run.seed
        return 1.0 if reached else share_of(run, epoch, split)

    given = arguments(runs, share=share)
    epochs.plot_accuracy(given, {})
    plot_collapse(given)
    colour = appearance.backbone_colours(list(BACKBONES))["vgg11"]
    onsets = [
        [
            (line.get_xdata()[0], line.get_color())
            for line in panel.lines
            if list(line.get_ydata()) == [0, 1] and line.get_xdata()[0] == line.get_xdata()[1]
        ]
        for figure in figures
        for panel in figure.axes
    ]
    # Data sets in the order of the study: mnist5k, digits.
    assert onsets == [[], [(2.5, colour)], *[[(2.5, colour)]] * 9]
    for figure in figures:
        assert "train error 0 (onset of the terminal phase)" in words_of(figure)[0]


def test_a_failed_seed_leaves_its_line_to_the_others_and_is_named(arguments, figures):
    runs = describe_runs(["digits"], ["vgg11"], seeds=(0, 1))

    def value(run, epoch, layer, split, quantity):
        failed = run.seed == 1 and epoch > 2
        return "the loss is not finite" if failed else value_of(run, epoch, layer, split, quantity)

    given = arguments(runs, value=value)
    epochs.plot_accuracy(given, {})
    plot_collapse(given)
    for figure in figures:
        _, note = words_of(figure)
        assert note == "Failed: Digits 8×8, VGG11, seed 1, epoch 3: the loss is not finite"
    line, _ = marked(figures[1].axes[3])
    first, last = (value_of(runs[0], e, "flatten", "train", "nc2_equinorm") for e in (0, 4))
    assert line.get_ydata()[4] == pytest.approx(last)
    assert line.get_ydata()[0] == pytest.approx(first + 0.25 / 2 / 2)


def test_only_three_failures_stand_below_a_figure(arguments, figures):
    settings = [{"weight_decay": value} for value in (1, 2, 3, 4, 5)]
    plot_collapse(arguments(describe_runs(settings=settings), lambda *_: "lost"))
    lines = words_of(figures[0])[1].splitlines()
    assert [line.split(",")[2] for line in lines[:3]] == [f" weight decay {n}" for n in (1, 2, 3)]
    assert lines[3:] == ["and 2 more failed; see the summary"]


# --- long trainings ---------------------------------------------------------------------------


def test_a_long_training_is_seen_from_its_start_to_its_end(arguments, figures):
    measured_epochs = [0, 1, 2, 3, *range(4, 350, 4), 350]
    runs = describe_runs(["digits"], last=350)
    given = arguments(runs, measured_epochs=measured_epochs)
    plot_collapse(given)
    epochs.plot_accuracy(given, {})
    for panel in figures[0].axes:
        line, _ = marked(panel)
        assert list(line.get_xdata()) == measured_epochs
        shown = [measured_epochs[position] for position in line.get_markevery()]
        assert shown[0] == 0 and shown[-1] == 350 and 5 <= len(shown) <= 8
        assert panel.get_xscale() == "symlog"
        low, high = panel.get_xlim()
        assert low < 0 and high > 350
        assert panel.get_xticks().tolist() == [0, 1, 3, 10, 30, 100, 300]
    # So many intervals are a band, and no bars.
    panel = figures[1].axes[0]
    assert not panel.containers
    share = share_of(runs[0], 3, "test")
    interval = binomtest(round(400 * share), 400).proportion_ci(method="wilson")
    assert band_of(panel)[3] == pytest.approx((100 * interval.low, 100 * interval.high))


def test_a_short_training_has_a_marker_at_every_epoch_and_a_linear_axis(arguments, figures):
    plot_collapse(arguments(describe_runs(["digits"], last=19)))
    line, _ = marked(figures[0].axes[0])
    assert line.get_markevery() is None and len(line.get_xdata()) == 20
    assert figures[0].axes[0].get_xscale() == "linear"


# --- training, layers -------------------------------------------------------------------------


def test_what_training_said_has_four_panels(tmp_path, write, write_tables, figures):
    runs = describe_runs(["digits", "mnist5k"], ["vgg11"], seeds=(0, 1))
    logs = [
        [
            {
                "epoch": epoch,
                "loss": (1 + run.seed) / epoch if epoch < 4 else 0.0,
                "learning_rate": 0.1,
                "gradient_norm": 2.0**run.seed,
                "seconds": 1.0,
                "images_per_second": 100.0 + run.seed,
            }
            for epoch in range(1, 5)
        ]
        for run in runs
    ]
    path = tmp_path / "training.csv"
    training_table(Material(runs=runs, logs=write("log", logs)), {"csv": path})
    tables = write_tables([], value_of, share_of)
    training.plot_training(given_of(tables, runs, training=path), {})
    panels = figures[0].axes
    assert [panel.get_yscale() for panel in panels] == ["log", "linear", "log", "linear"]
    assert [len(marked(panel)) for panel in panels] == [2] * 4
    loss, rate, norm, speed = (marked(panel)[0] for panel in panels)
    # Geometric means of 1 and 2; a loss of zero has no place on a logarithmic axis.
    assert loss.get_ydata() == pytest.approx([math.sqrt(2) / n for n in (1, 2, 3)])
    assert norm.get_ydata() == pytest.approx([math.sqrt(2)] * 4)
    assert rate.get_ydata() == pytest.approx([0.1] * 4)
    assert speed.get_ydata() == pytest.approx([100.5] * 4)
    words = {"VGG11", "MNIST subset", "Digits 8×8"}
    assert words_of(figures[0])[0] == {
        *words,
        "mean and s.d. over seeds 0, 1 (log axes: geometric)",
    }


def test_layers_in_order_before_and_after_training(arguments, figures):
    names = ["conv1", "layer2", "flatten"]
    several = describe_runs(["mnist5k", "digits"], ["vgg11"], layers=names)
    layers.plot_layers(arguments([*several, *describe_runs(["digits"], ["resnet18"])]), {})
    panels = figures[0].axes
    shown = list(product(panels_of("layers"), several))
    assert len(panels) == len(shown) == 8
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == names
    colour = appearance.backbone_colours(list(BACKBONES))["vgg11"].lower()
    for panel, (measure, run) in zip(panels, shown, strict=True):
        assert panel.get_title().startswith(f"{DATASETS[run.dataset]}: ")
        assert {c for c, _, _ in curves_of(panel)} == {colour}
        drawn = iter(marked(panel))
        scale = 100 if measure == "accuracy_nearest_mean" else 1
        for epoch, split in product((0, N_EPOCHS), ("train", "test")):
            line = next(drawn)
            expected = [scale * value_of(run, epoch, layer, split, measure) for layer in names]
            assert line.get_ydata() == pytest.approx(expected)
            assert line.get_xdata().tolist() == [0, 1, 2]
            assert (line.get_alpha() < 1) == (epoch == 0)
            # Three layers are joined: they have no straight line and no correlation.
            assert (line.get_linestyle() == "-") == (split == "train")
        assert next(drawn, None) is None
        assert panel.get_legend() is None
    assert "ResNet18" not in words_of(figures[0])[0]


def test_layers_of_one_data_set_have_markers_for_their_runs(arguments, figures):
    decays = [{"weight_decay": value} for value in (0, 0.1)]
    runs = describe_runs(["digits"], ["vgg11"], settings=decays, layers=["conv1", "flatten"])
    layers.plot_layers(arguments(runs), {})
    assert figures[0].get_suptitle() == DATASETS["digits"]
    for panel in figures[0].axes:
        after = {line.get_marker() for line in marked(panel) if line.get_alpha() == 1}
        assert len(after) == len(runs)


def test_log_fuzziness_has_its_least_squares_line_and_correlation(arguments, figures):
    names = ["a", "b", "c", "d", "flatten"]
    runs = describe_runs(["digits"], ["vgg11"], layers=names)
    train = {0: [5.0, 5.0, 5.0, 5.0, 5.0], N_EPOCHS: [4.0, 3.5, 1.0, 0.5, 0.0]}

    def value(run, epoch, layer, split, quantity):
        of_epoch = train.get(epoch, train[0])
        return of_epoch[names.index(layer)] + (split == "test")

    layers.plot_layers(arguments(runs, value), {})
    panel = figures[0].axes[0]
    # Where all layers are equal there is no correlation, hence no line.
    lines = [line for line in panel.lines if line not in marked(panel)]
    assert len(lines) == 2
    # By hand: mean of x 2 and of y 1.8; sums of products -11, of squares 10 and 13.3.
    for line, shift in zip(lines, (0, 1), strict=True):
        ends = [1.8 + shift - 1.1 * (x - 2) for x in (0, 4)]
        assert line.get_xdata().tolist() == [0, 4]
        assert line.get_ydata() == pytest.approx(ends)
    (words,) = panel.get_legend().get_texts()
    assert words.get_text() == f"r = −{11 / math.sqrt(10 * 13.3):.2f}"


def test_each_backbone_with_several_layers_has_panels_of_its_own(arguments, figures):
    runs = describe_runs(["digits"], ["vgg11"], layers=["a", "flatten"])
    runs += describe_runs(["digits"], ["resnet18"], layers=["b", "c", "flatten"])
    layers.plot_layers(arguments(runs), {})
    panels = figures[0].axes
    assert [panel.get_title().partition(":")[0] for panel in panels] == ["VGG11", "ResNet18"] * 4
    ticks = [[label.get_text() for label in panel.get_xticklabels()] for panel in panels[-2:]]
    assert ticks == [["a", "flatten"], ["b", "c", "flatten"]]
    for left, right in zip(panels[::2], panels[1::2], strict=True):
        assert left.get_ylim() == right.get_ylim()
        low, high = left.get_ylim()
        for line in marked(left) + marked(right):
            assert low < line.get_ydata().min() and line.get_ydata().max() < high


# --- probes beside collapse ---------------------------------------------------------------------


def fitted(run, epoch, layer, quantity, value):
    """A row of a classifier on features; those of a start have no recipe, and hardly any a seed."""
    who = {key: getattr(run, key) for key in IDENTITY}
    if epoch == 0:
        who |= {"recipe": "", "seed": None}
    where = {"epoch": epoch, "layer": layer, "split": "test", "quantity": quantity}
    return {**who, **where, "value": value, "low": value - 0.1, "high": value + 0.1, "n": 400}


def lines_like(panel, marker, strong=True):
    """The lines of a panel with a marker, those after training or before it."""
    return [
        line
        for line in panel.lines
        if line.get_marker() == marker and ((line.get_alpha() or 1) == 1) == strong
    ]


def test_probes_stand_beside_collapse_over_epochs_and_layers(arguments, figures):
    names = ["conv1", "layer2", "flatten"]
    (run,) = layered = describe_runs(["digits"], ["vgg11"], layers=names, start="imagenet")
    (flat,) = describe_runs(["fashion"], ["vgg11"], start="imagenet")
    more = [
        fitted(run, epoch, layer, "accuracy_linear", 0.5 + 0.1 * names.index(layer) + epoch / 20)
        for epoch in (0, N_EPOCHS)
        for layer in names
    ]
    probes.plot_probes(arguments([*layered, flat], more=more), {})
    panels = figures[0].axes
    # In the order of the study.
    assert [panel.get_title().partition(":")[0] for panel in panels] == [
        *["Digits 8×8"] * 4,
        *["Fashion-MNIST"] * 2,
    ]
    accuracy, nc1, by_layer, fuzziness = panels[:4]
    of = probes.PROBES
    (network,) = lines_like(accuracy, of["accuracy"])
    shares = [100 * share_of(run, epoch, "test") for epoch in range(1, N_EPOCHS + 1)]
    assert network.get_ydata() == pytest.approx(shares)
    (nearest,) = lines_like(accuracy, of["accuracy_nearest_mean"])
    values = [100 * value_of(run, e, "flatten", "test", "") for e in range(N_EPOCHS + 1)]
    assert nearest.get_ydata() == pytest.approx(values)
    # At two epochs only: points.
    (linear,) = lines_like(accuracy, of["accuracy_linear"])
    assert linear.get_linestyle() == "None"
    assert linear.get_xdata().tolist() == [0, N_EPOCHS]
    assert linear.get_ydata() == pytest.approx([70, 90])
    assert nc1.get_yscale() == "log" and len(marked(nc1)) == 2
    for strong, heights in ((True, [70, 80, 90]), (False, [50, 60, 70])):
        (line,) = lines_like(by_layer, of["accuracy_linear"], strong)
        assert line.get_ydata() == pytest.approx(heights)
    assert len(marked(fuzziness)) == 4
    assert [label.get_text() for label in by_layer.get_xticklabels()] == names
    words, _ = words_of(figures[0])
    assert {"VGG11", "network", "nearest class mean", "linear probe"} < words
    assert "nearest neighbours" not in words


def test_probes_of_networks_without_several_layers_have_one_row(arguments, figures):
    probes.plot_probes(arguments(describe_runs(["digits"], BACKBONES, (0, 1))), {})
    assert len(figures[0].axes) == 2
    words, _ = words_of(figures[0])
    assert "mean and s.d. over seeds 0, 1 (log axes: geometric)" in words
    assert "layers: before training" not in words


# --- sweeps ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "positions", "scale"),
    [
        ([1e-3, 1e-5, 1e-4], {"1e-05": 1e-5, "0.0001": 1e-4, "0.001": 1e-3}, "log"),
        ([8, 16, 32], {"8": 8, "16": 16, "32": 32}, "linear"),
        ([0.01, 0.0, 0.1], {"0": 0, "0.01": 1, "0.1": 2}, "words"),
        (["step", "constant"], {"step": 0, "constant": 1}, "words"),
        ([None, 0.02], {"none": 0, "0.02": 1}, "words"),
        ([True, False], {"true": 0, "false": 1}, "words"),
    ],
)
def test_swept_values_have_their_places(values, positions, scale):
    assert sweep.place(values) == (positions, scale)


def test_a_sweep_shows_the_last_epoch_over_the_first_key(arguments, figures, log):
    settings = [
        {"weight_decay": decay, "momentum": momentum}
        for decay, momentum in product((1e-4, 1e-2), (0.0, 0.9))
    ]
    runs = describe_runs(["digits"], ["vgg11"], (0, 1), settings)

    def value(run, epoch, layer, split, quantity):
        height = 1000 * run.setting["weight_decay"] + run.setting["momentum"]
        return height + run.seed + 10 * (4 - epoch)

    def share(run, epoch, split):
        return (0.5 + run.seed / 10) if epoch == 4 else 0.1

    plot_sweep(arguments(runs, value, share), log(runs))
    panels = figures[0].axes
    assert len(panels) == 6
    assert [panel.get_xscale() for panel in panels] == ["log"] * 6
    assert {panel.get_xlabel() for panel in panels} == {"weight decay"}
    for panel in panels[:2]:
        for line in marked(panel):
            assert line.get_ydata() == pytest.approx([55, 55])
    for panel, geometric in zip(panels[2:], (True, False, False, False), strict=True):
        assert len({line.get_color() for line in marked(panel)}) == 2
        drawn = marked(panel)
        assert [line.get_linestyle() == "-" for line in drawn] == [True, False] * 2
        for line, momentum in zip(drawn, (0.0, 0.0, 0.9, 0.9), strict=True):
            assert line.get_xdata().tolist() == [1e-4, 1e-2]
            pairs = np.array([[0.1, 1.1], [10, 11]]) + momentum
            middle = gmean(pairs, axis=1) if geometric else pairs.mean(axis=1)
            assert line.get_ydata() == pytest.approx(middle)
    words, _ = words_of(figures[0])
    assert {"VGG11, momentum 0", "VGG11, momentum 0.9"} < words
    assert "mean and s.d. over seeds 0, 1 (log axes: geometric)" in words


def test_every_swept_recipe_has_panels_and_a_failed_point_is_left_out(arguments, figures, log):
    schedules = [{"schedule": word} for word in ("constant", "step", "cosine")]
    runs = describe_runs(["digits"], settings=schedules)
    runs += describe_runs(["digits"], settings=[{"batch_size": n} for n in (8, 16)], recipe="size")

    def value(run, epoch, layer, split, quantity):
        return "lost" if run.setting.get("schedule") == "step" and epoch else 0.5

    plot_sweep(arguments(runs, value), log(runs))
    panels = figures[0].axes
    assert len(panels) == 12
    assert panels[0].get_xlabel() == "schedule (decay)"
    assert panels[6].get_xlabel() == "batch size (size)"
    assert marked(panels[3])[0].get_xdata().tolist() == [0, 2]
    assert marked(panels[9])[0].get_xdata().tolist() == [8, 16]
    words, note = words_of(figures[0])
    assert "95 % interval" in words
    assert note == "Failed: Digits 8×8, ResNet18, schedule step, seed 0, epoch 1: lost"


# --- published curves -------------------------------------------------------------------------


def faint(panel):
    """The lines of a panel that have no marker, but can be seen."""
    return [line for line in panel.lines if line.get_marker() in ("None", "") and line.get_alpha()]


def test_published_curves_lie_behind_those_of_the_same_experiment_only(arguments, figures):
    runs = [
        replace(run, published=("fashion_mnist", "vgg11_bn_finetuned"))
        if (run.dataset, run.backbone) == ("digits", "resnet34")
        else run
        for run in describe_runs(DATASETS, BACKBONES)
    ]
    given = arguments(runs)
    epochs.plot_accuracy(given, {})
    plot_collapse(given)
    accuracy, measures = figures
    assert [len(faint(panel)) for panel in accuracy.axes[:3]] == [0, 2, 0]
    assert [len(faint(panel)) for panel in measures.axes] == [2, 0, 0, 2, 2, 2, 0, 0, 0]
    curves = published.curves().query(
        "dataset == 'fashion_mnist' and features == 'vgg11_bn_finetuned' and epoch <= @N_EPOCHS"
    )
    drawn, ours = faint(measures.axes[3])
    expected = curves[curves["measure"] == "nc2_equinorm"]
    np.testing.assert_array_equal(drawn.get_xdata(), expected["epoch"])
    np.testing.assert_array_equal(drawn.get_ydata(), expected["value"])
    colour = appearance.backbone_colours(list(BACKBONES))["resnet34"]
    assert drawn.get_color() == ours.get_color() == colour
    # Beside what was published of all training images stands ours of all of them.
    run = next(run for run in runs if run.published)
    values = [value_of(run, e, "flatten", "train", "nc2_equinorm") for e in range(N_EPOCHS + 1)]
    assert ours.get_ydata() == pytest.approx(ON_ALL + np.array(values))
    published_words = {
        "published (report A, all training images)",
        "ours on all training images, by report A's definition",
    }
    assert published_words < words_of(measures)[0]


# --- what failed ------------------------------------------------------------------------------


def test_the_panel_of_features_that_failed_says_so(tmp_path, write_images, figures):
    rng = np.random.default_rng(0)
    there, failed = tmp_path / "there.npz", tmp_path / "failed.npz"
    values = {"perplexity": 5.0, "recall": 0.5}
    coordinates, labels = rng.normal(size=(20, 2)), np.repeat([0, 1], 10)
    alone = {"splits": ["test"], "split": np.zeros(20, int), "n_total": [20]}
    np.savez(there, coordinates=coordinates, labels=labels, **alone, **values)
    write_failed_embedding(failed, "the loss is not finite")
    draw_embeddings([there, failed], ["raw", "tuned"], write_images("ab"))
    left, right = figures[0].axes
    assert left.get_xlabel().startswith("all 20 test images\n") and not right.get_xlabel()
    # Of one split alone: nothing is faint, and the title says which.
    assert {collection.get_alpha() for collection in left.collections} == {1}
    assert [word for word, _ in glyphs_of(figures[0])] == ["0  a", "1  b"]
    assert not right.collections
    (text,) = right.texts
    assert " ".join(text.get_text().split()) == "failed: the loss is not finite"
    assert (left.get_title(), right.get_title()) == ("raw", "tuned")


def test_variances_of_features_that_failed_are_an_empty_row(tmp_path, write_images, figures):
    rows = [
        ("raw", split, "intra_class", c, None, 1.0) for split in ("train", "test") for c in (0, 1)
    ]
    rows.append(("raw", "train", "mean_distance", 0, 1, 2.0))
    columns = ["features", "split", "quantity", "class_a", "class_b", "value"]
    path = tmp_path / "variance.csv"
    pd.DataFrame(rows, columns=columns).assign(space="features").to_csv(path, index=False)
    features = {"raw": "raw pixels", "vgg11/imagenet": "VGG11"}
    draw_variance(path, features, ["vgg11"], write_images("ab"))
    assert [[text.get_text() for text in axis.texts] for axis in figures[0].axes[:4]] == [
        *([], [], ["failed"], []),
    ]
    assert len(figures[0].axes[1].patches) == 4 and not figures[0].axes[3].patches
