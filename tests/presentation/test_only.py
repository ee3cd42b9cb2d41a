"""What figures show where the study file chooses: recipes, splits, measures."""

import pytest
from made_up import describe_runs, glyphs_of, words_of
from test_figures import (
    arguments,  # noqa: F401
    level,
    marked,
    write_tables,  # noqa: F401
)
from test_transfer import scatter, table, tuned, untrained  # noqa: F401

from collapseflow.measures.quantities import quantity
from collapseflow.presentation.figures import curves, epochs, layers, probes, sweep, training


@pytest.fixture
def draw(arguments, figures, log):  # noqa: F811
    """A function that draws a figure of two recipes, with what is chosen, and without a choice."""
    names = ["conv1", "layer2", "flatten"]
    runs = describe_runs(["digits"], recipe="plain", label="Net", layers=names)
    runs += describe_runs(
        ["digits"],
        settings=[{"weight_decay": value} for value in (0.1, 0.2)],
        recipe="decay",
        layers=names,
    )

    def draw_both(plot, **only):
        given = arguments(runs, value=level)
        given.training = log(runs)
        given.swept_runs = [run for run in runs if run.setting]
        for chosen in ({}, only):
            for name, names in chosen.items():
                setattr(given, f"only_{name}", names)
            plot(given, {})
        return figures

    return draw_both


def colours_in(figure):
    """The colours of the series in the legend, by their labels."""
    glyphs = dict(glyphs_of(figure))
    return {
        words: seen[1] if seen[0] == "patch" else seen[0]
        for words, seen in glyphs.items()
        if words.startswith(("Net", "ResNet18, weight"))
    }


@pytest.mark.parametrize(
    "plot",
    [epochs.plot_accuracy, epochs.plot_collapse, layers.plot_layers, probes.plot_probes]
    + [training.plot_training],
)
def test_chosen_recipes_are_shown_in_the_colours_that_they_have_beside_all(draw, plot):
    of_all, of_one = map(colours_in, draw(plot, recipes=["decay"]))
    assert len(of_all) == 3 and len(of_one) == 2
    assert of_one == {words: of_all[words] for words in of_one}


def test_a_figure_without_a_chosen_recipe_shows_all_it_has(draw):
    of_all, of_one = map(colours_in, draw(sweep.plot_sweep, recipes=["plain"]))
    assert of_all == of_one


@pytest.mark.parametrize(
    "plot", [epochs.plot_accuracy, epochs.plot_collapse, layers.plot_layers, sweep.plot_sweep]
)
def test_chosen_splits_are_drawn_alone(draw, plot):
    of_all, of_test = draw(plot, splits=["test"])
    hollow = curves.SPLITS["test"]["markerfacecolor"]

    def is_test(line):
        return line.get_markerfacecolor() == hollow

    drawn = [line for axis in of_all.axes for line in marked(axis)]
    shown = [line for axis in of_test.axes for line in marked(axis)]
    assert drawn and 0 < len(shown) < len(drawn)
    assert all(map(is_test, shown)) and not all(map(is_test, drawn))
    words, _ = words_of(of_test)
    assert not any(word.startswith("training images") for word in words)
    assert any(word.startswith("test images") for word in words)


@pytest.mark.parametrize(
    ("plot", "measure", "beside"),
    [
        (epochs.plot_collapse, "nc1", 0),
        (layers.plot_layers, "cdnv", 0),
        (sweep.plot_sweep, "nc1", 2),
    ],
)
def test_chosen_measures_have_panels_and_no_others(draw, plot, measure, beside):
    of_all, of_one = draw(plot, measures=[measure])
    titles = [" ".join(axis.get_title().split()) for axis in of_one.axes if axis.axison]
    assert len(titles) == 1 + beside < sum(axis.axison for axis in of_all.axes)
    assert sum(quantity(measure).title in title for title in titles) == 1


def test_points_of_transfer_are_of_the_chosen_recipes_and_measures(scatter):  # noqa: F811
    runs = describe_runs(["digits", "mnist5k"])
    axes, points = scatter(
        untrained() + tuned(runs), runs, only_measures=["cdnv"], only_recipes=["none"]
    )
    shown = [axis for axis in axes.flat if axis.axison]
    # The points after fine-tuning are of another recipe.
    assert len(shown) == 1 and shown[0].get_xlabel() == "CDNV"
    assert set(points["after"]) == {"probing", "fine-tuning"}
