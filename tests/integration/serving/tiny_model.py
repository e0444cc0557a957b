"""A real SavedModel with the five signatures of an export, small enough to load in a blink.

8 × 8 inputs unless told otherwise, a linear layer of random weights on them, 20 labels. Nothing of it is voc_cls': the
server must serve what the format says, not what the library does.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

SIZE = 8
MEAN = (123.68, 116.78, 103.94)
LABELS = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
          "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")


class TinyModel(tf.Module):  # type: ignore[misc]
    """`seconds` is how long each run of the network takes at least, whatever the batch size. `pooled`: the layer is on
    the mean colour.
    """

    def __init__(self, seed: int, seconds: float, size: int, assets: list[Path], activation: str = "sigmoid",
                 pooled: bool = False) -> None:
        super().__init__()
        self.activation = {"sigmoid": tf.sigmoid, "softmax": tf.nn.softmax}[activation]
        self.size = size
        generator = np.random.default_rng(seed)
        self.pooled = pooled
        self.kernel = tf.Variable(generator.normal(0, 0.003, (3 if pooled else size * size * 3, len(LABELS))),
                                  dtype=tf.float32)
        self.bias = tf.Variable(generator.normal(0, 1, len(LABELS)), dtype=tf.float32)
        self.labels = tf.constant(LABELS)
        self.assets = [tf.saved_model.Asset(str(path)) for path in assets]
        self.seconds = seconds

    def network(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.seconds:
            end = tf.timestamp() + self.seconds
            with tf.control_dependencies(tf.while_loop(lambda _: tf.timestamp() < end, lambda n: (n + 1,), (0,))):
                inputs = tf.identity(inputs)
        features = tf.reduce_mean(inputs, [1, 2]) if self.pooled else inputs
        return tf.reshape(features, [-1, self.kernel.shape[0]]) @ self.kernel + self.bias

    def prepared(self, images: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(tf.cast(images, tf.float32), [self.size, self.size]) - tf.constant(MEAN)

    def decoded(self, image_bytes: tf.Tensor) -> tf.Tensor:
        def pixels(one: tf.Tensor) -> tf.Tensor:
            return tf.cond(tf.strings.substr(one, 0, 3) == b"\xff\xd8\xff",
                           lambda: tf.io.decode_jpeg(one, channels=3, dct_method="INTEGER_ACCURATE"),
                           lambda: tf.io.decode_image(one, channels=3, expand_animations=False))

        return tf.map_fn(lambda one: self.prepared(pixels(one)), image_bytes,
                         fn_output_signature=tf.TensorSpec([self.size, self.size, 3], tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])  # type: ignore[untyped-decorator]
    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": self.activation(self.network(self.decoded(image_bytes)))}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])  # type: ignore[untyped-decorator]
    def predict_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": self.activation(self.network(self.prepared(images)))}

    def predict_tensors(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self.network(inputs)
        return {"probabilities": self.activation(logits), "logits": logits}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])  # type: ignore[untyped-decorator]
    def preprocess(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"inputs": self.decoded(image_bytes)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])  # type: ignore[untyped-decorator]
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
        scores = self.activation(self.network(self.decoded(features["image/encoded"])))
        return {"scores": scores, "classes": tf.tile(self.labels[None], [tf.shape(scores)[0], 1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])  # type: ignore[untyped-decorator]
    def old_classify(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        scores: dict[str, tf.Tensor] = self.classify(examples)
        return scores

    def functions(self) -> dict[str, Any]:
        """Signature name → function."""
        inputs = tf.TensorSpec([None, self.size, self.size, 3], tf.float32, "inputs")
        return {"predict_tensors": tf.function(self.predict_tensors, input_signature=[inputs]),
                **{name: getattr(self, name) for name in SIGNATURES if name != "predict_tensors"}}


SIGNATURES = ("serving_default", "predict_images", "predict_tensors", "preprocess", "classify")


def export_tiny_model(version_folder: Path, *, seed: int = 0, seconds: float = 0, size: int = SIZE,
                      without: str | None = None, activation: str = "sigmoid", old: bool = False,
                      pooled: bool = False) -> Path:
    """Writes a version as voc-export does, or as it did up to 0.4 (`old`); `without` leaves a signature out."""
    with tempfile.TemporaryDirectory() as folder:
        assets = [Path(folder) / "labels.txt", Path(folder) / "voc_cls.json"]
        assets[0].write_text("".join(f"{label}\n" for label in LABELS))
        assets[1].write_text(json.dumps(metadata(size, activation)))
        model = TinyModel(seed, seconds, size, assets, activation, pooled)
        signatures = {name: function for name, function in model.functions().items() if name != without}
        if old:
            signatures["classify"] = model.old_classify
        tf.saved_model.save(model, str(version_folder), signatures=signatures)
    if not old and without != "classify":
        updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(version_folder))
        updater.replace_method_name("classify", "tensorflow/serving/classify")
        updater.save()
    return version_folder


def metadata(size: int = SIZE, activation: str = "sigmoid") -> dict[str, Any]:
    """The content of assets/voc_cls.json."""
    return {"format": 1, "net": "tiny", "head": "linear", "labels": list(LABELS), "activation": activation,
            "thresholds": dict.fromkeys(LABELS, 0.5) if activation == "sigmoid" else {},
            "preprocessing": {"size": size, "mean": list(MEAN), "channels": "RGB", "resize": "bilinear",
                              "jpeg_dct": "INTEGER_ACCURATE"},
            "weights_digest": "", "metrics": None, "voc_cls_version": "0"}
