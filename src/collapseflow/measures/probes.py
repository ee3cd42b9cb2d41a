"""Linear probes and other classifiers, of this package and of scikit-learn, on stored features."""

import importlib
import logging
import re
import time
import warnings
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import all_estimators

from collapseflow.features.stores import (
    read_attributes,
    read_groups,
    read_labels,
    read_made_with,
    read_rows,
)
from collapseflow.images.datasets import stratified_rows
from collapseflow.measures.confusion import balanced_accuracy, confusion_counts
from collapseflow.measures.intervals import effective_share, wilson_interval
from collapseflow.measures.linear_probes import (
    LinearProbe,
    PreconditionedLinearSVC,
    PreconditionedLogisticRegression,
)
from collapseflow.measures.neighbours import NearestClassMean, NearestNeighbors, pieces
from collapseflow.measures.paired import pack
from collapseflow.running.errors import UserError, did_you_mean, instead
from collapseflow.running.files import MADE_WITH, made_with
from collapseflow.running.resume import kept_result

logger = logging.getLogger(__name__)

#: Names of this package: for three probes that do not depend on the features' scale, and for
#: classifiers of scikit-learn that are fitted in less time. LR and SVM have a solver of this
#: package; LDA takes the solver that suits the features' numbers; forests are grown by
#: scikit-learn-intelex where it is installed (benchmarks/classifiers.py).
OWN = {
    "collapseflow.LinearProbe": LinearProbe,
    "collapseflow.NearestNeighbors": NearestNeighbors,
    "collapseflow.NearestClassMean": NearestClassMean,
    "collapseflow.LogisticRegression": LogisticRegression,
    "collapseflow.LinearSVC": LinearSVC,
    "collapseflow.LinearDiscriminantAnalysis": LinearDiscriminantAnalysis,
    "collapseflow.RandomForestClassifier": RandomForestClassifier,
}
PRECONDITIONED = {
    LogisticRegression: PreconditionedLogisticRegression,
    LinearSVC: PreconditionedLinearSVC,
}
#: A fit whose loss is still this share of that of the best constant: the penalty holds it.
HELD_SHARE = 0.9
#: What classifiers raise for features from which nothing can be learned: scikit-learn's LDA an
#: IndexError where all features are constant, its QDA a LinAlgError.
CANNOT_FIT = (ValueError, ArithmeticError, LookupError)


def build_classifier(
    estimator: str, parameters: dict[str, Any], scaling: str, seed: int, threads: int
) -> Pipeline:
    """A classifier from its import path, seeded and limited to ``threads`` where it can be.

    What is named is what runs: scikit-learn's own, or one of :data:`OWN`.

    Raises
    ------
    UserError
        If there is no such classifier, or it has no such parameter.
    """
    module, _, name = estimator.rpartition(".")
    try:
        cls = OWN.get(estimator) or getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise UserError(
            f"estimator: {estimator!r} cannot be imported{_resembling(estimator)}"
        ) from None
    try:
        usable = isinstance(cls, type) and issubclass(cls, BaseEstimator) and is_classifier(cls())
    except TypeError:
        raise UserError(
            f"estimator: {estimator!r} is made of other classifiers, which a study file cannot "
            "give; allowed: one that stands alone"
        ) from None
    if not usable:
        raise UserError(
            f"estimator: {estimator!r} is no classifier of scikit-learn{_resembling(estimator)}"
        )
    known = cls().get_params()
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise UserError(
            f"parameters: {name} has no {unknown[0]!r}; {instead(unknown[0], sorted(known))}"
        )
    defaults = {}
    if "random_state" in known:
        defaults["random_state"] = seed
    # Linear models deprecate n_jobs and thread through BLAS; ensembles and neighbours use it.
    if "n_jobs" in known and ".linear_model." not in f"{cls.__module__}.":
        defaults["n_jobs"] = threads
    parameters = {**defaults, **parameters}
    classifier = cls(**parameters)
    try:
        classifier._validate_params()
    except ValueError as error:
        raise UserError(f"parameters: {error}") from None
    if estimator in OWN:
        classifier = _own(estimator, parameters)
    steps = [StandardScaler()] if scaling == "standard" else []
    return make_pipeline(*steps, classifier)


def _resembling(estimator: str) -> str:
    """The classifier of scikit-learn that was probably meant, as the end of a message."""
    paths = [
        f"{re.sub(r'[.]_.*', '', cls.__module__)}.{name}"
        for name, cls in all_estimators(type_filter="classifier")
    ]
    hint = did_you_mean(estimator, [*paths, *OWN]).rstrip()
    return f"; {hint}" if hint else ""


def _own(estimator: str, parameters: dict[str, Any]) -> BaseEstimator:
    """The classifier behind a name of this package."""
    cls = OWN[estimator]
    if cls is LinearSVC:
        parameters = {"dual": False, **parameters}
    if cls in PRECONDITIONED:
        if not PRECONDITIONED[cls].can_take(parameters):
            raise UserError(
                f"parameters: {estimator} takes C, tol and max_iter; allowed for others: the "
                f"estimator sklearn.{cls.__module__.split('.')[1]}.{cls.__name__}"
            )
        return PRECONDITIONED[cls](**parameters)
    if cls is RandomForestClassifier:
        with suppress(ImportError):
            cls = importlib.import_module("sklearnex.ensemble").RandomForestClassifier
    return cls(**parameters)


def suit_solver(classifier: BaseEstimator, n: int, d: int) -> None:
    """Give an LDA the fast solver where (n, d) features allow it.

    It solves with the d x d covariance instead of decomposing the n x d features; that is the same
    unless the covariance is nearly singular, as it is with few samples.
    """
    if isinstance(classifier, LinearDiscriminantAnalysis) and n >= 2 * d:
        classifier.set_params(solver="lsqr")


def evaluate(
    train_store: str | Path,
    test_store: str | Path,
    estimator: str,
    parameters: dict[str, Any],
    scaling: str,
    n_train: int | None,
    seed: int,
    threads: int,
) -> dict[str, Any]:
    """Fit a classifier on training features and score it on test features.

    scikit-learn needs the training features in memory, in one piece.

    Returns
    -------
    ``accuracy`` with its 95 % interval, ``implementation`` (library and version), ``n_train``,
    ``n_test``, ``n_features``, ``fit_seconds``, ``predict_seconds``, ``iterations`` (None for a
    closed-form or tree method), ``converged`` (None where nothing iterates), ``correct`` (which
    test images are right: :func:`collapseflow.measures.paired.unpack`), ``mistaken_for`` (the
    classes that the others are taken for, in their order), ``confusion`` (numbers of
    test images by true and predicted class, C lists of C: all classes up to the largest label of
    both splits), ``flags``, ``chosen``
    (:class:`collapseflow.measures.linear_probes.LinearProbe`; None of others) and ``made_with``;
    where the test images have groups, over which intervals then are
    (:func:`collapseflow.measures.intervals.effective_share`), these ``groups`` (n,), and
    ``balanced_interval``;
    only ``failed``, one line, if the classifier cannot be fitted to these features.

    Flags are a list of ``guessing``, where the share of the most frequent class of the test images
    is not below the accuracy's interval, and ``penalty`` (:func:`held_by_penalty`).
    """
    pipeline = build_classifier(estimator, parameters, scaling, seed, threads)
    rows = None
    if n_train is not None:
        rows = stratified_rows(read_labels(train_store), n_train, seed)
    features, labels = read_rows(train_store, rows, threads)
    groups = read_groups(train_store)
    told = {}
    if groups is not None and isinstance(pipeline[-1], LinearProbe):
        # As scikit-learn's pipelines hand it to a step.
        told[f"{pipeline.steps[-1][0]}__groups"] = groups if rows is None else groups[rows]
    if estimator in OWN and "solver" not in parameters:
        suit_solver(pipeline[-1], *features.shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.perf_counter()
        try:
            pipeline.fit(features, labels, **told)
        except CANNOT_FIT as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            return {"failed": f"cannot be fitted: {line}"}
        fit_seconds = time.perf_counter() - started
    for message in {str(w.message) for w in caught}:
        logger.warning("%s: %s", estimator, message)
    n_fitted, n_classes = len(labels), int(labels.max()) + 1
    flags = ["penalty"] if held_by_penalty(pipeline, features, labels) else []
    del features
    features, labels = read_rows(test_store, threads=threads)
    started = time.perf_counter()
    predicted = pipeline.predict(features)
    predict_seconds = time.perf_counter() - started
    right = predicted == labels
    n_classes = max(n_classes, int(labels.max()) + 1)
    accuracy = float(np.mean(right))
    of_groups: dict[str, Any] = {}
    interval = wilson_interval(accuracy, len(labels))
    groups, counts = read_groups(test_store), confusion_counts(labels, predicted, n_classes)
    if groups is not None:
        interval = wilson_interval(accuracy, len(labels), effective_share(groups, right))
        _, *ends = balanced_accuracy(counts, effective_share(groups, right, labels))
        of_groups = {"groups": groups.tolist(), "balanced_interval": ends}
    if interval[0] <= np.unique(labels, return_counts=True)[1].max() / len(labels):
        flags.insert(0, "guessing")
    iterations = getattr(pipeline[-1], "n_iter_", None)
    iterates = iterations is not None
    return {
        "accuracy": accuracy,
        "accuracy_interval": interval,
        "implementation": _implementation(pipeline[-1]),
        "n_train": n_fitted,
        "n_test": len(labels),
        "n_features": features.shape[1],
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
        "iterations": int(np.max(iterations)) if iterates else None,
        "converged": (
            not any(issubclass(w.category, ConvergenceWarning) for w in caught)
            if iterates
            else None
        ),
        "correct": pack(right),
        "mistaken_for": predicted[~right].tolist(),
        "confusion": counts.tolist(),
        **of_groups,
        "flags": flags,
        "chosen": getattr(pipeline[-1], "chosen_", None),
        MADE_WITH: made_with(read_made_with(train_store), read_made_with(test_store)),
    }


def held_by_penalty(pipeline: Pipeline, features: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a penalty holds the weights of a linear classifier at nearly nothing: the mean loss
    of its fit, without the penalty, is still :data:`HELD_SHARE` of that of the best constant.

    Not whether the penalty is the larger term of the objective: that it is for every fit that
    separates the classes well. It is True, too, where the features tell nothing. Only softmax
    regression and the linear SVM (one against the rest) have such a penalty; False for all others.

    Parameters
    ----------
    features, labels
        Those that were fitted, (n, d) and (n,).
    """
    classifier = pipeline[-1]
    if isinstance(classifier, LogisticRegression | LinearProbe):
        losses = PreconditionedLogisticRegression.losses
    elif isinstance(classifier, LinearSVC) and classifier.multi_class == "ovr":
        losses = _hinges if classifier.loss == "hinge" else PreconditionedLinearSVC.losses
    else:
        return False
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    n, shares = len(labels), counts / len(labels)
    if losses is PreconditionedLogisticRegression.losses:
        constant = -np.sum(shares * np.log(shares))
    elif losses is _hinges:
        constant = np.sum(2 * np.minimum(shares, 1 - shares))
    else:
        constant = np.sum(4 * shares * (1 - shares))
    total = 0.0
    for rows in pieces(n, 8 * features.shape[1]):
        outputs = np.asarray(pipeline.decision_function(features[rows]), np.float64)
        if outputs.ndim == 1:
            # Of two classes scikit-learn gives the output of the second.
            softmax = losses is PreconditionedLogisticRegression.losses
            outputs = np.column_stack([np.zeros_like(outputs) if softmax else -outputs, outputs])
        total += losses(outputs, numbers[rows])
    return bool(total / n >= HELD_SHARE * constant)


def _hinges(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Sum of the hinge losses of outputs (n, C), of each class against the rest."""
    signs = np.where(np.arange(outputs.shape[1]) == labels[:, None], 1, -1)
    return float(np.maximum(1 - signs * outputs, 0).sum())


def _implementation(classifier: BaseEstimator) -> str:
    """The library that fitted a classifier, and its version.

    scikit-learn-intelex hands what it cannot do to scikit-learn.
    """
    ours = type(classifier).__module__.startswith("collapseflow.")
    if ours and getattr(classifier, "own_solver_", True):
        library = "collapseflow"
    elif hasattr(classifier, "_onedal_estimator"):
        library = "scikit-learn-intelex"
    else:
        library = "scikit-learn"
    return f"{library} {version(library)}"


def evaluate_all(
    train_store: str | Path,
    test_store: str | Path,
    classifiers: dict[str, dict[str, Any]],
    seed: int,
    threads: int,
    progress_folder: str | Path,
    code: str,
) -> dict[str, dict[str, Any]]:
    """Fit and score several classifiers, one after another, on the same features.

    Parameters
    ----------
    classifiers
        The last arguments of :func:`evaluate`, by the classifiers' names.
    progress_folder, code
        Where finished results are kept, and a digest of the code that makes them: a result is
        taken from there as long as features, classifier and code are the same.

    Returns
    -------
    The answers of :func:`evaluate` by the classifiers' names.
    """
    stores = [read_attributes(store)["digest"] for store in (train_store, test_store)]
    cells = {}
    for done, (name, classifier) in enumerate(classifiers.items(), start=1):
        depends_on = {"stores": stores, "classifier": classifier, "seed": seed, "code": code}
        cells[name] = kept_result(
            Path(progress_folder) / f"{name}.json",
            depends_on,
            partial(evaluate, train_store, test_store, **classifier, seed=seed, threads=threads),
        )
        cell = cells[name]
        found = cell.get("failed") or f"{100 * cell['accuracy']:.2f} % of the test images"
        logger.info(
            "classifier %d of %d, %s: %s",
            done,
            len(classifiers),
            name,
            found,
            extra={"progress": True},
        )
    return cells
