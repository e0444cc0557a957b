"""The architectures as Keras layers, named by their whole path below the network's scope.

Keras refuses `/` in a layer's name and wants each name once in a model, so dots stand for slashes:
`resnet_v1_50/block1.unit_1.bottleneck_v1.conv1/kernel` is TF-Slim's `resnet_v1_50/block1/unit_1/…/conv1/weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras

from voc_cls.nets.architectures import Architecture
from voc_cls.nets.batch_norm import BatchNorm
from voc_cls.nets.layers import Kernel, Layers, Padding

SLIM_WORDS = {
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
    **{word: word for word in ("gamma", "beta", "moving_mean", "moving_variance")},
}
"""Keras' names of a layer's variables → TF-Slim's. What is not in it, such as the state of a dropout, is no weight."""


def slim_name(variable: Any) -> str | None:
    """TF-Slim's name of a Keras variable, None for one that is no weight."""
    path, _, word = variable.path.rpartition("/")
    return f"{path.replace('.', '/')}/{SLIM_WORDS[word]}" if word in SLIM_WORDS else None


class KerasLayers(Layers[keras.KerasTensor]):
    """Makes Keras layers; notes where scopes begin (`entries`) and the last grid (`grid`).

    precision: a Keras dtype policy. To be used within keras.name_scope of the network's scope.
    """

    def __init__(self, architecture: Architecture, precision: str) -> None:
        self.entries: dict[str, keras.KerasTensor] = {}
        self.grid: keras.KerasTensor | None = None
        self._architecture = architecture
        self._precision = precision

    def enter(self, scope: str, features: keras.KerasTensor) -> None:
        self.entries[scope] = features

    def last_grid(self, features: keras.KerasTensor) -> None:
        self.grid = features

    def channels(self, features: keras.KerasTensor) -> int:
        return int(features.shape[-1])

    def conv(self, features: keras.KerasTensor, path: str, filters: int, kernel: Kernel, *, stride: int = 1,
             padding: Padding = "same", norm: bool = False, relu: bool = True) -> keras.KerasTensor:
        if padding == "symmetric":
            height, width = (size - 1 for size in kernel)
            margins = ((height // 2, height - height // 2), (width // 2, width - width // 2))
            features = keras.layers.ZeroPadding2D(margins, **self._named(f"{path}/padding"))(features)
        features = keras.layers.Conv2D(filters, kernel, stride, "same" if padding == "same" else "valid",
                                       kernel_initializer=self._architecture.kernels, **self._named(path),
                                       **self._bias_and_relu(not norm, relu))(features)
        if norm:
            return self._normalised(features, f"{path}/BatchNorm", relu)
        return features

    def separable(self, features: keras.KerasTensor, path: str, filters: int, kernel: Kernel, *, multiplier: int,
                  stride: int) -> keras.KerasTensor:
        kernels = self._architecture.kernels
        return keras.layers.SeparableConv2D(filters, kernel, stride, "same", depth_multiplier=multiplier,
                                            depthwise_initializer=kernels, pointwise_initializer=kernels,
                                            **self._named(path), **self._bias_and_relu(True, True))(features)

    def norm(self, features: keras.KerasTensor, path: str) -> keras.KerasTensor:
        return self._normalised(features, path, relu=True)

    def pool(self, features: keras.KerasTensor, path: str, kind: Literal["max", "mean"], size: int, *, stride: int,
             padding: Padding = "same") -> keras.KerasTensor:
        layer = keras.layers.MaxPooling2D if kind == "max" else keras.layers.AveragePooling2D
        return layer(size, stride, padding, **self._named(path))(features)

    def add(self, shortcut: keras.KerasTensor, residual: keras.KerasTensor, path: str, *,
            relu: bool) -> keras.KerasTensor:
        features = keras.layers.Add(**self._named(f"{path}/sum"))([shortcut, residual])
        return keras.layers.ReLU(**self._named(f"{path}/relu"))(features) if relu else features

    def concatenate(self, branches: Sequence[keras.KerasTensor], path: str) -> keras.KerasTensor:
        return keras.layers.Concatenate(**self._named(f"{path}/concat"))(list(branches))

    def dropout(self, features: keras.KerasTensor, path: str, rate: float) -> keras.KerasTensor:
        return keras.layers.Dropout(rate, **self._named(path))(features)

    def grid_mean(self, features: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name="gap")(features)

    def _normalised(self, features: keras.KerasTensor, path: str, relu: bool) -> keras.KerasTensor:
        assert self._architecture.norm is not None  # a family that normalises says how
        features = BatchNorm(self._architecture.norm, **self._named(path))(features)
        return keras.layers.ReLU(**self._named(f"{path}/relu"))(features) if relu else features

    def _bias_and_relu(self, bias: bool, relu: bool) -> dict[str, Any]:
        initial = keras.initializers.Constant(self._architecture.biases)
        return {"use_bias": bias, "bias_initializer": initial, "activation": "relu" if bias and relu else None}

    def _named(self, path: str) -> dict[str, str]:
        return {"name": path.replace("/", "."), "dtype": self._precision}
