"""What is computed on feature sets: nothing of an analysis is forgotten."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from collapseflow.study import schema
from collapseflow.study.analyses import ANALYSES

ROOT = Path(__file__).parents[2]
RULES = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda analysis: analysis.name)
def test_an_analysis_has_its_rule_its_rows_and_its_words(analysis):
    assert re.search(rf"^rule {analysis.rule}:", RULES, flags=re.M), (
        f"{analysis.name}: workflow/rules has no rule {analysis.rule}"
    )
    try:
        resolve_name(analysis.rows)
    except (ImportError, AttributeError):
        pytest.fail(f"{analysis.name}: there is no function {analysis.rows}")
    unknown = set(analysis.asked_by) - set(schema.ANALYSES)
    assert not unknown, f"{analysis.name}: ANALYSES in study/schema.py has no {unknown}"


@pytest.mark.parametrize("word", schema.ANALYSES)
def test_what_may_be_asked_for_is_explained(word):
    page = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    assert f"\n| `{word}` |" in page, f"{word}: config/README.md has no row of it"
