"""TensorFlow's messages: TensorProto ↔ arrays, tf.Example → the bytes of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

from serving.errors import InvalidArgument
from serving.models.signatures import IMAGE_FEATURE, SIGNATURES, check_input, dtype_name
from serving.security.sanitize import printable


def read_input(name: str, inputs: Mapping[str, tensor_pb2.TensorProto], image_size: int,
               max_bytes: int) -> npt.NDArray[Any]:
    """The one input tensor of a call to signature `name`, as an array (bytes objects for strings); InvalidArgument.

    `max_bytes`: memory that it may take, as TensorProto may state a shape of any size and give a single value to fill
    it with.
    """
    signature = SIGNATURES[name]
    if not (len(inputs) == 1 and inputs.keys() <= {signature.input, *signature.other_names}):
        raise InvalidArgument(f"signature '{name}' takes one input, '{signature.input}'; the call has "
                              f"{', '.join(repr(printable(key)) for key in sorted(inputs)[:5]) or 'none'}")
    (tensor,) = inputs.values()
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    check_input(name, dtype_name(tensor.dtype), shape, image_size)
    item_bytes = 8 if signature.dtype == "string" else np.dtype(signature.dtype).itemsize  # a pointer to each string
    if (filled := math.prod(shape) * item_bytes) > max_bytes:
        raise InvalidArgument(f"input '{signature.input}' would fill {filled} bytes, more than the {max_bytes} that a "
                              "message may have (`max_message_mb`)")
    if signature.dtype == "string" and not tensor.string_val:  # TensorFlow would make empty text of them, not bytes
        raise InvalidArgument(f"input '{signature.input}' states {shape[0]} strings and has none in string_val")
    try:
        return np.asarray(tf.make_ndarray(tensor)).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"input '{signature.input}' is not a tensor of the shape it states: {error}") from None


def write_tensor(array: npt.NDArray[Any]) -> tensor_pb2.TensorProto:
    """An array as TensorFlow Serving answers it: in the typed field (float_val, string_val), not as tensor_content.

    Clients without TensorFlow read those fields directly.
    """
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{"size": size} for size in array.shape])
    if array.dtype == object:
        return tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum, tensor_shape=shape, string_val=array.ravel())
    return tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=shape,
                                  float_val=array.ravel().tolist())


def read_examples(serialized: Sequence[bytes], field: str) -> list[bytes]:
    """Serialized tf.Examples → the bytes of their images; InvalidArgument names an invalid one as `field`[index]."""
    examples = []
    for index, content in enumerate(serialized):
        try:
            examples.append(tf.train.Example.FromString(content))
        except DecodeError:
            raise InvalidArgument(f"{field}[{index}] is not a serialized tf.Example") from None
    return [_image(f"{field}[{index}]", example) for index, example in enumerate(examples)]


def read_example_input(example_input: Any) -> list[bytes]:
    """tensorflow.serving.Input → the bytes of its images; what an example lacks is taken from the context."""
    with_context = example_input.example_list_with_context  # empty if the call has an example_list
    return [_image(f"examples[{index}]", example, with_context.context)
            for index, example in enumerate(example_input.example_list.examples or with_context.examples)]


def _image(where: str, *examples: Any) -> bytes:
    """The one bytes value of the image's feature in the first tf.Example that has the feature."""
    values: Sequence[bytes] = next((example.features.feature[IMAGE_FEATURE].bytes_list.value for example in examples
                                    if IMAGE_FEATURE in example.features.feature), ())
    if len(values) != 1:
        raise InvalidArgument(f"{where} must have one bytes value as '{IMAGE_FEATURE}', found {len(values)}")
    return bytes(values[0])
