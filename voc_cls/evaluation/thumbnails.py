"""Pictures small enough to stand in a page, as data: addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIZE = 256
"""Pixels of the longer side: sharp on a dense screen at the 128 to 160 that the page gives it."""
QUALITY = 72
"""JPEG; about 10 kB a picture."""


def thumbnail(path: Path) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB, SIZE at most; the pixels as they are in the file, as the network gets them.

    A picture of few pixels is drawn large, each pixel as a square: a browser would blur it.
    """
    from PIL import Image

    with Image.open(path) as image:
        image.draft("RGB", (SIZE, SIZE))  # JPEGs are decoded at a fraction of their size
        small = image.convert("RGB")
        small.thumbnail((SIZE, SIZE))
        times = SIZE // max(small.size)
        return np.asarray(small.resize((small.width * times, small.height * times), Image.Resampling.NEAREST))


def data_uri(picture: npt.NDArray[np.uint8]) -> str:
    """uint8 [H, W, 3] RGB as a JPEG in a data: address."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
