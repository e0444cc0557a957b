"""Generated pictures for the warm-up records and the verification: every format that the signatures take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf


def scene(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """A smooth random picture, uint8 [height, width, 3] RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.float32)
    return np.asarray(tf.cast(tf.image.resize(coarse, [height, width], "bicubic") + 0.5, tf.int32)
                      ).clip(0, 255).astype(np.uint8)


def encoded_samples() -> list[bytes]:
    """A colour JPEG, a tall one, a greyscale JPEG and a PNG."""
    return [
        tf.io.encode_jpeg(scene(375, 500, 0), quality=90).numpy(),
        tf.io.encode_jpeg(scene(500, 333, 1), quality=75).numpy(),
        tf.io.encode_jpeg(scene(240, 320, 2)[:, :, :1], quality=90).numpy(),
        tf.io.encode_png(scene(224, 224, 3)).numpy(),
    ]
