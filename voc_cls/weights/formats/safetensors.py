"""safetensors: a header in JSON and the values behind it, by the package of that name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voc_cls.weights.tensors import Array, WeightFile, arrays_file, damage_reported


def read(path: Path) -> WeightFile:
    """Reads a file; WeightsError where it is damaged or has a type that NumPy does not have."""
    from safetensors import safe_open

    with damage_reported(f"{path}"), safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a dictionary
    return arrays_file(path, "safetensors", arrays)


def write(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a file that `safetensors.torch.load_file` reads."""
    from safetensors.numpy import save_file

    save_file({name: np.require(array, requirements="C") for name, array in tensors.items()}, path, {"format": "pt"})
