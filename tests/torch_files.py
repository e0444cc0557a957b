"""Files as torch.save makes them, made without PyTorch."""

from __future__ import annotations

import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from voc_cls.weights.formats.torch import STORAGES

CLASSES = {dtype: name for name, dtype in STORAGES.items()}
TORCH, UTILS = types.ModuleType("torch"), types.ModuleType("torch._utils")
"""Modules with the names that are in PyTorch's pickles, for the pickler alone to find."""
for _name in STORAGES:
    setattr(TORCH, _name, type(_name, (), {"__module__": "torch"}))
for _name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
    setattr(UTILS, _name, type(_name, (), {"__module__": "torch._utils"}))


@dataclass(frozen=True)
class Storage:
    key: str
    values: np.ndarray[Any, Any]
    claimed: int | None = None


@dataclass(frozen=True)
class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return UTILS._rebuild_tensor_v2, (self.storage, self.offset, self.shape, self.strides, False, OrderedDict())


@dataclass(frozen=True)
class Parameter:
    data: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return UTILS._rebuild_parameter, (self.data, True, OrderedDict())


class Pickler(pickle.Pickler):
    def __init__(self, stream: Any, legacy: bool) -> None:
        super().__init__(stream, 2)
        self.legacy = legacy

    def persistent_id(self, thing: object) -> object:
        if not isinstance(thing, Storage):
            return None
        kind = getattr(TORCH, CLASSES[thing.values.dtype.name])
        claimed = len(thing.values) if thing.claimed is None else thing.claimed
        return ("storage", kind, thing.key, "cpu", claimed, *([None] if self.legacy else []))

    def dump(self, state: object) -> None:
        with patch.dict(sys.modules, {"torch": TORCH, "torch._utils": UTILS}):
            super().dump(state)


def save(path: Path, state: object, storages: list[Storage], **members: bytes) -> Path:
    """As torch.save has done since 1.6."""
    stream = BytesIO()
    Pickler(stream, legacy=False).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", stream.getvalue())
        archive.writestr("net/byteorder", members.get("byteorder", b"little"))
        for storage in storages:
            archive.writestr(f"net/data/{storage.key}", storage.values.tobytes())
        archive.writestr("net/version", b"3\n")
    return path


def save_legacy(path: Path, state: object, storages: list[Storage], version: int = 1001) -> Path:
    """As torch.save did before 1.6."""
    with path.open("wb") as stream:
        pickle.dump(0x1950A86A20F9469CFC6C, stream, 2)
        pickle.dump(version, stream, 2)
        pickle.dump({"protocol_version": version, "little_endian": True, "type_sizes": {"int": 4}}, stream, 2)
        Pickler(stream, legacy=True).dump(state)
        pickle.dump([storage.key for storage in storages], stream, 2)
        for storage in storages:
            stream.write(struct.pack("<q", len(storage.values)) + storage.values.tobytes())
    return path


def save_state_dict(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Path:
    """A state_dict of these arrays, each in a storage of its own."""
    storages = [Storage(str(key), array.ravel()) for key, array in enumerate(arrays.values())]
    state = OrderedDict((name, Tensor(storage, 0, array.shape, tuple(
        stride // array.itemsize for stride in np.ascontiguousarray(array).strides[:array.ndim])))
        for (name, array), storage in zip(arrays.items(), storages, strict=True))
    return save(path, state, storages)
