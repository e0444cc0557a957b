"""The pickle in PyTorch's .pth: which tensor is which part of which storage. Nothing of PyTorch is imported or run."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc_cls.errors import WeightsError
from voc_cls.weights.raw import number_type
from voc_cls.weights.tensors import MOST_AXES, Shape, TensorInfo

STORAGES = {"HalfStorage": "float16", "BFloat16Storage": "bfloat16", "FloatStorage": "float32",
            "DoubleStorage": "float64", "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32",
            "LongStorage": "int64", "ByteStorage": "uint8", "BoolStorage": "bool"}
"""PyTorch's class of a storage → the type of its numbers."""
CLASSES = {dtype: name for name, dtype in STORAGES.items()}
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
    def bytes(self) -> int:
        """Its length."""
        return self.elements * number_type(self.dtype).itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape

    @property
    def span(self) -> int:
        """Elements of the storage from the first value to the last."""
        if not math.prod(self.shape):
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


def allowed_names() -> dict[tuple[str, str], object]:
    """What `load_pickle` (pickles.py) may find in a state_dict beside arrays and containers."""
    return {("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor, ("torch._utils", "_rebuild_parameter"): _parameter,
            **{("torch", name): dtype for name, dtype in STORAGES.items()}}


def storages_into(found: dict[str, Storage]) -> Callable[[Any], Storage]:
    """The `persistent_load` that collects the storages a pickle refers to, by key."""

    def load(reference: Any) -> Storage:
        kind, dtype, key, _, elements, *view = reference
        if kind != "storage" or dtype not in CLASSES or type(elements) is not int or elements < 0 \
                or not isinstance(key, str) or any(part is not None for part in view):
            raise ValueError("a storage of another kind than state_dicts have")
        storage = Storage(key, dtype, elements)
        if found.setdefault(key, storage) != storage:
            raise ValueError(f"the storage {key[:40]} in two types or lengths")
        return storage

    return load


def state_dict(path: Path, found: object) -> dict[str, StoredTensor]:
    """The tensors by name out of what a pickle holds: a state_dict, or one beside the other state of a training."""
    for key in NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    items = found.items() if isinstance(found, dict) else ()
    named = {str(name): value for name, value in items if isinstance(value, StoredTensor)}
    if not named:
        raise WeightsError(f"{path} holds no state_dict (a dictionary of tensors): save one with "
                           "torch.save(model.state_dict(), FILE)")
    if all(name.startswith(PARALLEL) for name in named):
        return {name.removeprefix(PARALLEL): value for name, value in named.items()}
    return named


def pickled(tensors: Mapping[str, TensorInfo]) -> bytes:
    """The pickle of a state_dict whose tensors lie each in a storage of its own, keyed "0", "1", … in their order.

    It is written opcode by opcode: Python's pickler would have to import PyTorch to name its classes.
    """
    ordered = _name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    written = [pickle.PROTO + b"\x02", ordered, pickle.MARK]
    for key, (name, info) in enumerate(tensors.items()):
        strides = tuple(math.prod(info.shape[axis + 1:]) for axis in range(len(info.shape)))
        storage = [pickle.MARK, _plain("storage"), _name("torch", CLASSES[info.dtype]), _plain(str(key)), _plain("cpu"),
                   _plain(info.elements), pickle.TUPLE, pickle.BINPERSID]
        written += [_plain(name), _name("torch._utils", "_rebuild_tensor_v2"), pickle.MARK, *storage, _plain(0),
                    _plain(info.shape), _plain(strides), pickle.NEWFALSE, ordered, pickle.TUPLE, pickle.REDUCE]
    return b"".join([*written, pickle.SETITEMS, pickle.STOP])


def _plain(value: str | int | Shape) -> bytes:
    """The opcodes of a value, without the protocol before and the stop behind them."""
    return pickle.dumps(value, 2)[2:-1]


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> StoredTensor:
    """Stands for torch._utils._rebuild_tensor_v2: checks the view against the bounds of its storage."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor without storage, shape or strides")
    if len(shape) != len(strides) or len(shape) > MOST_AXES \
            or any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
        raise ValueError("a tensor with an impossible shape")
    tensor = StoredTensor(storage, offset, shape, strides)  # type: ignore[arg-type]
    if tensor.offset + tensor.span > storage.elements or math.prod(shape) > storage.elements:
        raise ValueError(f"a tensor of shape {list(shape)} in a storage of {storage.elements:,} numbers")
    return tensor


def _parameter(data: object, *_: object) -> object:
    """Stands for torch._utils._rebuild_parameter."""
    return data
