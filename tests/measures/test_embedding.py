"""t-SNE against openTSNE and scikit-learn called directly, neighbour recall against brute force."""

import numpy as np
import openTSNE
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from collapseflow.measures.embedding import (
    embed,
    neighbour_recall,
    reduce,
    write_failed_embedding,
)

OPTIONS = {
    "pca": 5,
    "exaggeration": 12.0,
    "exaggeration_iterations": 50,
    "iterations": 100,
}


def blobs(n=90, d=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (rng.normal(size=(3, d)) * 8)[labels] + rng.normal(size=(n, d)), labels


def recall_by_hand(features, embedding, k=10):
    shares = []
    for i in range(len(features)):
        neighbours = []
        for space in (features, embedding):
            distances = ((space - space[i]) ** 2).sum(axis=1)
            distances[i] = np.inf
            neighbours.append(set(np.argsort(distances)[:k]))
        shares.append(len(neighbours[0] & neighbours[1]) / k)
    return np.mean(shares)


def test_recall_in_the_same_space_is_one():
    features, _ = blobs()
    assert neighbour_recall(features, features, seed=0) == 1
    # Distances to others keep their order.
    assert neighbour_recall(features, -3 * features + 1, seed=0) == 1


@pytest.mark.parametrize("n", [12, 60, 150])
def test_recall_equals_brute_force(n):
    features, _ = blobs(n)
    for embedding in (features[:, :2], np.random.default_rng(1).normal(size=(n, 2))):
        expected = recall_by_hand(features, embedding)
        assert neighbour_recall(features, embedding, seed=0) == pytest.approx(expected)
        assert 0 < expected < 1


def test_recall_of_fewer_than_eleven_points_takes_all_neighbours():
    features, _ = blobs(6)
    assert neighbour_recall(features, features[:, :1], seed=0) == 1


def test_a_point_is_not_its_own_neighbour_even_among_duplicates():
    features = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 30, axis=0)
    embedding = np.random.default_rng(1).normal(size=(120, 2))
    assert neighbour_recall(features, embedding, seed=0) < 0.5


def test_principal_components_equal_the_singular_value_decomposition():
    features, _ = blobs(40)
    reduced = reduce(features, 4, seed=0)
    u, s, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(reduced), np.abs(u[:, :4] * s[:4]), atol=1e-8)
    assert reduce(features, 12, seed=0) is features


@pytest.fixture
def store(make_store):
    features, labels = blobs()
    return make_store(features.astype(np.float32), labels)


def run(store, output, method="opentsne", n_samples=None, perplexity=10.0, seed=3, **options):
    if method == "opentsne":
        options = {**OPTIONS, **options}
    stores = store if isinstance(store, dict) else {"train": store}
    embed(stores, method, n_samples, perplexity, seed, 1, output, **options)
    with np.load(output) as file:
        return {name: file[name] for name in file.files}


def test_the_file_holds_coordinates_labels_and_what_they_are_worth(store, tmp_path):
    features, labels = blobs()
    content = run(store, tmp_path / "a.npz")
    named = {"coordinates", "labels", "splits", "split", "n_total"}
    assert set(content) == named | {"perplexity", "recall", "made_with"}
    assert content["coordinates"].shape == (90, 2)
    assert content["coordinates"].dtype == np.float32
    assert np.isfinite(content["coordinates"]).all()
    np.testing.assert_array_equal(content["labels"], labels)
    assert content["splits"].tolist() == ["train"] and not content["split"].any()
    assert content["n_total"].tolist() == [90]
    assert content["perplexity"] == 10
    expected = recall_by_hand(features.astype(np.float32), content["coordinates"].astype(float))
    assert content["recall"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("method", ["opentsne", "sklearn"])
def test_separate_classes_stay_separate(store, tmp_path, method):
    content = run(store, tmp_path / "a.npz", method)
    points, labels = content["coordinates"], content["labels"]
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95
    assert content["recall"] > 0.4


@pytest.mark.parametrize("method", ["opentsne", "sklearn"])
def test_the_same_seed_gives_the_same_coordinates(store, tmp_path, method):
    first = run(store, tmp_path / "a.npz", method, n_samples=60)
    again = run(store, tmp_path / "b.npz", method, n_samples=60)
    np.testing.assert_array_equal(first["coordinates"], again["coordinates"])
    np.testing.assert_array_equal(first["labels"], again["labels"])


def test_scikit_learn_s_method_is_report_b_s_call(store, tmp_path):
    features = blobs()[0].astype(np.float32)
    direct = TSNE(perplexity=10, init="pca", learning_rate="auto", random_state=3)
    expected = direct.fit_transform(features)
    content = run(store, tmp_path / "a.npz", "sklearn")
    np.testing.assert_allclose(content["coordinates"], expected, rtol=1e-5, atol=1e-5)


def test_opentsne_s_method_is_its_call_on_principal_components(store, tmp_path):
    features = blobs()[0].astype(np.float32)
    reduced = PCA(5, random_state=3).fit_transform(features)
    direct = openTSNE.TSNE(
        perplexity=10,
        initialization=openTSNE.initialization.pca(reduced, random_state=3),
        early_exaggeration=12,
        early_exaggeration_iter=50,
        n_iter=100,
        learning_rate="auto",
        final_momentum=0.9,
        random_state=3,
    )
    expected = np.asarray(direct.fit(reduced))
    content = run(store, tmp_path / "a.npz")
    np.testing.assert_allclose(content["coordinates"], expected, rtol=1e-4, atol=1e-4)


def test_a_sample_is_stratified_and_counts_the_whole(store, tmp_path):
    content = run(store, tmp_path / "a.npz", n_samples=60)
    assert np.bincount(content["labels"]).tolist() == [20, 20, 20]
    assert content["n_total"].tolist() == [90]
    assert len(run(store, tmp_path / "a.npz", n_samples=1000)["labels"]) == 90


def test_training_and_test_images_share_a_map_and_its_recall_is_of_all_of_them(
    make_store, tmp_path
):
    # The training images are clouds by class; the test images one cloud beside them, of all.
    train, labels = blobs()
    test = np.random.default_rng(1).normal(size=(40, 12)) + 12
    of_test = np.arange(40) % 3
    stores = {
        "train": make_store(train.astype(np.float32), labels, name="train.h5"),
        "test": make_store(test.astype(np.float32), of_test, name="test.h5"),
    }
    content = run(stores, tmp_path / "a.npz")
    assert content["splits"].tolist() == ["train", "test"]
    assert content["split"].tolist() == [0] * 90 + [1] * 40
    assert content["n_total"].tolist() == [90, 40]
    np.testing.assert_array_equal(content["labels"], np.concatenate([labels, of_test]))
    both = np.concatenate([train, test]).astype(np.float32)
    points = content["coordinates"].astype(float)
    assert content["recall"] == pytest.approx(recall_by_hand(both, points), abs=0.01)
    # What is in no cloud of the training images is put into none.
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    assert (nearest[90:] >= 90).mean() > 0.9 and (nearest[:90] < 90).mean() > 0.9

    sampled = run(stores, tmp_path / "b.npz", n_samples=30)
    assert sampled["split"].tolist() == [0] * 30 + [1] * 30
    assert sampled["n_total"].tolist() == [90, 40]
    assert np.bincount(sampled["labels"]).tolist() == [20, 20, 20]


@pytest.mark.parametrize("method", ["opentsne", "sklearn"])
def test_the_perplexity_is_at_most_a_third_of_the_other_points(store, tmp_path, method):
    content = run(store, tmp_path / "a.npz", method, n_samples=31, perplexity=30.0)
    assert content["perplexity"] == 10


def test_features_that_failed_have_no_points_but_a_reason(tmp_path, make_store):
    features, labels = blobs(20)
    store = make_store(features.astype(np.float32), labels)
    embed({"train": store}, "sklearn", None, 5.0, 0, 1, tmp_path / "good.npz")
    write_failed_embedding(tmp_path / "bad.npz", "the loss of epoch 3 is not finite")
    with np.load(tmp_path / "bad.npz") as bad, np.load(tmp_path / "good.npz") as good:
        assert str(bad["failed"]) == "the loss of epoch 3 is not finite"
        assert bad["coordinates"].shape == (0, 2) and bad["labels"].shape == (0,)
        assert set(bad) - set(good) == {"failed"}
        for name in good:
            assert bad[name].dtype.kind == good[name].dtype.kind
