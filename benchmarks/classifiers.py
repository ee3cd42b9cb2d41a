"""LR, SVM, LDA and RF on scattering features against the reports' scikit-learn calls.

    python benchmarks/classifiers.py

One round by default: the alternative takes over twenty minutes on two cores.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import data
from harness import CORES, Row, Run, Work, compare, copy_bandwidth, device, matrix_rate

CLASSIFIERS = ("lr", "svm", "lda", "rf")
#: Seconds that saga may take.
CAP = 600


def prepare(folder: Path) -> None:
    """Scattering of Fashion-MNIST (J = 2, L = 7, order 2): stores of 60,000 and 10,000 x 3,136."""
    from collapseflow.features.scattering import scattering
    from collapseflow.features.stores import write_features
    from collapseflow.running.hardware import prepare_process

    prepare_process(CORES)
    data.write_dataset("fashion_mnist", folder / "fashion_mnist.h5")
    transform = partial(scattering, J=2, L=7, order=2, device=device(), what="scattering")
    for split in ("train", "test"):
        store = folder / f"{split}.h5"
        write_features(folder / "fashion_mnist.h5", split, store, transform, "", "", "")


def ours(folder: Path, name: str) -> Work:
    """The preset ``reports``, as the rule classify runs it."""
    from collapseflow.measures.probes import evaluate
    from collapseflow.study.schema import PRESETS, Classifier

    entry = Classifier(**PRESETS["reports"][name]).model_dump(exclude={"label"})
    stores = (folder / "train.h5", folder / "test.h5")
    return lambda: evaluate(*stores, **entry, seed=0, threads=CORES)


def report(folder: Path, name: str) -> Work:
    """The report's call, with the features in memory before the clock starts."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.svm import LinearSVC

    from collapseflow.features.stores import read_rows

    (x, y), test = read_rows(folder / "train.h5"), read_rows(folder / "test.h5")
    if name == "lr":
        return lambda: {"accuracy": _capped_saga(x, y).score(*test)}
    calls = {
        "svm": LinearSVC(),
        "lda": LinearDiscriminantAnalysis(),
        "rf": RandomForestClassifier(),
    }
    return lambda: {"accuracy": calls[name].fit(x, y).score(*test)}


def _capped_saga(x, y):
    """``LogisticRegression(solver='saga', max_iter=1000)`` as it stands after :data:`CAP` seconds:
    ten iterations at a time, each going on from the last."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore", ConvergenceWarning)
    classifier = LogisticRegression(solver="saga", max_iter=10, warm_start=True)
    started = time.perf_counter()
    for _ in range(100):
        classifier.fit(x, y)
        if classifier.n_iter_.max() < 10 or time.perf_counter() - started > CAP:
            break
    return classifier


def one_after_another(folder: Path, side) -> Work:
    """All four, each timed; the features stay in memory or in the page cache."""
    works = {name: side(folder, name) for name in CLASSIFIERS}

    def work() -> dict:
        answer = {}
        for name in CLASSIFIERS:
            started = time.perf_counter()
            accuracy = works[name]()["accuracy"]
            answer[name] = [accuracy, time.perf_counter() - started]
        return answer

    return work


def as_good(ours: dict, other: dict) -> tuple[bool, str]:
    """Each accuracy within 0.2 points of the other's, or better; seconds of each."""
    agree = all(ours[name][0] >= other[name][0] - 0.002 for name in CLASSIFIERS)
    words = [
        f"{name.upper()} {100 * ours[name][0]:.2f} % in {ours[name][1]:.0f} s "
        f"({100 * other[name][0]:.2f} % in {other[name][1]:.0f} s)"
        for name in CLASSIFIERS
    ]
    return agree, "; ".join(words)


def floor(folder: Path, runs: Mapping[str, list[Run]]) -> str:
    """What the fits need at least: passes over the features, and LDA's covariance."""
    n, d, n_classes = 60_000, 3_136, 10
    reading = 4 * n * d / copy_bandwidth()
    products = 4 * n * d * n_classes / matrix_rate("float32")
    covariance = n * d**2 / matrix_rate("float64")
    blocks = n_classes * d**3 / 3 / matrix_rate("float64")
    return (
        f"Floor: a pass of LR or SVM over the features takes {reading:.2f} s to read them or "
        f"{products:.2f} s for its two products with {n_classes} columns, and it takes about fifty "
        f"passes; factorising the {n_classes} blocks of the Hessian once {blocks:.1f} s; LDA's "
        f"covariance, half of its symmetric entries, {covariance:.0f} s at the rate of a float64 "
        "matrix product. The trees are scikit-learn-intelex's own."
    )


if __name__ == "__main__":
    compare(
        "Classifiers",
        "LR, SVM, LDA and RF on 60,000 x 3,136 scattering features of Fashion-MNIST, scored on "
        "10,000. Ours: the preset `reports`, stores read included. The alternative: the report's "
        f"calls, LR with saga and 1,000 iterations stopped after {CAP} seconds. One round.",
        {
            "preset reports": partial(one_after_another, side=ours),
            "the report's calls": partial(one_after_another, side=report),
        },
        [Row("preset reports", "the report's calls", 5, as_good)],
        prepare,
        floor,
        rounds=1,
    )
