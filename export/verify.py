"""Is what was written the model that was trained? Asked of the files on disk, before they get their name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from export.samples import encoded_samples, scene
from export.signatures import ENCODED_KEY
from voc_cls.data.dataset import Task
from voc_cls.data.preprocessing import decode, preprocess
from voc_cls.errors import ExportError
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.nets.network import Network

TOLERANCE = 1e-5  # of a probability: the same float32 kernels, possibly fused differently
SIGNATURES = {  # name → (inputs, outputs), each name → dtype
    "serving_default": ({"image_bytes": tf.string}, {"probabilities": tf.float32}),
    "predict_images": ({"images": tf.uint8}, {"probabilities": tf.float32}),
    "predict_tensors": ({"inputs": tf.float32}, {"probabilities": tf.float32, "logits": tf.float32}),
    "preprocess": ({"image_bytes": tf.string}, {"inputs": tf.float32}),
    "classify": ({"examples": tf.string}, {"scores": tf.float32, "classes": tf.string}),
}


Array = npt.NDArray[Any]
Caller = Callable[[str, Array], dict[str, Array]]
"""Runs a signature by name on its one input, and returns its outputs."""


def verify(version: Path, network: Network, labels: tuple[str, ...], task: Task) -> float:
    """Reloads the SavedModel in `version` and runs the same pictures through it and through `network`.

    Both ways of loading are tried: TensorFlow 2's, by objects, and TensorFlow Serving's, by the graph (a model can be
    well by the one and broken by the other). Returns the largest difference of an output over all signatures;
    ExportError where it is above 1e-5 or the signatures, labels or activation are not what they should be.
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
    metadata = json.loads((version / "assets" / "voc_cls.json").read_text(encoding="utf-8"))
    written = metadata["labels"]
    if tuple(written) != labels or (version / "assets" / "labels.txt").read_text().split("\n")[:-1] != list(labels):
        raise ExportError(f"{version}: its labels are {written}, the run has {list(labels)}")
    if metadata["activation"] != task.activation:
        raise ExportError(f"{version}: its activation is {metadata['activation']}, the run's is {task.activation}")
    expected = _expected(network, task)
    try:
        difference = _largest_difference(_by_objects(loaded), expected)
        with _by_graph(version) as by_graph:
            difference = max(difference, _largest_difference(by_graph, expected))
    except tf.errors.OpError as error:
        reason = error.message.strip().splitlines()[-1]
        raise ExportError(f"{version}: does not run after reloading ({reason})") from error
    if not difference <= TOLERANCE:
        raise ExportError(f"{version}: outputs differ by {difference:.1e} from the trained network's, more than "
                          f"{TOLERANCE:.0e}; the export is not usable")
    return difference


def _by_objects(loaded: Any) -> Caller:
    def call(name: str, value: Array) -> dict[str, Array]:
        (key,) = SIGNATURES[name][0]
        outputs = loaded.signatures[name](**{key: tf.constant(value)})
        return {output: tensor.numpy() for output, tensor in outputs.items()}

    return call


@contextmanager
def _by_graph(version: Path) -> Iterator[Caller]:
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # or it warns that sessions are of the old world
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(version)).signature_def

        def call(name: str, value: Array) -> dict[str, Array]:
            (key,) = SIGNATURES[name][0]
            outputs = {output: info.name for output, info in signatures[name].outputs.items()}
            values: dict[str, Array] = session.run(outputs, {signatures[name].inputs[key].name: value})
            return values

        yield call


@dataclass(frozen=True)
class Expectation:
    """What output `output` of `signature` should be for `value`."""

    signature: str
    value: Array
    output: str
    wanted: Array


def _expected(network: Network, task: Task) -> list[Expectation]:
    """The trained network's answers, by way of the training pipeline's functions."""
    settings = network.spec.preprocessing

    def probable(inputs: Any) -> Array:  # as voc-eval has them
        return probabilities_of(network.model(inputs, training=False).numpy(), task)

    pictures = encoded_samples()
    encoded = np.array(pictures, object)
    inputs = tf.stack([preprocess(decode(tf.constant(picture), settings), settings) for picture in pictures]).numpy()
    probabilities = probable(inputs)
    image = scene(300, 400, 4)[None]
    examples = [tf.train.Example(features=tf.train.Features(feature={
        ENCODED_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))})).SerializeToString()
        for picture in pictures]
    return [
        Expectation("serving_default", encoded, "probabilities", probabilities),
        Expectation("predict_tensors", inputs, "probabilities", probabilities),
        Expectation("classify", np.array(examples, object), "scores", probabilities),
        Expectation("preprocess", encoded, "inputs", inputs),
        Expectation("predict_images", image, "probabilities",
                    probable(preprocess(image, settings))),
    ]


def _largest_difference(call: Caller, expected: list[Expectation]) -> float:
    return max(float(np.abs(call(case.signature, case.value)[case.output] - case.wanted).max()) for case in expected)
