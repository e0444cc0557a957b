"""Pickles read without running what is in them: arrays, text, numbers, lists, tuples and dictionaries, nothing else.

A pickle is a program that may call anything that can be imported. Here a name stands for one of the few functions
below, or the reading ends: no class or function that a file names is ever imported.
"""

from __future__ import annotations

import math
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from voc_cls.errors import VocError, WeightsError

Allowed = Mapping[tuple[str, str], object]
DATA_MODULES = ("argparse", "collections", "copyreg", "copy_reg", "dataclasses", "datetime", "decimal", "enum",
                "fractions", "functools", "logging", "pathlib", "random", "re", "time", "types", "typing", "uuid",
                "zoneinfo")
"""Of the standard library: classes that the settings of a training are made of."""
DATA_BUILTINS = ("bool", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice",
                 "str", "tuple", "unicode")
DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|O[48]?|[SU]\d{1,6})")


def load_pickle(stream: IO[bytes], what: str, allowed: Allowed | None = None,
                persistent_load: Callable[[Any], Any] | None = None,
                encoding: Literal["latin1", "bytes"] = "latin1", error: type[VocError] = WeightsError,
                other_objects: bool = False) -> Any:
    """The object at the position of `stream`, which holds arrays and builtin containers alone; the stream is left
    behind its end. `error` is raised for damaged bytes and all other content; `what` names the file in it.

    allowed: (module, name) as in the pickle → what stands for it here: a function that is called with the pickle's
    arguments, or a value such as a str. encoding: how strings of Python 2 are read. other_objects: objects of any class
    become an `InertObject`, such as the settings of a training beside its weights; what could run a command is refused
    nevertheless.
    """
    names = {**NAMES, **(allowed or {})}
    try:
        return _Unpickler(stream, names, persistent_load, encoding, other_objects).load()
    except _RefusedError as refused:
        raise error(f"{what} holds {refused}; a file of arrays needs none of that, so it is not read: get the file "
                    "from a source that you trust") from None
    except Exception as problem:  # damaged bytes lead the unpickler and NumPy to errors of many kinds
        reason = (str(problem).splitlines() or [""])[0].rstrip(".") or type(problem).__name__
        raise error(f"{what} cannot be read as a pickle ({reason}): it is damaged or cut short, fetch it "
                    "again") from problem


class _RefusedError(Exception):
    """Something that is understood but not wanted."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows a list of names and nothing else."""

    def __init__(self, stream: IO[bytes], names: Allowed, persistent_load: Callable[[Any], Any] | None,
                 encoding: str, other_objects: bool) -> None:
        super().__init__(stream, encoding=encoding)
        self._names, self._persistent_load, self._other_objects = names, persistent_load, other_objects

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._names:
            if self._other_objects and not _is_program(module, name):
                return InertObject
            raise _RefusedError(f"the wish to run {module}.{name}"[:200])
        known = self._names[module, name]
        return _Function(known) if callable(known) else known

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise _RefusedError("a reference to something outside it")
        return self._persistent_load(pid)


class _Function:
    """A function that a pickle may call but not change."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise _RefusedError("attributes for a function")


class InertObject(dict[Any, Any]):
    """Stands for an object of any class: its attributes and items, as a dictionary, and nothing that it could do."""

    def __new__(cls, *_: object, **__: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        for attributes in state if isinstance(state, tuple) else (state,):  # the second of two are those in slots
            self.update(attributes if isinstance(attributes, dict) else {})

    def __hash__(self) -> int:  # type: ignore[override]  # it may be a key
        return id(self)

    def append(self, _: object) -> None:
        """Items of a list are left out."""

    extend = add = append


class _Dict(dict[Any, Any]):
    """An OrderedDict, whose attributes (PyTorch's `_metadata`) are left out."""

    def __setstate__(self, state: object) -> None:
        pass


class _Dtype:
    """numpy.dtype of plain numbers, text or objects; its state, a second step in a pickle, is the byte order.

    NumPy's own takes any state, also one by which numbers in the file are used as addresses.
    """

    def __init__(self, text: str | bytes, *_: object) -> None:
        text = _text(text)
        if not DTYPE.fullmatch(text):
            raise _RefusedError(f"arrays of type {text[:40]!r}")
        self.value = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if order not in tuple("<>|=") or any(part is not None for part in state[2:5]):
            raise _RefusedError("arrays of records")
        self.value = self.value.newbyteorder(order)  # type: ignore[arg-type]


class _Array(npt.NDArray[Any]):  # type: ignore[misc]
    """numpy.ndarray whose state, a second step in a pickle, is checked before NumPy sees it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        content = content.encode("latin1") if isinstance(content, str) else content  # of Python 2
        super().__setstate__((1, shape, _checked(dtype, shape, content), int(fortran), content))  # type: ignore[arg-type]


def _checked(dtype: object, shape: tuple[int, ...], content: bytes | list[Any]) -> np.dtype[Any]:
    """The type of an array whose content has as many values as its shape says, else ValueError."""
    if not isinstance(dtype, _Dtype) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("an array without type or shape")
    kind, size = (list, 1) if dtype.value.hasobject else (bytes, dtype.value.itemsize)
    if not isinstance(content, kind) or len(content) != math.prod(shape) * size:
        raise ValueError(f"an array of shape {list(shape)} with another number of values")
    return dtype.value


def _is_program(module: str, name: str) -> bool:
    """Whether a name is of the standard library and does not stand for data: os.system, builtins.eval."""
    package = module.partition(".")[0]
    if package in ("builtins", "__builtin__"):
        return name not in DATA_BUILTINS
    return package in sys.stdlib_module_names and package not in DATA_MODULES


def _reconstruct(*_: object) -> _Array:
    return _Array((0,))


def _from_buffer(content: bytes, dtype: object, shape: tuple[int, ...], order: str) -> _Array:
    array = _reconstruct()
    array.__setstate__((1, shape, dtype, _text(order) == "F", _bytes(content)))
    return array


def _scalar(dtype: object, content: bytes | str) -> object:
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, _checked(dtype, (1,), content))[0]


def _bytes(content: bytes | str = b"", *_: object) -> bytes:
    """bytes(), bytearray() and _codecs.encode(…, "latin1"), but for a number, which would be a length."""
    return content.encode("latin1") if isinstance(content, str) else b"".join([content])


def _text(text: str | bytes) -> str:
    return text.decode("latin1") if isinstance(text, bytes) else str(text)


NAMES: Allowed = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("_codecs", "encode"): _bytes,
    ("collections", "OrderedDict"): _Dict,
    **{(builtins, name): _bytes for builtins in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
}
"""(module, name) → what stands for it, in the spellings of NumPy 1 and 2 and of Python 2 and 3."""
