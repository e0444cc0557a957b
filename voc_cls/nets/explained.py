"""Heat maps and embeddings as outputs of a network's own graph: Grad-CAM without a backward pass.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) of a class sums the channels of the last convolution, each weighted
by the mean of the logit's gradient over the grid. A cell of that map is, but for a factor, the logit's slope when the
features of this cell are added at all places of the grid. A slope passes forward through the head, for all classes at
once and by its own kernels: pools, sums and dropout pass it on, a convolution over places adds up its kernel over
them, a ReLU stops it where it is off, and of a vector of unit length only what is across it changes the vector.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import KerasTensor as Tensor

from voc_cls.nets.layers import SMALLEST_LENGTH, Rescaling
from voc_cls.nets.network import Network

HEAT_MAPS, EMBEDDING = "heat_maps", "embedding"
LEAST = float(np.finfo(np.float32).tiny)
"""The highest cell of a map counts as this at least, so that a map without evidence is all 0."""


def explained(network: Network) -> keras.Model:
    """A model that shares this network's layers: images → logits [N, classes], heat maps [N, classes, h, w], embeddings
    [N, D].

    Heat maps are 0-1, on the grid of the last convolution (of csra: on its normalised grid, of gap+max+lower: on the
    last of both); the highest cell is 1. Embeddings are what enters the classifier, the mean over its places, of length
    1: cosine similarities are their products.
    """
    grid = keras.tree.flatten(network.grids)[0]
    slopes: dict[int, Tensor] = {id(grid): grid}
    for layer in network.model.layers:
        known = [slopes[id(tensor)] for tensor in keras.tree.flatten(layer.input) if id(tensor) in slopes]
        if known:
            slopes[id(layer.output)] = _slope(layer, known, grid.shape[-1] if network.head == "flatten" else 0)
    heat_maps = HeatMaps(dtype="float32", name=HEAT_MAPS)(slopes[id(network.model.output)])
    features = network.entries[network.spec.head]
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{EMBEDDING}.features")(features)
    unit = keras.layers.UnitNormalization(dtype="float32", name=f"{EMBEDDING}.unit")(mean)
    embedding = keras.layers.Flatten(dtype="float32", name=EMBEDDING)(unit)
    return keras.Model(network.model.input, [network.model.output, heat_maps, embedding])


def _slope(layer: Any, known: list[Tensor], flattened: int) -> Tensor:
    """How the output of `layer` changes, [N, h, w, channels] for the cells of the map, as its inputs do by `known`.

    flattened: channels of a grid that the head sees as one vector; 0: it does not.
    """
    options, slope = {"dtype": "float32", "name": f"{HEAT_MAPS}.{layer.name}"}, known[0]
    if isinstance(layer, keras.layers.Conv2D):
        places = layer.input.shape[-1] // flattened if flattened else math.prod(layer.kernel_size)
        slope = ConvolvedSlope(layer, places, **options)(slope)
        if layer.activation is keras.activations.relu:
            slope = PassedSlope(dtype="float32", name=f"{HEAT_MAPS}.{layer.name}.relu")([slope, layer.output])
    elif isinstance(layer, keras.layers.UnitNormalization):
        slope = UnitSlope(**options)([slope, layer.input, layer.output])
    elif isinstance(layer, Rescaling):
        slope = Rescaling(layer.scale, **options)(slope)
    elif isinstance(layer, (keras.layers.Add, keras.layers.Concatenate)) and len(known) > 1:
        slope = type(layer)(**options)(known)
    return slope


class ConvolvedSlope(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A convolution without its bias, of a slope that is the same at all `places` that the kernel sees."""

    def __init__(self, convolution: Any, places: int, **options: Any) -> None:
        super().__init__(**options)
        self.convolution, self.places = convolution, places

    def kernel(self, channels: int) -> Any:
        """[channels, filters]; of the kernel's own channels those behind do not change."""
        kernel = self.convolution.kernel
        return keras.ops.sum(keras.ops.reshape(kernel, (self.places, -1, kernel.shape[-1])), axis=0)[:channels]

    def call(self, slope: Any) -> Any:
        """[N, h, w, channels] → [N, h, w, filters]."""
        return keras.ops.matmul(slope, self.kernel(slope.shape[-1]))


class PassedSlope(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Of a ReLU: the slope where its output is above 0."""

    def call(self, inputs: Any) -> Any:
        """[slope [N, h, w, channels], the ReLU's output [N, 1, 1, channels]]."""
        slope, output = inputs
        return slope * keras.ops.sign(output)


class UnitSlope(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Of keras.layers.UnitNormalization."""

    def call(self, inputs: Any) -> Any:
        """[slope [N, h, w, channels], the vector and its unit vector [N, 1, 1, channels]]."""
        ops, (slope, vector, unit) = keras.ops, inputs
        length = ops.sqrt(ops.sum(ops.square(vector), axis=-1, keepdims=True))
        across = slope - unit * ops.sum(slope * unit, axis=-1, keepdims=True)
        return across / ops.maximum(length, SMALLEST_LENGTH)


class HeatMaps(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The positive part of each map, its highest cell 1."""

    def call(self, slope: Any) -> Any:
        """[N, h, w, classes] → [N, classes, h, w]."""
        ops = keras.ops
        positive = ops.relu(ops.transpose(slope, (0, 3, 1, 2)))
        return positive / ops.maximum(ops.max(positive, axis=(2, 3), keepdims=True), LEAST)
