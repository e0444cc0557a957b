"""NumPy's .npy with a dictionary in it: TF-Slim's variable names → arrays, or {layer: [W, b]} as vgg16.npy.

Such a file is a pickle behind a short header. It is read by a pickle reader that knows arrays and dictionaries alone
(voc_cls/pickles.py), and written as one stream, each array once: `numpy.load(path, allow_pickle=True).item()` reads it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.pickles import load_pickle
from voc_cls.weights.npy_header import plain_type, read_header
from voc_cls.weights.pieces import write_array
from voc_cls.weights.raw import RawFile, by_name
from voc_cls.weights.tensors import NUMBERS, Array, Outgoing, TensorInfo

OUTPUT = ":0"
"""What TensorFlow 1 wrote behind a variable's name: the first output of an operation."""
MOST_NESTED = 3


def open_npy(path: Path) -> RawFile:
    """Opens an .npy dictionary; WeightsError where it is damaged or holds anything but arrays of numbers.

    A pickle is read as a whole, so all tensors are in memory, once. Nested dictionaries and lists get names such as
    conv1_1/weights and conv1_1/0.
    """
    try:
        with path.open("rb") as stream:
            header = read_header(stream)
            if not header.dtype.hasobject:
                raise WeightsError(f"{path} is one array of {list(header.shape)}, where weights are a dictionary of "
                                   "name to array: save that with numpy.save, or numpy.savez")
            found = load_pickle(stream, str(path), encoding="bytes")
    except ValueError as error:
        raise WeightsError(f"{path} cannot be read as .npy ({error}): fetch it again") from error
    if not isinstance(found, np.ndarray) or found.shape != () or not isinstance(found.item(), dict):
        raise WeightsError(f"{path} does not hold a dictionary of name to array: save one with numpy.save, or "
                           "numpy.savez")
    arrays = {name.removesuffix(OUTPUT): array for name, array in _arrays(path, found.item())}
    tensors = by_name({name: TensorInfo(array.shape, array.dtype.name) for name, array in arrays.items()})
    return RawFile(path, "NumPy .npy dictionary", tensors, lambda name: arrays[name])


def _arrays(path: Path, found: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Array]]:
    """(name, array) of everything below `found`."""
    if isinstance(found, (dict, list, tuple)) and depth < MOST_NESTED:
        items = found.items() if isinstance(found, dict) else enumerate(found)
        for key, value in items:
            part = key.decode("latin1") if isinstance(key, bytes) else str(key)
            yield from _arrays(path, value, f"{name}/{part}" if name else part, depth + 1)
    elif isinstance(found, (np.ndarray, np.generic)) and found.dtype.name in NUMBERS:
        array = np.asarray(found)
        yield name, array.astype(array.dtype.newbyteorder("="), copy=False)
    else:
        kind = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else f"a {type(found).__name__}"
        raise WeightsError(f"{path} holds {kind} as {name[:80]}, where an array of numbers belongs: leave it out")


def write_npy(path: Path, outgoing: list[Outgoing]) -> None:
    """Writes a dictionary of `NAME:0` → array."""
    with path.open("wb") as stream:
        header: dict[str, Any] = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(pickle.PROTO + b"\4" + _empty() + pickle.MARK + _part(1) + pickle.EMPTY_TUPLE
                     + _part(np.dtype(object)) + pickle.NEWFALSE + pickle.EMPTY_LIST + pickle.EMPTY_DICT)
        for tensor in outgoing:
            dtype = plain_type(tensor)
            size = tensor.info.elements * dtype.itemsize
            stream.write(_part(tensor.name + OUTPUT) + _empty() + pickle.MARK + _part(1) + _part(tensor.info.shape)
                         + _part(dtype) + pickle.NEWFALSE + pickle.BINBYTES8 + size.to_bytes(8, "little"))
            write_array(stream, tensor.read())
            stream.write(pickle.TUPLE + pickle.BUILD + pickle.SETITEM)
        stream.write(pickle.APPEND + pickle.TUPLE + pickle.BUILD + pickle.STOP)


def _part(value: object) -> bytes:
    """The operations that put `value` on the pickle's stack."""
    return pickle.dumps(value, 2)[2:-1]  # without the version before and the stop behind


def _empty() -> bytes:
    """The operations that make the array which the next BUILD fills, as NumPy writes them."""
    reduced = np.empty(0).__reduce__()
    return _part(reduced[0]) + _part(reduced[1]) + pickle.REDUCE
