"""The list of tables and figures: complete, narrow, and the same names as ever."""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections import UserString
from importlib import import_module
from pathlib import Path

import pytest

from collapseflow import presentation
from collapseflow.presentation.figures.curves import RunFigure
from collapseflow.presentation.material import Material
from collapseflow.running.errors import UserError
from collapseflow.study.ingredients import COMPUTED, READS, SHOWS
from collapseflow.study.plan import Plan
from collapseflow.study.products import (
    PRODUCTS,
    SHOWN,
    TABLE,
    Place,
    comparison_tables,
    everything,
    small_results,
    target_files,
    target_names,
)
from collapseflow.study.schema import load

ENTRIES = pytest.mark.parametrize("product", PRODUCTS, ids=[p.rule for p in PRODUCTS])
PRESENTATION = Path(presentation.__file__).parent
DIGITS = {"source": "digits"}
#: The files of a figure.
FIGURE = ("pdf", "png", "txt")
RESNET = {"model": "resnet18", "label": "ResNet18", "image_size": 32, "weights": ["random"]}


def plan(datasets=("digits",), **keys):
    datasets = datasets if isinstance(datasets, dict) else dict.fromkeys(datasets, DIGITS)
    return Plan(load({"study": "toy", "datasets": datasets, **keys}))


# --- nothing is forgotten ---------------------------------------------------------------------


@ENTRIES
def test_what_an_entry_draws_with_exists(product):
    module, _, name = product.draw.rpartition(".")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        pytest.fail(f"{product.rule}: there is no function {product.draw}")
    assert list(inspect.signature(function).parameters) == ["material", "outputs"], product.draw


def names_used(function):
    """What a function takes of its material, itself or by :meth:`RunFigure.of`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    used = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "material"
    ]
    passed_on = sum(isinstance(n, ast.Name) and n.id == "material" for n in ast.walk(tree))
    of_runs = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "curves.RunFigure.of"
    ]
    words = "the material is passed on: pass on what is taken of it"
    assert passed_on == len(used) + len(of_runs), words
    return set(used) | (names_used(RunFigure.of) if of_runs else set())


@ENTRIES
def test_an_entry_names_what_its_function_takes_and_nothing_else(product):
    module, _, name = product.draw.rpartition(".")
    used = names_used(getattr(import_module(module), name))
    named = {*product.reads, *product.shows}
    assert not used - named, f"{product.rule}: takes what its entry does not name: {used - named}"
    # What jobs wait for need not be read itself.
    told = set(product.shows)
    assert not told - used, f"{product.rule}: is told what it does not take: {told - used}"


def test_every_function_that_draws_has_an_entry():
    functions = {
        f"collapseflow.presentation.{'.'.join(path.relative_to(PRESENTATION).with_suffix('').parts)}"
        f".{node.name}"
        for path in PRESENTATION.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and [argument.arg for argument in node.args.args] == ["material", "outputs"]
    }
    missing = functions - {product.draw for product in PRODUCTS}
    assert not missing, f"no entry of study/products.py draws with {missing}"


@ENTRIES
def test_what_a_reader_sees_has_all_its_words(product):
    assert product.message, f"{product.rule}: has no message"
    if SHOWN.keys() & set(product.makes):
        for name in ("section", "category", "label", "caption", "targets"):
            assert getattr(product, name), f"{product.rule}: has no {name}"
    assert product.in_caption <= set(product.shows), (
        f"{product.rule}: its caption says what it is not told"
    )


@ENTRIES
def test_an_entry_names_what_there_is(product):
    unknown = {*product.reads} - READS.keys() | {*product.shows} - SHOWS.keys()
    assert not unknown, f"{product.rule}: study/ingredients.py has no {unknown}"


def test_all_that_can_be_had_is_explained_and_used():
    explained = inspect.getdoc(Material).partition("Attributes")[2]
    lines = re.findall(r"^(\w+(?:, \w+)*)$", explained, flags=re.M)
    names = {name for line in lines for name in line.split(", ")}
    assert names == READS.keys() | SHOWS.keys()
    used = {name for product in PRODUCTS for name in (*product.reads, *product.shows)}
    assert used == names and set(COMPUTED) <= READS.keys()


def test_what_an_entry_does_not_name_is_refused_in_words():
    with pytest.raises(AttributeError, match="starts: is not named under reads or shows"):
        _ = Material(runs=[]).starts


def test_no_two_products_have_a_rule_or_a_file_in_common():
    rules = [product.rule for product in PRODUCTS]
    paths = [path for product in PRODUCTS for path in product.outputs(plan()).values()]
    assert len(set(rules)) == len(rules) and len(set(paths)) == len(paths)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "job", "files", "labels"),
    [
        (
            "plot_collapse",
            "plot_collapse/{dataset}",
            [f"figures/collapse_{{dataset}}.{suffix}" for suffix in FIGURE],
            {"figure": "measures per epoch", "data set": "{dataset}"},
        ),
        (
            "tabulate_collapse",
            "tabulate_collapse",
            [f"tables/collapse.{suffix}" for suffix in TABLE],
            {"table": "first and last epoch"},
        ),
        (
            "plot_geometry",
            "plot_geometry/{dataset}/{run}",
            [f"figures/geometry/{{dataset}}/{{run}}.{suffix}" for suffix in FIGURE],
            {"figure": "geometry of {run}", "data set": "{dataset}"},
        ),
        ("tabulate_training", "tabulate_training", ["tables/training.csv"], None),
        (
            "plot_confusion",
            "plot_confusion/{dataset}",
            [
                *(f"figures/confusion_{{dataset}}.{suffix}" for suffix in FIGURE),
                "tables/confusion_{dataset}.csv",
            ],
            {"figure": "confusion", "data set": "{dataset}"},
        ),
    ],
)
def test_rules_logs_files_and_labels_have_the_names_of_their_product(rule, job, files, labels):
    (product,) = [product for product in PRODUCTS if product.rule == rule]
    assert product.job == job
    assert list(product.outputs(plan()).values()) == files
    shown = [suffix for suffix in product.outputs(plan()) if suffix in SHOWN]
    assert [product.report_labels(suffix) for suffix in shown] == ([labels] if labels else [])


def test_a_study_may_ask_for_figures_as_svg_too():
    asking = plan(style={"formats": ["svg", "png", "pdf"]})
    found = {path for path in everything(asking) if "samples" in path}
    assert found == {f"results/toy/figures/samples_digits.{s}" for s in (*FIGURE, "svg")}
    # Of tables nothing changes.
    assert {Path(path).suffix for path in everything(asking) if "tables" in path} == {
        *(".csv", ".md", ".tex", ".json")
    }


def test_the_targets_are_those_of_the_documentation():
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \|.*\| `[^`|]*`.*\|$", page, flags=re.M)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"all"}
    assert set(target_names()) == explained, "the table of targets in README.md has others"


def test_targets_are_of_all_data_sets_or_of_one_by_its_place():
    two = plan(datasets=("one", "two"), backbones={"net": RESNET}, runs=[{"datasets": ["two"]}])
    assert [path for path in target_files("fig1", two) if path.endswith(".png")] == [
        "results/toy/figures/scattering_one.png",
        "results/toy/figures/scattering_two.png",
    ]
    for target, dataset in (("fig2", "one"), ("fig3", "two")):
        assert target_files(target, two) == [
            f"results/toy/figures/embedding_{dataset}.{suffix}" for suffix in FIGURE
        ]
    # Of those that have it.
    assert target_files("fig5", two)[1] == "results/toy/figures/collapse_two.png"
    of_run = "results/toy/figures/geometry/two/net/random/finetuned/s0.png"
    assert target_files("fig_geometry", two)[1] == of_run


@pytest.mark.parametrize(
    ("target", "keys", "line"),
    [
        ("fig2", {"features": []}, "this study compares no features there; it takes names under "
         "the key `features`"),
        ("fig3", {}, "this study has one data set only, and this target is of the second"),
        ("table2", {}, "this study has one data set only, and this target is of the second"),
        # There is a second one, of which nothing is compared.
        ("fig3", {"datasets": ["one", "two"], "features": []}, "this study compares no features "
         "there; it takes names under the key `features`"),
        ("fig4", {}, "this study trains no network; it takes backbones, and where the key `runs` "
         "is given, a selection there"),
        ("fig_confusion", {"features": []}, "this study compares no features there; it takes names "
         "under the key `features`"),
        ("table_comparison", {"features": ["raw"]}, "this study has one feature set only there, "
         "and nothing to compare it with"),
        ("table_comparison", {"features": []}, "this study compares no features there; it takes "
         "names under the key `features`"),
        ("fig_layers", {}, "no trained backbone of this study is read at several layers"),
        ("fig_similarity", {}, "this study does not ask for it; it takes similarity under the key "
         "`analyses`"),
        ("fig_similarity", {"analyses": ["similarity"]}, "no trained backbone of this study is "
         "read at several layers"),
        ("fig_sweep", {}, "no recipe of this study is run with several values of a list"),
        ("fig_sweep_map", {"backbones": {"net": RESNET}, "recipes": {"a": {"epochs": [1, 2]}}},
         "no recipe of this study is run with several values of two keys"),
        ("fig_variance", {}, "this study has no comparison of variances; it takes the key "
         "`variance`"),
    ],
)  # fmt: skip
def test_a_target_of_what_a_study_does_not_have_says_why(target, keys, line):
    with pytest.raises(UserError) as caught:
        target_files(target, plan(**keys))
    assert str(caught.value) == f"{target}: {line}"


def test_comparisons_are_those_of_the_data_sets_that_have_several_feature_sets():
    two = plan(datasets=("one", "two"), backbones={"net": RESNET}, runs=[{"datasets": ["two"]}])
    assert comparison_tables(two) == {
        name: f"results/toy/tables/comparison_{name}.csv" for name in ("one", "two")
    }
    assert comparison_tables(plan(features=["raw"])) == {}


# --- what jobs are told -----------------------------------------------------------------------


def told(study):
    """What the job of each product is told, by its rule and its place."""
    return {
        (product.rule, place): {
            **{name: SHOWS[name](study, place) for name in product.shows},
            **{name: READS[name](study, place) for name in product.reads},
        }
        for product in PRODUCTS
        for place in product.places(study)
    }


STUDY = {
    "backbones": {"net": {**RESNET, "layers": ["layer4", "penultimate"]}},
    "recipes": {
        "plain": {"epochs": 3},
        "decay": {"weight_decay": [0, 0.1], "batch_size": [16, 32], "epochs": 2},
    },
    "classifiers": {
        "lda": {"estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"},
        "linear": {"estimator": "collapseflow.LinearProbe"},
    },
    "analyses": ["few_shot", "similarity", "transfer"],
    "variance": {"dataset": "digits", "features": ["raw"]},
}
#: Drawn of all runs, with their labels.
OF_RUNS = {
    *("plot_accuracy_per_epoch", "plot_collapse", "plot_probes", "plot_training"),
    *("tabulate_collapse", "tabulate_training", "plot_transfer"),
}
OF_SOME = {"plot_layers", "plot_sweep", "plot_sweep_map", "tabulate_sweep"}


def label_of(key, **entry):
    """The study with another label somewhere."""
    name, *_ = entry
    return {**STUDY, key: {**STUDY[key], name: {**STUDY[key][name], "label": entry[name]}}}


CHANGES = {
    "style": (
        {**STUDY, "style": {"font_size": 9}},
        # The study has no vectors that were computed elsewhere.
        {product.rule for product in PRODUCTS if "png" in product.makes}
        - {"plot_vectors", "plot_similarity_of_vectors"},
    ),
    "label of a backbone": (
        label_of("backbones", net="Mine"),
        OF_RUNS
        | OF_SOME
        | {"plot_embedding", "tabulate_accuracy", "tabulate_comparison", "plot_confusion"}
        | {"plot_few_shot", "plot_geometry", "plot_similarity", "plot_transfer_matrix"},
    ),
    "label of a recipe that is not swept": (
        label_of("recipes", plain="Simple"),
        # Sweeps are of the other recipe.
        (OF_RUNS | OF_SOME | {"plot_geometry", "plot_similarity", "plot_embedding"})
        - {"plot_sweep", "plot_sweep_map", "tabulate_sweep"}
        | {"tabulate_accuracy", "tabulate_comparison", "plot_confusion", "plot_few_shot"},
    ),
    "label of a classifier": (
        label_of("classifiers", lda="LDA"),
        {"tabulate_accuracy", "tabulate_comparison"},
    ),
    "label of the classifier of confusions": (
        label_of("classifiers", linear="probe"),
        {"tabulate_accuracy", "tabulate_comparison", "plot_confusion"},
    ),
    "seed more": (
        {**STUDY, "seeds": [0, 1]},
        OF_RUNS
        | OF_SOME
        | {"plot_embedding", "tabulate_accuracy", "tabulate_comparison", "plot_confusion"}
        | {"plot_few_shot", "tabulate_runtime"},
    ),
    "recipes that figures show": (
        {**STUDY, "style": {"only": {"recipes": ["plain"]}}},
        {rule for rule in OF_RUNS | OF_SOME if rule.startswith("plot")},
    ),
    "splits that figures show": (
        {**STUDY, "style": {"only": {"splits": ["test"]}}},
        {"plot_accuracy_per_epoch", "plot_collapse", "plot_layers", "plot_sweep"},
    ),
    "measures that figures show": (
        {**STUDY, "style": {"only": {"measures": ["nc1"]}}},
        {"plot_collapse", "plot_layers", "plot_sweep", "plot_transfer"},
    ),
    "scattering": (
        {**STUDY, "scattering": {"J": 1, "L": 2, "order": 1}},
        {"plot_scattering"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_told_to_what_prints_it_and_to_nothing_else(change):
    keys, expected = CHANGES[change]
    before, after = told(plan(**STUDY)), told(plan(**keys))
    changed = {of[0] for of in before if before[of] != after[of]}
    assert changed == expected


def test_a_changed_label_of_a_data_set_leaves_the_figures_of_another():
    keys = {"datasets": {"one": DIGITS, "two": DIGITS}}
    relabelled = {"datasets": {"one": DIGITS, "two": {**DIGITS, "label": "Mine"}}}
    before, after = told(plan(**keys)), told(plan(**relabelled))
    changed = {place.dataset for (_, place), of in before.items() if after[_, place] != of}
    assert changed == {"two"}


def test_results_behind_the_page_are_those_that_products_read():
    made = plan(**STUDY)
    read = small_results(made)
    assert "results/toy/embeddings/digits/raw/train-sklearn.npz" in read
    assert "results/toy/similarity/digits/net/random/plain.json" in read
    assert not set(read) & set(everything(made))


def test_captions_say_what_figures_were_asked_to_show():
    only = {"recipes": ["plain"], "splits": ["test"], "measures": ["nc1", "cdnv"]}

    def caption_of(rule, **style):
        asked = plan(**STUDY, style=style)
        product = next(product for product in PRODUCTS if product.rule == rule)
        place = Place("digits")
        return product.caption_of({name: SHOWS[name](asked, place) for name in product.in_caption})

    collapse = caption_of("plot_collapse", only=only)
    assert "Of the recipes only these are shown, where the figure has them: plain." in collapse
    assert "Of the splits only these are shown, where the figure has them: test images." in collapse
    assert "Of the measures only these are shown, where the figure has them: NC1, CDNV." in collapse
    probes = caption_of("plot_probes", only=only)
    assert "Of the recipes only these" in probes and "Of the splits" not in probes
    assert "only these are shown" not in caption_of("plot_samples", only=only)
    assert "only these are shown" not in caption_of("plot_collapse")


# --- Snakemake --------------------------------------------------------------------------------


def test_snakemake_does_not_compare_captions():
    """A changed caption draws nothing anew: plain texts are compared, others are not."""
    persistence = pytest.importorskip("snakemake.persistence")
    compare = persistence.PersistenceBase._serialize_param_builtin
    assert compare(None, "a caption") == repr("a caption")
    assert compare(None, UserString("a caption")) is persistence.UNREPRESENTABLE


def test_reading_the_list_imports_nothing_that_draws():
    code = (
        "import sys, collapseflow.study.products\n"
        "print([name for name in ('matplotlib', 'torch') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[]"
