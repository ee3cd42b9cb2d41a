"""Figures at the widths of a printed page: no word is too small, none is outside the figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import test_confusion_figure
import test_few_shot_figure
import test_figures
import test_geometry
import test_images_figure
import test_similarity_figure
import test_sweep_map
import test_transfer
from made_up import BACKBONES, DATASETS, RAW, describe_features, describe_runs
from matplotlib.text import Text

from collapseflow.images.datasets import make_split
from collapseflow.presentation.figures import images, layers
from collapseflow.study.schema import Style

MODULES = (
    *(test_confusion_figure, test_few_shot_figure, test_figures, test_geometry),
    *(test_images_figure, test_similarity_figure, test_transfer),
)
#: Inches, and the least size in points.
WIDTHS = {"column": (3.3, 6), "full": (6.7, 7)}
draw_confusion = test_confusion_figure.draw
draw_few_shot = test_few_shot_figure.draw
draw_images = test_images_figure.draw
draw_similarity = test_similarity_figure.draw
arguments, write_tables = test_figures.arguments, test_figures.write_tables
plot_geometry, state = test_geometry.plot, test_geometry.state
table, scatter, matrix = test_transfer.table, test_transfer.scatter, test_transfer.matrix


@pytest.fixture(params=WIDTHS)
def check(request, monkeypatch):
    """A function that looks at all words of a figure as they are drawn; the figures of other tests
    are drawn at a width of print."""
    for module in MODULES:
        monkeypatch.setattr(module, "STYLE", Style(width=request.param).drawn)
    drawn = []
    draw = Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, *of: drawn.append(text) or draw(text, *of))
    inches, smallest = WIDTHS[request.param]

    def look(figure):
        drawn.clear()
        figure.canvas.draw()
        wide, high = figure.bbox.size
        assert figure.get_size_inches()[0] <= inches + 1e-9
        words = {text: text.get_text().strip() for text in drawn if text.get_visible()}
        assert any(words.values())
        for text, word in words.items():
            if word:
                assert text.get_fontsize() >= smallest, (word, text.get_fontsize())
                box = text.get_window_extent()
                place = (box.x0 / wide, box.x1 / wide, box.y0 / high, box.y1 / high)
                inside = box.x0 > -1 and box.y0 > -1 and box.x1 < wide + 1 and box.y1 < high + 1
                assert inside, (word, np.round(place, 3))

    yield look
    plt.close("all")


@pytest.fixture
def names():
    """Ten classes."""
    return ["T-shirt/top", "Trouser", "Pullover", *(f"class {c}" for c in range(7))]


def test_figures_of_runs(check, tmp_path):
    for name, figure in test_figures.draw_every_figure(tmp_path).items():
        try:
            check(figure)
        except AssertionError as error:
            pytest.fail(f"{name}: {error}")


def test_layers_of_several_backbones(check, arguments, figures):
    runs = describe_runs(DATASETS, BACKBONES, layers=["conv1", "layer2", "flatten"])
    layers.plot_layers(arguments(runs), {})
    check(figures[0])


def test_maps_of_two_swept_keys(check, arguments, figures, log):
    test_sweep_map.draw(arguments, log, test_sweep_map.runs_of(more=({"epochs": 3}, {"epochs": 4})))
    check(figures[0])


@pytest.mark.parametrize("n_panels", [1, 3, 6])
def test_confusions(check, draw_confusion, figures, names, n_panels):
    counts = np.full((10, 10), 1) + 99 * np.eye(10, dtype=int)
    features = [describe_features(f"net/{n}", label=f"ResNet18, ImageNet {n}") for n in range(6)]
    draw_confusion([counts.tolist()] * n_panels, features[:n_panels], names)
    check(figures[0])


def test_few_images(check, draw_few_shot):
    trained = test_few_shot_figure.TRAINED
    rows = [
        test_few_shot_figure.rows_of(RAW, {1: 0.3, 2: 0.4, 5: 0.6}, {5: 0.7}, 0.8),
        *(
            test_few_shot_figure.rows_of(trained, {1: 0.5, 2: 0.6, 5: 0.7}, {}, 0.9, seed)
            for seed in trained.seeds
        ),
    ]
    check(draw_few_shot([RAW, trained], *rows))


@pytest.mark.parametrize("n_classes", [4, 30])
def test_geometry_of_a_run(check, plot_geometry, state, figures, n_classes):
    paths = [state(f"state{n}", n_classes, n_classes + 2, head=True)[0] for n in range(2)]
    plot_geometry(paths, [0, 3], n_classes)
    check(figures[0])


def test_images(check, draw_images, figures, names):
    split = make_split(np.zeros((40, 8, 8), np.uint8), np.repeat(np.arange(10), 4))
    maps = [(0, 25.7 * n, np.full((4, 4), 1.0 + n)) for n in range(6)]
    draw_images(images.plot_samples, split, names)
    draw_images(images.plot_scattering, split, names, maps=maps, title="Fashion-MNIST subset")
    for figure in figures:
        check(figure)


@pytest.mark.parametrize("n_layers", [3, 12])
def test_similar_layers(check, draw_similarity, n_layers):
    content = test_similarity_figure.content_of(n_layers, n_seeds=2)
    check(draw_similarity({"ResNet18, ImageNet, plain": content, "VGG11, ImageNet": content}))


def test_points_and_maps_of_transfer(check, scatter, matrix, figures):
    runs = describe_runs(DATASETS, test_transfer.TWO, (0, 1))
    rows = test_transfer.untrained() + test_transfer.tuned(runs)
    scatter(rows, runs)
    matrix(test_transfer.untrained(starts=test_transfer.STARTS))
    for figure in figures:
        check(figure)


def test_embeddings(check, tmp_path, write_images, figures, names):
    rng = np.random.default_rng(0)
    path = tmp_path / "embedding.npz"
    np.savez(
        path,
        coordinates=rng.normal(size=(100, 2)),
        labels=np.tile(np.arange(10), 10),
        split=np.repeat([0, 1], 50),
        splits=["train", "test"],
        n_total=[50_000, 50],
        perplexity=30.0,
        recall=0.5,
    )
    labels = ["raw pixels", "ResNet18, ImageNet", "ResNet18, ImageNet + fine-tuned 3 ep."] * 2
    test_figures.draw_embeddings([path] * 6, labels, write_images(names))
    check(figures[0])


@pytest.mark.parametrize("n_classes", [10, 30])
def test_variances(check, tmp_path, write_images, figures, names, n_classes):
    classes = range(n_classes)
    rows = [("raw", s, "intra_class", c, None, 1.0 + c) for s in ("train", "test") for c in classes]
    rows += [("raw", "train", "mean_distance", a, b, a + b) for b in classes for a in range(b)]
    columns = ["features", "split", "quantity", "class_a", "class_b", "value"]
    path = tmp_path / "variance.csv"
    pd.DataFrame(rows, columns=columns).assign(space="features").to_csv(path, index=False)
    named = names if n_classes == 10 else [f"class number {c}" for c in classes]
    test_figures.draw_variance(path, {"raw": "raw pixels"}, [], write_images(named))
    check(figures[0])
