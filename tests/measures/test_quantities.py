"""The table of quantities against the measures themselves and against their page."""

import ast
import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

from collapseflow.measures import collapse
from collapseflow.measures.collapse import MEASURES, measure
from collapseflow.measures.quantities import (
    FAMILIES,
    OURS,
    QUANTITIES,
    Quantity,
    panels_of,
    quantity,
)
from collapseflow.measures.spectrum import OF_MOMENTS
from collapseflow.measures.statistics import reduce_stream
from collapseflow.running.errors import UserError

C = 5


def measured(features, labels, predictions, head):
    """All measures of one block of samples."""
    blocks = [(features, labels, predictions)]
    return measure(reduce_stream(lambda _: blocks, head=head)[0])


@pytest.fixture(scope="module")
def ideal():
    """Each class is one corner of a simplex, and the rows of the last layer are its corners."""
    simplex = np.eye(C) - 1 / C
    labels = np.arange(8 * C) % C
    return measured(simplex[labels], labels, labels, (simplex, np.zeros(C)))


@pytest.fixture(scope="module")
def noise():
    """Features, predictions and weight that know nothing of the labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % C
    head = rng.normal(size=(C, 12)), np.zeros(C)
    return measured(rng.normal(size=(400, 12)), labels, rng.integers(C, size=400), head)


def test_every_entry_says_what_it_is():
    for entry in (*QUANTITIES.values(), *FAMILIES):
        for words in (entry.label, entry.title, entry.axis, entry.meaning, entry.source):
            assert words and "\n" not in words, entry.name
        assert not entry.meaning.endswith("."), entry.name
        named = re.search(r"\d{4}|arXiv|report [AB]|notebook", entry.source)
        assert named or entry.source == OURS, entry.name
        assert entry.unit in ("", "%", "points"), entry.name
        assert entry.better in ("", "smaller", "larger"), entry.name
        assert not (entry.logarithmic and entry.unit), entry.name
    titles = [entry.title for entry in QUANTITIES.values()]
    assert len(set(titles)) == len(titles)


def test_what_is_computed_is_in_the_table_and_the_other_way_round():
    by_kind = {}
    for name, entry in QUANTITIES.items():
        by_kind.setdefault(entry.kind, set()).add(name)
    assert by_kind["statistics"] == set(MEASURES)
    assert all(function.__name__ == name for name, function in MEASURES.items())
    assert by_kind["spectrum"] == {*OF_MOMENTS, "two_nn"}


def test_a_measure_without_an_entry_is_named():
    tree = ast.parse(inspect.getsource(collapse))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    measures = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and [argument.arg for argument in node.args.args] == ["statistics"]
        and ast.unparse(node.returns).startswith("float")
    }
    forgotten = measures - used - set(QUANTITIES)
    assert not forgotten, f"measures/quantities.py has no entry of {forgotten}"


def test_ideals_are_the_values_at_perfect_collapse(ideal):
    of_statistics = {name: entry for name, entry in QUANTITIES.items() if name in MEASURES}
    known = {name: entry.ideal for name, entry in of_statistics.items() if entry.ideal is not None}
    for name, value in known.items():
        if math.isinf(value):
            # Rounding leaves something within the classes.
            assert ideal.get(name, -math.inf) < -60
        else:
            assert ideal[name] == pytest.approx(value, abs=1e-7), name
    # Of the others the value depends on the number of classes, or on the scale.
    free = {name for name in of_statistics if re.match("norm_|hyper|fewest", name)}
    assert set(of_statistics) - set(known) == free


def test_the_better_way_is_that_from_noise_to_collapse(ideal, noise):
    checked = 0
    for name in MEASURES:
        better = quantity(name).better
        if better:
            sign = 1 if better == "larger" else -1
            assert sign * ideal.get(name, -math.inf) > sign * noise[name], name
            checked += 1
    assert checked == 26


@pytest.mark.parametrize(
    ("name", "family", "parameter", "label"),
    [
        ("accuracy_rf", "accuracy_", "rf", "rf"),
        ("accuracy_few_shot", "accuracy_", "few_shot", "few_shot"),
        ("accuracy_linear", "accuracy_", "linear", "linear probe"),
        ("balanced_accuracy_rf", "balanced_accuracy_", "rf", "rf, balanced"),
        ("accuracy_few_shot_20", "accuracy_few_shot_", 20, "20 images a class"),
        ("few_shot_bound_20", "few_shot_bound_", 20, "bound, 20 images a class"),
        ("accuracy_few_shot_all", "", None, "all training images"),
        ("accuracy_nearest_mean", "", None, "nearest class mean"),
        ("accuracy", "", None, "network"),
    ],
)
def test_families_tell_classifiers_and_numbers_of_images(name, family, parameter, label):
    found = quantity(name)
    assert (found.name, found.family, found.parameter, found.label) == (
        name,
        family,
        parameter,
        label,
    )
    assert found.is_accuracy == (family != "few_shot_bound_")
    assert "{" not in found.title + found.meaning


@pytest.mark.parametrize("name", ["nc5", "", "few_shot_bound_", "few_shot_bound_all"])
def test_a_forgotten_quantity_is_named(name):
    with pytest.raises(UserError, match=rf"quantity '{name}': is not in the table .*quantities.py"):
        quantity(name)


def test_values_on_an_axis():
    assert quantity("accuracy").on_axis(0.25) == 25
    assert quantity("gain_over_random").on_axis(-0.25) == -25
    assert quantity("nc4").on_axis(0.75) == 25
    assert quantity("nc1").on_axis(0.25) == 0.25
    np.testing.assert_allclose(quantity("nc4").on_axis(np.array([1, 0.5])), [0, 50])


def test_panels_stand_in_the_order_of_the_table(monkeypatch):
    assert panels_of("transfer") == ["nc1", "cdnv", "h_score", "logme", "effective_rank"]
    more = Quantity("more", "spectrum", "m", "More", "m", "more", OURS, panels=("transfer",))
    monkeypatch.setitem(QUANTITIES, "more", more)
    assert panels_of("transfer")[-1] == "more" and "more" not in panels_of("epochs")


def test_pages_have_every_measure_with_its_source_and_the_families():
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "collapse.md").read_text(encoding="utf-8")
    everything = page + (docs / "results.md").read_text(encoding="utf-8")
    for family in FAMILIES:
        parameter = "m" if family.kind == "few_shot" else "classifier"
        assert f"`{family.name}<{parameter}>`" in everything, family.name
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name in [*MEASURES, *OF_MOMENTS, "two_nn"]:
        of_name = " ".join(row for row in rows if f"`{name}`" in row)
        assert of_name, name
        for paper in re.findall(r"arXiv:[\d.]+\d", quantity(name).source):
            if not name.endswith("_head"):  # "as above"
                assert paper in of_name or re.search(r"Zhu \d{4}", of_name), name


def test_the_page_on_collapse_has_the_same_ideals():
    page = (Path(__file__).parents[2] / "docs" / "collapse.md").read_text(encoding="utf-8")
    table = page.partition("| name | simplex | noise, expected |")[2].partition("\n\n")[0]
    told = {
        name: cell.strip()
        for names, cell in re.findall(r"^\|((?: `\w+`,?)+) \|([^|]*)\|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    in_words = {0: "0", 1: "1", -math.inf: "−∞"}
    ideals = {name: quantity(name).ideal for name in MEASURES}
    expected = {name: in_words[ideal] for name, ideal in ideals.items() if ideal is not None}
    assert len(expected) == 24
    assert {name: told[name] for name in expected} == expected
