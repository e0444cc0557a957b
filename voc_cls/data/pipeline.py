"""The input pipeline: the order of the images, the tf.data graph that reads, decodes, varies and batches them, a cache.

The order is a table computed beforehand from the seed alone, and everything random about an example follows from its
number in that table. So nothing depends on threads, on the speed of the disk, or on whether a run was interrupted: step
k always sees the same pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console

from voc_cls.console import progress_bar
from voc_cls.data.augmentation import Augmentation
from voc_cls.data.check import decode_all
from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.data.preprocessing import decode_file, resize
from voc_cls.data.transforms import crop, flip, resample
from voc_cls.errors import DataError, UsageError
from voc_cls.files import file_digests
from voc_cls.image_decoder import Preprocessing

if TYPE_CHECKING:
    import tensorflow as tf

CACHE_BATCH = 64
"""Decoded images written to a cache at a time."""


@dataclass(frozen=True)
class Order:
    """The input of each training step: image `index`, varied by `draw`, both int64 [steps, batch], ≥ 0.

    A draw is the seed of everything random about an example; its lowest bits are the flips (transforms.py).
    """

    index: npt.NDArray[np.int64]
    draw: npt.NDArray[np.int64]

    @property
    def steps(self) -> int:
        return len(self.index)

    def steps_between(self, first: int, last: int) -> Order:
        """The steps from `first` up to, not including, `last`."""
        return Order(self.index[first:last], self.draw[first:last])

    def shard(self, rank: int, hosts: int) -> Order:
        """The part of every batch that host `rank` of `hosts` trains on: the rank-th block, as on devices.

        UsageError where the batches cannot be split evenly. mixup and CutMix mix within a part.
        """
        batch_size = self.index.shape[1]
        if batch_size % hosts:
            raise UsageError(f"`batch_size` {batch_size}: cannot be split evenly among `hosts` {hosts}; choose a "
                             f"multiple of {hosts}")
        block = slice(rank * batch_size // hosts, (rank + 1) * batch_size // hosts)
        return Order(self.index[:, block], self.draw[:, block])


def shuffled_order(images: int, steps: int, batch_size: int, seed: int) -> Order:
    """Every one of `images` once per epoch, in a new random order and with new draws; the same for the same seed.

    A batch may span two epochs, so each has `batch_size` images.
    """
    index, draws = [], []
    for epoch in range(-(-steps * batch_size // images)):
        random = np.random.default_rng([seed, epoch])
        index.append(random.permutation(images))
        draws.append(random.integers(2**62, size=images))

    def batches(epochs: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        return np.concatenate(epochs)[:steps * batch_size].reshape(steps, batch_size)

    return Order(batches(index), batches(draws))


def training_batches(paths: Sequence[Path], targets: npt.NDArray[np.float32], order: Order,
                     preprocessing: Preprocessing, augmentation: Augmentation, cached: Any = None
                     ) -> tf.data.Dataset:
    """Batches of (float32 [B, size, size, 3], float32 [B, classes]) in `order`, made on all cores and prefetched.

    With mixup or CutMix the targets of a batch become weights. cached: `cached[i]` is used instead of reading paths[i]:
    float32 [size, size, 3], resized, 0-255, as from `cached_images`; the batches are the same, bit for bit. Not for
    crops, which are made before an image is resized.
    """
    import tensorflow as tf

    names, labels = tf.constant([str(path) for path in paths]), tf.constant(targets)
    vary = _variation(preprocessing, augmentation)

    def from_cache(index: tf.Tensor) -> tf.Tensor:  # a copy: TensorFlow may write into NumPy's memory
        row = tf.numpy_function(lambda number: np.array(cached[number]), [index], tf.float32, stateful=False)
        return tf.ensure_shape(row, [preprocessing.size, preprocessing.size, 3])

    def example(index: tf.Tensor, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if cached is None:
            image = resize(crop(decode_file(names[index], preprocessing), draw, augmentation), preprocessing)
        else:
            image = from_cache(index)
        return vary(image, draw), labels[index], draw

    flat = tf.data.Dataset.from_tensor_slices((order.index.ravel(), order.draw.ravel()))
    examples = flat.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(order.index.shape[1], drop_remainder=True)
    if augmentation.mixes:
        from voc_cls.data.mixup import mixer

        batches = batches.map(mixer(augmentation), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    else:
        batches = batches.map(lambda images, labels, _: (images, labels))
    return prefetched(batches)


def view_batches(paths: Sequence[Path], draws: Sequence[Sequence[int]], batch_size: int, preprocessing: Preprocessing,
                 augmentation: Augmentation) -> tf.data.Dataset:
    """Batches of float32 [≤ batch_size, size, size, 3]: the variants of the first image, then those of the next.

    Each image is decoded once. draws: for each of them, those of its variants; with flips alone, draw 0 is the
    unchanged image.
    """
    import tensorflow as tf

    vary = _variation(preprocessing, augmentation)
    shape = tf.TensorSpec([preprocessing.size, preprocessing.size, 3], tf.float32)

    def views(path: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        image = decode_file(path, preprocessing)
        return tf.map_fn(lambda draw: vary(resize(crop(image, draw, augmentation), preprocessing), draw), draws,
                         fn_output_signature=shape)

    names = [str(path) for path in paths]
    images = tf.data.Dataset.from_tensor_slices((names, tf.ragged.constant(draws, tf.int64, ragged_rank=1)))
    variants = images.map(views, tf.data.AUTOTUNE, deterministic=True)
    batches = -(-sum(map(len, draws)) // batch_size)  # rebatch loses the number, and Keras would warn at the end
    counted = variants.rebatch(batch_size).apply(tf.data.experimental.assert_cardinality(batches))
    return prefetched(counted)


def image_batches(paths: Sequence[Path], batch_size: int, preprocessing: Preprocessing,
                  mirrored: bool = False) -> tf.data.Dataset:
    """Batches of float32 [≤ batch_size, size, size, 3] for inference: the images in the order of `paths`.

    mirrored: each is followed by its mirror image.
    """
    return view_batches(paths, [[0, 1] if mirrored else [0]] * len(paths), batch_size, preprocessing,
                        Augmentation(horizontal=mirrored))


def cached_images(paths: Sequence[Path], preprocessing: Preprocessing, cache: Literal["none", "memory", "disk"],
                  folder: Path, limit_bytes: float, say: Callable[[str], object]
                  ) -> npt.NDArray[np.float32] | CachedRows | None:
    """float32 [N, size, size, 3], 0-255, of the images at `paths`, for machines that train faster than they decode.

    None for cache "none". memory: decoded now, UsageError where the machine has too little. disk: in a cache that later
    runs use too, of at most `limit_bytes`; DataError where there is no space. say: is called with sentences for people.
    """
    if cache == "none":
        return None
    import tensorflow as tf

    shape = preprocessing.size, preprocessing.size, 3
    if cache == "disk":
        key = {"decoded": {**asdict(preprocessing), "mean": None}, "tensorflow": tf.__version__}
        return FeatureCache(folder, limit_bytes / 1e9, say).rows(
            key, file_digests(paths), shape, np.float32,
            lambda missing: _decode([paths[number] for number in missing], preprocessing), "decoded pictures")
    needed = len(paths) * int(np.prod(shape)) * np.dtype(np.float32).itemsize
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory / 2:  # the network, and everything else, needs some too
        raise UsageError(f"`cache` memory: {len(paths):,} pictures need {needed / 1e9:.1f} GB, more than half of this "
                         f"machine's {memory / 1e9:.1f} GB; choose `cache` disk")
    images = np.empty((len(paths), *shape), np.float32)
    done = 0
    for batch in _decode(paths, preprocessing):
        images[done:done + len(batch)] = batch
        done += len(batch)
    say(f"decoded pictures: {len(paths):,} in memory ({needed / 1e9:.2f} GB)")
    return images


def _decode(paths: Sequence[Path], preprocessing: Preprocessing) -> Iterator[npt.NDArray[np.float32]]:
    """The images in their order, in batches, resized, 0-255."""
    unchanged = replace(preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("decode", total=len(paths), note="pictures")
        for batch in image_batches(paths, CACHE_BATCH, unchanged).as_numpy_iterator():
            yield batch
            bar.advance(task, len(batch))


def _variation(preprocessing: Preprocessing, augmentation: Augmentation
               ) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(float32 [size, size, 3], 0-255, draw) → the variant with that draw, normalised as by `preprocess`.

    Mean and divisor are whole images: broadcasting three numbers takes TensorFlow 0.3 ms an image instead of 0.1.
    """
    import tensorflow as tf

    def spread(numbers: tuple[float, ...]) -> tf.Tensor:
        with tf.device("CPU"):
            return tf.broadcast_to(tf.constant(numbers, tf.float32), [preprocessing.size, preprocessing.size, 3])

    mean = spread(preprocessing.mean)
    std = None if preprocessing.std == (1.0, 1.0, 1.0) else spread(preprocessing.std)

    def vary(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:  # flips last: what comes before works in place
        shifted = resample(image, draw, augmentation) - mean
        return flip(shifted if std is None else shifted / std, draw, augmentation)

    return vary


def prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches, one image a core; splitting the work on an image among cores as well would cost 7 %."""
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    # the thread that tunes does not always notice its end, and who is done with the batches waits up to a minute for it
    options.autotune.enabled = False  # (TensorFlow 2.21, ~RootDataset::Iterator)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


@contextmanager
def naming_broken_images(paths: Sequence[Path]) -> Iterator[None]:
    """Around code that reads `paths` through tf.data: its decoding errors, which have no file name, get one."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise next((found for found in decode_all(paths) if isinstance(found, DataError)), error) from error
