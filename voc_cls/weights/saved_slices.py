"""TensorFlow's checkpoints of version 1, such as TF-Slim's official ones, read without TensorFlow.

One table of SavedTensorSlices: under the empty key what there is, under each tensor's key its values
(tensorflow/core/util/saved_tensor_slice.proto and saved_tensor_slice_util.cc).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.weights.bundle import SLICED, dtype_name, shape_of
from voc_cls.weights.table import Table
from voc_cls.weights.tensors import Array, Shape, TensorInfo, numpy_dtype
from voc_cls.weights.wire import Damaged, fields, message, number, signed, text, varint

VALUES = {"float32": 5, "float64": 6, "string": 8, "complex64": 9, "int64": 10, "bool": 11, "complex128": 12,
          "float16": 13, "bfloat16": 13, "uint32": 16, "uint64": 17}
"""Where TensorProto (tensorflow/core/framework/tensor.proto) has the values of a type; all other types: 7."""
AS_BYTES = ("float32", "float64", "complex64", "complex128")
"""The types that lie there as in memory; the others are varints."""
FULL = b"\x80\x7f"
"""An axis that is not sliced: start 0 and length −1 as OrderedCode::WriteSignedNumIncreasing has them."""


@dataclass(frozen=True)
class SavedSlices:
    """An opened checkpoint; Damaged where bytes break the format or fail a checksum."""

    table: Table
    tensors: dict[str, TensorInfo]

    def read(self, name: str) -> Array:
        """One tensor; where its values lie as in memory it is a view of the file's block."""
        info = self.tensors[name]
        slices = dict(fields(self.table.get(_key(name, info.shape))))
        values = dict(fields(message(dict(fields(message(slices.get(2, 0)))).get(3, 0))))
        found = values.get(VALUES.get(info.dtype, 7), memoryview(b""))
        if info.dtype == "string":
            raise Damaged("strings are not read from a checkpoint of version 1")
        dtype = numpy_dtype(info.dtype)
        if info.dtype in AS_BYTES:
            array: Array = np.frombuffer(message(found), dtype)
        else:
            array = _integers(message(found), info, dtype)
        if array.size != info.elements:
            raise Damaged(f"it has {array.size:,} values and should have {info.elements:,}")
        return array.reshape(info.shape)


def open_saved_slices(path: Path) -> SavedSlices:
    """Reads what the checkpoint `path` says that it holds."""
    table = Table(path)
    tensors: dict[str, TensorInfo] = {}
    for field, meta in fields(message(dict(fields(table.get(b""))).get(1, 0))):
        if field == 1:
            name, info = _tensor(message(meta))
            tensors[name] = info
    return SavedSlices(table, dict(sorted(tensors.items())))


def _tensor(meta: memoryview) -> tuple[str, TensorInfo]:
    """A SavedSliceMeta."""
    values = dict(fields(meta))
    shape = shape_of(message(values.get(2, memoryview(b""))))
    for field, extent in fields(meta):
        if field == 4 and any(list(fields(message(axis))) for number_, axis in fields(message(extent)) if number_ == 1):
            raise Damaged(SLICED)
    return text(values.get(1, 0)), TensorInfo(shape, dtype_name(number(values.get(3, 0))))


def _key(name: str, shape: Shape) -> bytes:
    """EncodeTensorNameSlice: 0, the name (escaped, with an end mark), the number of axes, each axis whole."""
    escaped = name.encode().replace(b"\0", b"\0\xff")  # UTF-8 has no byte 0xff
    axes = bytes([1, len(shape)]) if shape else b"\0"
    return b"\0" + escaped + b"\0\x01" + axes + FULL * len(shape)


def _integers(data: memoryview, info: TensorInfo, dtype: np.dtype[np.generic]) -> Array:
    if info.elements > len(data):
        raise Damaged(f"it has {len(data):,} bytes and should have {info.elements:,} values")
    values, position = [], 0
    while position < len(data):
        value, position = varint(data, position)
        values.append(signed(value))
    if info.dtype in ("float16", "bfloat16"):  # their bits
        return np.array(values, np.int64).astype(np.uint16).view(dtype)
    return np.array(values, np.int64).astype(dtype)
