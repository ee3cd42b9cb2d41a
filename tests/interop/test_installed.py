"""All libraries of these tests are there: else the tests would be skipped, and all seem well."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LOCKED = dict(
    re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements-interop.lock").read_text(), re.M)
)


@pytest.mark.parametrize("library", [re.match(r"[\w.-]+", line)[0] for line in EXTRAS["interop"]])
def test_a_library_is_installed_as_it_is_locked(library):
    assert version(library) == LOCKED[library]
