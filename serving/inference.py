"""What a model answers to, whichever way a call came: the signatures of an export, and what each of them does.

Nothing here knows of protobuf or JSON, and importing it does not import TensorFlow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from serving.errors import InvalidArgument, NotFound, Unimplemented
from serving.models.servable import Servable
from serving.request_context import RequestContext
from serving.security.sanitize import printable

BATCH = "N"
SIZE = "size"
FREE = ("N", "height", "width")
"""Names of dimensions that may be anything from 1 up."""
DEFAULT_SIGNATURE = "serving_default"
CLASSIFY_SIGNATURE = "classify"
IMAGE_FEATURE = "image/encoded"
"""Key of the picture's bytes in a tf.Example, as TensorFlow's own image data sets have it."""
NO_REGRESSION = ("this model classifies and has no regression signature: ask for the scores of its labels with "
                 "Classify or Predict")

Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives; the names and types are fixed by the export format."""

    input: str
    dtype: Literal["string", "uint8", "float32"]
    shape: tuple[str | int, ...]
    outputs: tuple[str, ...]

    @property
    def item_bytes(self) -> int:
        """Memory of one element; of a string, the least that one takes, as a pointer to it."""
        return 8 if self.dtype == "string" else np.dtype(self.dtype).itemsize


SIGNATURES: Mapping[str, Signature] = {
    DEFAULT_SIGNATURE: Signature("image_bytes", "string", (BATCH,), ("probabilities",)),
    "predict_images": Signature("images", "uint8", (BATCH, "height", "width", 3), ("probabilities",)),
    "predict_tensors": Signature("inputs", "float32", (BATCH, SIZE, SIZE, 3), ("probabilities", "logits")),
    "preprocess": Signature("image_bytes", "string", (BATCH,), ("inputs",)),
    CLASSIFY_SIGNATURE: Signature("examples", "string", (BATCH,), ("scores", "classes")),
}


def signature_name(servable: Servable, asked: str) -> str:
    """The signature of a Predict call: serving_default if none is asked for; NotFound names those there are."""
    name = asked or DEFAULT_SIGNATURE
    if name not in SIGNATURES:
        raise NotFound(f"model '{servable.name}' has no signature '{printable(name)}'; it has "
                       f"{', '.join(sorted(SIGNATURES))}")
    return name


def check_classification(servable: Servable, asked: str) -> None:
    """Refuses a Classify call that names another signature than `classify`; none is fine."""
    if asked and signature_name(servable, asked) != CLASSIFY_SIGNATURE:
        raise InvalidArgument(f"signature '{asked}' is not for Classify: name '{CLASSIFY_SIGNATURE}' or none, or call "
                          "Predict")


def refuse_regression() -> NoReturn:
    """Says what the model is, and what to call."""
    raise Unimplemented(NO_REGRESSION)


def check_input(name: str, dtype: str, shape: Sequence[int], size: int) -> None:
    """Refuses an input of another type or shape than signature `name` takes; `size` is the network's, in pixels."""
    signature = SIGNATURES[name]
    wanted = [size if dimension == SIZE else dimension for dimension in signature.shape]
    fits = len(shape) == len(wanted) and all(found == expected or (expected in FREE and found >= 1)
                                             for found, expected in zip(shape, wanted, strict=True))
    if dtype != signature.dtype or not fits:
        raise InvalidArgument(f"input '{signature.input}' of signature '{name}' must be {signature.dtype} "
                          f"[{', '.join(map(str, wanted))}] with N at least 1, found {dtype} "
                          f"[{', '.join(map(str, shape))}]")


async def predict(servable: Servable, signature: str, array: npt.NDArray[Any], output_filter: Sequence[str],
                  call: RequestContext,
                  field: str = "") -> Outputs:
    """Runs one of SIGNATURES on its input, which check_input has passed.

    `output_filter` names the outputs to give, all if it is empty. `field` is what the caller calls the input, for
    messages; default: the input's name.
    """
    outputs = SIGNATURES[signature].outputs
    if unknown := sorted(set(output_filter) - set(outputs)):
        raise InvalidArgument(f"output_filter has {', '.join(map(printable, unknown[:5]))}, but signature "
                              f"'{signature}' "
                          f"gives {', '.join(outputs)}")
    given = await ANSWERS[signature](servable, array, field or SIGNATURES[signature].input, call)
    return {output: given[output] for output in outputs if not output_filter or output in output_filter}


async def classify_examples(servable: Servable, pictures: Sequence[bytes],
                            call: RequestContext) -> npt.NDArray[np.float32]:
    """The pictures of tf.Examples → scores [N, labels], columns in the order of the model's labels."""
    if not pictures:
        raise InvalidArgument("examples is empty: send at least one")
    return (await servable.classify(pictures, "examples", call)).probabilities


async def _serving_default(servable: Servable, array: npt.NDArray[Any], field: str, call: RequestContext) -> Outputs:
    return {"probabilities": (await servable.classify(list(array), field, call)).probabilities}


async def _predict_images(servable: Servable, array: npt.NDArray[Any], field: str, call: RequestContext) -> Outputs:  # noqa: ARG001
    return {"probabilities": (await servable.classify_images(array, call)).probabilities}


async def _predict_tensors(servable: Servable, array: npt.NDArray[Any], field: str, call: RequestContext) -> Outputs:  # noqa: ARG001
    scores = await servable.classify_tensors(array, call)
    return {"probabilities": scores.probabilities, "logits": scores.logits}


async def _preprocess(servable: Servable, array: npt.NDArray[Any], field: str, call: RequestContext) -> Outputs:
    return {"inputs": await servable.preprocess(list(array), field, call)}


async def _classify(servable: Servable, array: npt.NDArray[Any], field: str, call: RequestContext) -> Outputs:
    from serving.grpc.tensor_proto import read_examples  # imports TensorFlow, for the message tf.Example

    pictures = await asyncio.get_running_loop().run_in_executor(servable.decoders, read_examples, list(array), field)
    labels = np.array([label.encode() for label in servable.metadata.labels], dtype=object)
    return {"scores": (await servable.classify(pictures, field, call)).probabilities,
            "classes": np.tile(labels, (len(array), 1))}


ANSWERS: Mapping[str, Callable[[Servable, npt.NDArray[Any], str, RequestContext], Awaitable[Outputs]]] = {
    DEFAULT_SIGNATURE: _serving_default,
    "predict_images": _predict_images,
    "predict_tensors": _predict_tensors,
    "preprocess": _preprocess,
    CLASSIFY_SIGNATURE: _classify,
}
"""What each of SIGNATURES does, in terms of a servable."""
