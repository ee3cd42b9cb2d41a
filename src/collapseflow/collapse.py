"""The four measures of neural collapse, streamed over a feature store in float64.

Papyan, Han and Donoho, "Prevalence of neural collapse during the terminal phase of deep learning
training", PNAS 117 (2020), doi:10.1073/pnas.2015509117; normalised as in report A: Sigma_W
divided by N, Sigma_B the unweighted mean over the C classes around the mean of all samples,
standard deviations with ddof = 0, cosines over the C(C-1)/2 pairs.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from collapseflow.errors import UserError
from collapseflow.stores import accuracy, iterate

Stream = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class ClassMeans:
    """Counts and means of the classes that are present.

    Attributes
    ----------
    classes : int64 array (C,), ascending
    counts : int64 array (C,)
    means : float64 array (C, d)
    """

    classes: np.ndarray
    counts: np.ndarray
    means: np.ndarray

    @property
    def global_mean(self) -> np.ndarray:
        """The mean of all samples, float64 (d,)."""
        return self.counts @ self.means / self.counts.sum()


def class_means(stream: Stream) -> ClassMeans:
    """One pass: the mean of each class.

    Parameters
    ----------
    stream
        Called for each pass; gives batches of features (n, d) and labels int (n,).
    """
    sums = np.empty((0, 0))
    counts = np.zeros(0, np.int64)
    for features, labels in stream():
        n_classes = max(len(counts), int(labels.max()) + 1)
        if n_classes > len(counts):
            grown = np.zeros((n_classes, features.shape[1]))
            grown[: len(sums), : sums.shape[1]] = sums
            sums = grown
            counts = np.pad(counts, (0, n_classes - len(counts)))
        members = np.zeros((len(labels), n_classes))
        members[np.arange(len(labels)), labels] = 1
        sums += members.T @ features.astype(np.float64)
        counts += np.bincount(labels, minlength=n_classes)
    present = np.flatnonzero(counts)
    return ClassMeans(present, counts[present], sums[present] / counts[present, None])


@dataclass(frozen=True)
class CollapseMeasures:
    """The measures of one set of features.

    Attributes
    ----------
    nc1
        tr(Sigma_W Sigma_B^+) / C, contraction of the within-class covariance (equation 1).
    equinorm
        Standard deviation over mean of the norms of the centred class means (equation 2).
    equiangularity
        Standard deviation of the cosines between centred class means (equation 3).
    maximal_angle
        Mean of |cosine + 1/(C-1)| (equation 4).
    rank
        Rank of Sigma_B that the pseudo-inverse kept.
    n_classes, n_samples, n_features
        C, N and d.
    """

    nc1: float
    equinorm: float
    equiangularity: float
    maximal_angle: float
    rank: int
    n_classes: int
    n_samples: int
    n_features: int

    def as_dict(self) -> dict:
        """Names and values."""
        return asdict(self)


def collapse_measures(stream: Stream, cutoff: float | None = None) -> CollapseMeasures:
    """Two passes over the features: class means, then within-class scatter.

    Sigma_B has rank at most C, so no d x d matrix is needed: with the thin singular value
    decomposition U diag(s) V^T of the C centred class means (d x C), Sigma_B has eigenvectors u_k
    and eigenvalues s_k^2 / C, and tr(Sigma_W Sigma_B^+) is the sum over the kept k of the mean of
    ((h - mu_c) . u_k)^2 divided by the eigenvalue.

    Parameters
    ----------
    stream
        As in :func:`class_means`.
    cutoff
        Eigenvalues of Sigma_B up to this value count as zero. None takes the usual relative
        cutoff of a pseudo-inverse, max(C, d) times the machine precision times the largest;
        report A used the absolute value 1e-5.

    Raises
    ------
    ValueError
        If fewer than two classes are present, or the class means coincide.
    """
    means = class_means(stream)
    n_classes, n_features = means.means.shape
    if n_classes < 2:
        raise ValueError("the measures of collapse need at least two classes")
    centred = means.means - means.global_mean
    norms = np.linalg.norm(centred, axis=1)
    # Means that are equal but for rounding have no direction.
    if norms.min() <= 1e-13 * np.linalg.norm(means.means, axis=1).max():
        raise ValueError("a class mean coincides with the mean of all samples")
    directions, singular, _ = np.linalg.svd(centred.T, full_matrices=False)
    eigenvalues = singular**2 / n_classes
    if cutoff is None:
        cutoff = max(n_classes, n_features) * np.finfo(np.float64).eps * eigenvalues[0]
    kept = eigenvalues > cutoff
    projections = directions[:, kept] / np.sqrt(eigenvalues[kept])
    row_of_class = np.zeros(means.classes[-1] + 1, np.int64)
    row_of_class[means.classes] = np.arange(n_classes)
    projected_means = means.means @ projections
    scatter = 0.0
    for features, labels in stream():
        projected = features.astype(np.float64) @ projections
        projected -= projected_means[row_of_class[labels]]
        scatter += float(np.einsum("nk,nk->", projected, projected))
    n_samples = int(means.counts.sum())
    unit = centred / norms[:, None]
    cosines = (unit @ unit.T)[np.triu_indices(n_classes, k=1)]
    return CollapseMeasures(
        nc1=scatter / n_samples / n_classes,
        equinorm=float(norms.std() / norms.mean()),
        equiangularity=float(cosines.std()),
        maximal_angle=float(np.abs(cosines + 1 / (n_classes - 1)).mean()),
        rank=int(kept.sum()),
        n_classes=n_classes,
        n_samples=n_samples,
        n_features=n_features,
    )


def measure_stores(stores: dict[str, str]) -> dict[str, dict]:
    """The measures of one epoch on each split, with the accuracy where the network has a head.

    Parameters
    ----------
    stores
        Feature stores by split.

    Raises
    ------
    UserError
        Naming the store whose features have no measures.
    """
    answer = {}
    for split, path in stores.items():
        try:
            measures = collapse_measures(partial(iterate, path)).as_dict()
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        share = accuracy(path)
        answer[split] = measures if share is None else {**measures, "accuracy": share}
    return answer
