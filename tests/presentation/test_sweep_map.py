"""What two swept keys do together, as heat maps."""

from itertools import product

import numpy as np
import pytest
import test_figures
from made_up import describe_runs, heat_maps_of, words_of
from matplotlib.patches import Rectangle
from scipy.stats import gmean

from collapseflow.presentation.figures.sweep_map import FRAME, plot_sweep_map

arguments, write_tables = test_figures.arguments, test_figures.write_tables

DECAYS, MOMENTA = (1e-4, 1e-2, 0.0), (0.0, 0.9)


def runs_of(seeds=(0, 1), more=({},), **changes):
    settings = [
        {"weight_decay": decay, "momentum": momentum, **further}
        for decay, momentum, further in product(DECAYS, MOMENTA, more)
    ]
    return describe_runs(["digits"], ["vgg11"], seeds, settings, **changes)


def value(run, epoch, layer, split, quantity):
    """Another number at each point, of each seed, on each split, after each epoch."""
    if run.setting["weight_decay"] == 0 and run.setting["momentum"] == 0:
        return "lost"
    height = 1 + 1000 * run.setting["weight_decay"] + run.setting["momentum"]
    return height * (1 + run.seed) * (4 if split == "test" else 1) + 10 * (4 - epoch)


def share(run, epoch, split):
    right = 0.5 + 10 * run.setting["weight_decay"] + run.setting["momentum"] / 10
    return right + run.seed / 10 - (0.2 if split == "test" else 0) if epoch == 4 else 0.01


def draw(arguments, log, runs, more=lambda run, epoch: {}):
    given = arguments(runs, value, share)
    given.runs_swept_twice, given.training = runs, log(runs, more)
    plot_sweep_map(given, {})


def values_of(panel):
    (cells,) = heat_maps_of(panel)
    return np.ma.filled(cells.get_array().astype(float), np.nan)


def test_each_pair_of_values_has_its_cell(arguments, figures, log):
    draw(arguments, log, runs_of())
    (figure,) = figures
    panels = [axis for axis in figure.axes if heat_maps_of(axis)]
    assert [" ".join(panel.get_title().split()) for panel in panels] == [
        *("accuracy, test, %", "accuracy, training, %", "NC1, test", "NC1, training")
    ]
    # Zero first: values go up to the right and down.
    for panel in panels:
        assert [text.get_text() for text in panel.get_xticklabels()] == ["0", "0.0001", "0.01"]
        assert panel.get_xlabel() == "weight decay"
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["0", "0.9"]
    for panel, split in zip(panels[:2], ("test", "train"), strict=True):
        for (row, momentum), (column, decay) in product(
            enumerate(MOMENTA), enumerate(sorted(DECAYS))
        ):
            runs = [
                r for r in runs_of() if r.setting == {"weight_decay": decay, "momentum": momentum}
            ]
            lost = decay == momentum == 0
            wanted = np.nan if lost else np.mean([share(run, 4, split) for run in runs])
            np.testing.assert_allclose(values_of(panel)[row, column], wanted)
    for panel, split in zip(panels[2:], ("test", "train"), strict=True):
        pairs = [value(run, 4, "", split, "nc1") for run in runs_of() if run.setting["momentum"]]
        wanted = {}
        for run, found in zip([r for r in runs_of() if r.setting["momentum"]], pairs, strict=True):
            wanted.setdefault(run.setting["weight_decay"], []).append(found)
        found = values_of(panel)[1]
        np.testing.assert_allclose(found, [gmean(wanted[decay]) for decay in sorted(DECAYS)])
    # What failed has no number, and stands below.
    assert len(panels[0].texts) == 5 + 1
    words, note = words_of(figure)
    assert "mean over seeds 0, 1 (NC1: geometric)" in words and "no result" in words
    assert "weight decay 0.0, momentum 0.0, seeds 0, 1, epoch 0: lost" in " ".join(note.split())


def test_further_keys_and_networks_have_maps_of_their_own(arguments, figures, log):
    runs = runs_of(seeds=(0,), more=({"epochs": 3}, {"epochs": 4}))
    draw(arguments, log, runs)
    panels = [axis for axis in figures[0].axes if heat_maps_of(axis)]
    assert len(panels) == 8
    headings = [
        text.get_text() for axis in panels for text in axis.texts if "VGG11" in text.get_text()
    ]
    assert [" ".join(heading.split()) for heading in headings] == [
        f"Digits 8×8: VGG11, decay, epochs {n}" for n in (3, 4)
    ]
    # One scale for each quantity.
    (first,), (second,) = heat_maps_of(panels[0]), heat_maps_of(panels[5])
    assert first.norm.vmin == second.norm.vmin and first.norm.vmax == second.norm.vmax


@pytest.mark.parametrize("validated", [False, True])
def test_the_best_point_on_held_out_images_is_framed(arguments, figures, log, validated):
    def held_out(run, epoch):
        best = run.setting == {"weight_decay": 1e-4, "momentum": 0.9}
        accuracy = {"validation_accuracy": 0.9 if best else 0.5, "validation_loss": 1.0}
        return accuracy if validated else {}

    draw(arguments, log, runs_of(), held_out)
    panels = [axis for axis in figures[0].axes if heat_maps_of(axis)]
    for panel in panels:
        frames = [
            patch
            for patch in panel.patches
            if isinstance(patch, Rectangle) and patch.get_linewidth() == FRAME["linewidth"]
        ]
        places = [(frame.get_x() + 0.46, frame.get_y() + 0.46) for frame in frames]
        assert places == ([pytest.approx((1, 1))] if validated else [])
    words, _ = words_of(figures[0])
    assert ("best on held-out training images" in words) == validated


def test_small_cells_have_a_scale_in_place_of_numbers(arguments, figures, log):
    settings = [{"weight_decay": n / 1000, "momentum": m} for n in range(1, 13) for m in MOMENTA]
    draw(arguments, log, describe_runs(["digits"], ["vgg11"], (0,), settings))
    assert "no result" not in words_of(figures[0])[0]
    bars = [axis for axis in figures[0].axes if getattr(axis, "_colorbar", None) is not None]
    assert len(bars) == 4
