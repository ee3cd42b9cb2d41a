"""docs/my-images.md is executed."""

from pathlib import Path

import pytest
from my_images import PARTS, draw, execute

from collapseflow.images.datasets import read_info, read_split
from collapseflow.study.schema import DATA_SOURCES


@pytest.fixture(autouse=True)
def scans(tmp_path, monkeypatch):
    """The current folder has scans of twenty patients."""
    monkeypatch.chdir(tmp_path)
    for patient in range(20):
        for number in range(3):
            name = f"p{patient:02}_{('ill', 'well')[patient % 2]}_{number}.png"
            draw(tmp_path / "scans" / name, 3 * patient + number)


def test_the_folder_is_read():
    (study,) = execute("A folder")
    info = read_info("results/birds/data/birds.h5")
    assert info.class_names == ["robin", "wren"] and sum(info.n.values()) == 20
    assert info.image_shape == (64, 64, 3)
    names = read_split("results/birds/data/birds.h5", "test").names
    assert all(Path("birds", name).is_file() for name in names)


def test_the_table_is_divided_between_patients():
    padded, squashed = execute("A table, and groups")
    for study, black in ((padded, True), (squashed, False)):
        path = f"results/{study.study}/data/scans.h5"
        test = read_split(path, "test")
        assert test.images.shape[1:] == (48, 64, 3)
        # 40 x 60 fills 48 x 64 but for two rows above and below, 43 of 48.
        assert (test.images[:, :2].max() == 0) == black
        assert (test.groups is None) == (study is squashed)
        assert all(Path(name).is_file() for name in test.names)


def test_the_arrays_are_read():
    execute("Arrays")
    info = read_info("results/cells/data/cells.h5")
    assert info.n == {"train": 48, "test": 12} and info.image_shape == (32, 48)
    assert info.class_names == ["round", "long", "other"]


def test_every_source_of_a_user_s_own_has_its_part():
    text = "".join(PARTS.values())
    for source in ("folder", "table", "arrays", "huggingface"):
        assert source in DATA_SOURCES and f"{{source: {source}," in text
