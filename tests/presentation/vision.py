"""How colours look: CIELAB, a print in grey, and to readers without green cones."""

import numpy as np
from matplotlib.colors import to_rgb

#: From linear sRGB to XYZ with D65 white (IEC 61966-2-1).
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
#: Deuteranopia in linear sRGB: severity 1 of Machado, Oliveira and Fernandes (2009), table 1.
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


def linear(colour):
    """Linear sRGB of a colour of matplotlib."""
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB (L*, a*, b*) of linear sRGB."""
    ratio = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def lightness(colour):
    """L* of a colour, which is all that a print in grey keeps: 0 black, 100 white."""
    return lab(linear(colour))[0]


def distance(one, other, cones=None):
    """Distance of two colours in CIELAB (CIE 1976), also to readers with other ``cones``."""
    seen = [lab(linear(c) if cones is None else cones @ linear(c)) for c in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))
