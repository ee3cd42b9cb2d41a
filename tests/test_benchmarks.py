"""The harness of the benchmarks and the page they are written to."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"

COMPARISON = """
    import time
    from functools import partial
    from harness import Row, compare

    def side(folder, name, seconds):
        def work():
            with open({log!r}, "a") as log:
                log.write(name + (folder / "prepared").read_text())
            time.sleep(seconds)
            return lambda: {{"items": 10, "name": name, "share": {share}}}
        return work

    def agree(ours, other):
        return {agree}, ours["name"] + other["name"]

    compare(
        "Title", "Task.",
        {{
            "fast": partial(side, name="f", seconds=0.1),
            "slow": partial(side, name="s", seconds=0.3),
        }},
        [Row("fast", "slow", 2, agree), Row("slow", "fast", 2, agree, at_most=True)],
        lambda folder: (folder / "prepared").write_text("!"),
        lambda folder, runs: f"Floor of {{len(runs['fast'])}}.",
        rounds=3,
        per_second="images",
    )
"""


@pytest.fixture
def compared(tmp_path):
    """A function that runs a comparison of two sides, one taking a tenth of a second, one three."""

    def run(agree, share=1, rounds=()):
        script = tmp_path / "comparison.py"
        log = tmp_path / "log"
        content = COMPARISON.format(agree=agree, log=str(log), share=share)
        script.write_text(textwrap.dedent(content))
        answer = subprocess.run(
            [sys.executable, script, *rounds],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(FOLDER)},
        )
        return answer, log.read_text()

    return run


def cells(text, row):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [cell.strip() for cell in lines[2 + row].strip("|").split("|")]


def test_a_ratio_is_the_alternative_s_time_over_ours(compared):
    answer, log = compared("True")
    assert answer.returncode == 0, answer.stderr
    assert "## Title\n\nTask.\n" in answer.stdout
    assert "Floor of 3." in answer.stdout
    # Every other round backwards.
    assert log == "f!s!s!f!f!s!"
    ours, speed, _, other, _, _, ratio, goal, words = cells(answer.stdout, 0)
    assert (ours, other, goal, words) == ("fast", "slow", "≥ 2", "fs")
    assert 2 < float(ratio.split("**")[1]) <= 3.1
    assert 60 < float(speed) <= 100
    assert ratio.endswith("n = 3)")
    *_, ratio, goal, words = cells(answer.stdout, 1)
    assert goal == "≤ 2, missed"
    assert 2 < float(ratio.split("**")[1]) <= 3.1
    assert words == "sf"


def test_different_results_are_a_failure(compared):
    answer, _ = compared("ours['name'] == 'f'", rounds=("--rounds", "1"))
    assert answer.returncode == 1
    assert cells(answer.stdout, 0)[-1] == "fs"
    assert cells(answer.stdout, 1)[-1] == "DIFFERENT: sf"
    assert "the results differ: slow and fast (sf)" in answer.stderr


def test_a_share_of_the_work_is_scaled_up(compared):
    answer, _ = compared("True", share=0.01, rounds=("--rounds", "1"))
    assert 0.6 < float(cells(answer.stdout, 0)[1]) <= 1


# --- the page ---------------------------------------------------------------------------------


@pytest.fixture
def run_all(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import run_all

    yield run_all
    for name in ("run_all", "data"):
        sys.modules.pop(name, None)


def run_with(run_all, monkeypatch, page, *names, fails=()):
    monkeypatch.setattr(sys, "argv", ["run_all.py", *names])
    run_all.main(page, lambda name: (name not in fails, f"## About {name}, {len(names)}"))


def test_every_comparison_is_a_script(run_all):
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    assert set(run_all.COMPARISONS) == scripts - {"harness", "data", "run_all"}


def test_the_page_has_machine_versions_and_all_sections_in_order(run_all, monkeypatch, tmp_path):
    page = tmp_path / "performance.md"
    run_with(run_all, monkeypatch, page)
    text = page.read_text()
    places = [text.index(f"## About {name}, 0") for name in run_all.COMPARISONS]
    assert places == sorted(places)
    assert "cores" in text and "GiB" in text and "Python 3." in text and "snakemake " in text
    assert str(tmp_path) not in text


def test_a_named_comparison_replaces_its_section_alone(run_all, monkeypatch, tmp_path):
    page = tmp_path / "performance.md"
    run_with(run_all, monkeypatch, page, "stores", "collapse")
    run_with(run_all, monkeypatch, page, "stores")
    text = page.read_text()
    assert "## About stores, 1" in text and "## About stores, 2" not in text
    assert "## About collapse, 2" in text
    assert text.index("About collapse") < text.index("About stores")


def test_a_failure_is_told_at_the_end(run_all, monkeypatch, tmp_path):
    page = tmp_path / "performance.md"
    with pytest.raises(SystemExit, match="failed: stores"):
        run_with(run_all, monkeypatch, page, "stores", "collapse", fails=("stores",))
    assert "## About collapse, 2" in page.read_text()


def test_a_script_that_fails_leaves_a_line_on_the_page(run_all, monkeypatch, tmp_path):
    (tmp_path / "broken.py").write_text("print('## Half\\n\\nof it'); raise SystemExit(3)")
    monkeypatch.setattr(run_all, "__file__", str(tmp_path / "run_all.py"))
    succeeded, section = run_all.run("broken")
    assert not succeeded
    assert section.startswith("## Half\n\nof it")
    assert "**It failed, with exit status 3.**" in section


def test_an_unknown_name_is_refused(run_all, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_with(run_all, monkeypatch, tmp_path / "page.md", "speed")
    assert "no comparison speed; there are training" in capsys.readouterr().err
