"""RandAugment (Cubuk et al. 2020): two of 14 operations on every picture, at a fixed strength.

The colour operations are Pillow's, which the paper's are defined by; the geometric ones join the picture's one affine
map (transforms.py). Keras' RandAugment layer computes all its operations for every picture and drops all but two: 44 ms
a picture here, where this takes 1.5; its rotation goes to 180 degrees, its contrast only up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

if TYPE_CHECKING:
    from voc_cls.data.transforms import Geometry, Picture

OPERATIONS = 2
STRENGTH = 0.9
"""The paper's N = 2 and M = 9 (of 10) for a ResNet-50 on ImageNet."""

# What an operation does at strength 1: AutoAugment's table (Cubuk et al. 2019), in the authors' code
# (tensorflow/tpu, efficientnet/autoaugment.py) for solarize, of which the paper leaves the direction open.
GEOMETRIC = {"rotation": 30.0, "shear_x": 0.3, "shear_y": 0.3, "shift_x": 0.45, "shift_y": 0.45}
"""The field of Geometry and how much is added to it, either way."""
ENHANCED = {"color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast, "brightness": ImageEnhance.Brightness,
            "sharpness": ImageEnhance.Sharpness}
"""Factor 0.1 to 1.9."""
TABLED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "solarize": lambda image: ImageOps.solarize(image, int(256 * STRENGTH)),  # inverts what is brighter
    "posterize": lambda image: ImageOps.posterize(image, 8 - int(4 * STRENGTH)),  # 4 to 8 bits are kept
}
NAMES = ("identity", *GEOMETRIC, *ENHANCED, *TABLED)


def randaugment(picture: Picture, geometry: Geometry, random: np.random.Generator) -> tuple[Picture, Geometry]:
    """Draws operations; returns the picture with new colours (rounded to whole grey levels) and its new geometry."""
    names = [NAMES[number] for number in random.integers(len(NAMES), size=OPERATIONS)]
    for name, sign in zip(names, random.choice([-1, 1], OPERATIONS), strict=True):
        if name in GEOMETRIC:
            geometry = replace(geometry, **{name: getattr(geometry, name) + float(sign) * STRENGTH * GEOMETRIC[name]})
        elif name != "identity":
            picture = recoloured(picture, name, float(sign))
    return picture, geometry


def recoloured(picture: Picture, name: str, sign: float) -> Picture:
    """Applies one colour operation to a float32 [H, W, 3] picture, 0-255; sign -1 or 1: less or more of it."""
    image = Image.fromarray(np.rint(picture).astype(np.uint8))
    changed = TABLED[name](image) if name in TABLED else ENHANCED[name](image).enhance(1 + sign * 0.9 * STRENGTH)
    return np.asarray(changed, np.float32)
