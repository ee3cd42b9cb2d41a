"""The three probes that do not depend on the features' scale, against scikit-learn.

python benchmarks/probes.py
"""

from functools import partial
from pathlib import Path

import numpy as np

import data
from harness import CORES, Row, Work, compare

N_TRAIN, N_TEST = 20_000, 5_000


def prepare(folder: Path) -> None:
    """Raw pixels of Fashion-MNIST: stores of :data:`N_TRAIN` and :data:`N_TEST` x 784."""
    from collapseflow.features.stores import write_features

    data.write_dataset("fashion_mnist", folder / "fashion_mnist.h5", N_TRAIN, N_TEST)

    def pixels(images: np.ndarray):
        yield images.reshape(len(images), -1) / np.float32(255), None

    for split in ("train", "test"):
        write_features(
            folder / "fashion_mnist.h5", split, folder / f"{split}.h5", pixels, "", "", ""
        )


def ours(folder: Path, preset: str, name: str) -> Work:
    """A classifier of a preset, as the rule classify runs it."""
    from collapseflow.measures.probes import evaluate
    from collapseflow.study.schema import PRESETS, Classifier

    entry = Classifier(**PRESETS[preset][name]).model_dump(exclude={"label"})
    stores = (folder / "train.h5", folder / "test.h5")
    return lambda: {"accuracy": evaluate(*stores, **entry, seed=0, threads=CORES)["accuracy"]}


def scikit_learn(folder: Path, name: str) -> Work:
    """The same classifier of scikit-learn's parts, with the features in memory before the clock
    starts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from collapseflow.features.stores import read_rows
    from collapseflow.measures.linear_probes import FINAL, PENALTIES, VALIDATION_SHARE

    (x, y), (test, right) = read_rows(folder / "train.h5"), read_rows(folder / "test.h5")
    if name == "linear":
        tol, max_iter = FINAL
        strengths = np.array([1 / (penalty * len(x)) for penalty in PENALTIES])
        # All features divided by one scale s: without it C is smaller by s^2.
        variances = x.var(axis=0, dtype=np.float64)
        square = variances[variances > 0].mean()
        model = GridSearchCV(
            make_pipeline(StandardScaler(), LogisticRegression(tol=tol, max_iter=max_iter)),
            [
                {"standardscaler__with_std": [each], "logisticregression__C": of_one}
                for each, of_one in ((True, strengths), (False, strengths / square))
            ],
            cv=StratifiedShuffleSplit(1, test_size=VALIDATION_SHARE, random_state=0),
        )
    elif name == "knn":
        model = KNeighborsClassifier(
            20, weights=lambda far: np.exp((1 - far) / 0.07), metric="cosine", n_jobs=CORES
        )
    else:
        model = NearestCentroid()
    return lambda: {"accuracy": float(np.mean(model.fit(x, y).predict(test) == right))}


def as_good(ours: dict, other: dict) -> tuple[bool, str]:
    """The accuracy within 0.3 points of the other's, or better."""
    words = f"{100 * ours['accuracy']:.2f} % ({100 * other['accuracy']:.2f} %)"
    return ours["accuracy"] >= other["accuracy"] - 0.003, words


if __name__ == "__main__":
    linear, neighbours, means = "linear probe", "nearest neighbours", "nearest class mean"
    one_fit = "one logistic regression"
    compare(
        "Probes",
        f"The probes of the preset `default` that were added to the reports' classifiers, on raw "
        f"pixels of Fashion-MNIST, {N_TRAIN:,} x 784, scored on {N_TEST:,} images, stores read "
        "included; against the same of scikit-learn's parts: a grid search over a StandardScaler, "
        "with and without standard deviations, and LogisticRegression, KNeighborsClassifier with "
        "weights, NearestCentroid. And the linear probe, which tries two scalings and up to 12 "
        "penalties with each, against one fit of our logistic regression as the reports have it.",
        {
            linear: partial(ours, preset="default", name="linear"),
            neighbours: partial(ours, preset="default", name="knn"),
            means: partial(ours, preset="default", name="ncm"),
            one_fit: partial(ours, preset="reports", name="lr"),
            f"scikit-learn, {linear}": partial(scikit_learn, name="linear"),
            f"scikit-learn, {neighbours}": partial(scikit_learn, name="knn"),
            f"scikit-learn, {means}": partial(scikit_learn, name="ncm"),
        },
        [
            Row(linear, f"scikit-learn, {linear}", 5, as_good),
            Row(linear, one_fit, 4, as_good, at_most=True),
            Row(neighbours, f"scikit-learn, {neighbours}", 1, as_good),
            Row(means, f"scikit-learn, {means}", 1, as_good),
        ],
        prepare,
        rounds=3,
    )
