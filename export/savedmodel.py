"""The form for TensorFlow: a SavedModel with its signatures, and warm-up requests.

The signatures are one graph of decoding, preprocessing and network behind names and dtypes that never change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from voc_cls.data.preprocessing import decode, preprocess
from voc_cls.model_metadata import EXPLAIN_TENSORS, IMAGE_FEATURE, Views, signatures_of
from voc_cls.nets.explained import explained
from voc_cls.training.trained_run import TrainedRun

ACTIVATIONS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax}
"""By Task.activation: logits [N, C] → probabilities [N, C]."""
WARMUP_SIZES = (1, 4)
"""Images of the warm-up requests."""
EXIF_ON_A_SIDE = (b"\xff\xe1\x00\x22Exif\0\0" + b"MM\0*\0\0\0\x08"
                  b"\0\x01" b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" b"\0\0\0\0")
"""A JPEG's segment: orientation 6."""


def write_savedmodel(folder: Path, trained: TrainedRun, name: str, views: Views) -> None:
    """Writes the SavedModel of the model `name` and its warm-up requests into `folder`, which must not exist.

    views: Those of its `predict_augmented`.

    A server runs the requests before it takes others: `serving_default` with each of the batch sizes, in a TFRecord
    file of tensorflow.serving.PredictionLog, as TensorFlow Serving's documentation has it.
    """
    module = ExportedModel(trained, views)
    tf.saved_model.save(module, str(folder), signatures=module.signatures())
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name("classify", "tensorflow/serving/classify")
    updater.save()
    warm_up, images = folder / "assets.extra" / "tf_serving_warmup_requests", encoded_images()
    warm_up.parent.mkdir()
    with tf.io.TFRecordWriter(str(warm_up)) as writer:
        for size in WARMUP_SIZES:
            request = predict_pb2.PredictRequest(
                model_spec={"name": name, "signature_name": "serving_default"},
                inputs={"image_bytes": tf.make_tensor_proto(images[:size], shape=[size])})
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


class ExportedModel(tf.Module):  # type: ignore[misc]
    """The module that is saved: the network's variables and the functions of the signatures.

    The variables are tracked as TensorFlow's own, not through the Keras model: through it each would get two nodes in
    the graph, and loaders that go by the graph (TensorFlow Serving's) would restore the one that no signature reads.
    """

    def __init__(self, trained: TrainedRun, views: Views) -> None:
        """views: with several, there is `predict_augmented` too; with several sizes, the network takes all sizes."""
        super().__init__(name="voc_cls")
        network = trained.network
        self.variables_by_name = {variable.path: variable.value for variable in network.model.variables}
        model = network.at_any_size() if len(views.sizes) > 1 else network.model
        self._logits: Callable[[tf.Tensor], tf.Tensor] = lambda inputs: model(inputs, training=False)
        self._explained: Callable[[tf.Tensor], list[tf.Tensor]] = partial(explained(network), training=False)
        self.labels = tf.constant(trained.labels)
        self._activation = ACTIVATIONS[trained.task.activation]
        self._preprocessing, self._views = network.spec.preprocessing, views

    def signatures(self) -> dict[str, Any]:
        """Name → concrete function; their inputs and outputs are those of SIGNATURES."""
        own = self._preprocessing.size
        size = own if len(self._views.sizes) == 1 else None
        shapes = {"predict_images": [None, None, None, 3], "predict_tensors": [None, size, size, 3],
                  EXPLAIN_TENSORS: [None, own, own, 3]}
        functions: dict[str, Any] = {}
        for name, signature in signatures_of(self._views.number > 1, explains=True).items():
            taken = tf.TensorSpec(shapes.get(name, [None]), tf.as_dtype(signature.dtype), signature.input)
            functions[name] = tf.function(getattr(self, name), jit_compile=False).get_concrete_function(taken)
        return functions

    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """JPEG, PNG, BMP or GIF bytes [N] → probabilities [N, C]."""
        return {"probabilities": self._probabilities(self._decoded(image_bytes))}

    def predict_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 RGB [N, H, W, 3], any H and W → probabilities [N, C]."""
        return {"probabilities": self._probabilities(preprocess(images, self._preprocessing))}

    def predict_tensors(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """float32 [N, size, size, 3], as `preprocess` gives them → probabilities and logits [N, C]."""
        logits = self._logits(inputs)
        return {"probabilities": self._activation(logits), "logits": logits}

    def predict_augmented(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded images [N] → probabilities and logits [N, C]: the mean of the logits of all views."""
        inputs = [self._decoded(image_bytes, size) for size in self._views.sizes]
        mirrored = [images[:, :, ::-1] for images in inputs] if self._views.mirrored else []
        logits = [self._logits(view) for view in (*inputs, *mirrored)]
        mean = tf.add_n(logits) / len(logits)
        return {"probabilities": self._activation(mean), "logits": mean}

    def preprocess(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded images [N] → inputs float32 [N, size, size, 3]."""
        return {"inputs": self._decoded(image_bytes)}

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.Examples [N] with the image under `image/encoded` → scores and classes [N, C]."""
        features = tf.io.parse_example(inputs, {IMAGE_FEATURE: tf.io.FixedLenFeature([], tf.string)})
        scores = self._probabilities(self._decoded(features[IMAGE_FEATURE]))
        return {"scores": scores, "classes": tf.tile(self.labels[None], [tf.shape(scores)[0], 1])}

    def explain(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded images [N] → probabilities [N, C] and heat maps [N, C, h, w]."""
        outputs = self.explain_tensors(self._decoded(image_bytes))
        return {name: outputs[name] for name in ("probabilities", "heat_maps")}

    def embed(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded images [N] → embedding [N, D]."""
        return {"embedding": self.explain_tensors(self._decoded(image_bytes))["embedding"]}

    def explain_tensors(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """float32 [N, size, size, 3] → all outputs."""
        logits, heat_maps, embedding = self._explained(inputs)
        return {"probabilities": self._activation(logits), "logits": logits, "heat_maps": heat_maps,
                "embedding": embedding}

    def _probabilities(self, inputs: tf.Tensor) -> tf.Tensor:
        return self._activation(self._logits(inputs))

    def _decoded(self, image_bytes: tf.Tensor, size: int | None = None) -> tf.Tensor:
        """In the network's own size or another."""
        settings = replace(self._preprocessing, size=size or self._preprocessing.size)
        return tf.map_fn(lambda encoded: preprocess(decode(encoded, settings), settings), image_bytes,
                         fn_output_signature=tf.TensorSpec([settings.size, settings.size, 3], tf.float32))


def random_image(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """A smooth random image, uint8 [height, width, 3] RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height)))


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
