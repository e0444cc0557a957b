"""The header of NumPy's .npy format, read without trusting it (numpy/lib/_format_impl.py describes it)."""

from __future__ import annotations

import math
import tokenize
import warnings
import zlib
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import PIECE
from voc_cls.weights.tensors import MOST_AXES, NUMBERS, Array, Outgoing, Shape, numpy_dtype

MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class NpyHeader:
    """What a header says; the values begin `start` bytes behind the beginning."""

    shape: Shape
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def nbytes(self) -> int:
        """Of the values; of no meaning for objects."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes]) -> NpyHeader:
    """Reads up to the first value; ValueError where there is no such header."""
    before = stream.tell()
    try:
        version = np.lib.format.read_magic(stream)  # type: ignore[arg-type]
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"its .npy version is {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():  # that Python 2 wrote it
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(stream)  # type: ignore[arg-type]
    except (zlib.error, tokenize.TokenError, TypeError, KeyError, IndexError, SyntaxError, RecursionError,
            MemoryError) as error:
        raise ValueError("the header of an array is damaged") from error
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise ValueError("an array has an impossible shape")
    return NpyHeader(tuple(shape), fortran, dtype, stream.tell() - before)


def read_values(stream: IO[bytes], header: NpyHeader) -> Array:
    """The array behind a header whose size has been compared with the file's; EOFError where it ends early."""
    raw = np.empty(header.nbytes, np.uint8)
    for start in range(0, header.nbytes, PIECE):
        piece = raw[start:start + PIECE].data
        try:
            part = stream.read(len(piece))
        except zlib.error as error:
            raise ValueError("its compressed bytes are damaged") from error
        if len(part) != len(piece):
            raise EOFError("it ends within an array")
        piece[:] = part
    values = raw.view(header.dtype)
    if not header.dtype.isnative:
        values = values.byteswap(inplace=True).view(header.dtype.newbyteorder("="))
    return values.reshape(header.shape[::-1]).T if header.fortran else values.reshape(header.shape)


def write_header(stream: IO[bytes], tensor: Outgoing) -> None:
    """The header of an array in C order, little-endian; WeightsError for a type that NumPy's files do not have."""
    header: dict[str, Any] = {"descr": plain_type(tensor).str, "fortran_order": False, "shape": tensor.info.shape}
    np.lib.format.write_array_header_1_0(stream, header)


def plain_type(tensor: Outgoing) -> np.dtype[Any]:
    """The little-endian type of a tensor; WeightsError for one that NumPy's files do not have."""
    if tensor.info.dtype not in NUMBERS or tensor.info.dtype == "bfloat16":
        raise WeightsError(f"{tensor.name} is of type {tensor.info.dtype}, which NumPy's files do not have: choose "
                           ".ckpt or .safetensors")
    return numpy_dtype(tensor.info.dtype).newbyteorder("<")
