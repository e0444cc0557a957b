"""Signatures in a SavedModel, and tensors on the wire: protobuf in, arrays out, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.errors import InvalidArgument, ServeError
from serving.inference import IMAGE_FEATURE, SIGNATURES, check_input
from serving.models.model_folder import SAVED_MODEL
from serving.security.sanitize import printable


def read_graph(version_folder: Path) -> meta_graph_pb2.MetaGraphDef:
    """A SavedModel's `serve` graph, without its variables; ServeError unless it has the signatures of voc-export."""
    path = version_folder / SAVED_MODEL
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ServeError(f"{path} cannot be read ({error}): export the model again with voc-export") from None
    graphs = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs:
        raise ServeError(f"{path} has no graph with the tag 'serve': export the model again with voc-export")
    graph = graphs[0]
    found = dict(graph.signature_def)
    for name, signature in SIGNATURES.items():
        if name not in found:
            raise ServeError(f"{path} has no signature '{name}' (it has: {', '.join(sorted(found))}): "
                             "export the model again with voc-export")
        tensor = found[name].inputs.get(signature.input)
        if tensor is None or _dtype_name(tensor.dtype) != signature.dtype:
            raise ServeError(f"{path}: signature '{name}' does not take {signature.dtype} '{signature.input}' "
                             f"(it takes: {_inputs(found[name])}): export the model again with voc-export")
    return graph


def _inputs(signature: meta_graph_pb2.SignatureDef) -> str:
    return ", ".join(f"{_dtype_name(tensor.dtype)} '{name}'" for name, tensor in sorted(signature.inputs.items()))


def read_input(name: str, inputs: Mapping[str, tensor_pb2.TensorProto], size: int,
               max_bytes: int) -> npt.NDArray[Any]:
    """The one input tensor of a call of signature `name`, checked, as an array (bytes objects for strings).

    `size` is the network's, in pixels; a tensor that would fill more than `max_bytes` is refused: TensorProto may say
    a shape of any size and give a single value to fill it with. Raises InvalidArgument.
    """
    signature = SIGNATURES[name]
    if set(inputs) != {signature.input}:
        raise InvalidArgument(f"signature '{name}' takes one input, '{signature.input}'; the call has "
                          f"{', '.join(repr(printable(found)) for found in sorted(inputs)[:5]) or 'none'}")
    tensor = inputs[signature.input]
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    check_input(name, _dtype_name(tensor.dtype), shape, size)
    if (filled := math.prod(shape) * signature.item_bytes) > max_bytes:
        raise InvalidArgument(f"input '{signature.input}' would fill {filled} bytes, more than the {max_bytes} that a "
                          "message may have (--max-message-mb)")
    if signature.dtype == "string" and not tensor.string_val:  # of which TensorFlow makes empty texts, not bytes
        raise InvalidArgument(f"input '{signature.input}' states {shape[0]} strings and has none in string_val")
    try:
        return np.asarray(tf.make_ndarray(tensor)).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"input '{signature.input}' is no tensor of the shape it states: {error}") from None


def _dtype_name(dtype: int) -> str:
    try:
        return str(tf.DType(dtype).name)
    except TypeError:
        return f"dtype {dtype}"


def read_examples(serialized: Sequence[bytes], field: str) -> list[bytes]:
    """Serialized tf.Examples → the bytes of their pictures; InvalidArgument names a bad one as `field`[its index]."""
    examples = []
    for index, content in enumerate(serialized):
        try:
            examples.append(tf.train.Example.FromString(content))
        except DecodeError:
            raise InvalidArgument(f"{field}[{index}] is no serialized tf.Example") from None
    return [_picture(f"{field}[{index}]", example) for index, example in enumerate(examples)]


def read_example_input(given: Any) -> list[bytes]:
    """tensorflow.serving.Input → the bytes of its pictures; what an example lacks is taken from the context."""
    if given.WhichOneof("kind") == "example_list_with_context":
        listed = given.example_list_with_context
        return [_picture(f"examples[{index}]", example, listed.context)
                for index, example in enumerate(listed.examples)]
    return [_picture(f"examples[{index}]", example) for index, example in enumerate(given.example_list.examples)]


def _picture(where: str, *messages: Any) -> bytes:
    """The one bytes value of the picture's feature in the first tf.Example that has the feature."""
    for message in messages:
        if IMAGE_FEATURE in message.features.feature:
            values = message.features.feature[IMAGE_FEATURE].bytes_list.value
            if len(values) == 1:
                return bytes(values[0])
            break
    else:
        values = ()
    raise InvalidArgument(f"{where} must have one bytes value as '{IMAGE_FEATURE}', found {len(values)}")


def write_tensor(array: npt.NDArray[Any]) -> tensor_pb2.TensorProto:
    """An array as TensorFlow Serving answers it: in the typed field (float_val, string_val), not as tensor_content.

    Clients without TensorFlow read those fields directly.
    """
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{"size": size} for size in array.shape])
    if array.dtype == object:
        return tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum, tensor_shape=shape, string_val=array.ravel())
    return tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=shape,
                                  float_val=array.ravel().tolist())
