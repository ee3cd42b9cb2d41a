"""Study files with anything in them: a study, or one line for each mistake."""

import copy
from typing import Any

import pytest
import yaml
from attacked import EFFORT, SEED, STUDY
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from collapseflow.images.sources import idx
from collapseflow.running.errors import UserError
from collapseflow.study.file import parse
from collapseflow.study.schema import Study, load

#: Values of which some are always a mistake.
STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.sampled_from(["", ".", "..", "/", "~nosuchuser", "{w}", "a/b", "imagenet", "\n", "\u202e"]),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=3), max_size=3),
)


def _places(value: Any, path: tuple = ()) -> list[tuple]:
    """The place of each value of a study file, at any depth."""
    children = value.items() if isinstance(value, dict) else ()
    return [path] * bool(path) + [p for key, v in children for p in _places(v, (*path, key))]


PLACES = _places(STUDY) + [("recipes", "plain", key) for key in ("optimizer", "measure", "steps")]


def _one_line_each(error: UserError) -> bool:
    return all(line.strip() for line in str(error).splitlines())


@seed(SEED)
@settings(max_examples=100 * EFFORT, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), STRANGE), min_size=1, max_size=3))
def test_a_study_with_strange_values_is_a_study_or_is_refused(changes):
    study = copy.deepcopy(STUDY)
    for (*above, key), value in changes:
        section = study
        for name in above:
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section[key] = value
    try:
        assert isinstance(load(study), Study)
    except UserError as error:
        assert _one_line_each(error)


@seed(SEED)
@settings(max_examples=100 * EFFORT, deadline=None)
@given(st.data())
def test_a_text_that_is_no_study_file_is_refused(data):
    text = yaml.safe_dump(STUDY)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    text = text[:start] + data.draw(st.text(max_size=40)) + text[stop:]
    try:
        assert isinstance(load(parse(text, "study.yaml")), Study)
    except UserError as error:
        assert _one_line_each(error)


@seed(SEED)
@settings(max_examples=200 * EFFORT, deadline=None)
@given(st.binary(max_size=100) | st.binary(max_size=40).map(lambda b: b"\0\0\x08\x03" + b))
def test_bytes_that_are_no_idx_file_are_refused(content):
    try:
        images = idx.parse(content)
    except UserError as error:
        assert str(error)
    else:
        assert images.nbytes == len(content) - 4 - 4 * content[3]


@pytest.mark.parametrize("depth", [10, 1_000, 100_000])
def test_nesting_ends_in_a_line_or_is_read(depth):
    try:
        load(parse("study: " + "[" * depth + "]" * depth, "study.yaml"))
    except UserError as error:
        assert _one_line_each(error)
