"""PyTorch's .pth read without PyTorch: a pickle that names the tensors, and their values beside it; no code is run.

    zip       since PyTorch 1.6: NAME/data.pkl, and NAME/data/KEY for every storage
    stream    before, such as torchvision's vgg16-397923af.pth: four pickles, a list of keys, then the storages

It is not written: PyTorch loads .safetensors by `safetensors.torch.load_file`.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.pickles import load_pickle
from voc_cls.weights.tensors import Array, Shape, WeightFile, arrays_file, damage_reported, numpy_dtype

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
NESTED = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the weights beside their other state."""
PARALLEL = "module."
"""Before every name where the network was wrapped in DataParallel."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file."""

    key: str
    dtype: str
    elements: int

    @property
    def nbytes(self) -> int:
        """Its length."""
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
    """Reads a state_dict; WeightsError where it is damaged, holds something else, or wants code to be run."""
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
        for key, storage in storages.items():
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
            tensors = _state_dict(path, load_pickle(stream, str(path), NAMES, _storages_into(storages)))
        values = {key: f"{folder}data/{key}" for key in storages}
        return tensors, {key: archive.read(member) for key, member in values.items() if member in members}


def _read_stream(path: Path, stream: IO[bytes],
                 storages: dict[str, Storage]) -> tuple[dict[str, StoredTensor], dict[str, bytes]]:
    """The same, from behind the first pickle."""
    if load_pickle(stream, str(path)) != STREAM_VERSION:
        raise WeightsError(f"{path} is of another version of PyTorch's old format than {STREAM_VERSION}: load and "
                           "save it again with torch.save")
    load_pickle(stream, str(path))  # the sizes of C types where it was written
    tensors = _state_dict(path, load_pickle(stream, str(path), NAMES, _storages_into(storages)))
    contents = {}
    for key in load_pickle(stream, str(path)):
        stream.seek(COUNT_BYTES, 1)  # the number of elements, known from the tensors
        contents[key] = stream.read(min(storages[key].nbytes, path.stat().st_size))
    return tensors, contents


def _storages_into(storages: dict[str, Storage]) -> Callable[[Any], Storage]:
    """The `persistent_load` that collects the storages a pickle refers to, by key."""

    def load(reference: Any) -> Storage:
        kind, dtype, key, _, elements, *view = reference
        if kind != "storage" or dtype not in STORAGES.values() or type(elements) is not int or elements < 0 \
                or not isinstance(key, str) or any(part is not None for part in view):
            raise ValueError("a storage of another kind than state_dicts have")
        storage = Storage(key, dtype, elements)
        if storages.setdefault(key, storage) != storage:
            raise ValueError(f"the storage {key[:40]} in two types or lengths")
        return storage

    return load


def _state_dict(path: Path, content: object) -> dict[str, StoredTensor]:
    """The tensors by name out of what a pickle holds: a state_dict, or one beside the other state of a training."""
    for key in NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    named = {str(name): value for name, value in items if isinstance(value, StoredTensor)}
    if not named:
        raise WeightsError(f"{path} holds no state_dict (a dictionary of tensors): save one with "
                           "torch.save(model.state_dict(), FILE)")
    if all(name.startswith(PARALLEL) for name in named):
        return {name.removeprefix(PARALLEL): value for name, value in named.items()}
    return named


def _rebuild_tensor(storage: Storage, offset: int, shape: Shape, strides: Shape, *_: object) -> StoredTensor:
    """Stands for torch._utils._rebuild_tensor_v2: checks the view against the bounds of its storage."""
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
         ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
         **{("torch", name): dtype for name, dtype in STORAGES.items()}}
"""What may be named in a state_dict beside arrays and containers, and what stands for it here."""
