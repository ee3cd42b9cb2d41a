"""HDF5 files of others, of which the library may crash or hang: it does so in another process."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from collapseflow.images.sources import hdf5
from collapseflow.running.errors import UserError


@pytest.fixture
def files(tmp_path):
    """A file of plain arrays, and one of pieces, texts, links and nothing."""
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["a"] = np.arange(6).reshape(2, 3)
        file["group/scalar"] = 3.5
        file["empty"] = np.zeros((0, 4))
    with h5py.File(tmp_path / "pieces.h5", "w") as file:
        file.create_dataset("a", data=np.ones((9, 2)), chunks=(2, 2), compression="gzip")
        file["texts"] = np.array(["one", "two"], object)
        file["nowhere"] = h5py.SoftLink("/gone")
        file["null"] = h5py.Empty("f4")
    return [tmp_path / "plain.h5", tmp_path / "pieces.h5"]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A function that lets the process of a walk do what lines of a shell say."""

    def do(*lines):
        script = tmp_path / "python"
        script.write_text("\n".join(["#!/bin/sh", *lines]))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return do


def test_whole_files_are_opened_after_one_walk(files, monkeypatch):
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    hdf5.require_harmless(files)
    for path in files:
        with hdf5.open_foreign(path) as file, h5py.File(path) as plainly:
            assert list(file) == list(plainly)
            assert np.array_equal(file["a"], plainly["a"])
    assert len(calls) == 1
    # Another file of the same name is another one.
    with h5py.File(files[0], "w") as file:
        file["a"] = np.zeros(100)
    with hdf5.open_foreign(files[0]) as file:
        assert file["a"].shape == (100,)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("signal", "words"), [("SEGV", "breaks down"), ("XCPU", "does not come to an end in 10 s")]
)
def test_the_file_at_which_the_library_ends_is_named(files, library, signal, words):
    library("echo", f"kill -{signal} $$")
    line = rf"^\S+pieces.h5: cannot be read \(HDF5's library {words}\); replace it$"
    with pytest.raises(UserError, match=line):
        hdf5.require_harmless(files)


def test_one_piece_that_takes_long_to_unpack_holds_nobody_up(tmp_path, monkeypatch):
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        for name, rows in (("one", 6000), ("many", 100)):
            chunks = (rows, 1000)
            zeros = np.zeros((6000, 1000), np.float32)
            file.create_dataset(name, data=zeros, chunks=chunks, compression="gzip")
    read = []
    item = h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda one, rows: read.append(one.name) or item(one, rows)
    )
    hdf5._walk(str(path))
    assert read == ["/many", "/many"]


def test_a_walk_that_cannot_begin_blames_no_file(files, library):
    library("echo no such module >&2", "exit 1")
    with pytest.raises(RuntimeError, match="no such module"):
        hdf5.require_harmless(files)


def test_a_limit_of_the_shell_is_kept(files):
    words = f"ulimit -t 5; exec {sys.executable} -m {hdf5.__name__} {files[0]} {files[1]}"
    answer = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "\n\n", "")


def test_what_the_library_survives_is_told_by_who_reads(tmp_path, files):
    files[0].write_bytes(b"nothing of HDF5")
    hdf5.require_harmless(files)
    with pytest.raises(OSError), hdf5.open_foreign(files[0]):
        pytest.fail("opened")
    with pytest.raises(FileNotFoundError), hdf5.open_foreign(tmp_path / "missing.h5"):
        pytest.fail("opened")
