"""Batches of a frozen backbone's features, for training and for prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from voc_cls.data.feature_cache import CachedRows
from voc_cls.data.pipeline import Order

HELD_BYTES = 1e9
"""Up to this size the features are held in memory; larger ones are read from disk batch by batch."""


def feature_batches(features: CachedRows | npt.NDArray[Any], targets: npt.NDArray[np.float32],
                    order: Order) -> tf.data.Dataset:
    """Like `training_batches`, on features: batches of ([B, …], float32 [B, classes]) in `order`.

    features: [N · views, …], the views of an image side by side. Seen is view `draw % views`.
    """
    views = len(features) // len(targets)
    labels, rows = tf.constant(targets), order.index * views + order.draw % views
    gather = _gather(features)
    batches = tf.data.Dataset.from_tensor_slices((rows, order.index))
    return batches.map(lambda row, index: (gather(row), tf.gather(labels, index)), tf.data.AUTOTUNE,
                       deterministic=True).prefetch(tf.data.AUTOTUNE)


def feature_rows(features: CachedRows | npt.NDArray[Any], batch_size: int) -> tf.data.Dataset:
    """Batches of [≤ batch_size, …] for inference: all rows in their order."""
    rows = tf.data.Dataset.range(len(features)).batch(batch_size)
    return rows.map(_gather(features)).prefetch(tf.data.AUTOTUNE)


def _gather(features: CachedRows | npt.NDArray[Any]) -> Any:
    """Row numbers, int64 [B] → their rows [B, …]."""
    dtype, shape = tf.as_dtype(features.dtype), features.shape
    if int(np.prod(shape, dtype=np.int64)) * dtype.size <= HELD_BYTES:
        with tf.device("CPU"):
            held = tf.constant(features[:])
        return lambda rows: tf.gather(held, rows)

    def read(rows: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(features.__getitem__, [rows], dtype, stateful=False),
                               [None, *shape[1:]])

    return read
