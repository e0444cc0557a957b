"""ONNX: the whole network as a graph, written layer by layer with `onnx.helper`, and the same graph for other forms.

Grids are [N, height, width, channels] in Keras and [N, channels, height, width] in ONNX, so the graph transposes its
input once. Values have the names of the layers that compute them, with slashes: conv1/conv1_1, …, logits. Why this is
written here and not converted: docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from onnx import helper

from export.verify import Predictor
from voc_cls.data.dataset import Task
from voc_cls.errors import ExportError
from voc_cls.nets.network import Network
from voc_cls.version import __version__

OPSET, IR_VERSION = 17, 8
"""Of 2022: what reads ONNX today reads these."""
INPUT, PROBABILITIES, LOGITS = "inputs", "probabilities", "logits"
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
SMALLEST_LENGTH = 1e-12
"""Of keras.layers.UnitNormalization: what a vector is divided by at least."""


def write_onnx(path: Path, network: Network, task: Task) -> None:
    """Writes `network` as a checked ONNX model.

    Its input is `inputs`, float32 [N, size, size, 3], preprocessed RGB; its outputs are `probabilities` and `logits`,
    float32 [N, classes].
    """
    graph = _Graph()
    first, *layers = network.model.layers
    values = {id(first.output): graph.node("Transpose", "images", INPUT, perm=TO_CHANNELS_FIRST)}
    for layer in layers:
        inputs = [values[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
        write = WRITERS.get(type(layer).__name__)
        if write is None:
            raise ExportError(f"{network.spec.name}: the kind of its layer {layer.name}, {type(layer).__name__}, is "
                              "not known in ONNX; export `format` savedmodel")
        values[id(layer.output)] = write(graph, layer, layer.name.replace(".", "/"), *inputs)
    softmax = {} if task is Task.MULTI_LABEL else {"axis": 1}
    graph.node(task.activation.capitalize(), PROBABILITIES, values[id(network.model.output)], **softmax)
    size = network.spec.preprocessing.size
    tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in (
        (INPUT, ["N", size, size, 3]), (PROBABILITIES, ["N", network.classes]), (LOGITS, ["N", network.classes]))]
    model = helper.make_model(
        helper.make_graph(graph.nodes, network.spec.name, tensors[:1], tensors[1:], graph.initializers),
        producer_name="voc-cls", producer_version=__version__, ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def onnx_predictor(path: Path) -> Predictor:
    """Computes a model by ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(inputs: Any) -> tuple[Any, Any]:
        probabilities, logits = session.run([PROBABILITIES, LOGITS], {INPUT: inputs})
        return probabilities, logits

    return predict


class _Graph:
    """The nodes and initialisers so far; a node has one output, of its own name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(values))
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return name


def _window(layer: Any, size: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
    """A convolution's or pool's attributes: TensorFlow's padding, the larger half behind, at every size of the grid."""
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    return {"kernel_shape": [*size], "strides": [*strides], "auto_pad": padding}


def _activated(graph: _Graph, layer: Any, name: str, x: str) -> str:
    return x if layer.activation is keras.activations.linear else graph.node("Relu", f"{name}/relu", x)


def _convolution(graph: _Graph, layer: Any, name: str, x: str) -> str:
    parameters = [graph.constant(f"{name}/weights", np.transpose(layer.kernel, (3, 2, 0, 1)))]
    if layer.use_bias:
        parameters.append(graph.constant(f"{name}/biases", layer.bias))
    window = _window(layer, layer.kernel_size, layer.strides)
    return _activated(graph, layer, name, graph.node("Conv", name, x, *parameters, **window))


def _depthwise(graph: _Graph, layer: Any, name: str, x: str, kernel: Any = None) -> str:
    """Kernels of Keras are [height, width, channels, filters for each of them]."""
    values = np.asarray(layer.kernel if kernel is None else kernel)
    height, width, channels, _ = values.shape
    weights = graph.constant(f"{name}/depthwise_weights",
                             values.transpose(2, 3, 0, 1).reshape(-1, 1, height, width))
    return graph.node("Conv", name, x, weights, group=channels, **_window(layer, layer.kernel_size, layer.strides))


def _separable(graph: _Graph, layer: Any, name: str, x: str) -> str:
    x = _depthwise(graph, layer, f"{name}/depthwise", x, layer.depthwise_kernel)
    parameters = [graph.constant(f"{name}/pointwise_weights", np.transpose(layer.pointwise_kernel, (3, 2, 0, 1)))]
    if layer.use_bias:
        parameters.append(graph.constant(f"{name}/biases", layer.bias))
    return _activated(graph, layer, name, graph.node("Conv", name, x, *parameters, kernel_shape=[1, 1]))


def _batch_norm(graph: _Graph, layer: Any, name: str, x: str) -> str:
    gamma = layer.gamma if layer.scale else np.ones(layer.beta.shape, np.float32)
    parameters = {"gamma": gamma, "beta": layer.beta, "moving_mean": layer.moving_mean,
                  "moving_variance": layer.moving_variance}
    constants = [graph.constant(f"{name}/{word}", values) for word, values in parameters.items()]
    return graph.node("BatchNormalization", name, x, *constants, epsilon=layer.epsilon)


def _relu(graph: _Graph, layer: Any, name: str, x: str) -> str:
    if layer.max_value is None:
        return graph.node("Relu", name, x)
    limits = [graph.constant(f"{name}/{word}", np.float32(value)) for word, value in (("least", 0),
                                                                                    ("most", layer.max_value))]
    return graph.node("Clip", name, x, *limits)


def _max_pool(graph: _Graph, layer: Any, name: str, x: str) -> str:
    return graph.node("MaxPool", name, x, **_window(layer, layer.pool_size, layer.strides))


def _mean_pool(graph: _Graph, layer: Any, name: str, x: str) -> str:
    return graph.node("AveragePool", name, x, count_include_pad=0, **_window(layer, layer.pool_size, layer.strides))


def _zero_padding(graph: _Graph, layer: Any, name: str, x: str) -> str:
    (top, bottom), (left, right) = layer.padding
    return graph.node("Pad", name, x, graph.constant(f"{name}/pads", np.array([0, 0, top, left, 0, 0, bottom, right])))


def _cropping(graph: _Graph, layer: Any, name: str, x: str) -> str:
    starts = [before for before, _ in layer.cropping]
    ends = [-behind or np.iinfo(np.int64).max for _, behind in layer.cropping]
    bounds = [graph.constant(f"{name}/{word}", np.array(values)) for word, values in (
        ("starts", starts), ("ends", ends), ("axes", [2, 3]))]
    return graph.node("Slice", name, x, *bounds)


def _rescaling(graph: _Graph, layer: Any, name: str, x: str) -> str:
    """By one factor, or by a slope and an offset for each channel."""
    slopes, offsets = (np.reshape(np.float32(values), (-1, 1, 1)) for values in (layer.scale, layer.offset))
    x = graph.node("Mul", f"{name}/scaled", x, graph.constant(f"{name}/slope", slopes))
    return graph.node("Add", name, x, graph.constant(f"{name}/offset", offsets)) if offsets.any() else x


def _unit_length(graph: _Graph, layer: Any, name: str, x: str) -> str:  # noqa: ARG001
    length = graph.node("ReduceL2", f"{name}/length", x, axes=[1], keepdims=1)
    least = graph.constant(f"{name}/least", np.float32(SMALLEST_LENGTH))
    return graph.node("Div", name, x, graph.node("Max", f"{name}/divisor", length, least))


def _reshaped(graph: _Graph, layer: Any, name: str, x: str) -> str:
    """A grid as one vector, its values in the order of Keras."""
    x = graph.node("Transpose", f"{name}/channels_last", x, perm=TO_CHANNELS_LAST)
    shape = graph.constant(f"{name}/shape", np.array([-1, layer.output.shape[-1], 1, 1]))
    return graph.node("Reshape", name, x, shape)


def _flat(graph: _Graph, layer: Any, name: str, x: str) -> str:  # noqa: ARG001
    """The last layer. A larger image has a larger grid of logits, of which this is the mean: Network.at_any_size."""
    return graph.node("Flatten", name, graph.node("GlobalAveragePool", f"{name}/mean", x), axis=1)


def _simple(operator: str, **attributes: Any) -> Callable[..., str]:
    def write(graph: _Graph, layer: Any, name: str, *inputs: str) -> str:  # noqa: ARG001
        return graph.node(operator, name, *inputs, **attributes)

    return write


WRITERS: dict[str, Callable[..., str]] = {  # kind of a Keras layer → (graph, layer, name, *inputs) → its output's name
    "Conv2D": _convolution,
    "DepthwiseConv": _depthwise,
    "SeparableConv2D": _separable,
    "BatchNorm": _batch_norm,
    "ReLU": _relu,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _mean_pool,
    "GlobalAveragePooling2D": _simple("GlobalAveragePool"),
    "GlobalMaxPooling2D": _simple("GlobalMaxPool"),
    "ZeroPadding2D": _zero_padding,
    "Cropping2D": _cropping,
    "Rescaling": _rescaling,
    "UnitNormalization": _unit_length,
    "Add": _simple("Add"),
    "Concatenate": _simple("Concat", axis=1),
    "Dropout": lambda graph, layer, name, x: x,  # noqa: ARG005
    "Reshape": _reshaped,
    "Flatten": _flat,
}
