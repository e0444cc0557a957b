"""The signatures of an exported model, and tensors on the wire: protobuf in, arrays out, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.errors import InvalidCall, ServeError
from serving.model_folder import SAVED_MODEL

BATCH = "N"
SIZE = "size"
FREE = ("N", "height", "width")
"""Names of dimensions that may be anything from 1 up."""
IMAGE_FEATURE = "image/encoded"
"""Key of the picture's bytes in a tf.Example, as TensorFlow's own image data sets have it."""


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives; the names and types are fixed by the export format."""

    input: str
    dtype: tf.DType
    shape: tuple[str | int, ...]
    outputs: tuple[str, ...]


SIGNATURES: Mapping[str, Signature] = {
    "serving_default": Signature("image_bytes", tf.string, (BATCH,), ("probabilities",)),
    "predict_images": Signature("images", tf.uint8, (BATCH, "height", "width", 3), ("probabilities",)),
    "predict_tensors": Signature("inputs", tf.float32, (BATCH, SIZE, SIZE, 3), ("probabilities", "logits")),
    "preprocess": Signature("image_bytes", tf.string, (BATCH,), ("inputs",)),
    "classify": Signature("examples", tf.string, (BATCH,), ("scores", "classes")),
}


def read_signatures(version_folder: Path) -> dict[str, Any]:
    """signature_def of a SavedModel's `serve` graph; ServeError unless it has the signatures of voc-export."""
    path = version_folder / SAVED_MODEL
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ServeError(f"{path} cannot be read ({error}): export the model again with voc-export") from None
    graphs = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs:
        raise ServeError(f"{path} has no graph with the tag 'serve': export the model again with voc-export")
    found = dict(graphs[0].signature_def)
    for name, signature in SIGNATURES.items():
        if name not in found:
            raise ServeError(f"{path} has no signature '{name}' (it has: {', '.join(sorted(found))}): "
                             "export the model again with voc-export")
        tensor = found[name].inputs.get(signature.input)
        if tensor is None or tensor.dtype != signature.dtype.as_datatype_enum:
            raise ServeError(f"{path}: signature '{name}' does not take {signature.dtype.name} '{signature.input}' "
                             f"(it takes: {_inputs(found[name])}): export the model again with voc-export")
    return found


def _inputs(signature: meta_graph_pb2.SignatureDef) -> str:
    return ", ".join(f"{tf.DType(tensor.dtype).name} '{name}'" for name, tensor in sorted(signature.inputs.items()))


def read_input(name: str, inputs: Mapping[str, tensor_pb2.TensorProto], size: int,
               max_bytes: int) -> npt.NDArray[Any]:
    """The one input tensor of a call of signature `name`, checked, as an array (bytes objects for strings).

    `size` is the network's, in pixels; a tensor that would fill more than `max_bytes` is refused: TensorProto may say
    a shape of any size and give a single value to fill it with. Raises InvalidCall.
    """
    signature = SIGNATURES[name]
    if set(inputs) != {signature.input}:
        raise InvalidCall(f"signature '{name}' takes one input, '{signature.input}'; the call has "
                          f"{', '.join(repr(found) for found in sorted(inputs)) or 'none'}")
    tensor = inputs[signature.input]
    wanted = tuple(size if dimension == SIZE else dimension for dimension in signature.shape)
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.dtype != signature.dtype.as_datatype_enum or not _fits(shape, wanted):
        raise InvalidCall(f"input '{signature.input}' of signature '{name}' must be {signature.dtype.name} "
                          f"[{', '.join(map(str, wanted))}] with N at least 1, found {_dtype_name(tensor.dtype)} "
                          f"[{', '.join(map(str, shape))}]")
    if math.prod(shape) * signature.dtype.size > max_bytes:
        raise InvalidCall(f"input '{signature.input}' would fill {math.prod(shape) * signature.dtype.size} bytes, more "
                          f"than the {max_bytes} that a message may have (--max-message-mb)")
    try:
        return np.asarray(tf.make_ndarray(tensor)).reshape(shape)
    except (ValueError, TypeError) as error:
        raise InvalidCall(f"input '{signature.input}' is no tensor of the shape it states: {error}") from None


def _fits(shape: tuple[int, ...], wanted: tuple[str | int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        found == expected or (expected in FREE and found >= 1) for found, expected in zip(shape, wanted, strict=True))


def _dtype_name(dtype: int) -> str:
    try:
        return str(tf.DType(dtype).name)
    except TypeError:
        return f"dtype {dtype}"


def read_examples(examples: npt.NDArray[np.object_]) -> list[bytes]:
    """Serialized tf.Examples → the bytes of their pictures; InvalidCall names the index of a bad one."""
    pictures = []
    for index, serialized in enumerate(examples):
        try:
            feature = tf.train.Example.FromString(serialized).features.feature
        except DecodeError:
            raise InvalidCall(f"examples[{index}] is no serialized tf.Example") from None
        values = feature[IMAGE_FEATURE].bytes_list.value if IMAGE_FEATURE in feature else []
        if len(values) != 1:
            raise InvalidCall(f"examples[{index}] must have one bytes value as '{IMAGE_FEATURE}', found {len(values)}")
        pictures.append(values[0])
    return pictures


def write_tensor(array: npt.NDArray[Any]) -> tensor_pb2.TensorProto:
    """An array as TensorFlow Serving answers it: in the typed field (float_val, string_val), not as tensor_content.

    Clients without TensorFlow read those fields directly.
    """
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{"size": size} for size in array.shape])
    if array.dtype == object:
        return tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum, tensor_shape=shape, string_val=array.ravel())
    return tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=shape,
                                  float_val=array.ravel().tolist())
