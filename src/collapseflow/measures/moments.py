"""The second moments of each class, summed up in one pass: what features need not be kept for.

Of a class with n samples, mean mu and scatter S = sum of (h - mu)(h - mu)^T, and others of it with
m, nu and T, all have S + T + (n m / (n + m)) (nu - mu)(nu - mu)^T (Chan, Golub and LeVeque 1979):
nothing is subtracted from anything much larger, as E[h h^T] - mu mu^T would be.

Which class mean is nearest to a sample can be asked of samples alone, so that
:func:`~collapseflow.measures.collapse.nc4` and
:func:`~collapseflow.measures.collapse.accuracy_nearest_mean` cannot be had.
"""

from dataclasses import dataclass

import numpy as np

from collapseflow.measures.statistics import ClassMeans, Scatter


@dataclass(eq=False)
class _Class:
    """Of some samples h of one class: their number, mean float64 (d,), scatter float64 (d, d), sum
    of ||h||, and how many the network predicts, or None without predictions."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray
    norm: float
    predicted: int | None

    def merge(self, other: "_Class") -> None:
        """Add other samples."""
        n = self.count + other.count
        apart = other.mean - self.mean
        self.scatter += other.scatter
        self.scatter += np.outer(self.count * other.count / n * apart, apart)
        self.mean = self.mean + other.count / n * apart
        self.count = n
        self.norm += other.norm
        if self.predicted is not None:
            self.predicted += other.predicted


class ClassMoments:
    """Counts, means and scatters of the samples of each class, by its label."""

    def __init__(self) -> None:
        self.by_label: dict[int, _Class] = {}

    def add(self, features: np.ndarray, labels: np.ndarray, predictions: np.ndarray | None) -> None:
        """More samples: features (n, d), labels and, or None, predictions (n,)."""
        for label in np.unique(labels).tolist():
            mine = labels == label
            part = features[mine].astype(np.float64)
            norm = np.linalg.norm(part, axis=1).sum()
            predicted = None if predictions is None else int((predictions[mine] == label).sum())
            mean = part.mean(axis=0)
            part -= mean
            self._add_class(label, _Class(len(part), mean, part.T @ part, norm, predicted))

    def _add_class(self, label: int, found: _Class) -> None:
        if label in self.by_label:
            self.by_label[label].merge(found)
        else:
            self.by_label[label] = found

    def merge(self, other: "ClassMoments") -> None:
        """Add those of other samples, which are not to be used any more."""
        for label, found in other.by_label.items():
            self._add_class(label, found)

    def means(self) -> ClassMeans:
        """The mean of each class."""
        labels = sorted(self.by_label)
        found = [self.by_label[label] for label in labels]
        return ClassMeans(
            np.array(labels),
            np.array([one.count for one in found]),
            np.stack([one.mean for one in found]),
            np.array([one.norm for one in found]),
        )

    def scatter(self, own: ClassMeans) -> Scatter:
        """What a second pass would find around these means, which :meth:`means` gives, but for
        what single samples tell."""
        basis, coordinates = own.frame
        C, rank = coordinates.shape
        found = [self.by_label[label] for label in own.classes.tolist()]
        scatter, balanced = np.zeros((2, rank, rank))
        directional = np.zeros((C, C))
        for row, one in enumerate(found):
            along = one.scatter if basis is None else basis.T @ one.scatter @ basis
            scatter += along
            balanced += along / one.count
            directions = coordinates - coordinates[row]
            directional[row] = np.vecdot(directions @ along, directions)
        predicted = [one.predicted for one in found]
        return Scatter(
            scatter,
            balanced,
            squared=np.array([np.trace(one.scatter) for one in found]),
            fourth=None,
            directional=directional,
            nearest=None,
            predicted=None if None in predicted else np.array(predicted),
            agreeing=None,
        )
