"""Reading the files of a data set safely: regular files only, lists of a bounded size, the headers of images.

An image's header and end cost some 40 µs, so every reader looks at them; `voc-data check` decodes each image as well.
"""

from __future__ import annotations

import codecs
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from voc_cls.errors import DataError
from voc_cls.image_header import ImageError, ImageHeader, image_format, image_header, is_plain_bmp

LIST_LIMIT = 64 * 2**20
"""Bytes a list of pictures may have; ImageSets/Main/trainval.txt of VOC2012 has 0.14 MiB."""
HEADER_BYTES = 1 << 14
"""Read at first; a header with a thumbnail or a colour profile can be longer."""
ENDS = {"JPEG": (b"\xff\xd9", "its end-of-image marker"), "PNG": (b"IEND\xaeB`\x82", "its end chunk (IEND)")}
MAX_PIXELS = 178_956_970
"""Larger images are refused as decompression bombs; the number is Pillow's (Image.MAX_IMAGE_PIXELS, twice)."""
LOOK = "look at its permissions and at the disk"
ADVICE = "replace it, or convert it to JPEG"


def check_file(path: Path) -> int:
    """Size in bytes of the regular file `path`; DataError names anything else (so a pipe is never waited for)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; correct the name, or copy the file there") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {LOOK}") from None
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise DataError(f"{path}: is {found} where a file is expected; name a file")
    return status.st_size


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of the regular file `path`; DataError if it cannot be read or has more than `limit` bytes."""
    size = check_file(path)
    if size > limit:
        raise DataError(f"{path}: has {size:,} bytes, more than the {limit:,} that such a file may have; is it "
                        "another kind of file?")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {LOOK}") from None


def decode_text(content: bytes, errors: str = "strict") -> str:
    """UTF-8, with or without a byte order mark, or UTF-16 with one, as Excel writes it."""
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return content.decode(encoding, errors)


def read_text(path: Path) -> str:
    """The content of a list in UTF-8 or UTF-16; DataError names the line of another byte."""
    content = read_bytes(path, LIST_LIMIT)
    try:
        return decode_text(content)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: holds the byte 0x{error.object[error.start]:02x}, which is not UTF-8 text; "
                        "save the list as UTF-8") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without surrounding white space) of each line that is not blank; UTF-8, any newline."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def read_header(path: Path) -> ImageHeader:
    """Reads an image file's header and makes sure that its end is there; nothing is decoded.

    The format is read from the bytes, not from the file's name. Raises DataError naming the file: not an image of
    these formats, truncated, or of a kind that is not decoded.
    """
    if check_file(path) == 0:
        raise DataError(f"{path}: is empty; a picture is expected")
    try:
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
            image_format(start)
            try:
                header = image_header(start)
            except ImageError:
                header = image_header(start + file.read())
            _check_end(path, header, start, file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {LOOK}") from None
    except ImageError as error:
        raise DataError(f"{path}: is {error}; {ADVICE}") from None
    if header.width * header.height > MAX_PIXELS:
        raise DataError(f"{path}: has {header.width:,} × {header.height:,} pixels, more than {MAX_PIXELS:,}; make it "
                        "smaller")
    return header


def _check_end(path: Path, header: ImageHeader, start: bytes, file: BinaryIO) -> None:
    size, needed = file.seek(0, os.SEEK_END), 0
    if header.format == "WebP":
        needed = 8 + struct.unpack_from("<I", start, 4)[0]
    elif header.format == "BMP" and is_plain_bmp(start):
        needed = struct.unpack_from("<I", start, 10)[0] + (header.width * header.bits // 8 + 3) // 4 * 4 * header.height
    missing = f"{needed:,} bytes are needed" if size < needed else ""
    if header.format in ENDS and not _ends_with(file, ENDS[header.format][0], header.length, size):
        missing = f"{ENDS[header.format][1]} is missing"
    if missing:
        raise DataError(f"{path}: is a truncated {header.format} of {size:,} bytes: {missing}; copy it anew")


def _ends_with(file: BinaryIO, end: bytes, start: int, size: int) -> bool:
    """Whether the file ends with `end`, or at least has it after byte `start`: some programs append something."""
    file.seek(max(start, size - len(end)))
    if file.read() == end:
        return True
    file.seek(start)
    return end in file.read()
