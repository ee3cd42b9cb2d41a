"""The measures of neural collapse: functions of the statistics of one layer on one split.

Notation as in :class:`~collapseflow.measures.statistics.Statistics`: features h of class c, N
samples, C classes that are present, n_c samples of class c, class means mu_c, mu_G the mean of all
samples, mu_M the mean of the class means, m_c = mu_c - mu_M, Sigma_c the covariance of class c, v_c
its trace, d_ij = ||mu_i - mu_j||; W (K, d) is the weight of the network's last layer. Standard
deviations have ddof = 0. On the test set the means are the test images' own; only the nearest mean
is one of the training set.

Where classes are of one size, mu_M is mu_G. Where they are not, lengths and angles of class means
are taken around mu_M: around mu_G, which lies near the largest classes, even a simplex has none of
one length. NC1 is the paper's, Sigma_W = (1/N) sum n_c Sigma_c and
Sigma_B = (1/C) sum (mu_c - mu_G)(mu_c - mu_G)^T, which Dang et al. 2023 (arXiv:2301.00437) keep for
unequal classes, in their code; in :func:`nc1_balanced` each class has the same weight.

A new measure is a function here, an entry of the same name in
:mod:`collapseflow.measures.quantities` and a test: it is computed from statistics that are there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.distance import pdist, squareform

from collapseflow.measures.quantities import QUANTITIES
from collapseflow.measures.statistics import (
    MEASURED_SPLITS,
    ROUNDING,
    TRUE_SPLITS,
    Statistics,
    read_statistics,
)
from collapseflow.running.errors import UserError
from collapseflow.running.files import remedy

#: Report A's: eigenvalues of Sigma_B up to this value counted as zero.
REPORT_A_CUTOFF = 1e-5
#: Images a class from which on the few-shot bound holds.
FEWEST_SHOTS = 10


class CollapsedError(ValueError):
    """All class means coincide: no direction leads from one to another."""

    def __init__(self) -> None:
        super().__init__("all class means coincide")


# --- NC1: contraction within the classes ------------------------------------------------------


def has_variance(statistics: Statistics) -> bool:
    """Whether a class has more than one sample: else no variance within classes can be seen."""
    return bool(statistics.counts.max() > 1)


def between_class_eigenvalues(statistics: Statistics) -> np.ndarray:
    """Eigenvalues of Sigma_B, around mu_G, float64 (r,), largest first: the coordinates' columns
    are along its eigenvectors."""
    return np.square(statistics.coordinates).sum(axis=0) / statistics.n_classes


def relative_cutoff(statistics: Statistics, eigenvalues: np.ndarray) -> float:
    """The usual cutoff of a pseudo-inverse: max(C, d) times the machine precision times the
    largest eigenvalue."""
    size = max(statistics.n_classes, statistics.n_features)
    return size * np.finfo(np.float64).eps * eigenvalues.max(initial=0.0)


def _contraction(statistics: Statistics, cutoff: float) -> float | None:
    if not has_variance(statistics):
        return None
    eigenvalues = between_class_eigenvalues(statistics)
    kept = eigenvalues > cutoff
    within = np.diag(statistics.scatter)[kept] / statistics.n_samples
    return float((within / eigenvalues[kept]).sum() / statistics.n_classes)


def nc1(statistics: Statistics) -> float | None:
    """tr(Sigma_W Sigma_B^+) / C: Papyan, Han and Donoho 2020; report A, equation 1.

    Sigma_W is over all samples, so larger classes weigh more; Sigma_B is around mu_G.
    """
    eigenvalues = between_class_eigenvalues(statistics)
    return _contraction(statistics, relative_cutoff(statistics, eigenvalues))


def nc1_balanced(statistics: Statistics) -> float | None:
    """:func:`nc1` with Sigma_W = (1/C) sum Sigma_c and Sigma_B = (1/C) sum m_c m_c^T: a class has
    the same weight, however many samples it has.

    Sigma_B is that of the paper's notebook; on classes of equal size NC1.
    """
    if statistics.balanced is None:
        return None
    C = statistics.n_classes
    within = statistics.balanced / C
    value = within_over_between(statistics, within, statistics.directions / np.sqrt(C))
    return None if value is None else value / C


def nc1_report_a(statistics: Statistics) -> float | None:
    """NC1 as report A computed it: eigenvalues of Sigma_B up to 1e-5 count as zero, whatever the
    scale of the features is; 0 where none is left."""
    return _contraction(statistics, REPORT_A_CUTOFF)


def nc1_quotient(statistics: Statistics) -> float | None:
    """tr(Sigma_W) / tr(Sigma_B): Tirer, Huang and Niles-Weed 2023."""
    if not has_variance(statistics):
        return None
    within = statistics.squared.sum() / statistics.n_samples
    return float(within / between_class_eigenvalues(statistics).sum())


def within_over_between(
    statistics: Statistics, within: np.ndarray, rows: np.ndarray
) -> float | None:
    """tr(S_W S_B^+) of a covariance within the classes (r, r), in the basis of the class means, and
    S_B = rows^T rows, one between them, whose factor (C, r) is given in it."""
    if not has_variance(statistics):
        return None
    _, singular, axes = np.linalg.svd(rows, full_matrices=False)
    eigenvalues = singular**2
    kept = eigenvalues > relative_cutoff(statistics, eigenvalues)
    axes = axes[kept]
    return float((np.vecdot(axes @ within, axes) / eigenvalues[kept]).sum())


def fuzziness(statistics: Statistics) -> float | None:
    """D = tr(Sigma_W S_B^+) with S_B = sum_c (n_c / N) (mu_c - mu_G)(mu_c - mu_G)^T, the separation
    fuzziness of He and Su (PNAS 2023, arXiv:2210.17020); on classes of equal size C times NC1."""
    within = statistics.scatter / statistics.n_samples
    roots = np.sqrt(statistics.counts / statistics.n_samples)
    return within_over_between(statistics, within, roots[:, None] * statistics.coordinates)


def log_fuzziness(statistics: Statistics) -> float | None:
    """The natural logarithm of :func:`fuzziness`; none where the features of each class are one
    point."""
    d = fuzziness(statistics)
    return float(np.log(d)) if d else None


def cdnv(statistics: Statistics) -> float | None:
    """Mean over pairs of (v_i + v_j) / (2 d_ij^2): Galanti, György and Hutter 2022
    (arXiv:2112.15121), definition 1."""
    distances = statistics.distances
    if not distances.all() or not has_variance(statistics):
        return None
    variances = statistics.variances
    # Of many classes pairs are what takes memory: no numbers of them, and one array.
    quotients = np.concatenate([v + variances[i:] for i, v in enumerate(variances, start=1)])
    quotients /= 2
    quotients /= distances
    return float(quotients.mean())


def _directional_variances(statistics: Statistics, squared_distances: np.ndarray) -> np.ndarray:
    """[i, j]: u^T Sigma_i u / d_ij^2 with u = (mu_j - mu_i) / d_ij, float64 (C, C); 0 for i = j."""
    answer = statistics.directional / statistics.counts[:, None]
    fourth = np.square(squared_distances)
    np.fill_diagonal(fourth, 1)
    answer /= fourth
    np.fill_diagonal(answer, 0)
    return answer


def directional_cdnv(statistics: Statistics) -> float | None:
    """Mean over ordered pairs of u^T Sigma_i u / d_ij^2, u = (mu_j - mu_i) / d_ij: Luthra,
    Salunkhe and Galanti 2026 (arXiv:2603.03530)."""
    if statistics.directional is None:
        return None
    if not statistics.distances.all() or not has_variance(statistics):
        return None
    C = statistics.n_classes
    values = _directional_variances(statistics, squareform(statistics.distances))
    return float(values.sum() / (C * (C - 1)))


def few_shot_bound(statistics: Statistics, shots: int) -> float | None:
    """A bound of the error of the nearest class mean, averaged over the classes, where each mean is
    that of ``shots`` >= 10 images drawn anew: Luthra, Salunkhe and Galanti 2026 (arXiv:2603.03530).

    It is for features that do not depend on the images, and for the moments of their distribution:
    those of images that a network was trained on are no estimates of it.

    (1/C) sum_i sum_{j != i} [4 V~_ij + (sqrt A_T + sqrt A_S + sqrt A_Q)^2] /
    (1 + (v_j - v_i) / (m d^2))^2 with V~_ij the directional variance, V = (v_i + v_j) / d^2,
    A_T = (4/m)(V^2 + V/4), A_S = V/m, A_Q = (Theta + 2 (m - 1) V^2) / m^3, and
    Theta = (E||h - mu_i||^4 + E||h - mu_j||^4) / d^4. Where it is larger than 1 it says nothing.

    None of fewer images, for which it is not shown, and where two class means are the same.
    """
    if shots < FEWEST_SHOTS or not statistics.distances.all():
        return None
    m, v = shots, statistics.variances
    squared = squareform(statistics.distances)
    directional = _directional_variances(statistics, squared)
    np.fill_diagonal(squared, 1)
    sums = (v[:, None] + v) / squared
    fourth = statistics.fourth / statistics.counts
    theta = (fourth[:, None] + fourth) / squared**2
    parts = (4 / m) * (sums**2 + sums / 4), sums / m, (theta + 2 * (m - 1) * sums**2) / m**3
    numerator = 4 * directional + sum(map(np.sqrt, parts)) ** 2
    bounds = numerator / (1 + (v - v[:, None]) / (m * squared)) ** 2
    np.fill_diagonal(bounds, 0)
    return float(bounds.sum() / statistics.n_classes)


# --- NC2: the class means become a simplex ----------------------------------------------------


def _lengths(vectors: np.ndarray) -> np.ndarray | None:
    """Norms of the rows of (C, n), None where one is zero."""
    norms = np.linalg.norm(vectors, axis=1)
    return norms if norms.all() else None


def equinorm(vectors: np.ndarray) -> float:
    """Standard deviation over mean of the norms of rows (C, n): report A, equation 2."""
    norms = np.linalg.norm(vectors, axis=1)
    return float(norms.std() / norms.mean())


def cosines(vectors: np.ndarray) -> np.ndarray | None:
    """Cosines of the pairs of rows (C, n), float64 (C (C - 1) / 2,); None where one is zero."""
    norms = _lengths(vectors)
    if norms is None:
        return None
    unit = vectors / norms[:, None]
    return (unit @ unit.T)[np.triu_indices(len(vectors), k=1)]


def equiangularity(vectors: np.ndarray) -> float | None:
    """Standard deviation of the cosines between rows (C, n): report A, equation 3."""
    angles = cosines(vectors)
    return None if angles is None else float(angles.std())


def maximal_angle(vectors: np.ndarray) -> float | None:
    """Mean of |cosine + 1 / (C - 1)| over pairs of rows (C, n): report A, equation 4."""
    angles = cosines(vectors)
    return None if angles is None else float(np.abs(angles + 1 / (len(vectors) - 1)).mean())


def distance_to_simplex(gram: np.ndarray) -> float:
    """|| G / ||G||_F - (I - 11^T / C) / sqrt(C - 1) ||_F of a matrix of products G (C, C), which is
    overwritten: Zhu et al. 2021 (arXiv:2105.02375), equations 7 to 9."""
    C = len(gram)
    # Of many classes such matrices are what takes memory: there is one.
    gram /= np.linalg.norm(gram)
    diagonal = gram.diagonal() - (1 - 1 / C) / np.sqrt(C - 1)
    gram -= (0 - 1 / C) / np.sqrt(C - 1)
    np.fill_diagonal(gram, diagonal)
    return float(np.linalg.norm(gram))


def uniformity(vectors: np.ndarray) -> float | None:
    """Mean over pairs of rows (C, n) of log(1 / ||a - b||), a and b of length 1: Liu et al. 2023
    (arXiv:2303.06484). On a simplex -log(2 C / (C - 1)) / 2, the least that is possible."""
    norms = _lengths(vectors)
    if norms is None:
        return None
    distances = pdist(vectors / norms[:, None])
    return float(-np.log(distances).mean()) if distances.min() > ROUNDING else None


def nc2_equinorm(statistics: Statistics) -> float:
    """:func:`equinorm` of the m_c."""
    return equinorm(statistics.directions)


def nc2_equiangularity(statistics: Statistics) -> float | None:
    """:func:`equiangularity` of the m_c."""
    return equiangularity(statistics.directions)


def nc2_maximal_angle(statistics: Statistics) -> float | None:
    """:func:`maximal_angle` of the m_c."""
    return maximal_angle(statistics.directions)


def nc2_equinorm_report_a(statistics: Statistics) -> float:
    """:func:`equinorm` of the mu_c - mu_G, as report A has it."""
    return equinorm(statistics.weighted_directions)


def nc2_equiangularity_report_a(statistics: Statistics) -> float | None:
    """:func:`equiangularity` of the mu_c - mu_G."""
    return equiangularity(statistics.weighted_directions)


def nc2_maximal_angle_report_a(statistics: Statistics) -> float | None:
    """:func:`maximal_angle` of the mu_c - mu_G."""
    return maximal_angle(statistics.weighted_directions)


def etf_distance(statistics: Statistics) -> float:
    """:func:`distance_to_simplex` of the Gram matrix of the m_c."""
    return distance_to_simplex(statistics.directions @ statistics.directions.T)


def hyperspherical_uniformity(statistics: Statistics) -> float | None:
    """:func:`uniformity` of the m_c; for C > d + 1, where no simplex fits, what NC2 aims at."""
    return uniformity(statistics.directions)


def _measure_head(
    function: Callable[[np.ndarray], float | None], statistics: Statistics
) -> float | None:
    weight = statistics.head_weight
    return function(weight) if weight is not None and weight.any() else None


def nc2_equinorm_head(statistics: Statistics) -> float | None:
    """:func:`equinorm` of the rows of W, which are not centred."""
    return _measure_head(equinorm, statistics)


def nc2_equiangularity_head(statistics: Statistics) -> float | None:
    """:func:`equiangularity` of the rows of W."""
    return _measure_head(equiangularity, statistics)


def nc2_maximal_angle_head(statistics: Statistics) -> float | None:
    """:func:`maximal_angle` of the rows of W."""
    return _measure_head(maximal_angle, statistics)


def etf_distance_head(statistics: Statistics) -> float | None:
    """:func:`distance_to_simplex` of W W^T."""
    return _measure_head(lambda weight: distance_to_simplex(weight @ weight.T), statistics)


def hyperspherical_uniformity_head(statistics: Statistics) -> float | None:
    """:func:`uniformity` of the rows of W."""
    return _measure_head(uniformity, statistics)


# --- NC3: the last layer becomes the class means ----------------------------------------------


def _own_weights(statistics: Statistics) -> np.ndarray | None:
    """The rows of W of the classes that are present, float64 (C, d)."""
    if statistics.head_weight is None:
        return None
    weights = statistics.head_weight[statistics.classes]
    return weights if weights.any() else None


def duality(weights: np.ndarray, means: np.ndarray) -> float:
    """|| W / ||W||_F - M / ||M||_F ||_F^2 of (C, d) each."""
    difference = weights / np.linalg.norm(weights) - means / np.linalg.norm(means)
    return float(np.square(difference).sum())


def mean_cosine(weights: np.ndarray, means: np.ndarray) -> float | None:
    """Mean cosine of the rows of (C, d) and (C, d); None where one is zero."""
    of_weights, of_means = _lengths(weights), _lengths(means)
    if of_weights is None or of_means is None:
        return None
    return float((np.vecdot(weights, means) / of_weights / of_means).mean())


def compare_with_means(
    function: Callable[[np.ndarray, np.ndarray], float | None],
    statistics: Statistics,
    means: np.ndarray,
) -> float | None:
    """A function of the rows of W of the classes that are present, and of centred class means
    (C, d); None without W, and where it is zero."""
    weights = _own_weights(statistics)
    return None if weights is None else function(weights, means)


def simplex_of_products(weights: np.ndarray, means: np.ndarray) -> float | None:
    """:func:`distance_to_simplex` of the products of rows (C, d) and (C, d); None where all are
    zero."""
    products = weights @ means.T
    return distance_to_simplex(products) if products.any() else None


def etf_distance_duality(statistics: Statistics) -> float | None:
    """:func:`distance_to_simplex` of the products w_i . m_j: Zhu et al. 2021, equation 9."""
    return compare_with_means(simplex_of_products, statistics, statistics.centred)


def nc3(statistics: Statistics) -> float | None:
    """|| W / ||W||_F - M / ||M||_F ||_F^2 with the m_c as rows of M: Papyan, Han and Donoho 2020,
    squared as in the public notebook."""
    return compare_with_means(duality, statistics, statistics.centred)


def nc3_cosine(statistics: Statistics) -> float | None:
    """Mean cosine of w_c and m_c."""
    return compare_with_means(mean_cosine, statistics, statistics.centred)


# --- NC4: the network becomes the nearest class mean ------------------------------------------


def nc4(statistics: Statistics) -> float | None:
    """Share of the samples whose prediction argmax(W h + b) is the class of the nearest training
    mean: Papyan, Han and Donoho 2020, who draw what is missing to 1."""
    if statistics.agreeing is None:
        return None
    return float(statistics.agreeing.sum() / statistics.n_samples)


def accuracy_nearest_mean(statistics: Statistics) -> float | None:
    """Share of the samples that are nearest to the training mean of their own class."""
    if statistics.nearest is None:
        return None
    return float(statistics.nearest.sum() / statistics.n_samples)


# --- norms and accuracy -----------------------------------------------------------------------


def norm_features(statistics: Statistics) -> float:
    """Mean of ||h||."""
    return float(statistics.norms.sum() / statistics.n_samples)


def norm_means(statistics: Statistics) -> float:
    """Mean of ||m_c||."""
    return float(np.linalg.norm(statistics.centred, axis=1).mean())


def norm_global_mean(statistics: Statistics) -> float:
    """||mu_G||."""
    return float(np.linalg.norm(statistics.global_mean))


def norm_head(statistics: Statistics) -> float | None:
    """||W||_F."""
    weight = statistics.head_weight
    return None if weight is None else float(np.linalg.norm(weight))


def accuracy(statistics: Statistics) -> float | None:
    """Share of the samples whose class the network predicts."""
    if statistics.predicted is None:
        return None
    return float(statistics.predicted.sum() / statistics.n_samples)


def fewest_images(statistics: Statistics) -> int:
    """Number of samples of the smallest class."""
    return int(statistics.counts.min())


# --- all of them ------------------------------------------------------------------------------

#: The function of each measure by its name, in the order of the table of quantities: None where it
#: has no value, without a head or predictions, where a length or distance that it divides by is
#: zero, or where it is of the variance within classes and each has one sample.
MEASURES: dict[str, Callable[[Statistics], float | None]] = {
    name: globals()[name] for name, entry in QUANTITIES.items() if entry.kind == "statistics"
}

#: The part of the second pass (:data:`~collapseflow.measures.statistics.PARTS`) that a measure
#: alone needs, by its name; so do those that others have under the name.
PART_OF = {
    "nc1_balanced": "balanced",
    "directional_cdnv": "directional",
    "nc4": "nearest",
    "accuracy_nearest_mean": "nearest",
}


def require_apart(statistics: Statistics) -> None:
    """Refuse what no measure can be had of.

    Raises
    ------
    ValueError
        If fewer than two classes are present.
    CollapsedError
        If all class means coincide.
    """
    if statistics.n_classes < 2:
        raise ValueError("the measures of collapse need at least two classes")
    if not statistics.centred.any():
        raise CollapsedError


def measure(statistics: Statistics) -> dict[str, float]:
    """Every measure that has a value, by its name.

    With them ``rank``, that of Sigma_B which its pseudo-inverse keeps, ``n_classes``,
    ``n_samples`` and ``n_features``.

    Raises
    ------
    ValueError, CollapsedError
        As :func:`require_apart`.
    """
    require_apart(statistics)
    values = {name: function(statistics) for name, function in MEASURES.items()}
    eigenvalues = between_class_eigenvalues(statistics)
    return {name: value for name, value in values.items() if value is not None} | {
        "rank": int((eigenvalues > relative_cutoff(statistics, eigenvalues)).sum()),
        "n_classes": statistics.n_classes,
        "n_samples": statistics.n_samples,
        "n_features": statistics.n_features,
    }


def measure_states(paths: Mapping[int | None, str | Path], layers: Sequence[str]) -> list[dict]:
    """The measures of states, from their files of statistics.

    Parameters
    ----------
    paths
        The file of each state by its epoch; None for features without epochs.
    layers
        Which layers are measured.

    Returns
    -------
    One dictionary a state: ``epoch``, and ``layers``: for each layer the measures on each of
    :data:`~collapseflow.measures.statistics.MEASURED_SPLITS`, and where training labels were
    replaced of :data:`~collapseflow.measures.statistics.TRUE_SPLITS`. What has failed, or has
    class means that all coincide, is ``{"failed": reason}``.

    Raises
    ------
    UserError
        If a file is damaged, lacks a layer, or holds fewer than two classes.
    """
    return [
        {"epoch": epoch, "layers": _measure_state(path, layers)} for epoch, path in paths.items()
    ]


def _measure_state(path: str | Path, layers: Sequence[str]) -> dict[str, dict[str, dict]]:
    state = read_statistics(path)
    if state.failed is not None:
        return {layer: dict.fromkeys(MEASURED_SPLITS, {"failed": state.failed}) for layer in layers}
    for layer in layers:
        if not set(MEASURED_SPLITS) <= set(state.layers.get(layer, ())):
            raise UserError(f"{path}: lacks statistics of the layer {layer!r}; {remedy(path)}")
    return {
        layer: {
            split: _measured(state.layers[layer][split], path)
            for split in (*MEASURED_SPLITS, *TRUE_SPLITS)
            if split in state.layers[layer]
        }
        for layer in layers
    }


def _measured(statistics: Statistics, path: str | Path) -> dict:
    try:
        return measure(statistics)
    except CollapsedError as error:
        return {"failed": str(error)}
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
