"""Tensors that lie in a file as plain little-endian numbers: what most formats come down to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import PIECE
from voc_cls.weights.tensors import Array, Shape, TensorInfo, numpy_dtype


@dataclass(frozen=True)
class RawFile:
    """A `WeightFile` (weights/tensors.py) whose module says how a tensor is read."""

    path: Path
    format: str
    tensors: Mapping[str, TensorInfo]
    _read: Callable[[str], Array] = field(repr=False, compare=False)

    def read(self, name: str) -> Array:
        """One tensor, whole; WeightsError for damaged bytes."""
        try:
            return self._read(name)
        except (OSError, EOFError) as error:
            raise WeightsError(f"{self.path}: the tensor {name} cannot be read ({error}); the file has changed or is "
                               "cut short, fetch it again") from error


def number_type(name: str) -> np.dtype[Any]:
    """The little-endian NumPy type that `TensorInfo.dtype` names."""
    return numpy_dtype(name).newbyteorder("<")


def read_values(stream: BinaryIO, shape: Shape, dtype: str) -> Array:
    """The next values of `stream`, in C order, as an array of the machine's byte order; EOFError where it ends early.
    The caller has made sure that the file may hold so many."""
    stored = number_type(dtype)
    array = np.empty(shape, stored)
    room = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < len(room):
        got = stream.readinto(room[filled:filled + PIECE])  # type: ignore[attr-defined]
        if not got:
            raise EOFError(f"{len(room):,} bytes expected, {filled:,} found")
        filled += got
    return array.astype(stored.newbyteorder("="), copy=False)


def read_at(file: Path, offset: int, info: TensorInfo) -> Array:
    """The tensor `info` at `offset` bytes of `file`."""
    with file.open("rb", buffering=0) as stream:
        stream.seek(offset)
        return read_values(stream, info.shape, info.dtype)  # type: ignore[arg-type]


def by_name(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """`tensors` sorted by name, as `WeightFile` wants them."""
    return dict(sorted(tensors.items()))
