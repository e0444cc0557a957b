"""Verifies an exported SavedModel against the trained network, before it gets its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from export.signatures import ENCODED_KEY, SIGNATURES
from export.warmup import encoded_images, random_image
from voc_cls.data.dataset import Task
from voc_cls.data.preprocessing import decode, preprocess
from voc_cls.errors import ExportError
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.nets.network import Network

TOLERANCE = 1e-5  # of a probability: the same float32 kernels, possibly fused differently

Array = npt.NDArray[Any]
Caller = Callable[[str, Array], dict[str, Array]]
"""Runs a signature by name on its one input, and returns its outputs."""
Expectation = tuple[str, Array, str, Array]
"""A signature, its input, the name of an output, and that output's right value."""


def verify(version: Path, network: Network, task: Task) -> float:
    """Reloads a SavedModel and runs the same images through it and through the trained network.

    It is loaded in both ways, because a model can work in one and be broken in the other: by objects, as TensorFlow 2
    does, and by the graph, as TensorFlow Serving does.

    Returns the largest difference of an output over all signatures; ExportError where it is above 1e-5, or the
    signatures are wrong.
    """
    loaded = tf.saved_model.load(str(version))
    signatures = {name: ({key: spec.dtype for key, spec in signature.structured_input_signature[1].items()},
                         {key: spec.dtype for key, spec in signature.structured_outputs.items()})
                  for name, signature in loaded.signatures.items()}
    if signatures != SIGNATURES:
        raise ExportError(f"{version}: has the signatures {signatures} after reloading, expected {SIGNATURES}")
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
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # it warns that sessions are deprecated
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(version)).signature_def

        def call(name: str, value: Array) -> dict[str, Array]:
            (key,) = SIGNATURES[name][0]
            outputs = {output: info.name for output, info in signatures[name].outputs.items()}
            values: dict[str, Array] = session.run(outputs, {signatures[name].inputs[key].name: value})
            return values

        yield call


def _expected(network: Network, task: Task) -> list[Expectation]:
    """The trained network's outputs, computed with the functions of the training pipeline."""
    settings = network.spec.preprocessing

    def probabilities_for(inputs: Any) -> Array:  # as voc-eval computes them
        return probabilities_of(network.model(inputs, training=False).numpy(), task)

    images = encoded_images()
    encoded = np.array(images, object)
    inputs = tf.stack([preprocess(decode(tf.constant(image), settings), settings) for image in images]).numpy()
    probabilities = probabilities_for(inputs)
    decoded = random_image(300, 400, 4)[None]
    examples = [tf.train.Example(features=tf.train.Features(feature={
        ENCODED_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))})).SerializeToString()
        for image in images]
    return [
        ("serving_default", encoded, "probabilities", probabilities),
        ("predict_tensors", inputs[:2], "probabilities", probabilities[:2]),  # whatever was decoded
        ("classify", np.array(examples, object), "scores", probabilities),
        ("preprocess", encoded, "inputs", inputs),
        ("predict_images", decoded, "probabilities", probabilities_for(preprocess(decoded, settings))),
    ]


def _largest_difference(call: Caller, expected: list[Expectation]) -> float:
    return max(float(np.abs(call(signature, value)[output] - right).max())
               for signature, value, output, right in expected)
