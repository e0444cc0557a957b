"""tensorflow.serving.PredictionService: an ordinary TensorFlow Serving client works unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.calls import deadline_of
from serving.errors import InvalidCall, NotFound, Unsupported
from serving.models import Models
from serving.servable import Servable
from serving.signatures import SIGNATURES, read_examples, read_input, write_tensor

DEFAULT_SIGNATURE = "serving_default"
SIGNATURE_DEF = "signature_def"
"""The only metadata field that TensorFlow Serving knows."""

Outputs = dict[str, npt.NDArray[Any]]


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Predict on each of the exported signatures, and GetModelMetadata."""

    def __init__(self, models: Models, max_message_bytes: int) -> None:
        self._models = models
        self._max_message_bytes = max_message_bytes

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:
        """Tensors in, tensors out, by the name of a signature."""
        servable = self._servable(request.model_spec)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in SIGNATURES:
            raise NotFound(f"model '{servable.name}' has no signature '{name}'; it has "
                           f"{', '.join(sorted(SIGNATURES))}")
        wanted = _filtered(name, request.output_filter)
        loop = asyncio.get_running_loop()
        given = await loop.run_in_executor(servable.decoders, read_input, name, request.inputs,
                                           servable.metadata.size, self._max_message_bytes)
        outputs = await ANSWERS[name](servable, given, deadline_of(context))
        tensors = await loop.run_in_executor(
            servable.decoders, lambda: {output: write_tensor(outputs[output]) for output in wanted})
        response = predict_pb2.PredictResponse(outputs=tensors)
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        response.model_spec.signature_name = name
        return response

    async def GetModelMetadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest,
                               context: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:  # noqa: ARG002
        """The signatures of a model."""
        servable = self._servable(request.model_spec)
        if not request.metadata_field:
            raise InvalidCall(f"metadata_field is empty; this server knows '{SIGNATURE_DEF}'")
        if unknown := sorted(set(request.metadata_field) - {SIGNATURE_DEF}):
            raise InvalidCall(f"metadata_field {', '.join(unknown)} is unknown; this server knows '{SIGNATURE_DEF}'")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    async def Classify(self, request: classification_pb2.ClassificationRequest, context: Any) -> NoReturn:  # noqa: ARG002
        """Not yet."""
        raise Unsupported("PredictionService.Classify is not served: call Predict with the signature 'classify', or "
                          "voc_cls.v1.Classifier/Classify")

    async def Regress(self, request: regression_pb2.RegressionRequest, context: Any) -> NoReturn:  # noqa: ARG002
        """Never: a classifier has nothing to regress."""
        raise Unsupported("PredictionService.Regress is not served: this model classifies, call Predict")

    async def MultiInference(self, request: inference_pb2.MultiInferenceRequest, context: Any) -> NoReturn:  # noqa: ARG002
        """Not yet."""
        raise Unsupported("PredictionService.MultiInference is not served: call Predict")

    def _servable(self, spec: Any) -> Servable:
        if not spec.name:
            raise InvalidCall(f"model_spec.name is empty; this server has '{self._models.name}'")
        if spec.HasField("version_label"):
            raise NotFound(f"model '{spec.name}' has no version with the label '{spec.version_label}'; this server "
                           "has no labels, ask by number or for the latest")
        return self._models.get(spec.name, spec.version.value if spec.HasField("version") else None)


def _filtered(name: str, output_filter: Any) -> list[str]:
    """The outputs to answer: those named, all if none is."""
    outputs = SIGNATURES[name].outputs
    if unknown := sorted(set(output_filter) - set(outputs)):
        raise InvalidCall(f"output_filter has {', '.join(unknown)}, but signature '{name}' gives {', '.join(outputs)}")
    return [output for output in outputs if not output_filter or output in output_filter]


async def _serving_default(servable: Servable, given: npt.NDArray[Any], deadline: float | None) -> Outputs:
    return {"probabilities": (await servable.classify(list(given), "image_bytes", deadline)).probabilities}


async def _predict_images(servable: Servable, given: npt.NDArray[Any], deadline: float | None) -> Outputs:
    return {"probabilities": (await servable.classify_images(given, deadline)).probabilities}


async def _predict_tensors(servable: Servable, given: npt.NDArray[Any], deadline: float | None) -> Outputs:
    scores = await servable.classify_tensors(given, deadline)
    return {"probabilities": scores.probabilities, "logits": scores.logits}


async def _preprocess(servable: Servable, given: npt.NDArray[Any], deadline: float | None) -> Outputs:  # noqa: ARG001
    return {"inputs": await servable.preprocess(list(given), "image_bytes")}


async def _classify(servable: Servable, given: npt.NDArray[Any], deadline: float | None) -> Outputs:
    scores = await servable.classify(read_examples(given), "examples", deadline)
    labels = np.array([label.encode() for label in servable.metadata.labels], dtype=object)
    return {"scores": scores.probabilities, "classes": np.tile(labels, (len(given), 1))}


ANSWERS: Mapping[str, Callable[[Servable, npt.NDArray[Any], float | None], Awaitable[Outputs]]] = {
    "serving_default": _serving_default,
    "predict_images": _predict_images,
    "predict_tensors": _predict_tensors,
    "preprocess": _preprocess,
    "classify": _classify,
}
"""What each signature of serving.signatures.SIGNATURES does, in terms of a servable."""
