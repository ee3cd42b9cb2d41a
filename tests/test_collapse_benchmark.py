"""The sides of the comparison of collapse measures agree; at tiny sizes, no times."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCHMARKS)
    import collapse

#: More features than classes and fewer; all classes present.
TINY = [collapse.Features(400, 30, 4), collapse.Features(600, 6, 15)]


def test_the_dense_formulas_of_an_ideal_simplex_are_zero():
    labels = np.arange(20) % 4
    simplex = np.eye(4) - 1 / 4
    with np.errstate(divide="ignore"):
        answer = collapse.dense_measures(simplex[labels] + 3, labels, labels, 2 * simplex)
    ones = {"nc3_cosine", "nc4", "accuracy", "accuracy_nearest_mean"}
    for name, value in answer.items():
        if name in ones:
            assert value == pytest.approx(1), name
        elif not name.startswith(("norm_", "hyperspherical", "log_")):
            assert value == pytest.approx(0, abs=1e-7), name
    # Vertices of a regular simplex of radius 1 are sqrt(2 C / (C - 1)) apart.
    assert answer["hyperspherical_uniformity"] == pytest.approx(-np.log(8 / 3) / 2)
    assert answer["norm_means"] == pytest.approx(0.75**0.5)
    assert answer["norm_head"] == pytest.approx(2 * 3**0.5)


@pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)
def test_the_sides_agree(tmp_path, case):
    collapse.write_features(case, case.store(tmp_path))
    answers = {
        side.__name__: side(tmp_path, case)()
        for side in (
            *(collapse.suite, collapse.shared, collapse.loop),
            *(collapse.dense, collapse.accumulators, collapse.reading),
        )
    }
    assert answers["reading"] == {"rows": case.n}
    agree, words = collapse.same_measures(answers["suite"], answers["dense"])
    assert agree, words
    for ours in ("suite", "shared", "loop"):
        agree, words = collapse.similar_measures(answers[ours], answers["accumulators"])
        assert agree, words
        assert words.startswith("5 measures")
    for ours in ("shared", "loop"):
        assert answers[ours] == pytest.approx(
            {name: answers["suite"][name] for name in collapse.SHARED}, rel=1e-12
        )
    # Some are told apart and some are not: the comparison would see either.
    assert 0.1 < answers["dense"]["accuracy_nearest_mean"] < 1


def test_measures_that_differ_or_are_missing_are_told():
    ours = {"nc1": 1.0, "cdnv": 2.0, "rank": 9}
    assert collapse.same_measures(ours, {"nc1": 1.0, "cdnv": 2.0})[0]
    assert not collapse.same_measures(ours, {"nc1": 1.0, "cdnv": 2.1})[0]
    agree, words = collapse.same_measures(ours, {"nc1": 1.0, "nc3": 2.0})
    assert (agree, words) == (False, "only on one side: cdnv, nc3")


def test_every_row_compares_sides_that_there_are():
    sides = collapse.sides()
    for row in collapse.rows():
        assert {row.ours, row.alternative} <= set(sides)


def test_all_layers_are_layers_of_the_network():
    from collapseflow.features.networks import layer_names, own_name

    names = [own_name("resnet18", layer) for layer in collapse.LAYERS]
    assert set(names) <= set(layer_names("resnet18"))
    assert len(set(names)) == 18
