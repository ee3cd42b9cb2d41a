"""What the benchmarks share: ratios, processes, the page; no times."""

import argparse
import ast
import datetime
import importlib
import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from collapseflow.study.paths import Files, State

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCHMARKS)
    import harness
    import run_all
    import same_values
    import scale
    import study
    import training
    from harness import Row, Run

OURS, OTHER = [2.0, 3.0, 5.0], [6.0, 6.0, 30.0]
PAIR = """
import numpy as np
from harness import Row, compare

def prepare(folder):
    (folder / "number").write_text("7")

def side(folder, add, mebibytes):
    number = int((folder / "number").read_text())

    def work():
        np.ones(mebibytes * 2**17)
        return {"number": number + add}

    return work

if __name__ == "__main__":
    compare(
        "A pair",
        "Adds.",
        {
            "ours": lambda folder: side(folder, 0, 64),
            "same": lambda folder: side(folder, 0, 128),
            "other": lambda folder: side(folder, 1, 1),
        },
        [Row("ours", "ALTERNATIVE", 1.0, lambda a, b: (a == b, f"{a['number']} {b['number']}"))],
        prepare,
    )
"""


def cells(text):
    """The last line of a table."""
    last = [line for line in text.splitlines() if line.startswith("|")][-1]
    return [cell.strip() for cell in last.strip("|").split("|")]


def compare(monkeypatch, capsys, *, goal, at_most=False, per_second=None):
    """A comparison whose sides take the times above; the last line of its table, and the order."""
    times = {"ours": iter(OURS), "other": iter(OTHER)}
    order = []

    def run_apart(side, folder):
        order.append(side)
        return Run(next(times[side]), 10.0, {"items": 60})

    monkeypatch.setattr(harness, "run_apart", run_apart)
    monkeypatch.setattr(sys, "argv", ["pair.py", "--rounds", "3"])
    rows = [Row("ours", "other", goal, lambda a, b: (True, "equal"), at_most)]
    sides = dict.fromkeys(("ours", "other"))
    harness.compare("A pair", "Nothing.", sides, rows, per_second=per_second)
    return cells(capsys.readouterr().out), order


def test_the_ratio_is_the_median_of_the_rounds_and_says_how_they_spread(monkeypatch, capsys):
    line, order = compare(monkeypatch, capsys, goal=2.5, per_second="images")
    ratios = np.array(OTHER) / OURS
    assert (
        line[6] == f"**{np.median(ratios):.3g}** ({ratios.min():.3g} to {ratios.max():.3g}, n = 3)"
    )
    assert float(line[1]) == pytest.approx(60 / np.median(OURS))
    assert float(line[4]) == pytest.approx(60 / np.median(OTHER))
    assert line[7:] == ["≥ 2.5", "equal"]
    assert order == ["ours", "other", "other", "ours", "ours", "other"]


def test_a_cost_is_our_time_over_the_others_and_a_missed_goal_is_told(monkeypatch, capsys):
    line, _ = compare(monkeypatch, capsys, goal=0.3, at_most=True)
    assert line[6].startswith(f"**{np.median(np.array(OURS) / OTHER):.3g}**")
    assert (float(line[1]), float(line[4])) == (np.median(OURS), np.median(OTHER))
    assert line[7] == "≤ 0.3, missed"


def run_pair(tmp_path, alternative):
    script = tmp_path / "pair.py"
    script.write_text(PAIR.replace("ALTERNATIVE", alternative))
    return subprocess.run(
        [sys.executable, script, "--rounds", "1"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(BENCHMARKS)},
    )


def test_each_side_runs_in_a_process_with_a_memory_of_its_own(tmp_path):
    answer = run_pair(tmp_path, "same")
    assert answer.returncode == 0, answer.stderr
    line = cells(answer.stdout)
    assert 60 <= float(line[2]) < 90
    assert 124 <= float(line[5]) < 160
    assert line[8] == "7 7"


def test_results_that_differ_are_told_and_end_in_an_error(tmp_path):
    answer = run_pair(tmp_path, "other")
    assert answer.returncode != 0
    assert cells(answer.stdout)[8] == "DIFFERENT: 7 8"
    assert "the results differ: ours and other (7 8)" in answer.stderr


def test_a_share_of_the_work_counts_as_all_of_it_and_answers_are_made_after_it(monkeypatch, capsys):
    times = iter([10.0, 12.0])
    monkeypatch.setattr(harness, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    script = ["pair.py", "--side", "some", "--folder", "."]
    monkeypatch.setattr(sys, "argv", script)
    with pytest.raises(SystemExit) as ended:
        some = {"some": lambda folder: lambda: lambda: {"share": 0.25}}
        harness.parse(argparse.ArgumentParser(), some)
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["seconds"] == 8.0


def test_a_card_s_work_has_ended_when_the_clock_stops_and_its_memory_is_told(monkeypatch, capsys):
    import torch

    events = []
    clock = SimpleNamespace(perf_counter=lambda: events.append("clock") or float(len(events)))
    monkeypatch.setattr(harness, "time", clock)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("synchronised"))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 3 * 2**30)
    harness._run_here(lambda folder: lambda: events.append("work") or {}, Path("."))
    assert events == ["clock", "work", "synchronised", "clock"]
    run = Run(**json.loads(capsys.readouterr().out))
    assert run.card_mebibytes == 3072
    assert harness.memory([run]).endswith(" + 3,072 on the card")
    assert harness.memory([Run(1.0, 10.0, {})]) == "10"


def test_devices_are_taken_as_by_jobs_and_by_sides_alone(monkeypatch, capsys):
    """A card that the process of the table had would be waited for by every side."""
    from collapseflow.running import hardware

    taken = []
    monkeypatch.setattr(hardware, "pick_device", lambda device: taken.append(device) or "card")
    harness.device.cache_clear()
    answers = {"a": {}, "b": {}, "floor": {"words": "the floor's words"}}
    monkeypatch.setattr(harness, "run_apart", lambda side, _: Run(1.0, 1.0, answers[side]))
    monkeypatch.setattr(sys, "argv", ["pair.py", "--rounds", "1"])
    rows = [Row("a", "b", 1.0, lambda a, b: (True, "equal"))]

    def floor(folder, runs):
        return harness.device()

    harness.compare("A pair", "Nothing.", dict.fromkeys("ab"), rows, floor=floor)
    assert "the floor's words" in capsys.readouterr().out
    assert taken == []
    assert harness.device() == harness.device() == "card"
    assert taken == ["auto"]
    harness.device.cache_clear()


def test_the_floor_is_told_of_the_runs_in_a_process_of_its_own(tmp_path):
    (tmp_path / harness.RUNS).write_text('{"a": [{"seconds": 2, "mebibytes": 1, "answer": {}}]}')
    work = harness._floor(lambda folder, runs: f"{runs['a'][0].seconds} s", tmp_path)
    assert work() == {"words": "2 s"}


@pytest.fixture
def comparisons(tmp_path, monkeypatch):
    """Three comparisons of which two fail, and a page that is not there yet."""
    scripts = {
        "good": "print('## Good\\n\\n| a |\\n| --- |\\n| first |')",
        "different": "print('## Different\\n\\n| DIFFERENT |'); raise SystemExit('they differ')",
        "broken": "import sys; print('progress', file=sys.stderr); sys.exit(3)",
    }
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(run_all, "COMPARISONS", tuple(scripts))
    monkeypatch.setattr(run_all, "SCRIPTS", tmp_path)
    monkeypatch.setattr(run_all, "PAGE", tmp_path / "performance.md")
    return tmp_path


def run_them(monkeypatch, *names):
    monkeypatch.setattr(sys, "argv", ["run_all.py", *names])
    run_all.main()
    return run_all.PAGE.read_text()


def test_the_page_has_machine_versions_date_sections_and_failures(comparisons, monkeypatch, capfd):
    with pytest.raises(SystemExit, match="^failed: different, broken$"):
        run_them(monkeypatch)
    assert "progress" in capfd.readouterr().err
    page = run_all.PAGE.read_text()
    today = datetime.date.today().isoformat()
    assert f"Measured on {today}." in page
    for words in (f"Python {platform.python_version()}", f"torch {version('torch')}"):
        assert words in page
    assert f"{harness.CORES} cores" in page
    assert re.findall(r"^(?:## .*|\*\*.*|\| [aDf].*)$", page, flags=re.M) == [
        *("## Good", "| a |", "| first |"),
        *("## Different", "| DIFFERENT |", "**`different.py` failed with exit status 1.**"),
        *("## broken", "**`broken.py` failed with exit status 3.**"),
    ]
    for private in (platform.node(), str(comparisons), str(ROOT), str(Path.home())):
        assert private not in page


def test_one_comparison_alone_leaves_the_other_sections_as_they_are(comparisons, monkeypatch):
    with pytest.raises(SystemExit):
        run_them(monkeypatch)
    before = run_all.read_page(run_all.PAGE)
    (comparisons / "good.py").write_text("print('## Good\\n\\nsecond')")
    assert "| first |" not in run_them(monkeypatch, "good")
    after = run_all.read_page(run_all.PAGE)
    assert after.pop("good").text == "## Good\n\nsecond"
    assert after == {name: before[name] for name in ("different", "broken")}


def test_a_section_that_is_older_than_the_page_says_when_it_was_measured(comparisons):
    sections = {
        "good": run_all.Section("2026-01-31", "## Good\n\ntext"),
        "broken": run_all.Section("2026-02-01", "## Broken"),
    }
    run_all.write_page(run_all.PAGE, sections)
    page = run_all.PAGE.read_text()
    assert re.findall(r"^Measured on .*", page, flags=re.M)[-2:] == [
        "Measured on 2026-02-01.",
        "Measured on 2026-01-31.",
    ]
    assert run_all.read_page(run_all.PAGE) == sections


def test_an_unknown_comparison_is_refused(comparisons, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_them(monkeypatch, "nonsense")
    assert "unknown: nonsense" in capsys.readouterr().err
    assert not run_all.PAGE.exists()


def test_every_comparison_is_there_and_every_script_has_a_line_in_the_readme():
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")} - {"harness", "data"}
    assert set(run_all.COMPARISONS) <= scripts
    named = re.findall(
        r"^\| `python benchmarks/(\w+)\.py`", (BENCHMARKS / "README.md").read_text(), re.M
    )
    assert sorted(named) == sorted(scripts)


def test_the_jobs_own_times_are_summed_by_rule(tmp_path):
    seconds = {
        "results/a/benchmarks/extract/digits/raw.tsv": 1,
        "results/a/benchmarks/extract/digits/scattering.tsv": 2,
        "results/a/benchmarks/extract/digits/net/random/s0/epoch000.tsv": 4,
        "results/a/benchmarks/extract/digits/net/random/sgd/s0/epoch001.tsv": 8,
        "results/a/benchmarks/tabulate_runtime.tsv": 16,
        "results/b/benchmarks/tabulate_runtime.tsv": 32,
        "resources/benchmarks/download_weights/vgg11-imagenet.tsv": 64,
    }
    for name, value in seconds.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"s\th:m:s\n{value}.5\t0:00:01\n")
    found = study.job_seconds(tmp_path, "a")
    assert {rule: sorted(times) for rule, times in found.items()} == {
        "extract_raw": [1.5],
        "extract_scattering": [2.5],
        "extract_network": [4.5, 8.5],
        "tabulate_runtime": [16.5],
        "download_weights": [64.5],
    }


def test_the_exponent_is_the_slope_between_the_two_largest_sizes():
    sizes = (10, 1_000, 30_000)
    runs = [Run(seconds, 0.0, {}) for seconds in (5.0, *(1e-3 * n**1.25 for n in sizes[1:]))]
    assert scale.exponent(sizes, runs) == pytest.approx(1.25)


@pytest.mark.parametrize(
    "stage", [scale.read, scale.collapse, scale.tsne], ids=lambda s: s.__name__
)
def test_stages_take_what_the_package_asks_for(tmp_path, monkeypatch, stage):
    monkeypatch.setattr(scale, "VECTOR", 8)
    scale.vectors(tmp_path, 60)
    shutil.copy(tmp_path / "vectors-train.h5", tmp_path / "features.h5")
    assert stage(tmp_path, 60)()


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_takes_from_the_package_is_there(path):
    """Most of it is imported within functions, which only a whole benchmark runs."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("collapseflow"):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


@pytest.mark.parametrize("precision", training.PRECISIONS)
def test_each_training_stands_beside_one_with_the_same_settings(tmp_path, monkeypatch, precision):
    """A speed over a DataLoader in another number format, or without what makes any training
    faster, would be no merit of ours."""
    import torch

    from collapseflow.running import hardware

    sides = training.sides(training.side) | training.tuned_sides()
    for row in training.rows():
        assert row.ours in sides and row.alternative in sides
        assert row.alternative.endswith(row.ours.split(", ")[1])
    alternatives = training.ALTERNATIVES[precision]
    assert training.TUNED.format(precision=precision) in alternatives
    seen = {}

    def adam(parameters, **options):
        seen.update(options, parameters=list(parameters))

    monkeypatch.setattr(torch.optim, "Adam", adam)
    monkeypatch.setattr(hardware, "prepare_process", lambda threads: seen.update(threads=threads))
    monkeypatch.setattr(training, "read_images", lambda *_: None)
    training.loader(tmp_path, "resnet18", 64, tuned=precision)
    assert seen["fused"] and seen["threads"] == harness.CORES
    first = seen["parameters"][0]
    assert first.is_contiguous(memory_format=torch.channels_last) and not first.is_contiguous()


# --- equal values of changed code -------------------------------------------------------------


def write_results(folder):
    """A file of each kind that two codes may have made."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for name in ("data", "features/d/raw", "training/d/run", "statistics/d/run", "weights/net"):
        (folder / name).mkdir(parents=True)
    with h5py.File(folder / "data" / "d.h5", "w") as file:
        file["train/images"] = array
    save_file({"head": array}, folder / "weights" / "net" / "package.safetensors")
    np.savez(folder / "statistics" / "d" / "run" / "epoch001.npz", means=array)
    log = [{"epoch": 1, "loss": 0.5, "seconds": 3.0, "images_per_second": 7.0}]
    (folder / "training" / "d" / "run" / "log.json").write_text(json.dumps(log))
    return array


@pytest.fixture
def two_results(tmp_path):
    for side in ("before", "after"):
        array = write_results(tmp_path / side)
    return tmp_path / "before", tmp_path / "after", array


CHANGES = {
    "prepare_dataset": "data/d.h5",
    "unpack_weights": "weights/net/package.safetensors",
    "reduce_epochs": "statistics/d/run/epoch001.npz",
    "finetune": "training/d/run/log.json",
}


@pytest.mark.parametrize("script", CHANGES)
@pytest.mark.parametrize("change", ["nothing", "value", "type", "gone"])
def test_results_of_two_codes_differ_where_a_value_a_type_or_a_file_does(
    two_results, script, change
):
    before, after, array = two_results
    path = after / CHANGES[script]
    other = array + (change == "value")
    other = other.astype(np.float64) if change == "type" else other
    if change == "gone":
        path.unlink()
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["train/images"] = other
    elif path.suffix == ".safetensors":
        save_file({"head": other}, path)
    elif path.suffix == ".npz":
        np.savez(path, means=other)
    else:
        # How long it took is of the machine.
        loss = {"value": 0.25, "type": "0.5"}.get(change, 0.5)
        path.write_text(json.dumps([{"epoch": 1, "loss": loss, "seconds": 1.0}]))
    found = same_values.differing(before, after, same_values.MADE_BY[script])
    assert found == ([] if change == "nothing" else [CHANGES[script]])


def test_what_the_study_does_not_make_proves_nothing(two_results):
    before, after, _ = two_results
    with pytest.raises(SystemExit, match="the study makes no features/"):
        same_values.differing(before, after, same_values.MADE_BY["extract_raw"])


def test_each_file_of_statistics_is_of_the_script_that_makes_it(tmp_path):
    files, net = Files("same"), State("net", "random", "mine", seed=0)
    untrained = ["raw", "scattering", net.at(0).path, State("net", "package").path]
    made = {
        "reduce_epochs": {
            f"{files.statistics_of_run('digits', net.run)}/epoch{epoch:03d}.npz" for epoch in (1, 3)
        },
        "reduce_features": {files.statistics("digits", folder) for folder in untrained},
    }
    for path in set.union(*made.values()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    for script, paths in made.items():
        results = tmp_path / files.results
        patterns = same_values.MADE_BY[script]
        found = {p for pattern in patterns for p in results.glob(pattern)}
        assert {str(p.relative_to(tmp_path)) for p in found} == paths
    assert made.keys() < set().union(*same_values.LAST_RULES["trained"])


def test_every_script_whose_values_are_compared_is_there():
    scripts = {path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py")}
    assert same_values.MADE_BY.keys() < scripts
    last = {
        rule for groups in same_values.LAST_RULES.values() for rules in groups for rule in rules
    }
    assert last < same_values.MADE_BY.keys()
    studies = [same_values.made_for(study) for study in same_values.LAST_RULES]
    assert sorted(sum(studies, [])) == sorted(same_values.MADE_BY)
