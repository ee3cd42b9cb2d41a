"""docs/my-images.md: its parts and their blocks, and what they are executed on."""

import os
import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from collapseflow.images.sources.prepare import prepare_dataset
from collapseflow.study.schema import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "my-images.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S))


def draw(path, seed):
    """A colour picture of 40 x 60 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(levels).save(path)


def execute(part):
    """Run a part's blocks one after the other in the current folder, and give the studies that it
    has, of which the images have been prepared where the workflow puts them."""
    studies = []
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", PARTS[part], flags=re.M | re.S):
        if kind == "text":
            # More of the kind, so that each class can be divided.
            for place in map(Path, block.split()):
                for number in range(5):
                    draw(place.with_stem(f"{place.stem}-{number}"), number)
        if kind == "python":
            exec(compile(block, part, "exec"), {})
        if kind == "yaml":
            study = load(yaml.safe_load(block))
            for name, dataset in study.datasets.items():
                output = Path("results", study.study, "data", f"{name}.h5")
                prepare_dataset(dataset.entry(), study.test_fraction, 0, Path("cache"), output)
            studies.append(study)
    assert not os.path.exists("cache")
    return studies
