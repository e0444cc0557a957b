"""Verifies the forms of an export against the trained network, before the version gets its name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from rich.console import Console

from export.savedmodel import encoded_images, random_image
from voc_cls.console import progress_bar
from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.data.preprocessing import decode, preprocess
from voc_cls.errors import ExportError
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.evaluation.tasks import score
from voc_cls.image_decoder import Preprocessing
from voc_cls.model_metadata import IMAGE_FEATURE, OUTPUTS, Tta, signatures_of
from voc_cls.nets.explained import explained
from voc_cls.nets.network import Network
from voc_cls.training.backbone import BATCH_SIZE
from voc_cls.training.trained_run import TrainedRun

TOLERANCE = 1e-5  # of a probability: the same float32 kernels, possibly fused differently
MAP_SCALE = 1e-2
"""A cell of a heat map may differ by 1e-3. In some more: where nearly nothing speaks for a class, the scale makes last
bits large, and the only cell of a grid is 1 or 0 by them."""

Array = npt.NDArray[Any]
Predictor = Callable[[Array], Sequence[Array]]
"""float32 [N, size, size, 3] preprocessed images → probabilities and logits, float32 [N, classes]; heat maps and
embeddings, if there are any."""
Expectation = tuple[str, Array, str, Array]
"""A signature, its input, the name of an output, and that output's right value."""


def verify_savedmodel(version: Path, trained: TrainedRun, tta: Tta) -> float:
    """Reloads a SavedModel and runs the same images through it and through the trained network; its
    `predict_augmented` of several views is compared with what voc-eval computes.

    It is loaded in both ways, because a model can work in one and be broken in the other: by objects, as TensorFlow 2
    does, and by the graph, as TensorFlow Serving does.

    Returns the largest difference of an output over all signatures; ExportError where it is above 1e-5, or the
    signatures are wrong.
    """
    loaded = tf.saved_model.load(str(version))
    signatures = {name: ({key: spec.dtype.name for key, spec in signature.structured_input_signature[1].items()},
                         {key: spec.dtype.name for key, spec in signature.structured_outputs.items()})
                  for name, signature in loaded.signatures.items()}
    right = {name: ({signature.input: signature.dtype}, {output: OUTPUTS[output][0] for output in signature.outputs})
             for name, signature in signatures_of(tta != "none", explains=True).items()}
    if signatures != right:
        raise ExportError(f"{version}: has the signatures {signatures} after reloading, expected {right}")
    expected = _expected(trained, tta)
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)  # it warns that sessions are deprecated
    try:
        difference = _largest_difference(lambda name, value: loaded.signatures[name](tf.constant(value)), expected)
        # TensorFlow has optimised these functions above; here it is the graph as it was written that is run
        as_written = tf.compat.v1.ConfigProto()
        as_written.graph_options.rewrite_options.disable_meta_optimizer = True
        with tf.Graph().as_default(), tf.compat.v1.Session(config=as_written) as session:
            graph = tf.compat.v1.saved_model.load(session, ["serve"], str(version)).signature_def

            def by_graph(name: str, value: Array) -> Mapping[str, Array]:
                (given,) = graph[name].inputs.values()
                outputs = {output: tensor.name for output, tensor in graph[name].outputs.items()}
                values: dict[str, Array] = session.run(outputs, {given.name: value})
                return values

            difference = float(np.maximum(difference, _largest_difference(by_graph, expected)))
    except tf.errors.OpError as error:
        reason = error.message.strip().splitlines()[-1]
        raise ExportError(f"{version}: does not run after reloading ({reason})") from error
    return _within_tolerance(version, difference)


def verify_predictor(file: Path, predict: Predictor, trained: TrainedRun, exact: bool = True,
                     size: int | None = None) -> float:
    """Runs the same images through a reloaded `file` and through the trained network, as a batch and one alone.

    Returns the largest difference of a probability; ExportError where it is above 1e-5, unless `exact` is False.
    `size`: of the images, if it is not the network's own, pixels.
    """
    inputs, model = _inputs(trained.network, size), trained.network.at_any_size() if size else trained.network.model
    expected = probabilities_of(model(inputs, training=False).numpy(), trained.task)
    explanations = () if size else explained(trained.network)(inputs, training=False)[1:]
    differences = []
    for number in (len(inputs), 1):
        probabilities, logits, *others = predict(inputs[:number])
        differences += [np.abs(found - expected[:number]).max()
                        for found in (probabilities, probabilities_of(logits, trained.task))]
        differences += [_difference(output, found, right[:number].numpy()) for output, found, right in
                        zip(("heat_maps", "embedding"), others, explanations, strict=False)]
    difference = float(np.max(differences))
    return _within_tolerance(file, difference) if exact else difference


def logits_of(predict: Predictor, dataset: Dataset, preprocessing: Preprocessing, title: str) -> Array:
    """Logits, float32 [N, classes], for all images of a split, under a progress bar called `title`."""
    logits = []
    with progress_bar(Console(stderr=True)) as bar, naming_broken_images(dataset.paths):
        task = bar.add_task(title, total=len(dataset), note="pictures")
        for batch in image_batches(dataset.paths, BATCH_SIZE, preprocessing).as_numpy_iterator():
            logits.append(predict(batch)[1])
            bar.advance(task, len(batch))
    return np.concatenate(logits)


def result_of(dataset: Dataset, logits: Array) -> float:
    """What a split is judged by, 0-1: mean average precision, for single-label data accuracy."""
    return score(dataset, logits).metrics["val_map" if dataset.task is Task.MULTI_LABEL else "val_accuracy"]


def _difference(output: str, found: Any, right: Array) -> float:
    """The largest; of heat maps [N, classes, h, w] that of half of them, as MAP_SCALE says."""
    differences = np.abs(np.asarray(found) - right)
    if output != "heat_maps":
        return float(differences.max())
    return MAP_SCALE * float(np.median(differences.max(axis=(2, 3)))) if right[0, 0].size > 1 else 0.0


def _within_tolerance(path: Path, difference: float) -> float:
    if not difference <= TOLERANCE:
        raise ExportError(f"{path}: outputs differ by {difference:.1e} from the trained network's, more than "
                          f"{TOLERANCE:.0e}; the export is not usable")
    return difference


def _expected(trained: TrainedRun, tta: Tta) -> list[Expectation]:
    """The trained network's outputs, computed with the functions of the training pipeline."""
    network, settings = trained.network, trained.network.spec.preprocessing

    def probabilities_for(inputs: Any) -> Array:  # as voc-eval computes them
        return probabilities_of(network.model(inputs, training=False).numpy(), trained.task)

    images = encoded_images()
    encoded, inputs = np.array(images, object), _inputs(network)
    _, heat_maps, embeddings = (output.numpy() for output in explained(network)(inputs, training=False))
    probabilities = probabilities_for(inputs)
    decoded = random_image(300, 400, 4)[None]
    examples = [tf.train.Example(features=tf.train.Features(feature={
        IMAGE_FEATURE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))})).SerializeToString()
        for image in images]
    return [
        ("serving_default", encoded, "probabilities", probabilities),
        ("predict_tensors", inputs[:2], "probabilities", probabilities[:2]),  # whatever was decoded
        ("classify", np.array(examples, object), "scores", probabilities),
        ("preprocess", encoded, "inputs", inputs),
        ("predict_images", decoded, "probabilities", probabilities_for(preprocess(decoded, settings))),
        *([("predict_augmented", encoded, "probabilities", _as_evaluated(trained, images, tta))]
          if tta != "none" else []),
        ("explain", encoded, "probabilities", probabilities),
        ("explain", encoded, "heat_maps", heat_maps),
        ("explain_tensors", inputs, "probabilities", probabilities),
        ("embed", encoded, "embedding", embeddings),
    ]


def _as_evaluated(trained: TrainedRun, images: list[bytes], tta: Tta) -> Array:
    """The probabilities that voc-eval computes for the images."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(images))]
        for file, image in zip(files, images, strict=True):
            file.write_bytes(image)
        return probabilities_of(trained.logits(files, "verify", tta), trained.task)


def _inputs(network: Network, size: int | None = None) -> Array:
    """What the training pipeline makes of the images: float32 [N, size, size, 3]."""
    settings = replace(network.spec.preprocessing, size=size or network.spec.preprocessing.size)
    images = [preprocess(decode(tf.constant(image), settings), settings) for image in encoded_images()]
    return np.stack([image.numpy() for image in images])


def _largest_difference(call: Callable[[str, Array], Mapping[str, Any]], expected: list[Expectation]) -> float:
    """`call` runs a signature by name on its one input, and returns its outputs."""
    return float(np.max([_difference(output, call(signature, value)[output], right)  # NaN where one is
                         for signature, value, output, right in expected]))
