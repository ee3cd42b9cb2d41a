"""What holds the project together: pinned versions, and rules that say everything of themselves."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "collapseflow"
#: The package's folders in the order of the data; each may import those in rows above its own.
ROOMS = (
    ("running", "published"),
    ("images",),
    ("features",),
    ("training", "measures"),
    ("presentation",),
    ("study",),
)
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name="requirements.lock"):
    lines = (ROOT / name).read_text().splitlines()
    pins = [re.match(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    return {(canonical(pin[1]), pin[2]) for pin in pins if pin}


def test_every_direct_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runs, tests = (
        {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}
        for lines in (project["dependencies"], project["optional-dependencies"]["test"])
    )
    assert runs <= {name for name, _ in locked()}
    assert tests <= {name for name, _ in locked("requirements-test.lock")}
    # What only tests need is not installed for running.
    assert not tests & {name for name, _ in locked()}


def test_tests_run_with_the_versions_that_run():
    assert locked() < locked("requirements-test.lock")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_what_is_installed_is_named_by_its_digest_and_no_index_is(name):
    text = re.sub(r" *#.*", "", (ROOT / name).read_text()).replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line.strip()]
    assert len(requirements) > 90
    for requirement in requirements:
        assert re.fullmatch(
            r"[\w.-]+==[\w.]+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+", requirement.rstrip()
        )


def test_the_conda_environment_pins_the_direct_dependencies_as_the_lock_file_does():
    content = yaml.safe_load((ROOT / "workflow" / "envs" / "collapseflow.yaml").read_text())
    lines = [pin.partition(" ;")[0] for pin in content["dependencies"][-1]["pip"]]
    pins = {tuple(line.split("==")) for line in lines}
    assert {(canonical(name), version) for name, version in pins} <= locked()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {canonical(re.match(r"[\w.-]+", line)[0]) for line in project["dependencies"]}
    assert {canonical(name) for name, _ in pins} == direct


def test_every_script_belongs_to_a_rule():
    named = set(re.findall(r'"\.\./scripts/(\w+\.py)"', "".join(p.read_text() for p in RULES)))
    assert named == {path.name for path in (ROOT / "workflow" / "scripts").glob("*.py")}


def imported_rooms(path):
    """The folders of this package that a file imports from, inside functions as well."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "collapseflow":
            names |= {f"collapseflow.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names if name and name.startswith("collapseflow.")]
    return {part[1] for part in parts if not part[1].startswith("__")}


@pytest.mark.parametrize("room", [room for row in ROOMS for room in row])
def test_nothing_imports_against_the_order_of_the_stages(room):
    row = next(position for position, rooms in enumerate(ROOMS) if room in rooms)
    allowed = {room, *(name for rooms in ROOMS[:row] for name in rooms)}
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    wrong = {
        path.relative_to(PACKAGE).as_posix(): sorted(imported_rooms(path) - allowed)
        for path in files
        if imported_rooms(path) - allowed
    }
    assert not wrong


def test_every_folder_of_the_package_has_its_place_and_tests():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {room for rooms in ROOMS for room in rooms}
    tests = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    # What wants a card or other libraries, and what attacks, runs all of them.
    assert tests - {"interop"} == folders - {"published"} | {"gpu", "torture"}
