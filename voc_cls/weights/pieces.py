"""An array into a file, a piece at a time: a transposed view of 400 MB must not become a second 400 MB."""

from __future__ import annotations

from typing import Protocol

from voc_cls.weights.tensors import PIECE as PIECE
from voc_cls.weights.tensors import Array
from voc_cls.weights.tensors import pieces as pieces


class Sink(Protocol):
    """Whatever takes bytes: a file, a hash behind a `write`, a member of an archive."""

    def write(self, data: memoryview, /) -> object:
        """Takes all of `data`."""


def write_array(stream: Sink, array: Array) -> None:
    """Writes the values of `array` in C order, little-endian, whatever its strides and byte order."""
    for piece in pieces(array):
        stream.write(piece)
