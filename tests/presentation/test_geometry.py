"""What the page of one run's geometry draws."""

import numpy as np
import pytest
from made_up import heat_maps_of

from collapseflow.measures.statistics import (
    reduce_stream,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.presentation.figures import geometry
from collapseflow.study.schema import Style

STYLE = Style().model_dump()
LAYER = "flatten"


def features_of(n_classes, n_features, seed, spread=0.3):
    rng = np.random.default_rng(seed)
    means = 4 * np.eye(n_classes, n_features) + rng.normal(size=(n_classes, n_features))
    labels = np.repeat(np.arange(n_classes), 12)
    noise = rng.normal(size=(len(labels), n_features)) * np.linspace(1, 3, n_features) * spread
    return means[labels] + noise, labels


def reduce(features, labels, training=None, head=None):
    return reduce_stream(lambda _: iter([(features, labels, None)]), 1, training, head)


@pytest.fixture
def state(tmp_path):
    """A function that writes a state: its file, and the features of each split."""

    def write(name="state", n_classes=4, n_features=6, head=False):
        train, test = (features_of(n_classes, n_features, seed) for seed in (0, 1))
        weight = np.arange(1.0, n_classes + 1)[:, None] * np.eye(n_classes, n_features)
        of_train, means = reduce(*train, head=(weight, np.zeros(n_classes)) if head else None)
        of_test, _ = reduce(*test, training=means)
        path = tmp_path / f"{name}.npz"
        write_statistics(path, {LAYER: {"train": of_train, "test": of_test}}, [])
        return path, {"train": train, "test": test}

    return write


def plot(paths, epochs, n_classes=4):
    names = [f"class {c}" for c in range(n_classes)]
    geometry.plot_geometry(paths, epochs, LAYER, names, "Digits: ResNet18", STYLE, [])


def class_means(features, labels):
    return np.stack([features[labels == c].mean(axis=0) for c in np.unique(labels)])


def points(axis, hollow):
    lines = [line for line in axis.lines if line.get_marker() == "o"]
    chosen = [line for line in lines if (line.get_markerfacecolor() == "none") == hollow]
    return np.array([[line.get_xdata()[0], line.get_ydata()[0]] for line in chosen])


def test_class_means_stand_in_the_plane_of_the_principal_axes_of_the_training_set(state, figures):
    path, features = state()
    plot([path], [0])
    plane = figures[0].axes[0]
    centre = features["train"][0].mean(axis=0)
    centred = class_means(*features["train"]) - centre
    _, _, directions = np.linalg.svd(centred)
    drawn = points(plane, hollow=False)
    # An axis may point either way.
    expected = centred @ directions[:2].T
    signs = np.sign((drawn * expected).sum(axis=0))
    np.testing.assert_allclose(drawn, expected * signs, atol=1e-10)
    others = (class_means(*features["test"]) - centre) @ directions[:2].T * signs
    np.testing.assert_allclose(points(plane, hollow=True), others, atol=1e-10)
    # The ellipse: half axes are the standard deviations along the axes of the scatter.
    values, labels = features["train"]
    within = (values - class_means(values, labels)[labels]) @ directions[:2].T * signs
    lengths, turned = np.linalg.eigh(within.T @ within / len(within))
    for ellipse, mean in zip(plane.patches, drawn, strict=True):
        assert ellipse.center == pytest.approx(tuple(mean))
        assert (ellipse.width, ellipse.height) == pytest.approx(tuple(2 * np.sqrt(lengths)))
        along = np.radians(ellipse.angle)
        assert abs(turned[:, 0] @ [np.cos(along), np.sin(along)]) == pytest.approx(1)


def test_unequal_classes_stand_around_the_mean_of_their_means():
    """A plane and cosines around the mean of the class means, however many images each has."""
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(4), [50, 20, 5, 2])
    features = 4 * np.eye(4, 6)[labels] + 0.5 * rng.normal(size=(len(labels), 6))
    train, test = reduce(features, labels)[0], reduce(features[::2] + 1, labels[::2])[0]
    means, other = class_means(features, labels), class_means(features[::2] + 1, labels[::2])
    centre = means.mean(axis=0)
    directions = np.linalg.svd(means - centre)[2][:2]
    drawn, others, covariance = geometry.principal_plane(train, test)
    signs = np.sign((drawn * ((means - centre) @ directions.T)).sum(axis=0))
    np.testing.assert_allclose(drawn, (means - centre) @ directions.T * signs, atol=1e-10)
    np.testing.assert_allclose(others, (other - centre) @ directions.T * signs, atol=1e-10)
    within = (features - means[labels]) @ directions.T * signs
    np.testing.assert_allclose(covariance, within.T @ within / len(labels), atol=1e-10)
    found = geometry.cosines(train)
    assert found[0, 3] == pytest.approx(
        (means[0] - centre)
        @ (means[3] - centre)
        / np.linalg.norm(means[0] - centre)
        / np.linalg.norm(means[3] - centre)
    )


def test_a_class_mean_in_the_middle_has_no_cosines():
    features = np.array([[-2.0, 0], [-2, 1], [0, 0], [0, 1], [2, 0], [2, 1]])
    found = geometry.cosines(reduce(features, np.arange(6) // 2)[0])
    assert found[0, 2] == pytest.approx(-1)
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()


def test_two_classes_have_one_axis(state, figures):
    path, features = state(n_classes=2)
    plot([path], [0], n_classes=2)
    means = class_means(*features["train"])
    drawn = points(figures[0].axes[0], hollow=False)
    assert drawn[:, 1].tolist() == [0, 0]
    assert abs(drawn[0, 0] - drawn[1, 0]) == pytest.approx(np.linalg.norm(means[0] - means[1]))


def test_cosines_are_coloured_around_those_of_a_simplex(state, figures):
    path, features = state()
    plot([path], [0])
    scales = []
    for axis, split in zip(figures[0].axes[1:3], ("train", "test"), strict=True):
        values, labels = features[split]
        expected = np.full((4, 4), np.nan)
        centred = class_means(values, labels) - values.mean(axis=0)
        for i in range(4):
            for j in set(range(4)) - {i}:
                lengths = np.linalg.norm(centred[i]) * np.linalg.norm(centred[j])
                expected[i, j] = centred[i] @ centred[j] / lengths
        (image,) = heat_maps_of(axis)
        np.testing.assert_allclose(image.get_array().filled(np.nan), expected, atol=1e-12)
        scales.append((image.norm.vmin, image.norm.vmax))
    assert scales[0] == scales[1]
    assert np.mean(scales[0]) == pytest.approx(-1 / 3)
    assert "−0.33" in figures[0].axes[-1].get_xlabel()


def test_norms_are_over_their_mean_and_rows_of_the_weight_where_there_is_a_head(state, figures):
    with_head, features = state("with", head=True)
    without, _ = state("without")
    plot([with_head, without], [0, 3])
    first, second = (figures[0].axes[number] for number in (3, 7))
    norms = np.linalg.norm(
        class_means(*features["train"]) - features["train"][0].mean(axis=0), axis=1
    )
    expected = np.column_stack([np.arange(4), norms / norms.mean()])
    np.testing.assert_allclose(points(first, hollow=False), expected)
    rows = [line for line in first.lines if line.get_marker() == "x"]
    assert rows[0].get_ydata() == pytest.approx([0.4, 0.8, 1.2, 1.6])
    assert not [line for line in second.lines if line.get_marker() == "x"]
    assert first.get_ylim() == second.get_ylim()


def test_rows_say_their_epoch_and_values_and_a_failed_one_its_reason(state, figures, tmp_path):
    path, features = state()
    failed = tmp_path / "failed.npz"
    write_failed_statistics(failed, "the loss is not finite")
    plot([path, failed], [0, 4])
    axes = figures[0].axes
    values, labels = features["train"]
    means = class_means(values, labels)
    variances = [((values[labels == c] - means[c]) ** 2).sum(axis=1).mean() for c in range(4)]
    cdnv = np.mean(
        [
            (variances[i] + variances[j]) / 2 / ((means[i] - means[j]) ** 2).sum()
            for i in range(4)
            for j in range(i)
        ]
    )
    words = axes[0].texts[0].get_text()
    assert words.startswith("epoch 0, before training: NC1 ")
    assert f"CDNV {cdnv:.3g} (test" in words
    assert not any(axis.axison for axis in axes[4:8])
    assert axes[4].texts[0].get_text() == "epoch 4 failed: the loss is not finite"
    names = {text.get_text() for text in figures[0].legends[0].get_texts()}
    assert {"training mean", "test mean", "0  class 0", "3  class 3"} < names
    assert "rows of W" not in names


def test_many_classes_have_no_numbers_and_no_legend_of_their_own(state, figures):
    path, _ = state(n_classes=25, n_features=30)
    plot([path], [1], n_classes=25)
    assert not figures[0].axes[1].get_xticklabels()
    names = {text.get_text().strip() for text in figures[0].legends[0].get_texts()} - {""}
    assert names == {"training mean", "test mean", "1 s.d. within"}


def test_a_page_of_failures_alone_is_drawn(figures, tmp_path):
    failed = tmp_path / "failed.npz"
    write_failed_statistics(failed, "lost")
    plot([failed, failed], [0, 1])
    assert len(figures) == 1
