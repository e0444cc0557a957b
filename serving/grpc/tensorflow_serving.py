"""tensorflow.serving.PredictionService and ModelService: TensorFlow Serving's clients work unchanged."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.config.models import ModelSettings, VersionPolicy, check_labels, check_names
from serving.errors import InvalidArgument, Unimplemented
from serving.grpc.tensor_proto import read_example_input, read_input, write_tensor
from serving.inference import check_classification, classify_examples, predict, refuse_regression
from serving.models.registry import ModelRegistry
from serving.models.servable import Servable
from serving.models.signatures import CLASSIFY_SIGNATURE, signature_name
from serving.security.sanitize import check_model_name, printable
from voc_cls.errors import VocError

log = logging.getLogger(__name__)

SIGNATURE_DEF = "signature_def"
"""The only metadata field that TensorFlow Serving knows."""
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
PLATFORM = "tensorflow"
"""The model_platform of a SavedModel."""


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Predict, Classify, MultiInference and GetModelMetadata; Regress is refused, as nothing here is a regression."""

    def __init__(self, models: ModelRegistry, max_message_bytes: int) -> None:
        self._models = models
        self._max_message_bytes = max_message_bytes

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:  # noqa: ARG002
        """Tensors in, tensors out, by the name of a signature."""
        with self._models.use(*_requested_version(request.model_spec)) as servable:
            name = signature_name(servable.name, request.model_spec.signature_name)
            array = await servable.on_thread(read_input, name, request.inputs, servable.metadata.size,
                                             self._max_message_bytes)
            outputs = await predict(servable, name, array, request.output_filter, next(iter(request.inputs)))
            tensors = await servable.on_thread(
                lambda: {output: write_tensor(array) for output, array in outputs.items()})
            response = predict_pb2.PredictResponse(outputs=tensors)
            _fill_model_spec(response.model_spec, servable, name)
            return response

    async def Classify(self, request: classification_pb2.ClassificationRequest,
                       context: Any) -> classification_pb2.ClassificationResponse:  # noqa: ARG002
        """tf.Examples in, every label with its score out, in the order of the model's labels."""
        with self._models.use(*_requested_version(request.model_spec)) as servable:
            check_classification(servable.name, request.model_spec.signature_name)
            response = classification_pb2.ClassificationResponse(result=await _classify(servable, request.input))
            _fill_model_spec(response.model_spec, servable, CLASSIFY_SIGNATURE)
            return response

    async def Regress(self, request: regression_pb2.RegressionRequest, context: Any) -> None:  # noqa: ARG002
        with self._models.use(*_requested_version(request.model_spec)):
            refuse_regression()

    async def MultiInference(self, request: inference_pb2.MultiInferenceRequest,
                             context: Any) -> inference_pb2.MultiInferenceResponse:  # noqa: ARG002
        """Several tasks on the same tf.Examples; these models have one: classify."""
        _check_tasks(request.tasks)
        response = inference_pb2.MultiInferenceResponse()
        with self._models.use(*_requested_version(request.tasks[0].model_spec)) as servable:
            _check_signatures(servable, request.tasks)
            result = response.results.add(classification_result=await _classify(servable, request.input))
            _fill_model_spec(result.model_spec, servable, CLASSIFY_SIGNATURE)
            return response

    async def GetModelMetadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest,
                               context: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:  # noqa: ARG002
        with self._models.use(*_requested_version(request.model_spec)) as servable:
            if not request.metadata_field:
                raise InvalidArgument(f"metadata_field is empty; this server knows '{SIGNATURE_DEF}'")
            if unknown := sorted(set(request.metadata_field) - {SIGNATURE_DEF}):
                raise InvalidArgument(f"metadata_field {', '.join(map(printable, unknown[:5]))} is unknown; this "
                                      f"server knows '{SIGNATURE_DEF}'")
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _fill_model_spec(response.model_spec, servable)
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
            response.metadata[SIGNATURE_DEF].Pack(signatures)
            return response


async def _classify(servable: Servable, example_input: Any) -> classification_pb2.ClassificationResult:
    """Every label with its score, for each tf.Example; these are copied on a thread, as they may be many megabytes."""
    scores = await classify_examples(servable, await servable.on_thread(read_example_input, example_input))
    return classification_pb2.ClassificationResult(classifications=[
        {"classes": [{"label": label, "score": score}
                     for label, score in zip(servable.metadata.labels, row, strict=True)]}
        for row in scores.tolist()])


def _check_tasks(tasks: Any) -> None:
    """As in TensorFlow Serving: there must be tasks, all of one model, each a classification."""
    if not tasks:
        raise InvalidArgument(f"tasks is empty: send one with the method_name '{CLASSIFY_METHOD}'")
    first = tasks[0].model_spec
    for index, task in enumerate(tasks):
        if task.method_name == REGRESS_METHOD:
            refuse_regression()
        if task.method_name != CLASSIFY_METHOD:
            raise Unimplemented(f"tasks[{index}].method_name is '{printable(task.method_name)}': this server knows "
                                f"'{CLASSIFY_METHOD}'")
        if _requested_version(task.model_spec) != _requested_version(first):
            raise InvalidArgument(f"tasks[{index}] has another model or version than tasks[0]: all tasks of a "
                                  "call must be for the same")


def _check_signatures(servable: Servable, tasks: Any) -> None:
    for index, task in enumerate(tasks):
        check_classification(servable.name, task.model_spec.signature_name)
        if index:
            raise InvalidArgument(f"tasks[{index}] has the signature '{CLASSIFY_SIGNATURE}' again: once is enough")


def _requested_version(spec: Any) -> tuple[str, int | None, str]:
    """Of a ModelSpec: name ("" for the server's only model), version number if set, version label if set.

    Version 0, which voc-export never writes, is none: so ovmsclient asks for the latest.
    """
    return spec.name, spec.version.value or None, spec.version_label


def _fill_model_spec(spec: Any, servable: Servable, signature: str = "") -> None:
    """Says in a response which version has answered."""
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    async def GetModelStatus(self, request: get_model_status_pb2.GetModelStatusRequest,
                             context: Any) -> get_model_status_pb2.GetModelStatusResponse:  # noqa: ARG002
        """The states of all versions of a model, or of the one that model_spec has the number or label of."""
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[
            {"version": number, "state": version.state.value, "status": version.status}
            for number, version in self._models.versions(*_requested_version(request.model_spec)).items()])

    async def HandleReloadConfigRequest(self, request: model_management_pb2.ReloadConfigRequest,
                                        context: Any) -> model_management_pb2.ReloadConfigResponse:  # noqa: ARG002
        """Serves the models of model_config_list instead of the present ones.

        As with TensorFlow Serving, an error is the status of the call; the `status` of a response is OK.
        """
        try:
            settings = _read_models(request)
        except InvalidArgument as error:
            log.warning("a reload is refused: %s", error)
            raise
        await self._models.reload(settings)
        return model_management_pb2.ReloadConfigResponse(status={"error_code": "OK"})


def _read_models(request: model_management_pb2.ReloadConfigRequest) -> tuple[ModelSettings, ...]:
    """The models of a reload. Raises InvalidArgument naming the entry and the field."""
    if request.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument("config must be a model_config_list, the only kind that this server knows")
    if request.metric_names:
        raise InvalidArgument("metric_names are not answered: read /metrics on the HTTP port, and omit them")
    where = "config.model_config_list"
    try:
        models = tuple(_model_settings(entry, f"{where}.config[{index}]")
                       for index, entry in enumerate(request.config.model_config_list.config))
        check_names(models, where)
    except VocError as error:  # the same sentence as for the configuration
        raise InvalidArgument(str(error)) from None
    return models


def _model_settings(entry: model_server_config_pb2.ModelConfig, where: str) -> ModelSettings:
    if not entry.base_path:
        raise InvalidArgument(f"{where}.base_path is empty: send the folder of the model's versions")
    if "\0" in entry.base_path:
        raise InvalidArgument(f"{where}.base_path '{printable(entry.base_path)}' is not a folder: it has a zero byte")
    if entry.model_platform not in ("", PLATFORM) or entry.model_type == model_server_config_pb2.OTHER:
        platform = f"'{printable(entry.model_platform)}'" if entry.model_platform else "model_type OTHER"
        raise InvalidArgument(f"{where}.model_platform must be '{PLATFORM}', found {platform}")
    if entry.HasField("logging_config"):
        raise InvalidArgument(f"{where}.logging_config is not supported: omit it")
    policy = _version_policy(entry.model_version_policy, f"{where}.model_version_policy")
    # all: whether a label's version is served, the disk decides
    labels = check_labels(dict(sorted(entry.version_labels.items())), VersionPolicy("all"), f"{where}.version_labels")
    check_model_name(entry.name, f"{where}.name")
    return ModelSettings(entry.name, Path(entry.base_path), policy, labels)


def _version_policy(policy: Any, where: str) -> VersionPolicy:
    """Default: the highest version, as latest with num_versions 0 or 1."""
    kind = policy.WhichOneof("policy_choice") or "latest"
    if kind == "latest":
        return VersionPolicy("latest", latest=policy.latest.num_versions or 1)
    if kind == "specific":
        numbers = tuple(sorted(set(policy.specific.versions)))
        if not numbers or numbers[0] < 0:
            raise InvalidArgument(f"{where}.specific.versions must be numbers of versions, found "
                                  f"{list(numbers) or 'none'}")
        return VersionPolicy("specific", numbers=numbers)
    return VersionPolicy("all")
