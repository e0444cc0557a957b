"""tensorflow.serving.PredictionService: an ordinary TensorFlow Serving client works unchanged."""

from __future__ import annotations

import asyncio
from typing import Any

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

from serving.errors import InvalidArgument, Unimplemented
from serving.grpc.model_spec import asked, tell
from serving.grpc.tensor_proto import read_example_input, read_input, write_tensor
from serving.inference import (
    CLASSIFY_SIGNATURE,
    check_classification,
    classify_examples,
    predict,
    refuse_regression,
    signature_name,
)
from serving.models.registry import ModelRegistry
from serving.models.servable import Servable
from serving.request_context import current_request
from serving.security.sanitize import printable

SIGNATURE_DEF = "signature_def"
"""The only metadata field that TensorFlow Serving knows."""
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Predict, Classify, MultiInference and GetModelMetadata; Regress is refused, as nothing here is a regression."""

    def __init__(self, models: ModelRegistry, max_message_bytes: int) -> None:
        self._models = models
        self._max_message_bytes = max_message_bytes

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:  # noqa: ARG002
        """Tensors in, tensors out, by the name of a signature."""
        call, loop = current_request(), asyncio.get_running_loop()
        with self._models.use(*asked(request.model_spec)) as servable:
            name = signature_name(servable, request.model_spec.signature_name)
            given = await loop.run_in_executor(servable.decoders, read_input, name, request.inputs,
                                               servable.metadata.size, self._max_message_bytes)
            outputs = await predict(servable, name, given, request.output_filter, call)
            tensors = await loop.run_in_executor(
                servable.decoders, lambda: {output: write_tensor(array) for output, array in outputs.items()})
            response = predict_pb2.PredictResponse(outputs=tensors)
            tell(response.model_spec, servable, name)
            return response

    async def Classify(self, request: classification_pb2.ClassificationRequest,
                       context: Any) -> classification_pb2.ClassificationResponse:  # noqa: ARG002
        """tf.Examples in, every label with its score out, in the order of the model's labels."""
        call = current_request()
        with self._models.use(*asked(request.model_spec)) as servable:
            check_classification(servable, request.model_spec.signature_name)
            pictures = await _pictures(servable, request.input)
            scores = await classify_examples(servable, pictures, call)
            response = classification_pb2.ClassificationResponse(result=_result(servable, scores))
            tell(response.model_spec, servable, CLASSIFY_SIGNATURE)
            return response

    async def Regress(self, request: regression_pb2.RegressionRequest, context: Any) -> None:  # noqa: ARG002
        """Always refused."""
        with self._models.use(*asked(request.model_spec)):
            refuse_regression()

    async def MultiInference(self, request: inference_pb2.MultiInferenceRequest,
                             context: Any) -> inference_pb2.MultiInferenceResponse:  # noqa: ARG002
        """Several questions on the same tf.Examples; of this kind of model there is one: classify."""
        _check_tasks(request.tasks)
        call, response = current_request(), inference_pb2.MultiInferenceResponse()
        with self._models.use(*asked(request.tasks[0].model_spec)) as servable:
            _check_signatures(servable, request.tasks)
            pictures = await _pictures(servable, request.input)
            scores = await classify_examples(servable, pictures, call)
            result = response.results.add(classification_result=_result(servable, scores))
            tell(result.model_spec, servable, CLASSIFY_SIGNATURE)
            return response

    async def GetModelMetadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest,
                               context: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:  # noqa: ARG002
        """The signatures of a model."""
        with self._models.use(*asked(request.model_spec)) as servable:
            if not request.metadata_field:
                raise InvalidArgument(f"metadata_field is empty; this server knows '{SIGNATURE_DEF}'")
            if unknown := sorted(set(request.metadata_field) - {SIGNATURE_DEF}):
                raise InvalidArgument(f"metadata_field {', '.join(map(printable, unknown[:5]))} is unknown; this "
                                      f"server "
                                  f"knows '{SIGNATURE_DEF}'")
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            tell(response.model_spec, servable)
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
            response.metadata[SIGNATURE_DEF].Pack(signatures)
            return response


async def _pictures(servable: Servable, given: Any) -> list[bytes]:
    """The pictures of a call's tf.Examples, copied out on a thread: they may be many megabytes."""
    return await asyncio.get_running_loop().run_in_executor(servable.decoders, read_example_input, given)


def _result(servable: Servable, scores: npt.NDArray[np.float32]) -> classification_pb2.ClassificationResult:
    return classification_pb2.ClassificationResult(classifications=[
        {"classes": [{"label": label, "score": score}
                     for label, score in zip(servable.metadata.labels, row, strict=True)]}
        for row in scores.tolist()])


def _check_tasks(tasks: Any) -> None:
    """What TensorFlow Serving demands of tasks: some, all of one model, each a classification."""
    if not tasks:
        raise InvalidArgument(f"tasks is empty: send one with the method_name '{CLASSIFY_METHOD}'")
    first = tasks[0].model_spec
    for index, task in enumerate(tasks):
        if task.method_name == REGRESS_METHOD:
            refuse_regression()
        if task.method_name != CLASSIFY_METHOD:
            raise Unimplemented(f"tasks[{index}].method_name is '{printable(task.method_name)}': this server knows "
                              f"'{CLASSIFY_METHOD}'")
        if asked(task.model_spec) != asked(first):
            raise InvalidArgument(f"tasks[{index}] asks for another model or version than tasks[0]: all tasks of a "
                                  f"call "
                              "must be for the same")


def _check_signatures(servable: Servable, tasks: Any) -> None:
    for index, task in enumerate(tasks):
        check_classification(servable, task.model_spec.signature_name)
        if index:
            raise InvalidArgument(f"tasks[{index}] asks for the signature '{CLASSIFY_SIGNATURE}' again: once is enough")
