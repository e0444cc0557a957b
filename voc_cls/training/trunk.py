"""A frozen trunk's outputs, computed once: afterwards only what is trained has to run in every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from voc_cls.data.pipeline import picture_batches
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.training.callbacks import PredictionProgress

BATCH_SIZE = 32


def feature_bytes(trunk: keras.Model, pictures: int) -> int:
    """Memory that the outputs take, float32."""
    return int(np.prod(trunk.output_shape[1:])) * pictures * 4


def trunk_features(trunk: keras.Model, paths: Sequence[Path], preprocessing: Preprocessing,
                   flip: bool) -> npt.NDArray[np.float32]:
    """float32 [views, N, …]: the trunk's outputs for every picture and, with `flip`, for its mirror image."""
    views = 1 + flip
    batches = picture_batches(paths, BATCH_SIZE, preprocessing, mirrored=flip)
    with PredictionProgress("trunk", len(paths) * views) as progress:
        outputs = trunk.predict(batches, verbose=0, callbacks=[progress])
    by_picture = np.asarray(outputs, np.float32).reshape(len(paths), views, *trunk.output_shape[1:])
    return np.ascontiguousarray(by_picture.swapaxes(0, 1))
