"""Targets of the command line that a study does not have end in one line."""

import subprocess
import sys

import pytest

from collapseflow.running.errors import UserError
from collapseflow.study.plan import Plan
from collapseflow.study.products import everything
from collapseflow.study.schema import load
from collapseflow.study.targets import refuse_unknown

DIGITS = {"source": "digits"}
RESNET = {"model": "resnet18", "image_size": 32, "weights": ["random"]}
NAMES = ["all", "fig1", "fig2", "table1"]
RUN = "net/random/decay/weight_decay=0.1/s0"


def plan(datasets=("digits",), **keys):
    datasets = dict.fromkeys(datasets, DIGITS)
    return Plan(load({"study": "toy", "datasets": datasets, **keys}))


@pytest.fixture(scope="module")
def toy():
    """A study with a sweep of two runs."""
    recipes = {"decay": {"epochs": 2, "weight_decay": [0, 0.1]}}
    return plan(backbones={"net": RESNET}, recipes=recipes)


def refuse(plan, *words):
    """Refuse what is neither a name nor a file of the plan; snakemake's rules stand aside."""
    made = {*NAMES, *everything(plan), "results/toy/summary.md"}
    for run in plan.runs.trainings:
        made |= {plan.files.statistics_of_run(run.dataset, run.path)}
        made |= {plan.files.training(run.dataset, run.path)}
    for dataset, features in plan.columns.shown:
        made |= {plan.files.features(dataset, features.folder)}
        made |= {plan.files.result("classification", dataset, features.path)}
    refuse_unknown(words, plan, NAMES, made.__contains__)


ALLOWED = "allowed: all, fig1, fig2, table1, and files below results/toy/"
UNKNOWN = {
    "tabel1": f"did you mean 'table1'? {ALLOWED}",
    "results/toy/figures/embedding_mnist.pdf": (
        f"did you mean 'results/toy/figures/embedding_digits.pdf'? {ALLOWED}"
    ),
    f"results/toy/statistics/digits/{RUN.replace('0.1', '0.2')}": (
        f"did you mean 'results/toy/statistics/digits/{RUN}'? {ALLOWED}"
    ),
    f"results/toy/training/digits/{RUN.replace('s0', 's1')}/weights": (
        f"did you mean 'results/toy/training/digits/{RUN}/weights'? {ALLOWED}"
    ),
    f"results/toy/features/digits/{RUN}/epoch003": (
        f"did you mean 'results/toy/features/digits/{RUN}/epoch002'? {ALLOWED}"
    ),
    f"results/toy/classification/digits/{RUN}/epoch002/fc.json": (
        f"did you mean 'results/toy/classification/digits/{RUN}/epoch002/penultimate.json'? "
        f"{ALLOWED}"
    ),
    "nothing/like.it": ALLOWED,
}


@pytest.mark.parametrize("target", UNKNOWN)
@pytest.mark.parametrize("words", [["TARGET"], ["-n", "--cores", "2", "all", "TARGET"]])
def test_a_target_that_is_not_made_is_refused_in_one_line(toy, target, words):
    with pytest.raises(UserError) as caught:
        refuse(toy, *[target if word == "TARGET" else word for word in words])
    line = f"{target}: is not made by the study toy; {UNKNOWN[target]}"
    assert str(caught.value) == line


def test_a_file_of_another_study_is_told_apart(toy):
    with pytest.raises(UserError) as caught:
        refuse(toy, "results/other/summary.md")
    assert str(caught.value) == (
        "results/other/summary.md: is not of the study toy, whose files are below results/toy/; "
        "another study's file goes behind --configfile"
    )


def test_the_stores_in_a_folder_of_features_are_no_targets(toy, tmp_path, monkeypatch):
    # They are there, but only their folder is made.
    monkeypatch.chdir(tmp_path)
    store = "results/toy/features/digits/raw/train.h5"
    (tmp_path / store).parent.mkdir(parents=True)
    (tmp_path / store).touch()
    with pytest.raises(UserError, match=r"did you mean 'results/toy/features/digits/raw'\?"):
        refuse(toy, store)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["all", "-n", "--cores", "2"],
        ["fig2", "results/toy/figures/sweep.pdf"],
        ["./results/toy/summary.md"],
        ["results//toy/summary.md"],
        [f"results/toy/statistics/digits/{RUN}"],
        [
            f"results/toy/features/digits/{RUN}/epoch002",
            f"results/toy/training/digits/{RUN}/weights",
        ],
        # Values of options are no targets.
        ["all", "--config", "seed=3", "--configfile", "some.yaml", "--cores", "2"],
        ["--configfile", "some.yaml", "--profile", "somewhere", "--", "all"],
    ],
)
def test_what_a_study_makes_is_accepted(toy, words):
    refuse(toy, *words)


def test_a_usual_command_line_does_not_wait_for_snakemake_s_parser():
    code = (
        "import sys\n"
        "from collapseflow.study.plan import Plan\n"
        "from collapseflow.study.schema import load\n"
        "from collapseflow.study.targets import refuse_unknown\n"
        "plan = Plan(load({'study': 'toy', 'datasets': {'d': {'source': 'digits'}}}))\n"
        "refuse_unknown(['fig1', '--cores', '8', '-n', '--config', 'seed=1'], plan, ['fig1'],\n"
        "               ['fig1'].__contains__)\n"
        "assert 'snakemake' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
