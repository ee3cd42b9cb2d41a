"""Every kind of file that a study leaves: whole ones are named, damaged ones refused."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from collapseflow.__main__ import main
from collapseflow.images.datasets import Splits, make_split, write_dataset
from collapseflow.running.errors import UserError
from collapseflow.running.files import checksum_file
from collapseflow.verification import verify


@pytest.fixture
def folder(tmp_path, make_store):
    """One file of each kind."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 12, 12), dtype=np.uint8)
    labels = np.arange(30) % 3
    split = make_split(images, labels)
    write_dataset(tmp_path / "data.h5", Splits(split, split, ["a", "b", "c"], "noise"))
    noisy = replace(split, true_labels=(labels + 1) % 3)
    write_dataset(tmp_path / "noisy.h5", Splits(noisy, split, ["a", "b", "c"], "noise"))
    make_store(rng.normal(size=(30, 6)).astype(np.float32), labels)
    safetensors.torch.save_file(
        {"w": torch.ones(200), "b": torch.zeros(3)}, tmp_path / "w.safetensors", {"task": "toy"}
    )
    torch.save({"w": torch.ones(200)}, tmp_path / "w.pth")
    np.savez(tmp_path / "e.npz", coordinates=rng.normal(size=(30, 2)), labels=labels)
    (tmp_path / "cells.json").write_text(json.dumps({"lda": {}, "lr": {}}))
    (tmp_path / "part.json").write_text(json.dumps({"depends_on": "0", "result": 1}))
    Image.fromarray(images[0]).save(tmp_path / "f.png")
    (tmp_path / "f.pdf").write_bytes(b"%PDF-1.4\n" + bytes(2000) + b"\n%%EOF\n")
    (tmp_path / "t.csv").write_text('a,b\n1,"x, y"\n22222,zz\n')
    return tmp_path


WHOLE = {
    "data.h5": "data set of 30 training and 30 test images of 12 x 12, 3 classes, noise",
    "noisy.h5": "data set of 30 training and 30 test images of 12 x 12, 3 classes, noise",
    "store.h5": "30 x 6 features, {",
    "w.safetensors": "2 tensors; task: toy",
    "w.pth": "1 tensors",
    "e.npz": "arrays coordinates (30 x 2), labels (30)",
    "cells.json": "JSON with the keys lda, lr",
    "part.json": "a kept part of a job",
    "f.png": "a picture of 12 x 12 pixels",
    "f.pdf": "a PDF",
    "t.csv": "a table of 2 rows and 2 columns",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_says_what_it_holds(folder, name):
    assert verify(folder / name).startswith(f"{folder / name}: whole, {WHOLE[name]}")


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_cut_off_is_named_in_one_line(folder, name):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    # With its checksums, and as earlier versions wrote it.
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            verify(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        checksum_file(path).unlink(missing_ok=True)


@pytest.mark.parametrize("what", ["labels", "split", "images", "true_labels"])
def test_a_data_set_with_one_changed_value_is_damaged(folder, what):
    path = folder / ("noisy.h5" if what == "true_labels" else "data.h5")
    with h5py.File(path, "r+") as file:
        file[what][0] = file[what][0] ^ 1
    with pytest.raises(UserError, match=f"{path}: damaged between its bytes 0 and .*; delete it"):
        verify(path)
    checksum_file(path).unlink()
    with pytest.raises(UserError, match=f"{path}: the images or labels are damaged; delete it"):
        verify(path)


def test_files_without_a_check_are_read_and_others_are_refused(folder, capsys):
    (folder / "notes.md").write_text("mine\nand yours\n")
    (folder / "raw.bin").write_bytes(bytes(7))
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = 1
    names = ["notes.md", "raw.bin", "other.h5", "absent.h5", "f.png"]
    assert main(["verify", *(str(folder / name) for name in names)]) == 1
    # The whole ones are told in spite of the others.
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/notes.md: whole, text of 2 lines",
        f"{folder}/raw.bin: readable, 7 bytes of a kind without a check",
        f"{folder}/f.png: whole, a picture of 12 x 12 pixels",
        f"{folder}/other.h5: neither a data set nor a feature store",
        f"{folder}/absent.h5: there is no such file",
    ]


def test_a_folder_is_all_files_in_it(folder, capsys):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "raw.bin").write_bytes(bytes(7))
    (folder / "deep" / ".snakemake_timestamp").touch()
    assert main(["verify", str(folder)]) == 0
    words = f"{folder}: {len(WHOLE)} files whole, 1 files readable, of a kind without a check"
    assert capsys.readouterr().out == f"{words}\n"
    damaged = folder / "deep" / "f.png"
    damaged.write_bytes((folder / "f.png").read_bytes()[:100])
    assert main(["verify", str(folder)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{damaged}: cannot be read (")
    assert said[1:] == [f"{words}, 1 not"]
    (folder / "empty").mkdir()
    assert main(["verify", str(folder / "empty")]) == 0
    assert capsys.readouterr().out == f"{folder}/empty: no files\n"
