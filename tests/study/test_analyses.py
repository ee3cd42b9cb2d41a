"""The list of what is computed on features: each entry has its rule and its rows."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from collapseflow.study.analyses import ANALYSES, analyses_of, asks
from collapseflow.study.schema import load

RULES = (Path(__file__).parents[2] / "workflow" / "rules").glob("*.smk")
RULE = "\n".join(path.read_text() for path in RULES)
RESNET = {"net": {"model": "resnet18", "image_size": 32, "weights": ["random"]}}


def study(analyses, **keys):
    digits = {"digits": {"source": "digits"}}
    return load({"study": "toy", "datasets": digits, "analyses": analyses, **keys})


@pytest.mark.parametrize("analysis", ANALYSES, ids=[analysis.name for analysis in ANALYSES])
def test_an_entry_has_a_rule_that_makes_its_files_and_a_function_that_reads_them(analysis):
    (rule,) = re.findall(rf"^rule {analysis.rule}:\n(.*?)^    log:", RULE, flags=re.M | re.S)
    assert f'"<results>/{analysis.name}/{{dataset}}/{{features}}.json"' in rule
    assert callable(resolve_name(analysis.rows))


@pytest.mark.parametrize(
    ("words", "keys", "names"),
    [
        ([], {}, ["classification"]),
        (["spectrum"], {}, ["classification", "spectrum"]),
        (["few_shot", "similarity"], {}, ["classification", "few_shot"]),
        # What transfer is drawn against; without networks there is nothing to transfer.
        (["transfer"], {"backbones": RESNET}, ["classification", "spectrum"]),
        (["transfer"], {}, ["classification"]),
    ],
)
def test_a_study_has_what_it_asks_for(words, keys, names):
    assert [analysis.name for analysis in analyses_of(study(words, **keys))] == names


def test_transfer_is_asked_for_where_there_are_networks():
    assert asks(study(["transfer"], backbones=RESNET), "transfer")
    assert not asks(study(["transfer"]), "transfer")
    assert asks(study(["similarity"]), "similarity")
    assert not asks(study([]), "similarity")
