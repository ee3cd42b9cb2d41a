"""The examples of docs/inside-my-loop.md run, and what the page says of them holds.

That of Lightning is run in tests/interop.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from collapseflow.images.sources.vectors import check, named_files, read
from collapseflow.measures.definitions import PRESETS
from collapseflow.presentation.rows import read_csv

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "inside-my-loop.md").read_text(encoding="utf-8")
PLAIN, PROCESSES, _, VECTORS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(folder, *words):
    answer = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return answer.stdout


def test_the_plain_loop_collapses_and_stands_beside_a_study(tmp_path):
    (tmp_path / "loop.py").write_text(PLAIN)
    lines = run(tmp_path, "loop.py").splitlines()
    assert [line.split()[0] for line in lines] == list("12345")
    rows = read_csv(tmp_path / "rows.csv")
    nc1 = rows[rows["quantity"] == "nc1"]
    assert [str(value) for value in nc1["value"]] == [line.split()[1] for line in lines]
    assert nc1["value"].iloc[-1] < nc1["value"].iloc[0]
    study = tmp_path / "results" / "embedded"
    study.mkdir(parents=True)
    (study / "measures.csv").write_bytes((tmp_path / "rows.csv").read_bytes())
    (command,) = re.findall(r"```sh\npython (.*)\n```", PAGE)
    assert len(re.findall(r"\| nc1 ", run(tmp_path, *command.split()))) == 1


def test_both_processes_print_the_same(tmp_path):
    code = PROCESSES.replace("/tmp/meeting-of-my-loop", str(tmp_path / "meeting"))
    assert code != PROCESSES
    (tmp_path / "processes.py").write_text(code)
    lines = sorted(run(tmp_path, "processes.py").split("\n"))[1:]
    assert [line.split(":")[0] for line in lines] == ["process 0", "process 1"]
    (said,) = {line.split(": ")[1] for line in lines}
    assert said.endswith(" of 400 vectors")


def test_the_files_of_a_loop_are_what_a_study_takes(tmp_path):
    (tmp_path / "vectors.py").write_text(VECTORS)
    run(tmp_path, "vectors.py")
    (study,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    location = str(tmp_path / yaml.safe_load(study)["datasets"]["points"]["location"])
    assert list(named_files([location])) == ["hidden_3", "hidden_10", "hidden_30"]
    check([location])
    found = read([location], 0.2, 0)
    assert (len(found.train.labels), len(found.test.labels)) == (300, 100)


def test_a_definition_that_is_named_exists():
    (name,) = re.findall(r'definitions="(\w+)"', PAGE)
    assert name in PRESETS
