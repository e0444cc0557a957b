"""Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) that learns its moving averages as TF-Slim's does."""

from __future__ import annotations

from typing import Any

import keras

from voc_cls.nets.layers import Norm


class BatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras ships no types
    """Keras' layer, but the moving variance follows the unbiased variance of the batch, n / (n − 1) of the biased one.

    TF-Slim's is TensorFlow's fused operation, which does so; Keras' own keeps the biased one. It matters where n, the
    pictures of a batch times the places of the grid, is small. Statistics are computed in float32 in any precision.
    A frozen layer (`trainable = False`) normalises by its moving averages and leaves them as they are. On several
    devices each normalises its own part of the batch, and the moving averages are the mean of theirs.
    """

    def __init__(self, norm: Norm, name: str, dtype: str) -> None:
        super().__init__(momentum=norm.decay, epsilon=norm.epsilon, scale=norm.gamma, name=name, dtype=dtype)

    def add_weight(self, *args: Any, **options: Any) -> Any:
        """As Keras', but a MirroredStrategy can tell what to do with what every replica assigns."""
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
