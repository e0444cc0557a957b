"""An array into a file, a piece at a time: a transposed view of 400 MB must not become a second 400 MB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from voc_cls.weights.format import Array

PIECE = 2**24
"""Bytes that are copied at a time, 16 MB: enough that the disk sets the speed, too little to matter in memory."""


class Sink(Protocol):
    """Whatever takes bytes: a file, a hash behind a `write`, a member of an archive."""

    def write(self, data: memoryview, /) -> object:
        """Takes all of `data`."""


def write_array(stream: Sink, array: Array) -> None:
    """Writes the values of `array` in C order, little-endian, whatever its strides and byte order."""
    for piece in pieces(array):
        stream.write(piece)


def pieces(array: Array) -> Iterator[memoryview]:
    """The bytes of `array` in C order, little-endian, as contiguous runs of at most `PIECE` bytes (or one value)."""
    if array.nbytes == 0:
        return
    if array.nbytes <= PIECE or array.ndim == 0 or (array.flags.c_contiguous and _little_endian(array)):
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        for start in range(0, flat.nbytes, PIECE):
            yield flat[start:start + PIECE].data
        return
    rows = max(1, PIECE // (array.nbytes // len(array)))
    for start in range(0, len(array), rows):
        part = array[start:start + rows]
        yield from pieces(part if len(part) > 1 or array.ndim == 1 else part[0])


def _little_endian(array: Array) -> bool:
    return array.dtype == array.dtype.newbyteorder("<")
