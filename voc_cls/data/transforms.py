"""Random variants of one image: a pure function of the image and of a number, the draw.

Nothing random is kept between two calls, so neither threads nor an interrupted run can change what a step sees. Zoom,
shift and rotation are one affine map: interpolated once, an image stays sharp, and OpenCV takes 0.6 ms for it where
TensorFlow's ImageProjectiveTransformV3 takes 3.3 (a core, 224 × 224).

RandAugment (Cubuk et al. 2020) applies two of 14 operations to every image, at a fixed strength. The colour operations
are Pillow's, by which the paper defines them; the geometric ones join the affine map. Keras' RandAugment layer computes
all operations for every image and drops all but two: 44 ms an image here, where this takes 1.5; its rotation goes to
180 degrees, its contrast only up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from voc_cls.data.augmentation import Augmentation

if TYPE_CHECKING:
    import tensorflow as tf

Pixels = npt.NDArray[np.float32]
FLIP_BITS = 2
"""The lowest bits of a draw are the flips, the others seed the rest."""
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
FIXED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "solarize": lambda image: ImageOps.solarize(image, int(256 * STRENGTH)),  # inverts what is brighter
    "posterize": lambda image: ImageOps.posterize(image, 8 - int(4 * STRENGTH)),  # 4 to 8 bits are kept
}
NAMES = ("identity", *GEOMETRIC, *ENHANCED, *FIXED)

CROP_SCALES = (1.0, 0.875, 0.75, 0.66, 0.5)
"""Of the width and of the height, drawn apart but at most MOST_DISTORTED places from each other: as ML-GCN and those
after it train (Chen et al. 2019, in the authors' code)."""
MOST_DISTORTED = 2
CROP_STREAM = 1
"""Crops are drawn apart from all else, so that the same draw moves a cropped image as it moves a whole one."""


@dataclass(frozen=True)
class Geometry:
    """A movement of the image: zoomed, sheared and rotated about its centre, then shifted. By default, none."""

    zoom: float = 1.0
    """2: everything is twice as large."""
    rotation: float = 0.0
    """Degrees, clockwise."""
    shear_x: float = 0.0
    """Pixels to the right for each pixel down."""
    shear_y: float = 0.0
    """Pixels down for each pixel to the right."""
    shift_x: float = 0.0
    """Fraction of the width, to the right."""
    shift_y: float = 0.0
    """Fraction of the height, down."""

    @classmethod
    def drawn(cls, augmentation: Augmentation, random: np.random.Generator) -> Geometry:
        """Draws uniformly within the ranges."""
        zoom, rotation, shift_x, shift_y = random.uniform(-1, 1, 4)
        return cls(zoom=1 + zoom * augmentation.zoom, rotation=rotation * augmentation.rotation,
                   shift_x=shift_x * augmentation.shift, shift_y=shift_y * augmentation.shift)

    def matrix(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """[2, 3]: from (x, y, 1), pixels, to the moved point."""
        angle = np.radians(self.rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = self.zoom * turn @ [[1, self.shear_x], [self.shear_y, 1]]
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = np.array([self.shift_x * width, self.shift_y * height])
        return np.column_stack([linear, centre + shift - linear @ centre])


def crop(image: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """[H, W, 3] as it was decoded, and an int64 scalar ≥ 0 → the part of it with that number. Works as `resample`."""
    import tensorflow as tf

    if augmentation.crop == "none":
        return image

    def cropped(pixels: Any, number: Any) -> Any:
        top, left, rows, columns = crop_box(pixels.shape[0], pixels.shape[1], int(number), augmentation)
        return pixels[top:top + rows, left:left + columns]

    return tf.ensure_shape(tf.numpy_function(cropped, [image, draw], image.dtype, stateful=False), [None, None, 3])


def crop_box(height: int, width: int, draw: int, augmentation: Augmentation) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the crop with that number, of an image of `height` × `width` pixels."""
    random = np.random.default_rng([draw >> FLIP_BITS, CROP_STREAM])
    if augmentation.crop == "multi-scale":
        pairs = [(rows, columns) for i, rows in enumerate(CROP_SCALES) for j, columns in enumerate(CROP_SCALES)
                 if abs(i - j) <= MOST_DISTORTED]
        # corners, centre and eight places between: the points of a 5 × 5 grid with both coordinates even, or both odd
        places = [(row / 4, column / 4) for row in range(5) for column in range(5) if (row - column) % 2 == 0]
        scales, place = pairs[random.integers(len(pairs))], places[random.integers(len(places))]
        rows, columns = max(1, round(height * scales[0])), max(1, round(width * scales[1]))
        return int(place[0] * (height - rows)), int(place[1] * (width - columns)), rows, columns
    for _ in range(10):  # as often as torchvision's RandomResizedCrop
        area = height * width * random.uniform(augmentation.crop_area, 1)
        proportion = np.exp(random.uniform(-np.log(4 / 3), np.log(4 / 3)))
        rows, columns = round(np.sqrt(area / proportion)), round(np.sqrt(area * proportion))
        if 0 < rows <= height and 0 < columns <= width:
            return (int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1)), rows, columns)
    return 0, 0, height, width  # a long strip


def resample(image: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """float32 [H, W, 3], 0-255, and an int64 scalar ≥ 0 → the variant with that number but its flips, same shape and
    range. Works inside tf.data and eagerly, as `flip` does."""
    import tensorflow as tf

    if not augmentation.resamples:
        return image
    varied = tf.numpy_function(lambda values, number: resampled(values, int(number), augmentation), [image, draw],
                               tf.float32, stateful=False)
    return tf.ensure_shape(varied, image.shape)


def flip(image: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Reverses the axes [H, W, 3] whose bit in `draw` is set."""
    import tensorflow as tf

    for bit, axis in enumerate(augmentation.flips):
        is_set = tf.bitwise.bitwise_and(draw, 1 << bit) > 0
        image = tf.cond(is_set, lambda image=image, axis=axis: tf.reverse(image, [axis]), lambda image=image: image)
    return image


def resampled(image: Pixels, draw: int, augmentation: Augmentation) -> Pixels:
    """`resample` of an array; returns a new one, because TensorFlow may write into it."""
    random = np.random.default_rng(draw >> FLIP_BITS)
    if augmentation.whole_levels:
        image = np.rint(image).astype(np.uint8)
    geometry = Geometry.drawn(augmentation, random)
    if augmentation.randaugment:
        image, geometry = randaugment(image, geometry, random)
    varied = image.copy() if geometry == Geometry() else warped(image, geometry, augmentation.edges)
    return varied.astype(np.float32, copy=False)


def randaugment(image: Pixels, geometry: Geometry, random: np.random.Generator) -> tuple[Pixels, Geometry]:
    """Draws operations; returns the image with new colours (rounded to whole grey levels) and its new geometry."""
    names = [NAMES[number] for number in random.integers(len(NAMES), size=OPERATIONS)]
    for name, sign in zip(names, random.choice([-1, 1], OPERATIONS), strict=True):
        if name in GEOMETRIC:
            geometry = replace(geometry, **{name: getattr(geometry, name) + float(sign) * STRENGTH * GEOMETRIC[name]})
        elif name != "identity":
            image = recoloured(image, name, float(sign))
    return image, geometry


def recoloured(image: Pixels, name: str, sign: float) -> Pixels:
    """Applies one colour operation to a float32 [H, W, 3] image, 0-255; sign -1 or 1: less or more of it."""
    original = Image.fromarray(np.rint(image).astype(np.uint8))
    changed = FIXED[name](original) if name in FIXED else ENHANCED[name](original).enhance(1 + sign * 0.9 * STRENGTH)
    return np.asarray(changed, np.float32)


def warped(image: Any, geometry: Geometry, edges: str = "reflect") -> Any:
    """Moves a float32 or uint8 [H, W, 3] image; interpolation is bilinear. edges: what lies beyond them."""
    import cv2

    height, width = image.shape[:2]
    border = {"reflect": cv2.BORDER_REFLECT, "wrap": cv2.BORDER_WRAP}[edges]
    return cv2.warpAffine(image, geometry.matrix(height, width), (width, height), flags=cv2.INTER_LINEAR,
                          borderMode=border)
