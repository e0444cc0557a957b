"""Whether a SavedModel and a call fit the signatures, and how TensorFlow Serving describes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from serving.errors import FailedPrecondition, InvalidArgument, NotFound, ServeError
from serving.models.version_folders import SAVED_MODEL
from serving.security.sanitize import printable
from serving.tensorflow_protos import POOL, messages
from voc_cls.errors import reason
from voc_cls.model_metadata import (
    CLASSIFY,
    DEFAULT,
    EXPLAINING,
    EXPORT_AGAIN,
    IMAGE_FEATURE,
    OUTPUTS,
    SIGNATURES,
    ModelMetadata,
)

DTYPES = {"string": "DT_STRING", "uint8": "DT_UINT8", "float32": "DT_FLOAT"}
DATA_TYPE = POOL.FindEnumTypeByName("tensorflow.DataType")


def signature_name(model: str, name: str, known: Collection[str]) -> str:
    """The signature of a Predict call: serving_default if none is named; NotFound lists the `known` ones."""
    name = name or DEFAULT
    if name in EXPLAINING and name not in known:
        raise FailedPrecondition(f"model '{model}' {EXPORT_AGAIN}")
    if name not in known:
        raise NotFound(f"model '{model}' has no signature '{printable(name)}'; it has {', '.join(sorted(known))}")
    return name


def check_input(name: str, dtype: str, shape: Sequence[int], image_size: int) -> None:
    """InvalidArgument unless `dtype` and `shape` are those of signature `name`; `image_size` in pixels."""
    signature = SIGNATURES[name]
    expected_shape = [image_size if dimension == "size" else dimension for dimension in signature.shape]
    fits = len(shape) == len(expected_shape) and all(
        size == expected or (isinstance(expected, str) and size >= 1)
        for size, expected in zip(shape, expected_shape, strict=True))
    if dtype != signature.dtype or not fits:
        raise InvalidArgument(f"input '{signature.input}' of signature '{name}' must be {signature.dtype} "
                              f"[{', '.join(map(str, expected_shape))}] with N at least 1, found {dtype} "
                              f"[{', '.join(map(str, shape[:8]))}{', …' if len(shape) > 8 else ''}]")


def read_signatures(version_folder: Path, metadata: ModelMetadata) -> Any:
    """A version's signatures as TensorFlow Serving describes them, a SignatureDefMap.

    ServeError if a SavedModel is damaged or lacks one of its signatures.
    """
    path = version_folder / SAVED_MODEL
    try:
        saved_model = messages.SavedModel.FromString(path.read_bytes())
    except FileNotFoundError:
        return _signature_defs(metadata)
    except (OSError, DecodeError) as error:
        raise ServeError(f"{path} cannot be read ({reason(error)}): export the model again with voc-export") from None
    graph = next((graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags), None)
    if graph is None:
        raise ServeError(f"{path} has no graph with the tag 'serve': export the model again with voc-export")
    for name, signature in metadata.signatures.items():
        if name not in graph.signature_def:
            raise ServeError(f"{path} has no signature '{name}' (it has: {', '.join(sorted(graph.signature_def))}): "
                             "export the model again with voc-export")
        inputs = {key: dtype_name(tensor.dtype) for key, tensor in sorted(graph.signature_def[name].inputs.items())}
        if not any(inputs.get(key) == signature.dtype for key in (signature.input, *signature.other_names)):
            taken = ", ".join(f"{dtype} {key!r}" for key, dtype in inputs.items())
            raise ServeError(f"{path}: signature '{name}' does not take {signature.dtype} '{signature.input}' (it "
                             f"takes: {taken}): export the model again with voc-export")
    return messages.SignatureDefMap(signature_def=graph.signature_def)


def _signature_defs(metadata: ModelMetadata) -> Any:
    """What a SavedModel of the model says, but for the names of the tensors in its graph."""
    sizes = {"size": metadata.preprocessing.size, "labels": len(metadata.labels)}

    def tensor(name: str, dtype: str, shape: Sequence[str | int]) -> Any:
        dimensions = [{"size": sizes.get(size, -1) if isinstance(size, str) else size} for size in shape]
        return messages.TensorInfo(name=f"{name}:0", dtype=DTYPES[dtype], tensor_shape={"dim": dimensions})

    return messages.SignatureDefMap(signature_def={name: messages.SignatureDef(
        inputs={signature.input: tensor(f"{name}_{signature.input}", signature.dtype, signature.shape)},
        outputs={output: tensor(f"{name}_{output}", *OUTPUTS[output]) for output in signature.outputs},
        method_name=f"tensorflow/serving/{'classify' if name == CLASSIFY else 'predict'}")
        for name, signature in metadata.signatures.items()})


def read_examples(examples: Sequence[Any], field: str, *context: Any) -> list[bytes]:
    """tf.Examples, serialized or not → the bytes of their images; what an example lacks is taken from the context's.

    InvalidArgument names an invalid one as `field`[index].
    """
    images = []
    for index, example in enumerate(examples):
        try:
            message = messages.Example.FromString(example) if isinstance(example, bytes) else example
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
    """Name of a tensorflow.DataType, such as float32."""
    value = DATA_TYPE.values_by_number.get(dtype)
    name = f"dtype {dtype}" if value is None else value.name.removeprefix("DT_").lower()
    return {"float": "float32", "double": "float64", "half": "float16"}.get(name, name)
