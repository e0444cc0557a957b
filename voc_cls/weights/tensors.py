"""Tensors as weight files have them: their names, shapes, types and values, and a digest over all of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.errors import VocError, WeightsError, reason

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
NUMBERS = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
           "uint64", "bool")
"""The types that weights and counters have in any format."""
KEY = " > "
"""After each key of nested dictionaries, before the name of a tensor: "state_dict > fc.weight"."""


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor; `dtype` is NumPy's or TensorFlow's name ("float32", "bfloat16", "string")."""

    shape: Shape
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of all values; of a string 8 each."""
        return math.prod(self.shape) * numpy_dtype(self.dtype).itemsize

    @classmethod
    def of(cls, array: Array) -> TensorInfo:
        """The description of an array; arrays of objects hold strings."""
        return cls(array.shape, "string" if array.dtype == object else array.dtype.name)


@dataclass(frozen=True)
class WeightFile:
    """An opened weight file under the names that are in it."""

    path: Path
    """The file, or the prefix of a checkpoint."""
    format: str
    """For a person: "TF-Slim checkpoint, v2", "NumPy .npz", "PyTorch .pth"."""
    tensors: Mapping[str, TensorInfo]
    """Sorted by name."""
    _read: Callable[[str], Array] = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", dict(sorted(self.tensors.items())))

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: info.shape for name, info in self.tensors.items()}

    def read(self, name: str) -> Array:
        """One tensor, in the machine's byte order; WeightsError when its bytes are damaged."""
        with damage_reported(f"{self.path}: the tensor {name}"):
            array = self._read(name)
            return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def read_weights(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor as float32; WeightsError for another type and for values that are not finite."""
        dtype = self.tensors[name].dtype
        if "float" not in dtype:
            raise WeightsError(f"{self.path}: {name} is of type {dtype}, where weights are floating-point numbers; "
                               "save them as float32")
        with np.errstate(over="ignore"):  # a float64 too large becomes inf, which is named below
            weights = self.read(name).astype(np.float32, copy=False)
        if not np.isfinite(weights).all():
            broken = np.count_nonzero(~np.isfinite(weights))
            raise WeightsError(f"{self.path}: {name} has {broken:,} of {weights.size:,} values that are NaN or "
                               "infinite: the training that wrote it diverged, take an earlier checkpoint")
        return weights

    def digest(self) -> str:
        return tensors_digest((name, self.read(name)) for name in self.tensors)


def arrays_file(path: Path, kind: str, arrays: Mapping[str, Array]) -> WeightFile:
    """A weight file whose tensors have all been read already."""
    return WeightFile(path, kind, {name: TensorInfo.of(array) for name, array in arrays.items()}, arrays.__getitem__)


@contextmanager
def damage_reported(what: str) -> Iterator[None]:
    """Turns whatever a library raises while it reads bytes from anywhere into one sentence.

    what: the file, and what is read from it. Our own errors and a missing library pass.
    """
    try:
        yield
    except (VocError, ImportError):
        raise
    except Exception as error:  # libraries raise errors of many kinds for damaged bytes
        raise WeightsError(f"{what} cannot be read ({reason(error)}): the file is damaged, cut short or of an unknown "
                           "kind; fetch it again, or save it anew") from error


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The type that `TensorInfo.dtype` names; "string" is NumPy's object."""
    import ml_dtypes  # noqa: F401  with it NumPy knows bfloat16 and float8

    return np.dtype(object if name == "string" else name)


def tensors_digest(tensors: Iterable[tuple[str, Array]]) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian bytes, in the order given: the same in every file format."""
    digest = hashlib.sha256()
    for name, value in tensors:
        info = TensorInfo.of(value)
        digest.update(f"{name}\0{info.dtype}\0{list(info.shape)}\0".encode())
        if info.dtype == "string":
            for text in value.ravel():
                digest.update(text)
        else:
            digest.update(np.require(value, value.dtype.newbyteorder("<"), "C").reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
