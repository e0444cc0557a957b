"""ONNX: the whole network as a graph, written layer by layer with `onnx.helper`, and the same graph for other forms.

Grids are [N, height, width, channels] in Keras and [N, channels, height, width] in ONNX, so the graph transposes its
input once. Values have the names of the layers that compute them, with slashes: conv1/conv1_1, …, logits. Why this is
written here and not converted: docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from onnx import helper

from export.verify import Predictor
from voc_cls.data.dataset import Task
from voc_cls.errors import ExportError
from voc_cls.nets.explained import EMBEDDING, HEAT_MAPS, LEAST, explained
from voc_cls.nets.layers import SMALLEST_LENGTH
from voc_cls.nets.network import Network
from voc_cls.version import __version__

OPSET, IR_VERSION = 17, 8
"""Of 2022: what reads ONNX today reads these."""
INPUT, PROBABILITIES, LOGITS = "inputs", "probabilities", "logits"
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def write_onnx(path: Path, network: Network, task: Task) -> None:
    """Writes `network` as a checked ONNX model.

    Its input is `inputs`, float32 [N, size, size, 3], preprocessed RGB; its outputs are `probabilities` and `logits`,
    float32 [N, classes], `heat_maps` [N, classes, h, w] and `embedding` [N, D].
    """
    graph, whole = _Graph(), explained(network)
    first, *layers = whole.layers
    values = {id(first.output): graph.node("Transpose", "images", INPUT, perm=TO_CHANNELS_FIRST)}
    for layer in layers:
        inputs = [values[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
        write = getattr(graph, f"write_{type(layer).__name__}", None)
        if write is None:
            raise ExportError(f"{network.spec.name}: the kind of its layer {layer.name}, {type(layer).__name__}, is "
                              "not known in ONNX; export `format` savedmodel")
        values[id(layer.output)] = write(layer, layer.name.replace(".", "/"), *inputs)
    softmax = {} if task is Task.MULTI_LABEL else {"axis": 1}
    graph.node(task.activation.capitalize(), PROBABILITIES, values[id(network.model.output)], **softmax)
    size = network.spec.preprocessing.size
    tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape[1:]]) for name, shape in zip(
        (INPUT, PROBABILITIES, LOGITS, HEAT_MAPS, EMBEDDING),
        ((None, size, size, 3), network.model.output_shape, *whole.output_shape), strict=True)]
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
    return lambda inputs: session.run(None, {INPUT: inputs})


class _Graph:
    """The nodes and initialisers so far; a node has one output, of its own name.

    There is a method for each kind of Keras layer: it writes a layer, with a name and inputs, and returns its output.
    """

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

    def write_Conv2D(self, layer: Any, name: str, x: str) -> str:
        window = _window(layer, layer.kernel_size, layer.strides)
        return self._convolved(layer, name, x, "weights", layer.kernel, window)

    def write_DepthwiseConv(self, layer: Any, name: str, x: str) -> str:
        return self._depthwise(layer, name, x, layer.kernel)

    def write_SeparableConv2D(self, layer: Any, name: str, x: str) -> str:
        x = self._depthwise(layer, f"{name}/depthwise", x, layer.depthwise_kernel)
        return self._convolved(layer, name, x, "pointwise_weights", layer.pointwise_kernel, {"kernel_shape": [1, 1]})

    def _convolved(self, layer: Any, name: str, x: str, weights: str, kernel: Any, window: dict[str, Any]) -> str:
        """With the bias and the activation of the layer; kernels of Keras are [height, width, inputs, outputs]."""
        parameters = [self.constant(f"{name}/{weights}", np.transpose(kernel, (3, 2, 0, 1)))]
        if layer.use_bias:
            parameters.append(self.constant(f"{name}/biases", layer.bias))
        x = self.node("Conv", name, x, *parameters, **window)
        return x if layer.activation is keras.activations.linear else self.node("Relu", f"{name}/relu", x)

    def _depthwise(self, layer: Any, name: str, x: str, kernel: Any) -> str:
        """Kernels of Keras are [height, width, channels, filters for each of them]."""
        height, width, channels, _ = kernel.shape
        weights = self.constant(f"{name}/depthwise_weights",
                                np.transpose(kernel, (2, 3, 0, 1)).reshape(-1, 1, height, width))
        return self.node("Conv", name, x, weights, group=channels, **_window(layer, layer.kernel_size, layer.strides))

    def write_BatchNorm(self, layer: Any, name: str, x: str) -> str:
        gamma = layer.gamma if layer.scale else np.ones(layer.beta.shape, np.float32)
        parameters = {"gamma": gamma, "beta": layer.beta, "moving_mean": layer.moving_mean,
                      "moving_variance": layer.moving_variance}
        constants = [self.constant(f"{name}/{word}", values) for word, values in parameters.items()]
        return self.node("BatchNormalization", name, x, *constants, epsilon=layer.epsilon)

    def write_ReLU(self, layer: Any, name: str, x: str) -> str:
        if layer.max_value is None:
            return self.node("Relu", name, x)
        least, most = (self.constant(f"{name}/{word}", np.float32(value))
                       for word, value in (("least", 0), ("most", layer.max_value)))
        return self.node("Clip", name, x, least, most)

    def write_MaxPooling2D(self, layer: Any, name: str, x: str) -> str:
        return self.node("MaxPool", name, x, **_window(layer, layer.pool_size, layer.strides))

    def write_AveragePooling2D(self, layer: Any, name: str, x: str) -> str:
        window = _window(layer, layer.pool_size, layer.strides)
        return self.node("AveragePool", name, x, count_include_pad=0, **window)

    def write_ZeroPadding2D(self, layer: Any, name: str, x: str) -> str:
        return self._padded(name, x, layer.padding)

    def write_Cropping2D(self, layer: Any, name: str, x: str) -> str:
        return self._padded(name, x, np.negative(layer.cropping))

    def _padded(self, name: str, x: str, padding: Any) -> str:
        """padding: rows above and below, columns left and right; where it is negative they are taken away."""
        (top, bottom), (left, right) = padding
        pads = self.constant(f"{name}/pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
        return self.node("Pad", name, x, pads)

    def write_Rescaling(self, layer: Any, name: str, x: str) -> str:
        """By one factor, or by a slope and an offset for each channel."""
        slopes, offsets = (np.reshape(np.float32(values), (-1, 1, 1)) for values in (layer.scale, layer.offset))
        x = self.node("Mul", f"{name}/scaled", x, self.constant(f"{name}/slope", slopes))
        return self.node("Add", name, x, self.constant(f"{name}/offset", offsets)) if offsets.any() else x

    def write_UnitNormalization(self, layer: Any, name: str, x: str, vectors: str = "") -> str:  # noqa: ARG002
        """Divided by its length, or by that of `vectors`."""
        length = self.node("ReduceL2", f"{name}/length", vectors or x, axes=[1], keepdims=1)
        least = self.constant(f"{name}/least", np.float32(SMALLEST_LENGTH))
        return self.node("Div", name, x, self.node("Max", f"{name}/divisor", length, least))

    def write_MeanNormalization(self, layer: Any, name: str, x: str) -> str:
        return self.write_UnitNormalization(layer, name, x, self.node("GlobalAveragePool", f"{name}/mean", x))

    def write_Reshape(self, layer: Any, name: str, x: str) -> str:
        """A grid as one vector, its values in the order of Keras."""
        x = self.node("Transpose", f"{name}/channels_last", x, perm=TO_CHANNELS_LAST)
        shape = self.constant(f"{name}/shape", np.array([-1, layer.output.shape[-1], 1, 1]))
        return self.node("Reshape", name, x, shape)

    def write_GlobalAveragePooling2D(self, layer: Any, name: str, x: str) -> str:  # noqa: ARG002
        return self.node("GlobalAveragePool", name, x)

    def write_GlobalMaxPooling2D(self, layer: Any, name: str, x: str) -> str:  # noqa: ARG002
        return self.node("GlobalMaxPool", name, x)

    def write_Flatten(self, layer: Any, name: str, x: str) -> str:  # noqa: ARG002
        """The last layer. A larger image has a larger grid of logits; this is its mean, as of Network.at_any_size."""
        return self.node("Flatten", name, self.node("GlobalAveragePool", f"{name}/mean", x), axis=1)

    def write_ConvolvedSlope(self, layer: Any, name: str, x: str) -> str:
        """By the convolution's own weights where they are for one place: they are in the file once."""
        convolution, channels = layer.convolution, layer.input.shape[-1]
        weights = f"{convolution.name.replace('.', '/')}/weights"
        if layer.places > 1 or channels < convolution.kernel.shape[2]:
            kernel = keras.ops.transpose(layer.kernel(channels))
            weights = self.constant(f"{name}/weights", keras.ops.reshape(kernel, (*kernel.shape, 1, 1)))
        return self.node("Conv", name, x, weights, kernel_shape=[1, 1])

    def write_PassedSlope(self, layer: Any, name: str, x: str, output: str) -> str:  # noqa: ARG002
        one_place = self.node("GlobalAveragePool", f"{name}/mean", output)  # so that a larger image has a map, too
        return self.node("Mul", name, x, self.node("Sign", f"{name}/sign", one_place))

    def write_UnitSlope(self, layer: Any, name: str, x: str, vector: str, unit: str) -> str:
        product, axes = self.node("Mul", f"{name}/product", x, unit), self.constant(f"{name}/axes", np.array([1]))
        along = self.node("Mul", f"{name}/along", self.node("ReduceSum", f"{name}/sum", product, axes), unit)
        return self.write_UnitNormalization(layer, name, self.node("Sub", f"{name}/across", x, along), vector)

    def write_HeatMaps(self, layer: Any, name: str, x: str) -> str:  # noqa: ARG002
        positive = self.node("Relu", f"{name}/positive", x)
        highest = self.node("ReduceMax", f"{name}/highest", positive, axes=[2, 3])
        least = self.constant(f"{name}/least", np.float32(LEAST))
        return self.node("Div", name, positive, self.node("Max", f"{name}/divisor", highest, least))

    def write_Add(self, layer: Any, name: str, *inputs: str) -> str:  # noqa: ARG002
        return self.node("Add", name, *inputs)

    def write_Concatenate(self, layer: Any, name: str, *inputs: str) -> str:  # noqa: ARG002
        return self.node("Concat", name, *inputs, axis=1)

    def write_Dropout(self, layer: Any, name: str, x: str) -> str:  # noqa: ARG002
        return x


def _window(layer: Any, size: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
    """A convolution's or pool's attributes: TensorFlow's padding, the larger half behind, at every size of the grid."""
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    return {"kernel_shape": [*size], "strides": [*strides], "auto_pad": padding}
