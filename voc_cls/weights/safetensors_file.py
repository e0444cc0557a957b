"""safetensors: 8 bytes with the length of the header, the header as JSON, then the values.

The format is https://github.com/huggingface/safetensors#format; the library's own writer holds every tensor at once.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import write_array
from voc_cls.weights.raw import RawFile, by_name, number_type, read_at
from voc_cls.weights.tensors import MOST_AXES, Outgoing, Shape, TensorInfo

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I8": "int8", "I16": "int16",
          "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
          "BOOL": "bool"}
CODES = {name: code for code, name in DTYPES.items()}
LENGTH = struct.Struct("<Q")
LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the format."""
ALIGNMENT = 8
"""Bytes; the header is filled up with spaces so that the values start at a multiple, as the library does it."""


def open_safetensors(path: Path) -> RawFile:
    """Opens a .safetensors file; WeightsError where it breaks a rule of the format."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = LENGTH.unpack(stream.read(LENGTH.size))
            if length > min(LONGEST_HEADER, size - LENGTH.size):
                raise ValueError(f"a header of {length:,} bytes is announced and the file has {size:,}")
            start = LENGTH.size + length
            tensors, places = _tensors(stream.read(length), size - start)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise WeightsError(f"{path} is no complete safetensors file ({_reason(error)}): fetch it again") from error
    return RawFile(path, "safetensors", tensors, lambda name: read_at(path, start + places[name], tensors[name]))


def write_safetensors(path: Path, outgoing: list[Outgoing]) -> None:
    """Writes tensors one after another; each is asked for when its turn comes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in outgoing:
        if tensor.info.dtype not in CODES:
            raise WeightsError(f"{tensor.name} is of type {tensor.info.dtype}, which safetensors does not know: leave "
                               "it out")
        start, end = end, end + tensor.info.elements * number_type(tensor.info.dtype).itemsize
        header[tensor.name] = {"dtype": CODES[tensor.info.dtype], "shape": list(tensor.info.shape),
                               "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(LENGTH.pack(len(text)) + text)
        for tensor in outgoing:
            write_array(stream, tensor.read())


def _tensors(header: bytes, size: int) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    """Name → shape and dtype, and name → offset behind the header, in `size` bytes without hole or overlap."""
    entries = json.loads(header.decode("utf-8"), object_pairs_hook=_once)
    entries.pop("__metadata__", None)
    tensors, places = {}, {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        start, stop = entry["data_offsets"]
        shape: Shape = tuple(entry["shape"])
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name[:80]} is of type {str(entry['dtype'])[:40]}, which is not read")
        if any(type(number) is not int or number < 0 for number in (start, stop, *shape)) or len(shape) > MOST_AXES:
            raise ValueError(f"{name[:80]} has no shape or place")
        dtype = DTYPES[entry["dtype"]]
        if start != end or stop - start != math.prod(shape) * number_type(dtype).itemsize or stop > size:
            raise ValueError(f"{name[:80]}, shape {list(shape)}, cannot lie at bytes {start:,} to {stop:,} of {size:,}")
        tensors[name], places[name], end = TensorInfo(shape, dtype), start, stop
    if end != size:
        raise ValueError(f"{size - end:,} bytes at the end belong to no tensor")
    return by_name(tensors), places


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in the header")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "its header is no JSON"
    return str(error) if type(error) is ValueError else "its header has not the form it should have"
