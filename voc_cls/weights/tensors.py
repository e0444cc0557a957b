"""What every format of weight file offers: tensors by name, read one at a time, written one at a time.

A format is a module with `open_…(path) -> WeightFile` and `write_…(path, tensors)`. Neither runs code from a file, and
neither holds more than the largest tensor, so that a file of any size is converted in bounded memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
PIECE = 2**24
"""Bytes that are copied at a time, 16 MB: enough that the disk sets the speed, too little to matter in memory."""
MOST_AXES = 32
NUMBERS = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
           "uint64", "bool")
"""The types that weights and counters have in any format."""


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor without reading it; `dtype` is NumPy's or TensorFlow's name ("float32")."""

    shape: Shape
    dtype: str

    @property
    def elements(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The type that `TensorInfo.dtype` names, in the machine's byte order; "string" is NumPy's object."""
    if name == "string":
        return np.dtype(object)
    if name.startswith(("bfloat16", "float8")):
        import ml_dtypes

        special: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return special
    return np.dtype(name)


class WeightFile(Protocol):
    """An opened weight file under the names that are in it. `read` raises WeightsError for damaged bytes."""

    @property
    def path(self) -> Path:
        """The file, or the prefix of a checkpoint."""

    @property
    def format(self) -> str:
        """For a person: "TF-Slim checkpoint, v2", "NumPy .npz", "PyTorch .pth"."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Sorted by name."""

    def read(self, name: str) -> Array:
        """One tensor, whole, in memory of its own."""


@dataclass(frozen=True)
class Outgoing:
    """A tensor to be written: `read` gives it when its turn comes; it may be a transposed view, no copy is needed."""

    name: str
    info: TensorInfo
    read: Callable[[], Array]


Writer = Callable[[Path, "list[Outgoing]"], None]
"""Writes a file of its format at a path that does not exist yet; the caller renames it into place."""


def tensors_digest(tensors: Iterable[tuple[str, Array]]) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian bytes, in the order given: the same in every file format."""
    digest = hashlib.sha256()
    for name, value in tensors:
        dtype = "string" if value.dtype == object else value.dtype.name
        digest.update(f"{name}\0{dtype}\0{list(value.shape)}\0".encode())
        for part in value.ravel() if value.dtype == object else pieces(value):  # object: strings
            digest.update(part)
    return digest.hexdigest()


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
