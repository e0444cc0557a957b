"""The layers that all networks are made of, under TF-Slim's names.

Call them within `keras.name_scope` of a network's scope. `path` is TF-Slim's path below it, such as conv1/conv1_1.
Keras refuses `/` in a layer's name and requires unique names in a model, so dots replace slashes:
`resnet_v1_50/block1.unit_1.bottleneck_v1.conv1/kernel` is TF-Slim's `resnet_v1_50/block1/unit_1/…/conv1/weights`.
`dtype` is a Keras dtype policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import KerasTensor as Tensor

Kernel = tuple[int, int]
Padding = Literal["same", "valid", "symmetric"]

FC_UNITS = 4096  # of VGG's and AlexNet's fc6 and fc7
FC_DROPOUT = 0.5  # dropout_keep_prob
SMALLEST_LENGTH = 1e-12
"""Of keras.layers.UnitNormalization: what a vector is divided by at least."""
STATISTICS = ("moving_mean", "moving_variance")
"""Last words of the names of variables that have no gradient."""
SLIM_WORDS = {
    "kernel": "weights",
    "bias": "biases",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
    **{word: word for word in ("gamma", "beta", *STATISTICS)},
}
"""Keras' names of a layer's variables → TF-Slim's. Others, such as the state of a dropout, are not weights."""


@dataclass(frozen=True)
class Norm:
    """Batch normalisation of a family, from the argument scope of its module in tf_slim.nets."""

    decay: float
    """Of the moving mean and variance, per step."""
    epsilon: float
    gamma: bool
    """Whether there is a factor; it is redundant if a ReLU and another convolution follow."""
    ceiling: float | None = None
    """The most that the ReLU behind it lets through, such as 6 in MobileNet; None: everything."""


@dataclass(frozen=True)
class Backbone:
    """A network up to its head.

    `entries` has, for every top-level scope in order, the tensor that enters it; None where two do, as in the cells of
    NASNet. `grid` is the last grid of features, after its ReLU and before any pool.
    """

    features: Tensor
    grid: Tensor
    entries: dict[str, Tensor | None]


def slim_name(variable: Any) -> str | None:
    """TF-Slim's name of a Keras variable; None for one that is not a weight."""
    path, _, word = variable.path.rpartition("/")
    return f"{path.replace('.', '/')}/{SLIM_WORDS[word]}" if word in SLIM_WORDS else None


def conv(x: Tensor, path: str, filters: int, kernel: Kernel, stride: int = 1, padding: Padding = "same", *, dtype: str,
         norm: Norm | None = None, relu: bool = True, initializer: str = "he_normal",
         bias: float | None = 0.0) -> Tensor:
    """A convolution with a bias or, with `norm`, batch normalisation, and a ReLU.

    "same" and "valid" are TensorFlow's paddings; "symmetric" is tf_slim.nets.resnet_utils.conv2d_same's: as much on
    either side, whatever the stride. `initializer` is Keras' name of the kernel's, `bias` the initial value; None: it
    has none even without `norm`.
    """
    if padding == "symmetric":
        height, width = (size - 1 for size in kernel)
        margins = ((height // 2, height - height // 2), (width // 2, width - width // 2))
        x = keras.layers.ZeroPadding2D(margins, **_named(f"{path}/padding", dtype))(x)
    x = keras.layers.Conv2D(
        filters, kernel, stride, "same" if padding == "same" else "valid", use_bias=norm is None and bias is not None,
        activation="relu" if relu and norm is None else None, kernel_initializer=initializer,
        bias_initializer=keras.initializers.Constant(bias or 0.0), **_named(path, dtype))(x)
    return x if norm is None else batch_norm(x, f"{path}/BatchNorm", norm, dtype, relu)


def batch_norm(x: Tensor, path: str, norm: Norm, dtype: str, relu: bool = True) -> Tensor:
    x = BatchNorm(norm, **_named(path, dtype))(x)
    return rectified(x, path, dtype, norm.ceiling) if relu else x


def rectified(x: Tensor, path: str, dtype: str, ceiling: float | None = None) -> Tensor:
    """A ReLU that lets through at most `ceiling`."""
    return keras.layers.ReLU(ceiling, **_named(f"{path}/relu", dtype))(x)


def max_pool(x: Tensor, path: str, size: int, stride: int, dtype: str, padding: Padding = "same") -> Tensor:
    return keras.layers.MaxPooling2D(size, stride, padding, **_named(path, dtype))(x)


def mean_pool(x: Tensor, path: str, size: int, stride: int, dtype: str, padding: Padding = "same") -> Tensor:
    """The mean over size × size places, without places outside the border."""
    return keras.layers.AveragePooling2D(size, stride, padding, **_named(path, dtype))(x)


def add(shortcut: Tensor, residual: Tensor, path: str, dtype: str, relu: bool, scale: float = 1.0) -> Tensor:
    """The sum of two tensors of one shape, the second one times `scale`, with a ReLU or without."""
    if scale != 1:
        residual = Rescaling(scale, **_named(f"{path}/scale", dtype))(residual)
    x = keras.layers.Add(**_named(f"{path}/sum", dtype))([shortcut, residual])
    return rectified(x, path, dtype) if relu else x


def concatenate(branches: list[Tensor], path: str, dtype: str) -> Tensor:
    return keras.layers.Concatenate(**_named(f"{path}/concat", dtype))(branches)


def separable(x: Tensor, path: str, filters: int, kernel: Kernel, stride: int, multiplier: int, dtype: str,
              relu: bool = True) -> Tensor:
    """`multiplier` filters for every channel, then a 1 × 1 convolution, with a bias and a ReLU or with neither."""
    return keras.layers.SeparableConv2D(
        filters, kernel, stride, "same", depth_multiplier=multiplier, activation="relu" if relu else None,
        use_bias=relu, depthwise_initializer="he_normal", pointwise_initializer="he_normal", **_named(path, dtype))(x)


def depthwise(x: Tensor, path: str, kernel: Kernel, stride: int, norm: Norm, dtype: str) -> Tensor:
    """A filter for every channel, batch normalisation and a ReLU."""
    x = DepthwiseConv(kernel, stride, "same", use_bias=False, depthwise_initializer="he_normal",
                      **_named(path, dtype))(x)
    return batch_norm(x, f"{path}/BatchNorm", norm, dtype)


def shifted(x: Tensor, path: str, dtype: str) -> Tensor:
    """The grid moved by a place to the left and upwards; zeros come in."""
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), **_named(f"{path}/padding", dtype))(x)
    return keras.layers.Cropping2D(((1, 0), (1, 0)), **_named(f"{path}/cropping", dtype))(x)


def fully_connected(backbone: Backbone, dtype: str, bias: float) -> Tensor:
    """fc6 over the whole grid, and fc7, as convolutions; adds their inputs to `backbone.entries`."""
    x = backbone.entries["fc6"] = backbone.features
    x = conv(x, "fc6", FC_UNITS, x.shape[1:3], padding="valid", dtype=dtype, initializer="glorot_uniform", bias=bias)
    backbone.entries["fc7"] = x
    x = keras.layers.Dropout(FC_DROPOUT, **_named("dropout6", dtype))(x)
    return conv(x, "fc7", FC_UNITS, (1, 1), dtype=dtype, initializer="glorot_uniform", bias=bias)


def _named(path: str, dtype: str) -> dict[str, str]:
    return {"name": path.replace("/", "."), "dtype": dtype}


class Rescaling(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Slope times the input plus offset, numbers or [channels]. Keras' own layer needs TensorFlow on every backend."""

    def __init__(self, scale: Any, offset: Any = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Any) -> Any:
        """[…, channels], in the layer's number format."""
        scale, offset = (keras.ops.cast(value, self.compute_dtype) for value in (self.scale, self.offset))
        return inputs * scale + offset


class MeanNormalization(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A grid divided by the length of its mean: the places keep their lengths relative to each other."""

    def call(self, inputs: Any) -> Any:
        """[N, h, w, channels], computed in float32."""
        ops, grid = keras.ops, keras.ops.cast(inputs, "float32")
        square = ops.sum(ops.square(ops.mean(grid, axis=(1, 2), keepdims=True)), axis=-1, keepdims=True)
        length = ops.sqrt(ops.maximum(square, SMALLEST_LENGTH ** 2))  # bounded first: a square root has no slope at 0
        return ops.cast(grid / length, self.compute_dtype)


class DepthwiseConv(keras.layers.DepthwiseConv2D):  # type: ignore[misc]  # Keras ships no types
    """Keras' layer, whose kernel has the name that SeparableConv2D gives its first one."""

    def add_weight(self, *args: Any, name: str = "", **options: Any) -> Any:
        """As Keras', but for the name."""
        return super().add_weight(*args, name=f"depthwise_{name}", **options)


class BatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras ships no types
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) that learns its moving averages as TF-Slim's does.

    Keras' layer, but the moving variance follows the unbiased variance of the batch, n / (n − 1) of the biased one.
    TF-Slim's is TensorFlow's fused operation, which does so; Keras' own uses the biased one. The difference matters if
    n, the images of a batch times the places of the grid, is small. Statistics are computed in float32 in any
    precision. A frozen layer (`trainable = False`) normalises by its moving averages and does not change them. Each of
    several devices normalises its own part of the batch; the moving averages are the mean over the devices.
    """

    def __init__(self, norm: Norm, name: str, dtype: str) -> None:
        super().__init__(momentum=norm.decay, epsilon=norm.epsilon, scale=norm.gamma, name=name, dtype=dtype)
        self.norm = norm

    def add_weight(self, *args: Any, **options: Any) -> Any:
        """As Keras', but a MirroredStrategy knows how to combine the values that the replicas assign."""
        if not options.get("trainable", True):
            options["aggregation"] = "mean"
        return super().add_weight(*args, **options)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """[N, …, channels] normalised per channel; in training by the batch, and the moving averages follow it."""
        if not (training and self.trainable):
            return super().call(inputs, training=False, mask=mask)
        ops = keras.ops
        values = ops.cast(inputs, "float32")
        axes = list(range(len(inputs.shape) - 1))
        mean, variance = ops.moments(values, axes=axes)
        number = ops.cast(ops.prod(ops.shape(values)[:-1]), "float32")
        unbiased = variance * (number / ops.maximum(number - 1, 1))
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        outputs = ops.batch_normalization(values, mean, variance, axis=-1, offset=self.beta, scale=self.gamma,
                                          epsilon=self.epsilon)
        return ops.cast(outputs, self.compute_dtype)
