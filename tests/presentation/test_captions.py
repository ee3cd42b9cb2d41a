"""Captions for a paper: beside a figure, and above a table in LaTeX."""

from types import SimpleNamespace

import pandas as pd
import pytest
from made_up import DATASETS, describe_runs

from collapseflow.presentation.captions import write_caption
from collapseflow.presentation.material import Material
from collapseflow.presentation.tables.writing import write_table
from collapseflow.study.products import PRODUCTS

WORDS = "Accuracy in % of ``mine``."


@pytest.fixture
def caption(tmp_path):
    """A function that gives the caption of a figure of some material."""

    def written(**told):
        write_caption(WORDS, Material(**told), {"txt": tmp_path / "figure.txt"})
        return (tmp_path / "figure.txt").read_text()

    return written


def test_a_caption_has_the_words_of_the_report_without_their_marks(caption):
    assert caption() == "Accuracy in % of mine.\n"


def test_a_caption_counts_the_images_of_its_data_set(caption, write_images):
    assert caption(images=write_images("ab")).endswith("mine. Images: 1 training and 1 test.\n")


def test_a_caption_counts_trainings_and_the_images_of_their_data_sets(caption, tmp_path):
    rows = [
        {"dataset": "digits", "quantity": "accuracy", "split": "train", "n": 1397},
        {"dataset": "digits", "quantity": "accuracy", "split": "test", "n": 400},
        # As many training images as there are test images are no size of a data set.
        {"dataset": "digits", "quantity": "nc1", "split": "train_matched", "n": 40},
        {"dataset": "fashion", "quantity": "accuracy", "split": "test", "n": 10_000},
    ]
    measures = tmp_path / "measures.csv"
    pd.DataFrame(rows).to_csv(measures, index=False)
    runs = describe_runs(["digits", "fashion"], ["resnet18"], (0, 2))
    told = {"measures": measures, "runs": runs, "datasets": DATASETS}
    digits, fashion = DATASETS["digits"], DATASETS["fashion"]
    assert caption(**told).endswith(
        f"mine. Images: {digits} 1,397 training and 400 test; {fashion} 10,000 test. "
        "Trainings: 4 (seeds 0, 2).\n"
    )
    assert caption(**told, dataset="fashion").endswith(
        f"mine. Images: {fashion} 10,000 test. Trainings: 2 (seeds 0, 2).\n"
    )


def test_a_table_in_latex_has_its_caption_as_a_comment_and_stays_as_it_was(out):
    write_table(vars(out), pd.DataFrame(), ["a"], [["b"]], ["a note"])
    before = out.tex.read_text()
    write_caption(WORDS, Material(), vars(out))
    first, _, rest = out.tex.read_text().partition("\n")
    assert first == r"% \caption{Accuracy in \% of mine.}"
    assert rest == before


def test_what_nobody_is_shown_has_no_caption(tmp_path):
    outputs = SimpleNamespace(csv=tmp_path / "table.csv")
    write_caption("", Material(), vars(outputs))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("product", [p for p in PRODUCTS if p.caption], ids=lambda p: p.rule)
def test_a_caption_says_what_to_look_for(product):
    assert " Look for " in " ".join(product.caption.split())
