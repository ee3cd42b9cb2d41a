"""Checks that want a card: `make test-gpu`, or `make test-gpu DEVICE=cpu` to rehearse them.

A check that has held is not repeated with the same code, card, driver and PyTorch: its record is a
file in results/gpu-tests. At the end stands a table of what holds here.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RECORDS = ROOT / "results" / "gpu-tests"
#: "cuda" and "cpu" are asked for by make; None is a part of the ordinary tests.
ASKED = os.environ.get("COLLAPSEFLOW_TEST_DEVICE")
LIMIT = 600
MACHINE = pytest.StashKey[dict]()
ROWS = pytest.StashKey[list]()
FOUND = pytest.StashKey[list]()


def start(name: str, arguments: dict, **options: object) -> subprocess.Popen:
    """A job of ``jobs.py`` as a process, at the head of a group with all that it starts."""
    words = [sys.executable, str(HERE / "jobs.py"), name, json.dumps(arguments)]
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH")]
    options["env"] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **options.get("env", {}),
    }
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(words, text=True, start_new_session=True, **pipes, **options)


def kill(process: subprocess.Popen) -> None:
    """Kill what is left of a job."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(name: str, **arguments: object) -> dict:
    """What a job answers; a package that it lacks skips the check."""
    process = start(name, arguments)
    try:
        said, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        kill(process)
        errors = process.communicate()[1]
        pytest.fail(f"{name}: no answer after {LIMIT} s; it said: {errors[-1000:]}")
    finally:
        kill(process)
    if process.returncode:
        pytest.fail(f"{name} ended with {process.returncode}: {errors[-3000:]}")
    answer = json.loads(said.splitlines()[-1])
    if missing := answer.get("missing"):
        pytest.skip(f"needs the package {missing}")
    return answer


def code() -> str:
    """A digest of all that a check runs."""
    content = hashlib.sha256()
    for folder in ("src", "workflow", "tests/gpu"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".smk"):
                content.update(path.read_bytes())
    return content.hexdigest()[:16]


def find_machine(config: pytest.Config) -> dict:
    """What checks run on; ``none`` says why they cannot."""
    if MACHINE not in config.stash:
        try:
            config.stash[MACHINE] = {**run("describe"), "code": code()}
        except pytest.skip.Exception as error:
            config.stash[MACHINE] = {"none": str(error)}
        config.stash[ROWS] = []
    return config.stash[MACHINE]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cards_only: what a processor cannot rehearse")
    config.addinivalue_line("markers", "two_cards: for machines with two cards")
    if ASKED and (reason := find_machine(config).get("none")):
        raise pytest.UsageError(f"no card can be used here: {reason}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if HERE not in item.path.parents:
        return
    machine = find_machine(item.config)
    if "none" in machine:
        pytest.skip(f"no card can be used here: {machine['none']}")
    if item.get_closest_marker("cards_only") and ASKED == "cpu":
        pytest.skip("of cards only")
    if record := held_before(item, machine):
        item.stash[FOUND] = [*record["found"], "held before"]
        pytest.skip("held before")
    if item.get_closest_marker("two_cards") and machine["count"] < 2:
        pytest.skip("one card here")


def record_of(item: pytest.Item) -> Path:
    return RECORDS / f"{item.name}.json"


def held_before(item: pytest.Item, machine: dict) -> dict | None:
    """The record of a check that has held with the same code on the same machine."""
    try:
        record = json.loads(record_of(item).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if record["machine"] == without_log(machine) else None


def without_log(machine: dict) -> dict:
    return {key: value for key, value in machine.items() if key != "log"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if HERE in item.path.parents and (call.when == "call" or report.outcome != "passed"):
        found = item.stash.get(FOUND, [])
        if report.passed:
            RECORDS.mkdir(parents=True, exist_ok=True)
            content = {"machine": without_log(find_machine(item.config)), "found": found}
            partial = record_of(item).with_suffix(".part")
            partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
            partial.replace(record_of(item))
        elif report.skipped:
            found = found or [str(report.longrepr[2]).removeprefix("Skipped: ")]
        else:
            found = [*found, str(call.excinfo.value).partition("\n")[0]]
        holds = "yes" if report.passed or "held before" in found else "-"
        words = item.name.removeprefix("test_").replace("_", " ")
        row = (words, "NO" if report.failed else holds, "; ".join(found))
        item.config.stash[ROWS].append(row)
    return report


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if ASKED is None or not rows:
        return
    machine = without_log(config.stash[MACHINE])
    terminalreporter.section("what holds here")
    terminalreporter.line(", ".join(f"{key} {value}" for key, value in machine.items()))
    width = max(len(words) for words, _, _ in rows)
    for words, holds, found in rows:
        terminalreporter.line(f"{words:{width}}  {holds:4} {found}")


@pytest.fixture
def says(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A function that notes for the table what a check has found."""
    return request.node.stash.setdefault(FOUND, []).append


@pytest.fixture
def job() -> Callable[..., dict]:
    """A function that runs a job of ``jobs.py`` and gives its answer."""
    return run


@pytest.fixture
def start_job() -> Iterator[Callable[..., subprocess.Popen]]:
    """A function that starts a job of ``jobs.py``; none outlives the check."""
    processes, timers = [], []

    def begin(name: str, options: dict | None = None, **arguments: object) -> subprocess.Popen:
        process = start(name, arguments, **(options or {}))
        processes.append(process)
        # Who waits for a line of it gets an end then.
        timers.append(threading.Timer(LIMIT, kill, [process]))
        timers[-1].start()
        return process

    yield begin
    for process, timer in zip(processes, timers, strict=True):
        timer.cancel()
        kill(process)
        process.communicate()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with 128 training images of 32 px, and random weights to start from."""
    folder = str(tmp_path_factory.mktemp("data"))
    run("prepare", folder=folder, size=32, channels=1, n_train=128)
    return folder


@pytest.fixture
def on_cpu(request: pytest.FixtureRequest) -> bool:
    """Whether this is the rehearsal on a processor."""
    return ASKED == "cpu"
