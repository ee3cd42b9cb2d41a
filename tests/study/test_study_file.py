"""Study files as text, and the command line that names them."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from collapseflow.running.errors import UserError
from collapseflow.study import file as study_file

ROOT = Path(__file__).parents[2]
GOOD = "study: toy\ndatasets:\n  digits: {source: digits}\n"


def refusal(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            f"{GOOD}seed: 1\ndatasets:\n  mnist: {{source: mnist}}\n",
            "my.yaml, line 5: the key datasets stands in line 2 already; allowed: each key once",
        ),
        (
            f"{GOOD}pretrain: {{epochs: 1, batch_size: 2, epochs: 3}}\n",
            "my.yaml, line 4: the key pretrain.epochs stands in line 4 already; "
            "allowed: each key once",
        ),
        (
            "a:\n  - {b: 1}\n  - b: 1\n    b: 2\n",
            "my.yaml, line 4: the key a.1.b stands in line 3 already; allowed: each key once",
        ),
        ("study: a\n\tseed: 1\n", "my.yaml, line 2: begins with a tab; allowed: spaces"),
        ("a:\n  b:\n  \tc: 1\n", "my.yaml, line 3: begins with a tab; allowed: spaces"),
        ("a:\n  - b\n\t- c\n", "my.yaml, line 3: begins with a tab; allowed: spaces"),
        (
            f"{GOOD}recipes:\n  no: {{epochs: 1}}\n",
            "my.yaml, line 5: YAML reads the key recipes.no as true or false; "
            'allowed: in quotes, "no"',
        ),
        (
            f"{GOOD}recipes: {{On: {{epochs: 1}}}}\n",
            "my.yaml, line 4: YAML reads the key recipes.On as true or false; "
            'allowed: in quotes, "On"',
        ),
        (
            f"{GOOD}seeds: [2026-13-45]\n",
            "my.yaml, line 4: YAML reads 2026-13-45, at seeds.0, as a date; allowed: in quotes, "
            '"2026-13-45"',
        ),
        (
            f"{GOOD}backbones: {{2026-01-05: {{}}}}\n",
            "my.yaml, line 4: YAML reads 2026-01-05, at backbones.2026-01-05, as a date; allowed: "
            'in quotes, "2026-01-05"',
        ),
        (
            f"{GOOD}seed: !!int one\n",
            "my.yaml, line 4: has the tag tag:yaml.org,2002:int; allowed: values without tags",
        ),
        (
            f"{GOOD}seed: 1{'0' * 16_000}\n",
            f"my.yaml, line 4: 1{'0' * 39}... has 16001 characters; allowed: up to 4000",
        ),
        (
            f"{GOOD}style: {'[' * 100_000}\n",
            "my.yaml, line 4: more than 20 values inside one another",
        ),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefgh")
            ),
            "my.yaml, line 6: more than 200000 values, each alias counted as what it stands for",
        ),
        (f"{GOOD}seeds: &a [*a]\n", "my.yaml, line 4: *a stands inside of what it stands for"),
        ("", "my.yaml: holds no keys; allowed: a study file (config/README.md)"),
        ("- a\n", "my.yaml: holds no keys; allowed: a study file (config/README.md)"),
    ],
)
def test_what_a_study_file_may_not_hold_is_one_line_with_its_place(
    tmp_path, monkeypatch, text, line
):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(text)
    assert refusal(study_file.read, "my.yaml") == line


def test_a_number_that_python_does_not_read_is_one_line(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(f"{GOOD}seed: 0x_\n")
    assert refusal(study_file.read, path).startswith(f"{path}: not YAML (")


@pytest.mark.parametrize(
    ("text", "number"),
    [("study: [a\nseed: 1\n", 2), ("a: b: c\n", 1)],
)
def test_what_is_no_yaml_is_one_line_with_its_place(tmp_path, text, number):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    assert refusal(study_file.read, path).startswith(f"{path}, line {number}: not YAML (")


def test_a_name_in_quotes_and_what_is_true_or_false_are_read(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(f'{GOOD}recipes: {{"no": {{nesterov: no}}}}\n')
    assert study_file.read(path)["recipes"] == {"no": {"nesterov": False}}


def test_a_file_that_is_no_text_is_one_line(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    line = f"{path}: no text in UTF-8; allowed: a study file in YAML"
    assert refusal(study_file.read, path) == line
    assert refusal(study_file.read, tmp_path).startswith(f"{tmp_path}: cannot be read (")


@pytest.mark.parametrize("file", ["config.yaml", "offline.yaml", "paper.yaml"])
def test_a_study_file_is_read_as_yaml_reads_it(file):
    path = ROOT / "config" / file
    assert study_file.read(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_merge_keys_and_anchors_are_no_repetition(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert study_file.read(path)["b"] == {"x": 3, "y": 2}


def test_nested_arguments_have_the_types_of_yaml():
    # As Snakemake hands them over: nested values are texts.
    config = {
        "seed": 3,
        "recipes": {"mine": {"epochs": "20", "batch_size": 64, "weight_decay": ["0", "2.0e-4"]}},
        "features": ["raw"],
        "datasets": {"digits": {"source": "digits", "subset": {"train": "100", "test": 50}}},
    }
    arguments = [
        "seed=3",
        "recipes={mine: {epochs: 20, weight_decay: [0, 2.0e-4]}}",
        "features=[raw]",
        "datasets={digits: {subset: {train: 100}}}",
    ]
    assert study_file.with_arguments(config, arguments) == {
        "seed": 3,
        "recipes": {"mine": {"epochs": 20, "batch_size": 64, "weight_decay": [0, 0.0002]}},
        "features": ["raw"],
        "datasets": {"digits": {"source": "digits", "subset": {"train": 100, "test": 50}}},
    }
    assert config["recipes"]["mine"]["epochs"] == "20"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["-n", "--configfile", "my.yaml", "fig2", "--cores", "2"],
            "fig2: no study file; what is to be made stands in front: "
            "snakemake fig2 --configfile my.yaml",
        ),
        (
            ["--configfile", "my.yaml", "results/toy/summary.md"],
            "results/toy/summary.md: no study file; what is to be made stands in front: "
            "snakemake results/toy/summary.md --configfile my.yaml",
        ),
        (
            ["fig2", "--configfile", "mi.yaml"],
            "mi.yaml: there is no such study file; did you mean 'my.yaml'?",
        ),
        (["--configfile", "nothing/like.it"], "nothing/like.it: there is no such study file"),
        (
            ["--configfiles", "my.yaml", "twice.yaml"],
            "twice.yaml, line 2: the key a stands in line 1 already; allowed: each key once",
        ),
        (
            ["--config", "seed=1", "recipes.mine.epochs=20"],
            "--config recipes.mine.epochs=20: write 'recipes={mine: {epochs: 20}}'",
        ),
        (
            ["-C", "datasets.digits.subset.train=20"],
            "--config datasets.digits.subset.train=20: "
            "write 'datasets={digits: {subset: {train: 20}}}'",
        ),
    ],
)
def test_a_command_line_that_snakemake_cannot_read_is_one_line(tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(GOOD)
    Path("twice.yaml").write_text("a: 1\na: 2\n")
    assert refusal(study_file.check_command_line, words) == line


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fig2", "-n", "--configfile", "my.yaml", "my.yaml", "--quiet"],
        ["--cores", "2", "--config", "seed=1", "--configfile", "my.yaml", "--", "fig2"],
    ],
)
def test_a_command_line_that_is_right_passes(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(GOOD)
    assert study_file.check_command_line(words) is None


def test_the_default_study_is_looked_at_where_no_other_is_given(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("a: 1\na: 2\n")
    line = refusal(study_file.check_command_line, ["-n", "--directory", str(tmp_path)])
    assert line.startswith(f"{tmp_path}/config/config.yaml, line 2: the key a ")


# --- through Snakemake itself -----------------------------------------------------------------

NETWORK = """\
backbones: {net: {model: resnet18, image_size: 32, weights: [random]}}
recipes: {mine: {epochs: 2, batch_size: 64, weight_decay: [0, 0.1]}}
"""


#: The runs of the study my.yaml, by their weight decay.
RUN = "net/random/mine/weight_decay={}/s0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with study files; what the libraries say of them is asked once."""
    path = tmp_path_factory.mktemp("studies")
    (path / "my.yaml").write_text(GOOD + NETWORK)
    (path / "plain.yaml").write_text(GOOD)
    (path / "twice.yaml").write_text("a: 1\na: 2\n")
    return path


def snakemake(folder, *words):
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", *words]
    command += ["--directory", folder, "--cores", "1"]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=folder
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["-n", "--configfile", "my.yaml", "fig2"],
            "fig2: no study file; what is to be made stands in front: "
            "snakemake fig2 --configfile my.yaml",
        ),
        (
            ["--configfile", "mi.yaml"],
            "mi.yaml: there is no such study file; did you mean 'my.yaml'?",
        ),
        (
            ["--configfile", "twice.yaml"],
            "twice.yaml, line 2: the key a stands in line 1 already; allowed: each key once",
        ),
        (
            ["results/toy/figures/embedding_mnist.pdf", "--configfile", "my.yaml"],
            "results/toy/figures/embedding_mnist.pdf: is not made by the study toy; did you mean "
            "'results/toy/figures/embedding_digits.pdf'? allowed: all, fig1, ",
        ),
        (
            ["-n", "fig_sample", "--configfile", "my.yaml"],
            "fig_sample: is not made by the study toy; did you mean 'fig_samples'? allowed: all, ",
        ),
        (
            ["results/toy/features/digits/net/random/s1/epoch000", "--configfile", "my.yaml"],
            "results/toy/features/digits/net/random/s1/epoch000: is not made by the study toy; did "
            "you mean 'results/toy/features/digits/net/random/s0/epoch000'? allowed: ",
        ),
        (
            [f"results/toy/statistics/digits/{RUN.format(0.2)}", "--configfile", "my.yaml"],
            f"results/toy/statistics/digits/{RUN.format(0.2)}: is not made by the study toy; "
            f"did you mean 'results/toy/statistics/digits/{RUN.format(0.1)}'? allowed: ",
        ),
        (
            [f"results/toy/features/digits/{RUN.format(0)}/epoch003", "--configfile", "my.yaml"],
            f"results/toy/features/digits/{RUN.format(0)}/epoch003: is not made by the study toy; "
            f"did you mean 'results/toy/features/digits/{RUN.format(0)}/epoch002'? allowed: ",
        ),
        (
            ["results/other/summary.md", "--configfile", "my.yaml"],
            "results/other/summary.md: is not of the study toy, whose files are below "
            "results/toy/; another study's file goes behind --configfile",
        ),
        (
            ["-n", "fig3", "--configfile", "my.yaml"],
            "fig3: this study has one data set only, and this target is of the second",
        ),
        (
            ["fig4", "--configfile", "plain.yaml"],
            "fig4: this study trains no network; it takes backbones, and where the key `runs` is "
            "given, a selection there",
        ),
        (
            ["table_variance", "--configfile", "my.yaml"],
            "table_variance: this study has no comparison of variances; it takes the key "
            "`variance`",
        ),
    ],
)
def test_what_cannot_be_made_ends_in_one_line(folder, words, line):
    answer = snakemake(folder, *words)
    text = answer.stdout + answer.stderr
    assert answer.returncode != 0
    assert text.rstrip().splitlines()[-1].startswith(line)
    assert "Traceback" not in text and "Exception" not in text
    # Nothing is locked, and nothing was begun.
    assert not list((folder / ".snakemake" / "locks").glob("*"))
    assert not (folder / "results").exists()


def test_a_nested_argument_changes_one_key(folder):
    words = [f"results/toy/features/digits/{RUN.format(0.1)}/epoch003", "-n"]
    words += ["--configfile", "my.yaml"]
    assert snakemake(folder, *words).returncode != 0
    answer = snakemake(folder, *words, "--config", "recipes={mine: {epochs: 3}}")
    assert answer.returncode == 0, answer.stderr
    assert "finetune" in answer.stdout
