"""From the bytes of an image to the input of a network, without TensorFlow.

The pixels are those of the graph of `voc_cls/data/preprocessing.py`, bit for bit: OpenCV and TensorFlow decode JPEGs
with libjpeg's accurate integer DCT. Resized, they are within 0.006 grey levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voc_cls.image_file import as_displayed, upright
from voc_cls.image_header import ImageError
from voc_cls.image_work import ImageWork

Pixels = npt.NDArray[np.uint8]
Inputs = npt.NDArray[np.float32]
RESIZES = ("bilinear", "bilinear-constant")

LARGEST_OPENCV = 512
"""Height and width, pixels. OpenCV takes a tenth of NumPy's time, but rounds places other than TensorFlow: at 4,000
pixels that is 0.1 grey levels."""


@dataclass(frozen=True)
class InputFormat:
    """What a network takes, in the words of `voc_cls/data/preprocessing.py`."""

    size: int
    """Height and width, pixels."""
    mean: tuple[float, ...]
    """Subtracted from each channel, grey levels."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Divisor of each channel afterwards, grey levels."""
    resize: str = "bilinear"
    """One of RESIZES."""


def decode(work: ImageWork) -> Pixels:
    """uint8 [H, W, 3] RGB of an image file: upright, transparent parts on white. Raises ImageError."""
    import cv2

    header, content = work.header, work.content
    if header.format == "JPEG" and header.components != 4:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise ImageError(f"a JPEG picture of {len(content)} bytes that cannot be decoded")
        return upright(pixels, header.orientation)
    pixels = as_displayed(content)
    if header.format == "GIF":
        left, top, width, height = work.place
        canvas = np.zeros((height, width, 3), np.uint8)
        shown = pixels[:max(0, height - top), :max(0, width - left)]
        canvas[top:top + shown.shape[0], left:left + shown.shape[1]] = shown
        return canvas
    return upright(pixels, header.orientation) if header.format == "PNG" else pixels


def prepare(image: Pixels, wanted: InputFormat) -> Inputs:
    """uint8 [H, W, 3] RGB → float32 [size, size, 3], resized and normalised."""
    height, width, _ = image.shape
    inputs = _resize(image, wanted.size)
    if wanted.resize == "bilinear-constant":
        inputs *= _inside(height, wanted.size)[:, None, None]
        inputs *= _inside(width, wanted.size)[:, None]
    rows = inputs.reshape(wanted.size, -1)  # with rows as long as these NumPy is three times as fast
    rows -= np.resize(np.array(wanted.mean, np.float32), rows.shape[1])
    if set(wanted.std) != {1.0}:
        rows /= np.resize(np.array(wanted.std, np.float32), rows.shape[1])
    return inputs


def _resize(image: Pixels, size: int) -> Inputs:
    import cv2

    height, width, _ = image.shape
    if max(height, width) <= LARGEST_OPENCV:
        fy, fx = (1 / float(np.float32(length / size)) for length in (height, width))  # TensorFlow's are float32
        resized: Inputs = cv2.resize(image.astype(np.float32), None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR)
        return resized
    (top, bottom, down), (left, right, across) = _neighbours(height, size), _neighbours(width, size)

    def along(row: npt.NDArray[np.intp]) -> Inputs:
        near, far = (image[row].take(column, axis=1).astype(np.float32) for column in (left, right))
        far -= near
        far *= across[:, None]
        far += near
        return far

    upper, inputs = along(top), along(bottom)
    inputs -= upper
    inputs *= down[:, None, None]
    inputs += upper
    return inputs


def _neighbours(length: int, size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Inputs]:
    """For each new pixel the old ones before and behind it, and how near it is to the latter, 0 to 1."""
    places = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(length / size) - np.float32(0.5)
    before = np.floor(places)
    first, last = np.maximum(before, 0), np.minimum(np.ceil(places), length - 1)
    return first.astype(np.intp), last.astype(np.intp), places - before


def _inside(length: int, size: int) -> Inputs:
    """The weight that the image has in each of the new places, beside the black beyond its edges."""
    places = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(length) / np.float32(size)
    places -= np.float32(0.5)
    weights: Inputs = np.clip(1 + np.minimum(places, length - 1 - places), 0.0, 1.0)
    return weights
