"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): which parts of an image raise the logit of a class.

The channels of the last convolution are summed, each weighted by the mean of the logit's gradient over its grid;
negative values are set to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.nets.network import Network

BATCH_SIZE = 8


def heat_maps(network: Network, paths: Sequence[Path], columns: Sequence[int],
              advance: Callable[[int], object] = lambda _: None) -> npt.NDArray[np.float32]:
    """Grad-CAM of each image for one class, a column of the logits: float32 [N, h, w], on the last convolution's grid.

    The highest cell of a map is 1; a map without any positive cell is all 0. `advance` is told how many more maps there
    are. DataError names a broken image.
    """
    preprocessing = network.spec.preprocessing
    backbone, head = cut_after_convolutions(network)
    maps = [np.zeros((0, *keras.tree.flatten(network.grids)[0].shape[1:3]), np.float32)]
    with naming_broken_images(paths):
        for number, images in enumerate(image_batches(paths, BATCH_SIZE, preprocessing) if paths else ()):
            classes = columns[number * BATCH_SIZE:(number + 1) * BATCH_SIZE]
            features = backbone(keras.ops.convert_to_tensor(images.numpy()), training=False)
            maps.append(grad_cam(head, features, classes))
            advance(len(classes))
    return np.concatenate(maps)


def cut_after_convolutions(network: Network) -> tuple[keras.Model, keras.Model]:
    """(up to `network.grids`, from there to the logits): two models that share the layers."""
    return keras.Model(network.model.input, network.grids), keras.Model(network.grids, network.model.output)


def grad_cam(head: keras.Model, features: Any, columns: Sequence[int]) -> npt.NDArray[np.float32]:
    """float32 [N, h, w] in 0-1 for `features` [N, h, w, channels], which `head` turns into logits [N, classes]; of a
    list of grids the first."""
    features = keras.tree.map_structure(keras.ops.convert_to_tensor, features)
    values, slopes = (keras.ops.convert_to_numpy(keras.ops.cast(keras.tree.flatten(grids)[0], "float32"))
                      for grids in (features, gradients(head, features, columns)))
    maps = np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * values).sum(axis=-1), 0)
    highest = maps.max(axis=(1, 2), keepdims=True)
    shares: npt.NDArray[np.float32] = np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)
    return shares


def gradients(head: keras.Model, features: Any, columns: Sequence[int]) -> Any:
    """Of each image's logit `columns[n]` by its `features`, on TensorFlow or JAX."""
    def total(features: Any) -> Any:  # of the batch: an image does not affect the logits of another
        classes = keras.ops.one_hot(keras.ops.convert_to_tensor(list(columns), "int32"), head.output_shape[-1])
        return keras.ops.sum(head(features, training=False) * classes)

    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(total)(features)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(features)
        value = total(features)
    return tape.gradient(value, features)
