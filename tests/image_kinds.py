"""Pictures as files of every kind that is decoded, and photographs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.pictures import encoded, lying, smooth

VOC2007_ROOT = Path(os.environ.get("VOC2007_ROOT", Path(__file__).parents[2] / "shared/voc2007/VOCdevkit/VOC2007"))
COLOURS = smooth(37, 53)


def photographs() -> list[bytes]:
    """At least 200 JPEGs of up to 500 pixels: every seventh of VOC2007's if they are there, else generated ones."""
    files = sorted((VOC2007_ROOT / "JPEGImages").glob("*.jpg"))[::7]
    return [file.read_bytes() for file in files] if len(files) >= 200 else [_photograph(seed) for seed in range(200)]


def _photograph(seed: int) -> bytes:
    """With noise, in a size, a quality and a way of its own; every tenth is grey."""
    random = np.random.default_rng(seed)
    height, width = random.integers(60, 500, 2)
    pixels = np.clip(smooth(height, width, seed) + random.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    return encoded(pixels[..., 0] if seed % 10 == 0 else pixels, "JPEG", quality=int(random.integers(40, 100)),
                   progressive=seed % 3 == 0, **({} if seed % 10 == 0 else {"subsampling": seed % 3}))


def every_kind() -> list[bytes]:
    """Small files: of each format those that take different ways through the decoders, and all orientations."""
    turned = [lying(COLOURS, kind, orientation) for kind in ("JPEG", "PNG", "WEBP", "TIFF")
              for orientation in range(1, 9)]
    return [*jpegs(), *pngs(), *gifs(), *others(), *turned]


def jpegs() -> list[bytes]:
    ways = (getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{way}") for way in (444, 422, 420, 411, 440))
    subsampled = [cv2.imencode(".jpg", COLOURS, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, way])[1].tobytes() for way in ways]
    options: list[dict[str, Any]] = [{"progressive": True}, {"optimize": True}, {"quality": 3}, {"quality": 100},
               {"restart_marker_blocks": 1}, {"restart_marker_rows": 1, "progressive": True}, {"keep_rgb": True}]
    cmyk = Image.fromarray(np.dstack([COLOURS, smooth(37, 53, 1, 1)]), "CMYK")
    without_adobe = encoded(cmyk, "JPEG").replace(b"Adobe", b"adobe")
    return [*subsampled, *(encoded(COLOURS, "JPEG", **one) for one in options), encoded(COLOURS[..., 0], "JPEG"),
            encoded(cmyk, "JPEG"), encoded(cmyk, "JPEG", progressive=True), without_adobe]


def pngs() -> list[bytes]:
    palette = Image.fromarray(COLOURS).quantize(16)
    grey = Image.fromarray(COLOURS[..., 0])
    few = [encoded(palette.quantize(2**bits), "PNG", bits=bits) for bits in (1, 2, 4, 8)]
    return [*few, encoded(COLOURS, "PNG"), encoded(grey, "PNG"), encoded(grey.convert("1"), "PNG"),
            encoded(np.dstack([COLOURS, smooth(37, 53, 1, 1)]), "PNG"), encoded(grey.convert("LA"), "PNG"),
            encoded(palette, "PNG", transparency=3), encoded(grey, "PNG", transparency=int(COLOURS[0, 0, 0])),
            encoded(COLOURS, "PNG", transparency=tuple(COLOURS[2, 3].tolist())),
            encoded(COLOURS[..., 0].astype(np.uint16) << 8, "PNG"),
            encoded(COLOURS, "PNG", save_all=True, append_images=[Image.new("RGB", (9, 9))])]


def gifs() -> list[bytes]:
    palette = Image.fromarray(COLOURS).quantize(16)
    frames = [palette.rotate(turn) for turn in (0, 90, 180)]
    moved = bytearray(encoded(palette, "GIF"))
    at = moved.index(b"\x2c\0\0\0\0")
    moved[at + 1], moved[at + 3] = 5, 3
    return [encoded(palette, "GIF"), encoded(palette, "GIF", transparency=3), bytes(moved),
            encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), encoded(palette, "GIF", interlace=1)]


def others() -> list[bytes]:
    transparent = np.dstack([COLOURS, smooth(37, 53, 1, 1)])
    return [encoded(COLOURS, "BMP"), encoded(transparent, "BMP"), encoded(Image.fromarray(COLOURS).quantize(16), "BMP"),
            encoded(COLOURS, "WEBP"), encoded(transparent, "WEBP", lossless=True), encoded(COLOURS, "TIFF"),
            encoded(COLOURS, "TIFF", compression="tiff_lzw"), encoded(COLOURS, "TIFF", compression="jpeg")]
