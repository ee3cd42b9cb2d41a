"""Logistic regression and linear SVM against scikit-learn's solvers and dense formulas."""

import warnings

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from collapseflow.images.datasets import stratified_rows
from collapseflow.measures import linear_probes
from collapseflow.measures.linear_probes import (
    LinearProbe,
    PreconditionedLinearSVC,
    PreconditionedLogisticRegression,
    Problem,
)
from collapseflow.measures.probes import build_classifier

#: Some tolerances of these tests are those of rounding itself.
pytestmark = pytest.mark.filterwarnings("ignore:not converged")

LOGISTIC = "collapseflow.LogisticRegression"
SVM = "collapseflow.LinearSVC"
OURS = {LOGISTIC: PreconditionedLogisticRegression, SVM: PreconditionedLinearSVC}
THEIRS = {LOGISTIC: LogisticRegression, SVM: LinearSVC}
#: What makes scikit-learn come to the optimum.
EXACT = {LOGISTIC: {"tol": 1e-9, "max_iter": 20_000}, SVM: {"tol": 1e-9, "dual": False}}


def make(n, d, n_classes=4, seed=0, rank=None, dtype=np.float64):
    """Overlapping classes of unequal sizes; all but ``rank`` directions nearly vanish."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, n, p=(p := np.arange(1, n_classes + 1)) / p.sum())
    labels[:n_classes] = np.arange(n_classes)
    features = rng.normal(size=(n_classes, d))[labels] + 1.5 * rng.normal(size=(n, d))
    if rank:
        basis = rng.normal(size=(rank, d))
        features = features @ basis.T @ basis / d + 0.03 * features + 2
    return features.astype(dtype), labels


def fit(name, x, y, **parameters):
    parameters = {**EXACT[name], **parameters}
    pipeline = build_classifier(name, parameters, "none", 0, threads=1)
    return pipeline.fit(x, y)[-1]


def objective_of(name, x, y, C, coefficients, intercepts):
    """The objective as scikit-learn's and liblinear's documentation state it, over C n."""
    outputs = x @ coefficients.T + intercepts
    n, hot = len(y), np.eye(len(coefficients))[y]
    squares = np.sum(coefficients**2)
    if name == LOGISTIC:
        return (squares / (2 * C) - np.sum(hot * log_softmax(outputs, axis=1))) / n
    losses = np.maximum(0, 1 - (2 * hot - 1) * outputs) ** 2
    return ((squares + np.sum(intercepts**2)) / (2 * C) + np.sum(losses)) / n


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("n", "d", "rank", "C"),
    [(300, 8, None, 1.0), (300, 8, None, 0.01), (40, 90, None, 1.0), (400, 30, 3, 1.0)],
    ids=["plain", "strong penalty", "more features than images", "nearly collinear"],
)
def test_the_weights_are_scikit_learn_s(name, n, d, rank, C):
    x, y = make(n, d, rank=rank)
    ours = fit(name, x, y, C=C)
    assert type(ours) is OURS[name] and ours.own_solver_
    theirs = THEIRS[name](**EXACT[name], C=C, random_state=0).fit(x, y)
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4 * scale)
    np.testing.assert_allclose(
        ours.decision_function(x), theirs.decision_function(x), atol=1e-3 * scale
    )
    values = [objective_of(name, x, y, C, f.coef_, f.intercept_) for f in (ours, theirs)]
    assert values[0] <= values[1] * (1 + 1e-9)
    assert ours.n_features_in_ == d and list(ours.classes_) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", OURS)
def test_in_float32_the_objective_is_as_low_to_five_digits(name):
    x, y = make(3000, 60, rank=5, dtype=np.float32)
    ours = fit(name, x, y, tol=1e-4)
    assert ours.coef_.dtype == np.float32
    x = x.astype(np.float64)
    theirs = THEIRS[name](**EXACT[name], random_state=0).fit(x, y)
    low, ours = (objective_of(name, x, y, 1.0, f.coef_, f.intercept_) for f in (theirs, ours))
    assert low * (1 - 1e-9) < ours < low * (1 + 1e-5)


@pytest.mark.parametrize("name", OURS)
def test_where_float32_is_too_coarse_it_ends_in_float64(name):
    # Collapsed classes far from the origin.
    x, y = make(400, 20)
    x = (30 + 3 * np.eye(20)[y] + 0.01 * x).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ours = fit(name, x, y, tol=1e-6)
    x = x.astype(np.float64)
    theirs = THEIRS[name](**EXACT[name], random_state=0).fit(x, y)
    values = [objective_of(name, x, y, 1.0, f.coef_, f.intercept_) for f in (ours, theirs)]
    assert values[0] <= values[1] * (1 + 1e-5)


@pytest.mark.parametrize("name", OURS)
def test_value_gradient_and_curvature_agree_with_the_dense_formulas(name):
    x, y = make(50, 6, n_classes=3)
    model = OURS[name]()
    problem = Problem(x, y, 1 / 50, model)
    rng = np.random.default_rng(1)
    flat = 0.1 * rng.normal(size=7 * 3)

    def value(flat):
        return problem.objective(flat.reshape(7, 3))[0]

    weights = flat.reshape(7, 3)
    expected = objective_of(name, x, y, 1.0, weights[:-1].T, weights[-1])
    assert value(flat) == pytest.approx(expected, rel=1e-12)
    assert check_grad(value, lambda v: problem.objective(v.reshape(7, 3))[1].ravel(), flat) < 1e-6

    curvatures = model.curvatures(problem.outputs(weights, slice(None)), y)
    h = 1e-5
    for sample, label in ((0, 0), (0, 2), (7, 1)):
        outputs = problem.outputs(weights, slice(sample, sample + 1))
        step = h * np.eye(3)[label]
        slopes = []
        for moved in (outputs - step, outputs + step):
            model.losses(moved, y[sample : sample + 1])
            slopes.append(moved[0, label])
        slope = (slopes[1] - slopes[0]) / (2 * h)
        assert curvatures[sample, label] == pytest.approx(slope, abs=1e-6)


def test_drawn_rows_estimate_the_block_of_the_hessian(monkeypatch):
    x, y = make(4000, 5)
    problem = Problem(x, y, 1e-3, PreconditionedLogisticRegression())
    curvatures = np.random.default_rng(2).uniform(0.01, 1, 4000)
    ones = np.column_stack([x, np.ones(4000)])
    block = ones.T @ (curvatures[:, None] * ones) / 4000 + 1e-3 * np.eye(6)
    monkeypatch.setattr(linear_probes, "ROWS_PER_COLUMN", 1e9)
    factor = problem.factor(curvatures, np.random.default_rng(3))
    np.testing.assert_allclose(factor @ factor.T, block, rtol=1e-9)
    monkeypatch.setattr(linear_probes, "ROWS_PER_COLUMN", 20)
    estimates = [problem.factor(curvatures, np.random.default_rng(seed)) for seed in range(300)]
    mean = np.mean([f @ f.T for f in estimates], axis=0)
    np.testing.assert_allclose(mean, block, atol=0.05 * block.max())
    # Each by itself is another one.
    assert np.std([f[0, 0] for f in estimates]) > 0.01 * factor[0, 0]


@pytest.mark.parametrize("name", OURS)
def test_classes_that_share_a_block_have_the_same_weights(name, monkeypatch):
    x, y = make(400, 10)
    of_each = fit(name, x, y).coef_
    monkeypatch.setattr(linear_probes, "BLOCKS_BYTES", 0)
    np.testing.assert_allclose(fit(name, x, y).coef_, of_each, atol=1e-5)


def test_nearly_collinear_features_take_a_fraction_of_the_iterations():
    x, y = make(2000, 100, rank=5)
    ours = fit(LOGISTIC, x, y, tol=1e-6)
    theirs = LogisticRegression(tol=1e-6, max_iter=5000).fit(x, y)
    assert 3 < ours.n_iter_ < theirs.n_iter_.max() / 4


@pytest.mark.parametrize("name", OURS)
def test_a_constant_feature_and_one_of_another_scale_do_no_harm(name):
    x, y = make(300, 8)
    x[:, 2], x[:, 5] = 0, 3000 * x[:, 5]
    ours, theirs = fit(name, x, y), THEIRS[name](**EXACT[name], random_state=0).fit(x, y)
    values = [objective_of(name, x, y, 1.0, f.coef_, f.intercept_) for f in (ours, theirs)]
    assert values[0] <= values[1] * (1 + 1e-6)
    assert (ours.coef_[:, 2] == 0).all()


@pytest.mark.parametrize("name", OURS)
def test_too_few_iterations_are_told(name):
    x, y = make(400, 30, rank=3)
    with pytest.warns(ConvergenceWarning, match="not converged after 2 iterations"):
        assert fit(name, x, y, max_iter=2).n_iter_ == 2


@pytest.mark.parametrize("most_features", [5, 6])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", OURS)
def test_two_classes_and_very_many_features_are_scikit_learn_s(
    name, n_classes, most_features, monkeypatch
):
    x, y = make(200, 6, n_classes)
    monkeypatch.setattr(linear_probes, "MOST_FEATURES", most_features)
    ours = fit(name, x, y)
    assert ours.own_solver_ == (n_classes == 4 and most_features == 6)
    if not ours.own_solver_:
        theirs = THEIRS[name](**EXACT[name], random_state=0).fit(x, y)
        np.testing.assert_array_equal(ours.coef_, theirs.coef_)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", OURS)
def test_scikit_learn_s_solver_too_works_in_the_span_of_few_images(name, n_classes, monkeypatch):
    x, y = make(40, 90, n_classes)
    monkeypatch.setattr(linear_probes, "MOST_FEATURES", 5)
    ours = fit(name, x, y)
    assert not ours.own_solver_
    theirs = THEIRS[name](**EXACT[name], random_state=0).fit(x, y)
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4 * scale)
    np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), atol=1e-3)
    assert ours.n_features_in_ == 90


@pytest.mark.parametrize("name", OURS)
def test_the_same_seed_gives_the_same_weights(name):
    x, y = make(500, 12, dtype=np.float32)
    np.testing.assert_array_equal(fit(name, x, y).coef_, fit(name, x, y).coef_)


# --- the probe that chooses its penalty and scaling -------------------------------------------


def scaled_as(scaling, x, z):
    """Features x, and others z with the same mean and scale."""
    deviations = x.std(axis=0)
    one = np.sqrt(np.mean(deviations**2))
    scale = {"standardised": deviations, "one scale": one}[scaling]
    return (x - x.mean(axis=0)) / scale, (z - x.mean(axis=0)) / scale


def make_unequal(n, telling, rest, n_rest, seed=0):
    """Six features that tell four classes, of one scale, and others that tell nothing, of another;
    not around the origin."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=n)
    first = telling * (3 * np.eye(6)[labels] + rng.normal(size=(n, 6)))
    others = rest * rng.normal(size=(n, n_rest)) * rng.uniform(0.1, 1, n_rest)
    return 0.5 + np.concatenate([first, others], axis=1), labels


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("n", "d"), [(500, 12), (60, 90)])
def test_the_probe_is_scikit_learn_s_regression_with_the_winner(n, d, n_classes):
    x, y = make(n, d, n_classes)
    probe = LinearProbe(3).fit(x, y)
    assert probe.classes_.tolist() == list(range(n_classes))
    scaled, _ = scaled_as(probe.chosen_["scaling"], x, x)
    C = 1 / (probe.chosen_["winner"] * n)
    # Scikit-learn's weight w of two classes is here w / 2 and -w / 2: half the square.
    C = 2 * C if n_classes == 2 else C
    theirs = LogisticRegression(C=C, tol=1e-8, max_iter=20_000).fit(scaled, y)
    log_p = log_softmax(probe.decision_function(x), axis=1)
    np.testing.assert_allclose(np.exp(log_p), theirs.predict_proba(scaled), atol=0.02)
    assert np.mean(probe.predict(x) == theirs.predict(scaled)) > 0.98


def test_the_validation_accuracies_are_those_of_regressions_on_four_fifths():
    x, y = make(1000, 10)
    chosen = LinearProbe(5).fit(x, y).chosen_
    held_out = stratified_rows(y, 200, 5)
    fitted = np.setdiff1d(np.arange(1000), held_out)
    assert chosen["n_validation"] == 200
    assert set(chosen["tried"]) == {"standardised", "one scale"}
    best = {}
    for scaling, tried in chosen["tried"].items():
        scaled, _ = scaled_as(scaling, x, x)
        assert tried["grid"] == list(linear_probes.PENALTIES[: len(tried["grid"])])
        for penalty, found in zip(tried["grid"], tried["validation_accuracies"], strict=True):
            theirs = LogisticRegression(C=1 / (penalty * 800), tol=1e-8, max_iter=20_000)
            expected = theirs.fit(scaled[fitted], y[fitted]).score(scaled[held_out], y[held_out])
            assert found == pytest.approx(expected, abs=2 / 200)
        best[scaling] = max(tried["validation_accuracies"])
    winner = chosen["tried"][chosen["scaling"]]
    assert best[chosen["scaling"]] == max(best.values())
    assert winner["validation_accuracies"][winner["grid"].index(chosen["winner"])] == max(
        best.values()
    )


@pytest.mark.parametrize("factor", [1, 6e-9])
@pytest.mark.parametrize(
    ("telling", "rest", "n_rest", "scaling"),
    [(1, 1e-3, 3000, "one scale"), (1e-5, 1, 10, "standardised")],
    ids=["few strong features tell", "few faint features tell"],
)
def test_the_probe_takes_the_scaling_that_suits_unequal_features(
    telling, rest, n_rest, scaling, factor
):
    x, y = make_unequal(260, telling, rest, n_rest)
    x = (factor * x).astype(np.float32)
    (x, z), (y, w) = np.split(x, [160]), np.split(y, [160])
    probe = LinearProbe(0).fit(x, y)
    assert probe.chosen_["scaling"] == scaling
    scores = {}
    for one in ("one scale", "standardised"):
        here, there = scaled_as(one, x.astype(np.float64), z.astype(np.float64))
        scores[one] = max(
            LogisticRegression(C=1 / (penalty * 160), max_iter=2000).fit(here, y).score(there, w)
            for penalty in linear_probes.PENALTIES[::3]
        )
    (other,) = set(scores) - {scaling}
    assert scores[scaling] > scores[other] + 0.1
    assert probe.score(z, w) > scores[scaling] - 0.05


@pytest.mark.parametrize(("scale", "origin"), [(6e-9, 0), (1e6, 0), (1, 100)])
def test_the_scale_and_the_origin_of_features_do_not_matter_to_the_probe(scale, origin):
    x, y = make(400, 10)
    expected = LinearProbe(0).fit(x.astype(np.float32), y).predict(x)
    x = (scale * x + origin).astype(np.float32)
    assert np.mean(LinearProbe(0).fit(x, y).predict(x) == expected) > 0.98


def test_a_constant_feature_means_nothing_to_the_probe():
    x, y = make(400, 10, dtype=np.float32)
    x[:, 3] = 0.1
    probe = LinearProbe(0).fit(x, y)
    moved = x.copy()
    moved[:, 3] = 1e6
    np.testing.assert_array_equal(probe.decision_function(x), probe.decision_function(moved))


def test_the_probe_is_plain_l_bfgs_with_very_many_features(monkeypatch):
    x, y = make(400, 10)
    expected = LinearProbe(0).fit(x, y)
    monkeypatch.setattr(linear_probes, "MOST_FEATURES", 5)
    found = LinearProbe(0).fit(x, y)
    assert np.mean(found.predict(x) == expected.predict(x)) > 0.98


def test_the_probe_takes_a_class_of_one_image_and_refuses_what_it_cannot_choose_with():
    x, y = make(300, 6)
    y[y == 0] = 1
    y[0] = 0
    assert LinearProbe(0).fit(x, y).decision_function(x).shape == (300, 4)
    for rows in (np.flatnonzero(y == 1), np.array([0, np.argmax(y == 2)])):
        with pytest.raises(ValueError, match="one class, or too few"):
            LinearProbe(0).fit(x[rows], y[rows])


def test_a_winner_at_the_end_of_the_grid_is_told(monkeypatch, caplog):
    x, y = make(300, 6)
    monkeypatch.setattr(linear_probes, "PENALTIES", (0.01,))
    assert LinearProbe(0).fit(x, y).chosen_["winner"] == 0.01
    assert "0.01, is at the end of the grid" in caplog.text


def test_the_probe_s_validation_images_share_no_group_with_those_that_are_fitted():
    # The groups tell the class of their images by a feature of their own; what all groups share
    # tells nothing. Fits that have seen an image of each group are right about its others.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    y = groups % 2
    x = np.eye(40)[groups] + rng.normal(0, 0.01, (400, 40))
    apart = LinearProbe(0).fit(x, y, groups).chosen_
    mixed = LinearProbe(0).fit(x, y).chosen_
    assert apart["n_validation"] == mixed["n_validation"] == 80
    best = [
        max(max(one["validation_accuracies"]) for one in chosen["tried"].values())
        for chosen in (apart, mixed)
    ]
    assert best[0] < 0.7 and best[1] == 1


def test_images_of_one_group_cannot_choose_a_penalty():
    x, y = np.arange(20.0)[:, None], np.arange(20) % 2
    with pytest.raises(ValueError, match="all images are of one group"):
        LinearProbe(0).fit(x, y, np.zeros(20))
