"""docs/my-network.md: what it tells to write and to run does what it says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "my-network.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.M | re.S)


def run(folder, command):
    """Run a command of the page; what it prints."""
    words = shlex.split(command)
    words = ["-m", *words] if words[0] == "snakemake" else words[1:]
    if "snakemake" in words:
        words += ["--snakefile", str(ROOT / "Snakefile")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
    return answer.stdout


def planned(folder, command):
    """The numbers of jobs by rule that a command would run."""
    printed = run(folder, f"{command} -n")
    return dict(re.findall(r"^(\w+) +(\d+)$", printed, flags=re.M))


def test_a_function_beside_the_study_file_is_a_network_of_the_study(tmp_path):
    (code,), (study, _) = blocks("python"), blocks("yaml")
    for text in (code, study):
        (tmp_path / text.split("\n", 1)[0].removeprefix("# ")).write_text(text)
    layers, check, make = blocks("sh")[0].splitlines()
    (expected,) = blocks("text")
    shapes = run(tmp_path, layers)
    assert shapes == expected
    assert "all right" in run(tmp_path, check)
    run(tmp_path, make)
    measures = pd.read_csv(tmp_path / "results" / "my-network" / "measures.csv")
    assert {"block1", "penultimate"} <= set(measures["layer"])
    assert {"nc1", "nc3", "nc4", "accuracy_nearest_mean"} <= set(measures["quantity"])
    # An edit counts as one of code; of a file that the network does not use it does not.
    (tmp_path / "other.py").write_text("x = 1\n")
    assert planned(tmp_path, make) == {}
    (tmp_path / "mynets.py").write_text(code + "\n# edited\n")
    assert {"initialize_weights", "finetune", "extract_network"} <= set(planned(tmp_path, make))
    assert "prepare_dataset" not in planned(tmp_path, make)
