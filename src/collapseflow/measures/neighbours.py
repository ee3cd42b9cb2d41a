"""Classifiers that fit nothing: the nearest training images, and the nearest class mean."""

from collections.abc import Iterator
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

#: Bytes of similarities, or of features in float64, that are in memory at a time.
PIECE_BYTES = 128 * 2**20


def pieces(n: int, row_bytes: int) -> Iterator[slice]:
    """All of ``n`` rows, as many at a time as fit into :data:`PIECE_BYTES`, at least one."""
    size = max(1, PIECE_BYTES // row_bytes)
    for row in range(0, n, size):
        yield slice(row, min(row + size, n))


class NearestNeighbors(ClassifierMixin, BaseEstimator):
    """The training images of the highest cosine similarity vote, each with a weight of
    exp(similarity / temperature): Caron et al., "Emerging properties in self-supervised vision
    transformers" (ICCV 2021), with their numbers: features are not centred.

    Where features lie far from the origin all similarities are nearly 1, and float32 does not tell
    them apart. With o the mean of the training images' directions x, the similarity to z is
    (x - o) . (z - o) + (x - o) . o and something that is the same for all x: only what differs is
    computed, from numbers that are as small as it is.

    Parameters
    ----------
    n_neighbors
        Images that vote; all of them, where there are fewer.
    temperature
        The smaller, the more the nearest counts.
    """

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_neighbors: int = 20, temperature: float = 0.07) -> None:
        self.n_neighbors = n_neighbors
        self.temperature = temperature

    def fit(self, X: np.ndarray, y: np.ndarray) -> "NearestNeighbors":
        """Keep the directions of features (n, d) around their mean, as float32."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        self.classes_, self._numbers = np.unique(y, return_inverse=True)
        sums = np.zeros(X.shape[1])
        for rows in pieces(len(X), 8 * X.shape[1]):
            sums += _directions(X[rows]).sum(axis=0)
        self._origin = sums / len(X)
        self._centred, self._offsets = self._around_origin(X)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class (n,) with most votes; of equals the first."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        centred, n_trained = self._around_origin(X)[0], len(self._centred)
        k, n_classes = min(self.n_neighbors, n_trained), len(self.classes_)
        answers = np.empty(len(X), np.int64)
        for rows in pieces(len(X), 4 * n_trained):
            similar = centred[rows] @ self._centred.T
            similar += self._offsets
            nearest = np.argpartition(similar, n_trained - k, axis=1)[:, n_trained - k :]
            similar = np.take_along_axis(similar, nearest, axis=1).astype(np.float64)
            # Relative to the highest, or a low temperature would overflow.
            weights = np.exp((similar - similar.max(axis=1, keepdims=True)) / self.temperature)
            n = len(weights)
            ballots = self._numbers[nearest] + n_classes * np.arange(n)[:, None]
            votes = np.bincount(ballots.ravel(), weights.ravel(), n * n_classes)
            answers[rows] = votes.reshape(n, n_classes).argmax(axis=1)
        return self.classes_[answers]

    def _around_origin(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the direction x of each row of X (n, d), both float32: x - o, (n, d), and
        (x - o) . o, (n,)."""
        centred, offsets = np.empty(X.shape, np.float32), np.empty(len(X), np.float32)
        for rows in pieces(len(X), 8 * X.shape[1]):
            piece = _directions(X[rows]) - self._origin
            centred[rows], offsets[rows] = piece, piece @ self._origin
        return centred, offsets


def _directions(X: np.ndarray) -> np.ndarray:
    """Rows divided by their length, float64 (n, d); rows of zeros stay."""
    X = X.astype(np.float64)
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1)


class NearestClassMean(ClassifierMixin, BaseEstimator):
    """argmin_c ||h - mu_c||, mu_c the mean of the training images of class c, in float64.

    Attributes
    ----------
    means_ : float64 (C, d)
    """

    _parameter_constraints: dict = {}

    def fit(self, X: np.ndarray, y: np.ndarray) -> "NearestClassMean":
        """The means of features (n, d)."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        self.classes_, numbers = np.unique(y, return_inverse=True)
        sums = np.zeros((len(self.classes_), X.shape[1]))
        for rows in pieces(len(X), 8 * X.shape[1]):
            members = np.zeros((len(self.classes_), rows.stop - rows.start))
            members[numbers[rows], np.arange(members.shape[1])] = 1
            sums += members @ X[rows].astype(np.float64)
        self.means_ = sums / np.bincount(numbers)[:, None]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class (n,) of the nearest mean."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        score = MeanScores(self.means_)
        row_bytes = 8 * max(X.shape[1], len(self.classes_))
        nearest = [score(X[rows]).argmax(axis=1) for rows in pieces(len(X), row_bytes)]
        return self.classes_[np.concatenate(nearest)]


class MeanScores:
    """Scores of features against means (M, d), the higher the nearer: (h - o) . (mu - o) -
    ||mu - o||^2 / 2, o the mean of the means, without which large common parts would cancel."""

    def __init__(self, means: np.ndarray) -> None:
        self.origin = means.mean(axis=0)
        self.centred = means - self.origin
        self.offsets = np.vecdot(self.centred, self.centred) / 2

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, M) for features (n, d)."""
        return (features - self.origin) @ self.centred.T - self.offsets
