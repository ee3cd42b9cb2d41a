"""What holds the project together: pinned versions, and rules that say everything of themselves."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file="requirements.lock"):
    lines = (ROOT / file).read_text().splitlines()
    pins = [re.match(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    return {(canonical(pin[1]), pin[2]) for pin in pins if pin}


def names_of(requirements):
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in requirements}


def test_every_direct_dependency_is_locked_in_the_file_of_those_who_need_it():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    running = {name for name, _ in locked()}
    testing = {name for name, _ in locked("requirements-test.lock")}
    assert names_of(content["project"]["dependencies"]) <= running
    tools = names_of(content["dependency-groups"]["test"])
    assert tools <= testing and not tools & running


def test_what_both_lock_files_name_has_the_versions_of_running():
    running = {name for name, _ in locked()}
    both = {pin for pin in locked("requirements-test.lock") if pin[0] in running}
    assert both and both <= locked()


def test_the_conda_environment_pins_the_direct_dependencies_as_the_lock_file_does():
    content = yaml.safe_load((ROOT / "workflow" / "envs" / "collapseflow.yaml").read_text())
    lines = [pin.partition(" ;")[0] for pin in content["dependencies"][-1]["pip"]]
    pins = {tuple(line.split("==")) for line in lines}
    assert {(canonical(name), version) for name, version in pins} <= locked()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = names_of(project["dependencies"])
    assert {canonical(name) for name, _ in pins} == direct


@pytest.mark.parametrize(
    "directive",
    ["output", "log", "benchmark", "conda", "threads", "resources", "params", "message", "script"],
)
def test_every_rule_has_every_directive(directive):
    found = 0
    for path in RULES:
        blocks = re.split(r"^(?=rule |use rule )", path.read_text(), flags=re.M)
        for block in blocks:
            if not block.startswith("rule "):
                continue
            found += 1
            assert re.search(rf"^    {directive}:", block, flags=re.M), block.splitlines()[0]
    assert found > 15


def test_every_script_belongs_to_a_rule():
    named = set(re.findall(r'"\.\./scripts/(\w+\.py)"', "".join(p.read_text() for p in RULES)))
    assert named == {path.name for path in (ROOT / "workflow" / "scripts").glob("*.py")}
