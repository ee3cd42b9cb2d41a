"""Linear probes and other classifiers of scikit-learn on stored features."""

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

from collapseflow.features.stores import read_attributes, read_labels, read_made_with, read_rows
from collapseflow.images.datasets import stratified_rows
from collapseflow.measures.intervals import wilson_interval
from collapseflow.measures.linear_probes import (
    PreconditionedLinearSVC,
    PreconditionedLogisticRegression,
)
from collapseflow.running.errors import UserError, did_you_mean, instead
from collapseflow.running.files import MADE_WITH, made_with
from collapseflow.running.resume import kept_result

logger = logging.getLogger(__name__)

#: Names of this package for classifiers of scikit-learn that are fitted in less time. LR and SVM
#: have a solver of this package; LDA takes the solver that suits the features' numbers; forests are
#: grown by scikit-learn-intelex where it is installed (benchmarks/classifiers.py).
OWN = {
    "collapseflow.LogisticRegression": LogisticRegression,
    "collapseflow.LinearSVC": LinearSVC,
    "collapseflow.LinearDiscriminantAnalysis": LinearDiscriminantAnalysis,
    "collapseflow.RandomForestClassifier": RandomForestClassifier,
}
PRECONDITIONED = {
    LogisticRegression: PreconditionedLogisticRegression,
    LinearSVC: PreconditionedLinearSVC,
}
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
        # Ensembles of given estimators cannot stand alone.
        usable = False
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
    closed-form or tree method), ``converged`` (None where nothing iterates) and ``made_with``;
    only ``failed``, one line, if the classifier cannot be fitted to these features.
    """
    pipeline = build_classifier(estimator, parameters, scaling, seed, threads)
    rows = None
    if n_train is not None:
        rows = stratified_rows(read_labels(train_store), n_train, seed)
    features, labels = read_rows(train_store, rows, threads)
    if estimator in OWN and "solver" not in parameters:
        suit_solver(pipeline[-1], *features.shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.perf_counter()
        try:
            pipeline.fit(features, labels)
        except CANNOT_FIT as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            return {"failed": f"cannot be fitted: {line}"}
        fit_seconds = time.perf_counter() - started
    for message in {str(w.message) for w in caught}:
        logger.warning("%s: %s", estimator, message)
    n_fitted = len(labels)
    del features
    features, labels = read_rows(test_store, threads=threads)
    started = time.perf_counter()
    accuracy = float(np.mean(pipeline.predict(features) == labels))
    predict_seconds = time.perf_counter() - started
    iterations = getattr(pipeline[-1], "n_iter_", None)
    iterates = iterations is not None
    return {
        "accuracy": accuracy,
        "accuracy_interval": wilson_interval(accuracy, len(labels)),
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
        MADE_WITH: made_with(read_made_with(train_store), read_made_with(test_store)),
    }


def _implementation(classifier: BaseEstimator) -> str:
    """The library that fitted a classifier, and its version.

    scikit-learn-intelex hands what it cannot do to scikit-learn.
    """
    if getattr(classifier, "own_solver_", False):
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
