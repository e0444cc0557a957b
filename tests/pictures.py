"""Small pictures for tests, as files of every format and orientation."""

from __future__ import annotations

import io
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
METHOD = Image.Transpose
LAID_DOWN = {2: METHOD.FLIP_LEFT_RIGHT, 3: METHOD.ROTATE_180, 4: METHOD.FLIP_TOP_BOTTOM, 5: METHOD.TRANSPOSE,
             6: METHOD.ROTATE_90, 7: METHOD.TRANSVERSE, 8: METHOD.ROTATE_270}
"""How the pixels of an upright picture are stored under each orientation (CIPA DC-008, 4.6.4 A)."""


def smooth(height: int, width: int, seed: int = 0, channels: int = 3) -> Pixels:
    """A random picture that a JPEG keeps well."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, channels)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image: Image.Image | Pixels, kind: str, **options: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, order: Literal["little", "big"] = "big", *, kind: int = 3, number: int = 1,
         before: bytes = b"", start: int = 8) -> bytes:
    """A TIFF structure with the tag; `before`: other entries, `start`: of the directory."""
    def bytes_of(*values: tuple[int, int]) -> bytes:
        return b"".join(value.to_bytes(size, order) for value, size in values)

    head = (b"II" if order == "little" else b"MM") + bytes_of((42, 2), (start, 4)) + bytes(start - 8)
    tag = bytes_of((0x0112, 2), (kind, 2), (number, 4), (orientation, 2), (0, 2))
    return head + bytes_of((len(before) // 12 + 1, 2)) + before + tag + bytes(4)


def segment(marker: int, content: bytes) -> bytes:
    """Of a JPEG."""
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


def lying(upright: Pixels, kind: str, orientation: int, order: Literal["little", "big"] = "big") -> bytes:
    """A file whose stored pixels lie as the orientation in its EXIF says."""
    image = Image.fromarray(upright)
    stored = image.transpose(LAID_DOWN[orientation]) if orientation in LAID_DOWN else image
    if kind == "TIFF":
        return encoded(stored, kind, tiffinfo={0x0112: orientation})
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    return encoded(stored, kind, exif=b"Exif\0\0" + exif(orientation, order), **options)
