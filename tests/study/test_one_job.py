"""What a submitted job pays before it starts: its node plans that job, not the study."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
#: Snakemake, to which what is of the study as a whole, and the code of another rule, is refused.
REFUSING = """
import sys
from collapseflow.running import code
from collapseflow.study import products
from collapseflow.study.columns import Columns
from collapseflow.study.descriptions import Descriptions
from collapseflow.study.plan import Plan
from snakemake.cli import main

def refuse(*arguments):
    sys.exit(f"asked for: {arguments}")

WHOLE = {
    products: ("everything", "contents", "small_results", "target_files"),
    Plan: ("results", "untrained_statistics", "geometry_runs", "faithful"),
    Columns: ("everywhere", "sets_everywhere", "embeddings", "variance_embeddings"),
    Descriptions: ("columns", "everywhere", "study", "layered_runs", "swept_runs"),
}
for where, names in WHOLE.items():
    for name in names:
        assert callable(getattr(where, name))
        setattr(where, name, refuse)
for where, name in ((Plan, "timed_jobs"), (Descriptions, "runs"), (Columns, "shown")):
    assert getattr(where, name)
    setattr(where, name, property(refuse))
digest = code.digest
code.digest = lambda script, *functions: (
    digest(script) if script.stem == "prepare_dataset" else refuse(script)
)
main(sys.argv[1:])
"""


def test_a_node_plans_the_one_job_that_it_is_told_to_run(tmp_path):
    study = {
        "study": "toy",
        "datasets": {"digits": {"source": "digits"}, "letters": {"source": "letters"}},
        "backbones": {"net": {"model": "resnet18", "image_size": 32, "weights": ["random"]}},
        "analyses": ["spectrum", "few_shot", "similarity", "transfer"],
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    words = [sys.executable, "-c", REFUSING, "--dry-run", "--mode", "remote", "--cores", "1"]
    words += ["--target-jobs", "prepare_dataset:dataset=digits"]
    words += ["--allowed-rules", "prepare_dataset", "--force", "--nolock"]
    words += ["--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--configfile", path]
    answer = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert "prepare_dataset" in answer.stdout
