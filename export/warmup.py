"""Generated example images, and the warm-up records that a server runs through a model before it takes requests.

assets.extra/tf_serving_warmup_requests is a TFRecord file of tensorflow.serving.PredictionLog, as TensorFlow Serving's
warm-up documentation describes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

BATCH_SIZES = (1, 4)
EXIF_ON_A_SIDE = (b"\xff\xe1\x00\x22Exif\0\0" + b"MM\0*\0\0\0\x08"
                  b"\0\x01" b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" b"\0\0\0\0")
"""A JPEG's segment: orientation 6."""


def random_image(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """A smooth random image, uint8 [height, width, 3] RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.float32)
    return np.asarray(tf.cast(tf.image.resize(coarse, [height, width], "bicubic") + 0.5, tf.int32)
                      ).clip(0, 255).astype(np.uint8)


def encoded_images() -> list[bytes]:
    """A colour JPEG, a tall one, a greyscale JPEG, a PNG, a JPEG that lies on a side and a transparent PNG."""
    lying = tf.io.encode_jpeg(random_image(96, 128, 5)).numpy()
    transparent = np.concatenate([random_image(96, 128, 6), random_image(96, 128, 7)[:, :, :1]], axis=2)
    return [
        tf.io.encode_jpeg(random_image(375, 500, 0), quality=90).numpy(),
        tf.io.encode_jpeg(random_image(500, 333, 1), quality=75).numpy(),
        tf.io.encode_jpeg(random_image(240, 320, 2)[:, :, :1], quality=90).numpy(),
        tf.io.encode_png(random_image(224, 224, 3)).numpy(),
        lying[:2] + EXIF_ON_A_SIDE + lying[2:],
        tf.io.encode_png(transparent).numpy(),
    ]


def write_warmup(path: Path, model_name: str) -> None:
    """Writes a `serving_default` request for each of the batch sizes."""
    images = encoded_images()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in BATCH_SIZES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = "serving_default"
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(images[:size], shape=[size]))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
