"""Classifiers on stored features against scikit-learn called directly."""

import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from collapseflow.features.stores import write_store
from collapseflow.images.datasets import held_out_rows, stratified_rows
from collapseflow.measures import linear_probes, probes
from collapseflow.measures.confusion import balanced_accuracy
from collapseflow.measures.intervals import effective_share, wilson_interval
from collapseflow.measures.paired import unpack
from collapseflow.measures.probes import (
    build_classifier,
    evaluate,
    evaluate_all,
    held_by_penalty,
    suit_solver,
)
from collapseflow.running.errors import UserError

#: scikit-learn-intelex grows other trees: three standard errors of 400 test images.
OTHER_FOREST = 3 * 0.5 / np.sqrt(400)
LOGISTIC = "collapseflow.LogisticRegression"


@pytest.fixture(scope="module")
def blobs():
    """Overlapping classes of different sizes; the last feature is useless and very large."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, 8))
    parts = []
    for n in (240, 400):
        labels = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        features = means[labels] + rng.normal(size=(n, 8)) * 1.2
        features[:, -1] = rng.normal(size=n) * 3000
        parts.append((features.astype(np.float32), labels))
    return parts


@pytest.fixture
def paths(blobs, make_store):
    return tuple(
        make_store(*part, name=name) for part, name in zip(blobs, ("a.h5", "b.h5"), strict=True)
    )


def run(paths, estimator=LOGISTIC, parameters=None, scaling="none", n_train=None, seed=0):
    return evaluate(*paths, estimator, parameters or {}, scaling, n_train, seed, threads=1)


@pytest.mark.parametrize(
    ("estimator", "parameters", "direct"),
    [
        # With features of such different sizes scikit-learn's lbfgs does not come to the end.
        (LOGISTIC, {"C": 0.1}, LogisticRegression(C=0.1, solver="newton-cg", tol=1e-8)),
        ("collapseflow.LinearSVC", {"dual": False}, LinearSVC(dual=False, random_state=4)),
        (
            "collapseflow.LinearDiscriminantAnalysis",
            {},
            LinearDiscriminantAnalysis(),
        ),
        (
            "collapseflow.RandomForestClassifier",
            {"n_estimators": 20},
            RandomForestClassifier(20, random_state=4),
        ),
        ("sklearn.neighbors.KNeighborsClassifier", {}, KNeighborsClassifier()),
    ],
    ids=["logistic", "svm", "lda", "forest", "neighbours"],
)
@pytest.mark.parametrize("scaling", ["none", "standard"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_accuracy_equals_scikit_learn_s(blobs, paths, estimator, parameters, direct, scaling):
    (x, y), (x_test, y_test) = blobs
    if scaling == "standard":
        scaler = StandardScaler().fit(x)
        x, x_test = scaler.transform(x), scaler.transform(x_test)
    expected = direct.fit(x.astype(np.float64), y).score(x_test.astype(np.float64), y_test)
    found = run(paths, estimator, parameters, scaling, seed=4)
    if found["implementation"].startswith("scikit-learn-intelex"):
        assert estimator.endswith("RandomForestClassifier")
        assert found["accuracy"] == pytest.approx(expected, abs=OTHER_FOREST)
    else:
        ours = estimator in (LOGISTIC, "collapseflow.LinearSVC")
        library = "collapseflow" if ours else "scikit-learn"
        assert found["accuracy"] == expected
        assert found["implementation"] == f"{library} {version(library)}"
    assert 0.3 < expected < 1
    assert (found["n_train"], found["n_test"], found["n_features"]) == (240, 400, 8)
    assert tuple(found["accuracy_interval"]) == wilson_interval(found["accuracy"], 400)


def test_without_the_faster_library_scikit_learn_s_forest_is_grown(blobs, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearnex.ensemble", None)
    (x, y), test = blobs
    expected = RandomForestClassifier(20, random_state=4).fit(x, y).score(*test)
    found = run(paths, "collapseflow.RandomForestClassifier", {"n_estimators": 20}, seed=4)
    assert found["accuracy"] == expected
    assert found["implementation"] == f"scikit-learn {version('scikit-learn')}"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("collapseflow.LinearSVC", {"dual": False}),
        ("collapseflow.RandomForestClassifier", {}),
    ],
)
def test_the_number_of_threads_changes_nothing(paths, name, parameters):
    found = [
        evaluate(*paths, name, parameters, "standard", None, seed=3, threads=threads)["accuracy"]
        for threads in (1, 2)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "parameters", "cls"),
    [
        ("sklearn.linear_model.LogisticRegression", {"C": 2.0}, LogisticRegression),
        ("sklearn.svm.LinearSVC", {"dual": False}, LinearSVC),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 5}, RandomForestClassifier),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_named_is_what_runs(paths, name, parameters, cls, monkeypatch):
    fitted = []
    real = cls.fit

    def fit(self, *arguments, **keywords):
        fitted.append((type(self), self.get_params()))
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(cls, "fit", fit)
    found = run(paths, name, parameters)
    assert found["implementation"] == f"scikit-learn {version('scikit-learn')}"
    (kind, given), *more = fitted
    assert kind is cls and not more
    assert {key: given[key] for key in parameters} == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (LOGISTIC, {"solver": "saga"}),
        (LOGISTIC, {"class_weight": "balanced"}),
        (LOGISTIC, {"fit_intercept": False}),
        ("collapseflow.LinearSVC", {"dual": True}),
        ("collapseflow.LinearSVC", {"dual": "auto"}),
        ("collapseflow.LinearSVC", {"penalty": "l1"}),
        ("collapseflow.LinearSVC", {"class_weight": {3: 10.0}}),
        ("collapseflow.LinearSVC", {"multi_class": "crammer_singer"}),
        ("collapseflow.LinearSVC", {"C": 0.01, "fit_intercept": False}),
    ],
)
def test_what_the_package_s_own_solvers_do_not_take_is_refused(name, parameters):
    with pytest.raises(UserError, match=r"takes C, tol and max_iter; .* estimator sklearn\.\w+\.L"):
        build_classifier(name, parameters, "none", 0, 1)


def test_a_forest_that_the_faster_library_cannot_grow_is_scikit_learn_s(blobs, paths):
    (x, y), test = blobs
    parameters = {"n_estimators": 20, "criterion": "entropy"}
    expected = RandomForestClassifier(**parameters, random_state=4).fit(x, y).score(*test)
    found = run(paths, "collapseflow.RandomForestClassifier", parameters, seed=4)
    assert found["accuracy"] == expected
    assert found["implementation"] == f"scikit-learn {version('scikit-learn')}"


def test_lda_takes_its_fast_solver_only_with_many_samples():
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(3, 60)) * 0.5
    for n, solver in ((60, "svd"), (120, "lsqr")):
        classifier = LinearDiscriminantAnalysis()
        suit_solver(classifier, n, 60)
        assert classifier.solver == solver
        y = np.arange(n) % 3
        x, z = (centres[y] + rng.normal(size=(n, 60)) for _ in range(2))
        # A constant feature, as the border of every digit is.
        x[:, 7] = z[:, 7] = 0
        expected = LinearDiscriminantAnalysis().fit(x, y).predict(z)
        np.testing.assert_array_equal(classifier.fit(x, y).predict(z), expected)


@pytest.mark.parametrize(
    ("name", "parameters", "solver"),
    [
        ("collapseflow.LinearDiscriminantAnalysis", {}, "lsqr"),
        ("collapseflow.LinearDiscriminantAnalysis", {"solver": "svd"}, "svd"),
        ("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", {}, "svd"),
    ],
)
def test_a_solver_that_was_named_is_taken(paths, monkeypatch, name, parameters, solver):
    solvers = []
    real = LinearDiscriminantAnalysis.fit

    def fit(self, *arguments):
        solvers.append(self.solver)
        return real(self, *arguments)

    monkeypatch.setattr(LinearDiscriminantAnalysis, "fit", fit)
    run(paths, name, parameters)
    assert solvers == [solver]


def test_scaling_helps_neighbours_where_one_feature_is_large_and_useless(paths):
    estimator = "sklearn.neighbors.KNeighborsClassifier"
    plain, scaled = (run(paths, estimator, scaling=s)["accuracy"] for s in ("none", "standard"))
    assert scaled > plain + 0.1


def test_n_train_takes_a_stratified_sample(blobs, paths):
    (x, y), (x_test, y_test) = blobs
    rows = stratified_rows(y, 60, seed=9)
    direct = KNeighborsClassifier(1).fit(x[rows], y[rows]).score(x_test, y_test)
    found = run(
        paths, "sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 1}, n_train=60, seed=9
    )
    assert found["n_train"] == 60
    assert found["accuracy"] == direct


def test_n_train_beyond_the_store_is_refused(paths):
    with pytest.raises(UserError, match="241.*240"):
        run(paths, n_train=241)


def test_a_fit_that_was_stopped_did_not_converge(paths):
    found = run(paths, parameters={"max_iter": 1}, scaling="standard")
    assert found["converged"] is False
    assert found["iterations"] == 1


@pytest.mark.parametrize(
    ("estimator", "solver"),
    [(LOGISTIC, "lbfgs"), ("sklearn.linear_model.LogisticRegression", "newton-cg")],
)
def test_a_fit_that_ended_by_itself_converged(paths, estimator, solver):
    parameters = {"max_iter": 1000, "solver": solver}
    found = run(paths, estimator, parameters, scaling="standard")
    assert found["converged"] is True
    assert 1 < found["iterations"] < 1000


@pytest.mark.parametrize(
    "estimator",
    [
        "collapseflow.LinearDiscriminantAnalysis",
        "collapseflow.RandomForestClassifier",
    ],
)
def test_what_does_not_iterate_neither_converged_nor_failed(paths, estimator):
    found = run(paths, estimator)
    assert found["converged"] is None
    assert found["iterations"] is None


def test_the_interval_of_one_half_of_a_hundred_by_hand():
    # z = 1.96: centre 1/2, half width z / (1 + z^2 / 100) * sqrt(1 / 400 + z^2 / 40000).
    low, high = wilson_interval(0.5, 100)
    assert low == pytest.approx(0.4038, abs=5e-5)
    assert high == pytest.approx(0.5962, abs=5e-5)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 3), (97, 100), (9512, 10_000)])
def test_the_interval_solves_wilson_s_equation(k, n):
    # Its ends are the true shares q from which k / n is 1.96 standard errors away: a quadratic.
    z = 1.959963984540054
    ends = np.roots([n + z * z, -(2 * k + z * z), k * k / n])
    found = wilson_interval(k / n, n)
    assert found == pytest.approx(sorted(ends.real), abs=1e-9)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ("sklearn.no_such_module.Classifier", "cannot be imported"),
        ("sklearn.linear_model.LogisticRegresion", "cannot be imported"),
        ("sklearn.svm", "no classifier"),
        ("sklearn.linear_model.LinearRegression", "no classifier"),
        ("sklearn.preprocessing.StandardScaler", "no classifier"),
        ("sklearn.model_selection.train_test_split", "no classifier"),
        ("sklearn.ensemble.VotingClassifier", "is made of other classifiers, which a study file"),
        ("sklearn.multiclass.OneVsRestClassifier", "is made of other classifiers, which a study"),
    ],
)
def test_what_is_no_classifier_is_refused(estimator, message):
    with pytest.raises(UserError, match=message) as caught:
        build_classifier(estimator, {}, "none", seed=0, threads=1)
    assert str(caught.value).startswith(f"estimator: '{estimator}'")


def test_an_unknown_parameter_is_refused_with_those_allowed():
    with pytest.raises(UserError, match="LogisticRegression has no 'D'; allowed: C, .*tol"):
        build_classifier(LOGISTIC, {"C": 1.0, "D": 2}, "none", seed=0, threads=1)


@pytest.mark.parametrize("parameters", [{"C": -1.0}, {"solver": "newton"}, {"max_iter": "many"}])
def test_a_value_that_scikit_learn_refuses_is_refused_before_any_fit(parameters):
    (key,) = parameters
    with pytest.raises(UserError, match=f"parameters: .*'{key}' parameter"):
        build_classifier(LOGISTIC, parameters, "none", seed=0, threads=1)


def test_seed_and_threads_reach_the_classifier_unless_it_is_told_otherwise():
    forest = "collapseflow.RandomForestClassifier"
    classifier = build_classifier(forest, {}, "none", seed=11, threads=3)[-1]
    assert (classifier.random_state, classifier.n_jobs) == (11, 3)
    classifier = build_classifier(forest, {"random_state": 2}, "none", seed=11, threads=3)[-1]
    assert classifier.random_state == 2


def test_standardisation_is_a_step_of_its_own():
    pipeline = build_classifier(LOGISTIC, {}, "standard", seed=0, threads=1)
    assert isinstance(pipeline[0], StandardScaler) and len(pipeline) == 2
    assert isinstance(pipeline[1], LogisticRegression)
    assert len(build_classifier(LOGISTIC, {}, "none", seed=0, threads=1)) == 1


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["Linear", "Quadratic"])
def test_a_classifier_that_constant_features_cannot_fit_says_so_in_one_line(
    make_store, value, kind
):
    stores = make_store(np.full((40, 6), value, np.float32), np.arange(40) % 4)
    estimator = f"sklearn.discriminant_analysis.{kind}DiscriminantAnalysis"
    cell = run((stores, stores), estimator)
    assert cell.keys() == {"failed"}
    assert cell["failed"].startswith("cannot be fitted: ") and "\n" not in cell["failed"]


def test_constant_features_of_which_a_classifier_knows_the_classes_shares_only(make_store):
    labels = np.array([0] * 30 + [1] * 10)
    stores = make_store(np.full((40, 6), 0.5, np.float32), labels)
    for estimator in (LOGISTIC, "collapseflow.RandomForestClassifier"):
        assert run((stores, stores), estimator)["accuracy"] == 0.75


# --- several classifiers ----------------------------------------------------------------------

NEIGHBOURS = "sklearn.neighbors.KNeighborsClassifier"
SEVERAL = {
    "lda": {
        "estimator": "collapseflow.LinearDiscriminantAnalysis",
        "parameters": {},
        "scaling": "none",
        "n_train": None,
    },
    "knn": {
        "estimator": NEIGHBOURS,
        "parameters": {"n_neighbors": 3},
        "scaling": "standard",
        "n_train": 100,
    },
    "rf": {
        "estimator": "collapseflow.RandomForestClassifier",
        "parameters": {"n_estimators": 10},
        "scaling": "none",
        "n_train": None,
    },
}


def run_all(paths, folder, classifiers=SEVERAL, seed=4, threads=1, code="0" * 16):
    return evaluate_all(*paths, classifiers, seed, threads, folder / "progress", code)


@pytest.fixture
def fitted(monkeypatch):
    """The estimators that were fitted, in order."""
    estimators = []

    def count(train_store, test_store, estimator, *arguments, **others):
        estimators.append(estimator.rsplit(".", 1)[1])
        return evaluate(train_store, test_store, estimator, *arguments, **others)

    monkeypatch.setattr(probes, "evaluate", count)
    return estimators


ALL = ["LinearDiscriminantAnalysis", "KNeighborsClassifier", "RandomForestClassifier"]


def test_several_classifiers_equal_scikit_learn_each(blobs, paths, tmp_path):
    (x, y), (x_test, y_test) = blobs
    cells = run_all(paths, tmp_path)
    assert list(cells) == ["lda", "knn", "rf"]
    rows = stratified_rows(y, 100, seed=4)
    scaler = StandardScaler().fit(x[rows])
    neighbours = KNeighborsClassifier(3).fit(scaler.transform(x[rows]), y[rows])
    expected = {
        "lda": LinearDiscriminantAnalysis().fit(x, y).score(x_test, y_test),
        "knn": neighbours.score(scaler.transform(x_test), y_test),
        "rf": RandomForestClassifier(10, random_state=4).fit(x, y).score(x_test, y_test),
    }
    found = {name: cell["accuracy"] for name, cell in cells.items()}
    assert found.pop("rf") == pytest.approx(expected["rf"], abs=OTHER_FOREST)
    assert found == {name: expected[name] for name in ("lda", "knn")}
    assert len(set(expected.values())) == 3
    assert {name: cell["n_train"] for name, cell in cells.items()} == {
        "lda": 240,
        "knn": 100,
        "rf": 240,
    }


def as_json(cells):
    return json.loads(json.dumps(cells))


def test_finished_classifiers_are_not_fitted_again(paths, tmp_path, fitted):
    cells = run_all(paths, tmp_path)
    assert fitted == ALL
    # Run times and all, as a file of JSON holds them.
    assert as_json(run_all(paths, tmp_path, threads=2)) == as_json(cells)
    assert fitted == ALL


def test_an_interrupted_call_goes_on_with_the_classifier_that_is_missing(
    paths, tmp_path, fitted, monkeypatch
):
    count = probes.evaluate

    def interrupted(train_store, test_store, estimator, *arguments, **others):
        if estimator == NEIGHBOURS:
            raise KeyboardInterrupt
        return count(train_store, test_store, estimator, *arguments, **others)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(probes, "evaluate", interrupted)
        run_all(paths, tmp_path)
    assert fitted == ALL[:1]
    cells = run_all(paths, tmp_path)
    assert fitted == ALL
    fresh = run_all(paths, tmp_path / "fresh")
    for name, cell in fresh.items():
        assert cells[name]["accuracy"] == cell["accuracy"]
        assert tuple(cells[name]["accuracy_interval"]) == tuple(cell["accuracy_interval"])


@pytest.mark.parametrize(
    "change",
    [{"parameters": {"n_neighbors": 5}}, {"scaling": "none"}, {"n_train": 101}],
    ids=["parameters", "scaling", "n_train"],
)
def test_a_changed_classifier_is_fitted_again_and_no_other(paths, tmp_path, fitted, change):
    before = run_all(paths, tmp_path)
    classifiers = {**SEVERAL, "knn": SEVERAL["knn"] | change}
    cells = run_all(paths, tmp_path, classifiers)
    assert fitted == [*ALL, "KNeighborsClassifier"]
    expected = evaluate(*paths, **classifiers["knn"], seed=4, threads=1)
    assert cells["knn"]["accuracy"] == expected["accuracy"] != before["knn"]["accuracy"]
    assert cells["lda"]["accuracy"] == before["lda"]["accuracy"]


def test_a_classifier_more_is_fitted_alone_and_one_less_is_not_asked_for(paths, tmp_path, fitted):
    two = {name: SEVERAL[name] for name in ("lda", "rf")}
    run_all(paths, tmp_path, two)
    assert list(run_all(paths, tmp_path)) == ["lda", "knn", "rf"]
    assert fitted == [ALL[0], ALL[2], ALL[1]]
    assert list(run_all(paths, tmp_path, two)) == ["lda", "rf"]
    assert len(fitted) == 3


@pytest.mark.parametrize("which", [0, 1], ids=["training", "test"])
def test_changed_features_fit_all_classifiers_again(
    blobs, paths, tmp_path, make_store, fitted, which
):
    before = run_all(paths, tmp_path)
    features, labels = blobs[which]
    changed = features[:, ::-1] * np.float32(0.5) + np.roll(features, 1, axis=0)
    assert make_store(changed, labels, name=paths[which].name) == paths[which]
    cells = run_all(paths, tmp_path)
    assert fitted == [*ALL, *ALL]
    assert all(cells[name]["accuracy"] != before[name]["accuracy"] for name in SEVERAL)


def test_the_same_features_in_another_file_fit_nothing_again(
    blobs, paths, tmp_path, make_store, fitted
):
    run_all(paths, tmp_path)
    moved = [make_store(*part, name=f"moved{n}.h5") for n, part in enumerate(blobs)]
    run_all(moved, tmp_path)
    assert fitted == ALL


@pytest.mark.parametrize("change", [{"seed": 5}, {"code": "1" * 16}], ids=["seed", "code"])
def test_another_seed_or_other_code_fits_all_classifiers_again(paths, tmp_path, fitted, change):
    run_all(paths, tmp_path)
    run_all(paths, tmp_path, **change)
    assert fitted == [*ALL, *ALL]


def test_every_classifier_is_told_on_the_screen(paths, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cells = run_all(paths, tmp_path)
    said = [r.getMessage() for r in caplog.records if getattr(r, "progress", False)]
    assert said == [
        f"classifier {n} of 3, {name}: {100 * cells[name]['accuracy']:.2f} % of the test images"
        for n, name in enumerate(SEVERAL, start=1)
    ]


def test_what_cannot_be_fitted_keeps_no_other_from_being(make_store, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    store = make_store(np.full((40, 6), 0.5, np.float32), np.arange(40) % 4)
    lda = "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"
    several = {"first": {**SEVERAL["lda"], "estimator": lda}, "second": SEVERAL["rf"]}
    cells = run_all((store, store), tmp_path, several)
    assert cells["first"].keys() == {"failed"}
    assert cells["second"]["accuracy"] == 0.25
    assert f"classifier 1 of 2, first: {cells['first']['failed']}" in caplog.messages
    assert run_all((store, store), tmp_path, several)["first"] == cells["first"]


# --- what a cell says of itself ---------------------------------------------------------------


def test_a_cell_tells_which_test_images_are_right(blobs, paths):
    (x, y), (z, w) = blobs
    cell = run(paths, NEIGHBOURS, {"n_neighbors": 1})
    predicted = KNeighborsClassifier(1).fit(x, y).predict(z)
    np.testing.assert_array_equal(unpack(cell["correct"], 400), predicted == w)
    mistaken_for = [int(p) for p, own in zip(predicted, w, strict=True) if p != own]
    assert cell["mistaken_for"] == mistaken_for and mistaken_for
    assert cell["chosen"] is None


def test_a_cell_counts_what_is_taken_for_what(blobs, make_store):
    """Over all classes up to the largest label of both splits."""
    (x, y), (z, w) = blobs
    few = w < 3
    paths = [make_store(x, y + 1, name="a.h5"), make_store(z[few], w[few] + 1, name="b.h5")]
    cell = run(paths, NEIGHBOURS, {"n_neighbors": 1})
    predicted = KNeighborsClassifier(1).fit(x, y).predict(z[few])
    expected = confusion_matrix(w[few] + 1, predicted + 1, labels=range(5))
    np.testing.assert_array_equal(cell["confusion"], expected)


@pytest.mark.parametrize("scale", [1.0, 6e-9])
def test_unscaled_regression_on_tiny_features_is_flagged_and_the_probe_is_not(make_store, scale):
    rng = np.random.default_rng(0)
    stores = []
    for n, name in ((300, "a.h5"), (200, "b.h5")):
        labels = np.arange(n) % 4
        features = scale * (3 * np.eye(8)[labels] + rng.normal(size=(n, 8)))
        stores.append(make_store(features.astype(np.float32), labels, name=name))
    flagged = [] if scale == 1 else ["guessing", "penalty"]
    for estimator in (LOGISTIC, "sklearn.linear_model.LogisticRegression"):
        cell = run(stores, estimator)
        assert cell["flags"] == flagged
    for name in ("LinearSVC", "LinearProbe", "NearestNeighbors", "NearestClassMean"):
        cell = run(stores, f"collapseflow.{name}")
        held = name == "LinearSVC" and scale != 1
        assert ("penalty" in cell["flags"]) == held
        if not held:
            assert cell["flags"] == [] and cell["accuracy"] > 0.85
        assert cell["implementation"] == f"collapseflow {version('collapseflow')}"
        assert (cell["chosen"] is not None) == (name == "LinearProbe")


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression, LinearSVC, lambda C: LinearSVC(C=C, loss="hinge", max_iter=100_000)],
    ids=["logistic", "squared hinge", "hinge"],
)
def test_a_penalty_holds_the_weights_where_it_is_strong(estimator, n_classes):
    rng = np.random.default_rng(1)
    y = rng.choice(n_classes, 400, p=(p := np.arange(1, n_classes + 1)) / p.sum())
    x = 3 * np.eye(5)[y] + rng.normal(size=(400, 5))
    for C, expected in ((1e-7, True), (1.0, False)):
        pipeline = make_pipeline(estimator(C=C)).fit(x, y)
        assert held_by_penalty(pipeline, x, y) == expected


def test_every_classifier_of_this_package_is_explained():
    page = (Path(__file__).parents[2] / "config" / "README.md").read_text(encoding="utf-8")
    missing = [name for name in probes.OWN if f"`{name}`" not in page]
    assert not missing, f"config/README.md does not explain {missing}"


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_the_probe_is_told_the_groups_of_the_images_that_it_is_fitted_to(
    tmp_path, provenance, monkeypatch, scaling
):
    rng = np.random.default_rng(0)
    x, y, groups = (
        rng.normal(size=(60, 3)).astype(np.float32),
        np.arange(60) % 2,
        np.arange(60) // 5,
    )
    path = tmp_path / "store.h5"
    write_store(path, [(x, None)], y, np.arange(60), provenance, groups)
    told = []

    def recorded(labels, n, seed, groups):
        told.append(groups)
        return held_out_rows(labels, n, seed, groups)

    monkeypatch.setattr(linear_probes, "held_out_rows", recorded)
    for n_train in (None, 40):
        for estimator in ("collapseflow.LinearProbe", "collapseflow.NearestClassMean"):
            found = evaluate(path, path, estimator, {}, scaling, n_train, 0, 1)
            assert "failed" not in found
    # Intervals are over the groups of the test images, which tables are told.
    right = unpack(found["correct"], 60)
    ends = wilson_interval(right.mean(), 60, effective_share(groups, right))
    assert tuple(found["accuracy_interval"]) == pytest.approx(ends)
    by_class = effective_share(groups, right, y)
    assert found["balanced_interval"] == pytest.approx(
        balanced_accuracy(np.array(found["confusion"]), by_class)[1:]
    )
    assert found["groups"] == groups.tolist() and by_class < 1
    rows = stratified_rows(y, 40, 0)
    assert [one.tolist() for one in told] == [groups.tolist(), groups[rows].tolist()]
