"""From a mistake on the page back to the file that it is."""

import base64
import json
import os

import numpy as np
from page_of_study import RAW
from PIL import Image

from collapseflow.features.stores import write_features
from collapseflow.images.datasets import SPLITS, raw_pixels, read_split
from collapseflow.images.sources.prepare import prepare_dataset
from collapseflow.measures import embedding
from collapseflow.measures.probes import evaluate_all
from collapseflow.presentation.page import explorer
from collapseflow.study.schema import Dataset

NEAREST_MEAN = {
    "estimator": "collapseflow.NearestClassMean",
    "parameters": {},
    "scaling": "none",
    "n_train": None,
}


def mistakes(told, name):
    """The places of the images that a classifier is wrong about."""
    packed = np.frombuffer(base64.b64decode(told["maps"][0]["wrong"][name]), np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[: told["n"] - told["n_train"]]
    return told["n_train"] + np.flatnonzero(bits)


def test_a_mistake_leads_back_to_its_jpeg(tmp_path, monkeypatch):
    # A dark and a bright class; in each a file of the other brightness, of which no other is.
    folder = tmp_path / "pictures"
    levels = {}
    for label, (first, odd) in {"dark": (10, 240), "bright": (200, 15)}.items():
        for number in range(20):
            level = odd if number == 7 else first + number
            path = folder / label / "of one day" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(path, quality=100)
            levels[path] = level
    images = tmp_path / "pictures.h5"
    entry = Dataset(source="folder", location=[str(folder)]).entry()
    prepare_dataset(entry, 0.95, 0, tmp_path, images)
    stores = {split: tmp_path / f"{split}.h5" for split in SPLITS}
    for split, path in stores.items():
        write_features(images, split, path, raw_pixels, "raw", "none", "none")
    monkeypatch.setattr(embedding, "embed_sklearn", lambda features, *rest: features[:, :2])
    embedding.embed(stores, "sklearn", 100, 5.0, 0, 1, tmp_path / "map.npz")
    found = evaluate_all(*stores.values(), {"ncm": NEAREST_MEAN}, 0, 1, tmp_path / "kept", "")
    (tmp_path / "ncm.json").write_text(json.dumps(found))
    maps = explorer.read_maps([tmp_path / "map.npz"], [RAW])
    answers = [tmp_path / "ncm.json"]
    told, _ = explorer.describe(images, maps, [RAW], answers, {"ncm": "nearest mean"}, 0)
    files = explorer.mapped_images(images, maps[0], 0).names
    assert files.tolist() in told.values()
    test = read_split(images, "test")
    labels = np.frombuffer(base64.b64decode(told["labels"]), np.uint32)
    wrong = mistakes(told, "ncm")
    assert {files[i] for i in wrong} == {
        f"{name}{os.sep}of one day{os.sep}7.jpg" for name in ("bright", "dark")
    }
    for i in wrong:
        path = folder / files[i]
        assert path.parts[-3] == told["classes"][labels[i]]
        assert abs(int(test.images[i - told["n_train"], 0, 0]) - levels[path]) <= 2
