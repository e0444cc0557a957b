"""What the header of an image file says, read before anything is decoded.

A file of a few kilobytes can claim thousands of megapixels, and a decoder allocates what the header claims. The sizes
are taken where TensorFlow's decoders (libjpeg, libpng, giflib, its own BMP reader) take them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP", b"GIF8": "GIF"}
JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers SOF0 … SOF15 (ITU-T T.81, table B.1); C4, C8 and CC between them are tables and reserved."""
JPEG_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
"""No marker (a stuffed byte), TEM, RST0 … RST7: no segment follows."""
JPEG_NO_HEADER = frozenset({0xD8, 0xD9, 0xDA})
"""SOI, EOI, SOS: the header is over."""
GIF_IMAGE, GIF_EXTENSION = 0x2C, 0x21


class ImageError(ValueError):
    """An image that cannot be used; the message continues "images[2] is …"."""


@dataclass(frozen=True)
class ImageHeader:
    """Format and size of an image file."""

    format: str
    """JPEG, PNG, BMP or GIF."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    bits: int = field(default=8, compare=False)
    """JPEG: bits of a sample; BMP: bits of a pixel."""
    frame_type: int = field(default=0, compare=False)
    """JPEG: number of the frame header, SOF0 to SOF15, which says how the samples are coded."""
    length: int = field(default=0, compare=False)
    """Bytes from the start of the file to the end of what was read."""


def image_format(content: bytes) -> str:
    """JPEG, PNG, BMP or GIF, by the first bytes; ImageError for anything else."""
    for magic, name in MAGIC.items():
        if content.startswith(magic):
            return name
    start = f"{len(content)} bytes that start with {content[:8]!r}" if content else "empty"
    raise ImageError(f"not a JPEG, PNG, BMP or GIF picture: {start}")


def image_header(content: bytes) -> ImageHeader:
    """The header of an image file, of which `content` is the beginning or all.

    Raises ImageError when the format is unknown or the header is cut off or damaged.
    """
    name = image_format(content)
    try:
        return {"JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "GIF": _gif}[name](content)
    except (struct.error, IndexError, ValueError):
        raise _damaged(name, content) from None


def pixels_to_decode(content: bytes) -> int:
    """How many pixels decoding an image file would fill; for a GIF, those of all its frames. Raises ImageError."""
    header = image_header(content)
    pixels = header.width * header.height
    if header.format != "GIF":
        return pixels
    try:
        return pixels + _gif_frame_pixels(content)
    except (struct.error, IndexError):
        raise _damaged("GIF", content) from None


def _damaged(name: str, content: bytes) -> ImageError:
    return ImageError(f"a damaged {name} picture: its header ends after {len(content)} bytes")


def _jpeg(content: bytes) -> ImageHeader:
    """Walks over the segments (ITU-T T.81, annex B) to the frame header; bytes between them are skipped by libjpeg."""
    at = 2
    while True:
        at = content.index(b"\xff", at)
        while content[at] == 0xFF:  # any number of fill bytes may precede the marker
            at += 1
        marker = content[at]
        at += 1
        if marker in JPEG_FRAME_HEADERS:
            bits, height, width = struct.unpack_from(">BHH", content, at + 2)
            return ImageHeader("JPEG", width, height, bits, marker - 0xC0, at + 7)
        if marker in JPEG_NO_HEADER:
            raise ValueError("no frame header")
        if marker not in JPEG_WITHOUT_LENGTH:
            at += struct.unpack_from(">H", content, at)[0]


def _png(content: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", content, 16)
    return ImageHeader("PNG", width, height, length=24)


def _bmp(content: bytes) -> ImageHeader:
    width, height, _, bits = struct.unpack_from("<iiHH", content, 18)
    return ImageHeader("BMP", abs(width), abs(height), bits, length=30)  # a negative height: rows run from the top


def _gif(content: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", content, 6)
    return ImageHeader("GIF", width, height, length=10)


def _gif_frame_pixels(content: bytes) -> int:
    """The pixels of all frames: giflib decodes every one of them, though only the first is used."""
    pixels, at = 0, 13 + _gif_colours(content[10])
    while at < len(content):
        if content[at] == GIF_IMAGE:
            width, height = struct.unpack_from("<HH", content, at + 5)
            pixels += width * height
            at += 11 + _gif_colours(content[at + 9])
        elif content[at] == GIF_EXTENSION:
            at += 2
        else:  # the trailer, or rubbish on which the decoder stops too
            break
        while at < len(content) and content[at]:  # sub-blocks, each led by its length, up to an empty one
            at += content[at] + 1
        at += 1
    return pixels


def _gif_colours(flags: int) -> int:
    """Bytes of the colour table that a flags byte announces."""
    return 3 * 2 ** ((flags & 0x07) + 1) if flags & 0x80 else 0
