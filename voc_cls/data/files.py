"""Reading small text and XML files of a data set without surprises: regular files only, of a bounded size."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from voc_cls.errors import DataError

LIST_LIMIT = 64 * 2**20
"""Bytes a list of pictures may have; ImageSets/Main/trainval.txt of VOC2012 has 0.14 MiB."""


def check_file(path: Path) -> int:
    """Size in bytes of the regular file `path`; DataError names anything else (so a pipe is never waited for)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise DataError(f"{path}: is {found} where a file is expected")
    return status.st_size


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of the regular file `path`; DataError if it cannot be read or has more than `limit` bytes."""
    size = check_file(path)
    if size > limit:
        raise DataError(f"{path}: has {size:,} bytes, more than the {limit:,} that such a file may have")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without surrounding white space) of each line that is not blank; UTF-8, any newline."""
    for number, raw in enumerate(read_bytes(path, LIST_LIMIT).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: holds the byte 0x{raw[error.start]:02x}, which is not UTF-8 text; "
                            f"save the list as UTF-8") from None
        if line:
            yield number, line
