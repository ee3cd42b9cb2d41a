"""Report B's variances against numpy's var and cov and against its own definition."""

from itertools import combinations

import numpy as np
import pytest

from collapseflow.measures.embedding import write_failed_embedding
from collapseflow.measures.statistics import (
    reduce_stores,
    reduce_stream,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.measures.variance import class_variances, compare_variances
from collapseflow.running.errors import UserError


def toy(d=6, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1, 3, 4], [40, 25, 1, 60]))
    features = rng.normal(size=(5, d))[labels] * 2 + rng.normal(size=(len(labels), d)) + offset
    return features, labels


def collect(features, labels, size=17):
    def stream(blocks_in_use):
        for row in range(0, len(labels), size):
            yield features[row : row + size], labels[row : row + size], None

    found = {}
    for quantity, a, b, value in class_variances(reduce_stream(stream)[0]):
        assert (quantity, a, b) not in found
        found[quantity, a, b] = value
    return found


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_variances_equal_numpy(offset):
    features, labels = toy(offset=offset)
    classes = np.unique(labels).tolist()
    expected = {}
    for c in classes:
        expected["intra_class", c, None] = np.var(features[labels == c], axis=0).sum()
    for a, b in combinations(classes, 2):
        union = features[(labels == a) | (labels == b)]
        expected["pooled_pair", a, b] = np.trace(np.cov(union.T, ddof=0))
        difference = features[labels == a].mean(axis=0) - features[labels == b].mean(axis=0)
        expected["mean_distance", a, b] = np.sum(difference**2)
    found = collect(features, labels)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-9, err_msg=str(key))


def test_a_pair_by_hand():
    # Class 0: 0 and 2 (variance 1); class 1: 5, 5, 8 (variance 2). Union 0, 2, 5, 5, 8: mean 4,
    # squared deviations 16 + 4 + 1 + 1 + 16 = 38, variance 7.6. Means 1 and 6.
    found = collect(np.array([[0.0], [2], [5], [5], [8]]), np.array([0, 0, 1, 1, 1]))
    np.testing.assert_allclose(found["intra_class", 0, None], 1)
    np.testing.assert_allclose(found["intra_class", 1, None], 2)
    np.testing.assert_allclose(found["pooled_pair", 0, 1], 7.6)
    np.testing.assert_allclose(found["mean_distance", 0, 1], 25)


def test_half_of_the_trace_is_report_b_s_mean_over_the_coordinates():
    points, labels = toy(d=2, seed=1)
    found = collect(points, labels)
    for c in np.unique(labels).tolist():
        by_report_b = np.mean(np.var(points[labels == c], axis=0))
        np.testing.assert_allclose(found["intra_class", c, None] / 2, by_report_b, atol=1e-12)
    union = np.concatenate([points[labels == 1], points[labels == 4]])
    by_report_b = np.mean(np.var(union, axis=0))
    np.testing.assert_allclose(found["pooled_pair", 1, 4] / 2, by_report_b)


def test_classes_whose_means_coincide_have_no_distance():
    features = np.array([[-1.0, 0], [1, 0], [0, 2], [0, -2], [0, 0]])
    found = collect(features, np.array([2, 2, 5, 5, 7]))
    assert [found["intra_class", c, None] for c in (2, 5, 7)] == [1, 4, 0]
    assert found["mean_distance", 2, 5] == found["mean_distance", 5, 7] == 0
    # (2 * 1 + 2 * 4) / 4 of the one pair, 2 * 4 / 3 of the other.
    assert found["pooled_pair", 2, 5] == 2.5
    np.testing.assert_allclose(found["pooled_pair", 5, 7], 8 / 3)


def test_compare_variances_halves_on_the_coordinates_only(tmp_path, make_store):
    stores, embeddings, content = {}, [], []
    for number, split in enumerate(["train", "test"]):
        features, labels = toy(seed=number)
        points, _ = toy(d=2, seed=10 + number)
        features, points = features.astype(np.float32), points.astype(np.float32)
        stores[split] = make_store(features, labels, name=f"{split}.h5")
        embeddings.append(tmp_path / f"{split}.npz")
        np.savez(embeddings[-1], coordinates=points, labels=labels)
        content.append((split, features, points, labels))
    # Of a state with two layers.
    other = make_store(features[:, :1], labels, name="other.h5")
    layers = {"layer1": {"train": other, "test": other}, "layer2": stores}
    statistics = {layer: reduce_stores(of_layer) for layer, of_layer in layers.items()}
    write_statistics(tmp_path / "epoch001.npz", statistics, [])
    asked = [(tmp_path / "epoch001.npz", "layer2")]
    records = compare_variances(["raw"], asked, embeddings)
    table = {
        (r["split"], r["space"], r["quantity"], r["class_a"], r["class_b"]): r["value"]
        for r in records
    }
    assert len(table) == len(records)
    assert {r["features"] for r in records} == {"raw"}
    assert not any(space[0] == "t" and q == "mean_distance" for _, space, q, _, _ in table)
    for split, features, points, labels in content:
        union = (labels == 0) | (labels == 4)
        np.testing.assert_allclose(
            table[split, "t-SNE coordinates", "intra_class", 0, None],
            np.var(points[labels == 0].astype(float), axis=0).mean(),
        )
        np.testing.assert_allclose(
            table[split, "t-SNE coordinates", "pooled_pair", 0, 4],
            np.var(points[union].astype(float), axis=0).mean(),
        )
        np.testing.assert_allclose(
            table[split, "features", "pooled_pair", 0, 4],
            np.var(features[union].astype(float), axis=0).sum(),
        )
        distance = features[labels == 0].mean(0, float) - features[labels == 4].mean(0, float)
        np.testing.assert_allclose(
            table[split, "features", "mean_distance", 0, 4], distance @ distance
        )


def test_a_feature_set_that_failed_has_no_variances(tmp_path, make_store):
    features, labels = toy()
    good = make_store(features.astype(np.float32), labels)
    write_statistics(tmp_path / "raw.npz", {"": reduce_stores({"train": good, "test": good})}, [])
    write_failed_statistics(tmp_path / "epoch003.npz", "the loss of epoch 3 is not finite")
    np.savez(tmp_path / "good.npz", coordinates=features[:, :2], labels=labels)
    write_failed_embedding(tmp_path / "bad.npz", "the loss of epoch 3 is not finite")
    records = compare_variances(
        ["failed", "raw"],
        [(tmp_path / "epoch003.npz", "layer1"), (tmp_path / "raw.npz", "")],
        [tmp_path / f"{name}.npz" for name in ("bad", "bad", "good", "good")],
    )
    assert {record["features"] for record in records} == {"raw"}
    assert {record["split"] for record in records} == {"train", "test"}


def test_a_damaged_file_of_statistics_is_named(tmp_path):
    (tmp_path / "raw.npz").write_bytes(b"no statistics")
    with pytest.raises(UserError, match=r"raw\.npz: .*delete it and start again"):
        compare_variances(["raw"], [(tmp_path / "raw.npz", "")], [tmp_path / "a", tmp_path / "b"])
