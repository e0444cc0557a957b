"""One step of batch normalisation on two logical devices of the processor; prints its moving averages. For
test_batch_norm.py."""

from __future__ import annotations

import json

import keras
import numpy as np
import tensorflow as tf

from voc_cls.nets.layers import BatchNorm, Norm


def main() -> None:
    """Half of the batch is 0 … 3, the other half 10 … 13: each device sees one of them."""
    processor, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        inputs = keras.Input((1, 1, 1))
        layer = BatchNorm(Norm(decay=0.0, epsilon=1e-3, gamma=True), "norm", "float32")
        model = keras.Model(inputs, layer(inputs))
        model.compile("sgd", "mse", jit_compile=False)
    values = np.array([0, 1, 2, 3, 10, 11, 12, 13], np.float32).reshape(8, 1, 1, 1)
    model.fit(values, np.zeros_like(values), batch_size=8, shuffle=False, verbose=0)
    print(json.dumps([float(layer.moving_mean.numpy()[0]), float(layer.moving_variance.numpy()[0])]))


if __name__ == "__main__":
    main()
