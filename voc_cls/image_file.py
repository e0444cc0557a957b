"""Image files that the exported graph does not take, converted by Pillow: WebP, TIFF, BMPs with a palette and the like.

Training, evaluation, `voc-data check`, `voc-predict --run` and voc-serve do this before the graph of
`voc_cls/data/preprocessing.py`, so all of them take the same files and refuse the others in the same words.
"""

from __future__ import annotations

import io
import warnings
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voc_cls.image_header import ImageError, ImageHeader, image_header, is_plain_bmp

if TYPE_CHECKING:
    from PIL import Image

LEAST_BRIGHT = 64
"""Of 255: where no sample of 16 bits reaches it, the values have 14 bits or fewer (cameras, scanners)."""
_one_at_a_time = Lock()
"""Filters of warnings belong to the process; Pillow keeps Python's lock while it decodes anyway."""


def decodable(content: bytes) -> bytes:
    """An image file as the graph takes it: `content` itself, or its pixels, turned upright, as a BMP.

    Raises ImageError: no image, one of a kind that is not decoded, or a damaged one that had to be converted.
    """
    header = image_header(content)
    unusual = ((header.format == "BMP" and not is_plain_bmp(content))
               or (header.format == "PNG" and header.bits == 16))  # which may have 12 bits, and is refused then
    return bmp(as_displayed(content)) if unusual or header.format in ("WebP", "TIFF") else content


def as_displayed(content: bytes, draft: int = 0) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB of an image file: upright, transparent parts on white. Raises ImageError.

    draft: A JPEG is decoded at a fraction of its size, but at least so many pixels wide and high; 0: always in full.
    """
    from PIL import Image, UnidentifiedImageError

    header = image_header(content)
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
        raise ImageError(f"a {header.format} picture of {len(content)} bytes that cannot be decoded{reason}") from None
    return pixels if header.format == "TIFF" else upright(pixels, header.orientation)  # Pillow has turned a TIFF


def bmp(image: npt.NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, 3] RGB as a 24-bit BMP."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "BMP")
    return file.getvalue()


def _rgb(image: Image.Image, header: ImageHeader) -> npt.NDArray[np.uint8]:
    """With the rounding of `preprocessing.decode`."""
    if image.mode == "F":
        raise ImageError(f"a {header.format} of floating-point numbers; whole ones are decoded")
    if image.mode.startswith("I"):  # grey of 16 bits; Pillow would clip it
        pixels = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    elif image.mode == "CMYK":
        inks = np.asarray(image).astype(np.uint16)  # Pillow takes every JPEG for Adobe's, and inverts it
        inks = 255 - inks if "adobe" in image.info or header.format != "JPEG" else inks
        pixels = (inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8)
    elif image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
    else:
        pixels = np.asarray(image.convert("RGB"))
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    if header.bits == 16 and colours.max() < LEAST_BRIGHT:
        raise ImageError(f"a {header.format} of 16 bits a sample whose values are all below {LEAST_BRIGHT << 8:,} (of "
                         "65,535), as 12-bit cameras write them; scale them to the full range")
    if not alpha.size or alpha.min() == 255:
        return colours
    mixed = np.empty(colours.shape, np.uint8)
    for top in range(0, len(mixed), 64):  # a few rows at a time stay in the processor's cache
        rows = slice(top, top + 64)
        opacity = alpha[rows].astype(np.uint16)  # the sum is below 2**16
        mixed[rows] = (colours[rows] * opacity + 255 * (255 - opacity) + 127) // 255
    return mixed


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """An image as stored → as displayed, by EXIF's orientation."""
    turned = pixels.transpose(1, 0, 2) if orientation > 4 else pixels
    down, across = -1 if (orientation - 1) % 4 >= 2 else 1, -1 if orientation % 4 >= 2 else 1
    return turned[::down, ::across]
