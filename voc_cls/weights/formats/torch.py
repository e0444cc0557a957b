"""PyTorch's .pth read without PyTorch: a pickle that names the tensors, and their values beside it; no code is run.

    zip       since PyTorch 1.6: NAME/data.pkl, and NAME/data/KEY for every storage
    stream    before, such as torchvision's vgg16-397923af.pth: four pickles, a list of keys, then the storages

It is not written: PyTorch loads .safetensors by `safetensors.torch.load_file`.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.pickles import InertObject, load_pickle
from voc_cls.weights.tensors import KEY, Array, Shape, WeightFile, arrays_file, damage_reported, numpy_dtype

STREAM_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle of a stream, 0x1950A86A20F9469CFC6C."""
STREAM_VERSION = 1001
"""The second."""
COUNT_BYTES = 8
"""Of the number of elements before a storage."""
STORAGES = {"HalfStorage": "float16", "BFloat16Storage": "bfloat16", "FloatStorage": "float32",
            "DoubleStorage": "float64", "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32",
            "LongStorage": "int64", "ByteStorage": "uint8", "BoolStorage": "bool"}
"""PyTorch's class of a storage → the type of its numbers."""
MODULE = re.compile(rf"(^|{KEY})_(?:modules|parameters|buffers){KEY}")
"""Where a whole model was saved: PyTorch's attributes of each layer."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file."""

    key: str
    dtype: str
    elements: int

    @property
    def nbytes(self) -> int:
        return self.elements * numpy_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape

    def view(self, content: bytes) -> Array:
        """The values, `content` being the storage's bytes."""
        values = np.frombuffer(content, numpy_dtype(self.storage.dtype).newbyteorder("<"))[self.offset:]
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False)


def read(path: Path) -> WeightFile:
    """Reads the tensors, named by their keys (`tensors.KEY`) where dictionaries are nested.

    WeightsError where the file is damaged, has no tensors by name, or wants code to be run.
    """
    storages: dict[str, Storage] = {}
    with damage_reported(f"{path}"), path.open("rb") as stream:
        start = stream.read(len(STREAM_MAGIC))
        if start == STREAM_MAGIC:
            kind = "PyTorch .pth (before 1.6)"
            tensors, contents = _read_stream(path, stream, storages)
        elif start.startswith(b"PK\x03\x04"):
            kind = "PyTorch .pth"
            tensors, contents = _read_zip(path, storages)
        else:
            raise WeightsError(f"{path} is not a file of torch.save, or damaged at the start: fetch it again, or save "
                               "a state_dict with torch.save")
        for key, storage in {tensor.storage.key: tensor.storage for tensor in tensors.values()}.items():
            if len(contents.get(key, b"")) != storage.nbytes:
                raise ValueError(f"the storage {key[:40]} should have {storage.nbytes:,} bytes and "
                                 + (f"has {len(contents[key]):,}" if key in contents else "is missing"))
        arrays = {name: tensor.view(contents[tensor.storage.key]) for name, tensor in tensors.items()}
    return arrays_file(path, kind, arrays)


def _read_zip(path: Path, storages: dict[str, Storage]) -> tuple[dict[str, StoredTensor], dict[str, bytes]]:
    """Name → tensor, and key of a storage → its bytes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError(f"{path} is a ZIP archive but not one of torch.save (which has one data.pkl): save a "
                               "state_dict with torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise WeightsError(f"{path} was saved on a big-endian machine: load and save it again with torch.save")
        with archive.open(pickles[0]) as stream:
            tensors = _named(path, stream, storages)
        values = {tensor.storage.key: f"{folder}data/{tensor.storage.key}" for tensor in tensors.values()}
        return tensors, {key: archive.read(member) for key, member in values.items() if member in members}


def _read_stream(path: Path, stream: IO[bytes],
                 storages: dict[str, Storage]) -> tuple[dict[str, StoredTensor], dict[str, bytes]]:
    """The same, from behind the first pickle."""
    if load_pickle(stream, str(path)) != STREAM_VERSION:
        raise WeightsError(f"{path} is of another version of PyTorch's old format than {STREAM_VERSION}: load and "
                           "save it again with torch.save")
    load_pickle(stream, str(path))  # the sizes of C types where it was written
    tensors = _named(path, stream, storages)
    contents = {}
    for key in load_pickle(stream, str(path)):
        stream.seek(COUNT_BYTES, 1)  # the number of elements, known from the tensors
        contents[key] = stream.read(min(storages[key].nbytes, path.stat().st_size))
    return tensors, contents


def _named(path: Path, stream: IO[bytes], storages: dict[str, Storage]) -> dict[str, StoredTensor]:
    """The tensors by name out of a pickle, whose `storages` are collected."""
    content = load_pickle(stream, str(path), NAMES, _storages_into(storages), other_objects=True)
    named = {MODULE.sub(lambda match: "." if match[1] else "", name): tensor
             for name, tensor in _tensors(content, set())}
    if not named:
        keys = ", ".join(str(key)[:40] for key in list(content)[:20]) if isinstance(content, dict) else ""
        raise WeightsError(f"{path} holds no state_dict (a dictionary of tensors){keys and f' but {keys}'}: save one "
                           "with torch.save(model.state_dict(), FILE)")
    return named


def _tensors(content: object, visited: set[int], path: str = "") -> Iterator[tuple[str, StoredTensor]]:
    """(its keys, tensor) of those whose keys are text; the state of an optimizer is numbered."""
    if not isinstance(content, dict) or id(content) in visited:
        return
    visited.add(id(content))
    for key, value in content.items():
        if isinstance(value, StoredTensor) and isinstance(key, str):
            yield f"{path}{key}", value
        elif isinstance(key, str):
            yield from _tensors(value, visited, f"{path}{key}{KEY}")


def _storages_into(storages: dict[str, Storage]) -> Callable[[Any], object]:
    """The `persistent_load` that collects the storages a pickle refers to, by key."""

    def load(reference: Any) -> object:
        if reference[0] == "module":  # a class, before PyTorch 1.6
            return reference[1]
        kind, dtype, key, _, elements, *view = reference
        if dtype is InertObject:  # quantised or complex numbers
            return InertObject()
        if kind != "storage" or dtype not in STORAGES.values() or type(elements) is not int or elements < 0 \
                or not isinstance(key, str) or any(part is not None for part in view):
            raise ValueError("a storage of another kind than state_dicts have")
        storage = Storage(key, dtype, elements)
        if storages.setdefault(key, storage) != storage:
            raise ValueError(f"the storage {key[:40]} in two types or lengths")
        return storage

    return load


def _rebuild_tensor(storage: Storage, offset: int, shape: Shape, strides: Shape, *_: object) -> object:
    """Stands for torch._utils._rebuild_tensor_v2: checks the view against the bounds of its storage."""
    if isinstance(storage, InertObject):
        return storage
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor without storage, shape or strides")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a tensor with an impossible shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    elements = math.prod(shape)
    if max(elements, offset) > storage.elements or (elements and last >= storage.elements):
        raise ValueError(f"a tensor of shape {list(shape)} in a storage of {storage.elements:,} numbers")
    return StoredTensor(storage, offset, shape, strides)


NAMES = {("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
         **{("torch._utils", f"_rebuild_parameter{kind}"): lambda data, *_: data for kind in ("", "_with_state")},
         ("torch._tensor", "_rebuild_from_type_v2"): lambda rebuild, _, arguments, *__: rebuild(*arguments),
         **{(builtins, "getattr"): lambda *_: InertObject for builtins in ("builtins", "__builtin__")},
         **{("torch", name): dtype for name, dtype in STORAGES.items()}}
"""What may be named in a state_dict beside arrays and containers, and what stands for it here; getattr names classes
within classes, and methods."""
