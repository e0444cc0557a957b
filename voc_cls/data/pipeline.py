"""The input pipeline: which picture comes when, and the tf.data graph that reads, decodes, varies and batches it.

The order is a table computed beforehand from the seed alone, and everything random about an example follows from its
number in that table. So nothing depends on threads, on how fast the disk is, or on whether a run was interrupted: step
k always sees the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.preprocessing import Preprocessing, decode, resize
from voc_cls.data.transforms import flip, resample
from voc_cls.errors import DataError, UsageError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Order:
    """What each training step sees: picture `index` as its `draw` makes it, both int64 [steps, batch], ≥ 0.

    A draw is the seed of everything random about an example; its lowest bits are the flips (transforms.py).
    """

    index: npt.NDArray[np.int64]
    draw: npt.NDArray[np.int64]

    @property
    def steps(self) -> int:
        """Number of training steps."""
        return len(self.index)

    def steps_between(self, first: int, last: int) -> Order:
        """The steps from `first` up to, not including, `last`."""
        return Order(self.index[first:last], self.draw[first:last])

    def shard(self, rank: int, hosts: int) -> Order:
        """The part of every batch that host `rank` of `hosts` trains on: the rank-th block, as devices take them.

        UsageError where the batches cannot be split evenly. mixup and CutMix mix within a part.
        """
        batch_size = self.index.shape[1]
        if batch_size % hosts:
            raise UsageError(f"--batch-size {batch_size}: cannot be split evenly among --hosts {hosts}; choose a "
                             f"multiple of {hosts}")
        block = slice(rank * batch_size // hosts, (rank + 1) * batch_size // hosts)
        return Order(self.index[:, block], self.draw[:, block])


def shuffled_order(pictures: int, steps: int, batch_size: int, seed: int) -> Order:
    """Every picture once per epoch in a new random order, with new draws.

    A batch may span two epochs, so each has `batch_size` pictures.
    """
    index, draws = [], []
    for epoch in range(-(-steps * batch_size // pictures)):
        random = np.random.default_rng([seed, epoch])
        index.append(random.permutation(pictures))
        draws.append(random.integers(2**62, size=pictures))

    def batches(epochs: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        return np.concatenate(epochs)[:steps * batch_size].reshape(steps, batch_size)

    return Order(batches(index), batches(draws))


def decoded(path: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Path of a picture (string scalar) → float32 [size, size, 3], resized, 0-255."""
    import tensorflow as tf

    return resize(decode(tf.io.read_file(path), preprocessing), preprocessing)


def training_batches(paths: Sequence[Path], targets: npt.NDArray[np.float32], order: Order,
                     preprocessing: Preprocessing, augmentation: Augmentation, pictures: Any = None
                     ) -> tf.data.Dataset:
    """Batches of (float32 [B, size, size, 3], float32 [B, classes]) in `order`, made on all cores, prefetched.

    pictures: what `pictures[i]` gives instead of reading paths[i]: float32 [size, size, 3], resized, 0-255, as from
    `decoded_pictures`; the batches are the same, bit for bit. With mixup or CutMix, targets are weights.
    """
    import tensorflow as tf

    names, labels = tf.constant([str(path) for path in paths]), tf.constant(targets)
    vary = _variation(preprocessing, augmentation)

    def kept(index: tf.Tensor) -> tf.Tensor:  # a copy: TensorFlow may write into what NumPy gives it
        row = tf.numpy_function(lambda number: np.array(pictures[number]), [index], tf.float32, stateful=False)
        return tf.ensure_shape(row, [preprocessing.size, preprocessing.size, 3])

    def example(index: tf.Tensor, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        picture = decoded(names[index], preprocessing) if pictures is None else kept(index)
        return vary(picture, draw), labels[index], draw

    flat = tf.data.Dataset.from_tensor_slices((order.index.ravel(), order.draw.ravel()))
    examples = flat.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(order.index.shape[1], drop_remainder=True)
    if augmentation.mixes:
        from voc_cls.data.mixup import mixer

        batches = batches.map(mixer(augmentation), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    else:
        batches = batches.map(lambda images, labels, _: (images, labels))
    return _one_thread_each(batches)


def view_batches(paths: Sequence[Path], draws: Sequence[Sequence[int]], batch_size: int, preprocessing: Preprocessing,
                 augmentation: Augmentation) -> tf.data.Dataset:
    """Batches of float32 [≤ batch_size, size, size, 3]: of paths[i] the variants draws[i], then of the next picture.

    Each picture is decoded once. A draw of 0 is the picture as it is where flips are all there is.
    """
    import tensorflow as tf

    vary = _variation(preprocessing, augmentation)
    shape = tf.TensorSpec([preprocessing.size, preprocessing.size, 3], tf.float32)

    def views(path: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        picture = decoded(path, preprocessing)
        return tf.map_fn(lambda draw: vary(picture, draw), draws, fn_output_signature=shape)

    wanted = [str(path) for path in paths], tf.ragged.constant(draws, tf.int64, ragged_rank=1)
    pictures = tf.data.Dataset.from_tensor_slices(wanted).map(views, tf.data.AUTOTUNE, deterministic=True)
    batches = -(-sum(map(len, draws)) // batch_size)  # rebatch forgets how many, and Keras warns at the end
    counted = pictures.rebatch(batch_size).apply(tf.data.experimental.assert_cardinality(batches))
    return _one_thread_each(counted)


def picture_batches(paths: Sequence[Path], batch_size: int, preprocessing: Preprocessing,
                    mirrored: bool = False) -> tf.data.Dataset:
    """Batches of float32 [≤ batch_size, size, size, 3] for inference: the pictures in the order of `paths`.

    mirrored: each is followed by its mirror image.
    """
    return view_batches(paths, [[0, 1] if mirrored else [0]] * len(paths), batch_size, preprocessing,
                        Augmentation(horizontal=mirrored))


def _variation(preprocessing: Preprocessing, augmentation: Augmentation
               ) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(float32 [size, size, 3], 0-255, draw) → the variant with that draw, normalised as by `preprocess`.

    Mean and divisor are pictures: to spread three numbers over a picture takes TensorFlow 0.3 ms instead of 0.1.
    """
    import tensorflow as tf

    def spread(numbers: tuple[float, float, float]) -> tf.Tensor:
        with tf.device("CPU"):
            return tf.broadcast_to(tf.constant(numbers, tf.float32), [preprocessing.size, preprocessing.size, 3])

    mean = spread(preprocessing.mean)
    std = None if preprocessing.std == (1.0, 1.0, 1.0) else spread(preprocessing.std)

    def vary(picture: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:  # flips last: what comes before works in place
        shifted = resample(picture, draw, augmentation) - mean
        return flip(shifted if std is None else shifted / std, draw, augmentation)

    return vary


def _one_thread_each(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetched. There is a picture for every core; to split one among them as well only costs (7 %)."""
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


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
