"""What one more measure costs: a function and an entry. Its rows are written, its means over seeds
are of the right kind, and the figures have a panel of it."""

import numpy as np
import pytest
from made_up import EVERYTHING, describe_runs
from scipy.stats import gmean

from collapseflow.measures.collapse import MEASURES, measure_states
from collapseflow.measures.quantities import QUANTITIES, Quantity
from collapseflow.measures.statistics import MATCHED, reduce_stream, write_statistics
from collapseflow.presentation.figures import epochs, layers
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import over_seeds, read_csv
from collapseflow.presentation.tables.writing import spread
from collapseflow.study.schema import Style


def largest_class(statistics):
    """Number of samples of the largest class."""
    return int(statistics.counts.max())


ENTRY = Quantity(
    name="largest_class",
    kind="statistics",
    label="largest class",
    title="Images of the largest class",
    axis="$n$",
    meaning="number of images of the class that has the most",
    source="made up",
    logarithmic=True,
    panels=("epochs", "layers"),
)


def statistics_of(n):
    """Of three classes, of which one has ``n`` samples and the others four, with a last layer."""
    labels = np.repeat([0, 1, 2], [n, 4, 4])
    features = np.eye(3)[labels] + np.random.default_rng(n).normal(scale=0.1, size=(n + 8, 3))
    blocks = [(features, labels, labels)]
    return reduce_stream(lambda _: blocks, head=(np.eye(3), np.zeros(3)))[0]


def test_a_function_and_an_entry_are_a_measure(tmp_path, monkeypatch, collect, figures):
    monkeypatch.setitem(MEASURES, "largest_class", largest_class)
    monkeypatch.setitem(QUANTITIES, "largest_class", ENTRY)
    names = ["conv", "flatten"]
    runs = describe_runs(seeds=(0, 1), layers=names, last=1)
    sizes = {(seed, epoch): 10 * (1 + seed) * (1 + epoch) for seed in (0, 1) for epoch in (0, 1)}
    contents = []
    for run in runs:
        paths = {}
        for epoch in (0, 1):
            paths[epoch] = tmp_path / f"s{run.seed}-{epoch}.npz"
            found = statistics_of(sizes[run.seed, epoch])
            of_splits = dict.fromkeys(("train", "test", MATCHED), found)
            write_statistics(paths[epoch], dict.fromkeys(names, of_splits), [])
        contents.append(measure_states(paths, names))
    tables = collect(runs, contents)
    rows = read_csv(tables[0]).query("quantity == 'largest_class'")
    assert len(rows) == 2 * 2 * 2 * 3
    (mean,) = over_seeds(
        rows.query("epoch == 1 and layer == 'conv' and split == 'test'"), ["epoch"]
    )["mean"]
    assert mean == pytest.approx(gmean([20, 40]))
    assert spread("largest_class", mean, 2.0) == "28.3 ×÷ 2.00"
    labels = {"datasets": {"digits": "Digits"}, "backbones": {"resnet18": "ResNet18"}}
    told = {"runs": runs, "layered_runs": runs, "dataset": "digits", **labels, **EVERYTHING}
    read = {"measures": tables[0], "failures": tables[1], "style": Style().drawn}
    epochs.plot_collapse(Material(**told, **read), {})
    layers.plot_layers(Material(**told, **read), {})
    over_epochs, over_layers = figures
    # A tenth panel over epochs, beside the nine of the measures that there are.
    *others, panel = [axis for axis in over_epochs.axes if axis.axison]
    assert len(others) == 9 and panel.get_title() == "(j) Images of the largest class"
    assert (panel.get_ylabel(), panel.get_yscale()) == ("$n$", "log")
    expected = [gmean([10, 20]), gmean([20, 40])]
    drawn = [line for line in panel.lines if len(line.get_xdata()) == 2]
    assert any(line.get_ydata() == pytest.approx(expected) for line in drawn)
    *others, panel = [axis for axis in over_layers.axes if axis.axison]
    assert len(others) == 4 and panel.get_title() == "Images of the largest class"
    assert any(line.get_ydata() == pytest.approx([expected[1]] * 2) for line in panel.lines)
