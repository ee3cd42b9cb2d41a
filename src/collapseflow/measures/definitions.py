"""The measures of collapse as others define them, on the same statistics.

A preset holds what one paper, report or public code computes under the name of one of
:data:`collapseflow.measures.collapse.MEASURES`, and says how it differs from ours. What depends on
the way the data was read (float32, part of the batches) is no part of a definition.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import squareform

from collapseflow.measures import collapse
from collapseflow.measures.statistics import Statistics


class Definition(NamedTuple):
    """How others compute a measure.

    Attributes
    ----------
    function
        Of the statistics of a layer on a split; None where it has no value, as those of
        :data:`collapseflow.measures.collapse.MEASURES`.
    words
        How it differs from ours.
    """

    function: Callable[[Statistics], float | None]
    words: str


# --- the public notebook of Papyan, Han and Donoho --------------------------------------------
# github.com/neuralcollapse/neuralcollapse, function ``analysis``.


def notebook_nc1(statistics: Statistics) -> float | None:
    """tr(Sigma_W Sigma_B^+), Sigma_B around the mean of the class means.

    The notebook keeps the C - 1 largest eigenvalues of Sigma_B, which are all that are not zero
    unless the class means have a lower rank: then it divides by rounding errors, and we do not.
    """
    within = statistics.scatter / statistics.n_samples
    rows = statistics.directions / np.sqrt(statistics.n_classes)
    return collapse.within_over_between(statistics, within, rows)


def _unbiased_equinorm(vectors: np.ndarray) -> float:
    norms = np.linalg.norm(vectors, axis=1)
    return float(norms.std(ddof=1) / norms.mean())


def notebook_equinorm(statistics: Statistics) -> float:
    """Standard deviation (ddof = 1, as ``torch.std``) over mean of the norms of the class means
    around their mean."""
    return _unbiased_equinorm(statistics.directions)


def notebook_equinorm_head(statistics: Statistics) -> float | None:
    """The same of the rows of W, which are not centred."""
    weight = statistics.head_weight
    return _unbiased_equinorm(weight) if weight is not None and weight.any() else None


# --- around the mean of all samples -----------------------------------------------------------
# Papyan, Han and Donoho, report A and Zhu et al. write of classes of equal size, and have mu_G, the
# mean of all samples.


def weighted_etf_distance(statistics: Statistics) -> float:
    """:func:`collapseflow.measures.collapse.distance_to_simplex` of the products of the
    mu_c - mu_G."""
    vectors = statistics.weighted_directions
    return collapse.distance_to_simplex(vectors @ vectors.T)


def weighted_uniformity(statistics: Statistics) -> float | None:
    """:func:`collapseflow.measures.collapse.uniformity` of the mu_c - mu_G."""
    return collapse.uniformity(statistics.weighted_directions)


def weighted_etf_distance_duality(statistics: Statistics) -> float | None:
    """:func:`collapseflow.measures.collapse.distance_to_simplex` of the products of the rows of W
    and the mu_c - mu_G."""
    return collapse.compare_with_means(
        collapse.simplex_of_products, statistics, statistics.weighted_centred
    )


def weighted_nc3(statistics: Statistics) -> float | None:
    """|| W / ||W||_F - M / ||M||_F ||_F^2, the mu_c - mu_G as rows of M."""
    return collapse.compare_with_means(collapse.duality, statistics, statistics.weighted_centred)


def weighted_nc3_cosine(statistics: Statistics) -> float | None:
    """Mean cosine of w_c and mu_c - mu_G."""
    return collapse.compare_with_means(
        collapse.mean_cosine, statistics, statistics.weighted_centred
    )


def weighted_norm_means(statistics: Statistics) -> float:
    """Mean of ||mu_c - mu_G||."""
    return float(np.linalg.norm(statistics.weighted_centred, axis=1).mean())


def unsquared_nc3(statistics: Statistics) -> float | None:
    """|| W / ||W||_F - M / ||M||_F ||_F, the mu_c - mu_G as rows of M."""
    squared = weighted_nc3(statistics)
    return None if squared is None else float(np.sqrt(squared))


def mismatch(statistics: Statistics) -> float | None:
    """Share of the samples whose prediction is not the class of the nearest mean."""
    agreement = collapse.nc4(statistics)
    return None if agreement is None else 1 - agreement


# --- other CDNVs ------------------------------------------------------------------------------


def _mean_over_pairs(statistics: Statistics, variances: np.ndarray, power: int) -> float | None:
    """Mean over pairs of (v_i + v_j) / d_ij^power, from v (C,)."""
    if not statistics.distances.all() or not collapse.has_variance(statistics):
        return None
    first, second = np.triu_indices(statistics.n_classes, k=1)
    sums = variances[first] + variances[second]
    return float((sums / statistics.distances ** (power / 2)).mean())


def linguistic_cdnv(statistics: Statistics) -> float | None:
    """Mean over pairs of (v_i + v_j) / (2 d_ij^4): the call with ``dist_exp = 2`` in
    github.com/rhubarbwu/linguistic-collapse, analyze.py (Wu and Papyan 2024, arXiv:2405.17767)."""
    value = _mean_over_pairs(statistics, statistics.variances, 4)
    return None if value is None else value / 2


def luthra_code_cdnv(statistics: Statistics) -> float | None:
    """Mean over pairs of (v_i + v_j) / d_ij^2 with ddof = 1: V_ij in ``compute_pairwise_metrics``
    of github.com/DLFundamentals/directional_cdnv_bounds. None where a class has one sample."""
    if statistics.counts.min() < 2:
        return None
    return _mean_over_pairs(statistics, statistics.squared / (statistics.counts - 1), 2)


def luthra_code_directional_cdnv(statistics: Statistics) -> float | None:
    """Mean over ordered pairs of u^T Sigma_i u / d_ij^2 with ddof = 1, from the same function."""
    if statistics.directional is None:
        return None
    if statistics.counts.min() < 2 or not statistics.distances.all():
        return None
    squared = squareform(statistics.distances)
    np.fill_diagonal(squared, 1)
    # [i, i] is zero: no direction leads from a mean to itself.
    values = statistics.directional / (statistics.counts - 1)[:, None] / squared**2
    return float(values.sum() / (statistics.n_classes * (statistics.n_classes - 1)))


#: How what is around mu_G differs from ours.
_WEIGHTED = "around the mean of all samples"
_NC2_WEIGHTED = {
    "nc2_equinorm": Definition(collapse.nc2_equinorm_report_a, _WEIGHTED),
    "nc2_equiangularity": Definition(collapse.nc2_equiangularity_report_a, _WEIGHTED),
    "nc2_maximal_angle": Definition(collapse.nc2_maximal_angle_report_a, _WEIGHTED),
}

#: By preset and by the name of the measure in MEASURES whose place it takes.
PRESETS: Mapping[str, Mapping[str, Definition]] = {
    # Papyan, Han and Donoho, PNAS 117 (2020), NC1 to NC4 and figures 2 to 7.
    "papyan2020": {
        "nc1": Definition(collapse.nc1, "as here"),
        **_NC2_WEIGHTED,
        "nc2_equinorm_head": Definition(collapse.nc2_equinorm_head, "as here"),
        "nc2_equiangularity_head": Definition(collapse.nc2_equiangularity_head, "as here"),
        "nc2_maximal_angle_head": Definition(collapse.nc2_maximal_angle_head, "as here"),
        "nc3": Definition(unsquared_nc3, f"not squared, as in its text; {_WEIGHTED}"),
        "nc4": Definition(mismatch, "the share that does not agree"),
    },
    "papyan_notebook": {
        "nc1": Definition(notebook_nc1, "not divided by C; around the mean of the class means"),
        "nc2_equinorm": Definition(notebook_equinorm, "ddof = 1"),
        "nc2_maximal_angle": Definition(collapse.nc2_maximal_angle, "as here"),
        "nc2_equinorm_head": Definition(notebook_equinorm_head, "ddof = 1"),
        "nc2_maximal_angle_head": Definition(collapse.nc2_maximal_angle_head, "as here"),
        "nc3": Definition(collapse.nc3, "as here"),
        "nc4": Definition(mismatch, "the share that does not agree"),
    },
    "report_a": {
        "nc1": Definition(collapse.nc1_report_a, "eigenvalues of Sigma_B up to 1e-5 count as zero"),
        **_NC2_WEIGHTED,
    },
    # Zhu et al., NeurIPS 2021 (arXiv:2105.02375), equations 7 to 9.
    "zhu2021": {
        "nc1": Definition(collapse.nc1, "as here"),
        "etf_distance_head": Definition(collapse.etf_distance_head, "as here"),
        "etf_distance_duality": Definition(weighted_etf_distance_duality, _WEIGHTED),
    },
    # Dang et al., ICML 2023 (arXiv:2301.00437), on classes of unequal size: their
    # validate_NC_imbalanced.py.
    "dang2023": {"nc1": Definition(collapse.nc1, "as here")},
    # What is ours around mu_M, around mu_G.
    "sample_weighted": {
        **_NC2_WEIGHTED,
        "etf_distance": Definition(weighted_etf_distance, _WEIGHTED),
        "hyperspherical_uniformity": Definition(weighted_uniformity, _WEIGHTED),
        "etf_distance_duality": Definition(weighted_etf_distance_duality, _WEIGHTED),
        "nc3": Definition(weighted_nc3, _WEIGHTED),
        "nc3_cosine": Definition(weighted_nc3_cosine, _WEIGHTED),
        "norm_means": Definition(weighted_norm_means, _WEIGHTED),
    },
    # He and Su, PNAS 120 (2023, arXiv:2210.17020).
    "he_su": {
        "nc1": Definition(
            collapse.fuzziness, "D: not divided by C; classes weighted by n_c / N in Sigma_B"
        ),
        "log_fuzziness": Definition(collapse.log_fuzziness, "as here"),
    },
    # Tirer, Huang and Niles-Weed, ICML 2023 (arXiv:2210.16658).
    "tirer": {
        "nc1": Definition(collapse.nc1_quotient, "tr(Sigma_W) / tr(Sigma_B), no pseudo-inverse"),
    },
    # Galanti, György and Hutter, ICLR 2022 (arXiv:2112.15121).
    "galanti": {"cdnv": Definition(collapse.cdnv, "as here")},
    "linguistic_collapse": {
        "cdnv": Definition(linguistic_cdnv, "distances to the fourth power, so not free of scale"),
    },
    # Luthra, Salunkhe and Galanti 2026 (arXiv:2603.03530).
    "luthra": {"directional_cdnv": Definition(collapse.directional_cdnv, "as here")},
    "luthra_code": {
        "cdnv": Definition(luthra_code_cdnv, "without the 1/2; ddof = 1"),
        "directional_cdnv": Definition(luthra_code_directional_cdnv, "ddof = 1"),
    },
}


def compare_definitions(statistics: Statistics) -> list[dict]:
    """Every definition that has a value, beside ours.

    Returns
    -------
    Dictionaries with ``preset``, ``quantity`` (the name in MEASURES), ``value`` and ``words``;
    those of one quantity together, in the order of MEASURES, ours (``collapseflow``, without
    words) first.

    Raises
    ------
    ValueError, CollapsedError
        As :func:`collapseflow.measures.collapse.measure`.
    """
    ours = collapse.measure(statistics)
    rows = []
    for quantity in collapse.MEASURES:
        theirs = {
            preset: definitions[quantity]
            for preset, definitions in PRESETS.items()
            if quantity in definitions
        }
        if not theirs or quantity not in ours:
            continue
        found = [("collapseflow", ours[quantity], "")]
        found += [(name, entry.function(statistics), entry.words) for name, entry in theirs.items()]
        rows += [
            {"preset": preset, "quantity": quantity, "value": value, "words": words}
            for preset, value, words in found
            if value is not None
        ]
    return rows
