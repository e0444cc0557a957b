"""Looking at picture files: a quick look at the header and the end.

It costs some 25 µs a picture, so every reader takes it; `voc-data check` decodes each picture as well (decoding.py).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from voc_cls.data.files import check_file
from voc_cls.errors import DataError

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
GIF_STARTS = b"GIF87a", b"GIF89a"
BMP_START = b"BM"
MAX_PIXELS = 178_956_970
"""Larger pictures are refused as decompression bombs; the number is Pillow's (Image.MAX_IMAGE_PIXELS, twice)."""
JPEG_FRAMES = range(0xC0, 0xD0)
"""Markers of a frame header (ITU T.81, table B.1), but for the three below."""
JPEG_NOT_FRAMES = (0xC4, 0xC8, 0xCC)
JPEG_DECODABLE = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive Huffman coding: what libjpeg decodes at 8 bits a sample."""


@dataclass(frozen=True)
class PictureHeader:
    """What the header says: "JPEG", "PNG", "BMP" or "GIF", and the size in pixels."""

    format: str
    width: int
    height: int


def read_header(path: Path) -> PictureHeader:
    """Reads a picture's header and makes sure that its end is there; nothing is decoded.

    The format is read from the bytes, not from the file's name. Raises DataError naming the file: not a picture of
    these formats, truncated, or of a kind that TensorFlow does not decode.
    """
    if check_file(path) == 0:
        raise DataError(f"{path}: is empty; a picture is expected")
    try:
        with path.open("rb") as file:
            start = file.read(26)
            file.seek(0)
            if start.startswith(JPEG_START):
                return _jpeg(path, file)
            if start.startswith(PNG_START):
                return _png(path, file, start)
            if start.startswith(GIF_STARTS):
                return _gif(path, start)
            if start.startswith(BMP_START):
                return _bmp(path, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    raise DataError(f"{path}: is no JPEG, PNG, BMP or GIF, it starts with {start[:8]!r}; convert it to JPEG")


def _jpeg(path: Path, file: BinaryIO) -> PictureHeader:
    """Walks over the segments (ITU T.81, annex B) to the frame header, then looks for the end marker."""
    file.seek(len(JPEG_START))
    while True:
        marker = file.read(2)
        while len(marker) == 2 and marker == b"\xff\xff":  # fill bytes
            marker = marker[1:] + file.read(1)
        length = file.read(2)
        if len(marker) < 2 or len(length) < 2:
            raise _truncated(path, "JPEG", "ends within its header")
        if marker[0] != 0xFF or marker[1] in (0x00, 0xD8, 0xD9, 0xDA):
            raise DataError(f"{path}: is a damaged JPEG: no frame header before byte {file.tell():,}; replace it")
        if marker[1] in JPEG_FRAMES and marker[1] not in JPEG_NOT_FRAMES:
            break
        file.seek(int.from_bytes(length, "big") - 2, os.SEEK_CUR)
    frame = file.read(5)
    if len(frame) < 5:
        raise _truncated(path, "JPEG", "ends within its header")
    bits, height, width = struct.unpack(">BHH", frame)
    if marker[1] not in JPEG_DECODABLE or bits != 8:
        raise DataError(f"{path}: is a JPEG of {bits} bits a sample coded as SOF{marker[1] - 0xC0}; TensorFlow decodes "
                        f"8 bits, baseline or progressive (SOF0 to SOF2): save it anew")
    if not _ends_with(file, JPEG_END, file.tell()):
        raise _truncated(path, "JPEG", "its end-of-image marker is missing")
    return _sized(path, "JPEG", width, height)


def _png(path: Path, file: BinaryIO, start: bytes) -> PictureHeader:
    if len(start) < 26 or start[12:16] != b"IHDR":
        raise _truncated(path, "PNG", "ends within its header")
    width, height = struct.unpack(">II", start[16:24])
    if not _ends_with(file, PNG_END, 26):
        raise _truncated(path, "PNG", "its end chunk (IEND) is missing")
    return _sized(path, "PNG", width, height)


def _gif(path: Path, start: bytes) -> PictureHeader:
    if len(start) < 13:
        raise _truncated(path, "GIF", "ends within its header")
    return _sized(path, "GIF", *struct.unpack("<HH", start[6:10]))


def _bmp(path: Path, file: BinaryIO) -> PictureHeader:
    header = file.read(30)
    if len(header) < 30:
        raise _truncated(path, "BMP", "ends within its header")
    offset, _, width, height, _, bits = struct.unpack("<IIiiHH", header[10:30])
    if bits not in (24, 32):  # TensorFlow takes a palette's indices for grey levels
        raise DataError(f"{path}: is a BMP of {bits} bits a pixel; TensorFlow decodes 24 or 32: save it as PNG")
    needed = offset + (width * bits // 8 + 3) // 4 * 4 * abs(height)
    if file.seek(0, os.SEEK_END) < needed:
        raise _truncated(path, "BMP", f"{needed:,} bytes are needed")
    return _sized(path, "BMP", width, abs(height))  # a negative height: stored from the top row on


def _ends_with(file: BinaryIO, end: bytes, start: int) -> bool:
    """Whether the file ends with `end`, or at least has it after byte `start`: some programs append something."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(start, size - len(end)))
    if file.read() == end:
        return True
    file.seek(start)
    return end in file.read()


def _sized(path: Path, form: str, width: int, height: int) -> PictureHeader:
    if width < 1 or height < 1:
        raise DataError(f"{path}: is a {form} whose header says {width} × {height} pixels; replace it")
    if width * height > MAX_PIXELS:
        raise DataError(f"{path}: has {width:,} × {height:,} pixels, more than {MAX_PIXELS:,}; make it smaller")
    return PictureHeader(form, width, height)


def _truncated(path: Path, form: str, found: str) -> DataError:
    return DataError(f"{path}: is a truncated {form} of {path.stat().st_size:,} bytes: {found}; copy it anew")
