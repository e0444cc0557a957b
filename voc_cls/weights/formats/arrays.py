"""Files whose own packages hand over arrays: NumPy's .npz and .npy, safetensors, and the initialisers of ONNX models.

A dictionary in an .npy is a pickle behind a short header. It is read by an unpickler that knows arrays and containers
alone (voc_cls/pickles.py); `numpy.load(path, allow_pickle=True).item()` reads what is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.pickles import load_pickle
from voc_cls.weights.tensors import NUMBERS, Array, Shape, TensorInfo, WeightFile, arrays_file, damage_reported

OUTPUT = ":0"
"""What TensorFlow 1 wrote behind a variable's name: the first output of an operation."""
MOST_NESTED = 3


def read_npz(path: Path) -> WeightFile:
    """Opens an .npz; WeightsError where it is damaged, or holds anything but arrays of numbers."""
    tensors = {}
    with damage_reported(f"{path}"), np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            with archive.zip.open(f"{name}.npy") as stream:
                shape, dtype = _header(stream)
            if dtype.name not in NUMBERS:
                raise WeightsError(f"{path} holds an array of {dtype} as {name[:80]}, where an array of numbers "
                                   "belongs: omit it")
            tensors[name] = TensorInfo(shape, dtype.name)

    def read_tensor(name: str) -> Array:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[name])

    return WeightFile(path, "NumPy .npz", tensors, read_tensor)


def read_npy(path: Path) -> WeightFile:
    """Reads an .npy dictionary; WeightsError where it is damaged or holds anything but arrays of numbers.

    Nested dictionaries and lists get names such as conv1_1/weights and conv1_1/0.
    """
    with damage_reported(f"{path}"), path.open("rb") as stream:
        shape, dtype = _header(stream)
        if not dtype.hasobject:
            raise WeightsError(f"{path} is one array of {list(shape)}, where weights are a dictionary of name to "
                               "array: save that with numpy.save, or numpy.savez")
        content = load_pickle(stream, str(path), encoding="bytes")
    if not isinstance(content, np.ndarray) or content.shape != () or not isinstance(content.item(), dict):
        raise WeightsError(f"{path} does not hold a dictionary of name to array: save one with numpy.save, or "
                           "numpy.savez")
    arrays = {name.removesuffix(OUTPUT): array for name, array in _flattened(path, content.item())}
    return arrays_file(path, "NumPy .npy dictionary", arrays)


def write_npz(path: Path, tensors: Mapping[str, Array]) -> None:
    arrays: dict[str, Any] = dict(tensors)
    np.savez(path, **arrays)


def write_npy(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a dictionary of `NAME:0` → array."""
    dictionary = {f"{name}{OUTPUT}": array for name, array in tensors.items()}
    np.save(path, np.array(dictionary, object), allow_pickle=True)


def read_safetensors(path: Path) -> WeightFile:
    """Reads a file; WeightsError where it is damaged or has a type that NumPy does not have."""
    from safetensors import safe_open

    with damage_reported(f"{path}"), safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a dictionary
    return arrays_file(path, "safetensors", arrays)


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a file that `safetensors.torch.load_file` reads."""
    from safetensors.numpy import save_file

    save_file({name: np.require(array, requirements="C") for name, array in tensors.items()}, path, {"format": "pt"})


def read_onnx(path: Path) -> WeightFile:
    """Opens a model's initialisers; WeightsError where it is damaged, or names values outside its folder.

    Values in files beside the model are read; `onnx` refuses places outside its folder, and links.
    """
    import onnx

    with damage_reported(f"{path}"):
        initializers = list(onnx.load(path).graph.initializer)
        if not initializers:
            raise WeightsError(f"{path} is an ONNX model without initialisers, so there are no weights in it; save it "
                               "with them")
        types = {proto.name: onnx.helper.tensor_dtype_to_np_dtype(proto.data_type).name for proto in initializers}
    protos = {proto.name: proto for proto in initializers if types[proto.name] in NUMBERS}
    tensors = {name: TensorInfo(tuple(proto.dims), types[name]) for name, proto in protos.items()}

    def read_tensor(name: str) -> Array:
        return np.asarray(onnx.numpy_helper.to_array(protos[name]))

    return WeightFile(path, "ONNX", tensors, read_tensor)


def _header(stream: IO[bytes]) -> tuple[Shape, np.dtype[Any]]:
    """Shape and type of the array that follows."""
    file: Any = stream
    if np.lib.format.read_magic(file) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype


def _flattened(path: Path, content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Array]]:
    """(name, array) of everything below `content`."""
    if isinstance(content, (dict, list, tuple)) and depth < MOST_NESTED:
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            part = key.decode("latin1") if isinstance(key, bytes) else str(key)
            yield from _flattened(path, value, f"{name}/{part}" if name else part, depth + 1)
    elif isinstance(content, (np.ndarray, np.generic)) and content.dtype.name in NUMBERS:
        yield name, np.asarray(content)
    else:
        kind = f"an array of {content.dtype}" if isinstance(content, np.ndarray) else f"a {type(content).__name__}"
        raise WeightsError(f"{path} holds {kind} as {name[:80]}, where an array of numbers belongs: omit it")
