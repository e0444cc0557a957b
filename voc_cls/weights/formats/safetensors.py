"""safetensors: a header in JSON and the values behind it, by the package of that name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.weights.tensors import Array, TensorInfo, WeightFile, damage_reported

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I8": "int8", "I16": "int16",
          "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
          "BOOL": "bool"}
"""The format's name of a type → NumPy's."""


def read(path: Path) -> WeightFile:
    """Opens a file; WeightsError where it is damaged or has a type that NumPy does not have."""
    from safetensors import safe_open

    def open_file() -> Any:
        return safe_open(path, framework="numpy")

    with damage_reported(f"{path}"):
        file = open_file()
        tensors = {}
        for name in file.keys():  # noqa: SIM118  it is not a dictionary
            part = file.get_slice(name)
            if part.get_dtype() not in DTYPES:
                raise ValueError(f"{name[:80]} is of type {part.get_dtype()}, which is not read")
            tensors[name] = TensorInfo(tuple(part.get_shape()), DTYPES[part.get_dtype()])
    return WeightFile(path, "safetensors", tensors, lambda name: open_file().get_tensor(name))


def write(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a file that `safetensors.torch.load_file` reads."""
    from safetensors.numpy import save_file

    save_file({name: np.require(array, requirements="C") for name, array in tensors.items()}, path, {"format": "pt"})
