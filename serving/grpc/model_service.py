"""tensorflow.serving.ModelService: the states of versions, and another set of models at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.config.models import ModelSettings, VersionPolicy, check_names, parse_labels
from serving.errors import InvalidArgument
from serving.grpc.model_spec import asked
from serving.grpc.model_status import version_statuses
from serving.models.registry import ModelRegistry
from serving.security.sanitize import check_model_name, printable
from voc_cls.errors import VocError

PLATFORM = "tensorflow"
"""The model_platform of a SavedModel."""


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    async def GetModelStatus(self, request: get_model_status_pb2.GetModelStatusRequest,
                             context: Any) -> get_model_status_pb2.GetModelStatusResponse:  # noqa: ARG002
        """The states of all versions of a model, or of the one that model_spec has the number or label of."""
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[
            {"version": status.number, "state": status.state.value,
             "status": {"error_code": status.error_code, "error_message": status.error_message}}
            for status in version_statuses(self._models, *asked(request.model_spec))])

    async def HandleReloadConfigRequest(self, request: model_management_pb2.ReloadConfigRequest,
                                        context: Any) -> model_management_pb2.ReloadConfigResponse:  # noqa: ARG002
        """Serves the models of model_config_list instead of those that are served.

        As with TensorFlow Serving, what cannot be done is the status of the call; the `status` of an answer is OK.
        """
        await self._models.reload(read_models(request))
        return model_management_pb2.ReloadConfigResponse(status={"error_code": "OK"})


def read_models(request: model_management_pb2.ReloadConfigRequest) -> tuple[ModelSettings, ...]:
    """The models that a reload asks for. Raises InvalidArgument naming the entry and the field."""
    if request.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument("config must be a model_config_list, the only kind that this server knows")
    if request.metric_names:
        raise InvalidArgument("metric_names are not answered: read /metrics on the HTTP port, and leave them out")
    where = "config.model_config_list"
    try:
        models = tuple(_model(entry, f"{where}.config[{index}]")
                       for index, entry in enumerate(request.config.model_config_list.config))
        check_names(models, where)
    except VocError as error:  # the same sentence as for a flag or a file
        raise InvalidArgument(str(error)) from None
    return models


def _model(entry: model_server_config_pb2.ModelConfig, where: str) -> ModelSettings:
    if not entry.base_path:
        raise InvalidArgument(f"{where}.base_path is empty: send the folder of the model's versions")
    if "\0" in entry.base_path:
        raise InvalidArgument(f"{where}.base_path '{printable(entry.base_path)}' can be no folder's: it has a zero "
                              f"byte")
    if entry.model_platform not in ("", PLATFORM) or entry.model_type == model_server_config_pb2.OTHER:
        found = f"'{printable(entry.model_platform)}'" if entry.model_platform else "model_type OTHER"
        raise InvalidArgument(f"{where}.model_platform must be '{PLATFORM}', found {found}")
    if entry.HasField("logging_config"):
        raise InvalidArgument(f"{where}.logging_config is not served: leave it out")
    policy = _policy(entry.model_version_policy, f"{where}.model_version_policy")
    labels = parse_labels([f"{label}={version}" for label, version in sorted(entry.version_labels.items())], policy,
                          f"{where}.version_labels")
    check_model_name(entry.name, f"{where}.name")
    return ModelSettings(entry.name, Path(entry.base_path), policy, labels)


def _policy(policy: Any, where: str) -> VersionPolicy:
    """Without one the highest version is served, as latest with num_versions 0 or 1."""
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
