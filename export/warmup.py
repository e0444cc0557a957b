"""assets.extra/tf_serving_warmup_requests: what a server runs through a model before it takes requests.

Format: a TFRecord file of tensorflow.serving.PredictionLog, as TensorFlow Serving's warm-up documentation has it.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export.samples import encoded_samples

BATCH_SIZES = (1, 4)


def write_warmup(path: Path, model_name: str) -> None:
    """Writes a `serving_default` request for each of the batch sizes."""
    pictures = encoded_samples()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in BATCH_SIZES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = "serving_default"
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(pictures[:size], shape=[size]))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
