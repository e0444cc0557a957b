"""What a picture's header says, read before anything is decoded.

A file of a few kilobytes can claim thousands of megapixels, and a decoder allocates what the header claims. The sizes
are taken where TensorFlow's decoders (libjpeg, libpng, giflib, its own BMP reader) take them.
"""

from __future__ import annotations

import struct

JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers SOF0 … SOF15 (ITU-T T.81, table B.1); C4, C8 and CC between them are tables and reserved."""
JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
"""TEM, RST0 … RST7, SOI, EOI: markers that no segment follows."""
GIF_IMAGE, GIF_EXTENSION = 0x2C, 0x21


class NotAPicture(ValueError):
    """The bytes are no picture that the server decodes; the message continues "pictures[2] is …"."""


def picture_format(content: bytes) -> str:
    """JPEG, PNG, BMP or GIF, by the first bytes; NotAPicture for anything else."""
    for magic, name in ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP"), (b"GIF8", "GIF")):
        if content.startswith(magic):
            return name
    start = f"{len(content)} bytes that start with {content[:8]!r}" if content else "empty"
    raise NotAPicture(f"not a JPEG, PNG, BMP or GIF picture: {start}")


def pixels_to_decode(content: bytes) -> int:
    """How many pixels decoding the picture would fill; for a GIF, those of all its frames.

    Raises NotAPicture when the format is unknown or the header is cut off or damaged.
    """
    name = picture_format(content)
    try:
        width, height = {"JPEG": _jpeg_size, "PNG": _png_size, "BMP": _bmp_size, "GIF": _gif_size}[name](content)
        return width * height + (_gif_frame_pixels(content) if name == "GIF" else 0)
    except (struct.error, IndexError, ValueError):
        raise NotAPicture(f"a damaged {name} picture: its header ends after {len(content)} bytes") from None


def _jpeg_size(content: bytes) -> tuple[int, int]:
    at = 2
    while True:
        at = content.index(b"\xff", at)
        while content[at] == 0xFF:  # any number of fill bytes may precede the marker
            at += 1
        marker = content[at]
        if marker in JPEG_FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", content, at + 4)
            return width, height
        at += 1
        if marker and marker not in JPEG_WITHOUT_LENGTH:
            at += struct.unpack_from(">H", content, at)[0]


def _png_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _bmp_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", content, 18)
    return abs(width), abs(height)  # a negative height means that the rows run from top to bottom


def _gif_size(content: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", content, 6)
    return width, height


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
