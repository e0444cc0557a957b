"""The input pipeline: which picture comes when, and the tf.data graph that reads, decodes and batches it.

The order is a table computed beforehand from the seed alone. So it does not depend on threads, on how fast the disk
is, or on whether a run was interrupted: step k always sees the same pictures, flipped the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voc_cls.data.preprocessing import Preprocessing, decode, preprocess
from voc_cls.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Order:
    """Which pictures each training step sees: `index` int64 and `flip` bool, both [steps, batch]."""

    index: npt.NDArray[np.int64]
    flip: npt.NDArray[np.bool_]

    @property
    def steps(self) -> int:
        """Number of training steps."""
        return len(self.index)


def shuffled_order(pictures: int, steps: int, batch_size: int, seed: int, flip: bool = True) -> Order:
    """Every picture once per epoch in a new random order, flipped horizontally half of the time.

    A batch may span two epochs, so each has `batch_size` pictures.
    """
    epochs = -(-steps * batch_size // pictures)
    index, flips = [], []
    for epoch in range(epochs):
        random = np.random.default_rng([seed, epoch])
        index.append(random.permutation(pictures))
        flips.append(random.random(pictures) < 0.5)
    shape = steps, batch_size
    flat = slice(0, steps * batch_size)
    chosen = np.concatenate(flips)[flat].reshape(shape)
    return Order(np.concatenate(index)[flat].reshape(shape), chosen if flip else np.zeros(shape, bool))


def load(path: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Path of a picture (string scalar) → float32 [size, size, 3], ready for the network."""
    import tensorflow as tf

    return preprocess(decode(tf.io.read_file(path), preprocessing), preprocessing)


def training_batches(paths: Sequence[Path], targets: npt.NDArray[np.float32], order: Order,
                     preprocessing: Preprocessing) -> tf.data.Dataset:
    """Batches of (float32 [B, size, size, 3], float32 [B, classes]) in `order`, decoded on all cores, prefetched."""
    import tensorflow as tf

    names, labels = tf.constant([str(path) for path in paths]), tf.constant(targets)

    def example(index: tf.Tensor, flip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        picture = load(names[index], preprocessing)
        return tf.cond(flip, lambda: tf.reverse(picture, [1]), lambda: picture), labels[index]

    flat = tf.data.Dataset.from_tensor_slices((order.index.ravel(), order.flip.ravel()))
    batches = flat.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.batch(order.index.shape[1], drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def feature_batches(features: npt.NDArray[np.float32], targets: npt.NDArray[np.float32],
                    order: Order) -> tf.data.Dataset:
    """Like `training_batches`, on trunk outputs: float32 [2, N, …], the second half those of the flipped pictures."""
    import tensorflow as tf

    cached, labels = tf.constant(features), tf.constant(targets)

    def batch(index: tf.Tensor, flip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather_nd(cached, tf.stack([tf.cast(flip, tf.int64), index], axis=1)), tf.gather(labels, index)

    return tf.data.Dataset.from_tensor_slices((order.index, order.flip)).map(batch).prefetch(tf.data.AUTOTUNE)


def picture_batches(paths: Sequence[Path], batch_size: int, preprocessing: Preprocessing,
                    mirrored: bool = False) -> tf.data.Dataset:
    """Batches of float32 [≤ batch_size, size, size, 3] for inference: the pictures in the order of `paths`.

    mirrored: each is followed by its mirror image (batch_size has to be even); it is decoded only once.
    """
    import tensorflow as tf

    def views(path: tf.Tensor) -> tf.Tensor:
        picture = load(path, preprocessing)
        return tf.stack([picture, tf.reverse(picture, [1])] if mirrored else [picture])

    shape = [-1, preprocessing.size, preprocessing.size, 3]
    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    pictures = names.map(views, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = pictures.batch(batch_size // 2 if mirrored else batch_size)
    return batches.map(lambda batch: tf.reshape(batch, shape)).prefetch(tf.data.AUTOTUNE)


@contextmanager
def naming_broken_pictures(paths: Sequence[Path], preprocessing: Preprocessing) -> Iterator[None]:
    """Around code that reads `paths` through tf.data, which knows no file names: its decoding errors get one."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        for path in paths:
            try:
                decode(tf.constant(path.read_bytes()), preprocessing)
            except OSError as unreadable:
                raise DataError(f"{path}: cannot be read ({unreadable.strerror})") from error
            except tf.errors.InvalidArgumentError:
                raise DataError(f"{path}: not a whole JPEG, PNG, BMP or GIF picture; `voc-data check` lists every such "
                                "file") from error
        raise
