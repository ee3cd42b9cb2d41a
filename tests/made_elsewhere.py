"""Images for networks that are trained in a test, and the examples of pages that train them."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ["circle", "cross", "square"]
#: Images of each class.
SIZES = {"train": 30, "test": 12}


def draw_shapes(folder: Path) -> None:
    """A folder of grey images of 32 x 32 pixels: one for each split, and in it one a class."""
    rng = np.random.default_rng(0)
    for split, n in SIZES.items():
        for name in CLASSES:
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(n):
                draw(name, rng).save(place / f"{i:02}.png")


def draw(name: str, rng: np.random.Generator) -> Image.Image:
    """A shape among noise."""
    image = Image.fromarray(rng.integers(0, 90, (32, 32), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    x, y, r = rng.integers(10, 22), rng.integers(10, 22), rng.integers(5, 9)
    if name == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], outline=255, width=2)
    elif name == "square":
        pen.rectangle([x - r, y - r, x + r, y + r], outline=255, width=2)
    else:
        pen.line([x - r, y - r, x + r, y + r], fill=255, width=2)
        pen.line([x - r, y + r, x + r, y - r], fill=255, width=2)
    return image


def examples(page: Path, language: str) -> list[str]:
    """The examples of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.M | re.S)


def run_examples(page: Path, folder: Path) -> dict[str, Any]:
    """Run a page's examples in Python one after another in a folder; the names that they leave."""
    here, names = os.getcwd(), {}
    try:
        os.chdir(folder)
        for example in examples(page, "python"):
            exec(example, names)
    finally:
        os.chdir(here)
    return names
