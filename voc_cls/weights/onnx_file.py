"""ONNX: the initialisers of a model's graph in, and a graph of initialisers alone out.

A model is one protocol buffer (onnx/onnx.proto3): its fields are walked over in the mapped file and only the values
asked for are read; onnx' own parser holds the file and what it makes of it.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import write_array
from voc_cls.weights.raw import RawFile, by_name, number_type, read_at
from voc_cls.weights.tensors import MOST_AXES, Array, Outgoing, TensorInfo
from voc_cls.weights.wire import (
    Damaged,
    fields,
    message,
    number,
    put_bytes,
    put_number,
    put_varint,
    signed,
    text,
    varint,
)

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
          10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}
"""TensorProto.DataType → name; strings, complex numbers and those of less than 8 bits are no weights."""
CODES = {name: code for code, name in DTYPES.items()}
GRAPH, INITIALIZER = 7, 5
"""ModelProto.graph, GraphProto.initializer."""
DIMS, DATA_TYPE, FLOATS, NAME, RAW, DOUBLES, EXTERNAL, LOCATION = 1, 2, 4, 8, 9, 10, 13, 14
"""Fields of TensorProto."""
LENGTH_DELIMITED = 2
IR_VERSION, OPSET = 8, 17
LARGEST = 2**31 - 1
"""Bytes of a protocol buffer; larger models keep their values in files beside them."""


@dataclass(frozen=True)
class _Place:
    """Where the values of a tensor are: as in memory at an offset of a file, or (`parsed`) a TensorProto there."""

    file: Path
    offset: int
    parsed: int = 0
    """Length of the TensorProto."""


def open_onnx(path: Path) -> RawFile:
    """Opens a model's initialisers; WeightsError where it is damaged, or names values outside its folder."""
    try:
        with path.open("rb") as stream:
            whole = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        found = _initialisers(path, whole)
    except ValueError as error:  # Damaged, or an empty file
        raise WeightsError(f"{path} is no complete ONNX model ({error}): fetch it again") from error
    if not found:
        raise WeightsError(f"{path} is an ONNX model without initialisers, so there are no weights in it")
    tensors = by_name({name: info for name, (info, _) in found.items()})
    return RawFile(path, "ONNX", tensors, lambda name: _read(*found[name]))


def write_onnx(path: Path, outgoing: list[Outgoing]) -> None:
    """Writes a model whose graph has initialisers and no nodes, one tensor after another."""
    heads = [_head(tensor) for tensor in outgoing]
    sizes = [tensor.info.elements * number_type(tensor.info.dtype).itemsize for tensor in outgoing]
    entries = [put_varint(INITIALIZER << 3 | LENGTH_DELIMITED) + put_varint(len(head) + size)
               for head, size in zip(heads, sizes, strict=True)]
    graph = put_bytes(2, b"weights")
    length = len(graph) + sum(map(len, heads)) + sum(map(len, entries)) + sum(sizes)
    if length > LARGEST - 1024:
        raise WeightsError(f"{length:,} bytes are more than an ONNX file can hold ({LARGEST:,}): write .safetensors")
    with path.open("wb") as stream:
        stream.write(put_number(1, IR_VERSION) + put_bytes(2, b"voc-cls") + put_bytes(8, put_number(2, OPSET)))
        stream.write(put_varint(GRAPH << 3 | LENGTH_DELIMITED) + put_varint(length) + graph)
        for entry, head, tensor in zip(entries, heads, outgoing, strict=True):
            stream.write(entry + head)
            write_array(stream, tensor.read())


def _head(tensor: Outgoing) -> bytes:
    """A TensorProto up to the values of its raw_data."""
    if tensor.info.dtype not in CODES:
        raise WeightsError(f"{tensor.name} is of type {tensor.info.dtype}, which ONNX does not know: leave it out")
    dims = b"".join(put_varint(DIMS << 3) + put_varint(size) for size in tensor.info.shape)
    size = tensor.info.elements * number_type(tensor.info.dtype).itemsize
    return (dims + put_number(DATA_TYPE, CODES[tensor.info.dtype]) + put_bytes(NAME, tensor.name.encode())
            + put_varint(RAW << 3 | LENGTH_DELIMITED) + put_varint(size))


def _initialisers(path: Path, model: memoryview) -> dict[str, tuple[TensorInfo, _Place]]:
    found: dict[str, tuple[TensorInfo, _Place]] = {}
    for field, graph in fields(model):
        for inner, tensor in fields(message(graph)) if field == GRAPH else ():
            if inner == INITIALIZER:
                name, info, place = _tensor(path, model, message(tensor))
                if name in found:
                    raise Damaged(f"two initialisers are called {name[:80]}")
                if info.dtype:
                    found[name] = info, place
    return found


def _tensor(path: Path, model: memoryview, proto: memoryview) -> tuple[str, TensorInfo, _Place]:
    """(name, shape and dtype, place) of a TensorProto; the dtype is empty where it is of no weight."""
    dims: list[int] = []
    single: dict[int, int | memoryview] = {}
    external: dict[str, str] = {}
    for field, value in fields(proto):
        if field == DIMS:
            dims += [signed(value)] if isinstance(value, int) else _packed(value)
        elif field == EXTERNAL:
            entry = dict(fields(message(value)))
            external[text(entry.get(1, memoryview(b"")))] = text(entry.get(2, memoryview(b"")))
        else:
            single[field] = value
    name = text(single.get(NAME, memoryview(b"")))
    if len(dims) > MOST_AXES or any(size < 0 for size in dims):
        raise Damaged(f"{name[:80]} has an impossible shape")
    info = TensorInfo(tuple(dims), DTYPES.get(number(single.get(DATA_TYPE, 0)), ""))
    size = _bytes(info)
    if number(single.get(LOCATION, 0)) == 1:
        return name, info, _beside(path, name, external, size)
    for field in (RAW, FLOATS, DOUBLES):
        values = single.get(field)
        if isinstance(values, memoryview) and len(values) == size:
            return name, info, _Place(path, _offset(model, values))
    if RAW in single:
        raise Damaged(f"{name[:80]} of shape {dims} should have {size:,} bytes and has "
                      f"{len(message(single[RAW])):,}")
    if size > 8 * len(proto):  # a varint has at least one byte
        raise Damaged(f"{name[:80]} of shape {dims} has too few values")
    return name, info, _Place(path, _offset(model, proto), len(proto))


def _bytes(info: TensorInfo) -> int:
    """Length of a tensor in memory; Python's own numbers, because a damaged shape may be of any size."""
    length = number_type(info.dtype or "uint8").itemsize
    for size in info.shape:
        length *= size
    return length


def _packed(values: memoryview) -> list[int]:
    found: list[int] = []
    position = 0
    while position < len(values) and len(found) <= MOST_AXES:
        value, position = varint(values, position)
        found.append(signed(value))
    return found


def _beside(path: Path, name: str, external: dict[str, str], size: int) -> _Place:
    """Values in a file of the model's folder (or below it), as large models have them."""
    location, offset = external.get("location", ""), external.get("offset", "0")
    file, folder = (path.parent / location).resolve(), path.parent.resolve()
    if not location or not file.is_relative_to(folder):
        raise Damaged(f"the values of {name[:80]} are said to be in {location[:80]!r}, which is outside its folder")
    if not offset.isdecimal() or external.get("length", str(size)) != str(size):
        raise Damaged(f"the values of {name[:80]} have no place in {location}")
    if not file.is_file() or file.stat().st_size < int(offset) + size:
        raise Damaged(f"the values of {name[:80]} should be in {location} beside it, which is missing or too short")
    return _Place(file, int(offset))


def _offset(model: memoryview, part: memoryview) -> int:
    """Where in the file a part of its mapping starts."""
    first, inner = (np.frombuffer(view, np.uint8).ctypes.data for view in (model, part)) if len(part) else (0, 0)
    return int(inner - first)


def _read(info: TensorInfo, place: _Place) -> Array:
    if not place.parsed:
        return read_at(place.file, place.offset, info)
    import onnx
    from google.protobuf.message import DecodeError

    with place.file.open("rb") as stream:
        stream.seek(place.offset)
        proto = stream.read(place.parsed)
    try:
        value: Array = np.asarray(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(proto)))
    except (DecodeError, ValueError, TypeError) as error:
        raise EOFError(f"its values are damaged: {error}") from error
    return value.astype(number_type(info.dtype), copy=False).reshape(info.shape)
