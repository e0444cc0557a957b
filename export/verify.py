"""Is what was written the model that was trained? Asked of the files on disk, before they get their name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.samples import encoded_samples, scene
from voc_cls.data.preprocessing import decode, preprocess
from voc_cls.errors import ExportError
from voc_cls.nets.network import Network

TOLERANCE = 1e-5  # of a probability: the same float32 kernels, possibly fused differently
SIGNATURES = {  # name → (inputs, outputs), each name → dtype
    "serving_default": ({"image_bytes": tf.string}, {"probabilities": tf.float32}),
    "predict_images": ({"images": tf.uint8}, {"probabilities": tf.float32}),
    "predict_tensors": ({"inputs": tf.float32}, {"probabilities": tf.float32, "logits": tf.float32}),
    "preprocess": ({"image_bytes": tf.string}, {"inputs": tf.float32}),
    "classify": ({"examples": tf.string}, {"scores": tf.float32, "classes": tf.string}),
}


def verify(version: Path, network: Network, labels: tuple[str, ...]) -> float:
    """Reloads the SavedModel in `version` and runs the same pictures through it and through `network`.

    Returns the largest difference of a probability over all signatures; ExportError where it is above 1e-5 or the
    signatures or labels are not what they should be.
    """
    loaded = tf.saved_model.load(str(version))
    for name, (inputs, outputs) in SIGNATURES.items():
        signature = loaded.signatures.get(name)
        if signature is None:
            raise ExportError(f"{version}: the signature {name} is missing after reloading")
        found = ({key: spec.dtype for key, spec in signature.structured_input_signature[1].items()},
                 {key: spec.dtype for key, spec in signature.structured_outputs.items()})
        if found != (inputs, outputs):
            raise ExportError(f"{version}: the signature {name} has {found}, expected {(inputs, outputs)}")
    written = json.loads((version / "assets" / "voc_cls.json").read_text(encoding="utf-8"))["labels"]
    if tuple(written) != labels or (version / "assets" / "labels.txt").read_text().split("\n")[:-1] != list(labels):
        raise ExportError(f"{version}: its labels are {written}, the run has {list(labels)}")
    difference = _largest_difference(loaded.signatures, network)
    if not difference <= TOLERANCE:
        raise ExportError(f"{version}: probabilities differ by {difference:.1e} from the trained network's, more than "
                          f"{TOLERANCE:.0e}; the export is not usable")
    return difference


def _largest_difference(signatures: dict[str, tf.types.experimental.ConcreteFunction], network: Network) -> float:
    settings = network.spec.preprocessing
    pictures = encoded_samples()
    inputs = tf.stack([preprocess(decode(tf.constant(picture), settings), settings) for picture in pictures])
    expected = tf.sigmoid(network.model(inputs, training=False)).numpy()
    image = scene(300, 400, 4)[None]
    expected_image = tf.sigmoid(network.model(preprocess(image, settings), training=False)).numpy()
    examples = [tf.train.Example(features=tf.train.Features(feature={
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))})).SerializeToString()
        for picture in pictures]
    pairs = [
        (signatures["serving_default"](image_bytes=tf.constant(pictures))["probabilities"], expected),
        (signatures["predict_tensors"](inputs=inputs)["probabilities"], expected),
        (signatures["classify"](examples=tf.constant(examples))["scores"], expected),
        (signatures["predict_images"](images=tf.constant(image))["probabilities"], expected_image),
        (signatures["preprocess"](image_bytes=tf.constant(pictures))["inputs"], inputs.numpy()),
    ]
    return max(float(np.abs(found.numpy() - wanted).max()) for found, wanted in pairs)
