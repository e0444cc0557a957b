"""A cache of decoded and resized images, in memory or on disk: for machines that train faster than they decode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.data.pipeline import decoded
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.errors import UsageError
from voc_cls.files import file_digests

BATCH_SIZE = 64
"""Images written to disk at a time."""


def cached_images(paths: Sequence[Path], preprocessing: Preprocessing, cache: Literal["none", "memory", "disk"],
                  folder: Path, limit_bytes: float, say: Callable[[str], object]
                  ) -> npt.NDArray[np.float32] | CachedRows | None:
    """float32 [N, size, size, 3], 0-255, of the images at `paths`, for `training_batches`; None for cache "none".

    Args:
        paths: the image files.
        preprocessing: of the network; only how images are decoded and resized matters.
        cache: memory: decoded now. disk: in a cache that later runs use too.
        folder: of that cache.
        limit_bytes: of everything in the folder.
        say: is called with sentences for people.

    Raises:
        UsageError: the machine has too little memory.
        DataError: the disk has too little space.
    """
    if cache == "none":
        return None
    import tensorflow as tf

    shape = preprocessing.size, preprocessing.size, 3
    if cache == "disk":
        key = {"decoded": {**preprocessing.to_dict(), "mean": None}, "tensorflow": tf.__version__}
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
    """The images in their order, in batches."""
    import tensorflow as tf

    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    images = names.map(lambda path: decoded(path, preprocessing), tf.data.AUTOTUNE, deterministic=True)
    yield from images.batch(BATCH_SIZE).prefetch(1).as_numpy_iterator()
