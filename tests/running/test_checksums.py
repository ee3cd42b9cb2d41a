"""What is read is what was written, in its own place: of every kind, whoever reads it."""

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import xxhash

from collapseflow.features import stores
from collapseflow.features.weights import load_state, save_state
from collapseflow.images.datasets import Splits, make_split, read_info, read_split, write_dataset
from collapseflow.measures.embedding import write_failed_embedding
from collapseflow.measures.statistics import read_statistics, write_failed_statistics
from collapseflow.presentation.rows import read_csv, write_csv
from collapseflow.running import files
from collapseflow.running.errors import TemporaryError, UserError
from collapseflow.running.files import (
    CheckedFile,
    adopt,
    checked_path,
    checksum_file,
    open_checked,
    place_in_study,
    read_arrays,
    read_checksums,
    read_json,
    remedy,
    remove_partial,
    require_space,
    write_json,
)
from collapseflow.running.resume import publish, read_kept
from collapseflow.verification import verify

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8)
LABELS = np.arange(12) % 3


def data_set(path, images=IMAGES):
    split = make_split(images, LABELS)
    write_dataset(path, Splits(split, split, ["a", "b", "c"], "noise"))


def read_data_set(path):
    return read_info(path), [vars(read_split(path, split)) for split in ("train", "test")]


def store(path, split="train", sha256="0" * 64):
    provenance = {
        **dict.fromkeys(stores.PROVENANCE, "x"),
        "dataset": "mnist",
        "split": split,
        "dataset_sha256": sha256,
    }
    features = [(IMAGES.reshape(12, 16).astype(np.float32), LABELS)]
    stores.write_store(path, features, LABELS, LABELS, provenance)


def table(path):
    write_csv(path, pd.DataFrame({"quantity": ["nc1", "accuracy"], "value": [0.25, 0.5]}))


#: By kind: where it stands, what writes it, and what reads it.
KINDS = {
    "data set": ("data/mnist.h5", data_set, read_data_set),
    "store": ("features/mnist/raw/train.h5", store, stores.read_rows),
    "weights": (
        "weights/resnet18/random/s0.safetensors",
        lambda path: save_state(path, {"w": torch.arange(30.0)}, {"weights": "made here"}),
        load_state,
    ),
    "statistics": (
        "statistics/mnist/raw.npz",
        lambda path: write_failed_statistics(path, "the loss is not finite"),
        read_statistics,
    ),
    "embedding": (
        "embeddings/mnist/raw/both-opentsne.npz",
        lambda path: write_failed_embedding(path, "no features"),
        read_arrays,
    ),
    "JSON": (
        "classification/mnist/raw.json",
        lambda path: write_json(path, {"lda": {"accuracy": 0.75, "n_test": 12}}),
        read_json,
    ),
    "table": ("measures.csv", table, read_csv),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """A path in a study, what has written a file there, and what reads it."""
    place, write, read = KINDS[request.param]
    path = tmp_path / "results" / "demo" / place
    path.parent.mkdir(parents=True)
    write(path)
    return path, write, read


def assert_refused(path, read, what):
    with pytest.raises(UserError, match=what) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_checksums_are_of_blocks_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    content = os.urandom(2500)
    path = tmp_path / "results" / "demo" / "data" / "a.bin"
    with checked_path(path) as temporary:
        temporary.write_bytes(content)
    assert json.loads((path.parent / ".a.bin.xxh3").read_text()) == {
        "place": "data/a.bin",
        "n_bytes": 2500,
        "block_bytes": 1000,
        "xxh3_64": [xxhash.xxh3_64_hexdigest(content[n : n + 1000]) for n in (0, 1000, 2000)],
    }
    assert sorted(p.name for p in path.parent.iterdir()) == [".a.bin.xxh3", "a.bin"]


def test_a_checked_file_is_read_as_any_other_and_only_where_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    content = os.urandom(9500)
    path = tmp_path / "a.bin"
    with checked_path(path) as temporary:
        temporary.write_bytes(content)
    rng = np.random.default_rng(0)
    with open_checked(path) as file:
        assert file.read() == content and file.read() == b""
        for start, stop in np.sort(rng.integers(0, 9500, (50, 2))):
            assert file.seek(start) == start
            assert file.read(stop - start) == content[start:stop]
        file.seek(-10, os.SEEK_END)
        assert file.read(100) == content[-10:]
    damaged = bytearray(content)
    damaged[4321] ^= 4
    path.write_bytes(damaged)
    with CheckedFile(path, read_checksums(path)) as file:
        assert file.read(4000) == content[:4000]
        with pytest.raises(UserError, match="damaged between its bytes 4000 and 5000"):
            file.read(1)
        file.seek(5000)
        assert file.read() == content[5000:]


def test_no_bit_of_any_kind_is_flipped_unseen(kind):
    path, _, read = kind
    content = path.read_bytes()
    read(path)
    for place in np.linspace(0, len(content) - 1, 40).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert_refused(path, read, "damaged between its bytes 0 and .*; delete it and start again")
        assert_refused(path, verify, "damaged between its bytes 0 and .*; delete it")
    path.write_bytes(content)
    read(path)


@pytest.mark.parametrize("share", [0, 0.5, 0.99, 1.5])
def test_a_file_of_another_length_is_refused(kind, share):
    path, _, read = kind
    content = path.read_bytes()
    path.write_bytes((2 * content)[: int(share * len(content))])
    assert_refused(path, read, f"has {int(share * len(content))} bytes of {len(content)}; delete")


def test_a_file_of_another_place_is_refused_and_a_copied_study_is_not(kind, tmp_path):
    path, _, read = kind
    study = tmp_path / "results" / "demo"
    read(shutil.copytree(study, tmp_path / "results" / "copy") / path.relative_to(study))
    read(shutil.copy(path, tmp_path / f"alone{path.suffix}"))
    other = path.parent / f"other{path.suffix}"
    shutil.copy(path, other)
    shutil.copy(checksum_file(path), checksum_file(other))
    place = path.relative_to(study).as_posix()
    assert_refused(other, read, f"was made as {place}, and stands in another's place; delete it")
    assert_refused(other, verify, f"was made as {place}")


#: Of no file.
CHECKSUMS = [
    *("", "{", "[]", "{}", "half", '{"place": null, "n_bytes": 1}'),
    '{"place": null, "n_bytes": 5, "block_bytes": 0, "xxh3_64": []}',
    '{"place": null, "n_bytes": "5", "block_bytes": 9, "xxh3_64": ["0"]}',
    '{"place": null, "n_bytes": 5, "block_bytes": 9, "xxh3_64": []}',
]


@pytest.mark.parametrize("content", CHECKSUMS)
def test_damaged_checksums_are_refused_and_name_the_file(kind, content):
    path, _, read = kind
    checksum_file(path).write_text(content)
    assert_refused(path, read, "its checksums in .*xxh3 are damaged .*; delete it")


def test_a_file_of_an_earlier_version_is_accepted_and_checked_from_then_on(kind):
    path, write, read = kind
    checksum_file(path).unlink()
    written = path.stat().st_mtime_ns
    read(path)
    assert path.stat().st_mtime_ns == written
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_refused(path, read, "damaged")
    # Made again, it has new ones.
    write(path)
    read(path)


def test_what_cannot_be_read_gets_no_checksums(kind):
    path, _, read = kind
    checksum_file(path).unlink()
    content = path.read_bytes()
    path.write_bytes(b"\x80no such content" + bytes(100))
    with pytest.raises(UserError):
        read(path)
    assert not checksum_file(path).exists()
    path.write_bytes(content)
    read(path)


def test_outside_of_a_study_nothing_is_written_beside_a_file(kind, tmp_path):
    path, _, read = kind
    own = tmp_path / "mine" / path.name
    own.parent.mkdir()
    shutil.copy(path, own)
    read(own)
    adopt(own)
    assert list(own.parent.iterdir()) == [own]


def test_a_missing_file_is_named(tmp_path):
    for read in (read_json, read_arrays, read_csv, read_info, stores.read_rows):
        assert_refused(tmp_path / "a.x", read, "there is no such file")


def test_the_place_of_what_is_being_written_is_that_for_which_it_is_meant(tmp_path):
    study = tmp_path / "results" / "demo"
    for name in ("raw", "weight_decay=0.0005", ".hidden", "a.tar.gz"):
        with files.atomic_folder(study / "features" / name) as folder:
            assert place_in_study(folder / "train.h5") == f"features/{name}/train.h5"
            with checked_path(folder / "train.h5") as temporary:
                temporary.touch()
        checksums = read_checksums(study / "features" / name / "train.h5")
        assert checksums.place == f"features/{name}/train.h5"
    assert place_in_study(study) is place_in_study(tmp_path / "a.h5") is None


def test_the_remedy_names_what_one_job_has_made(tmp_path):
    path = tmp_path / "raw" / "layer4" / "train.h5"
    path.parent.mkdir(parents=True)
    assert remedy(path) == "delete it and start again: it is made anew"
    (tmp_path / "raw" / ".snakemake_timestamp").touch()
    assert remedy(path).startswith(f"delete the folder {tmp_path / 'raw'} and start again")


# --- which features they are ------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    """A study with a data set and its stores, all as earlier versions left them."""
    folder = tmp_path / "results" / "demo"
    data_set(folder / "data" / "mnist.h5")
    sha256 = read_info(folder / "data" / "mnist.h5").sha256
    for split in ("train", "test"):
        store(folder / "features" / "mnist" / "raw" / f"{split}.h5", split, sha256)
    for path in folder.rglob(".*.xxh3"):
        path.unlink()
    return folder


def test_features_of_another_split_or_data_set_are_refused_without_checksums(study):
    train, test = (study / "features" / "mnist" / "raw" / f"{s}.h5" for s in ("train", "test"))
    assert len(stores.read_labels(train)) == len(stores.read_labels(test)) == 12
    other = study / "features" / "fashion" / "raw" / "train.h5"
    other.parent.mkdir(parents=True)
    shutil.copy(train, other)
    assert_refused(other, stores.read_labels, "holds the features of the train images of mnist")
    checksum_file(test).unlink()
    shutil.copy(train, test)
    assert_refused(test, stores.read_labels, "holds the features of the train images of mnist")


def test_features_of_images_that_the_data_set_no_longer_has_are_refused(study):
    path = study / "features" / "mnist" / "raw" / "train.h5"
    stores.read_labels(path)
    data_set(study / "data" / "mnist.h5", 255 - IMAGES)
    assert_refused(path, stores.read_labels, "holds features of other images than .*mnist.h5")


def test_a_damaged_byte_anywhere_ends_in_one_line_in_one_process(study):
    """HDF5's library crashes or hangs on some: it never sees them."""
    path = study / "features" / "mnist" / "raw" / "train.h5"
    stores.read_rows(path)
    script = """
import sys
from pathlib import Path
from collapseflow.features import stores
from collapseflow.running.errors import UserError
path = Path(sys.argv[1])
whole, refused = path.read_bytes(), 0
for place in range(0, len(whole), 5):
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    try:
        stores.read_rows(path)
    except UserError:
        refused += 1
print(refused == len(range(0, len(whole), 5)))
"""
    command = [sys.executable, "-c", script, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "True\n", "")


# --- parts and outputs ------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [True, False])
def test_an_output_has_the_checksums_of_its_part(tmp_path, sealed):
    study = tmp_path / "results" / "demo"
    part = study / "progress" / "epoch001.safetensors"
    save_state(part, {"w": torch.arange(30.0)}, {})
    if not sealed:
        checksum_file(part).unlink()
    output = study / "training" / "mnist" / "weights" / "epoch001.safetensors"
    publish(part, output)
    assert read_checksums(output).place == "training/mnist/weights/epoch001.safetensors"
    load_state(output)
    # A hard link: both copies go.
    content = bytearray(output.read_bytes())
    content[-3] ^= 1
    output.write_bytes(content)
    assert_refused(output, load_state, "damaged between")


def test_a_damaged_part_counts_as_none(tmp_path):
    write_json(tmp_path / "part.json", {"accuracy": 0.75})
    (tmp_path / "part.json").write_text(
        (tmp_path / "part.json").read_text().replace("0.75", "0.95")
    )
    assert read_kept(tmp_path / "part.json") is None


# --- interrupted and on a full disk -----------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from collapseflow.running import files
path, at = Path(sys.argv[1]), int(sys.argv[2])
replace, unlink, calls = os.replace, Path.unlink, []
def counted(function):
    def call(*arguments, **others):
        calls.append(function)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **others)
    return call
os.replace, Path.unlink = counted(replace), counted(unlink)
files.write_json(path, {"new": True})
print(len(calls))
"""


def test_a_file_that_a_kill_leaves_is_whole_at_any_moment(tmp_path):
    path = tmp_path / "results" / "demo" / "a.json"
    for at in range(1, 30):
        write_json(path, {"new": False})
        command = [sys.executable, "-c", KILLED, str(path), str(at)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert read_json(path) in ({"new": False}, {"new": True})
        remove_partial(path)
        assert sorted(p.name for p in path.parent.iterdir()) == [".a.json.xxh3", "a.json"]
        if answer.returncode == 0:
            break
    # Of the temporary file, of both files under their names, and of what is cleared up.
    assert at == int(answer.stdout) + 1 > 4 and read_json(path) == {"new": True}


FULL_DISK = """
import errno, os, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import test_checksums as t
from collapseflow.running.errors import UserError
folder = sys.argv[1]
# Room that another job takes in the meantime.
t.files.require_space = t.stores.require_space = lambda *_: None
from collapseflow.images import datasets
datasets.require_space = lambda *_: None
noise = np.random.default_rng(0).integers(0, 256, (30000, 8, 8), dtype=np.uint8)
split = datasets.make_split(noise, np.arange(30000) % 3)
labels = noise[:, 0, 0].astype(int)
large = {
    "data set": lambda: datasets.write_dataset(
        path, datasets.Splits(split, split, ["a", "b", "c"], "x")),
    "weights": lambda: t.save_state(path, {"w": t.torch.ones(10**6)}, {}),
    "statistics": lambda: t.write_failed_statistics(path, "x" * 10**6),
    "JSON": lambda: t.write_json(path, labels.tolist() * 40),
    "table": lambda: t.write_csv(path, t.pd.DataFrame(noise.reshape(-1, 64))),
}
for kind, write in large.items():
    path = f"{folder}/{kind}.npz"
    try:
        write()
    except OSError as error:
        print(error.errno == errno.ENOSPC, error.filename == path, os.listdir(folder))
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a small disk: util-linux's unshare")
def test_a_full_disk_is_one_error_of_the_system_and_leaves_nothing(tmp_path):
    """A disk of 1 MiB, and no room that is asked for before."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*in_namespace, mount], capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk: unprivileged mounts are not allowed here")
    script = [sys.executable, "-c", FULL_DISK, str(tmp_path), os.path.dirname(__file__)]
    answer = subprocess.run(
        [*in_namespace, f'{mount} && "$@"', "sh", *script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.splitlines() == ["True True []"] * 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_whatever_a_library_raises_on_a_full_disk_is_the_system_s_error(tmp_path, number):
    errors = [
        OSError(number, os.strerror(number)),
        RuntimeError(f"Can't write (errno = {number}, error message = '{os.strerror(number)}')"),
    ]
    for error in errors:
        with pytest.raises(OSError) as caught, checked_path(tmp_path / "a") as temporary:
            temporary.touch()
            raise error
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))
        assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_before_long_work(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    require_space(tmp_path / "a", 2**20)
    with pytest.raises(TemporaryError, match="a: 1.5 MiB are to be written, and 1.0 MiB are free"):
        require_space(tmp_path / "a", 3 * 2**19)


def test_a_file_that_another_machine_replaces_while_it_is_read_ends_in_one_line(
    tmp_path, monkeypatch
):
    """As a network file system tells it."""
    write_json(tmp_path / "found.json", {"accuracy": 0.5})
    words = os.strerror(errno.ESTALE)

    def read_stale(*arguments):
        raise OSError(errno.ESTALE, words)

    monkeypatch.setattr(os, "pread", read_stale)
    with pytest.raises(
        UserError, match=r"found\.json: cannot be read \(.*Stale file handle\); .*$"
    ):
        read_json(tmp_path / "found.json")
