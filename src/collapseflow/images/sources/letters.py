"""Letters rendered from the fonts that ship inside matplotlib: a source task for transfer.

White strokes on black, 28 x 28 pixels, like MNIST's digits, yet no digit among them.
"""

import string
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from collapseflow.images.datasets import Splits, make_split, split_off_test

SIZE = 28
#: Drawn larger, then reduced, so that the strokes are as soft as scanned ones.
CANVAS = 4 * SIZE
#: Text fonts inside matplotlib that have both cases of the Latin alphabet.
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmss10", "cmtt10", "cmti10", "cmb10"),
)


def load_fonts() -> list[ImageFont.FreeTypeFont]:
    """The fonts, at the size of the canvas."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [ImageFont.truetype(str(folder / f"{name}.ttf"), int(0.7 * CANVAS)) for name in FONTS]


def render(letter: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> np.ndarray:
    """Draw one letter with a random affine distortion and stroke.

    Returns
    -------
    uint8 array (28, 28)
    """
    image = Image.new("L", (CANVAS, CANVAS))
    stroke = int(rng.integers(0, 5))
    centre = CANVAS / 2
    ImageDraw.Draw(image).text(
        (centre, centre), letter, fill=255, font=font, anchor="mm", stroke_width=stroke
    )
    # A tight box first: the letter's size must not depend on the font's own proportions.
    box = image.getbbox()
    angle, shear = rng.normal(0, 0.16), rng.normal(0, 0.18)
    target = CANVAS * rng.uniform(0.60, 0.80)
    scale = max(box[2] - box[0], box[3] - box[1]) / target
    aspect = np.exp(rng.normal(0, 0.15))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[aspect, shear], [0, 1 / aspect]])
    matrix *= scale
    shift = rng.normal(0, 0.03 * CANVAS, 2)
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    offset = middle - matrix @ (np.full(2, centre) + shift)
    image = image.transform(
        (CANVAS, CANVAS),
        Image.Transform.AFFINE,
        (*matrix[0], offset[0], *matrix[1], offset[1]),
        resample=Image.Resampling.BILINEAR,
    )
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3.0)))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


#: Spawn keys of the random streams: images of one purpose never occur in another's.
STREAMS = {"pretraining": (), "data set": (1,)}


def letters(
    images: int, test_fraction: float, seed: int, purpose: Literal["pretraining", "data set"]
) -> Splits:
    """Render ``images`` letters in 26 classes, half of them capitals, in equal numbers.

    Each ``purpose`` has a random stream of its own, so that a network pretrained on letters has
    seen none of the data set's images.
    """
    fonts = load_fonts()
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=STREAMS[purpose]))
    labels = np.arange(images) % 26
    rendered = np.empty((images, SIZE, SIZE), np.uint8)
    for row, label in enumerate(labels):
        alphabet = string.ascii_uppercase if rng.random() < 0.5 else string.ascii_lowercase
        font = fonts[rng.integers(len(fonts))]
        rendered[row] = render(alphabet[label], font, rng)
    train, test = split_off_test(make_split(rendered, labels), test_fraction, seed)
    return Splits(
        train, test, list(string.ascii_uppercase), f"letters in {len(fonts)} fonts of matplotlib"
    )
