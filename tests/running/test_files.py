"""Files appear whole or not at all; digests are those of hashlib."""

import hashlib
import json
import os
import stat
import subprocess
import sys

import h5py
import pytest
import torch

from collapseflow.features.weights import save_state
from collapseflow.running.files import (
    FAILED,
    atomic_folder,
    atomic_path,
    failure,
    read_json,
    remove_partial,
    sha256_file,
    write_failure,
    write_json,
    write_text,
)


def test_a_finished_block_leaves_only_the_final_file(tmp_path):
    target = tmp_path / "new" / "folder" / "table.csv"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_the_temporary_name_stays_in_the_folder_and_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "figure.svg") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".svg"
        temporary.touch()


def test_two_writers_of_the_same_file_have_names_of_their_own(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as first, atomic_path(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    # The inner block ended before the outer one.
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_an_exception_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_exception_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_finished_block_replaces_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old and longer")
    write_text(target, "né")
    assert target.read_bytes() == "né".encode()


def test_a_block_that_writes_nothing_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def half_written(path):
    """What a process that is killed while it writes leaves behind."""
    with atomic_path(path) as temporary:
        temporary.write_text("half")
    return path.rename(temporary)


def others_than(path):
    """Half-written files of other names, and whole files that look like half-written ones."""
    folder = path.parent
    neighbours = [folder / f"{path.stem}2{path.suffix}", folder / f"{path.name}.gz"]
    neighbours += [folder / f"2{path.name}", folder / f"{path.stem}.more{path.suffix}"]
    others = [half_written(neighbour) for neighbour in neighbours]
    others += [folder / f".{path.stem}.part{path.suffix}", folder / f".{path.stem}{path.suffix}"]
    others.append(folder / f"{path.stem}.12345678.part{path.suffix}")
    for other in others:
        other.write_text("another's")
    return others


@pytest.mark.parametrize(
    "name", ["table.csv", "table", "table.tar.gz", "a[1].csv", "a[!b]?.csv", "*.csv", "[].csv"]
)
def test_half_written_files_of_one_path_are_removed_and_no_others(tmp_path, name):
    path = tmp_path / name
    others = others_than(path)
    halves = {half_written(path), half_written(path)}
    assert len(halves) == 2 and all(half.exists() for half in halves)
    path.write_text("another's")
    remove_partial(path)
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])
    assert {file.read_text() for file in tmp_path.iterdir()} == {"another's"}


def test_half_written_files_of_a_path_that_a_pattern_would_match_stay(tmp_path):
    others = [half_written(tmp_path / name) for name in ("a1.csv", "ab.csv", "axy.csv")]
    for name in ("a[1b].csv", "a?.csv", "a*.csv", "*.csv"):
        remove_partial(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_there_is_nothing_half_written_in_a_folder_that_does_not_exist(tmp_path):
    remove_partial(tmp_path / "new" / "a.csv")
    assert list(tmp_path.iterdir()) == []


# --- folders ----------------------------------------------------------------------------------


def content(folder):
    """The text of every file below a folder, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "an old result"])
def test_a_finished_folder_takes_the_place_of_what_was_there(tmp_path, before):
    target = tmp_path / "new" / "weights"
    if before != "nothing":
        target.mkdir(parents=True)
    if before == "an old result":
        (target / "layer4").mkdir()
        (target / "layer4" / "old.txt").write_text("old")
        (target / "a.txt").write_text("old")
    old = content(target) if target.exists() else None
    with atomic_folder(target) as temporary:
        assert temporary.parent == target.parent
        assert list(temporary.iterdir()) == []
        (temporary / "layer3").mkdir()
        (temporary / "layer3" / "b.txt").write_text("b")
        write_text(temporary / "a.txt", "a")
        assert (content(target) if target.exists() else None) == old
    assert content(target) == {"layer3/b.txt": "b", "a.txt": "a"}
    assert list(target.parent.iterdir()) == [target]
    assert sorted(path.name for path in target.iterdir()) == ["a.txt", "layer3"]


def test_an_exception_leaves_no_new_folder_and_keeps_the_old_one(tmp_path):
    target = tmp_path / "weights"

    def half():
        with pytest.raises(KeyboardInterrupt), atomic_folder(target) as temporary:
            (temporary / "a.txt").write_text("half")
            raise KeyboardInterrupt

    half()
    assert list(tmp_path.iterdir()) == []
    target.mkdir()
    (target / "old.txt").write_text("old")
    half()
    assert list(tmp_path.iterdir()) == [target]
    assert content(target) == {"old.txt": "old"}


KILLED = """
import os, signal, sys
from collapseflow.running import files
with files.atomic_folder(sys.argv[1]) as temporary:
    (temporary / "layer").mkdir()
    (temporary / "layer" / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["epoch001", "weight_decay=0.0005", "a[1]"])
def test_half_written_folders_of_a_killed_job_are_removed_and_no_others(tmp_path, name):
    path = tmp_path / name
    for neighbour in (path, path, tmp_path / f"{name}2"):
        subprocess.run([sys.executable, "-c", KILLED, str(neighbour)], check=False)
    (tmp_path / name).mkdir()
    assert len(list(tmp_path.iterdir())) == 4
    remove_partial(path)
    assert path.is_dir()
    (other,) = set(tmp_path.iterdir()) - {path}
    assert content(other) == {"layer/a.txt": "half"}


def test_files_of_a_folder_are_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []

    def sync(number):
        synced.append(os.fstat(number).st_ino)
        assert not (tmp_path / "weights").exists()

    monkeypatch.setattr(os, "fsync", sync)
    with atomic_folder(tmp_path / "weights") as temporary:
        (temporary / "layer").mkdir()
        for name in ("a.txt", "layer/b.txt"):
            (temporary / name).write_text(name)
    files = [tmp_path / "weights" / name for name in ("a.txt", "layer/b.txt")]
    assert sorted(synced) == sorted(file.stat().st_ino for file in files)


def test_the_reason_of_a_failure_is_read_where_it_was_written(tmp_path):
    assert failure(tmp_path) is None
    assert failure(tmp_path / "missing") is None
    write_failure(tmp_path, "the loss of epoch 3 is not finite")
    assert failure(tmp_path) == "the loss of epoch 3 is not finite"
    assert FAILED == "failed.json"
    assert json.loads((tmp_path / FAILED).read_text()) == {
        "failed": "the loss of epoch 3 is not finite"
    }


# --- who may read -----------------------------------------------------------------------------


def write_hdf5(path):
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["a"] = 1


WRITERS = {
    "text": lambda path: write_text(path, "a"),
    "weights": lambda path: save_state(path, {"a": torch.zeros(2)}, {}),
    "hdf5": write_hdf5,
}


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], ids=oct)
@pytest.mark.parametrize("kind", WRITERS)
def test_the_umask_says_who_may_read_a_file(tmp_path, kind, umask):
    before = os.umask(umask)
    try:
        WRITERS[kind](tmp_path / "file")
        (tmp_path / "folder").mkdir()
        with atomic_folder(tmp_path / "atomic"):
            pass
    finally:
        os.umask(before)
    mode = stat.S_IMODE((tmp_path / "file").stat().st_mode)
    assert mode == 0o666 & ~umask
    of_folders = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("folder", "atomic")]
    assert of_folders == [0o777 & ~umask] * 2


def test_a_linked_file_keeps_its_permissions(tmp_path):
    kept = tmp_path / "kept"
    kept.touch(0o600)
    with atomic_path(tmp_path / "output") as temporary:
        os.link(kept, temporary)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_json_round_trip(tmp_path):
    content = {"a": [1, 2.5, None], "ü": "x"}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
    assert read_json(tmp_path / "a.json") == content


def test_json_refuses_nan_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_sha256_of_a_file_is_the_published_one(tmp_path):
    # FIPS 180-2, appendix B.1: the digest of "abc".
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(range(256)) * 5000)
    assert sha256_file(path) == hashlib.sha256(bytes(range(256)) * 5000).hexdigest()
