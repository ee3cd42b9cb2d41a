"""What the checks of this folder run as jobs, each in a process of its own.

    python tests/gpu/jobs.py NAME ARGUMENTS

The arguments are one word of JSON, and so is the last line that a job prints: its answer, with
what it has logged; ``missing`` names a package without which it cannot run, ``refused`` says why
the project has refused. A job takes its device as those of the workflow do, and on a processor,
with COLLAPSEFLOW_TEST_DEVICE=cpu, the same is rehearsed without a card.
"""

import json
import logging
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEVICE = os.environ.get("COLLAPSEFLOW_TEST_DEVICE", "cuda")
CODE = "0" * 16
N_CLASSES = 10
#: What a study takes besides what its own package names; a machine that trains may lack some.
OF_A_STUDY = (
    *("snakemake", "pydantic", "yaml", "h5py", "safetensors", "xxhash", "torchvision", "pandas"),
    *("sklearn", "scipy", "matplotlib", "openTSNE", "kymatio", "mlxtend", "threadpoolctl"),
)


def take(count: int = 1, device: str = DEVICE) -> list:
    """The devices of a job; every job of this folder takes them here."""
    from collapseflow.running.hardware import pick_devices, prepare_process

    # A rehearsal shares its processor with others.
    prepare_process(1 if device == "cpu" else min(4, os.cpu_count() or 1))
    return pick_devices(device, count)


def leave(device, mebibytes: int, how: str):
    """Leave a job so much memory of its device: by a limit of its own, or, of a card, by taking
    all the rest; the caller holds what is given."""
    import torch

    from collapseflow.running.hardware import limit_memory

    n_bytes = mebibytes * 2**20
    if device.type == "cpu":
        return limit_memory(n_bytes)
    free, total = torch.cuda.mem_get_info(device)
    if how == "limit":
        return torch.cuda.set_per_process_memory_fraction(n_bytes / total, device)
    return torch.empty(free - n_bytes, dtype=torch.uint8, device=device)


def describe() -> dict:
    """The machine: what results of checks are valid for."""
    import torch

    found = {"torch": torch.__version__, "python": platform.python_version(), "count": 0}
    if DEVICE == "cpu":
        return {**found, "name": f"a processor ({platform.machine()})", "count": 2}
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return {**found, "none": str(error).splitlines()[0]}
    card = torch.cuda.get_device_properties(0)
    return {
        **found,
        "name": card.name,
        "capability": f"sm_{card.major}{card.minor}",
        "mebibytes": card.total_memory // 2**20,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "count": torch.cuda.device_count(),
        "kernels": torch.cuda.get_arch_list(),
    }


def driver() -> str:
    """The driver's version, as it says itself."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        return answer.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def prepare(folder: str, size: int, channels: int, n_train: int) -> dict:
    """A data set of patterns under noise, and random weights to start from."""
    import numpy as np

    from collapseflow.images.datasets import Splits, make_split, write_dataset
    from collapseflow.training.loop import initialize

    generator = np.random.default_rng(0)
    n = n_train + 64
    labels = np.arange(n) % N_CLASSES
    patterns = generator.integers(0, 200, (N_CLASSES, 8, 8, channels))
    images = np.kron(patterns, np.ones((1, size // 8, size // 8, 1))).astype(np.uint8)[labels]
    images[:, ::2] += generator.integers(0, 50, (n, 1, size, 1), dtype=np.uint8)
    data = make_split(images if channels == 3 else images[..., 0], labels)
    names = [f"class {k}" for k in range(N_CLASSES)]
    splits = Splits(data.take(np.arange(n_train)), data.take(np.arange(n_train, n)), names, "made")
    write_dataset(Path(folder, "data.h5"), splits)
    for model in ("resnet18", "shufflenet_v2_x0_5"):
        initialize(model, 0, Path(folder, f"{model}.safetensors"))
    return {"bytes": images[:n_train].nbytes}


def precision(size: int) -> dict:
    """Relative errors, by the number format, of a product and of a convolution."""
    import torch

    from collapseflow.running.hardware import autocast, has_bfloat16, precision_name

    (device,) = take()
    torch.manual_seed(0)
    a, b = torch.randn(2, size, size)
    images, filters = torch.randn(8, 64, 32, 32), torch.randn(64, 64, 3, 3)
    exact = (a.double() @ b.double(), torch.conv2d(images.double(), filters.double()))

    def errors(number: torch.dtype) -> list[float]:
        with autocast(device, number):
            found = (
                a.to(device) @ b.to(device),
                torch.conv2d(images.to(device), filters.to(device)),
            )
        return [
            ((x.cpu().double() - y).norm() / y.norm()).item()
            for x, y in zip(found, exact, strict=True)
        ]

    answer = {
        "auto": precision_name("auto", device),
        "float32": errors(torch.float32),
        "bfloat16": errors(torch.bfloat16) if has_bfloat16(device) else None,
        "tf32": None,
    }
    if device.type == "cuda" and torch.cuda.is_tf32_supported():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        answer["tf32"] = errors(torch.float32)
    return answer


def train(
    folder: str,
    data: str,
    model: str = "shufflenet_v2_x0_5",
    image_size: int = 32,
    batch_size: int = 32,
    epochs: int = 5,
    precision: str = "float32",
    learning_rate: float = 0.01,
    count: int = 1,
    device: str = DEVICE,
    memory: tuple[int, str] | None = None,
    count_waits: bool = False,
) -> dict:
    """Fine-tune as the rule does; parts and results stand in ``folder``.

    ``memory`` is what :func:`leave` takes; with ``count_waits`` the answer has how often the host
    has waited for the card.
    """
    import torch
    from safetensors import safe_open

    from collapseflow.training.loop import finetune
    from collapseflow.training.recipes import NetworkRecipe

    devices = take(count, device)
    recipe = NetworkRecipe(
        model=model,
        image_size=image_size,
        normalize="imagenet",
        precision=precision,
        seed=0,
        epochs=epochs,
        batch_size=batch_size,
        optimizer="sgd",
        learning_rate=learning_rate,
        momentum=0.9,
    )
    place, on_card = Path(folder), devices[0].type == "cuda"
    held = leave(devices[0], *memory) if memory else None
    if count_waits and on_card:
        torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        finetune(
            Path(data, "data.h5"),
            recipe,
            range(1, epochs + 1),
            devices,
            Path(data, f"{model}.safetensors"),
            "random weights",
            place / "progress",
            CODE,
            place / "weights",
            place / "log.json",
        )
    with safe_open(place / "weights" / f"epoch{epochs:03d}.safetensors", "pt") as file:
        metadata = file.metadata()
    opened = torch.cuda.is_initialized()
    peak = torch.cuda.max_memory_allocated() if opened else 0
    return {
        "losses": [record["loss"] for record in json.loads((place / "log.json").read_text())],
        "metadata": metadata,
        "waits": sum("synchronizing CUDA" in str(warning.message) for warning in said),
        "opened": opened,
        "peak": peak - (0 if held is None else held.nbytes),
    }


def read(
    folder: str,
    data: str,
    model: str = "resnet18",
    image_size: int = 64,
    batch_size: int = 64,
    precision: str = "float32",
    device: str = DEVICE,
    memory: tuple[int, str] | None = None,
) -> dict:
    """Read features as the rule does, into ``folder/features``."""
    from collapseflow.features.extraction import Reading, write_state_features

    (chosen,) = take(1, device)
    held = leave(chosen, *memory) if memory else None
    layers = ["layer2", "penultimate"]
    reading = Reading(
        model=model,
        layers=layers,
        pool="average",
        image_size=image_size,
        normalize="imagenet",
        precision=precision,
        batch_size=batch_size,
    )
    start, output = Path(data, f"{model}.safetensors"), Path(folder, "features")
    write_state_features(Path(data, "data.h5"), start, 0, reading, chosen, output)
    del held
    return {}


def scatter(folder: str, data: str, device: str = DEVICE) -> dict:
    """Wavelet scattering as the rule does it, into ``folder/scattering.h5``."""
    from functools import partial

    from collapseflow.features.scattering import scattering
    from collapseflow.features.stores import write_features

    (chosen,) = take(1, device)
    transform = partial(scattering, J=2, L=8, order=2, device=chosen, what="scattering")
    output = Path(folder, "scattering.h5")
    words = ("scattering", "none", "pixels over 255")
    write_features(Path(data, "data.h5"), "train", output, transform, *words)
    return {}


def hold() -> None:
    """Take a card, say which, and keep it until standard input ends."""
    import torch

    (device,) = take()
    print(json.dumps({"card": str(torch.cuda.get_device_properties(device).uuid)}), flush=True)
    sys.stdin.read()


def study(folder: str) -> dict:
    """A whole small study by Snakemake: rows of measures from a network that is trained here."""
    import importlib

    for package in OF_A_STUDY:
        importlib.import_module(package)
    content = {
        "study": "card",
        "device": DEVICE,
        "datasets": {"digits": {"source": "digits", "subset": {"train": 200, "test": 100}}},
        "backbones": {
            "net": {"model": "shufflenet_v2_x0_5", "image_size": 32, "weights": ["random"]}
        },
        "recipes": {"report_a": {"epochs": 2, "batch_size": 50}},
        "features": [],
    }
    file = Path(folder, "study.json")
    file.write_text(json.dumps(content))
    words = ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", file]
    words += ["--cores", "2", "--resources", "gpu=1", "--", "results/card/measures.csv"]
    command = [sys.executable, "-m", "snakemake", *map(str, words)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(answer.stderr[-3000:])
    rows = Path(folder, "results/card/measures.csv").read_text().splitlines()
    failures = Path(folder, "results/card/failures.csv").read_text().splitlines()
    return {"rows": len(rows) - 1, "failures": failures[1:]}


class Lines(logging.Handler):
    """Keeps what is logged, and shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        print(record.getMessage(), file=sys.stderr, flush=True)


def main() -> None:
    from collapseflow.running.errors import UserError

    name, arguments = sys.argv[1:]
    log = Lines()
    logging.basicConfig(level=logging.INFO, handlers=[log])
    try:
        answer = globals()[name](**json.loads(arguments))
    except ModuleNotFoundError as error:
        if error.name.startswith("collapseflow"):
            raise
        answer = {"missing": error.name}
    except UserError as error:
        answer = {"refused": str(error)}
    if answer is not None:
        print(json.dumps({**answer, "log": log.lines}))


if __name__ == "__main__":
    main()
