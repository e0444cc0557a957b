"""The form for TensorFlow: a SavedModel with its signatures, its assets, and warm-up requests."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export.metadata import metadata_of, write_assets
from export.signatures import METHODS, ExportedModel
from export.verify import encoded_images
from voc_cls.model_metadata import Views
from voc_cls.training.trained_run import TrainedRun

WARMUP_SIZES = (1, 4)
"""Images of the warm-up requests."""


def write_savedmodel(folder: Path, trained: TrainedRun, name: str, views: Views) -> None:
    """Writes the SavedModel of the model `name` and the warm-up records into `folder`, which must not exist; `views`:
    those of its `predict_augmented`."""
    with tempfile.TemporaryDirectory() as assets:
        module = ExportedModel(trained, views, *write_assets(Path(assets), metadata_of(trained)))
        tf.saved_model.save(module, str(folder), signatures=module.signatures())
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for signature, method in METHODS.items():
        updater.replace_method_name(signature, method)
    updater.save()
    extra = folder / "assets.extra"
    extra.mkdir()
    write_warmup(extra / "tf_serving_warmup_requests", name)


def write_warmup(path: Path, model_name: str) -> None:
    """Writes a `serving_default` request for each of the batch sizes, which a server runs before it takes requests.

    The file is a TFRecord file of tensorflow.serving.PredictionLog, as TensorFlow Serving's documentation has it.
    """
    images = encoded_images()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in WARMUP_SIZES:
            request = predict_pb2.PredictRequest(
                model_spec={"name": model_name, "signature_name": "serving_default"},
                inputs={"image_bytes": tf.make_tensor_proto(images[:size], shape=[size])})
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
