"""What the page of one run's geometry draws."""

import matplotlib.colors
import numpy as np
import pytest
from made_up import heat_maps_of

from collapseflow.measures.statistics import (
    reduce_stream,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.presentation.figures import appearance, geometry
from collapseflow.presentation.material import Material
from collapseflow.study.schema import Style

STYLE = Style().drawn
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
        train, test, everything = (features_of(n_classes, n_features, seed) for seed in (0, 1, 2))
        weight = np.arange(1.0, n_classes + 1)[:, None] * np.eye(n_classes, n_features)
        of_train, means = reduce(*train, head=(weight, np.zeros(n_classes)) if head else None)
        of_test, _ = reduce(*test, training=means)
        path = tmp_path / f"{name}.npz"
        # What is compared with the test images is not all training images.
        splits = {"train": reduce(*everything)[0], "train_matched": of_train, "test": of_test}
        write_statistics(path, {LAYER: splits}, [])
        return path, {"train": train, "test": test}

    return write


@pytest.fixture
def plot(write_images):
    """A function that draws the page of some states."""

    def draw(paths, epochs, n_classes=4, names=None, heading="Digits: ResNet18"):
        images = write_images(names or [f"class {c}" for c in range(n_classes)])
        states = list(zip(epochs, paths, strict=True))
        told = {"states": states, "layer": LAYER, "run_heading": heading, "style": STYLE}
        geometry.plot_geometry(Material(images=images, **told), {})

    return draw


def test_the_page_says_where_a_class_has_few_images(plot, state, figures, monkeypatch):
    path, _ = state()
    plot([path], [0])
    # Each class has twelve.
    monkeypatch.setattr(geometry, "ENOUGH_IMAGES", 13)
    plot([path], [0])
    enough, few = (" ".join(f.legends[0].get_title().get_text().split()) for f in figures)
    assert "Here a class has only 12 test images and 12 matched training images" in few
    assert "a class has only" not in enough


def class_means(features, labels):
    return np.stack([features[labels == c].mean(axis=0) for c in np.unique(labels)])


def points(axis, hollow):
    lines = [line for line in axis.lines if line.get_marker() in appearance.MARKERS]
    chosen = [line for line in lines if (line.get_markerfacecolor() == "none") == hollow]
    return np.array([[line.get_xdata()[0], line.get_ydata()[0]] for line in chosen])


def test_class_means_stand_in_the_plane_of_the_principal_axes_of_the_training_set(
    plot, state, figures
):
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
    drawn, others, covariance, _ = geometry.principal_plane(train, test)
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


def test_two_classes_have_one_axis(plot, state, figures):
    path, features = state(n_classes=2)
    plot([path], [0], n_classes=2)
    means = class_means(*features["train"])
    drawn = points(figures[0].axes[0], hollow=False)
    assert drawn[:, 1].tolist() == [0, 0]
    assert abs(drawn[0, 0] - drawn[1, 0]) == pytest.approx(np.linalg.norm(means[0] - means[1]))


def test_cosines_are_coloured_around_those_of_a_simplex(plot, state, figures):
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


def test_norms_are_over_their_mean_and_rows_of_the_weight_where_there_is_a_head(
    plot, state, figures
):
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


def test_rows_say_their_epoch_and_values_and_a_failed_one_its_reason(
    plot, state, figures, tmp_path
):
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


def test_the_plane_says_its_share_of_the_variance_of_the_class_means(plot, state, figures):
    path, features = state(n_classes=5)
    plot([path], [0], n_classes=5)
    means = class_means(*features["train"])
    values = np.linalg.svd(means - means.mean(axis=0), compute_uv=False) ** 2
    share = 100 * values[:2].sum() / values.sum()
    assert share < 95
    assert figures[0].axes[0].get_title().strip() == f"principal plane ({share:.0f} %)"
    assert geometry.SHARE in figures[0].legends[0].get_title().get_text()


@pytest.mark.parametrize("n_classes", [2, 3, 4, 25])
def test_the_colour_bar_ends_where_cosines_can(plot, state, figures, n_classes):
    path, _ = state(n_classes=n_classes, n_features=30)
    plot([path], [0], n_classes)
    bar = next(axis for axis in figures[0].axes if axis.get_xlabel().startswith("cosine"))
    low, high = bar.get_xlim()
    assert -1 <= low < -1 / (n_classes - 1) + 1e-9 < high <= 1


def blocks_of(n_classes, n_groups):
    """Class means in groups of near ones, in mixed order."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.arange(n_classes) % n_groups)
    centres = 10 * np.eye(n_groups, 40)[group] + rng.normal(size=(n_classes, 40))
    labels = np.repeat(np.arange(n_classes), 12)
    return centres[labels] + 0.1 * rng.normal(size=(len(labels), 40)), labels, group


@pytest.mark.parametrize("n_classes", [21, 60, 100])
def test_many_classes_stand_beside_similar_ones_and_can_be_told_apart(
    plot, tmp_path, figures, monkeypatch, n_classes
):
    kept = []
    look = geometry._appearances
    monkeypatch.setattr(
        geometry, "_appearances", lambda order: kept.append((look(order), order)) or kept[0][0]
    )
    features, labels, group = blocks_of(n_classes, 7)
    of_all, _ = reduce(features, labels)
    path = tmp_path / "state.npz"
    splits = dict.fromkeys(("train", "train_matched", "test"), of_all)
    write_statistics(path, {LAYER: splits}, [])
    plot([path], [1], n_classes)
    legend = figures[0].legends[0]
    note = legend.get_title().get_text().replace("\n", " ")
    assert note.startswith(f"{geometry.TRAINING} {geometry.SHARE} ")
    note = note.removeprefix(f"{geometry.TRAINING} {geometry.SHARE} ")
    looks, order = kept[0]
    is_named = n_classes <= 60
    if is_named:
        numbers = ", ".join(map(str, order))
        words = f"Heat maps: similar classes stand beside each other; from the top: {numbers}."
        assert note == words
    else:
        assert "100 classes are not named" in note
    assert sorted(order) == list(range(n_classes))
    # The classes of a group stand together.
    assert (np.diff(group[order]) != 0).sum() == 6
    (image,) = heat_maps_of(figures[0].axes[1])
    shown = image.get_array().filled(1)
    means = class_means(features, labels)
    centred = means - means.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(
        shown[~np.eye(n_classes, dtype=bool)],
        (unit @ unit.T)[np.ix_(order, order)][~np.eye(n_classes, dtype=bool)],
        atol=1e-9,
    )
    ticks = [text.get_text() for text in figures[0].axes[1].get_yticklabels()]
    assert ticks == ([str(c) for c in order[:: -(-n_classes // 10)]] if is_named else [])
    names = {text.get_text() for text in legend.get_texts()}
    assert ({f"{c}  class {c}" for c in range(n_classes)} <= names) == is_named
    assert len(set(looks)) == n_classes
    if not is_named:
        # Colours run along the order.
        light = [matplotlib.colors.to_rgb(looks[c][0]) @ np.array([0.2, 0.7, 0.1]) for c in order]
        assert np.all(np.diff(light) > 0)


def test_titles_are_as_wide_as_the_figure_and_long_names_are_cut(plot, state, figures):
    path, _ = state()
    heading = "A data set with a long name, a network with a long name, " * 3
    names = [f"class {c} with a name that is longer than any legend has room for" for c in range(4)]
    plot([path], [0], names=names, heading=heading)
    figure = figures[0]
    figure.canvas.draw()
    wide = figure.get_suptitle()
    assert wide.count("\n") >= 1 and wide.replace("\n", " ").startswith(heading.strip())
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    shown = [
        text.get_text()
        for text in figure.legends[0].get_texts()
        if "with a name" in text.get_text()
    ]
    assert sorted(shown) == [f"{c}  class {c} with a name tha…" for c in range(4)]


def test_a_page_of_failures_alone_is_drawn(plot, figures, tmp_path):
    failed = tmp_path / "failed.npz"
    write_failed_statistics(failed, "lost")
    plot([failed, failed], [0, 1])
    assert len(figures) == 1
