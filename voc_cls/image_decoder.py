"""From the bytes of an image to the input of a network, without TensorFlow.

The pixels are those of the graph of `voc_cls/data/preprocessing.py`, bit for bit: OpenCV and TensorFlow decode JPEGs
with libjpeg's accurate integer DCT. Resized, they are within 0.006 grey levels.

What the graph does not take (WebP, TIFF, BMPs with a palette and the like) is converted by Pillow before it. So
training, evaluation, `voc-data check`, `voc-predict --run` and voc-serve take the same files and refuse the others in
the same words.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voc_cls.image_header import ImageError, ImageHeader, ImageWork, image_header, is_plain_bmp

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Inputs = npt.NDArray[np.float32]
RESIZES = ("bilinear", "bilinear-constant")

LARGEST_OPENCV = 512
"""Height and width, pixels. OpenCV takes a tenth of NumPy's time, but rounds places other than TensorFlow: at 4,000
pixels that is 0.1 grey levels."""
LEAST_BRIGHT = 64
"""Of 255: where no sample of 16 bits reaches it, the values have 14 bits or fewer (cameras, scanners)."""
_one_at_a_time = Lock()
"""Filters of warnings belong to the process; Pillow keeps Python's lock while it decodes anyway."""


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a decoded image before it enters the network; stored with every run and export."""

    size: int
    """Height and width of the network's input, pixels."""
    mean: tuple[float, ...]
    """Subtracted per channel, in grey levels 0-255, in the order of `channels`."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Divisor of each channel afterwards, grey levels."""
    channels: str = "RGB"
    """Order of the colour channels. Keras' own VGG-16 is BGR, TF-Slim's is RGB: recorded, never assumed."""
    resize: str = "bilinear"
    """Interpolation; half-pixel centres, no antialiasing, aspect ratio not kept (as in the lecture). "bilinear", or
    "bilinear-constant": beyond the edges the image is black, which dims the border of what is enlarged, as
    skimage.transform.resize(mode="constant") does."""
    jpeg_dct: str = "INTEGER_ACCURATE"
    """libjpeg's inverse DCT. TensorFlow's default is the fast one, up to 5 grey levels off."""


@cache
def opencv() -> Any:
    """The module cv2; None where it is not installed, as in the small image: Pillow and NumPy have the same pixels, but
    take longer."""
    try:
        import cv2
    except ModuleNotFoundError:
        return None
    return cv2


def decodable(content: bytes) -> bytes:
    """An image file as the graph takes it: `content` itself, or its pixels, turned upright, as a BMP.

    Raises ImageError: no image, one of a kind that is not decoded, or a damaged one that had to be converted.
    """
    from PIL import Image

    header = image_header(content)
    unusual = ((header.format == "BMP" and not is_plain_bmp(content))
               or (header.format == "PNG" and header.bits == 16))  # which may have 12 bits, and is refused then
    if not unusual and header.format not in ("WebP", "TIFF"):
        return content
    bmp = io.BytesIO()
    Image.fromarray(as_displayed(content)).save(bmp, "BMP")
    return bmp.getvalue()


def as_displayed(content: bytes, draft: int = 0) -> Pixels:
    """uint8 [H, W, 3] RGB of an image file: upright, transparent parts on white. Raises ImageError.

    draft: A JPEG is decoded at a fraction of its size, but at least so many pixels wide and high; 0: always in full.
    """
    from PIL import Image, UnidentifiedImageError

    header = image_header(content)
    if header.format == "WebP" and opencv() is not None:
        return upright(_webp(content), header.orientation)
    try:
        with (_one_at_a_time, warnings.catch_warnings(action="ignore"),
              Image.open(io.BytesIO(content), formats=[header.format.upper()]) as image):
            if draft:
                image.draft("RGB", (draft, draft))
            image.load()
            pixels = _rgb(image, header)
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise anything for damaged bytes
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise ImageError(_cannot_be_decoded(header, content) + reason) from None
    return pixels if header.format == "TIFF" else upright(pixels, header.orientation)  # Pillow has turned a TIFF


def _webp(content: bytes) -> Pixels:
    """The pixels of a WebP by OpenCV, which takes 11 bytes for each; Pillow takes 29."""
    cv2: Any = opencv()
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ImageError(_cannot_be_decoded(image_header(content), content))
    pixels = np.empty((*image.shape[:2], 3), np.uint8)
    for rows in _strips(len(image)):
        pixels[rows] = _on_white(image[rows][..., [2, 1, 0, 3][:image.shape[2]]])
    return pixels


def _rgb(image: Image.Image, header: ImageHeader) -> Pixels:
    """Strip by strip, because Pillow makes copies of what it converts."""
    if image.mode == "F":
        raise ImageError(f"a {header.format} of floating-point numbers; whole ones are decoded")
    pixels, brightest = np.empty((image.height, image.width, 3), np.uint8), 0
    for rows in _strips(image.height):
        stored = _channels(image.crop((0, rows.start, image.width, rows.stop)), header)
        brightest = max(brightest, stored[..., :3].max())
        pixels[rows] = _on_white(stored)
    if header.bits == 16 and brightest < LEAST_BRIGHT:
        raise ImageError(f"a {header.format} of 16 bits a sample whose values are all below {LEAST_BRIGHT << 8:,} (of "
                         "65,535), as 12-bit cameras write them; scale them to the full range")
    return pixels


def _channels(image: Image.Image, header: ImageHeader) -> Pixels:
    """uint8 [H, W, 3 or 4] RGB or RGBA, with the rounding of `preprocessing.decode`."""
    if image.mode.startswith("I"):  # grey of 16 bits; Pillow would clip it
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "CMYK":
        inks = np.asarray(image).astype(np.uint16)  # Pillow takes every JPEG for Adobe's, and inverts it
        inks = 255 - inks if "adobe" in image.info or header.format != "JPEG" else inks
        return (inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _on_white(pixels: Pixels) -> Pixels:
    """uint8 [H, W, 3 or 4] → [H, W, 3]."""
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    if not alpha.size or alpha.min() == 255:
        return colours
    opacity = alpha.astype(np.uint16)  # the sum is below 2**16
    return ((colours * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def _strips(height: int) -> list[slice]:
    """A few rows at a time stay in the processor's cache."""
    return [slice(top, min(top + 64, height)) for top in range(0, height, 64)]


def _cannot_be_decoded(header: ImageHeader, content: bytes) -> str:
    return f"a {header.format} picture of {len(content)} bytes that cannot be decoded"


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """An image as stored → as displayed, by EXIF's orientation."""
    turned = pixels.transpose(1, 0, 2) if orientation > 4 else pixels
    down, across = -1 if (orientation - 1) % 4 >= 2 else 1, -1 if orientation % 4 >= 2 else 1
    return turned[::down, ::across]


def decode(work: ImageWork) -> Pixels:
    """uint8 [H, W, 3] RGB of an image file: upright, transparent parts on white. Raises ImageError."""
    header, content = work.header, work.content
    if header.format == "JPEG" and header.components != 4 and (cv2 := opencv()) is not None:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise ImageError(_cannot_be_decoded(header, content))
        return upright(pixels, header.orientation)
    pixels = as_displayed(content)
    if header.format == "GIF":
        left, top, width, height = work.place
        canvas = np.zeros((height, width, 3), np.uint8)
        shown = pixels[:max(0, height - top), :max(0, width - left)]
        canvas[top:top + shown.shape[0], left:left + shown.shape[1]] = shown
        return canvas
    return upright(pixels, header.orientation) if header.format == "PNG" else pixels


def prepare(image: Pixels, wanted: Preprocessing, out: Inputs | None = None) -> Inputs:
    """uint8 [H, W, 3] RGB → float32 [size, size, 3], resized and normalised; `out`: where to write that."""
    height, width, _ = image.shape
    inputs = _resize(image, wanted.size, out)
    if wanted.resize == "bilinear-constant":
        inputs *= _inside(height, wanted.size)[:, None, None]
        inputs *= _inside(width, wanted.size)[:, None]
    rows = inputs.reshape(wanted.size, -1)  # with rows as long as these NumPy is three times as fast
    rows -= np.resize(np.array(wanted.mean, np.float32), rows.shape[1])
    if set(wanted.std) != {1.0}:
        rows /= np.resize(np.array(wanted.std, np.float32), rows.shape[1])
    return inputs


def _resize(image: Pixels, size: int, out: Inputs | None) -> Inputs:
    height, width, _ = image.shape
    if max(height, width) <= LARGEST_OPENCV and (cv2 := opencv()) is not None:
        fy, fx = (1 / float(np.float32(length / size)) for length in (height, width))  # TensorFlow's are float32
        used = cv2.ipp.useIPP()
        cv2.ipp.setUseIPP(False)  # of this thread: Intel's library computes places by scales of its own
        resized: Inputs = cv2.resize(image.astype(np.float32), None, out, fx, fy, cv2.INTER_LINEAR)
        cv2.ipp.setUseIPP(used)  # as it was for whoever else uses OpenCV here
        return resized
    (top, bottom, down), (left, right, across) = _neighbours(height, size), _neighbours(width, size)

    def along(row: npt.NDArray[np.intp]) -> Inputs:
        near, far = (image[row].take(column, axis=1).astype(np.float32) for column in (left, right))
        return near + (far - near) * across[:, None]

    upper = along(top)
    between: Inputs = np.add(upper, (along(bottom) - upper) * down[:, None, None], out=out)
    return between


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
