"""TensorFlow's checkpoints of version 2, read and written without TensorFlow, one tensor at a time.

`NAME.index` is a table of BundleEntryProtos, `NAME.data-00000-of-00001` the values one behind the other
(tensorflow/core/util/tensor_bundle and tensorflow/core/protobuf/tensor_bundle.proto).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import PIECE, pieces
from voc_cls.weights.table import Table, crc32c, masked, write_table
from voc_cls.weights.tensors import MOST_AXES, Array, Outgoing, Shape, TensorInfo, numpy_dtype
from voc_cls.weights.wire import Damaged, fields, message, number, put_bytes, put_number, put_varint, signed, varint

DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
}
"""DataType of tensorflow/core/framework/types.proto → name."""
CODES = {name: code for code, name in DTYPES.items()}
SLICED = "a variable is stored in slices: save it without a partitioner"
HEADER = put_number(1, 1) + put_bytes(3, put_number(1, 1))
"""BundleHeaderProto of what is written: one shard, little-endian, written by version 1."""


@dataclass(frozen=True)
class BundleEntry:
    """Where a tensor lies: bytes `offset` to `offset + size` of a shard, with their masked CRC-32C."""

    info: TensorInfo
    shard: int
    offset: int
    size: int
    crc: int


@dataclass(frozen=True)
class Bundle:
    """An opened checkpoint; Damaged where bytes break the format or fail a checksum."""

    prefix: Path
    shards: int
    entries: dict[str, BundleEntry]

    def read(self, name: str) -> Array:
        """One tensor."""
        entry = self.entries[name]
        path = shard_path(self.prefix, entry.shard, self.shards)
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            if entry.offset + entry.size > end:
                raise Damaged(f"{path.name} has {end:,} bytes and it ends at {entry.offset + entry.size:,}")
            stream.seek(entry.offset)
            raw = np.empty(entry.size, np.uint8)
            crc = 0
            for start in range(0, entry.size, PIECE):
                piece = raw[start:start + PIECE].data
                if stream.readinto(piece) != len(piece):
                    raise Damaged("the file became shorter")
                crc = crc32c(piece, crc)
        if entry.info.dtype == "string":
            return _strings(raw.data, entry)
        if masked(crc) != entry.crc:
            raise Damaged("its checksum is another")
        return raw.view(numpy_dtype(entry.info.dtype)).reshape(entry.info.shape)


def open_bundle(prefix: Path) -> Bundle:
    """Reads the index of the checkpoint `prefix`."""
    shards, entries = 0, {}
    for key, value in Table(prefix.with_name(f"{prefix.name}.index")):
        if not key:
            shards = _header(value)
        elif key.startswith(b"\0"):
            raise Damaged(SLICED)
        else:
            entries[tensor_name(key)] = _entry(value)
    if not all(entry.shard < shards for entry in entries.values()):
        raise Damaged(f"it has {shards} data files and a tensor in another")
    return Bundle(prefix, shards, entries)


def shard_path(prefix: Path, shard: int, of: int) -> Path:
    """The file of a shard."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{of:05d}")


def tensor_name(key: bytes) -> str:
    """A key as a name; Damaged where it is none."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise Damaged("a name is no text") from None


def dtype_name(code: int) -> str:
    """The name of a DataType."""
    if code not in DTYPES:
        raise Damaged(f"a tensor is of TensorFlow's type {code}, which is no array of numbers")
    return DTYPES[code]


def shape_of(proto: memoryview) -> Shape:
    """A TensorShapeProto."""
    sizes = []
    for field, value in fields(proto):
        if field == 2:
            sizes.append(next((signed(number(size)) for axis, size in fields(message(value)) if axis == 1), 0))
        elif field == 3 and value:
            raise Damaged("a tensor has no known shape")
    if len(sizes) > MOST_AXES or any(size < 0 for size in sizes):
        raise Damaged("a tensor has an impossible shape")
    return tuple(sizes)


def _header(proto: memoryview) -> int:
    """The number of shards."""
    values = dict(fields(proto))
    if values.get(2, 0) != 0:
        raise Damaged("it was written on a big-endian machine")
    return number(values.get(1, 0))


def _entry(proto: memoryview) -> BundleEntry:
    values = dict(fields(proto))
    if 7 in values:
        raise Damaged(SLICED)
    info = TensorInfo(shape_of(message(values.get(2, memoryview(b"")))), dtype_name(number(values.get(1, 0))))
    shard, offset, size, crc = (number(values.get(field, 0)) for field in (3, 4, 5, 6))
    if info.dtype != "string" and size != info.elements * numpy_dtype(info.dtype).itemsize:
        raise Damaged(f"{size:,} bytes for a tensor of {list(info.shape)} {info.dtype}")
    if info.dtype == "string" and size < info.elements:
        raise Damaged("fewer bytes than strings")
    return BundleEntry(info, shard, offset, size, crc)


def _strings(raw: memoryview, entry: BundleEntry) -> Array:
    """Strings lie as their lengths (varints), a checksum of those, then their bytes (WriteStringTensor)."""
    lengths, position = [], 0
    for _ in range(entry.info.elements):
        length, position = varint(raw, position)
        lengths.append(length)
    if position + 4 + sum(lengths) != len(raw):
        raise Damaged("strings of other lengths than announced")
    if masked(_strings_crc(lengths, [raw[position:]])) != entry.crc:
        raise Damaged("its checksum is another")
    position += 4
    values = np.empty(len(lengths), object)
    for place, length in enumerate(lengths):
        values[place] = bytes(raw[position:position + length])
        position += length
    return values.reshape(entry.info.shape)


def _strings_crc(lengths: Sequence[int], behind: Sequence[memoryview | bytes]) -> int:
    """The CRC takes lengths as integers of 4 bytes (8 from 4 GB on), not as they lie in the file."""
    crc = crc32c(b"".join(length.to_bytes(4 if length < 2**32 else 8, "little") for length in lengths))
    for part in behind:
        crc = crc32c(part, crc)
    return crc


def write_bundle(prefix: Path, tensors: list[Outgoing]) -> None:
    """Writes a checkpoint of one shard."""
    index = {b"": HEADER}
    with shard_path(prefix, 0, 1).open("wb") as stream:
        for tensor in sorted(tensors, key=lambda tensor: tensor.name):
            if tensor.info.dtype not in CODES:
                raise WeightsError(f"{tensor.name} is of type {tensor.info.dtype}, which a TensorFlow checkpoint does "
                                   "not have; convert it to float32 first")
            offset = stream.tell()
            crc = (_put_strings if tensor.info.dtype == "string" else _put_numbers)(stream, tensor.read())
            index[tensor.name.encode()] = _put_entry(tensor.info, offset, stream.tell() - offset, crc)
    write_table(prefix.with_name(f"{prefix.name}.index"), index)


def _put_numbers(stream: BinaryIO, values: Array) -> int:
    """Writes an array; returns the CRC of its bytes."""
    crc = 0
    for piece in pieces(values):
        stream.write(piece)
        crc = crc32c(piece, crc)
    return crc


def _put_strings(stream: BinaryIO, values: Array) -> int:
    """The inverse of `_strings`; returns the CRC."""
    parts = [value if isinstance(value, bytes) else str(value).encode() for value in values.ravel()]
    lengths = [len(part) for part in parts]
    checksum = masked(_strings_crc(lengths, [])).to_bytes(4, "little")
    stream.write(b"".join([*map(put_varint, lengths), checksum, *parts]))
    return _strings_crc(lengths, [checksum, *parts])


def _put_entry(info: TensorInfo, offset: int, size: int, crc: int) -> bytes:
    axes = b"".join(put_bytes(2, put_number(1, axis)) for axis in info.shape)
    return (put_number(1, CODES[info.dtype]) + put_bytes(2, axes) + put_number(4, offset) + put_number(5, size)
            + put_varint(6 << 3 | 5) + masked(crc).to_bytes(4, "little"))
