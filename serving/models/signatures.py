"""The signatures of an exported version: what each takes and gives, and whether a SavedModel and a call fit.

Importing this module does not import TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from google.protobuf.message import DecodeError

from serving.errors import InvalidArgument, NotFound, ServeError
from serving.models.version_folders import SAVED_MODEL
from serving.security.sanitize import printable

SIZE = "size"
"""Name of a dimension that must be the network's input size; others may be anything from 1 up."""
DEFAULT_SIGNATURE = "serving_default"
CLASSIFY_SIGNATURE = "classify"
IMAGE_FEATURE = "image/encoded"
"""Key of the image's bytes in a tf.Example, as in TensorFlow's own image data sets."""


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives; the names and types are fixed by the export format."""

    input: str
    dtype: Literal["string", "uint8", "float32"]
    shape: tuple[str | int, ...]
    outputs: tuple[str, ...]
    other_names: tuple[str, ...] = ()
    """Names of the input in exports of voc-cls up to 0.4; callers may use them too."""


SIGNATURES: Mapping[str, Signature] = {
    DEFAULT_SIGNATURE: Signature("image_bytes", "string", ("N",), ("probabilities",)),
    "predict_images": Signature("images", "uint8", ("N", "height", "width", 3), ("probabilities",)),
    "predict_tensors": Signature("inputs", "float32", ("N", SIZE, SIZE, 3), ("probabilities", "logits")),
    "preprocess": Signature("image_bytes", "string", ("N",), ("inputs",)),
    CLASSIFY_SIGNATURE: Signature("inputs", "string", ("N",), ("scores", "classes"), ("examples",)),
}


def signature_name(model: str, name: str) -> str:
    """The signature of a Predict call: serving_default if none is named; NotFound lists those that exist."""
    name = name or DEFAULT_SIGNATURE
    if name not in SIGNATURES:
        raise NotFound(f"model '{model}' has no signature '{printable(name)}'; it has {', '.join(sorted(SIGNATURES))}")
    return name


def check_input(name: str, dtype: str, shape: Sequence[int], image_size: int) -> None:
    """InvalidArgument unless `dtype` and `shape` are those of signature `name`; `image_size` in pixels."""
    signature = SIGNATURES[name]
    expected_shape = [image_size if dimension == SIZE else dimension for dimension in signature.shape]
    fits = len(shape) == len(expected_shape) and all(
        size == expected or (isinstance(expected, str) and size >= 1)
        for size, expected in zip(shape, expected_shape, strict=True))
    if dtype != signature.dtype or not fits:
        raise InvalidArgument(f"input '{signature.input}' of signature '{name}' must be {signature.dtype} "
                              f"[{', '.join(map(str, expected_shape))}] with N at least 1, found {dtype} "
                              f"[{', '.join(map(str, shape[:8]))}{', …' if len(shape) > 8 else ''}]")


def read_graph(version_folder: Path) -> Any:
    """A SavedModel's `serve` graph, a MetaGraphDef without variables.

    Imports TensorFlow. Raises ServeError if the file is damaged or lacks one of SIGNATURES.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = version_folder / SAVED_MODEL
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ServeError(f"{path} cannot be read ({error}): export the model again with voc-export") from None
    graph = next((graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags), None)
    if graph is None:
        raise ServeError(f"{path} has no graph with the tag 'serve': export the model again with voc-export")
    for name, signature in SIGNATURES.items():
        if name not in graph.signature_def:
            raise ServeError(f"{path} has no signature '{name}' (it has: {', '.join(sorted(graph.signature_def))}): "
                             "export the model again with voc-export")
        inputs = {key: dtype_name(tensor.dtype) for key, tensor in sorted(graph.signature_def[name].inputs.items())}
        if not any(inputs.get(key) == signature.dtype for key in (signature.input, *signature.other_names)):
            taken = ", ".join(f"{dtype} {key!r}" for key, dtype in inputs.items())
            raise ServeError(f"{path}: signature '{name}' does not take {signature.dtype} '{signature.input}' (it "
                             f"takes: {taken}): export the model again with voc-export")
    return graph


def read_examples(examples: Sequence[Any], field: str, *context: Any) -> list[bytes]:
    """tf.Examples, serialized or not → the bytes of their images; what an example lacks is taken from the context's.

    Imports TensorFlow. InvalidArgument names an invalid one as `field`[index].
    """
    import tensorflow as tf

    images = []
    for index, example in enumerate(examples):
        try:
            message = tf.train.Example.FromString(example) if isinstance(example, bytes) else example
        except DecodeError:
            raise InvalidArgument(f"{field}[{index}] is not a serialized tf.Example") from None
        features = [given.features.feature for given in (message, *context) if IMAGE_FEATURE in given.features.feature]
        values: Sequence[bytes] = features[0][IMAGE_FEATURE].bytes_list.value if features else ()
        if len(values) != 1:
            raise InvalidArgument(f"{field}[{index}] must have one bytes value as '{IMAGE_FEATURE}', found "
                                  f"{len(values)}")
        images.append(bytes(values[0]))
    return images


def dtype_name(dtype: int) -> str:
    """Name of a tensorflow.DataType, such as float32; imports TensorFlow."""
    import tensorflow as tf

    try:
        return str(tf.DType(dtype).name)
    except TypeError:
        return f"dtype {dtype}"
