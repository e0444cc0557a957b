"""ONNX: the initialisers of a model's graph in, and a graph of initialisers alone out, by the package `onnx`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.weights.tensors import NUMBERS, Array, TensorInfo, WeightFile, damage_reported

OPSET, IR_VERSION = 17, 8
"""What is written: of 2022, so that older readers take it."""


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


def write(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a model whose graph has initialisers and no nodes; WeightsError above 2 GB, which one file cannot hold."""
    import onnx

    model = onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], []), producer_name="voc-cls",
                                   ir_version=IR_VERSION, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    size = sum(array.nbytes for array in tensors.values())
    if size >= onnx.checker.MAXIMUM_PROTOBUF:
        raise WeightsError(f"{path.name} would have more than {size:,} bytes, which an ONNX file cannot hold: write "
                           ".safetensors")
    for name, array in tensors.items():
        # make_graph and make_model would copy it once more each
        model.graph.initializer.add().CopyFrom(
            onnx.numpy_helper.from_array(np.require(array, requirements="C"), name))
    onnx.save(model, path)
