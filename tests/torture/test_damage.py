"""Damaged files: each is refused in one line, or has the values that it had; nothing crashes, hangs
or is believed."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from attacked import CASES, DAMAGES, OF_CHECKSUMS, READ_BY_NO_JOB, in_a_child

from collapseflow.features.stores import iterate, read_attributes, read_head, read_labels
from collapseflow.features.weights import load_state
from collapseflow.images.datasets import read_info, read_split
from collapseflow.measures.statistics import read_statistics
from collapseflow.presentation.rows import read_csv
from collapseflow.running.files import checksum_file, read_arrays, read_json

#: Every way to damage a result.
ALL = (*DAMAGES, *OF_CHECKSUMS)


def _read_dataset(path: Path) -> list:
    return [read_info(path), read_split(path, "train"), read_split(path, "test")]


def _read_store(path: Path) -> list:
    blocks = [tuple(block) for block in iterate(path)]
    return [blocks, read_labels(path), read_head(path), read_attributes(path)]


#: How jobs read what stands where in a study's results.
READERS: dict[str, Callable[[Path], Any]] = {
    "data/*.h5": _read_dataset,
    "features/*.h5": _read_store,
    "weights/*.safetensors": load_state,
    "training/*.safetensors": load_state,
    "statistics/*.npz": read_statistics,
    "embeddings/*.npz": read_arrays,
    "training/*.json": read_json,
    "classification/*.json": read_json,
    "spectrum/*.json": read_json,
    "few_shot/*.json": read_json,
    "similarity/*.json": read_json,
    "audit/*.json": read_json,
    "identity.json": read_json,
    "findings.json": read_json,
    "tables/*.json": read_json,
    "measures.csv": read_csv,
    "failures.csv": read_csv,
    "tables/*.csv": read_csv,
}


def _files(results: Path, pattern: str) -> list[Path]:
    files = (path for path in results.rglob("*") if path.is_file())
    shown = (path for path in files if not path.name.startswith("."))
    return sorted(p for p in shown if fnmatch(p.relative_to(results).as_posix(), pattern))


def _equal(one: Any, other: Any) -> bool:
    if is_dataclass(one):
        return all(_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    return one == other or (one != one and other != other)


def _compared(read: Callable[[Path], Any], expected: Any, path: Path) -> str:
    return "the same values" if _equal(expected, read(path)) else "other values"


@cache
def _expected(read: Callable[[Path], Any], path: Path) -> Any:
    return read(path)


def _cases(
    results: Path, pattern: str, everything: list[Path], rng: random.Random, folder: Path
) -> Iterator[tuple[str, str]]:
    read, files = READERS[pattern], _files(results, pattern)
    for _ in range(CASES):
        original, damage = rng.choice(files), rng.choice(ALL)
        different = [f for f in everything if f.read_bytes() != original.read_bytes()]
        others = [f for f in different if f in files] or different
        # Of the same place in a study's results.
        path = folder / "results" / "attacked" / original.relative_to(results)
        path.parent.mkdir(parents=True, exist_ok=True)
        for source in (original, checksum_file(original)):
            shutil.copyfile(source, path.parent / source.name)
        before = path.read_bytes(), checksum_file(path).read_bytes()
        seed = rng.random()
        damage(path, others, random.Random(seed))
        if (path.read_bytes(), checksum_file(path).read_bytes()) != before:
            words = in_a_child(partial(_compared, read, _expected(read, original)), path)
            yield words, f"{damage.__name__}, {original.relative_to(results)}, seed {seed}"


@pytest.mark.parametrize("pattern", READERS)
def test_nothing_damaged_is_believed_or_brings_a_job_down(finished, pattern, rng, tmp_path):
    assert _files(finished, pattern), f"the study has no {pattern}"
    everything = [path for known in READERS for path in _files(finished, known)]
    outcomes = Counter()
    wrong = []
    for words, case in _cases(finished, pattern, everything, rng, tmp_path):
        outcomes[words if words in ("refused", "the same values") else "wrong"] += 1
        if words not in ("refused", "the same values"):
            wrong.append(f"{case}: {words}")
    print(pattern, dict(outcomes))
    assert not wrong, "\n".join(wrong[:5])
    assert outcomes["refused"] > 0


def test_every_file_that_a_job_reads_is_attacked(finished):
    known = {path for pattern in READERS for path in _files(finished, pattern)}
    missing = [
        name
        for path in _files(finished, "*")
        if path not in known
        and (name := path.relative_to(finished).as_posix()).partition("/")[0] not in READ_BY_NO_JOB
        and path.suffix not in (".md", ".tex", ".html")
    ]
    assert not missing, f"not among READERS: {missing}"
