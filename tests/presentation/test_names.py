"""Names are text: in every figure, and in Markdown, LaTeX and reStructuredText."""

import re
from collections import UserString
from dataclasses import replace
from itertools import product
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest
from made_up import RAW, cell, describe_features, describe_runs
from matplotlib.text import Text

from collapseflow.images.datasets import make_split
from collapseflow.measures.quantities import panels_of
from collapseflow.measures.statistics import reduce_stream, write_statistics
from collapseflow.presentation.figures import (
    appearance,
    confusion,
    embedding,
    epochs,
    few_shot,
    geometry,
    images,
    layers,
    probes,
    similarity,
    sweep,
    training,
    transfer,
    variance,
)
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import COLUMNS, IDENTITY
from collapseflow.presentation.tables.writing import (
    Bold,
    markdown,
    to_latex,
    to_markdown,
    write_table,
)
from collapseflow.study.products import CHOSEN, PRODUCTS
from collapseflow.study.schema import Style

STYLE = Style().drawn
#: Three letters from right to left.
BIRD = "\N{ARABIC LETTER TAH}\N{ARABIC LETTER YEH} \N{ARABIC LETTER ALEF}"
#: Mathtext that cannot be parsed, and what would be typeset.
NAMES = ("$\\bad$", "_$x_1$")
SPLITS = ("train", "train_matched", "test")
QUANTITIES = (
    *(
        *panels_of("epochs"),
        "log_fuzziness",
        "accuracy_nearest_mean",
        "accuracy_linear",
        "accuracy",
    ),
    *("effective_rank", "accuracy_few_shot_1", "accuracy_few_shot_2"),
)


@pytest.fixture
def measured(tmp_path):
    """A function that writes measures.csv, failures.csv and training.csv of runs and starts."""

    def write(runs, reason):
        rows, said = [], []
        start = {"recipe": "", "epoch": 0, "weight_decay": ""}
        for run, epoch in product(runs, (0, 1, 2)):
            who = {key: getattr(run, key) for key in IDENTITY} | {"epoch": epoch}
            who["weight_decay"] = str(run.setting["weight_decay"])
            for layer, split, quantity in product(run.layers, SPLITS, QUANTITIES):
                value = {"quantity": quantity, "value": 0.5 + epoch / 8, "layer": layer}
                value["layer"] = "" if quantity == "accuracy" else layer
                rows += [{**who, **value, "split": split}, {**who, **value, **start}]
                rows[-1]["split"] = split
            said += [
                {**who, "quantity": quantity, "value": 0.5} for quantity in panels_of("training")
            ]
        failed = [{**who, "layer": "", "what": reason, "reason": reason}]
        tables = {"measures": rows, "failures": failed, "training": said}
        columns = {
            "measures": COLUMNS,
            "failures": [*IDENTITY, "epoch", "layer", "what", "reason"],
            "training": [*IDENTITY, "epoch", "quantity", "value"],
        }
        paths = []
        for name, of_table in tables.items():
            paths.append(tmp_path / f"{name}.csv")
            table = pd.DataFrame(of_table, columns=[*columns[name], "weight_decay"])
            table = table.drop_duplicates()
            table.astype({"seed": "Int64", "epoch": "Int64"}).to_csv(paths[-1], index=False)
        return paths

    return write


def draw_runs(name, measured, tmp_path):
    """The figures that are made of measures.csv."""
    layered = {"layers": ["first", name], "last": 2, "label": name}
    settings = [{"weight_decay": value} for value in (0, 0.1)]
    runs = describe_runs(settings=settings, recipe=name, **layered, start_label=name)
    column = describe_features("resnet18/random", start="random", label=name, layer="first")
    material = Material(
        **dict(zip(("measures", "failures", "training"), measured(runs, name), strict=True)),
        **dict.fromkeys(("runs", "layered_runs", "swept_runs"), runs),
        columns=[column],
        dataset="digits",
        title=name,
        datasets={"digits": name},
        backbones={"resnet18": name},
        starts={"random": name},
        style=STYLE,
        **dict.fromkeys(CHOSEN, ()),
    )
    outputs = {suffix: tmp_path / f"transfer.{suffix}" for suffix in ("csv", "md", "tex", "json")}
    for draw in (
        *(epochs.plot_accuracy, epochs.plot_collapse, layers.plot_layers, probes.plot_probes),
        *(sweep.plot_sweep, training.plot_training, few_shot.plot_few_shot),
        *(transfer.plot_transfer, transfer.plot_transfer_matrix),
    ):
        draw(material, outputs)


def draw_classes(name, write, write_images, tmp_path):
    """The figures that are made of features and images, of two classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 6)
    points = rng.normal(size=(12, 4)) + 3 * labels[:, None]
    names = [name, "other"]
    train, means = reduce_stream(lambda _: iter([(points, labels, None)]), 1, None, None)
    test, _ = reduce_stream(lambda _: iter([(points + 0.1, labels, None)]), 1, means, None)
    write_statistics(
        tmp_path / "state.npz", {name: {"train": train, "test": test, "train_matched": train}}, []
    )
    both = {"splits": ["train", "test"], "n_total": [6, 6], "split": np.repeat([0, 1], 6)}
    values = {"coordinates": points[:, :2], "labels": labels, "perplexity": 5.0, "recall": 0.5}
    np.savez(tmp_path / "there.npz", **values, **both)
    np.savez(tmp_path / "lost.npz", failed=name, splits=[])
    rows = [("raw", s, "intra_class", 0, None, 1.0) for s in ("train", "test")]
    rows.append(("raw", "train", "mean_distance", 0, 1, 2.0))
    columns = ["features", "split", "quantity", "class_a", "class_b", "value"]
    pd.DataFrame(rows, columns=columns).assign(space="features").to_csv(
        tmp_path / "variance.csv", index=False
    )
    maps = {kind: [[1.0, 0.5], [0.5, 1.0]] for kind in ("first", "last", "first_last")}
    content = {"layers": ["first", name], "seeds": [0], "n_images": 12, **maps}
    content["across_seeds"] = {layer: [[1.0]] for layer in content["layers"]}
    file = write_images(names, make_split(np.zeros((12, 8, 8), np.uint8), labels))
    embeddings = [tmp_path / "there.npz", tmp_path / "lost.npz"]
    material = Material(
        images=file,
        variance_images=file,
        variance=[tmp_path / "variance.csv"],
        embeddings=embeddings,
        variance_embeddings=embeddings,
        similarity=write("similarity", [content, {"failed": name}]),
        classification=write("classification", [{"lr": cell(0.5)}]),
        columns=[replace(RAW, label=name)],
        column_labels=[name, name],
        variance_titles=[name, name],
        series=[name, "other"],
        variance_features={"raw": name},
        **dict.fromkeys(("title", "run_heading", "embedding_heading", "variance_heading"), name),
        confused="lr",
        confused_label=name,
        states=[(0, tmp_path / "state.npz")],
        layer=name,
        scattering={"J": 1, "L": 2, "order": 1},
        ink=True,
        seed=0,
        backbone_names=[],
        style=STYLE,
    )
    for draw in (
        *(geometry.plot_geometry, embedding.plot_embeddings, embedding.plot_train_test),
        *(images.plot_samples, images.plot_scattering, variance.plot_variance),
        *(similarity.plot_similarity, confusion.plot_confusion),
    ):
        draw(material, {"csv": tmp_path / "confusion.csv"})


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_draws_names_as_they_are(
    name, measured, write, write_images, tmp_path, figures
):
    draw_runs(name, measured, tmp_path)
    draw_classes(name, write, write_images, tmp_path)
    assert len(figures) == 17
    for figure in figures:
        figure.canvas.draw()
        drawn = [text for text in figure.findobj(Text) if name in text.get_text()]
        assert drawn and not any(text.get_parse_math() for text in drawn)
        # What is left is a formula of ours, and typeset as one.
        rest = [text for text in figure.findobj(Text) if name not in text.get_text()]
        assert all(text.get_parse_math() for text in rest if "$" in text.get_text())


# --- Markdown, LaTeX, reStructuredText ----------------------------------------------------------

#: What stands in Markdown for some words, by GitHub's rules (CommonMark 0.31 and its tables).
MARKDOWN = {
    "a|b": r"a\|b",
    "*a* and **b**": r"\*a\* and \*\*b\*\*",
    "_a_ b_ a_b weight_decay": r"\_a\_ b\_ a_b weight_decay",
    "`a`": r"\`a\`",
    "<b>&lt;": "&lt;b&gt;&amp;lt;",
    "$x_1$": r"\$x_1\$",
    "~~a~~": r"\~\~a\~\~",
    "[a](b) [c]: d [e]": r"[a\](b) [c\]: d [e]",
    "a\\*": r"a\\\*",
    "a\nb\n\n  c": "a b c",
    "# a": r"\# a",
    "## a": r"\## a",
    "- a": r"\- a",
    "--- a": r"\--- a",
    "12. a": r"12\. a",
    "12) a": r"12\) a",
    "+1.20 [−0.5, 3.0]": "+1.20 [−0.5, 3.0]",
    "0.250 ± 0.1": "0.250 ± 0.1",
}
#: In LaTeX, by the LaTeX companion's tables of symbols.
LATEX = {
    "$\\bad$": r"\$\textbackslash{}bad\$",
    "$x_1$": r"\$x\_1\$",
    "a & b # c %": r"a \& b \# c \%",
    "<b>": r"\textless{}b\textgreater{}",
    "a|b": r"a\textbar{}b",
    "`a`": r"\textasciigrave{}a\textasciigrave{}",
    "{a}~b^2": r"\{a\}\textasciitilde{}b\textasciicircum{}2",
    "[a] [b]": "{[}a] [b]",
    "*": "{*}",
    "a\nb": "a b",
    "**a**": "{*}*a**",
}
NASTY = "$\\bad$ $x_1$ |a| *b* _c_ `d` ``e`` <b>f</b> g_ [h]_ `i <j>`_"


@pytest.mark.parametrize(("words", "expected"), MARKDOWN.items())
def test_words_are_no_markdown(words, expected):
    assert markdown(words) == expected
    line = to_markdown(["name"], [[words]]).splitlines()[2]
    assert line.removeprefix("| ").removesuffix("|").strip() == expected


@pytest.mark.parametrize(("words", "expected"), LATEX.items())
def test_words_are_no_latex(words, expected):
    lines = to_latex([words, "b"], [[words, "1"]]).splitlines()
    assert [line for line in lines if line.endswith(r"\\")] == [
        f"{expected} & b \\\\",
        f"{expected} & 1 \\\\",
    ]


def test_bold_is_said_apart_from_the_words():
    rows = [[Bold("*a*", "† (1)"), "**b**"]]
    assert r"| **\*a\***† (1) |" in " ".join(to_markdown(["x", "y"], rows).split())
    assert r"\textbf{{*}a*}$^\dagger$ (1) & {*}*b** \\" in to_latex(["x", "y"], rows)


def test_notes_of_a_table_are_words_too(out):
    write_table(vars(out), pd.DataFrame(), ["a"], [["b"]], ["# *c*\nd"])
    assert out.md.read_text().endswith("\n\\# \\*c\\* d\n")
    assert out.tex.read_text().startswith("% # *c* d\n\\begin")


REPORT = Path(__file__).parents[2] / "workflow" / "report"


def rendered(template, **params):
    """A caption as Snakemake renders it, to HTML."""
    docutils = pytest.importorskip("docutils.core")
    snakemake = {"params": params, "config": {"study": "mine"}}
    text = jinja2.Template(template.read_text()).render(snakemake=snakemake)
    body = docutils.publish_parts(text, writer_name="html")["body"]
    assert "system-message" not in body and "problematic" not in body
    return body


@pytest.mark.parametrize("name", ["measures", "summary", "workflow"])
def test_captions_of_the_report_are_no_errors(name):
    assert rendered(REPORT / f"{name}.rst")


@pytest.mark.parametrize("product", [p for p in PRODUCTS if p.caption], ids=lambda p: p.rule)
def test_captions_of_products_show_names_as_they_are(product):
    """Of a backtick they make an apostrophe."""
    told = dict.fromkeys(product.in_caption, NASTY)
    told |= {"scattering": {"J": 1, "L": 2, "order": 1}, **dict.fromkeys(CHOSEN, ())}
    body = rendered(REPORT / "product.rst", caption=UserString(product.caption_of(told)))
    if re.search(r"``{\w+}``", product.caption):
        shown = re.sub("<.*?>", "", body).replace("&lt;", "<").replace("&gt;", ">")
        assert NASTY.replace("`", "'") in shown


def test_long_names_are_cut_where_they_differ():
    names = ["northern amber finch", "northern amber warbler", "great white shark, white shark"]
    assert appearance.shortened([*names, "owl"], 14) == [
        *("norther…finch", "norther…arbler", "great white s…", "owl"),
    ]


def test_a_name_from_right_to_left_does_not_turn_the_words_around_it():
    name = BIRD.replace(" ", "\N{NO-BREAK SPACE}")
    mark = "\N{LEFT-TO-RIGHT MARK}"
    assert appearance.shortened([BIRD, "a bird"], 20) == [f"{mark}{name}{mark}", "a bird"]
    assert appearance.numbered_names(["a", BIRD], 2) == ["0  a", f"1  {mark}{name}{mark}"]
