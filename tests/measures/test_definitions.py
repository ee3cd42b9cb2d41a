"""The definitions of others against dense d x d formulas and loops in PyTorch."""

from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from collapseflow.measures.collapse import MEASURES, CollapsedError
from collapseflow.measures.definitions import PRESETS, compare_definitions
from collapseflow.measures.spectrum import OF_MOMENTS
from collapseflow.measures.statistics import reduce_stream

#: Numbers of samples by class.
SIZES = {"balanced": (30, 30, 30, 30), "unbalanced": (7, 40, 2, 25)}


def make_case(sizes, seed=0, scale=1.0):
    """Features around class means, labels, predictions, and a head, of d = 9."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = rng.normal(size=(len(sizes), 9)) * [4, 3, 2, 1, 1, 1, 1, 1, 1] + 5
    features = scale * (means[labels] + rng.normal(size=(len(labels), 9)))
    predictions = np.where(rng.random(len(labels)) < 0.3, (labels + 1) % len(sizes), labels)
    head = rng.normal(size=(len(sizes), 9)), rng.normal(size=len(sizes))
    return features, labels, predictions, head


def reduce(features, labels, predictions=None, head=None):
    return reduce_stream(lambda blocks: [(features, labels, predictions)], head=head)[0]


def dense(features, labels, predictions, head):
    """What each preset says, from all features in float64."""
    h, y = torch.tensor(features), torch.tensor(labels)
    w = torch.tensor(head[0])
    n, d = h.shape
    classes = y.unique().tolist()
    C = len(classes)
    parts = [h[y == c] for c in classes]
    M = torch.stack([part.mean(dim=0) for part in parts])
    sigma_w = torch.zeros(d, d, dtype=torch.float64)
    for part, mean in zip(parts, M, strict=True):
        for row in part:
            sigma_w += torch.outer(row - mean, row - mean) / n

    def between(centre, weights):
        answer = torch.zeros(d, d, dtype=torch.float64)
        for mean, weight in zip(M, weights, strict=True):
            answer += weight * torch.outer(mean - centre, mean - centre)
        return answer

    def angles(rows):
        return torch.stack([torch.cosine_similarity(a, b, dim=0) for a, b in combinations(rows, 2)])

    def coherence(rows):
        return (angles(rows) + 1 / (C - 1)).abs().mean()

    def equinorm(rows, correction):
        norms = rows.norm(dim=1)
        return norms.std(correction=correction) / norms.mean()

    def etf(products):
        simplex = (torch.eye(C, dtype=torch.float64) - 1 / C) / (C - 1) ** 0.5
        return (products / products.norm() - simplex).norm()

    def duality(rows):
        return (w / w.norm() - rows / rows.norm()).norm()

    even = [1 / C] * C
    shares = [len(part) / n for part in parts]
    all_mean, their_mean = h.mean(dim=0), M.mean(dim=0)
    sigma_b, theirs = between(all_mean, even), between(their_mean, even)
    nearest = torch.cdist(h, M).argmin(dim=1)
    missed = (nearest != torch.tensor(predictions)).double().mean()
    biased = [part.var(dim=0, correction=0).sum() for part in parts]
    unbiased = [part.var(dim=0, correction=1).sum() for part in parts]

    def pairs(variances, power):
        values = [
            (variances[i] + variances[j]) / (M[i] - M[j]).norm() ** power
            for i, j in combinations(range(C), 2)
        ]
        return torch.stack(values).mean()

    def directional(correction):
        values = []
        for i, j in permutations(range(C), 2):
            u = (M[j] - M[i]) / (M[j] - M[i]).norm()
            along = (parts[i] @ u).var(correction=correction)
            values.append(along / (M[j] - M[i]).norm() ** 2)
        return torch.stack(values).mean()

    # Around the mean of all samples, and around that of the class means.
    m, b = M - all_mean, M - their_mean
    nc1 = torch.trace(sigma_w @ torch.linalg.pinv(sigma_b)) / C
    D = torch.trace(sigma_w @ torch.linalg.pinv(between(all_mean, shares)))
    cut = torch.linalg.pinv(sigma_b, atol=1e-5, rtol=0, hermitian=True)
    nc2 = {
        "nc2_equinorm": equinorm(m, 0),
        "nc2_equiangularity": angles(m).std(correction=0),
        "nc2_maximal_angle": coherence(m),
    }
    apart = [(x / x.norm() - y / y.norm()).norm().log() for x, y in combinations(m, 2)]
    answer = {
        "papyan2020": {
            "nc1": nc1,
            **nc2,
            "nc2_equinorm_head": equinorm(w, 0),
            "nc2_equiangularity_head": angles(w).std(correction=0),
            "nc2_maximal_angle_head": coherence(w),
            "nc3": duality(m),
            "nc4": missed,
        },
        "papyan_notebook": {
            "nc1": torch.trace(sigma_w @ torch.linalg.pinv(theirs)),
            "nc2_equinorm": equinorm(b, 1),
            "nc2_maximal_angle": coherence(b),
            "nc2_equinorm_head": equinorm(w, 1),
            "nc2_maximal_angle_head": coherence(w),
            "nc3": duality(b) ** 2,
            "nc4": missed,
        },
        "report_a": {"nc1": torch.trace(sigma_w @ cut) / C, **nc2},
        "zhu2021": {
            "nc1": nc1,
            "etf_distance_head": etf(w @ w.T),
            "etf_distance_duality": etf(w @ m.T),
        },
        "dang2023": {"nc1": nc1},
        "sample_weighted": {
            **nc2,
            "etf_distance": etf(m @ m.T),
            "hyperspherical_uniformity": -torch.stack(apart).mean(),
            "etf_distance_duality": etf(w @ m.T),
            "nc3": duality(m) ** 2,
            "nc3_cosine": torch.cosine_similarity(w, m).mean(),
            "norm_means": m.norm(dim=1).mean(),
        },
        "he_su": {"nc1": D, "log_fuzziness": D.log()},
        "tirer": {"nc1": torch.trace(sigma_w) / torch.trace(sigma_b)},
        "galanti": {"cdnv": pairs(biased, 2) / 2},
        "linguistic_collapse": {"cdnv": pairs(biased, 4) / 2},
        "luthra": {"directional_cdnv": directional(0)},
        "luthra_code": {"cdnv": pairs(unbiased, 2), "directional_cdnv": directional(1)},
    }
    return {preset: {k: float(v) for k, v in values.items()} for preset, values in answer.items()}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
# On the small scale report A's cutoff leaves out some eigenvalues of Sigma_B.
@pytest.mark.parametrize("scale", [1.0, 2e-3])
def test_every_definition_equals_the_dense_formula(sizes, scale):
    case = make_case(sizes, scale=scale)
    expected = dense(*case)
    found = {preset: {} for preset in PRESETS}
    statistics = reduce(*case)
    for row in compare_definitions(statistics):
        if row["preset"] == "collapseflow":
            assert row["value"] == MEASURES[row["quantity"]](statistics)
        else:
            found[row["preset"]][row["quantity"]] = row["value"]
            assert row["words"]
    assert {preset: list(values) for preset, values in PRESETS.items()} == {
        preset: list(values) for preset, values in expected.items()
    }
    for preset, values in expected.items():
        assert found[preset] == pytest.approx(values, rel=1e-9), preset
    # The cutoff matters on the small scale alone.
    same = found["report_a"]["nc1"] == pytest.approx(found["papyan2020"]["nc1"], rel=1e-6)
    assert same == (scale == 1)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_around_which_mean_matters_on_unequal_classes_alone(sizes):
    statistics = reduce(*make_case(sizes))
    for quantity, definition in PRESETS["sample_weighted"].items():
        ours = MEASURES[quantity](statistics)
        same = definition.function(statistics) == pytest.approx(ours, rel=1e-9)
        assert same == (len(set(sizes)) == 1), quantity


def test_on_classes_of_equal_size_the_definitions_of_nc1_differ_by_the_number_of_classes():
    rows = compare_definitions(reduce(*make_case(SIZES["balanced"])))
    nc1 = {row["preset"]: row["value"] for row in rows if row["quantity"] == "nc1"}
    for preset in ("papyan_notebook", "he_su"):
        assert nc1[preset] == pytest.approx(4 * nc1["papyan2020"])
    unbalanced = compare_definitions(reduce(*make_case(SIZES["unbalanced"])))
    nc1 = {row["preset"]: row["value"] for row in unbalanced if row["quantity"] == "nc1"}
    assert nc1["papyan_notebook"] != pytest.approx(nc1["he_su"], rel=1e-3)


def test_ours_stands_first_and_a_quantity_together():
    rows = compare_definitions(reduce(*make_case(SIZES["balanced"])))
    quantities = [row["quantity"] for row in rows]
    order = list(dict.fromkeys(quantities))
    assert order == [name for name in MEASURES if name in order]
    assert quantities == sorted(quantities, key=order.index)
    for quantity in order:
        presets = [row["preset"] for row in rows if row["quantity"] == quantity]
        assert presets[0] == "collapseflow"
        assert presets[1:] == [name for name in PRESETS if quantity in PRESETS[name]]


#: Of a simplex of five corners with lengths sqrt(0.8), three times as large, what is not zero.
IDEALS = {
    "hyperspherical_uniformity": -np.log(2.5) / 2,
    "nc3_cosine": 1,
    "norm_means": 3 * np.sqrt(0.8),
}


def test_a_simplex_without_scatter_is_zero_under_every_definition():
    simplex = np.eye(5) - 1 / 5
    labels = np.arange(40) % 5
    statistics = reduce(3 * simplex[labels] + 2, labels, labels, (simplex, np.zeros(5)))
    rows = compare_definitions(statistics)
    assert {"nc1", "nc3", "nc4", "cdnv", "etf_distance_duality"} <= {r["quantity"] for r in rows}
    for row in rows:
        if row["quantity"] == "log_fuzziness":
            assert row["value"] < -60
        elif row["quantity"] in IDEALS:
            assert row["value"] == pytest.approx(IDEALS[row["quantity"]]), row
        elif row["preset"] != "collapseflow":
            assert row["value"] == pytest.approx(0, abs=1e-7), row


def test_what_does_not_apply_is_left_out():
    features, labels, _, _ = make_case((12, 12, 1))
    rows = compare_definitions(reduce(features, labels))
    quantities = {row["quantity"] for row in rows}
    assert not any("head" in name or name in ("nc3", "nc4") for name in quantities)
    # A class of one sample has no variance with ddof = 1.
    assert "luthra_code" not in {row["preset"] for row in rows}
    assert "luthra" in {row["preset"] for row in rows}


def test_what_cannot_be_measured_raises_as_the_measures_do():
    with pytest.raises(ValueError, match="two classes"):
        compare_definitions(reduce(np.ones((4, 2)), np.zeros(4, int)))
    with pytest.raises(CollapsedError):
        compare_definitions(reduce(np.full((4, 2), 0.1), np.array([0, 0, 1, 1])))


def test_the_page_on_collapse_names_every_measure_and_preset():
    page = (Path(__file__).parents[2] / "docs" / "collapse.md").read_text()
    names = [*MEASURES, *OF_MOMENTS, "two_nn", *PRESETS]
    assert [name for name in names if f"`{name}`" not in page] == []
