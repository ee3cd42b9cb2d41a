"""Captions for a paper: beside a figure, and above a table in LaTeX."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up import DATASETS, describe_features, describe_runs

from collapseflow.images.datasets import Splits, make_split, write_dataset
from collapseflow.measures.statistics import (
    reduce_stream,
    write_failed_statistics,
    write_statistics,
)
from collapseflow.presentation.captions import write_caption
from collapseflow.presentation.material import Material
from collapseflow.presentation.tables.writing import write_table
from collapseflow.study.products import PRODUCTS

WORDS = "Accuracy in % of ``mine``."


@pytest.fixture
def caption(tmp_path):
    """A function that gives the caption of a figure of some material."""

    def written(*splits, **told):
        write_caption(WORDS, splits, Material(**told), {"txt": tmp_path / "figure.txt"})
        return (tmp_path / "figure.txt").read_text()

    return written


def test_a_caption_has_the_words_of_the_report_without_their_marks(caption):
    assert caption() == "Accuracy in % of mine.\n"


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (("train", "test"), " Images: 2 training and 1 test."),
        (("test",), " Images: 1 test."),
        # A figure of single images.
        ((), ""),
    ],
)
def test_a_caption_counts_the_images_of_its_data_set_that_its_numbers_are_of(
    splits, sentence, caption, tmp_path
):
    parts = [make_split(np.zeros((n, 1, 1), np.uint8), np.zeros(n, np.int64)) for n in (2, 1)]
    write_dataset(tmp_path / "images.h5", Splits(*parts, ["a"], "made up"))
    assert caption(*splits, images=tmp_path / "images.h5") == f"Accuracy in % of mine.{sentence}\n"


def test_the_caption_of_the_geometry_counts_the_training_images_that_are_drawn(
    caption, tmp_path, write_images
):
    def reduced(n):
        labels = np.repeat([0, 1, 2], n)
        features = np.eye(3)[labels] + np.random.default_rng(n).normal(size=(3 * n, 3))
        return reduce_stream(lambda _: iter([(features, labels, None)]), 1)[0]

    splits = {"train": reduced(40), "train_matched": reduced(12), "test": reduced(13)}
    write_statistics(tmp_path / "state.npz", {"flatten": splits}, [])
    write_failed_statistics(tmp_path / "failed.npz", "no weights")
    (splits,) = (one.splits for one in PRODUCTS if one.name == "geometry")
    states = [(0, tmp_path / "failed.npz"), (1, tmp_path / "state.npz")]
    told = {"layer": "flatten", "images": write_images("abc")}
    words = "Accuracy in % of mine."
    assert caption(*splits, states=states, **told) == f"{words} Images: 36 training and 39 test.\n"
    assert caption(*splits, states=states[:1], **told) == f"{words}\n"


@pytest.fixture
def told(tmp_path):
    """Rows of two data sets, and runs with two recipes on one of them."""
    rows = [
        {"dataset": "digits", "quantity": "accuracy", "split": "train", "n": 1397},
        {"dataset": "digits", "quantity": "accuracy", "split": "test", "n": 400},
        {"dataset": "digits", "quantity": "nc1", "split": "train_matched", "n": 398},
        # Ten draws are no images.
        {"dataset": "digits", "quantity": "accuracy_few_shot_1", "split": "test", "n": 10},
        {"dataset": "fashion", "quantity": "accuracy_linear", "split": "test", "n": 10_000},
    ]
    measures = tmp_path / "measures.csv"
    pd.DataFrame(rows).to_csv(measures, index=False)
    runs = describe_runs(["digits"], seeds=(0, 2))
    runs += describe_runs(["digits"], seeds=(0, 2), settings=[{"weight_decay": 0.1}])
    return {"measures": measures, "runs": runs, "datasets": DATASETS}


DIGITS, FASHION = DATASETS["digits"], DATASETS["fashion"]


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (("train", "test"), "1,397 training and 400 test"),
        (("train_matched", "test"), "398 training and 400 test"),
        (
            ("train", "train_matched", "test"),
            "1,397 training (measures: 398) and 400 test",
        ),
    ],
)
def test_a_caption_counts_trainings_and_the_images_that_are_shown_of_their_data_sets(
    splits, words, caption, told
):
    trainings = "Trainings: 4 (seeds 0, 2)."
    assert caption(*splits, **told).endswith(f"mine. Images: {DIGITS} {words}. {trainings}\n")


def test_a_caption_counts_what_the_study_file_chooses_of_a_figure(caption, told):
    chosen = {"only_recipes": ["decay"], "only_splits": ["test"]}
    found = caption("train", "train_matched", "test", **told, **chosen)
    assert found.endswith(f"mine. Images: {DIGITS} 400 test. Trainings: 2 (seeds 0, 2).\n")


def test_first_weights_are_measured_on_all_data_sets(caption, told):
    found = caption("train", "test", **told, starts={"random": "random"})
    words = f"{DIGITS} 1,397 training and 400 test; {FASHION} 10,000 test"
    assert found.endswith(f"mine. Images: {words}. Trainings: 4 (seeds 0, 2).\n")


def test_feature_sets_that_nobody_trains_have_the_images_of_their_data_set(caption, told):
    columns = [describe_features("raw", epoch=None)]
    more = {"dataset": "digits", "title": DIGITS, "columns": columns}
    found = caption("test", measures=told["measures"], **more)
    assert found.endswith(f"mine. Images: {DIGITS} 400 test. Feature sets: 1.\n")


@pytest.mark.parametrize("product", [p for p in PRODUCTS if p.splits], ids=lambda p: p.rule)
def test_images_are_counted_where_the_job_knows_them(product):
    assert {"images", "measures", "statistics"} & {*product.reads}
    assert set(product.splits) <= {"train", "train_matched", "test"}


def test_a_table_in_latex_has_its_caption_as_a_comment_and_stays_as_it_was(out):
    write_table(vars(out), pd.DataFrame(), ["a"], [["b"]], ["a note"])
    before = out.tex.read_text()
    write_caption(WORDS, [], Material(), vars(out))
    first, _, rest = out.tex.read_text().partition("\n")
    assert first == r"% \caption{Accuracy in \% of mine.}"
    assert rest == before


def test_what_nobody_is_shown_has_no_caption(tmp_path):
    outputs = SimpleNamespace(csv=tmp_path / "table.csv")
    write_caption("", [], Material(), vars(outputs))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("product", [p for p in PRODUCTS if p.caption], ids=lambda p: p.rule)
def test_a_caption_says_what_to_look_for(product):
    assert " Look for " in " ".join(product.caption.split())
