"""Transfer from made-up measures: what is drawn and tabulated, and its correlations."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_up import BACKBONES, DATASETS, EVERYTHING, describe_runs
from scipy.stats import spearmanr

from collapseflow.presentation.figures.transfer import plot_transfer, plot_transfer_matrix
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import COLUMNS
from collapseflow.study.schema import Style

STYLE = Style().drawn
STARTS = {"imagenet": "ImageNet", "random": "random", "pretrain-digits": "learned Digits 8×8"}
TWO = {key: BACKBONES[key] for key in ("resnet18", "vgg11")}
LAYERS = {"resnet18": ["layer1", "flatten"], "vgg11": ["classifier"]}
SOURCES = ("nc1", "cdnv", "h_score", "logme", "effective_rank")


def row(dataset, backbone, start, layer, quantity, value, seed=None, **changes):
    split = "test" if quantity.startswith("accuracy") else "train"
    who = {"dataset": dataset, "backbone": backbone, "start": start, "layer": layer}
    more = {"recipe": "", "epoch": 0, "split": split, "seed": seed, "n": 100}
    return {**who, **more, "quantity": quantity, "value": value, **changes}


def number(*names):
    """A value of its own, in (0.1, 0.9), for some names."""
    return 0.1 + 0.8 * np.random.default_rng(sum(map(ord, "/".join(names)))).random()


def geometric(middle, off):
    """The geometric mean of two values that are so far off their arithmetic one."""
    return ((middle - off) * (middle + off)) ** 0.5


def untrained(datasets=DATASETS, starts=("imagenet", "random"), seeds=(0, 1), backbones=TWO):
    """Rows of starts; random weights have seeds, from one to the next all values grow by 0.02."""
    rows = []
    for dataset, backbone, start in product(datasets, backbones, starts):
        for layer, quantity in product(LAYERS[backbone], (*SOURCES, "accuracy_linear")):
            who = (dataset, backbone, start, layer, quantity)
            for seed in [None] if start == "imagenet" else seeds:
                rows.append(row(*who, number(*who) + 0.02 * (seed or 0), seed))
    # What must not be drawn: another split, another classifier, raw pixels.
    other = row("digits", "vgg11", "imagenet", "classifier", "nc1", 99.0, split="test")
    knn = row("digits", "vgg11", "imagenet", "classifier", "accuracy_knn", 0.01)
    return [other, knn, *rows, row("digits", "raw", "", "", "accuracy_linear", 0.02)]


def tuned(runs):
    """Test accuracies of runs at their last epoch, and a wrong one at the epoch before."""
    rows = []
    for run, epoch in product(runs, (3, 4)):
        names = [getattr(run, key) for key in ("dataset", "backbone", "start")]
        value = number(*names) + 0.02 * run.seed if epoch == 4 else 0.0
        changes = {"recipe": run.recipe, "epoch": epoch}
        rows.append(row(*names, "", "accuracy", value, run.seed, **changes))
    return rows


@pytest.fixture
def table(tmp_path):
    """A function that writes rows as measures.csv."""

    def write(rows):
        path = tmp_path / "measures.csv"
        frame = pd.DataFrame(rows, columns=COLUMNS)
        frame.astype(dict.fromkeys(("seed", "epoch", "n"), "Int64")).to_csv(path, index=False)
        return path

    return write


@pytest.fixture
def scatter(table, figures, out):
    def draw(rows, runs=(), datasets=DATASETS, **only):
        told = {"starts": STARTS, "datasets": datasets, "backbones": TWO, "style": STYLE}
        told |= EVERYTHING | only
        plot_transfer(Material(measures=table(rows), runs=runs, **told), vars(out))
        axes = np.array(figures[0].axes).reshape(-1, figures[0].axes[0].get_gridspec().ncols)
        return axes, pd.read_csv(out.csv, keep_default_na=False)

    return draw


def drawn(axis):
    return sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines)


def labels(figure):
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


def test_a_point_is_a_mean_over_seeds_and_its_correlation_is_scipy_s(scatter, figures):
    axes, points = scatter(untrained())
    assert axes.shape == (1, 5)
    for axis, quantity in zip(axes[0], SOURCES, strict=True):
        expected = []
        for dataset, backbone, start in product(DATASETS, TWO, ("imagenet", "random")):
            for layer in LAYERS[backbone]:
                who = (dataset, backbone, start, layer)
                # Seeds 0 and 1 differ by 0.02.
                more = 0.01 * (start == "random")
                x, y = number(*who, quantity) + more, number(*who, "accuracy_linear") + more
                if quantity in ("nc1", "cdnv"):
                    x = geometric(x, more)
                expected.append((x, 100 * y))
        assert np.allclose(drawn(axis), sorted(expected), rtol=1e-9)
        # Six points of each data set, one after another.
        parts = [expected[start : start + 6] for start in (0, 6, 12)]
        rho = np.mean([spearmanr(*zip(*part, strict=True)).statistic for part in parts])
        first, second = axis.get_title().replace("−", "-").splitlines()
        assert first == f"ρ = {rho:.2f}, 3 targets"
        low, high = map(float, second.partition("]")[0].strip("[").split(","))
        assert low < rho < high and second.endswith("n = 18")
    assert len(points) == 5 * 18 and set(points["n_seeds"]) == {1, 2}


def test_after_fine_tuning_the_layer_is_that_of_the_runs(scatter):
    runs = describe_runs(["digits", "fashion"], ["resnet18"], (0, 1), layers=LAYERS["resnet18"])
    axes, points = scatter([*untrained(), *tuned(runs)], runs)
    assert axes.shape == (2, 5)
    expected = []
    for dataset in ("digits", "fashion"):
        who = (dataset, "resnet18", "random")
        x = geometric(number(*who, "flatten", "nc1") + 0.01, 0.01)
        expected.append((x, 100 * (number(*who) + 0.01)))
    assert np.allclose(drawn(axes[1, 0]), sorted(expected), rtol=1e-9)
    assert axes[1, 0].get_title() == "too few points for ρ:\nat most 1 a target"
    after = points[points["after"] == "fine-tuning"]
    assert set(after["layer"]) == {"flatten"} and set(after["recipe"]) == {"plain"}


def falling(dataset, n, more):
    """Layers of a data set whose accuracies fall with NC1; with ``more`` there is more of both."""
    for number in range(n):
        who = (dataset, "resnet18", "random", f"layer{number}")
        yield row(*who, "nc1", more + number)
        yield row(*who, "accuracy_linear", 0.2 + 0.05 * more - 0.01 * number)


def test_how_hard_a_target_is_and_targets_of_few_points_do_not_count(scatter):
    axes, _ = scatter(
        [*falling("digits", 7, 10), *falling("fashion", 6, 0), *falling("mnist5k", 5, 5)]
    )
    assert axes[0, 0].get_title() == "ρ = −1.00, 2 targets\n[−1.00, −1.00], n = 13"
    assert len(axes[0, 0].lines) == 18


def test_few_points_have_no_correlation(scatter):
    axes, _ = scatter([*falling("digits", 5, 10), *falling("fashion", 5, 0)])
    assert axes[0, 0].get_title() == "too few points for ρ:\nat most 5 a target"


def test_equal_accuracies_have_no_correlation(scatter):
    rows = [{**one, "value": 0.5} for one in falling("digits", 6, 0)]
    assert scatter(rows)[0][0, 0].get_title() == "no correlation\nn = 6"


def test_a_start_that_learned_the_data_set_is_no_point(scatter):
    _, points = scatter(untrained(starts=["pretrain-digits"]))
    assert set(points["dataset"]) == set(DATASETS) - {"digits"}


def test_the_legend_names_networks_data_sets_and_layers(scatter, figures):
    axes, _ = scatter(untrained(datasets=["digits", "fashion"]))
    words = [word for word in labels(figures[0]) if word]
    assert sum("ResNet18" in word for word in words) == 2
    assert "MNIST subset" not in words
    assert {"Digits 8×8", "Fashion-MNIST", "last layer"} <= set(words)
    hollow = [line for line in axes[0, 0].lines if line.get_markerfacecolor() == "none"]
    # Layer1 of ResNet18: two data sets, two starts.
    assert len(hollow) == 4


def test_without_points_the_figure_says_so(scatter, figures):
    scatter([])
    assert "No start" in figures[0].legends[0].get_title().get_text()


@pytest.fixture
def matrix(table, figures, out):
    def draw(rows, backbones=TWO):
        told = {"starts": STARTS, "datasets": DATASETS, "backbones": backbones, "style": STYLE}
        plot_transfer_matrix(Material(measures=table(rows), **told), vars(out))
        lines = [line for line in out.md.read_text().splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    return draw


def test_sources_by_targets_at_the_last_layer(matrix, figures, out):
    rows = matrix(untrained(starts=STARTS))
    assert rows[0] == ["backbone", "quantity", "source", *DATASETS.values()]
    table = pd.read_csv(out.csv).set_index(["backbone", "start", "dataset", "quantity"])
    table = table.sort_index()
    for backbone, start, dataset in product(TWO, STARTS, DATASETS):
        last = LAYERS[backbone][-1]
        probe = {
            s: number(dataset, backbone, s, last, "accuracy_linear") + 0.01 * (s != "imagenet")
            for s in (start, "random")
        }
        more = 0.01 * (start != "imagenet")
        nc1 = geometric(number(dataset, backbone, start, last, "nc1") + more, more)
        cells = table.loc[backbone, start, dataset]
        assert set(cells["layer"]) == {last}
        assert cells.loc["accuracy_linear", "mean"] == pytest.approx(probe[start])
        assert cells.loc["nc1", "mean"] == pytest.approx(nc1)
        if start != "random":
            gain = probe[start] - probe["random"]
            assert cells.loc["gain_over_random", "mean"] == pytest.approx(gain)
    assert ("vgg11", "random", "digits", "gain_over_random") not in table.index
    # Two backbones by three quantities, with a number in each cell.
    first = figures[0].axes[0]
    assert len(figures[0].axes) == 6
    assert [tick.get_text() for tick in first.get_yticklabels()] == [
        *("random", "ImageNet", "learned Digits 8×8")
    ]
    expected = 100 * (number("mnist5k", "resnet18", "random", "flatten", "accuracy_linear") + 0.01)
    assert first.texts[0].get_text() == f"{expected:.1f}"


def test_the_source_that_is_its_own_target_is_marked(matrix, figures):
    rows = matrix(untrained(starts=STARTS))
    column = 3 + list(DATASETS).index("digits")
    marked = [row for row in rows if any("†" in cell for cell in row)]
    assert len(marked) == 2 * 3
    assert all(row[2] == STARTS["pretrain-digits"] for row in marked)
    assert all("†" in row[column] and "†" not in row[column - 1] for row in marked)
    assert "framed" in figures[0].get_supxlabel()
    for axis in figures[0].axes:
        frames = [patch.get_center() for patch in axis.patches]
        assert np.allclose(frames, [(column - 3, 2)])


def test_cells_that_are_not_there_are_left_blank(matrix, figures, out):
    rows = untrained(backbones=["vgg11"])
    kept = [r for r in rows if (r["dataset"], r["start"]) != ("digits", "random")]
    found = matrix(kept)
    column = 3 + list(DATASETS).index("digits")
    dashes = {tuple(r[1:3]) for r in found[2:] if r[column] == "–"}
    assert {source for _, source in dashes} == {"random", "ImageNet"}
    assert len(figures[0].axes[0].texts) == 5 and len(figures[0].axes[1].texts) == 2
    assert "vgg11" in out.csv.read_text() and "VGG11" in out.tex.read_text()


def test_figure_and_table_say_where_a_class_has_few_training_images(matrix, scatter, figures, out):
    who = ("digits", "vgg11", "imagenet", "classifier", "fewest_images", 4.0)
    rows = [*untrained(), row(*who), row(*who[:-1], 3.0, split="test")]
    matrix(rows)
    assert "\nDigits 8×8: a class has only 4 training images; of fewer" in out.md.read_text()
    figures.clear()
    scatter(rows)
    words = figures[0].legends[0].get_title().get_text()
    assert "a class has only 4 training images" in " ".join(words.split())
    matrix(untrained())
    assert "a class has only" not in out.md.read_text()


def test_a_matrix_of_nothing_is_drawn(matrix, figures):
    matrix([])
    assert "No features" in figures[0].get_supxlabel()


def test_without_a_source_that_is_its_target_nothing_is_framed(matrix, figures):
    rows = matrix(untrained())
    assert not any("†" in cell for row in rows for cell in row)
    assert not any(axis.patches for axis in figures[0].axes)
    assert "framed" not in figures[0].get_supxlabel()
