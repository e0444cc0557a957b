"""Variants of one picture: a pure function of the picture and of a number, the draw.

Nothing random is kept between two calls, so that neither threads nor an interrupted run can change what a step sees.
Zoom, shift and rotation are one affine map: interpolated once, a picture stays sharp, and OpenCV takes 0.6 ms for it
where TensorFlow's ImageProjectiveTransformV3 takes 3.3 (a core, 224 × 224).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voc_cls.data.augmentation import Augmentation

if TYPE_CHECKING:
    import tensorflow as tf

Picture = npt.NDArray[np.float32]
FLIP_BITS = 2
"""The lowest bits of a draw are the flips, the others seed the rest."""


@dataclass(frozen=True)
class Geometry:
    """Where a picture goes: zoomed, sheared and rotated about its centre, then shifted. By default it stays."""

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
        """Uniform within the ranges."""
        zoom, rotation, shift_x, shift_y = random.uniform(-1, 1, 4)
        return cls(zoom=1 + zoom * augmentation.zoom, rotation=rotation * augmentation.rotation,
                   shift_x=shift_x * augmentation.shift, shift_y=shift_y * augmentation.shift)

    def matrix(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """[2, 3]: from (x, y, 1), pixels, to where that point goes."""
        angle = np.radians(self.rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = self.zoom * turn @ [[1, self.shear_x], [self.shear_y, 1]]
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = np.array([self.shift_x * width, self.shift_y * height])
        return np.column_stack([linear, centre + shift - linear @ centre])


def augment(picture: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """float32 [H, W, 3], 0-255, and an int64 scalar ≥ 0 → the variant with that number, same shape and range.

    Where flips are all there is, the pixels are exactly the picture's. Works inside tf.data and eagerly.
    """
    return flip(resample(picture, draw, augmentation), draw, augmentation)


def resample(picture: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """All of `augment` but the flips."""
    import tensorflow as tf

    def resample_array(values: Picture, number: np.int64) -> Picture:
        return resampled(values, int(number), augmentation)

    if not augmentation.resamples:
        return picture
    varied = tf.numpy_function(resample_array, [picture, draw], tf.float32, stateful=False)
    return tf.ensure_shape(varied, picture.shape)


def flip(picture: tf.Tensor, draw: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Reverses the axes [H, W, 3] whose bit in `draw` is set."""
    import tensorflow as tf

    def flipped(axis: int, bit: int, picture: tf.Tensor) -> tf.Tensor:
        is_set = tf.bitwise.bitwise_and(draw, 1 << bit) > 0
        return tf.cond(is_set, lambda: tf.reverse(picture, [axis]), lambda: picture)

    for bit, axis in enumerate(augmentation.flips):
        picture = flipped(axis, bit, picture)
    return picture


def resampled(picture: Picture, draw: int, augmentation: Augmentation) -> Picture:
    """`resample` of an array: always a new one, for TensorFlow may write into it."""
    from voc_cls.data.randaugment import randaugment

    random = np.random.default_rng(draw >> FLIP_BITS)
    geometry = Geometry.drawn(augmentation, random)
    if augmentation.randaugment:
        picture, geometry = randaugment(picture, geometry, random)
    return picture.copy() if geometry == Geometry() else warped(picture, geometry)


def warped(picture: Picture, geometry: Geometry) -> Picture:
    """Moves a float32 [H, W, 3] picture; interpolation is bilinear, beyond its edges the picture is reflected."""
    import cv2

    height, width = picture.shape[:2]
    moved: Picture = cv2.warpAffine(picture, geometry.matrix(height, width), (width, height), flags=cv2.INTER_LINEAR,
                                    borderMode=cv2.BORDER_REFLECT)
    return moved

