"""Data sets of the library datasets where it is not installed; with it: tests/interop."""

import builtins

import pytest

from collapseflow.images.sources import huggingface
from collapseflow.running.errors import UserError
from collapseflow.study import schema

ENTRY = {"source": "huggingface", "name": "beans"}


def test_a_study_that_needs_the_library_says_so_before_the_first_job(monkeypatch):
    monkeypatch.setattr(schema, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        schema.load({"study": "mine", "datasets": {"beans": ENTRY}})
    line = "config key datasets.beans.source: 'huggingface' needs the package datasets: pip install"
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_a_job_without_the_library_says_so(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "datasets":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    # Put back when the test ends.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(UserError, match="source: 'huggingface' needs the package datasets: pip"):
        huggingface.look_into(None, "beans", {}, {})
