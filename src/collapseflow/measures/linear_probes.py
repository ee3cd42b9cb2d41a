"""Logistic regression and linear SVM as scikit-learn has them, solved by a preconditioned L-BFGS,
and a linear probe that chooses its penalty and how features are scaled.

All minimise a mean loss and lambda / 2 |W|^2, lambda = 1 / (C n), over weights W (d + 1, C), the
last row being the intercepts, and end where scikit-learn's own solvers end. Features of networks
and of scattering are so nearly collinear that L-BFGS by itself takes many hundred passes over them.
Here it works on V = L^T W, where L L^T is the block of the Hessian that belongs to a class; blocks
are computed at the start and renewed as the weights move (Nocedal and Wright, "Numerical
Optimization", 2006, chapters 5.1 and 7.2).
"""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, qr, solve_triangular
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted, validate_data

from collapseflow.images.datasets import held_out_rows
from collapseflow.running.errors import UserError

logger = logging.getLogger(__name__)

#: Rows of features that are multiplied at a time.
PIECE_ROWS = 2000
#: Iterations with the same blocks of the Hessian.
RENEWED_AFTER = 30
#: A block is estimated from so many rows for each of its columns: more make it hardly better.
ROWS_PER_COLUMN = 2
#: Above this number of features a block takes longer than it saves.
MOST_FEATURES = 8192
#: With more classes than fit into this, all share the mean of their blocks.
BLOCKS_BYTES = 2 * 2**30
#: The penalties lambda of which a probe chooses one, strong to weak. They are those of an image:
#: scikit-learn's C is 1 / (lambda n).
PENALTIES = tuple(float(f"{penalty:.3g}") for penalty in np.logspace(1, -6, 12))
#: How features are scaled: all by one factor, or each to a standard deviation of one. One factor
#: keeps what hardly varies small, as the thousands of faint coefficients of scattering; standard
#: deviations let what varies least speak as loud as the rest.
ONE_SCALE, STANDARDISED = "one scale", "standardised"
#: The share of the training images that it chooses with.
VALIDATION_SHARE = 0.2
#: It tries weaker ones until so many in a row are no better: they overfit more, and take longest.
WORSE_IN_A_ROW = 2
#: Largest component of the gradient at the end, and iterations, of a fit that is compared, and of
#: the last one.
COMPARED = 1e-4, RENEWED_AFTER
FINAL = 1e-4, 1000


class Preconditioned(ABC):
    """What the two classifiers share; a parent class of scikit-learn's follows it in line.

    With two classes, or more than :data:`MOST_FEATURES` dimensions, scikit-learn's solver fits.

    Attributes
    ----------
    own_solver_ : whether this module's did
    """

    @classmethod
    def can_take(cls, parameters: dict) -> bool:
        """Whether this module solves the problem that scikit-learn's parameters state."""
        ours = {"C", "tol", "max_iter", "random_state", "n_jobs", "verbose", "dual"}
        given = cls(**parameters).get_params()
        rest = {key for key, value in cls().get_params().items() if given[key] != value} - ours
        return not rest and not given.get("dual", False)

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Preconditioned":
        """Fit to features (n, d) float32 or float64; where float32 cannot come as near to the
        optimum as ``tol`` asks, the last iterations are in float64.

        With more features than images the weights lie in the span of the images, of which an
        orthonormal basis takes the features' place: the same problem in n dimensions.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], order="C")
        if X.shape[1] <= len(X):
            self._minimise(X, y)
            return self
        basis, coordinates = qr(X.T, mode="economic", check_finite=False)
        self._minimise(np.ascontiguousarray(coordinates.T), y)
        self.coef_ = np.ascontiguousarray(self.coef_ @ basis.T, X.dtype)
        self.n_features_in_ = X.shape[1]
        return self

    def _minimise(self, X: np.ndarray, y: np.ndarray) -> None:
        self.own_solver_ = len(np.unique(y)) > 2 and X.shape[1] <= MOST_FEATURES
        if not self.own_solver_:
            super().fit(X, y)
            return
        self.classes_, numbers = np.unique(y, return_inverse=True)
        problem = Problem(X, numbers, 1 / (self.C * len(X)), self)
        weights, self.n_iter_ = problem.solve(self.max_iter, self.random_state)
        self.coef_ = np.ascontiguousarray(weights[:-1].T, X.dtype)
        self.intercept_ = weights[-1].astype(X.dtype)

    @staticmethod
    @abstractmethod
    def losses(outputs: np.ndarray, labels: np.ndarray) -> float:
        """Sum of the losses of outputs (n, C), which become their derivatives, in place."""

    @staticmethod
    @abstractmethod
    def curvatures(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Second derivatives of the losses, (n, C), by an output each."""

    @abstractmethod
    def threshold(self, gradient: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What :meth:`distance` must come down to, from the gradient (d + 1, C) at zero."""

    @staticmethod
    @abstractmethod
    def distance(gradient: np.ndarray) -> np.ndarray:
        """The size of a gradient (d + 1, C)."""

    @staticmethod
    @abstractmethod
    def penalised(weights: np.ndarray) -> np.ndarray:
        """The weights (d + 1, C) without those that are free."""


class PreconditionedLogisticRegression(Preconditioned, LogisticRegression):
    """Softmax cross-entropy; ends when no component of the gradient is larger than ``tol``."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "PreconditionedLogisticRegression":
        """As :meth:`Preconditioned.fit`."""
        super().fit(X, y)
        if self.own_solver_:
            # Only their differences matter to the loss; scikit-learn's add up to zero.
            self.intercept_ -= self.intercept_.mean()
        return self

    @staticmethod
    def losses(outputs: np.ndarray, labels: np.ndarray) -> float:
        """As :meth:`Preconditioned.losses`."""
        rows = np.arange(len(labels))
        outputs -= outputs.max(axis=1, keepdims=True)
        of_label = outputs[rows, labels]
        np.exp(outputs, out=outputs)
        totals = outputs.sum(axis=1)
        outputs /= totals[:, None]
        outputs[rows, labels] -= 1
        return float(np.sum(np.log(totals) - of_label, dtype=np.float64))

    @staticmethod
    def curvatures(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """p (1 - p)."""
        p = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return p * (1 - p)

    def threshold(self, gradient: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """``tol``, as scikit-learn has it."""
        return np.full(gradient.shape[1], self.tol)

    @staticmethod
    def distance(gradient: np.ndarray) -> np.ndarray:
        """Largest component of each class."""
        return np.abs(gradient).max(axis=0)

    @staticmethod
    def penalised(weights: np.ndarray) -> np.ndarray:
        """All but the intercepts."""
        return np.concatenate([weights[:-1], np.zeros_like(weights[-1:])])


class PreconditionedLinearSVC(Preconditioned, LinearSVC):
    """Squared hinge loss of each class against the rest; ends as liblinear does, when the norm of
    each class's gradient is ``tol`` times the share of the rarer side of that at zero."""

    @staticmethod
    def losses(outputs: np.ndarray, labels: np.ndarray) -> float:
        """As :meth:`Preconditioned.losses`."""
        signs = _signs(outputs, labels)
        outputs *= signs
        np.subtract(1, outputs, out=outputs)
        np.maximum(outputs, 0, out=outputs)
        total = float(np.einsum("ij,ij->", outputs, outputs, dtype=np.float64))
        outputs *= -2 * signs
        return total

    @staticmethod
    def curvatures(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """2 inside the margin, 0 outside."""
        return 2 * (_signs(outputs, labels) * outputs < 1).astype(outputs.dtype)

    def threshold(self, gradient: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """``tol`` times the share of the rarer side times the norm at zero."""
        counts = np.bincount(labels)
        shares = np.minimum(counts, len(labels) - counts) / len(labels)
        return self.tol * shares * self.distance(gradient)

    @staticmethod
    def distance(gradient: np.ndarray) -> np.ndarray:
        """Euclidean norm of each class."""
        return np.linalg.norm(gradient, axis=0)

    @staticmethod
    def penalised(weights: np.ndarray) -> np.ndarray:
        """All: to liblinear the intercept is the weight of a feature that is 1."""
        return weights


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Softmax regression on centred and scaled features, with the scaling and the penalty that suit
    them.

    Features are less their mean, in float64, and divided by their own standard deviation or all by
    the root mean square of these (:data:`STANDARDISED`, :data:`ONE_SCALE`), of the training set;
    the scale of all features does not matter. Those that are constant but for the rounding of
    float32 are left out. Of both scalings and :data:`PENALTIES` those are chosen whose fit to four
    fifths of the training images is most often right about the other fifth, drawn by class, or by
    class and group, with ``random_state``; of equally good ones those with the lowest cross-entropy
    there, and standard deviations before one scale. Penalties are tried from strong to weak, each
    fit starting where the one before ended, until :data:`WORSE_IN_A_ROW` are no better; these fits
    are to :data:`COMPARED`, that of all training images with the winner to :data:`FINAL`.

    Attributes
    ----------
    classes_ : (C,)
    chosen_
        ``scaling`` and ``winner``, the penalty lambda of an image; the ``n_validation`` images they
        are chosen with; and in ``tried``, by scaling, the ``grid`` of penalties, each with its
        share of right ``validation_accuracies``.
    n_iter_ : of the last fit
    """

    _parameter_constraints = {"random_state": ["random_state"]}

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> "LinearProbe":
        """Fit to features (n, d) float32 or float64, of images in ``groups`` (n,) if there are any:
        then the other fifth has whole groups.

        Raises
        ------
        ValueError
            With fewer than two classes, in all images or in those that the penalty is chosen with,
            or if all images are of one group.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], order="C")
        self.classes_, numbers = np.unique(y, return_inverse=True)
        n = len(X)
        n_held_out, seed = round(VALIDATION_SHARE * n), self.random_state or 0
        try:
            held_out = held_out_rows(numbers, n_held_out, seed, groups)
        except UserError as error:
            raise ValueError(str(error)) from None
        order = np.concatenate([np.setdiff1d(np.arange(n), held_out), held_out])
        n_fitted = n - len(held_out)
        numbers = numbers[order]
        scales = self._measure(X)
        found = {}
        for scaling, scale in scales.items():
            self.scale_ = scale
            found[scaling] = self._choose(self._in_span(X, order)[0], numbers, n_fitted)
        # The first of equals.
        scaling = max(found, key=lambda one: found[one].score)
        penalty, start = found[scaling].penalty, found[scaling].weights
        if penalty in (PENALTIES[0], PENALTIES[-1]):
            logger.warning("the best penalty, %g, is at the end of the grid", penalty)
        self.chosen_ = {
            "scaling": scaling,
            "winner": penalty,
            "n_validation": len(held_out),
            "tried": {one: choice.tried for one, choice in found.items()},
        }
        self.scale_ = scales[scaling]
        features, basis = self._in_span(X, order)
        tol, max_iter = FINAL
        model = PreconditionedLogisticRegression(tol=tol)
        problem = Problem(features, numbers, penalty, model)
        weights, self.n_iter_ = problem.solve(max_iter, self.random_state, start)
        self.coef_ = weights[:-1].T if basis is None else weights[:-1].T @ basis.T
        self.intercept_ = weights[-1] - weights[-1].mean()
        return self

    def _choose(self, features: np.ndarray, numbers: np.ndarray, n_fitted: int) -> "_Choice":
        """The penalty that is best on all but the first rows, which are fitted."""
        present, fitted = np.unique(numbers[:n_fitted], return_inverse=True)
        if len(present) < 2 or n_fitted == len(features):
            raise ValueError("images of one class, or too few to choose a penalty with")
        right = numbers[n_fitted:]
        known = np.isin(right, present)
        tol, max_iter = COMPARED
        model = PreconditionedLogisticRegression(tol=tol)
        found, best, weights, worse = [], (-1.0, 0.0), None, 0
        for penalty in PENALTIES:
            problem = Problem(features[:n_fitted], fitted, penalty, model, shared=True)
            with warnings.catch_warnings():
                # What is not at its optimum is judged as it is.
                warnings.simplefilter("ignore", ConvergenceWarning)
                weights, _ = problem.solve(max_iter, self.random_state, weights)
            outputs = np.full((len(right), len(self.classes_)), -np.inf)
            outputs[:, present] = features[n_fitted:] @ weights[:-1] + weights[-1]
            accuracy = float(np.mean(outputs.argmax(axis=1) == right))
            found.append(accuracy)
            loss = model.losses(outputs[known], right[known])
            worse += 1
            if (accuracy, -loss) > best:
                best, winner, worse = (accuracy, -loss), penalty, 0
                start = np.zeros((len(weights), len(self.classes_)))
                start[:, present] = weights
            if worse == WORSE_IN_A_ROW:
                break
        tried = {"grid": list(PENALTIES[: len(found)]), "validation_accuracies": found}
        return _Choice(best, winner, start, tried)

    def _measure(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """The mean of each feature, and by scaling what each is divided by, float64 (d,)."""
        # From the first row on, so that what is constant deviates by exactly zero.
        origin, n = X[0].astype(np.float64), len(X)
        sums = np.zeros((2, len(origin)))
        for row in range(0, n, PIECE_ROWS):
            piece = X[row : row + PIECE_ROWS] - origin
            sums += piece.sum(axis=0), np.vecdot(piece, piece, axis=0)
        mean, square = sums / n
        self.mean_ = origin + mean
        variance = np.maximum(square - mean**2, 0)
        deviation = np.sqrt(variance)
        varies = deviation > np.finfo(np.float32).eps * np.abs(self.mean_)
        one = np.sqrt(variance[varies].mean()) if varies.any() else np.inf
        return {
            STANDARDISED: np.where(varies, deviation, np.inf),
            ONE_SCALE: np.where(varies, one, np.inf),
        }

    def _in_span(self, X: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows of scaled features (n, d), and None; with more features than rows, coordinates
        (n, n) in an orthonormal basis (d, n) of their span, and this: the same problem in n
        dimensions, as in :meth:`Preconditioned.fit`."""
        features = self._scaled(X, rows)
        if X.shape[1] <= len(X):
            return features, None
        basis, coordinates = qr(features.T, mode="economic", check_finite=False)
        return np.ascontiguousarray(coordinates.T), basis

    def _scaled(self, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows of features, in the precision in which they are."""
        answer = np.empty((len(rows), X.shape[1]), X.dtype)
        for row in range(0, len(rows), PIECE_ROWS):
            part = slice(row, row + PIECE_ROWS)
            answer[part] = (X[rows[part]] - self.mean_) / self.scale_
        return answer

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logarithms of the classes' probabilities up to a constant of each image, float64
        (n, C)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        outputs = np.empty((len(X), len(self.classes_)))
        for row in range(0, len(X), PIECE_ROWS):
            rows = np.arange(row, min(row + PIECE_ROWS, len(X)))
            outputs[rows] = self._scaled(X, rows) @ self.coef_.T + self.intercept_
        return outputs

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class (n,)."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]


class _Choice(NamedTuple):
    """What is best with one scaling: its accuracy and less its loss, the penalty, the weights
    (d + 1, C) to start from, and what :attr:`LinearProbe.chosen_` says of those that were tried."""

    score: tuple[float, float]
    penalty: float
    weights: np.ndarray
    tried: dict[str, list[float]]


def _signs(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 at each image's class, -1 elsewhere: as outputs (n, C)."""
    signs = np.full_like(outputs, -1)
    signs[np.arange(len(labels)), labels] = 1
    return signs


class Problem:
    """The minimisation for features (n, d), labels 0 to C - 1 (n,) and a penalty lambda.

    Parameters
    ----------
    shared
        All classes share the mean of their blocks: sooner had, and good for few iterations.
    """

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        penalty: float,
        model: Preconditioned,
        shared: bool = False,
    ):
        self.features, self.labels, self.penalty, self.model = features, labels, penalty, model
        self.shape = features.shape[1] + 1, int(labels.max()) + 1
        self.shared = shared

    def outputs(self, weights: np.ndarray, rows: slice) -> np.ndarray:
        """The outputs of some images, (n, C)."""
        weights = weights.astype(self.features.dtype)
        return self.features[rows] @ weights[:-1] + weights[-1]

    def pieces(self) -> list[slice]:
        """All rows, some at a time."""
        n = len(self.labels)
        return [slice(row, min(row + PIECE_ROWS, n)) for row in range(0, n, PIECE_ROWS)]

    def objective(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient (d + 1, C) at weights float64 (d + 1, C)."""
        total, gradient = 0.0, np.zeros(self.shape[::-1])
        for rows in self.pieces():
            outputs = self.outputs(weights, rows)
            total += self.model.losses(outputs, self.labels[rows])
            gradient[:, :-1] += outputs.T @ self.features[rows]
            gradient[:, -1] += outputs.sum(axis=0, dtype=np.float64)
        held = self.model.penalised(weights)
        value = total / len(self.labels) + self.penalty / 2 * np.vdot(held, held)
        return value, gradient.T / len(self.labels) + self.penalty * held

    def factors(self, weights: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """Lower Cholesky factors of the Hessian's blocks: one of each class, or one for all; none
        above :data:`MOST_FEATURES`, where the minimisation is plain L-BFGS."""
        if self.shape[0] - 1 > MOST_FEATURES:
            return []
        curvatures = np.concatenate(
            [
                self.model.curvatures(self.outputs(weights, rows), self.labels[rows])
                for rows in self.pieces()
            ]
        )
        d, n_classes = self.shape
        # Without weights classes differ in nothing.
        if self.shared or not weights.any() or 8 * n_classes * d * d > BLOCKS_BYTES:
            curvatures = curvatures.mean(axis=1, keepdims=True)
        return [self.factor(column, random) for column in curvatures.T]

    def factor(self, curvatures: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The factor of X^T diag(curvatures) X / n and the penalty, X having a column of ones.

        Rows are drawn with probabilities in proportion to what they weigh: the estimate's mean is
        the block, and it need not be exact.
        """
        d, n = self.shape[0], len(curvatures)
        least = curvatures.sum(dtype=np.float64) / (ROWS_PER_COLUMN * d)
        rows = np.flatnonzero(random.random(n) * least < curvatures)
        roots = np.sqrt(np.maximum(curvatures[rows], least)).astype(self.features.dtype)
        scaled = self.features[rows]
        scaled *= roots[:, None]
        block = np.empty((d, d))
        block[:-1, :-1] = scaled.T @ scaled
        block[-1, :-1] = block[:-1, -1] = roots @ scaled
        block[-1, -1] = np.vdot(roots, roots)
        block /= n
        diagonal = np.diag_indices(d)
        # Not less than the product's rounding errors, or the block may not be definite.
        rounding = d * np.finfo(scaled.dtype).eps * block[diagonal]
        block[diagonal] += np.maximum(rounding, max(self.penalty, np.finfo(float).tiny))
        return cholesky(block, lower=True, overwrite_a=True, check_finite=False)

    def solve(
        self, max_iter: int, seed: int | None, start: np.ndarray | None = None
    ) -> tuple[np.ndarray, int]:
        """The weights float64 (d + 1, C), and the number of iterations from ``start``, or zero.

        When rounding errors hide how the value falls, features in float32 become float64.
        """
        random = np.random.default_rng(seed)
        weights = np.zeros(self.shape)
        value, gradient = self.objective(weights)
        threshold = self.model.threshold(gradient, self.labels)
        if start is not None:
            weights = start
            value, gradient = self.objective(weights)

        def done(gradient: np.ndarray) -> bool:
            return bool((self.model.distance(gradient) <= threshold).all())

        n_iter, finished = 0, done(gradient)
        while n_iter < max_iter and not finished:
            before, rounding = value, np.finfo(self.features.dtype).eps
            factors = self.factors(weights, random)
            most = min(RENEWED_AFTER, max_iter - n_iter)
            weights, value, taken, finished = self._descend(weights, factors, most, done)
            n_iter += taken
            if not finished and before - value <= rounding * before:
                if self.features.dtype == np.float64:
                    break
                self.features = self.features.astype(np.float64)
        if not finished:
            warnings.warn(f"not converged after {n_iter} iterations", ConvergenceWarning, 2)
        return weights, n_iter

    def _descend(
        self,
        weights: np.ndarray,
        factors: list[np.ndarray],
        most: int,
        done: Callable[[np.ndarray], bool],
    ) -> tuple[np.ndarray, float, int, bool]:
        """L-BFGS with these factors: weights, value, number of iterations, whether it is done."""
        gradient, finished = np.empty(self.shape), False

        def preconditioned(flat: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal gradient
            value, gradient = self.objective(_solve(factors, flat.reshape(self.shape), "T"))
            return value, _solve(factors, gradient, "N").ravel()

        def stop_if_done(intermediate_result: object) -> None:
            nonlocal finished
            finished = done(gradient)
            if finished:
                raise StopIteration

        start = _each(factors, weights, lambda factor, part: factor.T @ part)
        answer = minimize(
            preconditioned,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=stop_if_done,
            # The first step may bring thousands of images back inside the margin: it takes many
            # trials to find its length.
            options={"maxiter": most, "maxcor": most, "maxls": 50, "gtol": 0, "ftol": 0},
        )
        return _solve(factors, answer.x.reshape(self.shape), "T"), answer.fun, answer.nit, finished


def _solve(factors: list[np.ndarray], columns: np.ndarray, trans: str) -> np.ndarray:
    """L^-1 or (``T``) L^-T times the columns, each with its own factor."""
    return _each(
        factors,
        columns,
        lambda factor, part: solve_triangular(
            factor, part, lower=True, trans=trans, check_finite=False
        ),
    )


def _each(
    factors: list[np.ndarray],
    columns: np.ndarray,
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Apply a function to each column with its factor, or to all with the only one; without
    factors the columns stay."""
    if not factors:
        return columns
    if len(factors) == 1:
        return function(factors[0], columns)
    parts = [function(f, c) for f, c in zip(factors, columns.T, strict=True)]
    return np.stack(parts, axis=1)
