"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): which parts of a picture speak for a class.

The last convolutions' channels are summed, each weighted by the mean of the logit's gradient over its grid; what speaks
against the class (below 0) is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.nets.network import Network

BATCH_SIZE = 8


def heat_maps(network: Network, paths: Sequence[Path], columns: Sequence[int]) -> npt.NDArray[np.float32]:
    """float32 [N, h, w] in 0-1: how much each cell of the last convolutions' grid speaks for class `columns[n]`.

    The highest cell of a map is 1; a map without any evidence is 0 all over. DataError names a broken picture.
    """
    preprocessing = network.spec.preprocessing
    trunk, rest = cut_after_convolutions(network)
    maps = [np.zeros((0, *trunk.output_shape[1:3]), np.float32)]
    with naming_broken_images(paths, preprocessing):
        for number, pictures in enumerate(image_batches(paths, BATCH_SIZE, preprocessing) if paths else ()):
            chosen = columns[number * BATCH_SIZE:(number + 1) * BATCH_SIZE]
            features = trunk(keras.ops.convert_to_tensor(pictures.numpy()), training=False)
            maps.append(grad_cam(rest, features, chosen))
    return np.concatenate(maps)


def cut_after_convolutions(network: Network) -> tuple[keras.Model, keras.Model]:
    """(up to the last grid after its ReLU, from there to the logits): two models that share the layers."""
    return keras.Model(network.model.input, network.grid), keras.Model(network.grid, network.model.output)


def grad_cam(rest: keras.Model, features: Any, columns: Sequence[int]) -> npt.NDArray[np.float32]:
    """float32 [N, h, w] in 0-1 for `features` [N, h, w, channels], which `rest` turns into logits [N, classes]."""
    features = keras.ops.convert_to_tensor(features)
    values, slopes = (keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
                      for tensor in (features, gradients(rest, features, columns)))
    maps = np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * values).sum(axis=-1), 0)
    highest = maps.max(axis=(1, 2), keepdims=True)
    shares: npt.NDArray[np.float32] = np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)
    return shares


def gradients(rest: keras.Model, features: Any, columns: Sequence[int]) -> Any:
    """Of each picture's logit `columns[n]` by its `features`; on either of the backends that a run may use."""
    def chosen(features: Any) -> Any:  # the sum: pictures do not touch each other's logits
        wanted = keras.ops.one_hot(keras.ops.convert_to_tensor(list(columns), "int32"), rest.output_shape[-1])
        return keras.ops.sum(rest(features, training=False) * wanted)

    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(chosen)(features)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(features)
        total = chosen(features)
    return tape.gradient(total, features)
