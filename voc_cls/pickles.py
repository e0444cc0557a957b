"""Pickles read without running what is in them: arrays, text, numbers, lists, tuples and dictionaries, nothing else.

A pickle is a program that may call anything that can be imported. Here a name stands for one of the few functions
below or the reading ends, so that a file from anywhere can be opened. Python's own (slower) interpreter of pickles is
used, because the one in C believes a file that says how much memory it will need.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from voc_cls.errors import VocError, WeightsError

Allowed = Mapping[tuple[str, str], object]
INTERPRETER: Any = pickle._Unpickler  # type: ignore[attr-defined]
DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|O[48]?|[SU]\d{1,6})")
KEYS = (str, bytes, int, float, type(None))
"""What may be a key: deeply nested tuples would end the process, for their hash is a recursion in C."""


def load_pickle(stream: IO[bytes], what: str, allowed: Allowed | None = None,
                persistent_load: Callable[[Any], Any] | None = None,
                encoding: Literal["latin1", "bytes"] = "latin1", error: type[VocError] = WeightsError) -> Any:
    """The object at the position of `stream` (seekable), which holds arrays and builtin containers alone.

    what: names the file in messages. allowed: (module, name) as in the pickle → what stands for it here: a function
    that is called with the pickle's arguments, or a value such as a str. persistent_load: as in `pickle.Unpickler`.
    encoding: how strings of Python 2 are read. error: what is raised for damaged bytes and for all other content.
    """
    names = {**NAMES, **(allowed or {})}
    start = stream.tell()
    reader = _BoundedReader(stream, stream.seek(0, 2) - start)
    stream.seek(start)
    try:
        return _Reader(reader, names, persistent_load, encoding).load()
    except _Refused as refused:
        raise error(f"{what} holds {refused}; a file of arrays needs none of that, so it is not read: get the file "
                    "from a source that you trust") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            OverflowError, MemoryError, RecursionError, UnicodeError, struct.error) as problem:
        raise error(f"{what} cannot be read as a pickle ({_first_line(problem)}): it is damaged or cut short, fetch "
                    "it again") from problem


class _Refused(Exception):
    """Something that is read but not wanted."""


class _BoundedReader:
    """A stream that never makes room for more bytes than it has."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self.stream, self.left = stream, left

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise EOFError(f"{size:,} bytes are announced and {self.left:,} are left")
        self.left -= size
        return self.stream.read(size)

    def readline(self) -> bytes:
        line = self.stream.readline()
        self.left -= len(line)
        return line


class _Function:
    """A function that a pickle may call but not change: it has no attributes to set."""

    __slots__ = ("__call__",)

    def __init__(self, function: Callable[..., object]) -> None:
        object.__setattr__(self, "__call__", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise _Refused(f"an attempt to set {name} of a function")


class _Reader(INTERPRETER):  # type: ignore[misc]
    """Python's interpreter of pickles with a list of names, plain keys, and no attributes."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(INTERPRETER.dispatch)

    def __init__(self, stream: _BoundedReader, names: Allowed, persistent_load: Callable[[Any], Any] | None,
                 encoding: str) -> None:
        super().__init__(stream, encoding=encoding)
        self.names, self.persistent, self.room = names, persistent_load, 4 * stream.left + 2**20

    def find_class(self, module: str, name: str) -> object:
        found = self.names.get((module, name), self)
        if found is self:
            raise _Refused(f"the wish to run {module}.{name}"[:200])
        return _Function(found) if callable(found) else found

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise _Refused("a reference to something outside it")
        return self.persistent(pid)

    def load_reduce(self) -> None:
        super().load_reduce()
        self._count(self.stack[-1])

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype, _Dict)):
            raise _Refused(f"attributes for a {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)
        self._count(self.stack[-1])

    def load_bytearray8(self) -> None:  # the inherited one makes room first
        self.append(self.read(struct.unpack("<Q", self.read(8))[0]))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def load_setitems(self) -> None:
        self._fill(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def refuse(self) -> None:
        raise _Refused("objects of classes")

    def _count(self, made: object) -> None:
        """Copies are made of what was read: a small file that asks for them again and again would fill the memory."""
        self.room -= made.nbytes if isinstance(made, np.ndarray) else len(made) if isinstance(made, bytes) else (
            100 * len(made) if isinstance(made, dict) else 0)
        if self.room < 0:
            raise _Refused("content that repeats itself without end")

    def _fill(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if not isinstance(into, dict):
            raise _Refused(f"items for a {type(into).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, KEYS):
                raise _Refused(f"a dictionary with a {type(key).__name__} as key")
            into[key] = value

    dispatch |= {
        pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.DICT[0]: load_dict,
        **dict.fromkeys([pickle.EMPTY_SET[0], pickle.FROZENSET[0], pickle.INST[0], pickle.OBJ[0], pickle.NEWOBJ[0],
                         pickle.NEWOBJ_EX[0]], refuse),
    }


class _Dict(dict[Any, Any]):
    """An OrderedDict, whose attributes (PyTorch's `_metadata`) are left out."""

    def __init__(self, *pairs: Any) -> None:
        super().__init__()
        for key, value in pairs[0] if pairs else []:
            if not isinstance(key, KEYS):
                raise _Refused(f"a dictionary with a {type(key).__name__} as key")
            self[key] = value

    def __setstate__(self, state: object) -> None:
        pass


class _Dtype:
    """numpy.dtype of plain numbers, text or objects; its state, a second step in a pickle, is the byte order."""

    def __init__(self, text: str | bytes, *_: object) -> None:
        text = _text(text)
        if not DTYPE.fullmatch(text):
            raise _Refused(f"arrays of type {text[:40]!r}")
        self.value = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if order not in tuple("<>|=") or any(part is not None for part in state[2:5]):
            raise _Refused("arrays of records")
        self.value = self.value.newbyteorder(order)  # type: ignore[arg-type]


class _Array(npt.NDArray[Any]):  # type: ignore[misc]
    """numpy.ndarray whose state, a second step in a pickle, is checked before NumPy sees it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, str):  # of Python 2
            raw = raw.encode("latin1")
        super().__setstate__((1, shape, _checked(dtype, shape, raw), int(fortran), raw))  # type: ignore[arg-type]


def _checked(dtype: object, shape: tuple[int, ...], raw: bytes | list[Any]) -> np.dtype[Any]:
    """The type of an array whose content has as many values as its shape says, else ValueError."""
    if not isinstance(dtype, _Dtype) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("an array without type or shape")
    elements = math.prod(shape)
    if dtype.value.hasobject:
        if not isinstance(raw, list) or len(raw) != elements:
            raise ValueError("an array of objects with another number of them than its shape has")
        if any(isinstance(value, np.ndarray) and value.dtype.hasobject for value in raw):
            raise _Refused("arrays of objects inside one another")
    elif not isinstance(raw, (bytes, bytearray)) or len(raw) != elements * dtype.value.itemsize:
        raise ValueError(f"an array of {elements:,} {dtype.value} with another number of bytes")
    return dtype.value


def _reconstruct(*_: object) -> _Array:
    return _Array((0,))


def _from_buffer(raw: bytes, dtype: object, shape: tuple[int, ...], order: str) -> _Array:
    array = _reconstruct()
    array.__setstate__((1, shape, dtype, _text(order) == "F", bytes(raw)))
    return array


def _scalar(dtype: object, raw: bytes | str) -> object:
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    return np.frombuffer(raw, _checked(dtype, (1,), raw))[0]


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise _Refused(f"text in the encoding {encoding!r}"[:80])
    return text.encode("latin1")


def _bytes(content: bytes | str = b"", *_: object) -> bytes:
    """bytes() and bytearray(), but for a number, which would be a length."""
    return _encode(content, "latin1") if isinstance(content, str) else b"".join([content])


def _text(text: str | bytes) -> str:
    return text.decode("latin1") if isinstance(text, bytes) else str(text)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__


NAMES: Allowed = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _Dict,
    **{(builtins, name): _bytes for builtins in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
}
"""(module, name) → what stands for it, in the spellings of NumPy 1 and 2 and of Python 2 and 3."""
