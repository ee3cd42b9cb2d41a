"""Two checkouts share one environment: each runs its own code, whichever is installed."""

import os
import re
import shutil
import site
import subprocess
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
import yaml

ROOT = Path(__file__).parent.parent
STUDY = {"study": "pair", "datasets": {"digits": {"source": "digits"}}}
TARGET = "results/pair/data/digits.h5"


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory):
    """Two copies of this checkout, an environment with the first one installed, and a function
    that runs a module of Python in it."""
    top = tmp_path_factory.mktemp("checkouts")
    one, two = top / "one", top / "two"
    for copy in (one, two):
        for name in ("src", "workflow", "profiles", "config"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Snakefile", copy)
        (copy / "study.yaml").write_text(yaml.safe_dump(STUDY))
    environment = top / "environment"
    venv.create(environment)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
    # What pip writes for an editable installation, and the libraries of the environment in use.
    lines = [str(one / "src"), *site.getsitepackages()]
    Path(packages, "checkouts.pth").write_text("\n".join(lines))
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(folder, *words):
        command = [str(environment / "bin" / "python"), "-m", *map(str, words)]
        answer = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables)
        answer.text = answer.stdout + answer.stderr
        assert answer.returncode == 0, answer.text[-3000:]
        return answer

    return SimpleNamespace(top=top, one=one, two=two, run=run)


def edit(checkout, old, new, file="images/sources/prepare.py"):
    """Replace a part of a file of a checkout's package."""
    path = checkout / "src" / "collapseflow" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_an_edit_of_a_checkout_that_is_not_installed_is_seen_and_run(checkouts):
    one, two = checkouts.one, checkouts.two
    words = ["snakemake", TARGET, "--cores", 1, "--configfile", two / "study.yaml"]
    checkouts.run(two, *words)
    written = "write_dataset(output, changed(splits, entry, seed))"
    edit(two, written, "write_dataset(output, replace(splits, source='two'))")
    # From elsewhere, with the Snakefile named, and from its folder.
    there = ["--snakefile", two / "Snakefile", "--directory", two]
    assert "prepare_dataset" in checkouts.run(checkouts.top, *words, *there, "-n").text
    edit(one, written, "raise SystemExit('the code of another checkout')")
    checkouts.run(two, *words)
    with h5py.File(two / TARGET) as file:
        assert file.attrs["source"] == "two"


@pytest.mark.parametrize("folder", [".", "config"])
def test_a_command_in_a_checkout_is_that_checkout_s(checkouts, folder):
    for checkout in (checkouts.one, checkouts.two):
        path = checkout / "src" / "collapseflow" / "__main__.py"
        path.write_text(re.sub('prog="[^"]+"', f'prog="{checkout.name}"', path.read_text()))
        said = checkouts.run(checkout / folder, "collapseflow", "--help").stdout
        assert said.startswith(f"usage: {checkout.name} ")
    # Outside of both it is the one that is installed.
    assert checkouts.run(checkouts.top, "collapseflow", "--help").stdout.startswith("usage: one ")
