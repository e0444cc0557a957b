"""ONNX: the initialisers of a model's graph, read by the package `onnx`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.weights.tensors import NUMBERS, Array, TensorInfo, WeightFile, damage_reported


def read(path: Path) -> WeightFile:
    """Opens a model's initialisers; WeightsError where it is damaged, or names values outside its folder.

    Values in files beside the model are read; `onnx` refuses places outside its folder, and links.
    """
    import onnx

    with damage_reported(f"{path}"):
        initializers = list(onnx.load(path).graph.initializer)
        if not initializers:
            raise WeightsError(f"{path} is an ONNX model without initialisers, so there are no weights in it")
        types = {proto.name: onnx.helper.tensor_dtype_to_np_dtype(proto.data_type).name for proto in initializers}
    protos = {proto.name: proto for proto in initializers if types[proto.name] in NUMBERS}
    tensors = {name: TensorInfo(tuple(proto.dims), types[name]) for name, proto in protos.items()}

    def read_tensor(name: str) -> Array:
        return np.asarray(onnx.numpy_helper.to_array(protos[name]))

    return WeightFile(path, "ONNX", tensors, read_tensor)
